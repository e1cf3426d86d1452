"""YubiKeys that type, on the pages: whatever has a box for a code takes what they type."""

import pytest
from tests.server.conftest import Server
from tests.server.visitors import Person, add_person
from tests.yubikeys import Yubikey

from twofold.engine import Caller


async def bind(server: Server, account_id: str, yubikey: Yubikey, *, label: str = "") -> None:
    accounts = server.deployment.verifier.accounts
    await accounts.import_yubikey(account_id, yubikey.key, label=label, caller=Caller(is_admin=True))


@pytest.mark.parametrize("has_phone", [False, True])
async def test_the_box_for_a_code_takes_what_a_key_types(server: Server, has_phone: bool) -> None:
    yubikey = Yubikey()
    await add_person(server)
    bo = Person(server)
    await bind(server, "bo", yubikey, label="YubiKey 508326")
    if not has_phone:
        view = await server.deployment.verifier.accounts.get("bo")
        (phone,) = (a.id for a in view.authenticators if a.factor == "totp")
        await server.deployment.verifier.revoke("bo", phone, caller=Caller(is_admin=True))
    page = await bo.give_password()
    assert page.path == "/sign-in/code"
    assert ("touch your key" in page.html) == (not has_phone)
    page = await bo.send(code=Yubikey(aes_key=bytes(16)).touch())
    assert (page.path, page.status) == ("/sign-in/code", 401)
    await bo.send(code=yubikey.touch())
    assert await bo.is_signed_in()


async def test_whoever_chose_the_phone_may_touch_the_key_instead(server: Server) -> None:
    yubikey = Yubikey()
    await add_person(server)
    bo = Person(server)
    await bind(server, "bo", yubikey)
    view = await server.deployment.verifier.accounts.get("bo")
    phone, key = (next(a.id for a in view.authenticators if a.factor == f) for f in ("totp", "yubico_otp"))
    page = await bo.give_password()
    assert {f"way={phone}", f"way={key}"} <= {link.partition("?")[2].partition("&")[0] for link in page.links}
    page = await bo.open(f"/sign-in/code?way={phone}")
    await bo.send(code=yubikey.touch())
    assert await bo.is_signed_in()


async def test_pages_call_a_key_by_its_name(server: Server) -> None:
    yubikey = Yubikey()
    await add_person(server)
    bo = Person(server)
    await bind(server, "bo", yubikey)
    await bo.give_password()
    await bo.send(code=yubikey.touch())
    page = await bo.open("/security")
    assert "YubiKey that types" in page.html
    assert "yubico_otp" not in page.html
    assert "YubiKey" in (await bo.open("/security/activity")).html
