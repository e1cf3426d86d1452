"""Signing in over the years, with the clock of the client, after the end, and what is told and recorded of it."""

import ast
import logging
from pathlib import Path

import msgspec
import pytest
from tests.kit import Phone
from tests.ledger import Ledger
from tests.server.conftest import Server
from tests.server.levels import csrf_of, make_visitor
from tests.server.visitors import ADMIN, FIREFOX, Person, add_person

from twofold.core.account import Account
from twofold.core.activity import read_activity
from twofold.core.attempt import Call
from twofold.core.decision import Decision
from twofold.core.enrollment import rename_authenticator, revoke_authenticator
from twofold.errors import Refused

SOURCE = Path(__file__).parents[2] / "src" / "twofold"
JUDGED = {"password.accepted", "code.refused", "code.accepted"}
TWO_YEARS_S = 2 * 365 * 86_400
#: What somebody who guesses could find out byte by byte, by how long the comparison takes.
SECRET_WORDS = {"code", "codes", "digest", "mac", "secret", "seed", "signature", "token"}


async def test_asvs_6_2_10_two_years_later_the_old_password_still_signs_in(server: Server) -> None:
    await add_person(server)
    bo = Person(server)
    await bo.sign_in()
    server.clock.pass_s(TWO_YEARS_S)
    assert not await bo.is_signed_in()
    assert (await bo.sign_in()).status == 200


async def test_trap_08_and_asvs_6_5_8_the_time_that_a_browser_tells_counts_for_nothing(server: Server) -> None:
    await add_person(server)
    bo = Person(server)
    await bo.give_password()
    later = bo.code(steps=10)
    bo.http.headers.update({"date": "Thu, 01 Jan 2026 00:05:00 GMT", "x-timestamp": "1767225900"})
    page = await bo.send(code=later)
    assert (page.path, page.status) == ("/sign-in/code", 401)
    assert (await bo.send(code=bo.fresh_code())).path == "/security"


async def test_asvs_7_4_1_the_cookie_of_a_session_that_was_left_is_nothing(server: Server) -> None:
    await add_person(server)
    bo = Person(server)
    await bo.sign_in()
    token = bo.token
    assert isinstance(await server.deployment.sign_in.find(token, FIREFOX), tuple)
    await bo.sign_out()
    bo.http.cookies.set("twofold-session", token, domain="localhost.local", path="/")
    assert not await bo.is_signed_in()


@pytest.mark.parametrize("level", ["pending", "enrolling", "full"])
async def test_asvs_7_4_5_an_administrator_ends_all_sessions_of_one_person(server: Server, level: str) -> None:
    visitor = await make_visitor(server, level)
    other = await make_visitor(server, level, "somebody-else")
    home = {"pending": "/sign-in/code", "enrolling": "/enroll", "full": "/security"}[level]
    await server.deployment.administration.set_disabled(f"the-{level}", is_disabled=True, caller=ADMIN)
    assert (await visitor.open(home)).status == 401
    assert (await other.open(home)).status == 200


async def test_asvs_7_4_5_an_administrator_signs_somebody_out_who_then_signs_in_again(server: Server) -> None:
    visitor = await make_visitor(server, "full")
    caller = msgspec.structs.replace(ADMIN, by="ada")
    await server.deployment.administration.sign_out("the-full", caller=caller)
    assert (await visitor.open("/security")).status == 401
    assert (await server.deployment.verifier.accounts.get("the-full")).state == "active"
    with pytest.raises(Refused):
        await server.deployment.administration.sign_out("ada", caller=caller)


def test_asvs_6_3_7_and_nist_4_2_3_whoever_owns_an_account_is_told_of_each_change() -> None:
    ledger = Ledger.with_account()
    told: list[str] = []

    def expect(*kinds: str) -> None:
        told.extend(kinds)
        assert ledger.notices == told

    phone = ledger.add("totp")
    expect("authenticator.added")
    tablet = ledger.add("totp", is_admin=True)
    expect("authenticator.added")
    rename(ledger, tablet)
    expect("authenticator.renamed")
    remove(ledger, tablet)
    expect("authenticator.removed")
    ledger.set_password("correct horse battery")
    ledger.set_password("another horse battery")
    expect("password.changed")
    ledger.record("compromised")
    expect("account.compromised")
    ledger.clock.advance(300)
    ledger.verify(ledger.recovery_codes[0])
    expect("recovery_code.used")
    ledger.verify(phone.code(ledger.clock.now()))
    expect()


def rename(ledger: Ledger, phone: Phone) -> None:
    def decide(account: Account | None, call: Call) -> Decision:
        return rename_authenticator(account, phone.id, "Tablet", call)

    ledger.commit(decide)


def remove(ledger: Ledger, phone: Phone) -> None:
    def decide(account: Account | None, call: Call) -> Decision:
        return revoke_authenticator(account, phone.id, call)

    ledger.commit(decide, is_admin=True)


async def test_asvs_16_3_1_each_ending_of_a_sign_in_is_an_event_with_its_factor(server: Server) -> None:
    codes = await add_person(server)
    bo = Person(server)
    await bo.give_password()
    await bo.send(code=bo.wrong_code())
    await bo.send(code=bo.fresh_code())
    await bo.sign_out()
    await bo.give_password()
    await bo.send(code=codes[0])
    happened = [read_activity(row) for row in await server.deployment.verifier.accounts.events("bo")]
    judged = [(e.kind, e.fields.get("factor")) for e in happened if e.kind in JUDGED]
    assert judged == [
        ("password.accepted", "password"),
        ("code.refused", "totp"),
        ("code.accepted", "totp"),
        ("password.accepted", "password"),
        ("code.accepted", "recovery_codes"),
    ]


async def test_asvs_16_3_3_a_forged_form_is_logged_and_one_of_ours_is_not(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "twofold")
    full = await make_visitor(server, "full")
    own = {"csrf": await csrf_of(full)}
    assert (await full.http.post("/security/sessions", data=own)).status_code == 303
    assert "was refused" not in caplog.text
    await full.http.post("/security/sessions", data={"csrf": "forged"}, headers={"origin": "https://evil.example"})
    assert "a form for /security/sessions was refused" in caplog.text


def secret_comparisons(source: str) -> list[str]:
    """Comparisons by `==` of what is named like a secret with anything but a constant."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            sides = (node.left, node.comparators[0])
            names = {getattr(side, "attr", getattr(side, "id", "")) for side in sides}
            words = {word for name in names for word in name.split("_")}
            if words & SECRET_WORDS and not any(isinstance(side, ast.Constant) for side in sides):
                found.append(ast.unparse(node))
    return found


def test_asvs_11_2_4_and_trap_18_secrets_are_compared_in_constant_time() -> None:
    assert secret_comparisons("found.digest == digest") == ["found.digest == digest"]
    assert secret_comparisons("hmac.compare_digest(found.digest, digest)") == []
    # A store compares digests that the server computed with one another; nobody outside chooses them byte by byte.
    for path in set(SOURCE.rglob("*.py")) - set((SOURCE / "stores").glob("*.py")):
        assert secret_comparisons(path.read_text(encoding="utf-8")) == [], path


async def test_asvs_16_3_2_whoever_is_refused_at_the_gate_is_in_the_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "twofold")
    visitor = await make_visitor(server, "full")
    assert (await visitor.open("/security")).status == 200
    assert not caplog.messages
    assert (await visitor.open("/admin")).status == 403
    assert caplog.messages == ["/admin was refused: it is for administrators"]
