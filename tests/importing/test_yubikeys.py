from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.deployments import open_for_test, open_in_memory
from tests.yubikeys import Yubikey

from twofold.bootstrap import Deployment
from twofold.commands.keys import count_seeds
from twofold.core.account import AUTHENTICATORS_MAX
from twofold.core.decision import Rejected, Verified
from twofold.databases import Store
from twofold.engine import Caller
from twofold.errors import Refused, Unavailable
from twofold.importing.yubikeys import CLAIM, Yubikeys

ADMIN = Caller(is_admin=True)
KEY = Yubikey().key


@pytest.fixture(params=["memory", "sqlite"])
async def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deployment]:
    opened = await (open_in_memory() if request.param == "memory" else open_for_test(tmp_path))
    for account_id in ("alice", "bob"):
        await opened.verifier.accounts.put(account_id)
    yield opened
    await opened.close()


def yubikeys(deployment: Deployment, store: Store | None = None) -> Yubikeys:
    return Yubikeys(deployment.verifier, store or deployment.store, deployment.keyring, deployment.clock)


async def refusal(deployment: Deployment, account_id: str, caller: Caller = ADMIN) -> str:
    """Why it is refused, as much in a rehearsal as in earnest."""
    with pytest.raises(Refused) as rehearsed:
        await yubikeys(deployment).rehearse(account_id, KEY, caller=caller)
    with pytest.raises(Refused) as refused:
        await yubikeys(deployment).add(account_id, KEY, caller=caller)
    assert refused.value.detail == rehearsed.value.detail
    return refused.value.code


def digest(deployment: Deployment) -> bytes:
    return deployment.keyring.index_digest(CLAIM.encode(), KEY.public_id.encode())


async def test_an_imported_key_is_active_at_once_and_brings_no_recovery_codes(deployment: Deployment) -> None:
    yubikey = Yubikey()
    confirmed = await yubikeys(deployment).add("alice", yubikey.key, label="YubiKey 508326", caller=ADMIN)
    assert (confirmed.factor, confirmed.recovery_codes) == ("yubico_otp", ())
    view = await deployment.verifier.accounts.get("alice")
    assert (view.state, view.recovery_codes_left) == ("active", 0)
    (shown,) = view.authenticators
    assert (shown.id, shown.factor, shown.label, shown.state) == (
        confirmed.id,
        "yubico_otp",
        "YubiKey 508326",
        "active",
    )
    assert isinstance(await deployment.verifier.verify("alice", code=yubikey.touch()), Verified)
    events = await deployment.verifier.accounts.events("alice")
    assert [event.kind for event in events] == ["account.added", "authenticator.imported", "code.accepted"]
    for secret in (yubikey.aes_key, yubikey.private_id, yubikey.aes_key.hex().encode()):
        assert not any(secret in (event.payload or b"") for event in events)


async def test_a_key_is_in_one_account_and_there_once(deployment: Deployment) -> None:
    await yubikeys(deployment).add("alice", KEY, caller=ADMIN)
    assert await refusal(deployment, "bob") == "conflict"
    assert await refusal(deployment, "alice") == "conflict"
    assert not (await deployment.verifier.accounts.get("bob")).authenticators
    assert len((await deployment.verifier.accounts.get("alice")).authenticators) == 1


async def test_a_key_that_was_removed_may_go_to_somebody_else_and_one_of_a_deleted_account_too(
    deployment: Deployment,
) -> None:
    yubikey = Yubikey()
    for account_id in ("alice", "bob"):
        await yubikeys(deployment).rehearse(account_id, yubikey.key, caller=ADMIN)
        added = await yubikeys(deployment).add(account_id, yubikey.key, caller=ADMIN)
        await deployment.verifier.revoke(account_id, added.id, caller=ADMIN)
    await yubikeys(deployment).add("bob", yubikey.key, caller=ADMIN)
    await deployment.verifier.accounts.delete("bob", caller=ADMIN)
    await yubikeys(deployment).add("alice", yubikey.key, caller=ADMIN)
    assert isinstance(await deployment.verifier.verify("alice", code=yubikey.touch()), Verified)


async def test_what_is_refused_claims_nothing(deployment: Deployment) -> None:
    assert await refusal(deployment, "nobody") == "not_found"
    assert await refusal(deployment, "alice", Caller()) == "forbidden"
    await deployment.verifier.accounts.record_event("bob", "disabled", caller=ADMIN)
    assert await refusal(deployment, "bob") == "disabled"
    for number in range(AUTHENTICATORS_MAX):
        await deployment.verifier.accounts.import_yubikey(
            "alice", Yubikey(f"cccccccccc{'cbdefghijklnrtuv'[number // 16]}{'cbdefghijklnrtuv'[number % 16]}").key,
            caller=ADMIN,
        )  # fmt: skip
    assert await refusal(deployment, "alice") == "too_many"
    assert await deployment.store.find_claim(CLAIM, digest(deployment)) is None


async def test_a_rehearsal_writes_nothing(deployment: Deployment) -> None:
    before = await deployment.store.load("alice"), await deployment.verifier.accounts.events("alice")
    await yubikeys(deployment).rehearse("alice", KEY, caller=ADMIN)
    assert (await deployment.store.load("alice"), await deployment.verifier.accounts.events("alice")) == before
    assert await deployment.store.find_claim(CLAIM, digest(deployment)) is None


async def test_of_two_imports_that_cross_one_stays(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    yubikey = Yubikey()
    import_yubikey = deployment.verifier.accounts.import_yubikey
    crossed = []

    async def cross(account_id: str, *arguments: object, **options: object) -> object:
        # Bob's import begins and ends after Alice's claim, and before Alice's commit.
        if account_id == "alice" and not options.get("is_rehearsal") and not crossed:
            crossed.append(await yubikeys(deployment).add("bob", yubikey.key, caller=ADMIN))
        return await import_yubikey(account_id, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(deployment.verifier.accounts, "import_yubikey", cross)
    with pytest.raises(Refused) as refused:
        await yubikeys(deployment).add("alice", yubikey.key, caller=ADMIN)
    assert refused.value.code == "conflict"
    assert crossed
    assert not (await deployment.verifier.accounts.get("alice")).authenticators
    typed = yubikey.touch()
    assert isinstance(await deployment.verifier.verify("bob", code=typed), Verified)
    assert isinstance(await deployment.verifier.verify("bob", code=typed), Rejected)


async def test_the_secrets_of_a_key_count_as_a_seed_and_are_named_where_they_cannot_be_opened(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await yubikeys(deployment).add("alice", KEY, caller=ADMIN)
    assert await count_seeds(deployment) == {deployment.keyring.active_key_id: 1}
    assert [found async for found in deployment.inspection.unopenable()] == []

    def refuse(sealed: bytes, **place: str) -> bytes:
        raise Unavailable("the data key was destroyed")

    monkeypatch.setattr(deployment.keyring, "open_seal", refuse)
    monkeypatch.setattr(deployment.keyring, "check_known", refuse)
    assert [found async for found in deployment.inspection.unopenable()] == [("alice", "the data key was destroyed")]
    assert (await deployment.verifier.accounts.get("alice")).state == "unavailable"
