"""The master keys of one deployment and the providers that hold them: one that wraps now, and those before it.

The provider of the active master key comes from the settings of this process. Any other one is opened by the address in
its row, which counts only under the integrity key: else whoever can write the database could name a provider of his.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from twofold.crypto.digest import MacKeys
from twofold.crypto.seal import KEY_BYTES
from twofold.errors import (
    ConfigurationError,
    DatabaseAway,
    KeyRefused,
    OutcomeUnknown,
    ProviderAway,
    Refused,
    Unavailable,
)
from twofold.key_ports import KeyProvider, WrappedKey
from twofold.keys.once import Once
from twofold.keys.trace import KeyTrace, KeyUse
from twofold.ports import Clock, Entropy

#: Opens the provider at an address; a key file that is not there is made if the flag says so.
OpenProvider = Callable[[str, bool], KeyProvider]
WHY_LENGTH = 200

log: logging.Logger = logging.getLogger("twofold")
_MAC_FIELD = b"twofold/1|master"


class Masters:
    """Wraps and unwraps with the right provider, and notes each use. `uri` is the address of the configured one."""

    def __init__(
        self, configured: KeyProvider, uri: str, open_provider: OpenProvider, *, clock: Clock, entropy: Entropy
    ) -> None:
        self._configured = configured
        self._uri = uri
        self._open = open_provider
        self._clock = clock
        self._entropy = entropy
        self._rows: Mapping[str, WrappedKey] = {}
        self._providers: dict[str, KeyProvider] = {}
        self._away: set[str] = set()
        self._mac_keys: MacKeys | None = None
        self.active: str = ""
        #: Why one of the other master keys cannot be used here; empty if all can.
        self.fault: str = ""
        self.trace: KeyTrace = KeyTrace()
        self._once = Once()

    def adopt(self, rows: Sequence[WrappedKey], mac_keys: MacKeys | None) -> None:
        """Know the stored master keys. Those that are new here are tried by `try_others`."""
        self._rows = {row.id: row for row in rows if row.purpose == "master"}
        self._mac_keys = mac_keys or self._mac_keys
        active = next((row.id for row in self._rows.values() if row.state == "active"), "")
        if active and not self.active:
            self._providers[active] = self._configured
        if self.active not in ("", active):
            where = self._rows[active].uri
            log.warning("the keys are under %s now: set KEY_PROVIDER to it before the next start", where)
        self.active = active

    def begin_again(self) -> None:
        """Know nothing any more: of two first starts at once, one finds the keys of the other."""
        self._rows, self._mac_keys = {}, None
        self.active = ""
        self._providers.clear()

    async def make(self, mac_keys: MacKeys, uri: str | None = None) -> WrappedKey:
        """The row of a new master key: that of the configured provider, or of another one at `uri`, which must hold it.

        Raises `ConfigurationError`, `Unavailable`; nothing is stored yet.
        """
        provider = self._configured if uri is None else await asyncio.to_thread(self._open, uri, True)
        uri = self._uri if uri is None else uri
        master_id = f"master-{self._entropy.bytes(4).hex()}"
        proof = self._entropy.bytes(KEY_BYTES)
        try:
            await self._check_is_new(provider, uri)
            wrapped = await self._wrap(provider, proof, KeyUse(0, "wrapped", master_id, master_id, "new master key"))
        except BaseException:
            if provider is not self._configured:
                await provider.close()
            raise
        self._providers[master_id] = provider
        mac = mac_keys.sign(_MAC_FIELD, master_id.encode(), uri.encode())
        made_at = self._clock.now()
        return WrappedKey(master_id, "master", "decrypt_only", wrapped, made_at, uri=uri, mac=mac)

    async def _check_is_new(self, provider: KeyProvider, uri: str) -> None:
        """Raise `Refused` if there is a row of this master key already: one that was retired may be in other hands, and
        is destroyed one day."""
        for row in self._rows.values():
            is_taken = row.state == "active" or (row.state == "decrypt_only" and row.retired_at > 0)
            if is_taken and await self.is_held_by(provider, row):
                raise Refused(
                    "conflict", f"{uri} holds {row.id}, which is in use or was retired: take another master key"
                )

    async def is_held_by(self, provider: KeyProvider, row: WrappedKey) -> bool:
        """Whether the provider holds the master key of this row."""
        try:
            await self._unwrap(provider, row.wrapped, KeyUse(0, "unwrapped", row.id, row.id, "is it this master key"))
        except KeyRefused:
            return False
        return True

    async def is_at_its_address(self, row: WrappedKey) -> bool:
        """Whether the master key of this row is where the row says."""
        try:
            return await self.is_held_by(await self._find(row.id), row)
        except Unavailable:
            return False

    async def try_others(self) -> None:
        """See whether every master key that is in use can be used here, too; `fault` says why not."""
        before, self.fault = self.fault, ""
        for row in self._rows.values():
            if row.state == "destroyed":
                await self._let_go(row.id)
                continue
            if row.id in self._providers and row.id not in self._away:
                continue
            try:
                await self.unwrap(row.wrapped, key_id=row.id, master=row.id, reason="another master key")
                self._away.discard(row.id)
            except ProviderAway as away:
                self._away.add(row.id)  # the provider stays, with its patience
                self.fault = str(away)
            except Unavailable as error:
                what = f"the retired master key {row.id} cannot be used here" if row.retired_at else ""
                self.fault = f"{what}: {error}" if what else str(error)
                await self._let_go(row.id)

        if self.fault not in ("", before):
            log.warning("key provider: %s", self.fault)

    @property
    def usable(self) -> tuple[str, ...]:
        """The ids of the master keys that can be used here."""
        here = self._providers.keys() - self._away
        return tuple(sorted(i for i, row in self._rows.items() if row.state != "destroyed" and i in here))

    async def wrap(self, key: bytes, *, key_id: str, reason: str, master: str = "", subject: str = "") -> bytes:
        """The key, wrapped by the active master key or by `master`, and opened again before anybody relies on it."""
        master = master or self.active
        return await self._wrap(
            await self._find(master), key, KeyUse(0, "wrapped", key_id, master, reason, "", subject)
        )

    async def unwrap(
        self, wrapped: bytes, *, key_id: str, master: str, reason: str, subject: str = ""
    ) -> bytes | bytearray:
        """The key; raises `KeyRefused` or `ProviderAway`."""
        use = KeyUse(0, "unwrapped", key_id, master, reason, "", subject)
        return await self._unwrap(await self._find(master), wrapped, use)

    async def watch(self) -> None:
        """Whether the active master key is still there, as far as that can be seen without using it."""
        await (await self._find(self.active)).watch()

    def describe(self) -> str:
        """The provider of the active master key."""
        return self._providers.get(self.active, self._configured).describe()

    def find_other_address(self) -> str:
        """Where the active master key is, as its row says, if that is not where the settings say: for a message alone,
        because anybody may have written the row."""
        row = self._rows.get(self.active)
        return row.uri if row and row.uri != self._uri else ""

    def explain(self, error: Unavailable) -> str:
        """Why the keys of a database cannot be used, in one line."""
        if isinstance(error, DatabaseAway | OutcomeUnknown):
            return str(error)
        address = self.find_other_address()
        hint = f"; {moved_to(address)}" if address else ""
        return f"{self.describe()} does not open this database: {error}{hint}"

    def corrected(self, mac_keys: MacKeys) -> tuple[WrappedKey, WrappedKey] | None:
        """The change of the active row after the key was moved to where the settings say; None if it is up to date."""
        row = self._rows[self.active]
        if self._providers.get(row.id) is not self._configured or row.uri == self._uri:
            return None
        return row, self.signed(msgspec.structs.replace(row, uri=self._uri), mac_keys)

    def signed(self, row: WrappedKey, mac_keys: MacKeys) -> WrappedKey:
        """The row of a master key under a code of these keys. Raises `KeyRefused` if it was not under one of ours."""
        if row.uri != self._uri:
            self._read_uri(row)
        return msgspec.structs.replace(row, mac=mac_keys.sign(_MAC_FIELD, row.id.encode(), row.uri.encode()))

    async def close(self) -> None:
        """Let every provider go."""
        for provider in {id(p): p for p in (self._configured, *self._providers.values())}.values():
            await provider.close()

    async def _wrap(self, provider: KeyProvider, key: bytes, use: KeyUse) -> bytes:
        with self._noting(use):
            wrapping = await provider.wrap(key, key_id=use.key_id)
            self._note(use, request_id=wrapping.request_id)
        opened = await self._unwrap(provider, wrapping.wrapped, msgspec.structs.replace(use, operation="unwrapped"))
        if opened != key:
            raise KeyRefused(f"{provider.describe()} did not give back the key {use.key_id} that it wrapped")
        return wrapping.wrapped

    async def _unwrap(self, provider: KeyProvider, wrapped: bytes, use: KeyUse) -> bytes | bytearray:
        with self._noting(use):
            unwrapping = await provider.unwrap(wrapped, key_id=use.key_id)
            if len(unwrapping.key) != KEY_BYTES:
                raise KeyRefused(f"{provider.describe()} answered with something else than the key {use.key_id}")
            self._note(use, request_id=unwrapping.request_id)
        return unwrapping.key

    @contextmanager
    def _noting(self, use: KeyUse) -> Iterator[None]:
        """Note a failure in place of the use."""
        try:
            yield
        except KeyRefused as refused:
            self._note(use, operation="refused", request_id=refused.request_id, why=str(refused)[:WHY_LENGTH])
            raise
        except ProviderAway as away:
            self._note(use, operation="away", why=str(away)[:WHY_LENGTH])
            raise

    async def _let_go(self, master: str) -> None:
        provider = self._providers.pop(master, None)
        if provider is not None and provider is not self._configured:
            await provider.close()

    async def _find(self, master: str) -> KeyProvider:
        # Keys of before there were several master keys name none; they are the configured one's.
        if not master or not self._rows:
            return self._configured
        row = self._rows.get(master)
        if row is None or row.state == "destroyed":
            raise KeyRefused(f"master key {master} was destroyed or never belonged to this database")
        if master not in self._providers:
            await self._once.do(master, lambda: self._open_other(row))
        return self._providers[master]

    async def _open_other(self, row: WrappedKey) -> None:
        address = self._read_uri(row)
        try:
            # A library or a network may take its time.
            self._providers[row.id] = await asyncio.to_thread(self._open, address, False)
        except ConfigurationError as error:
            raise KeyRefused(str(error)) from None

    def _read_uri(self, row: WrappedKey) -> str:
        if not self.is_ours(row):
            raise KeyRefused(
                f"the row of master key {row.id} was changed by something else than Twofold, or this process slept "
                "through a rotation and has to be started again"
            )
        return row.uri

    def is_ours(self, row: WrappedKey) -> bool:
        """Whether Twofold wrote the address in the row of a master key."""
        parts = (_MAC_FIELD, row.id.encode(), row.uri.encode())
        return self._mac_keys is not None and self._mac_keys.is_signed(row.mac, *parts)

    def _note(self, use: KeyUse, **changes: str) -> None:
        self.trace.note(msgspec.structs.replace(use, at=self._clock.now(), **changes))


def moved_to(address: str) -> str:
    """What to tell somebody whose settings lead elsewhere than the database. It is no proof: whoever can write the
    database can put an address of his there."""
    return f"the database says that they are under {address}: if you know that as yours, set KEY_PROVIDER to it"
