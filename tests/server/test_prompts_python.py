"""A hosted prompt from the side of an application in Python: `twofold.client` asks, and takes the answer."""

from collections.abc import AsyncIterator

import httpx
import pytest
from tests.server.askers import BACK, Answerer, Asker
from tests.server.conftest import URL, Server

from twofold.client import ApiError, AsyncClient

SESSION = "session-17"


@pytest.fixture
async def twofold(server: Server) -> AsyncIterator[AsyncClient]:
    """The client of an application to which people come back."""
    await server.add()
    shop = await Asker.open(server)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server.app)) as http:
        yield AsyncClient(URL, shop.key, http=http)


async def test_a_person_is_sent_there_and_comes_back_verified(server: Server, twofold: AsyncClient) -> None:
    prompt = await twofold.open_prompt("alice", return_to=BACK, binding=SESSION, state="s1", purpose="sign-in")
    assert prompt.url.startswith(f"{URL}/prompt/")
    assert prompt.code_verifier not in prompt.url
    code = await Answerer(server).answer(prompt.url)
    ok = await twofold.redeem_prompt(code, code_verifier=prompt.code_verifier, binding=SESSION)
    assert (ok.account_id, ok.factor, ok.is_enrolled) == ("alice", "totp", False)
    assert ok.receipt is not None
    redeemed = await twofold.redeem(ok.receipt, purpose="sign-in", binding=SESSION)
    assert redeemed.account_id == "alice"
    with pytest.raises(ApiError, match="prompt_used"):
        await twofold.redeem_prompt(code, code_verifier=prompt.code_verifier, binding=SESSION)


async def test_a_code_that_comes_back_in_another_session_is_void(server: Server, twofold: AsyncClient) -> None:
    prompt = await twofold.open_prompt("alice", return_to=BACK, binding=SESSION)
    other = await twofold.open_prompt("alice", return_to=BACK, binding=SESSION)
    assert other.code_verifier != prompt.code_verifier
    code = await Answerer(server).answer(prompt.url)
    with pytest.raises(ApiError, match="prompt_mismatch"):
        await twofold.redeem_prompt(code, code_verifier=other.code_verifier, binding=SESSION)


async def test_who_has_no_second_factor_sets_one_up_there(server: Server, twofold: AsyncClient) -> None:
    await twofold.put_account("bob")
    with pytest.raises(ApiError, match="no_factor"):
        await twofold.open_prompt("bob", return_to=BACK, binding=SESSION)
    prompt = await twofold.open_prompt("bob", return_to=BACK, binding=SESSION, enroll=True)
    code = await Answerer(server).enroll(prompt.url)
    ok = await twofold.redeem_prompt(code, code_verifier=prompt.code_verifier, binding=SESSION)
    assert (ok.account_id, ok.is_enrolled) == ("bob", True)
