"""The one-time link to the set-up page, printed where only the operator reads it.

Only a keyed digest of its token is kept, together with its expiry, so neither a stolen nor an edited database yields
a link. A newer link voids the one before; looking at the page does not spend it.
"""

from __future__ import annotations

import base64
import hmac
from typing import Protocol

from twofold.core.clock import MICROS_PER_S
from twofold.ports import Clock, Entropy, SealingKeys

TOKEN_BYTES = 32
TTL_S = 86_400
_SETTING = "setup_link"
_LISTENING_URL = "listening_url"


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


async def note_url(store: SettingStore, keys: SealingKeys, url: str) -> None:
    """A running server notes where it is found, so that links made beside it lead to it."""
    await store.put_setting(_LISTENING_URL, f"{keys.index_digest(b'listening_url', url.encode()).hex()}:{url}")


async def noted_url(store: SettingStore, keys: SealingKeys) -> str | None:
    """What was noted last; a note that somebody else wrote counts as none, or links would lead to him."""
    digest, _, url = (await store.get_setting(_LISTENING_URL) or "").partition(":")
    expected = keys.index_digest(b"listening_url", url.encode()).hex()
    return url if hmac.compare_digest(digest.encode(), expected.encode()) else None


def _digest(keys: SealingKeys, token: str, expires_at: int) -> str:
    # The expiry is part of it: a row with a later one is no link.
    return keys.index_digest(b"setup_link", token.encode(), str(expires_at).encode()).hex()
