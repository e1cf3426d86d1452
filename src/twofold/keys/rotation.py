"""How keys come, move and go in the stored keyring: new ones, another master key, destruction.

Nothing here touches an account: walking them all is `twofold.resealing`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from twofold.errors import ConfigurationError, Refused, Unavailable
from twofold.key_ports import KeyPurpose, WrappedKey
from twofold.keys.keyring import TICKET_KEY_KEPT_S, USES_BLOCK, USES_MAX, Keyring
from twofold.keys.node import ThisNode

DATA_KEY_DAYS = 90
TICKET_KEY_ROTATED_AFTER_S = 86_400
#: A new data key is made while so many blocks of uses are left, for nodes that are in the middle of one.
SPARE_BLOCKS = 64
#: How long a retired data key stays, and how far apart the two scans are that must find nothing under it.
GRACE_DAYS = 30
SCANS_APART_S = 86_400
_DAY = 86_400 * 1_000_000
_MICROS = 1_000_000

SIGNING: tuple[KeyPurpose, ...] = ("receipt", "ticket", "integrity")

#: Writes an event of the deployment: its kind and its payload.
Record = Callable[[str, Mapping[str, str | int | Sequence[str] | None]], Awaitable[None]]


class Rotation:
    """The changes of one keyring."""

    def __init__(self, keyring: Keyring, node: ThisNode, record: Record) -> None:
        self._keyring = keyring
        self._node = node
        self._record = record

    async def make_data_key(self, reason: str) -> WrappedKey:
        """A new data key for everything that is sealed from now on; the one before only opens."""
        old = self._active("data")
        is_done = await self._keyring.replace(old, reason)
        # If another node made one at the same time, that is it.
        new = self._active("data")
        if is_done:
            await self._record("key.rotated", {"purpose": "data", "from": old.id, "key": new.id, "reason": reason})
        return new

    async def is_data_key_due(self) -> bool:
        """Whether the data key in use is 90 days old or has nearly sealed as often as it may."""
        await self._keyring.refresh()
        row = self._active("data")
        # One from the future was made under a clock that was wrong: nobody knows how old it is.
        is_old = not 0 <= self._keyring.clock.now() - row.created_at < DATA_KEY_DAYS * _DAY
        return is_old or row.uses > USES_MAX - SPARE_BLOCKS * USES_BLOCK

    async def rotate_ticket_key(self) -> None:
        """A new ticket key once the newest is a day old. Tickets of the one before stay good for a quarter of an hour;
        those of the one before that are long over, and it is destroyed."""
        await self._keyring.refresh()
        now = self._keyring.clock.now()
        if 0 <= now - self._active("ticket").created_at <= TICKET_KEY_ROTATED_AFTER_S * _MICROS:
            return
        ended_before = now - TICKET_KEY_KEPT_S * _MICROS
        announced = self._find_announced("ticket")
        old = [row for row in self._keyring.rows() if row.purpose == "ticket" and row.state == "decrypt_only"]
        over = [row for row in old if row != announced and max(row.retired_at, row.created_at) < ended_before]
        await self.replace_signing_keys("a day old", purposes=("ticket",), over=over)

    async def replace_signing_keys(
        self, reason: str, *, purposes: Sequence[KeyPurpose] = SIGNING, over: Sequence[WrappedKey] = ()
    ) -> None:
        """New keys for receipts, tickets and the codes of documents; keys that are `over` go. Every server knows the
        new ones before any of them is used; raises `Unavailable` if one does not come to know them, and they are not
        used then."""
        await self._keyring.refresh()
        announced, made = [], []
        for purpose in purposes:
            # What was announced and then not used, because some server did not follow, is used now.
            waiting = self._find_announced(purpose)
            if waiting is None:
                fresh = await self._keyring.make(purpose, reason)
                waiting = msgspec.structs.replace(fresh, state="decrypt_only")
                made.append(waiting)
            announced.append(waiting)
        await self._change([change for row in made for change in ((None, row), *self._keyring.unmoved(row))])
        await self._node.wait_for_all()
        now = self._keyring.clock.now()
        changes: list[tuple[WrappedKey | None, WrappedKey]] = []
        changes += [(row, msgspec.structs.replace(row, state="destroyed", wrapped=b"")) for row in over]
        replaced = [self._active(row.purpose) for row in announced]
        for row, old in zip(announced, replaced, strict=True):
            changes += [
                (row, msgspec.structs.replace(row, state="active", empty_since=0)),
                (old, msgspec.structs.replace(old, state="decrypt_only", retired_at=now, empty_since=0)),
            ]
        await self._change(changes)
        for row, old in zip(announced, replaced, strict=True):
            told = {"purpose": row.purpose, "from": old.id, "key": row.id, "reason": reason}
            await self._record("key.rotated", told)

    async def resume(self, reason: str) -> None:
        """Make the new keys that a rotation had still to make when it was stopped. Raises `Unavailable`."""
        await self._keyring.refresh()
        # No key of before the last move stays in use: an older copy holds it under the master key of before.
        moved_at = max((row.retired_at for row in self._keyring.rows() if row.purpose == "master"), default=0)
        if self._active("data").created_at < moved_at:
            await self.make_data_key(reason)
        is_old = any(self._active(purpose).created_at < moved_at for purpose in SIGNING)
        if is_old or any(self._find_announced(purpose) for purpose in SIGNING):
            await self.replace_signing_keys(reason)

    async def join_master(self, uri: str) -> WrappedKey:
        """Enter another master key beside the one in use, and wait until every server can use it.

        Raises `ConfigurationError`, `Unavailable`; the key in use stays in use, and nothing is wrapped anew.
        """
        await self._keyring.refresh()
        masters = self._masters()
        if any(row.uri == uri and row.state == "active" for row in masters):
            raise Refused("conflict", f"{uri} holds the master key in use already")
        joined = next((row for row in masters if row.uri == uri and not row.retired_at), None)
        if joined is None:
            joined = await self._keyring.masters.make(self._keyring.mac_keys(), uri)
            await self._change([(None, joined)])
            await self._record("key.joined", {"key": joined.id, "provider": uri})
        await self._node.wait_for_all(joined.id)
        return joined

    async def move(self, master: WrappedKey, reason: str) -> None:
        """Wrap every key with this master key, in one step: from then on it alone opens the database."""
        await self._keyring.refresh()
        old = self._active("master")
        changes = await self._rewrap_all(master.id)
        now = self._keyring.clock.now()
        changes += [
            (master, msgspec.structs.replace(master, state="active", empty_since=0)),
            (old, msgspec.structs.replace(old, state="decrypt_only", retired_at=now, empty_since=0)),
        ]
        await self._change(changes)
        await self._record("key.moved", {"from": old.id, "key": master.id, "provider": master.uri, "reason": reason})

    async def _rewrap_all(self, master: str) -> list[tuple[WrappedKey | None, WrappedKey]]:
        """The changes by which every key that is under another master key comes under this one."""
        rows = [row for row in self._keyring.rows() if row.purpose != "master" and row.state != "destroyed"]
        return [(row, await self._keyring.rewrap(row, master, "move")) for row in rows if row.master != master]

    async def note_scan(self, key_id: str, found: int, *, grace_days: int = GRACE_DAYS) -> str | None:
        """After a full scan that found so much under a retired key: None once it may be destroyed, else why not."""
        row = self.check_retired(key_id)
        now = self._keyring.clock.now()
        if found:
            if row.empty_since:
                await self._change([(row, msgspec.structs.replace(row, empty_since=0))])
            return f"{found} values are still under {key_id}: twofold keys rotate --resume"
        if not row.empty_since:
            await self._change([(row, msgspec.structs.replace(row, empty_since=now))])
            return f"nothing is under {key_id} any more; a second look a day from now has to find the same"
        wait = end_of_grace(row, grace_days=grace_days) - now
        if wait > 0:
            return f"{key_id} may be destroyed in {-(-wait // _DAY)} days: look again then"
        return None

    async def destroy(self, key_id: str, reason: str) -> WrappedKey:
        """Forget a key for good. Whoever calls has seen `note_scan` answer None."""
        row = self.check_retired(key_id)
        changes: list[tuple[WrappedKey | None, WrappedKey]] = []
        if row.purpose == "integrity":
            # Until now, so that a server which slept through the rotation could still believe them.
            signer = self._keyring.mac_keys()
            masters = self._keyring.masters
            changes += [(row, masters.signed(row, signer)) for row in self._masters() if masters.is_ours(row)]
        changes.append((row, msgspec.structs.replace(row, state="destroyed", wrapped=b"")))
        await self._change(changes)
        await self._record("key.destroyed", {"key": key_id, "purpose": row.purpose, "reason": reason})
        return row

    def check_retired(self, key_id: str) -> WrappedKey:
        """The row of a key that only opens; raises `ConfigurationError`, `Refused` for any other."""
        row = self._keyring.row(key_id)
        if row is None:
            raise ConfigurationError(f"there is no key {key_id}: twofold keys status --all lists them")
        if row.state != "decrypt_only":
            raise Refused("conflict", f"{key_id} is {row.state.replace('_', ' ')}, and only a retired key is destroyed")
        return row

    def _find_announced(self, purpose: KeyPurpose) -> WrappedKey | None:
        active = self._active(purpose)
        rows = [row for row in self._keyring.rows() if row.purpose == purpose and row.state == "decrypt_only"]
        return next((row for row in rows if not row.retired_at and row.created_at >= active.created_at), None)

    def _masters(self) -> list[WrappedKey]:
        return [row for row in self._keyring.rows() if row.purpose == "master" and row.state != "destroyed"]

    def _active(self, purpose: KeyPurpose) -> WrappedKey:
        return next(row for row in self._keyring.rows() if row.purpose == purpose and row.state == "active")

    async def _change(self, changes: Sequence[tuple[WrappedKey | None, WrappedKey]]) -> None:
        if not await self._keyring.store.change_keys(changes):
            await self._keyring.refresh()
            raise Unavailable("the keyring was changed by another process meanwhile: try again")
        await self._keyring.refresh()


def end_of_grace(row: WrappedKey, *, grace_days: int = GRACE_DAYS) -> int:
    """When a key that only opens may be destroyed, in microseconds, if a second scan then finds nothing under it."""
    begin = row.retired_at or row.created_at
    return max(begin + grace_days * _DAY, row.empty_since + SCANS_APART_S * _MICROS)
