"""What a YubiKey types, over the API."""

import pytest
from tests.server.conftest import Server
from tests.yubikeys import Yubikey

from twofold.engine import Caller


@pytest.mark.parametrize("factor", [None, "yubico_otp"])
async def test_the_44_characters_are_verified_once(server: Server, factor: str | None) -> None:
    yubikey, accounts = Yubikey(), server.deployment.verifier.accounts
    await accounts.put("alice")
    added = await accounts.import_yubikey("alice", yubikey.key, caller=Caller(is_admin=True))
    body = {"code": yubikey.touch(), "factor": factor}
    answer = (await server.post("accounts/alice/verify", body)).json()
    assert (answer["verified"], answer["factor"], answer["authenticator_id"]) == (True, "yubico_otp", added.id)
    assert "user_verified" not in answer
    again = (await server.post("accounts/alice/verify", body)).json()
    assert (again["verified"], again["reason"]) == (False, "code_already_used")
    later = {"code": yubikey.touch().upper()}
    assert (await server.post("accounts/alice/verify", later)).json()["verified"] is True
    page = (await server.get("accounts?factor=yubico_otp")).json()
    assert [account["id"] for account in page["accounts"]] == ["alice"]
