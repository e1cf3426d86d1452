"""What `manage.py check` says about the gate."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.test.utils import override_settings

GATE = "twofold.integrations.django.SecondFactorMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
CACHE = "django.middleware.cache.FetchFromCacheMiddleware"
TOKENS = "tests.integrations.django.acme.views.read_token"
URLS = "tests.integrations.django.test_checks"

urlpatterns: list[object] = []


def found() -> list[str]:
    return [message.id for message in run_checks() if str(message.id).startswith("twofold.")]


def with_gate_at(place: int) -> Sequence[str]:
    names = [name for name in settings.MIDDLEWARE if name not in (GATE, TOKENS)]
    names.insert(place, GATE)
    return names


def test_a_project_in_order_has_nothing_to_say() -> None:
    with override_settings(MIDDLEWARE=with_gate_at(99)):
        assert found() == []


@pytest.mark.parametrize(
    ("fault", "middleware"),
    [
        ("twofold.E001", with_gate_at(99)[:-1]),
        ("twofold.E002", with_gate_at(0)),
        ("twofold.E002", with_gate_at(4)),
        ("twofold.E002", [*with_gate_at(99), "django.contrib.auth.middleware.RemoteUserMiddleware"]),
        ("twofold.W003", [*with_gate_at(99)[:-1], TOKENS, GATE]),
        ("twofold.W003", [*with_gate_at(99)[:-1], CACHE, GATE]),
    ],
)
def test_a_gate_that_is_missing_or_misplaced_is_found(fault: str, middleware: Sequence[str]) -> None:
    with override_settings(MIDDLEWARE=middleware):
        assert found() == [fault]


def test_what_stands_behind_the_gate_is_gated() -> None:
    with override_settings(MIDDLEWARE=[*with_gate_at(99), TOKENS, CACHE]):
        assert found() == []


def test_pages_without_an_address_are_found() -> None:
    with override_settings(MIDDLEWARE=with_gate_at(99), ROOT_URLCONF=URLS):
        assert found() == ["twofold.E004"]


def test_another_view_at_the_address_of_the_pages_is_found() -> None:
    with override_settings(MIDDLEWARE=with_gate_at(99), ROOT_URLCONF="tests.integrations.django.acme.shadowed_urls"):
        assert found() == ["twofold.E005"]


def test_a_project_that_goes_live_has_to_say_where() -> None:
    with override_settings(MIDDLEWARE=with_gate_at(99), DEBUG=False):
        assert found() == ["twofold.W006"]
        with override_settings(TWOFOLD={"public_url": "https://acme.example"}):
            assert found() == []
