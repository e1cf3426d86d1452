"""The one-time link to the set-up page, printed where only the operator reads it, and what set-up keeps: addresses.

Only a keyed digest of its token is kept, together with its expiry, so neither a stolen nor an edited database yields
a link. A newer link voids the one before; looking at the page does not spend it, completing the set-up does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Protocol

from twofold.core.clock import MICROS_PER_S
from twofold.ports import Clock, Entropy, SealingKeys

TOKEN_BYTES = 32
TTL_S = 86_400
_SETTING = "setup_link"
_SPENT = ""
_LISTENING_URL = "listening_url"
_PUBLIC_URL = "public_url"
_RP_ID = "rp_id"


class SettingStore(Protocol):
    """Values under names, kept with the data."""

    async def get_setting(self, name: str) -> str | None:
        """A value that was put under this name."""
        ...

    async def put_setting(self, name: str, value: str) -> None:
        """Keep a value under this name, in place of the one before."""
        ...


async def new_link(store: SettingStore, keys: SealingKeys, clock: Clock, entropy: Entropy, base_url: str) -> str:
    """A link that is good for 24 hours; the one before is void."""
    token = base64.urlsafe_b64encode(entropy.bytes(TOKEN_BYTES)).rstrip(b"=").decode()
    expires_at = clock.now() + TTL_S * MICROS_PER_S
    await store.put_setting(_SETTING, f"{expires_at}:{_digest(keys, token, expires_at)}")
    return f"{base_url}/setup?token={token}"


async def is_valid(store: SettingStore, keys: SealingKeys, clock: Clock, token: str) -> bool:
    """Whether the token is that of the newest link and in time."""
    expiry, _, digest = (await store.get_setting(_SETTING) or "").partition(":")
    if not (expiry.isascii() and expiry.isdigit()):
        return False
    expires_at = int(expiry)
    return hmac.compare_digest(digest, _digest(keys, token, expires_at)) and clock.now() < expires_at


async def spend(store: SettingStore) -> None:
    """The set-up is complete: no link leads to it any more, until a new one is made."""
    await store.put_setting(_SETTING, _SPENT)


async def is_spent(store: SettingStore) -> bool:
    """Whether the set-up was completed with the newest link."""
    return await find_open(store) is None


async def find_open(store: SettingStore) -> bytes | None:
    """By what the newest link is known; None once the set-up was completed with it."""
    kept = await store.get_setting(_SETTING)
    return None if kept == _SPENT else hashlib.sha256((kept or "none").encode()).digest()


async def note_url(store: SettingStore, keys: SealingKeys, url: str) -> None:
    """A running server notes where it is found, so that links made beside it lead to it."""
    await _put_signed(store, keys, _LISTENING_URL, url)


async def noted_url(store: SettingStore, keys: SealingKeys) -> str | None:
    """What was noted last."""
    return await _read_signed(store, keys, _LISTENING_URL)


async def put_public_url(store: SettingStore, keys: SealingKeys, url: str) -> None:
    """Keep the PUBLIC_URL that was chosen at set-up; environment and file win over it."""
    await _put_signed(store, keys, _PUBLIC_URL, url)


async def read_public_url(store: SettingStore, keys: SealingKeys) -> str | None:
    """The PUBLIC_URL that was chosen at set-up."""
    return await _read_signed(store, keys, _PUBLIC_URL)


async def put_rp_id(store: SettingStore, keys: SealingKeys, rp_id: str) -> None:
    """Keep for which host passkeys are made from now on; "" where there are none."""
    await _put_signed(store, keys, _RP_ID, rp_id)


async def read_rp_id(store: SettingStore, keys: SealingKeys) -> str | None:
    """For which host passkeys were made until now; None before the first start."""
    return await _read_signed(store, keys, _RP_ID)


async def _put_signed(store: SettingStore, keys: SealingKeys, name: str, address: str) -> None:
    await store.put_setting(name, f"{_sign(keys, name, address)}:{address}")


async def _read_signed(store: SettingStore, keys: SealingKeys, name: str) -> str | None:
    """An address that somebody else wrote there counts as none, or links would lead to him."""
    signature, _, address = (await store.get_setting(name) or "").partition(":")
    return address if hmac.compare_digest(signature.encode(), _sign(keys, name, address).encode()) else None


def _sign(keys: SealingKeys, name: str, address: str) -> str:
    return keys.index_digest(name.encode(), address.encode()).hex()


def _digest(keys: SealingKeys, token: str, expires_at: int) -> str:
    # The expiry is part of it: a row with a later one is no link.
    return keys.index_digest(b"setup_link", token.encode(), str(expires_at).encode()).hex()
