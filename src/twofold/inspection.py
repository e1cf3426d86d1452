"""What an operator asks of everything at once: who is there, what cannot be opened, does the audit log hold."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from twofold.core.account import FIRST_PERSON, Account, AuditHead
from twofold.core.audit import ChainBreak, EventRow, verify_chain
from twofold.core.codec import Codec, Tombstone
from twofold.core.resealing import find_seals
from twofold.credentials import find_seed
from twofold.errors import DataKeyMissing, TamperedRecord, Unavailable
from twofold.ports import Accounts, SealingKeys


class AuditReport(msgspec.Struct, frozen=True):
    """The result of checking every audit chain; `broken` is the first place that does not hold."""

    ok: bool
    accounts: int
    events: int
    broken: ChainBreak | None = None


class Inspection:
    """Reads everything, changes nothing."""

    def __init__(self, accounts: Accounts, codec: Codec, keys: SealingKeys) -> None:
        self._accounts = accounts
        self._keys = keys
        self._codec = codec

    async def unopenable(self) -> AsyncIterator[tuple[str, str]]:
        """The accounts that cannot be trusted or opened, each with the reason (`keys check`)."""
        # Tombstones too: the column that says so could be changed, the code in the row cannot.
        async for row in self._accounts.scan(tombstones=True):
            try:
                account = self._codec.load(row)
                if isinstance(account, Tombstone):
                    continue
                if account.id != row.account_id:
                    raise TamperedRecord(f"account {row.account_id}")
                await self._open_all(account)
            except Unavailable as error:
                yield row.account_id, str(error)
        for account_id in await self._accounts.orphans():
            yield account_id, "its row is gone while its events are there"

    async def _open_all(self, account: Account) -> None:
        """Open everything that is sealed; raises `Unavailable` for the first that does not open."""
        lent: list[DataKeyMissing] = []
        try:
            for value, field, authenticator_id in find_seals(account, find_seed):
                place = {"field": field, "account_id": account.id, "authenticator_id": authenticator_id}
                while True:
                    try:
                        self._keys.open_seal(value, **place)
                        break
                    except DataKeyMissing as missing:
                        await self._keys.fetch(missing, subject=account.id)
                        lent += [missing] if missing.seed is not None else []
        finally:
            self._keys.drop(lent)

    async def verify_audit(self) -> AuditReport:
        """Check every chain from its start to the head that its account holds."""
        accounts = events = 0
        broken: ChainBreak | None = None
        async for row in self._accounts.scan(tombstones=True):
            accounts += row.account_id >= FIRST_PERSON
            try:
                head = self._codec.load(row).head
            except TamperedRecord as error:
                broken = broken or ChainBreak(row.account_id, 0, str(error))
                continue
            chain, head = await self._read_chain(row.account_id, head)
            events += len(chain)
            broken = broken or verify_chain(row.account_id, chain, head)
        for account_id in await self._accounts.orphans():
            broken = broken or ChainBreak(account_id, 0, "the account's row is gone while its events are there")
        return AuditReport(broken is None, accounts, events, broken)

    async def _read_chain(self, account_id: str, head: AuditHead) -> tuple[list[EventRow], AuditHead]:
        """All events and the head that belongs to them, also while the account goes on."""
        chain: list[EventRow] = []
        while True:
            while page := await self._accounts.events(account_id, after_seq=chain[-1].seq if chain else 0):
                chain += page
            if len(chain) <= head.seq:
                return chain, head
            account = await self._accounts.load(account_id)
            if account is None or account.head.seq <= head.seq:
                return chain, head  # Nobody of ours wrote what is beyond the head.
            head = account.head
            if len(chain) > head.seq:
                return chain[: head.seq], head
