"""YubiKeys that type, over the API: what they type goes where any code goes."""

from tests.server.conftest import Server, assert_problem
from tests.yubikeys import Yubikey

from twofold.engine import Caller


async def bind(server: Server, account_id: str, yubikey: Yubikey, *, label: str = "") -> str:
    """The key in the account; the authenticator's id."""
    accounts = server.deployment.verifier.accounts
    return (await accounts.import_yubikey(account_id, yubikey.key, label=label, caller=Caller(is_admin=True))).id


async def test_what_a_key_types_is_verified_once(server: Server) -> None:
    yubikey = Yubikey()
    await server.call("PUT", "accounts/alice", {})
    authenticator_id = await bind(server, "alice", yubikey)
    typed = yubikey.touch()
    first = (await server.post("accounts/alice/verify", {"code": typed})).json()
    assert first.pop("browser")
    assert first == {
        "verified": True, "factor": "yubico_otp", "authenticator_id": authenticator_id, "receipt": None
    }  # fmt: skip
    second = (await server.post("accounts/alice/verify", {"code": typed})).json()
    assert second == {"verified": False, "reason": "code_already_used"}
    named = {"code": yubikey.touch().upper(), "factor": "yubico_otp", "authenticator_id": authenticator_id}
    assert (await server.post("accounts/alice/verify", named)).json()["verified"] is True


async def test_a_key_answers_for_itself_alone_beside_a_phone(server: Server) -> None:
    yubikey = Yubikey()
    await server.add()
    other = {"code": yubikey.type(1, 0), "factor": "yubico_otp"}
    assert_problem(await server.post("accounts/alice/verify", other), 409, "no_factor")
    await bind(server, "alice", yubikey)
    for body in ({"code": yubikey.touch(), "factor": "totp"}, {"code": Yubikey(aes_key=bytes(16)).touch()}):
        refused = (await server.post("accounts/alice/verify", body)).json()
        assert refused == {"verified": False, "reason": "wrong_code"}
    for code in (server.code(), yubikey.touch()):
        assert (await server.post("accounts/alice/verify", {"code": code})).json()["verified"] is True


async def test_accounts_are_listed_by_this_factor_and_show_no_secret(server: Server) -> None:
    await server.add("bob")
    await server.call("PUT", "accounts/alice", {})
    await bind(server, "alice", Yubikey(), label="YubiKey 508326")
    listed = await server.get("accounts?factor=yubico_otp")
    (account,) = listed.json()["accounts"]
    (shown,) = account["authenticators"]
    assert (account["id"], shown["factor"], shown["label"]) == ("alice", "yubico_otp", "YubiKey 508326")
    for secret in (Yubikey.public_id, Yubikey.private_id.hex(), Yubikey.aes_key.hex()):
        assert secret not in listed.text
