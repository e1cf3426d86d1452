"""`twofold check`: a line for each door, a status for scripts, and one line where it cannot look."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Invoke

FLASK = """
from flask import Flask
from twofold.integrations.flask import SecondFactor, second_factor_exempt
def create():
    app = Flask("shop", static_folder=None)
    app.secret_key = "only for tests"
    SecondFactor(app, person=lambda: None)
    app.get("/account")(lambda: "account")
    app.get("/health", endpoint="health")(second_factor_exempt(lambda: "up"))
    return app
app = create()
"""
BESIDE = """
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from flask import Flask
from shop import app
legacy = Flask("legacy", static_folder=None)
legacy.get("/report")(lambda: "report")
both = DispatcherMiddleware(app, {"/legacy": legacy})
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.routing import Route
from twofold.integrations.starlette import SecondFactor
app = Starlette(routes=[Route("/account", lambda request: None)])
SecondFactor(app, person=lambda request: None)
"""
SETTINGS = """
SECRET_KEY, ROOT_URLCONF, ALLOWED_HOSTS, BASE_DIR = "only for tests", "urls", ["shop.example"], "."
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "people.db"}}
APPS = ("admin", "auth", "contenttypes", "messages", "sessions")
INSTALLED_APPS = [*(f"django.contrib.{app}" for app in APPS), "twofold.integrations.django"]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "twofold.integrations.django.SecondFactorMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {
    "context_processors": ["django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth", "django.contrib.messages.context_processors.messages"]}}]
"""
URLS = """
from django.contrib import admin
from django.http import HttpResponse
from django.urls import include, path, re_path
from twofold.integrations.django import second_factor_exempt
def show(request, **_):
    return HttpResponse("shown")
urlpatterns = [
    path("account", show), path("orders/<int:id>/", show), re_path(r"^notes/(?P<day>[0-9-]+)$", show),
    path("health", second_factor_exempt(lambda request: HttpResponse("up"))),
    path("admin/", admin.site.urls), path("2fa/", include("twofold.integrations.django.urls")),
]
"""
ANSWERS_FIRST = """
from django.http import HttpResponse
from settings import *
class Cache:
    def __init__(self, get_response):
        self.get_response = get_response
    def __call__(self, request):
        return HttpResponse("kept") if request.path == "/account" else self.get_response(request)
MIDDLEWARE = ["cached.Cache", *MIDDLEWARE]
"""
WSGI = """
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
UNGATED = """
from settings import *
MIDDLEWARE = MIDDLEWARE[:-1]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "shop": FLASK, "beside": BESIDE, "star": STARLETTE, "settings": SETTINGS, "urls": URLS, "cached": ANSWERS_FIRST,
        "ungated": UNGATED, "site_wsgi": WSGI, "broken": "import nothing_of_that_name", "plain": "app = 1",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def check(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TWOFOLD_", "DJANGO_"))}
    command = [sys.executable, "-m", "twofold", "check", *arguments]
    return subprocess.run(
        command, cwd=folder, env=own | environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_flask_application_whose_doors_are_gated_passes(folder: Path) -> None:
    told = check(folder, "shop:app")
    assert (told.returncode, told.stderr) == (0, "1 gated, 1 open on purpose\n")
    assert [line.split() for line in told.stdout.splitlines()] == [
        ["gated", "GET", "/account"],
        ["open", "on", "purpose", "GET", "/health"],
    ]
    assert check(folder, "shop:create()").returncode == 0
    assert check(folder, "shop").returncode == 0


def test_a_door_that_is_not_gated_fails_and_json_says_which(folder: Path) -> None:
    told = check(folder, "beside:both", "--json")
    assert told.returncode == 1
    found = {each["route"]: (each["state"], each["detail"]) for each in json.loads(told.stdout)}
    assert found == {
        "/legacy/report": ("not gated", "200 OK"),
        "/account": ("gated", ""),
        "/health": ("open on purpose", ""),
    }


def test_a_starlette_application_is_checked_without_its_database(folder: Path) -> None:
    told = check(folder, "star:app")
    assert (told.returncode, told.stdout.split()) == (0, ["gated", "GET", "/account"])
    assert not (folder / "twofold.db").exists()


@pytest.mark.parametrize("how", ["--django", "environment", "handler"])
def test_a_django_project_is_checked_with_its_admin(folder: Path, how: str) -> None:
    if how == "--django":
        told = check(folder, "--django", "settings", "--json")
    else:
        arguments = ["site_wsgi:application"] if how == "handler" else []
        told = check(folder, *arguments, "--json", DJANGO_SETTINGS_MODULE="settings")
    assert told.returncode == 0, told.stderr
    found = {each["route"]: each["state"] for each in json.loads(told.stdout)}
    assert found["/health"] == "open on purpose"
    assert len(found) > 20
    for route in (
        "/account",
        "/orders/<int:id>/",
        "/notes/<day>",
        "/admin/",
        "/admin/auth/user/<path:object_id>/change/",
    ):
        assert found[route] == "gated", found
    assert not any(route.startswith("/2fa/") for route in found)


def test_django_middleware_that_answers_first_is_found(folder: Path) -> None:
    told = check(folder, "--django", "cached", "--json")
    assert told.returncode == 1
    assert [each["route"] for each in json.loads(told.stdout) if each["state"] == "not gated"] == ["/account"]


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ([], 2, "say which application"),
        (["nowhere:app"], 1, "nowhere:app cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        (
            ["broken:app"],
            1,
            "broken:app cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name'",
        ),
        (["plain:lost"], 1, "plain:lost cannot be imported: AttributeError: module 'plain' has no attribute 'lost'"),
        (["plain:app"], 1, "plain:app is no application"),
        (["plain:app", "--url", "nonsense"], 2, "expected an origin such as https://shop.example"),
    ],
)
def test_what_cannot_be_checked_is_said_in_one_line(
    folder: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, *, arguments: list[str], status: int, sentence: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "plain", raising=False)
    told = invoke("check", *arguments)
    assert (told.exit_code, told.stdout) == (status, "")
    assert told.stderr.startswith("twofold: ")
    assert told.stderr.count("\n") == 1
    assert sentence in told.stderr


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("nowhere", "nowhere cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("ungated", "there is no gate before this application"),
    ],
)
def test_a_project_that_cannot_be_checked_is_said_in_one_line(folder: Path, settings: str, sentence: str) -> None:
    told = check(folder, "--django", settings)
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    assert sentence in told.stderr
