"""The keyring in memory: data keys that seal, integrity keys that sign documents, keys for indexes, tickets, receipts.

All of them are stored wrapped by a key provider and are worthless without it. They are unwrapped at start, which is
also the canary: a database is never opened with a master key that is not its own. Data keys serve for a limited time
and number of uses, then the provider is asked again. How keys are made, moved and ended is in `twofold.keys.rotation`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.core.factor import Seals
from twofold.core.ticket import Ticket
from twofold.core.verification import SEED_FIELD
from twofold.crypto.digest import HmacKey, MacKeys
from twofold.crypto.receipt import ReceiptKey
from twofold.crypto.seal import KEY_BYTES, OwnKey, read_key_id, read_own_key, seal, unseal
from twofold.crypto.ticket import SALT_BYTES, issue_ticket, read_ticket
from twofold.errors import ConfigurationError, DataKeyMissing, KeyRefused, ProviderAway, Unavailable
from twofold.key_ports import KeyPurpose, KeyStore, WrappedKey
from twofold.keys.first import make_first, new_key_id
from twofold.keys.masters import Masters
from twofold.keys.once import Once
from twofold.keys.opened import OpenedKey, wipe
from twofold.keys.seed_keys import SeedKeys
from twofold.ports import Clock, Entropy

PURPOSES: tuple[KeyPurpose, ...] = ("data", "integrity", "index", "ticket", "receipt")
TICKET_KEY_KEPT_S = 900
#: Seals are reserved in blocks, before they are made; AES-GCM with random nonces allows 2^32 (NIST SP 800-38D 8.3).
USES_MAX = 1 << 30
USES_BLOCK = 1 << 14
#: The first block of a process is small, for most commands seal little.
USES_FIRST_BLOCK = 1 << 8
Mode = Literal["shared", "per-seed"]
_MICROS = 1_000_000

log: logging.Logger = logging.getLogger("twofold")


class Keyring:
    """Every key of one deployment, unwrapped. `mode` says what new seeds are sealed with."""

    def __init__(
        self, store: KeyStore, masters: Masters, clock: Clock, entropy: Entropy, *, mode: Mode = "shared"
    ) -> None:
        self.store = store
        self.masters = masters
        self.clock = clock
        self.entropy = entropy
        self.mode = mode
        #: Why the provider does not answer just now, while what is in memory still serves; empty if it does.
        self.fault: str = ""
        self._rows: dict[str, WrappedKey] = {}
        self._adopted: Sequence[WrappedKey] = ()
        self._plain: dict[str, bytes] = {}
        self._opened: dict[str, OpenedKey] = {}
        self._seeds = SeedKeys(masters, entropy)
        self._once = Once()
        self._is_in_doubt = False
        self._active: dict[KeyPurpose, str] = {}
        self._gone: set[str] = set()
        self._reserved = 0
        self._block = USES_FIRST_BLOCK
        self._mac_keys: MacKeys | None = None

    @classmethod
    async def open(
        cls, store: KeyStore, masters: Masters, clock: Clock, entropy: Entropy, *, mode: Mode = "shared"
    ) -> Keyring:
        """The keyring of a database, made on its first start.

        Raises `ConfigurationError` when the provider's master key is not the one of this database, or when accounts
        exist without a keyring: a new key is never made over an existing database.
        """
        keyring = cls(store, masters, clock, entropy, mode=mode)
        rows = await store.load_keys()
        if not rows and await store.count_accounts():
            raise ConfigurationError("the database has accounts but no keys: restore it from a backup")
        try:
            if not rows:
                await store.add_keys(await make_first(masters, PURPOSES, clock, entropy), first=True)
                rows = await store.load_keys()
            await keyring._adopt(rows, "start")
            await keyring._enter_master()
        except Unavailable as error:
            raise ConfigurationError(masters.explain(error)) from None
        return keyring

    async def check(self) -> None:
        """See whether the provider still opens the data key in use, and ask it again when half of the key's time or
        uses is gone. Raises `Unavailable` when nothing can be sealed or opened, which is at once when it refuses."""
        key_id = self._active["data"]
        opened = self._opened.get(key_id)
        try:
            is_due = opened is None or self._is_in_doubt or opened.is_due(self.clock.now())
            if is_due or not await self._is_watched():
                # Anybody may ask for readiness: one of them asks the provider, the others wait with him.
                await self._once.do("renewal", lambda: self._open(self._rows[key_id], "renewal"))
                self._is_in_doubt = False
        except ProviderAway as away:
            # What is in memory opens no seed that has a key of its own.
            if opened is None or self._is_in_doubt or not opened.is_good(self.clock.now()):
                self._tell(str(away))
                raise
            rest_s = (opened.until - self.clock.now()) // _MICROS
            self._tell(f"{away}; the keys in memory serve for another {rest_s // 60} min {rest_s % 60} s")
        except KeyRefused as refused:
            # Whoever took the key away wants an end now, not when a lease is over.
            self._opened.clear()
            self._tell(str(refused))
            raise
        else:
            self._tell("")

    def check_usable(self) -> None:
        """Raise `DataKeyMissing` unless the data key in use is in memory: nothing is decided without it."""
        if self._find_good(self._active["data"]) is None:
            raise DataKeyMissing(self._active["data"])

    async def refresh(self) -> None:
        """Read the stored keyring again: keys made or retired by another process."""
        rows = await self.store.load_keys()
        if rows != self._adopted:
            await self._adopt(rows, "refresh")

    async def fetch(self, missing: DataKeyMissing, *, subject: str = "") -> None:
        """Bring one missing key into memory; one that does not exist any more is known as gone from now on. The key of
        a single seed of the account `subject` stays until `drop`. Raises `KeyRefused`, `ProviderAway`."""
        if missing.seed is None:
            await self._once.do(missing.key_id, lambda: self._fetch_shared(missing.key_id))
            return
        own = read_own_key(missing.seed) if missing.seed else None
        if own is not None and own.master not in self._rows:
            await self.refresh()
        try:
            await self._seeds.fetch(missing.key_id, own, subject=subject)
        except (ProviderAway, KeyRefused):
            # Of this seed or of all of them? `check` asks for the data key in use, until the provider opens it again.
            self._is_in_doubt = True
            raise

    def drop(self, missing: Iterable[DataKeyMissing]) -> None:
        """The attempt for which these keys of single seeds were fetched is over."""
        for each in missing:
            self._seeds.drop(each.key_id)

    def rows(self) -> Sequence[WrappedKey]:
        """The stored keys, oldest first."""
        return tuple(self._rows.values())

    def row(self, key_id: str) -> WrappedKey | None:
        """One stored key."""
        return self._rows.get(key_id)

    @property
    def active_key_id(self) -> str:
        """The data key that new seals use."""
        return self._active["data"]

    def check_known(self, sealed: bytes) -> None:
        """Raise `Unavailable` if the key of a sealed value was destroyed or never was ours; opens nothing."""
        key_id = read_key_id(sealed)
        row = self._rows.get(key_id)
        if row is None and key_id not in self._gone:
            raise DataKeyMissing(key_id)
        if row is None or row.state == "destroyed":
            raise _destroyed(key_id)

    def open_seal(self, sealed: bytes, *, field: str, account_id: str, authenticator_id: str = "") -> bytes:
        """The plaintext of a sealed value; raises `DataKeyMissing` to be called again, else `Unavailable`."""
        own = read_own_key(sealed)
        if own is not None:
            held = self._seeds.find(own.key_id)
            if held is None:
                raise DataKeyMissing(own.key_id, sealed)
            return unseal(held.cipher, sealed, field=field, account_id=account_id, authenticator_id=authenticator_id)
        key_id = read_key_id(sealed)
        opened = self._find_good(key_id)
        if opened is None:
            if key_id in self._gone:
                raise _destroyed(key_id)
            raise DataKeyMissing(key_id)
        return unseal(opened.use(), sealed, field=field, account_id=account_id, authenticator_id=authenticator_id)

    def seal(self, plaintext: bytes, *, field: str, account_id: str, authenticator_id: str = "", nonce: bytes) -> bytes:
        """Ciphertext under the active data key, or for a seed under one of its own if that is the mode; raises
        `DataKeyMissing` to be called again."""
        cipher, key_id, own = self._take_cipher(field, f"{account_id}/{authenticator_id}")
        place = {"field": field, "account_id": account_id, "authenticator_id": authenticator_id}
        return seal(cipher, plaintext, key_id=key_id, nonce=nonce, own=own, **place)

    def mac_keys(self) -> MacKeys:
        """The signer of documents and rows; it follows the keyring."""
        assert self._mac_keys is not None  # noqa: S101 - there is one since the keyring was opened
        return self._mac_keys

    def index_digest(self, *parts: bytes) -> bytes:
        """The keyed digest under which something is found: an index must not tell a thief who is here."""
        return self._index.digest(*parts)

    def receipt_key(self) -> ReceiptKey:
        """The key that signs receipts."""
        return self._receipt_keys[self._active["receipt"]]

    def receipt_keys(self) -> Sequence[ReceiptKey]:
        """Every key whose receipts count."""
        return tuple(self._receipt_keys[key_id] for key_id in self._find_current("receipt"))

    def issue_ticket(self, ticket: Ticket) -> str:
        """The ticket as text."""
        key_id = self._active["ticket"]
        salt = self.entropy.bytes(SALT_BYTES)
        return issue_ticket(ticket, key_id=key_id, key=self._plain[key_id], salt=salt)

    def read_ticket(self, text: str) -> Ticket:
        """The ticket of a text; raises `InvalidInput`."""
        return read_ticket(text, self._find_current("ticket"))

    async def make(self, purpose: KeyPurpose, reason: str) -> WrappedKey:
        """A new key of this purpose, wrapped and not stored yet."""
        key_id = new_key_id(purpose, self.entropy)
        wrapped = await self.masters.wrap(self.entropy.bytes(KEY_BYTES), key_id=key_id, reason=reason)
        return WrappedKey(key_id, purpose, "active", wrapped, self.clock.now(), self.masters.active)

    async def replace(self, old: WrappedKey, reason: str) -> bool:
        """Put a new key in the place of an active one, which only opens from now on. False when another process was
        faster."""
        fresh = await self.make(old.purpose, reason)
        retired = msgspec.structs.replace(old, state="decrypt_only", retired_at=self.clock.now(), empty_since=0)
        is_done = await self.store.change_keys([(None, fresh), (old, retired), *self.unmoved(fresh)])
        await self.refresh()
        return is_done

    def unmoved(self, fresh: WrappedKey) -> list[tuple[WrappedKey, WrappedKey]]:
        """A change of nothing, refused when all keys have come under another master key since `fresh` was wrapped."""
        master = self._rows[fresh.master]
        return [(master, master)]

    async def rewrap(self, row: WrappedKey, master: str, reason: str) -> WrappedKey:
        """The same key, wrapped by another master key; not stored yet."""
        key = await self.masters.unwrap(row.wrapped, key_id=row.id, master=row.master, reason=reason)
        wrapped = await self.masters.wrap(bytes(key), key_id=row.id, master=master, reason=reason)
        wipe(key)
        return msgspec.structs.replace(row, wrapped=wrapped, master=master)

    async def close(self) -> None:
        """Forget the data keys and let the providers go."""
        self._opened.clear()
        await self.masters.close()

    def _find_good(self, key_id: str) -> OpenedKey | None:
        opened = self._opened.get(key_id)
        return opened if opened is not None and opened.is_good(self.clock.now()) else None

    def _take_cipher(self, field: str, name: str) -> tuple[AESGCM, str, OwnKey | None]:
        """What the next value is sealed with; a seed gets a key of its own if that is the mode."""
        if self.mode == "per-seed" and field == SEED_FIELD:
            held = self._seeds.find(name)
            if held is None:
                raise DataKeyMissing(name, b"")
            return held.cipher, held.own.key_id, held.own
        key_id = self._active["data"]
        opened = self._find_good(key_id)
        if opened is None or self._reserved <= 0:
            raise DataKeyMissing(key_id)
        self._reserved -= 1
        return opened.use(), key_id, None

    async def _is_watched(self) -> bool:
        """Whether the master key is where it was; if not, only an unwrap tells whether it is the same one."""
        try:
            await self.masters.watch()
        except KeyRefused:
            return False
        return True

    def _tell(self, fault: str) -> None:
        """Once, not every second: a provider may be away for hours."""
        if bool(fault) != bool(self.fault):
            log.warning("key provider: %s", fault or f"{self.masters.describe()} answers again")
        self.fault = fault

    async def _enter_master(self) -> None:
        """Databases of before name no master key: it is the one that has just opened them. One that was moved to
        another place since is entered under its new address."""
        if self.masters.active:
            if change := self.masters.corrected(self.mac_keys()):
                await self.store.change_keys([change])
            return
        master = msgspec.structs.replace(await self.masters.make(self.mac_keys()), state="active")
        named = [(row, msgspec.structs.replace(row, master=master.id)) for row in self.rows()]
        await self.store.change_keys([(None, master), *named])
        await self.refresh()

    async def _fetch_shared(self, key_id: str) -> None:
        row = self._rows.get(key_id)
        if row is None or row.state == "destroyed" or row.id != self._active.get(row.purpose):
            await self.refresh()
            row = self._rows.get(key_id)
        if row is None or row.state == "destroyed":
            self._gone.add(key_id)
        elif row.purpose == "data":
            if self._find_good(key_id) is None:
                await self._open(row, "use")
            if row.state == "active" and self._reserved <= 0:
                await self._reserve(row)

    async def _reserve(self, row: WrappedKey) -> None:
        if await self.store.reserve_uses(row.id, self._block, USES_MAX):
            self._reserved, self._block = self._block, USES_BLOCK
        else:
            await self.replace(row, "used up")

    async def _open(self, row: WrappedKey, reason: str) -> None:
        key = await self.masters.unwrap(row.wrapped, key_id=row.id, master=row.master, reason=reason)
        opened = self._opened.get(row.id)
        if opened is None:
            self._opened[row.id] = OpenedKey(key, self.clock.now())
        else:
            opened.renew(self.clock.now())
        wipe(key)

    async def _adopt(self, stored: Sequence[WrappedKey], reason: str) -> None:
        rows = stored
        for row in rows:
            before = self._rows.get(row.id)
            if row.state == "active" and before is not None and before.state != "active" and before.retired_at:
                raise KeyRefused(f"key {row.id} was retired and is in use again, which is none of Twofold's doing")
        self.masters.adopt(rows, self._mac_keys)
        # A move brings every key under the new master key in one step: whoever has an old one enters none by it.
        active = self.masters.active
        rows = [row for row in rows if row.purpose == "master" or row.state == "destroyed" or row.master == active]
        active_before = self._active.get("data")
        # The codes of master keys are believed as soon as the integrity keys are there.
        for row in sorted(rows, key=lambda row: row.purpose != "integrity"):
            if row.purpose != "integrity" and self._mac_keys is None and "integrity" in self._active:
                self._mac_keys = MacKeys(self._of("integrity"), signing=self._active["integrity"])
                self.masters.adopt(rows, self._mac_keys)
            await self._adopt_row(row, reason)
        if missing := [purpose for purpose in PURPOSES if purpose not in self._active]:
            raise Unavailable(f"no active key for {', '.join(missing)}")
        if self._active["data"] != active_before:
            self._reserved = 0
        self._index = HmacKey(self._plain[self._active["index"]])
        self._receipt_keys = {key_id: ReceiptKey(key_id, key) for key_id, key in self._of("receipt").items()}
        if self._mac_keys is None:
            self._mac_keys = MacKeys(self._of("integrity"), signing=self._active["integrity"])
        self._mac_keys.use(self._of("integrity"), signing=self._active["integrity"])
        self.masters.adopt(rows, self._mac_keys)
        self._adopted = stored

    async def _adopt_row(self, row: WrappedKey, reason: str) -> None:
        # The id is bound by the wrapping, so a row whose purpose was exchanged does not pass.
        if not row.id.startswith(f"{row.purpose}-"):
            raise Unavailable(f"key {row.id} is not for {row.purpose}")
        is_new = row.id not in self._rows
        self._rows[row.id] = row
        if row.state == "destroyed":
            self._plain.pop(row.id, None)
            self._opened.pop(row.id, None)
        elif row.purpose == "data" and is_new:
            await self._open(row, reason)
        elif row.purpose not in ("data", "master") and row.id not in self._plain:
            key = await self.masters.unwrap(row.wrapped, key_id=row.id, master=row.master, reason=reason)
            self._plain[row.id] = bytes(key)
        if row.state == "active":
            self._active[row.purpose] = row.id

    def _find_current(self, purpose: KeyPurpose) -> dict[str, bytes]:
        """The keys of this purpose whose work still counts: until a quarter of an hour after the next one took their
        place, whenever that was. Those that are newer than the one in use may be another node's already."""
        made_after = self._rows[self._active[purpose]].created_at
        kept_since = self.clock.now() - TICKET_KEY_KEPT_S * _MICROS
        rows = ((self._rows[key_id], key) for key_id, key in self._of(purpose).items())
        return {row.id: key for row, key in rows if row.created_at >= made_after or row.retired_at > kept_since}

    def _of(self, purpose: KeyPurpose) -> dict[str, bytes]:
        return {key_id: key for key_id, key in self._plain.items() if self._rows[key_id].purpose == purpose}


def _destroyed(key_id: str) -> Unavailable:
    return Unavailable(f"data key {key_id} was destroyed or never belonged to this database")


_: type[Seals] = Keyring
