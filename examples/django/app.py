"""A Django application with many doors, and a second factor behind each of them: `python app.py`."""

import os
from pathlib import Path

import django
from django.conf import settings

DATA, APPS = os.environ.get("DATA_DIR", "."), ("admin", "auth", "contenttypes", "messages", "sessions", "staticfiles")
settings.configure(
    DEBUG=True, SECRET_KEY=os.urandom(32).hex(), ROOT_URLCONF=__name__, STATIC_URL="static/", BASE_DIR=DATA,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{DATA}/people.db"}},
    INSTALLED_APPS=[*(f"django.contrib.{app}" for app in APPS), "twofold.integrations.django"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware", f"{__name__}.read_token",
        "django.contrib.messages.middleware.MessageMiddleware", "twofold.integrations.django.SecondFactorMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [Path(__file__).parent], "APP_DIRS": True,
        "OPTIONS": {"context_processors": [f"django.contrib.{app}.context_processors.{app}" for app in ("auth", "messages")]}}],
    EMAIL_BACKEND="django.core.mail.backends.console.EmailBackend", SILENCED_SYSTEM_CHECKS=["admin.W411", "twofold.W003"],
    LOGIN_URL="/login/", LOGIN_REDIRECT_URL="/account", TWOFOLD={"issuer": "Django", "person": f"{__name__}.find_person"},
)  # fmt: skip
django.setup()

from django.contrib import admin
from django.contrib.auth import decorators, login, models, views
from django.core.management import call_command
from django.shortcuts import redirect, render
from django.urls import include, path
from django.views.decorators.http import require_POST

from twofold.integrations.django import fresh

People = models.User.objects


def read_token(get_response):  # of the API: whoever has one is its owner
    def middleware(request):
        owner = {"Bearer the-token-of-alice": "alice"}.get(request.headers.get("Authorization"))
        request.user = People.get(username=owner) if owner else request.user
        return get_response(request)

    return middleware


def find_person(request):  # who is really there, also behind "login as"
    return People.filter(pk=request.session.get("impersonator")).first() or request.user


def show(request):
    return render(request, "page.html")


@require_POST
@decorators.user_passes_test(lambda user: user.is_superuser)
def login_as(request, name):
    administrator = request.user.pk
    login(request, People.get(username=name))
    request.session["impersonator"] = administrator
    return redirect("/account")


@decorators.login_required
@fresh(minutes=5)
def transfer(request):
    return render(request, "page.html", {"said": f"{request.POST['amount']} for {request.POST['to']}"})


urlpatterns = [
    path("", show), path("account", decorators.login_required(show)), path("transfer", transfer), path("login-as/<name>", login_as),
    path("reset/<uidb64>/<token>/", views.PasswordResetConfirmView.as_view(post_reset_login=True, success_url="/account"), name="password_reset_confirm"),
    path("login/", views.LoginView.as_view(template_name="admin/login.html")), path("", include("django.contrib.auth.urls")),
    path("admin/", admin.site.urls), path("2fa/", include("twofold.integrations.django.urls")),
]  # fmt: skip
if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    if not People.exists():
        People.create_user("alice", "alice@example.com", "correct horse")
        People.create_superuser("root", "root@example.com", "correct horse")
    call_command("runserver", os.environ.get("PORT", "8000"), use_reloader=False)
