"""The kit as fixtures of pytest, for those who name this module in `pytest_plugins` or behind `-p`.

It holds for the whole run, also for an application that opens Twofold when it is imported; each test finds it empty.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from twofold import BlockingVerifier, ConfigurationError
from twofold.testing import FixedClock, Kit, Outbox, SoftwareAuthenticator, open_kit

if TYPE_CHECKING:
    from twofold.testing.server import Server

_KIT = pytest.StashKey[Kit]()
#: What the thread of a `BlockingVerifier` is called (`twofold.portal`).
PORTAL = "twofold"


def pytest_addoption(parser: pytest.Parser) -> None:
    """For an application that asks for somebody with a second factor while it is imported (`require`)."""
    parser.addini(
        "twofold_enrolled", "accounts that have an authenticator app before the first test, and in each", "args"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Behind `-p`: before any conftest.py imports the application."""
    _take_over(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Named in a conftest.py: before any test module imports it."""
    _take_over(config)


def _take_over(config: pytest.Config) -> None:
    if _KIT in config.stash:
        return
    if any(thread.name == PORTAL for thread in threading.enumerate()):
        raise pytest.UsageError(
            "Twofold was opened before the tests began, over a real database: a conftest.py imports the application."
            " Put `-p twofold.testing.pytest_plugin` into `addopts` of the settings of pytest."
        )
    stack = ExitStack()
    config.add_cleanup(stack.close)
    try:
        config.stash[_KIT] = stack.enter_context(open_kit())
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from None
    _begin(config)


def _begin(config: pytest.Config) -> Kit:
    kit = config.stash[_KIT]
    kit.reset()
    for account_id in config.getini("twofold_enrolled"):
        kit.enroll(account_id)
    kit.outbox.clear()
    return kit


@pytest.fixture(autouse=True)
def twofold_kit(pytestconfig: pytest.Config) -> Kit:
    """Everything below in one, and what people do with it: `enroll`, `current_code`, …"""
    return _begin(pytestconfig)


@pytest.fixture
def twofold_clock(twofold_kit: Kit) -> FixedClock:
    """The time. It stands still until the test moves it."""
    return twofold_kit.clock


@pytest.fixture
def twofold_outbox(twofold_kit: Kit) -> Outbox:
    """What would have been sent."""
    return twofold_kit.outbox


@pytest.fixture
def twofold_verifier(twofold_kit: Kit) -> BlockingVerifier:
    """A verifier over the accounts of the application. With asyncio, `await Verifier.open()` is one too."""
    return twofold_kit.verifier


@pytest.fixture
def twofold_authenticator() -> SoftwareAuthenticator:
    """An authenticator for passkeys, and its browser."""
    return SoftwareAuthenticator()


@pytest.fixture(scope="session")
def twofold_server(pytestconfig: pytest.Config) -> Iterator[Server]:
    """A Twofold server for applications that call one: its `url` and `api_key` are the same for all tests."""
    from twofold.testing.server import serve  # noqa: PLC0415 - most tests need no web server

    with serve(pytestconfig.stash[_KIT]) as server:
        yield server
