import asyncio

import msgspec
import pytest
from tests.keys.rings import Place
from tests.kit import PlainProvider

from twofold.crypto.digest import MacKeys
from twofold.errors import KeyRefused, ProviderAway, Unavailable
from twofold.key_ports import KeyProvider, Unwrapping, WrappedKey, Wrapping
from twofold.keys.masters import Masters

KEY = b"k" * 32
SIGNER = MacKeys({"integrity-1": b"i" * 32}, signing="integrity-1")
VAULT = "plain:vault"


class Ending(PlainProvider):
    """Tells how often it was closed."""

    closed = 0

    async def close(self) -> None:
        self.closed += 1


class Wrong(PlainProvider):
    """Answers, and not with what was asked for."""

    def __init__(self, *, key: bytes | None = None, wrapped: bytes | None = None) -> None:
        super().__init__("wrong")
        self.key, self.wrapped = key, wrapped

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        wrapping = await super().wrap(key, key_id=key_id)
        return wrapping if self.wrapped is None else Wrapping(self.wrapped)

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        unwrapping = await super().unwrap(wrapped, key_id=key_id)
        return unwrapping if self.key is None else Unwrapping(self.key)


class Vaults(Place):
    """A place with the master key of home in use and, where it was joined, that of the vault."""

    def __init__(self) -> None:
        super().__init__()
        self.vault = Ending("vault")
        self.providers[VAULT] = self.vault
        self.of_home: WrappedKey | None = None

    async def with_both(self) -> tuple[Masters, WrappedKey, WrappedKey]:
        masters = self.masters()
        home = msgspec.structs.replace(await masters.make(SIGNER), state="active")
        vault = await masters.make(SIGNER, VAULT)
        masters.adopt([home, vault], SIGNER)
        return masters, home, vault


def used(masters: Masters) -> list[tuple[str, str, str]]:
    return [(use.operation, use.key_id, use.reason) for use in masters.trace.take()[0]]


async def test_each_key_goes_to_the_provider_of_its_master_key() -> None:
    place = Vaults()
    masters, home, vault = await place.with_both()
    for master, name in (("", b"home|"), (home.id, b"home|"), (vault.id, b"vault|")):
        wrapped = await masters.wrap(KEY, key_id="data-1", reason="test", master=master)
        assert wrapped.startswith(name)
        assert await masters.unwrap(wrapped, key_id="data-1", master=master or home.id, reason="test") == KEY


async def test_another_process_opens_the_provider_at_the_address_in_the_row() -> None:
    place = Vaults()
    _, home, vault = await place.with_both()
    masters = place.masters()
    masters.adopt([home, vault], SIGNER)
    place.opened.clear()
    wrapped = (await place.vault.wrap(KEY, key_id="data-1")).wrapped
    for _ in range(2):
        assert await masters.unwrap(wrapped, key_id="data-1", master=vault.id, reason="test") == KEY
    assert place.opened == [VAULT]


@pytest.mark.parametrize(
    "changes",
    [{"uri": "plain:thief"}, {"mac": b""}, {"mac": b"integrity-1\0" + bytes(32)}, {"id": "master-99999999"}],
    ids=str,
)
async def test_no_provider_is_opened_at_an_address_that_somebody_else_wrote(changes: dict[str, object]) -> None:
    place = Vaults()
    _, home, vault = await place.with_both()
    place.providers["plain:thief"] = PlainProvider("thief")
    forged = msgspec.structs.replace(vault, **changes)
    masters = place.masters()
    masters.adopt([home, forged], SIGNER)
    place.opened.clear()
    with pytest.raises(KeyRefused, match="changed by something else than Twofold"):
        await masters.wrap(KEY, key_id="data-1", reason="test", master=forged.id)
    await masters.try_others()
    assert "changed by something else" in masters.fault
    assert (place.opened, masters.usable) == ([], (home.id,))
    masters.adopt([home, vault], SIGNER)
    assert await masters.wrap(KEY, key_id="data-1", reason="test", master=vault.id)


async def test_before_the_integrity_key_is_known_no_other_provider_is_opened() -> None:
    place = Vaults()
    _, home, vault = await place.with_both()
    masters = place.masters()
    masters.adopt([home, vault], None)
    with pytest.raises(KeyRefused):
        await masters.wrap(KEY, key_id="data-1", reason="test", master=vault.id)
    masters.adopt([home, vault], SIGNER)
    assert await masters.wrap(KEY, key_id="data-1", reason="test", master=vault.id)


async def test_a_master_key_that_was_destroyed_or_never_was_ours_is_refused() -> None:
    masters, home, vault = await Vaults().with_both()
    masters.adopt([home, msgspec.structs.replace(vault, state="destroyed", wrapped=b"")], SIGNER)
    for master in (vault.id, "master-unknown"):
        with pytest.raises(KeyRefused, match="destroyed or never belonged"):
            await masters.unwrap(b"x", key_id="data-1", master=master, reason="test")
    assert masters.usable == (home.id,)
    assert await masters.wrap(KEY, key_id="data-1", reason="test", master=home.id)


async def test_a_provider_that_cannot_be_opened_is_a_refusal() -> None:
    place = Vaults()
    _, home, vault = await place.with_both()
    masters = place.masters()
    masters.adopt([home, vault], SIGNER)
    del place.providers[VAULT]
    with pytest.raises(KeyRefused, match="cannot be opened here"):
        await masters.wrap(KEY, key_id="data-1", reason="test", master=vault.id)
    await masters.try_others()
    assert masters.fault == f"KEY_PROVIDER {VAULT}: cannot be opened here"
    place.providers[VAULT] = place.vault
    await masters.try_others()
    assert (masters.fault, masters.usable) == ("", tuple(sorted((home.id, vault.id))))


@pytest.mark.parametrize("fault", [KeyRefused("access denied"), ProviderAway("timed out")])
async def test_another_master_key_that_cannot_be_used_is_told_of_and_used_once_it_can(fault: Unavailable) -> None:
    place = Vaults()
    _, home, vault = await place.with_both()
    masters = place.masters()
    masters.adopt([home, vault], SIGNER)
    place.vault.fault = fault
    await masters.try_others()
    assert (masters.fault, masters.usable) == (str(fault), (home.id,))
    place.vault.fault = None
    await masters.try_others()
    assert (masters.fault, masters.usable) == ("", tuple(sorted((home.id, vault.id))))


@pytest.mark.parametrize(
    ("fault", "kept"), [(KeyRefused("access denied"), 0), (ProviderAway("timed out"), 1)], ids=["refused", "away"]
)
async def test_a_provider_that_could_not_be_used_is_closed_again_or_asked_again(fault: Unavailable, kept: int) -> None:
    place = Vaults()
    _, home, vault = await place.with_both()
    masters = place.masters()
    masters.adopt([home, vault], SIGNER)
    place.vault.fault = fault
    for _ in range(3):
        await masters.try_others()
    # Each second another one with connections or sessions of its own would come to stay; one that is away is kept,
    # with the patience that it was asked with.
    assert place.opened[1:].count(VAULT) - place.vault.closed == kept
    place.vault.fault = None
    await masters.try_others()
    assert await masters.wrap(KEY, key_id="data-1", reason="test", master=vault.id)


async def test_each_use_is_noted_with_what_the_provider_calls_it() -> None:
    place = Vaults()
    masters, home, _ = await place.with_both()
    masters.trace.take()
    wrapped = await masters.wrap(KEY, key_id="data-1", reason="rotation", subject="alice")
    await masters.unwrap(wrapped, key_id="data-1", master=home.id, reason="use", subject="alice")
    for use in masters.trace.take()[0]:
        assert (use.key_id, use.master, use.subject, use.at, use.why) == (
            "data-1",
            home.id,
            "alice",
            place.clock.now(),
            "",
        )
        assert use.request_id.startswith("home-")


@pytest.mark.parametrize(
    ("fault", "operation", "request_id"),
    [(KeyRefused("access denied", "r-9"), "refused", "r-9"), (ProviderAway("timed out"), "away", "")],
)
async def test_each_failure_is_noted_with_its_reason(fault: Unavailable, operation: str, request_id: str) -> None:
    place = Vaults()
    masters, home, _ = await place.with_both()
    masters.trace.take()
    place.provider.fault = fault
    with pytest.raises(type(fault)):
        await masters.wrap(KEY, key_id="data-1", reason="rotation")
    with pytest.raises(type(fault)):
        await masters.unwrap(b"x", key_id="data-2", master=home.id, reason="use")
    uses, _ = masters.trace.take()
    assert [(u.operation, u.key_id, u.reason, u.request_id, u.why) for u in uses] == [
        (operation, "data-1", "rotation", request_id, str(fault)),
        (operation, "data-2", "use", request_id, str(fault)),
    ]


@pytest.mark.parametrize("fault", [KeyRefused("access denied", "r-9"), ProviderAway("timed out")])
async def test_the_refusal_of_a_new_or_another_master_key_is_noted_too(fault: Unavailable) -> None:
    place = Vaults()
    _, home, vault = await place.with_both()
    masters = place.masters()
    masters.adopt([home, vault], SIGNER)
    place.vault.fault = fault
    await masters.try_others()
    with pytest.raises(type(fault)):
        await masters.make(SIGNER, VAULT)
    operation = "refused" if isinstance(fault, KeyRefused) else "away"
    noted = used(masters)
    reasons = ["another master key", "is it this master key", "new master key"]
    assert [(op, reason) for op, _, reason in noted] == [
        (operation, reason) for reason in (reasons if operation == "refused" else reasons[:2])
    ]


@pytest.mark.parametrize("answer", [b"", b"k" * 31, b"k" * 33, bytearray(b"k" * 16)])
async def test_what_has_not_the_length_of_a_key_is_refused_and_noted(answer: bytes) -> None:
    place = Vaults()
    masters, home, _ = await place.with_both()
    wrapped = await masters.wrap(KEY, key_id="data-1", reason="test")
    masters._providers[home.id] = Wrong(key=answer)
    masters.trace.take()
    with pytest.raises(KeyRefused, match="something else than the key data-1"):
        await masters.unwrap(b"wrong|data-1|" + KEY, key_id="data-1", master=home.id, reason="test")
    assert used(masters) == [("refused", "data-1", "test")]
    masters._providers[home.id] = place.provider
    assert await masters.unwrap(wrapped, key_id="data-1", master=home.id, reason="test") == KEY


WRONG: list[KeyProvider] = [Wrong(wrapped=b"nothing that opens"), Wrong(key=b"x" * 32), Wrong(key=b"x")]


@pytest.mark.parametrize("provider", WRONG, ids=["opens never", "another key", "a short key"])
async def test_a_new_master_key_must_give_back_what_it_wrapped(provider: KeyProvider) -> None:
    place = Vaults()
    masters, _, _ = await place.with_both()
    place.providers["plain:wrong"] = provider
    with pytest.raises(KeyRefused):
        await masters.make(SIGNER, "plain:wrong")
    assert (await masters.make(SIGNER, VAULT)).uri == VAULT


@pytest.mark.parametrize("provider", WRONG, ids=["opens never", "another key", "a short key"])
async def test_a_key_counts_as_wrapped_only_once_it_was_opened_again(provider: KeyProvider) -> None:
    place = Vaults()
    masters, home, _ = await place.with_both()
    masters._providers[home.id] = provider
    with pytest.raises(KeyRefused):
        await masters.wrap(KEY, key_id="data-1", reason="test")
    masters._providers[home.id] = place.provider
    assert await masters.wrap(KEY, key_id="data-1", reason="test")


async def test_a_master_key_moved_to_where_the_settings_say_gets_its_new_address() -> None:
    place = Vaults()
    _, home, vault = await place.with_both()
    place.providers["plain:moved"] = place.provider
    place.configured = "plain:moved"
    masters = place.masters()
    masters.adopt([home, vault], SIGNER)
    changed = masters.corrected(SIGNER)
    assert changed is not None
    assert (changed[0], changed[1].uri) == (home, "plain:moved")
    masters.adopt([changed[1], vault], SIGNER)
    assert masters.corrected(SIGNER) is None
    assert masters._read_uri(changed[1]) == "plain:moved"


async def test_a_process_that_is_not_configured_for_the_active_master_key_corrects_nothing() -> None:
    masters, home, vault = await Vaults().with_both()
    moved = [msgspec.structs.replace(home, state="decrypt_only"), msgspec.structs.replace(vault, state="active")]
    masters.adopt(moved, SIGNER)
    assert masters.active == vault.id
    assert masters.corrected(SIGNER) is None


async def test_a_row_is_signed_anew_only_if_it_was_signed_by_us() -> None:
    masters, home, vault = await Vaults().with_both()
    other = MacKeys({"integrity-2": b"j" * 32}, signing="integrity-2")
    assert masters.signed(vault, other).mac.startswith(b"integrity-2\0")
    with pytest.raises(KeyRefused):
        masters.signed(msgspec.structs.replace(vault, uri="plain:thief"), other)
    # What the settings of this very process say needs no proof.
    assert masters.signed(msgspec.structs.replace(home, mac=b""), other).mac.startswith(b"integrity-2\0")


async def test_the_active_one_is_watched_described_and_named() -> None:
    place = Vaults()
    masters, home, vault = await place.with_both()
    assert (masters.describe(), masters.find_other_address()) == ("the home provider", "")
    place.vault.fault = KeyRefused("gone")
    await masters.watch()
    place.provider.fault = KeyRefused("gone")
    with pytest.raises(KeyRefused):
        await masters.watch()
    moved = [msgspec.structs.replace(home, state="decrypt_only"), msgspec.structs.replace(vault, state="active")]
    masters.adopt(moved, SIGNER)
    assert (masters.describe(), masters.find_other_address()) == ("the vault provider", VAULT)


async def test_before_there_are_rows_everything_is_the_configured_provider_s() -> None:
    masters = Vaults().masters()
    assert (masters.describe(), masters.find_other_address(), masters.usable) == ("the home provider", "", ())
    wrapped = await masters.wrap(KEY, key_id="data-1", reason="test")
    assert await masters.unwrap(wrapped, key_id="data-1", master="", reason="test") == KEY


async def test_of_those_who_open_another_provider_at_the_same_time_one_stays_and_the_rest_are_closed() -> None:
    place = Vaults()
    _, home, vault = await place.with_both()
    masters = place.masters()
    masters.adopt([home, vault], SIGNER)
    opened: list[Ending] = []

    def open_one(address: str, _: bool) -> Ending:
        opened.append(Ending(address.removeprefix("plain:")))
        return opened[-1]

    masters._open = open_one
    wraps = (masters.wrap(KEY, key_id=f"data-{n}", reason="test", master=vault.id) for n in range(10))
    assert len(await asyncio.gather(*wraps)) == 10
    assert sum(provider.closed for provider in opened) == len(opened) - 1


async def test_the_provider_of_a_master_key_that_was_destroyed_is_closed() -> None:
    place = Vaults()
    masters, home, vault = await place.with_both()
    masters.adopt([home, msgspec.structs.replace(vault, state="destroyed", wrapped=b"")], SIGNER)
    await masters.try_others()
    # Else the program would hold on to a key that is said to be gone.
    assert place.vault.closed == 1
    assert await masters.wrap(KEY, key_id="data-1", reason="test", master=home.id)


async def test_each_provider_is_closed_once() -> None:
    place = Vaults()
    place.configured = VAULT
    masters = place.masters()
    row = msgspec.structs.replace(await masters.make(SIGNER), state="active")
    masters.adopt([row], SIGNER)
    await masters.close()
    assert place.vault.closed == 1
