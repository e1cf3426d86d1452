"""All accounts, one small transaction each, while the server serves: put under the keys in use, and counted by key.

It can be stopped at any time and begun again: what is done is recognized by its key.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec

from twofold.core.account import FIRST_PERSON, Account
from twofold.core.attempt import Call
from twofold.core.codec import Codec, StoredAccount, Tombstone, signer_of
from twofold.core.decision import Decision, Done, Outcome
from twofold.core.resealing import Sealed, exchange_seals, find_seals
from twofold.core.verification import SEED_FIELD
from twofold.credentials import exchange_seed, find_seed
from twofold.crypto.seal import NONCE_BYTES, read_key_id, read_own_key
from twofold.engine import LOCAL, Engine
from twofold.errors import Busy, DataKeyMissing, TamperedRecord, Unavailable
from twofold.keys.keyring import Keyring
from twofold.ports import Accounts

#: So many accounts are under way at once, and so much longer than it works the job rests after them.
AT_ONCE = 32
REST = 1.5


class Progress(msgspec.Struct):
    """How far a walk has come. `failed` names accounts and says why: they are as they were."""

    seen: int = 0
    changed: int = 0
    failed: list[tuple[str, str]] = []


class Resealing:
    """The walks over all accounts of one deployment."""

    def __init__(self, engine: Engine, accounts: Accounts, keyring: Keyring) -> None:
        self._engine = engine
        self._accounts = accounts
        self._keyring = keyring
        self._codec = Codec(keyring.mac_keys())

    async def run(
        self,
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
        rest: float = REST,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Progress:
        """Put everything under the keys in use, seals and codes of documents; resting `rest` times as long as it
        works, so that those who sign in meanwhile hardly notice."""
        progress = Progress()
        batch: list[StoredAccount] = []
        began = time.perf_counter()
        async for row in self._accounts.scan(tombstones=True):
            progress.seen += row.account_id >= FIRST_PERSON
            if self._is_row_outdated(row, progress):
                batch.append(row)
            if len(batch) == AT_ONCE:
                await self._reseal_all(batch, progress)
                batch = []
                on_progress(progress)
                await sleep((time.perf_counter() - began) * rest)
                began = time.perf_counter()
        await self._reseal_all(batch, progress)
        on_progress(progress)
        return progress

    async def reseal(self, account_id: str, *, signs_again: bool = False) -> bool:
        """Put what one account holds under the key in use, and with `signs_again` the code of its document, too; False
        when there was nothing to do. Raises `Unavailable`, `Busy`."""
        exchanged: dict[bytes, bytes] = {}
        lent: list[DataKeyMissing] = []

        async def prepare(_: Outcome | None) -> None:
            # Again from the start, if a key was retired between sealing and commit.
            self._keyring.drop(lent)
            lent.clear()
            exchanged.clear()
            account = await self._accounts.load(account_id)
            for sealed in find_seals(account, find_seed) if account else ():
                if self._is_outdated(sealed):
                    exchanged[sealed.value] = await self._seal_again(account_id, sealed, lent)

        def decide(account: Account | None, _: Call) -> Decision:
            decision = exchange_seals(
                account,
                exchanged,
                sealed_with=tuple({read_key_id(value) for value in exchanged.values()}),
                is_outdated=self._is_outdated,
                find_seed=find_seed,
                exchange_seed=exchange_seed,
            )
            if decision.outcome == Done() and signs_again:
                return Decision(Done(is_new=True), account or "deleted")
            return decision

        try:
            done = await self._engine.decide(account_id, decide, LOCAL, prepare=prepare)
        finally:
            self._keyring.drop(lent)
        return cast(Done, done).is_new

    async def count(self) -> tuple[Counter[str], int]:
        """How much is under each key: sealed values (those with a key of their own under its master key), codes of
        documents, wrapped keys; and how many accounts cannot be read. A whole look at everything."""
        found: Counter[str] = Counter()
        unreadable = 0
        async for row in self._accounts.scan(tombstones=True):
            found[signer_of(row)] += 1
            try:
                account = self._codec.load(row)
                if isinstance(account, Account):
                    found.update(read_key_id(sealed.value) for sealed in find_seals(account, find_seed))
            except TamperedRecord:
                unreadable += 1
        found.update(key.master for key in self._keyring.rows() if key.master and key.state != "destroyed")
        return found, unreadable

    def _is_row_outdated(self, row: StoredAccount, progress: Progress) -> bool:
        try:
            account = self._codec.load(row)
            if signer_of(row) != self._keyring.mac_keys().signing_id():
                return True
            return not isinstance(account, Tombstone) and any(map(self._is_outdated, find_seals(account, find_seed)))
        except TamperedRecord as tampered:
            progress.failed.append((row.account_id, str(tampered)))
            return False

    def _is_outdated(self, sealed: Sealed) -> bool:
        own = read_own_key(sealed.value)
        if self._keyring.mode == "per-seed" and sealed.field == SEED_FIELD:
            return own is None or own.master != self._keyring.masters.active
        return own is not None or read_key_id(sealed.value) != self._keyring.active_key_id

    async def _reseal_all(self, rows: list[StoredAccount], progress: Progress) -> None:
        signing = self._keyring.mac_keys().signing_id()

        async def reseal(row: StoredAccount) -> None:
            try:
                is_changed = await self.reseal(row.account_id, signs_again=signer_of(row) != signing)
                progress.changed += is_changed and row.account_id >= FIRST_PERSON
            except (Unavailable, Busy) as error:
                progress.failed.append((row.account_id, str(error)))

        await asyncio.gather(*map(reseal, rows))

    async def _seal_again(self, account_id: str, sealed: Sealed, lent: list[DataKeyMissing]) -> bytes:
        place = {"field": sealed.field, "account_id": account_id, "authenticator_id": sealed.authenticator_id}
        while True:
            try:
                plaintext = self._keyring.open_seal(sealed.value, **place)
                return self._keyring.seal(plaintext, **place, nonce=self._engine.entropy.bytes(NONCE_BYTES))
            except DataKeyMissing as missing:
                await self._keyring.fetch(missing, subject=account_id)
                if missing.seed is not None:
                    lent.append(missing)
