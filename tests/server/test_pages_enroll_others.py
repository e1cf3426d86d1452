"""What other sessions, other people and forged forms never get to on the way to another authenticator."""

import pytest
from tests.server.conftest import Server
from tests.server.enrolling import (
    GUEST,
    SOMEBODY_ELSE,
    Enrolling,
    enrolled,
    hidden,
    id_of,
    labels,
    new_ada,
    pairs_of,
    refused_posts,
)
from tests.server.visitors import STEP_S


@pytest.fixture
async def ada(server: Server) -> Enrolling:
    return await new_ada(server)


@pytest.fixture
async def bo(ada: Enrolling) -> Enrolling:
    """The same person with an app, recovery codes and a full session."""
    return await enrolled(ada)


async def test_trap_51_what_another_session_began_is_never_shown_nor_confirmed_nor_canceled(
    ada: Enrolling, server: Server
) -> None:
    page = await ada.begin()
    other = Enrolling(server)
    await other.give_password()
    assert (await other.open("/enroll/totp")).path == "/enroll"
    assert page.secret not in other.page.html
    own = await other.begin()
    assert own.secret != page.secret
    foreign = hidden(page, "authenticator")
    for action, expected, fields in (("/enroll/totp", 409, {"code": ada.code()}), ("/enroll/cancel", 200, {})):
        pairs = pairs_of(own, action, without="authenticator", **fields)
        answer = await other.post(action, [*pairs, ("authenticator", foreign)])
        assert answer.status == expected
        assert page.secret not in answer.html
    assert len(await labels(server, "pending")) == 2
    assert len((await ada.send(page, to="/enroll/totp", code=ada.code())).recovery_codes) == 10


async def test_trap_52_an_account_that_was_bound_meanwhile_asks_for_its_second_factor(
    ada: Enrolling, server: Server
) -> None:
    page = await ada.begin()
    other = Enrolling(server)
    await other.give_password()
    await other.enroll()
    told = await ada.send(page, code=ada.code())
    assert told.status == 409
    assert "/enroll" in told.links
    assert await labels(server) == ["Phone"]
    assert (await ada.open("/enroll/totp")).fields == {"code"}
    assert (await ada.open("/enroll")).fields == {"code"}
    server.clock.pass_s(STEP_S)
    await ada.send(code=other.code())
    assert (await ada.begin()).secret != page.secret
    assert (await ada.send(code=ada.code())).path == "/enroll/done"
    assert await labels(server) == ["Phone", "Phone 2"]


async def test_two_tabs_end_in_one_authenticator(ada: Enrolling, server: Server) -> None:
    start = ada.page
    one = await ada.begin()
    two = await ada.send(start, press="factor=totp")
    assert one.secret == two.secret
    code = ada.code()
    assert len((await ada.send(one, code=code)).recovery_codes) == 10
    assert (await ada.send(two, code=code)).path == "/enroll/done"
    assert (await ada.send(two, to="/enroll/cancel")).path == "/security"
    assert await labels(server) == ["Phone"]


async def test_a_new_epoch_ends_the_session_and_what_it_began(ada: Enrolling, server: Server) -> None:
    page = await ada.begin()
    await server.deployment.verifier.accounts.record_event("ada", "compromised")
    told = await ada.send(page, code=ada.code())
    assert told.status == 401
    assert (await ada.open("/enroll/totp")).status == 401
    assert (await ada.open("/enroll/totp")).path == "/sign-in"
    assert await labels(server, "pending") == []


async def test_a_link_of_the_operator_leads_to_enrolling_on_an_account_with_a_second_factor(
    bo: Enrolling, server: Server
) -> None:
    token = await server.deployment.administration.unlock_with_link("ada")
    guest = Enrolling(server)
    await guest.open("/sign-in")
    done = await server.deployment.sign_in.use_link(token, "", GUEST)
    guest.take_session(done.session)
    page = await guest.open("/enroll")
    assert "factor=totp" in page.buttons
    assert "Step 1 of 2" in page.text
    await guest.enroll()
    assert guest.page.path == "/enroll/done"
    assert await labels(server) == ["Phone", "Phone 2"]
    # The link let her in once, to enroll once.
    assert (await guest.open("/enroll")).fields == {"code"}


async def test_nobody_else_reaches_the_steps(bo: Enrolling, server: Server) -> None:
    stranger, pending = Enrolling(server), Enrolling(server)
    await pending.give_password()
    for path in ("/enroll", "/enroll/totp", "/enroll/done"):
        assert (await stranger.open(path)).path == "/sign-in"
        assert (await pending.open(path)).path == "/sign-in/code"


async def test_trap_50_every_form_is_refused_without_its_token_and_from_elsewhere(
    ada: Enrolling, server: Server
) -> None:
    choice = ada.page
    page = await ada.begin()
    other = Enrolling(server)
    await other.give_password()
    for shown, action, fields in (
        (choice, "/enroll", {}),
        (page, "/enroll/totp", {"code": ada.code()}),
        (page, "/enroll/cancel", {}),
    ):
        pairs = pairs_of(shown, action, **fields)
        without = [pair for pair in pairs if pair[0] != "csrf"]
        foreign = [*without, ("csrf", hidden(other.page, "csrf"))]
        for sent in (without, foreign):
            assert (await ada.post(action, sent)).status == 403
        assert set(await refused_posts(ada, action, pairs)) == {403}
    assert await labels(server, "pending") == [""]
    assert len((await ada.send(page, to="/enroll/totp", code=ada.code())).recovery_codes) == 10
    pairs = pairs_of(ada.page, "/enroll/saved", without="csrf", saved=True)
    assert (await ada.post("/enroll/saved", pairs)).status == 403


async def test_trap_82_a_label_is_text_and_nothing_else(bo: Enrolling, server: Server) -> None:
    label = "<b onclick=x>\N{RIGHT-TO-LEFT OVERRIDE}“%(left)s”{{ 7*7 }}"
    await bo.prove_who()
    page = await bo.begin()
    refused = await bo.send(page, to="/enroll/totp", code=bo.code(), label=label)
    assert refused.status == 422  # the override is no printable character
    assert refused.form(fields={"label": ""}).control("label")["value"] == label
    label = label.replace("\N{RIGHT-TO-LEFT OVERRIDE}", "")
    done = await bo.send(code=bo.code(), label=label)
    assert label in done.text
    assert "<b " not in done.html
    replaced = (await server.deployment.verifier.accounts.get("ada")).authenticators[-1].id
    shown = await bo.prove_who(f"/enroll?replaces={replaced}")
    assert label in shown.text
    assert "<b " not in shown.html


async def test_trap_73_no_secret_stands_in_an_address(bo: Enrolling) -> None:
    await bo.prove_who(f"/enroll?replaces={await id_of(bo.server)}")
    page = await bo.begin()
    await bo.send(page, to="/enroll/totp", code=bo.code())
    for url in bo.urls:
        assert page.secret not in url
        assert "code=" not in url
        assert "secret" not in url


async def test_canceling_never_reaches_what_is_active(bo: Enrolling, server: Server) -> None:
    account = await server.deployment.verifier.accounts.get("ada")
    active = next(a.id for a in account.authenticators if a.factor == "totp")
    await bo.prove_who()
    page = await bo.begin()
    pairs = pairs_of(page, "/enroll/cancel", without="authenticator")
    assert (await bo.post("/enroll/cancel", [*pairs, ("authenticator", active)])).path == "/security"
    assert await labels(server) == ["Phone"]
    assert await labels(server, "pending") == [""]


@pytest.mark.parametrize("kind", ["unknown", "password", "recovery_codes", "pending", "another person's"])
async def test_only_ones_own_authenticators_can_be_replaced(bo: Enrolling, server: Server, kind: str) -> None:
    replaces = "au_unknown"
    if kind in ("password", "recovery_codes"):
        replaces = await id_of(server, kind)
    elif kind == "pending":
        replaces = (await server.deployment.verifier.enroll("ada", caller=SOMEBODY_ELSE)).id
    elif kind == "another person's":
        replaces = (await server.deployment.verifier.enroll("eve")).id
    page = await bo.open(f"/enroll?replaces={replaces}")
    assert page.status == 404
    await bo.prove_who()
    pairs = pairs_of(bo.page, "/enroll", without="factor")
    assert (await bo.post("/enroll", [*pairs, ("factor", "totp"), ("replaces", replaces)])).status == 404
