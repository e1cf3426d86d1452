"""The keyring in memory: data keys that seal, integrity keys that sign documents, keys for indexes, tickets, receipts.

All of them are stored wrapped by a key provider and are worthless without it. They are unwrapped at start, which is
also the canary: a database is never opened with a master key that is not its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.core.ticket import Ticket
from twofold.crypto.digest import HmacKey, MacKeys
from twofold.crypto.receipt import ReceiptKey
from twofold.crypto.seal import KEY_BYTES, read_key_id, seal, unseal
from twofold.crypto.ticket import SALT_BYTES, issue_ticket, read_ticket
from twofold.errors import ConfigurationError, DataKeyMissing, Unavailable
from twofold.ports import Clock, Entropy, KeyProvider, KeyPurpose, KeyStore, WrappedKey

PURPOSES: tuple[KeyPurpose, ...] = ("data", "integrity", "index", "ticket", "receipt")
TICKET_KEY_ROTATED_AFTER_S = 86_400
TICKET_KEY_KEPT_S = 900
_MICROS = 1_000_000


class Keyring:
    """Every key of one deployment, unwrapped. Implements `Seals` of the core."""

    def __init__(self, store: KeyStore, provider: KeyProvider, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._provider = provider
        self._clock = clock
        self._entropy = entropy
        self._rows: dict[str, WrappedKey] = {}
        self._plain: dict[str, bytes] = {}
        self._ciphers: dict[str, AESGCM] = {}
        self._active: dict[KeyPurpose, str] = {}
        self._gone: set[str] = set()
        self._is_lost = False
        self.unwraps = 0

    @classmethod
    async def open(cls, store: KeyStore, provider: KeyProvider, clock: Clock, entropy: Entropy) -> Keyring:
        """The keyring of a database, made on its first start.

        Raises `ConfigurationError` when the provider's master key is not the one of this database, or when accounts
        exist without a keyring: a new key is never made over an existing database.
        """
        keyring = cls(store, provider, clock, entropy)
        rows = await store.load_keys()
        if not rows:
            if await store.count_accounts():
                raise ConfigurationError("the database has accounts but no keys: restore it from a backup")
            await store.add_keys([await keyring._make(purpose) for purpose in PURPOSES], first=True)
            rows = await store.load_keys()
        try:
            await keyring._adopt(rows)
        except Unavailable as error:
            raise ConfigurationError(f"{provider.describe()} does not open this database: {error}") from None
        return keyring

    async def check(self) -> None:
        """Ask the provider to open the active data key again; raises `Unavailable` when it does not.

        Until it does, nothing is sealed or opened: a key that was taken away must not live on in a running server.
        """
        row = self._rows[self._active["data"]]
        try:
            await self._provider.unwrap(row.wrapped, key_id=row.id)
        except Unavailable:
            self._is_lost = True
            raise
        self._is_lost = False

    async def refresh(self) -> None:
        """Read the stored keyring again: keys made or retired by another process."""
        await self._adopt(await self._store.load_keys())

    async def fetch(self, key_id: str) -> None:
        """Bring one missing key into memory; one that does not exist any more is known as gone from now on."""
        await self.refresh()
        if key_id not in self._ciphers:
            self._gone.add(key_id)

    async def rotate_ticket_key(self) -> None:
        """A new ticket key once the newest is a day old; the one before stays good for the tickets made with it."""
        newest = self._rows[self._active["ticket"]]
        if self._clock.now() - newest.created_at > TICKET_KEY_ROTATED_AFTER_S * _MICROS:
            await self._store.add_keys([await self._make("ticket")], retire=[newest.id])
            await self.refresh()

    def rows(self) -> Sequence[WrappedKey]:
        """The stored keys, for `keys status`."""
        return tuple(self._rows.values())

    @property
    def active_key_id(self) -> str:
        """The data key that new seals use."""
        return self._active["data"]

    def open_seal(self, sealed: bytes, *, field: str, account_id: str, authenticator_id: str = "") -> bytes:
        """The plaintext of a sealed value; raises `DataKeyMissing` to be called again, else `Unavailable`."""
        self._check_not_lost()
        key_id = read_key_id(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            if key_id in self._gone:
                raise Unavailable(f"data key {key_id} was destroyed or never belonged to this database")
            raise DataKeyMissing(key_id)
        return unseal(cipher, sealed, field=field, account_id=account_id, authenticator_id=authenticator_id)

    def seal(self, plaintext: bytes, *, field: str, account_id: str, authenticator_id: str = "", nonce: bytes) -> bytes:
        """Ciphertext under the active data key."""
        self._check_not_lost()
        key_id = self._active["data"]
        return seal(
            self._ciphers[key_id],
            plaintext,
            key_id=key_id,
            nonce=nonce,
            field=field,
            account_id=account_id,
            authenticator_id=authenticator_id,
        )

    def mac_keys(self) -> MacKeys:
        """The signer of documents and rows."""
        return MacKeys(self._of("integrity"), signing=self._active["integrity"])

    def index_digest(self, *parts: bytes) -> bytes:
        """The keyed digest under which something is found: an index must not tell a thief who is here."""
        return self._index.digest(*parts)

    def receipt_key(self) -> ReceiptKey:
        """The key that signs receipts."""
        return self._receipt_keys[self._active["receipt"]]

    def receipt_keys(self) -> Sequence[ReceiptKey]:
        """Every key whose receipts count."""
        return tuple(self._receipt_keys.values())

    def issue_ticket(self, ticket: Ticket) -> str:
        """The ticket as text."""
        key_id = self._active["ticket"]
        salt = self._entropy.bytes(SALT_BYTES)
        return issue_ticket(ticket, key_id=key_id, key=self._plain[key_id], salt=salt)

    def read_ticket(self, text: str) -> Ticket:
        """The ticket of a text; raises `InvalidInput`."""
        keys = self._of("ticket")
        newest_first = sorted(keys, key=lambda key_id: self._rows[key_id].created_at, reverse=True)
        # A key is good until a quarter of an hour after the next one took its place, whenever that was.
        replaced_after = self._clock.now() - TICKET_KEY_KEPT_S * _MICROS
        good = newest_first[:1] + [
            key_id
            for key_id, successor in zip(newest_first[1:], newest_first, strict=False)
            if self._rows[successor].created_at > replaced_after
        ]
        return read_ticket(text, {key_id: keys[key_id] for key_id in good})

    def _check_not_lost(self) -> None:
        if self._is_lost:
            raise Unavailable(f"{self._provider.describe()} does not open the data keys any more")

    async def _make(self, purpose: KeyPurpose) -> WrappedKey:
        key_id = f"{purpose}-{self._entropy.bytes(4).hex()}"
        wrapped = await self._provider.wrap(self._entropy.bytes(KEY_BYTES), key_id=key_id)
        return WrappedKey(key_id, purpose, "active", wrapped, self._clock.now())

    async def _adopt(self, rows: Sequence[WrappedKey]) -> None:
        for row in rows:
            # The id is bound by the wrapping, so a row whose purpose was exchanged does not pass.
            if not row.id.startswith(f"{row.purpose}-"):
                raise Unavailable(f"key {row.id} is not for {row.purpose}")
            self._rows[row.id] = row
            if row.state == "destroyed":
                self._plain.pop(row.id, None)
                self._ciphers.pop(row.id, None)
                continue
            if row.id not in self._plain:
                self._plain[row.id] = await self._provider.unwrap(row.wrapped, key_id=row.id)
                self.unwraps += 1
                if row.purpose == "data":
                    self._ciphers[row.id] = AESGCM(self._plain[row.id])
            if row.state == "active":
                self._active[row.purpose] = row.id
        if missing := [purpose for purpose in PURPOSES if purpose not in self._active]:
            raise Unavailable(f"no active key for {', '.join(missing)}")
        self._index = HmacKey(self._plain[self._active["index"]])
        self._receipt_keys = {key_id: ReceiptKey(key_id, key) for key_id, key in self._of("receipt").items()}

    def _of(self, purpose: KeyPurpose) -> dict[str, bytes]:
        return {key_id: key for key_id, key in self._plain.items() if self._rows[key_id].purpose == purpose}
