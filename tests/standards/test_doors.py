"""Every door, tried with the first factor alone, and every sensitive act, tried with a second factor of before."""

import base64
from collections.abc import Mapping

import pytest
from tests.server.administrators import add_administrator, add_somebody
from tests.server.conftest import Server, assert_problem
from tests.server.levels import ROWS, csrf_of
from tests.server.visitors import ADMIN, PASSWORD, Person, add_app, add_person

TABLET = base64.b32encode(b"a tablet of somebody").decode()


async def is_signed_in_anywhere(server: Server) -> bool:
    """Whether a session of bo is a full one."""
    return any(session.level == "full" for session in await server.deployment.store.list_sessions("bo"))


class TestTheFirstFactorAlone:
    async def test_trap_44_no_page_makes_a_session_full_without_the_second_factor(self, server: Server) -> None:
        await add_person(server)
        bo = Person(server)
        fields = {"name": "bo", "password": PASSWORD, "new_password": PASSWORD, "saved": "1", "factor": "totp"}
        await bo.give_password()
        for row in ROWS:
            if row.method == "POST":
                await bo.http.post(row.example, data={**fields, "csrf": await csrf_of(bo)})
                assert not await is_signed_in_anywhere(server), row
        await bo.give_password()
        await bo.send(code=bo.fresh_code())
        assert await is_signed_in_anywhere(server)

    async def test_trap_44_a_link_leads_to_enrolling_and_not_past_it(self, server: Server) -> None:
        await add_person(server)
        token = await server.deployment.administration.unlock_with_link("bo", caller=ADMIN)
        bo = Person(server)
        await bo.open(f"/link?token={token}")
        assert (await bo.send(to="/link")).path == "/enroll"
        for path in ("/security", "/security/recovery-codes", "/enroll/done"):
            assert (await bo.open(path)).path == "/enroll"
        assert not await is_signed_in_anywhere(server)
        page = await bo.send(press="factor=totp")
        await bo.send(code=server.code(page.secret))
        assert await is_signed_in_anywhere(server)

    async def test_trap_44_over_the_api_a_password_is_no_code_and_earns_no_receipt(self, server: Server) -> None:
        await add_person(server)
        answer = await server.post("accounts/bo/verify", {"code": PASSWORD, "purpose": "manage"})
        assert answer.json() == {"verified": False, "reason": "wrong_code"}
        named = {"code": PASSWORD, "factor": "password", "purpose": "manage"}
        assert_problem(await server.post("accounts/bo/verify", named), 422, "invalid")
        answer = await server.post("accounts/bo/verify", {"code": server.code(), "purpose": "manage"})
        assert answer.json()["receipt"]


@pytest.fixture
async def ada(server: Server) -> Person:
    """An administrator with two apps, in a browser that is known because she was here before."""
    await add_somebody(server)
    ada = await add_administrator(server)
    await add_app(server, "ada", TABLET, "Tablet")
    await ada.sign_out()
    await ada.sign_in()
    return ada


async def done_by(server: Server) -> list[str]:
    """What happened to ada, bo, cy and the deployment itself, but for codes that were judged."""
    accounts = server.deployment.verifier.accounts
    events = [event for name in ("ada", "bo", "cy", "") for event in await accounts.events(name)]
    return [event.kind for event in events if not event.kind.startswith("code.")]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/security/authenticators/{id}/remove", {}),
        ("/security/recovery-codes", {}),
        ("/security/password", {"password": PASSWORD, "new_password": "amber lighthouse 2031"}),
        ("/admin/invite", {"name": "cy"}),
        ("/admin/people/bo/reset", {"reason": "lost"}),
        ("/admin/people/bo/disable", {}),
        ("/admin/networks", {"network": "198.51.100.7"}),
    ],
)
async def test_trap_46_neither_a_known_browser_nor_the_code_of_the_sign_in_is_a_step_up(
    server: Server, ada: Person, path: str, fields: Mapping[str, str]
) -> None:
    view = await server.deployment.verifier.accounts.get("ada")
    path = path.format(id=next(a.id for a in view.authenticators if a.label == "Tablet"))
    before = await done_by(server)
    assert "twofold-known" in ada.cookies
    for code in ("", ada.code()):
        await ada.open(path)
        page = await ada.send(to=path, code=code, **fields)
        assert (page.status, page.path) == (422, path)
        assert await done_by(server) == before
    assert "already used" in page.alert
    await ada.open(path)
    assert (await ada.send(to=path, code=ada.fresh_code(), **fields)).status == 200
    assert len(await done_by(server)) > len(before)
