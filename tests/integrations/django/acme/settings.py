"""A Django project with people of its own kind: their ids are UUIDs. Its data are in a new folder."""

import tempfile
from pathlib import Path

BASE_DIR = Path(tempfile.mkdtemp())
SECRET_KEY = "a secret of no worth"
DEBUG = True
ROOT_URLCONF = "tests.integrations.django.acme.urls"
AUTH_USER_MODEL = "acme.Person"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/account"
LOGOUT_REDIRECT_URL = "/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(BASE_DIR / "people.db")}}
APPS = ("admin", "auth", "contenttypes", "messages", "sessions")
INSTALLED_APPS = [
    "tests.integrations.django.acme",
    *(f"django.contrib.{name}" for name in APPS),
    "twofold.integrations.django",
]
#: Tables are made from the models as they are.
MIGRATION_MODULES = dict.fromkeys((*APPS, "acme"))
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tests.integrations.django.acme.views.read_token",
    "twofold.integrations.django.SecondFactorMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [str(BASE_DIR / "templates")],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
STATIC_URL = "/static/"
USE_TZ = True
SILENCED_SYSTEM_CHECKS = ["twofold.W003"]  # `read_token` answers nothing by itself
TWOFOLD = {"issuer": "Acme", "person": "tests.integrations.django.acme.views.find_person"}
