"""One call through the second step with Django's test client; a project of its own, for a process has one Django."""

import sys

import pytest

pytest_plugins = ["pytester"]

PROJECT = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="secret",
    ROOT_URLCONF="urls",
    ALLOWED_HOSTS=["localhost"],
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "people.db"}},
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "twofold.integrations.django",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "twofold.integrations.django.SecondFactorMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    TWOFOLD={"issuer": "Acme", "database": "sqlite:///twofold.db"},
)
django.setup()

from django.core.management import call_command

call_command("migrate", verbosity=0)
"""
URLS = """
from django.http import HttpResponse
from django.urls import include, path

from twofold.integrations.django import fresh


@fresh(minutes=5)
def transfer(request):
    return HttpResponse("done")


urlpatterns = [
    path("account", lambda request: HttpResponse("yours")),
    path("transfer", transfer),
    path("2fa/", include("twofold.integrations.django.urls")),
]
"""
TESTS = """
import project
import pytest
from django.contrib.auth.models import User
from django.test import Client


@pytest.fixture
def alice():
    alice = User.objects.create_user("alice")
    yield alice
    alice.delete()


def test_a_code_opens_the_application_and_one_act_takes_it_once_more(twofold_kit, alice):
    client = Client(headers={"host": "localhost"})
    client.force_login(alice)
    assert client.get("/account").status_code == 200
    twofold_kit.enroll(alice.pk)
    assert client.get("/account").status_code == 403
    twofold_kit.pass_second_step(client, alice.pk)
    assert client.get("/account").content == b"yours"
    assert client.post("/transfer").status_code == 403
    twofold_kit.pass_second_step(client, alice.pk, act="/transfer")
    assert (client.post("/transfer").status_code, client.post("/transfer").status_code) == (200, 403)


def test_a_passkey_opens_it_too(twofold_kit, twofold_authenticator, alice):
    client = Client(headers={"host": "localhost"})
    client.force_login(alice)
    twofold_kit.enroll_passkey(alice.pk, twofold_authenticator)
    twofold_kit.pass_second_step(client, alice.pk, authenticator=twofold_authenticator)
    assert client.get("/account").content == b"yours"


def test_under_another_name_it_says_what_to_do(twofold_kit, alice, settings_allow_all):
    client = Client()
    client.force_login(alice)
    twofold_kit.enroll(alice.pk)
    with pytest.raises(AssertionError, match="with Django"):
        twofold_kit.pass_second_step(client, alice.pk)


@pytest.fixture
def settings_allow_all():
    from django.test.utils import override_settings
    with override_settings(ALLOWED_HOSTS=["*"]):
        yield
"""


def test_in_a_project_of_django(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWOFOLD_PUBLIC_URL", raising=False)
    pytester.makeini("[pytest]\naddopts = -p twofold.testing.pytest_plugin\npythonpath = .\n")
    pytester.makepyfile(project=PROJECT, urls=URLS, test_project=TESTS)
    run = pytester.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "-q")
    run.assert_outcomes(passed=3)
    assert not (pytester.path / "twofold.db").exists()
