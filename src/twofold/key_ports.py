"""What the keyring needs from outside, as small protocols: where keys are stored, what protects them, who serves.

The other ports are in `twofold.ports`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol

import msgspec

from twofold.core.discreet import Discreet

KeyState = Literal["active", "decrypt_only", "destroyed"]
KeyPurpose = Literal["master", "data", "integrity", "index", "ticket", "receipt"]


class WrappedKey(msgspec.Struct, frozen=True):
    """A key as it is stored: wrapped by the master key `master`, useless without it. Times in microseconds, 0: never.

    The row of a master key itself has purpose `master`: `wrapped` is then a random value that tells whether a provider
    holds this master key, `uri` where it is, and `mac` proves who wrote that. `uses` counts the seals that were
    reserved, in blocks; `empty_since` is when a full scan first found nothing under a retired key.
    """

    id: str
    purpose: KeyPurpose
    state: KeyState
    wrapped: bytes
    created_at: int
    master: str = ""
    uses: int = 0
    retired_at: int = 0
    empty_since: int = 0
    unwrapped_at: int = 0
    uri: str = ""
    mac: bytes = b""


class KeyStore(Protocol):
    """The stored keyring."""

    async def load_keys(self) -> Sequence[WrappedKey]:
        """All keys, oldest first."""
        ...

    async def add_keys(self, keys: Sequence[WrappedKey], *, first: bool = False) -> bool:
        """Add keys. `first`: only into an empty keyring, else False."""
        ...

    async def change_keys(self, changes: Sequence[tuple[WrappedKey | None, WrappedKey]]) -> bool:
        """Put each second row in the place of the first, which has the same id, or add it where the first is None: all
        in one step. False and nothing is changed when one is not as expected any more; `uses` and `unwrapped_at` are
        neither compared nor changed."""
        ...

    async def reserve_uses(self, key_id: str, count: int, uses_max: int) -> int:
        """Add to the `uses` of an active key: how many there are now, or 0 and nothing was added if they would be more
        than `uses_max` or the key is not active."""
        ...

    async def note_unwraps(self, at: Mapping[str, int]) -> None:
        """When keys, by id, were last unwrapped."""
        ...

    async def count_accounts(self) -> int:
        """How many accounts there are; 0 tells that a database is new."""
        ...


class Node(msgspec.Struct, frozen=True):
    """A process that serves this database. `masters` are the ids of the master keys that it can use, `fault` is why it
    cannot use another one; `stamp` tells which state of the keyring it works with. Times in microseconds."""

    id: str
    host: str
    started_at: int
    seen_at: int
    masters: tuple[str, ...] = ()
    fault: str = ""
    stamp: str = ""


class Nodes(Protocol):
    """Who serves this database now."""

    async def put_node(self, node: Node, *, forget_before: int) -> int | None:
        """Keep what a node says of itself; those last seen before then go. Gives back the time, in microseconds, of a
        database that has a clock of its own."""
        ...

    async def list_nodes(self) -> Sequence[Node]:
        """All that are kept."""
        ...

    async def drop_node(self, node_id: str) -> None:
        """A node that ends."""
        ...


class Wrapping(msgspec.Struct, frozen=True):
    """A key that was wrapped. `request_id` is how the provider's own log calls this use, where it keeps one."""

    wrapped: bytes
    request_id: str = ""


class Unwrapping(Discreet, frozen=True):
    """A key that was opened; a bytearray is overwritten by whoever has used it."""

    hidden: ClassVar[tuple[str, ...]] = ("key",)

    key: bytes | bytearray
    request_id: str = ""


class KeyProvider(Protocol):
    """What protects the keys of a keyring: a key file, a KMS, an HSM. Raises `ProviderAway` for what may pass by itself
    and `KeyRefused` for what does not."""

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        """The key in the form that may be stored, bound to its id."""
        ...

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        """The key, if it was wrapped here under this id."""
        ...

    async def watch(self) -> None:
        """Look whether the master key is still there, as far as that can be seen without using it; called each second.
        Raises as the others do."""
        ...

    def describe(self) -> str:
        """One line for people: what it is and where; never a secret."""
        ...

    async def close(self) -> None:
        """Let connections and sessions go."""
        ...
