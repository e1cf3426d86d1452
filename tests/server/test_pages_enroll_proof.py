"""Before another authenticator is added: who it is, for how long that counts, and "I have a new phone"."""

import pytest
from tests.server.conftest import Server
from tests.server.enrolling import (
    Enrolling,
    enrolled,
    id_of,
    labels,
    new_ada,
)
from tests.server.visitors import FIREFOX, STEP_S

from twofold.core.session import ENROLLMENT_GRANT_TTL_S


@pytest.fixture
async def ada(server: Server) -> Enrolling:
    return await new_ada(server)


@pytest.fixture
async def bo(ada: Enrolling) -> Enrolling:
    """The same person with an app, recovery codes and a full session."""
    return await enrolled(ada)


async def test_trap_49_a_full_session_shows_a_second_factor_first(bo: Enrolling) -> None:
    page = await bo.open("/enroll")
    assert page.fields == {"code"}
    assert "factor=totp" not in page.buttons
    for code in (bo.wrong_code(), ""):
        refused = await bo.send(code=code)
        assert refused.status == 422
        assert "factor=totp" not in refused.buttons
    used = await bo.send(code=bo.code())
    assert "already used" in used.alert
    bo.server.clock.pass_s(STEP_S)
    right = await bo.send(code=bo.code())
    assert (right.path, right.status) == ("/enroll", 200)
    assert "factor=totp" in right.buttons


async def test_a_recovery_code_is_a_proof_too_and_phones_show_letters_for_it(ada: Enrolling) -> None:
    codes = (await ada.enroll()).recovery_codes
    page = await ada.open("/enroll")
    assert page.root.only("input", name="code")["inputmode"] == "numeric"
    letters = next(link for link in page.links if "letters" in link)
    assert (await ada.open(letters)).root.only("input", name="code")["inputmode"] == "text"
    assert "factor=totp" in (await ada.send(code=codes[0].lower())).buttons


async def test_who_went_back_from_the_recovery_codes_is_told_how_to_get_others(bo: Enrolling, server: Server) -> None:
    page = await bo.open("/enroll")
    assert "Not kept your recovery codes?" in page.text
    assert "/security/recovery-codes" in page.links
    server.clock.pass_s(15 * 60)
    assert "Not kept your recovery codes?" not in (await bo.open("/enroll")).text


async def test_a_proof_that_is_sent_again_uses_no_second_code(bo: Enrolling) -> None:
    page = await bo.open("/enroll")
    await bo.send(code=bo.fresh_code())
    for code in (bo.code(), bo.wrong_code()):
        assert "factor=totp" in (await bo.send(page, code=code)).buttons
    assert (await bo.begin()).status == 200


async def test_the_proof_is_throttled_and_says_so(bo: Enrolling) -> None:
    await bo.open("/enroll")
    for _ in range(3):
        await bo.send(code=bo.wrong_code())
    page = await bo.send(code=bo.wrong_code())
    assert page.status == 429
    assert int(page.headers["retry-after"]) >= 1


async def test_trap_47_the_proof_is_good_for_a_quarter_of_an_hour_and_one_authenticator(bo: Enrolling) -> None:
    await bo.prove_who()
    bo.server.clock.pass_s(ENROLLMENT_GRANT_TTL_S - 1)
    assert "factor=totp" in (await bo.open("/enroll")).buttons
    choice = bo.page
    bo.server.clock.pass_s(1)
    # Also for the page that is still shown.
    late = await bo.send(choice, press="factor=totp")
    assert (late.path, late.fields) == ("/enroll", {"code"})
    assert await labels(bo.server, "pending") == []
    await bo.prove_who()
    await bo.enroll()
    assert await labels(bo.server) == ["Phone", "Phone 2"]
    assert (await bo.open("/enroll")).fields == {"code"}
    assert (await bo.send(choice, press="factor=totp")).fields == {"code"}


async def test_trap_41_the_token_is_new_after_the_proof_and_after_the_first_code(ada: Enrolling) -> None:
    tokens = [ada.http.cookies["twofold-session"]]
    await ada.begin()
    assert ada.http.cookies["twofold-session"] == tokens[0]
    await ada.send(code=ada.code())
    tokens.append(ada.http.cookies["twofold-session"])
    await ada.prove_who()
    tokens.append(ada.http.cookies["twofold-session"])
    await ada.begin()
    await ada.send(code=ada.code())
    tokens.append(ada.http.cookies["twofold-session"])
    assert len(set(tokens)) == 4
    for old in tokens[:-1]:
        ada.http.cookies.set("twofold-session", old, domain="localhost.local")
        assert await ada.server.deployment.sign_in.find(old, FIREFOX) is None


async def test_a_wrong_code_after_the_quarter_of_an_hour_asks_who_it_is_and_then_shows_the_same_key(
    bo: Enrolling,
) -> None:
    await bo.prove_who()
    old = bo.secret
    bo.server.clock.pass_s(10 * 60)
    page = await bo.begin()
    key, bo.secret = bo.secret, old
    bo.server.clock.pass_s(6 * 60)
    assert (await bo.open("/enroll/totp")).fields == {"code"}
    asked = await bo.send(page, to="/enroll/totp", code="000000")
    assert asked.fields == {"code"}
    assert "not right" in asked.alert
    await bo.prove_who()
    assert (await bo.begin()).secret == key
    assert (await bo.send(code=bo.code())).path == "/enroll/done"


async def test_a_right_code_after_the_quarter_of_an_hour_is_right(bo: Enrolling) -> None:
    await bo.prove_who()
    bo.server.clock.pass_s(10 * 60)
    await bo.begin()
    bo.server.clock.pass_s(6 * 60)
    assert (await bo.send(code=bo.code())).path == "/enroll/done"


async def test_whoever_has_only_switched_off_authenticators_is_told_and_gets_on_with_a_recovery_code(
    ada: Enrolling, server: Server
) -> None:
    codes = (await ada.enroll()).recovery_codes
    for _ in range(100):
        server.clock.pass_s(2 * 86_400)
        await server.deployment.verifier.verify("ada", code=ada.wrong_code())
    assert await labels(server, "disabled") == ["Phone"]
    await ada.give_password()
    await ada.send(code=codes[0])
    # In by a recovery code, she may enroll for a quarter of an hour: a lost phone does not cost two of them.
    assert "factor=totp" in (await ada.open("/enroll")).buttons
    server.clock.pass_s(15 * 60)
    await ada.open("/enroll")
    refused = await ada.send(code=ada.code())
    assert refused.status == 422
    assert "switched off" in refused.alert
    assert "factor=totp" in (await ada.send(code=codes[1])).buttons
    disabled = (await server.deployment.verifier.accounts.get("ada")).authenticators
    replaced = next(a.id for a in disabled if a.state == "disabled")
    await ada.open(f"/enroll?replaces={replaced}")
    await ada.enroll()
    assert await labels(server) == ["Phone"]
    assert await labels(server, "disabled") == []


async def test_people_9_the_old_phone_stays_valid_until_the_new_one_is_confirmed(bo: Enrolling, server: Server) -> None:
    old = bo.secret
    page = await bo.prove_who(f"/enroll?replaces={await id_of(server)}")
    assert page.query == f"replaces={await id_of(server)}"
    assert "Phone stays valid" in page.text
    page = await bo.begin()
    assert "Phone stays valid" in page.text
    assert page.form(fields={"label": ""}).control("label")["value"] == "Phone"
    before, after = Enrolling(server, secret=old), Enrolling(server, secret=old)
    await before.sign_in()
    await bo.send(page, to="/enroll/totp", code=bo.code(), label="New phone")
    assert bo.page.path == "/enroll/done"
    assert await labels(server) == ["New phone"]
    await after.give_password()
    assert (await after.send(code=after.fresh_code())).path == "/sign-in/code"
