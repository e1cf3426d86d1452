"""What every key provider does. Each provider's test file has a class that inherits these and brings its fixtures:
`provider`, `stranger` (the same kind with another master key) and `secrets` (what must be shown nowhere)."""

import asyncio
from collections.abc import Sequence

import pytest

from twofold.errors import KeyRefused
from twofold.key_ports import KeyProvider

KEY = bytes(range(32))


class ProviderContract:
    """The tests. `flips` is how many places of a wrapped key are tried with one bit changed; 0: all of them."""

    flips = 0

    async def test_a_key_that_was_wrapped_is_unwrapped_again(self, provider: KeyProvider) -> None:
        wrapping = await provider.wrap(KEY, key_id="data-1")
        assert (await provider.unwrap(wrapping.wrapped, key_id="data-1")).key == KEY

    async def test_what_is_stored_neither_shows_the_key_nor_repeats_itself(self, provider: KeyProvider) -> None:
        one, other = await provider.wrap(KEY, key_id="data-1"), await provider.wrap(KEY, key_id="data-1")
        assert one.wrapped != other.wrapped
        assert KEY not in one.wrapped

    async def test_under_another_id_it_does_not_open(self, provider: KeyProvider) -> None:
        wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
        with pytest.raises(KeyRefused):
            await provider.unwrap(wrapped, key_id="data-2")
        assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY

    async def test_another_master_key_does_not_open_it(self, provider: KeyProvider, stranger: KeyProvider) -> None:
        wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
        with pytest.raises(KeyRefused):
            await stranger.unwrap(wrapped, key_id="data-1")
        own = (await stranger.wrap(KEY, key_id="data-1")).wrapped
        assert (await stranger.unwrap(own, key_id="data-1")).key == KEY

    async def test_with_one_bit_changed_anywhere_it_does_not_open(self, provider: KeyProvider) -> None:
        wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
        step = max(1, len(wrapped) // self.flips) if self.flips else 1
        for place in range(0, len(wrapped), step):
            changed = bytearray(wrapped)
            changed[place] ^= 1 << place % 8
            with pytest.raises(KeyRefused):
                await provider.unwrap(bytes(changed), key_id="data-1")
        assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY

    @pytest.mark.parametrize("kept", [0, 1, 12, 40, -1])
    async def test_cut_off_it_does_not_open(self, provider: KeyProvider, kept: int) -> None:
        wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
        with pytest.raises(KeyRefused):
            await provider.unwrap(wrapped[:kept], key_id="data-1")

    async def test_many_are_opened_at_once(self, provider: KeyProvider) -> None:
        keys = [bytes([number]) * 32 for number in range(8)]
        wrapped = [await provider.wrap(key, key_id=f"data-{key[0]}") for key in keys]
        opened = await asyncio.gather(*(provider.unwrap(w.wrapped, key_id=f"data-{n}") for n, w in enumerate(wrapped)))
        assert [unwrapping.key for unwrapping in opened] == keys

    async def test_it_is_watched_and_described_without_its_secrets(
        self, provider: KeyProvider, secrets: Sequence[str]
    ) -> None:
        await provider.watch()
        wrapping = await provider.wrap(KEY, key_id="data-1")
        shown = [provider.describe(), repr(provider), repr(await provider.unwrap(wrapping.wrapped, key_id="data-1"))]
        assert len(provider.describe().splitlines()) == 1
        for text in shown:
            assert not any(secret in text for secret in secrets)
            assert repr(KEY) not in text
