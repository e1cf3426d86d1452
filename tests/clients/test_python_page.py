"""The page `docs/howto/python-client.md`, run from top to bottom against a server, and a person who uses it all."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from tests.clients.faces import names_of
from tests.servers import Clock, Server, running

from twofold.client import ApiError, Client
from twofold.client.calls import Calls
from twofold.testing import SoftwareAuthenticator

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "python-client.md"
TEXT = PAGE.read_text(encoding="utf-8")
ORIGIN = "https://shop.example.com"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def server(tmp_path: Path, clock: Clock) -> Iterator[Server]:
    with running(tmp_path / "data", test_clock=str(clock.path)) as started:
        yield started


def create_key(server: Server, *more: str) -> list[str]:
    """Run the command of the page; what it says, and the key in the end."""
    (console,) = blocks("console")
    command, *_ = console.splitlines()
    ended = server.command(*command.removeprefix("$ twofold ").split(), *more)
    assert ended.returncode == 0, ended.stderr
    return [*ended.stderr.splitlines(), ended.stdout.strip()]


def test_the_command_says_what_the_page_shows(server: Server) -> None:
    (console,) = blocks("console")
    shown = [re.escape(line).replace("…", ".+") for line in console.splitlines()[1:]]
    said = create_key(server)
    assert len(said) == len(shown)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(shown, said, strict=True))


def test_a_person_turns_it_on_and_signs_in_with_the_program_of_the_page(
    server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWOFOLD_URL", f"http://localhost:{server.port}")
    monkeypatch.setenv("TWOFOLD_KEY", create_key(server, "--origin", ORIGIN)[-1])
    first, *others = blocks("python")
    page: dict[str, Any] = {}
    exec(first, page)  # noqa: S102 - a page of ours

    enrollment, qr_svg, secret = page["turn_on"]("alice")
    assert qr_svg.startswith("<svg")
    phone = pyotp.TOTP(secret)
    assert page["first_code_was_typed"]("alice", enrollment, "12345").startswith("That code does not fit")
    told = page["first_code_was_typed"]("alice", enrollment, phone.at(clock.now_s))
    recovery_codes = told.splitlines()[1:]
    assert len(recovery_codes) == 10

    for other in others:
        exec(other, page)  # noqa: S102 - as above
    assert "not checked: not_found" in capsys.readouterr().out

    cookies: dict[str, str | None] = {}
    assert page["code_was_typed"]("alice", phone.at(clock.now_s), cookies, "203.0.113.7") == "code_already_used"
    clock.advance()
    assert page["code_was_typed"]("alice", phone.at(clock.now_s), cookies, "203.0.113.7") == "in"
    assert cookies["known"]
    for _ in range(3):
        page["code_was_typed"]("alice", "000000", {}, "203.0.113.8")
    assert page["code_was_typed"]("alice", "000000", {}, "203.0.113.8").startswith("Wait ")

    receipt = page["approve"]("alice", recovery_codes[0], "900 EUR to bob")
    assert page["send_money"](receipt, "900 EUR to bob") == "alice"
    with pytest.raises(ApiError, match="receipt_used"):
        page["send_money"](receipt, "900 EUR to bob")

    page["twofold"].put_account("bob")
    passkey = SoftwareAuthenticator()
    registration, options = page["begin_passkey"]("bob")
    page["twofold"].confirm("bob", registration, credential=passkey.register(options, ORIGIN))
    session = {"id": "session-1"}
    shown = passkey.answer(page["ask_for_passkey"](session, "bob"), ORIGIN)
    assert not page["passkey_was_shown"]({**session, "id": "session-2"}, "bob", shown)
    assert page["passkey_was_shown"](session, "bob", shown)
    assert not page["passkey_was_shown"](session, "bob", shown)
    page["twofold"].close()


def test_the_table_has_every_call_with_all_that_it_takes() -> None:
    table = dict(re.findall(r"`(\w+)\(([^)]*)\)`", TEXT[TEXT.index("## All calls") :].partition("\n## ")[0]))
    assert set(table) == names_of(Calls)
    for name, listed in table.items():
        taken = list(inspect.signature(getattr(Client, name)).parameters)[1:]
        told = re.findall(r"\w+", listed.replace(" or ", " "))
        # What has one value only is not worth a word, and `detail` is for factors that are to come.
        left_out = {"factor", "detail"} if name == "challenge" else set()
        assert [
            "id" if parameter == "account_id" else parameter for parameter in taken if parameter not in left_out
        ] == told
