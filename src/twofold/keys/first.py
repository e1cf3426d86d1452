"""The keys of a database on its first start: a master key, and one key for each purpose under it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from twofold.crypto.digest import MacKeys
from twofold.crypto.seal import KEY_BYTES
from twofold.key_ports import KeyPurpose, WrappedKey
from twofold.keys.masters import Masters
from twofold.ports import Clock, Entropy


async def make_first(
    masters: Masters, purposes: Sequence[KeyPurpose], clock: Clock, entropy: Entropy
) -> list[WrappedKey]:
    """The rows; nothing is stored yet, and `masters` knows nothing of it. Raises `KeyRefused`, `ProviderAway`."""
    plain = {purpose: entropy.bytes(KEY_BYTES) for purpose in purposes}
    ids = {purpose: new_key_id(purpose, entropy) for purpose in purposes}
    signer = MacKeys({ids["integrity"]: plain["integrity"]}, signing=ids["integrity"])
    master = msgspec.structs.replace(await masters.make(signer), state="active")
    masters.adopt([master], signer)
    rows = [master]
    for purpose, key in plain.items():
        wrapped = await masters.wrap(key, key_id=ids[purpose], reason="new database")
        rows.append(WrappedKey(ids[purpose], purpose, "active", wrapped, clock.now(), master.id))
    masters.begin_again()
    return rows


def new_key_id(purpose: KeyPurpose, entropy: Entropy) -> str:
    """An id that tells the purpose, and so binds the key to it."""
    return f"{purpose}-{entropy.bytes(4).hex()}"
