"""The master keys of one deployment and the providers that hold them: one that wraps now, and those before it.

The provider of the active master key comes from the settings of this process. Any other one is opened by the address in
its row, which counts only under the integrity key: else whoever can write the database could name a provider of his.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec

from twofold.crypto.digest import MacKeys
from twofold.crypto.seal import KEY_BYTES
from twofold.errors import ConfigurationError, KeyRefused, ProviderAway, Unavailable
from twofold.key_ports import KeyProvider, WrappedKey
from twofold.keys.trace import KeyTrace, KeyUse, Operation
from twofold.ports import Clock, Entropy

#: Opens the provider at an address; a key file that is not there is made if the flag says so.
OpenProvider = Callable[[str, bool], KeyProvider]
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
        self._mac_keys: MacKeys | None = None
        self.active = ""
        #: Why one of the other master keys cannot be used here; empty if all can.
        self.fault = ""
        self.trace = KeyTrace()

    def adopt(self, rows: Sequence[WrappedKey], mac_keys: MacKeys | None) -> None:
        """Know the stored master keys. Those that are new here are tried by `try_others`."""
        self._rows = {row.id: row for row in rows if row.purpose == "master"}
        self._mac_keys = mac_keys or self._mac_keys
        active = next((row.id for row in self._rows.values() if row.state == "active"), "")
        if active and not self.active:
            self._providers[active] = self._configured
        self.active = active

    async def make(self, mac_keys: MacKeys, uri: str | None = None) -> WrappedKey:
        """The row of a new master key: that of the configured provider, or of another one at `uri`, which must hold it.

        Raises `ConfigurationError`, `Unavailable`; nothing is stored yet.
        """
        provider = self._configured if uri is None else await asyncio.to_thread(self._open, uri, True)
        uri = self._uri if uri is None else uri
        master_id = f"master-{self._entropy.bytes(4).hex()}"
        try:
            wrapped = await self._prove(provider, master_id)
        except BaseException:
            if provider is not self._configured:
                await provider.close()
            raise
        self._providers[master_id] = provider
        mac = mac_keys.sign(_MAC_FIELD, master_id.encode(), uri.encode())
        made_at = self._clock.now()
        return WrappedKey(master_id, "master", "decrypt_only", wrapped, made_at, uri=uri, mac=mac)

    async def try_others(self) -> None:
        """See whether every master key that is in use can be used here, too; `fault` says why not."""
        self.fault = ""
        for row in self._rows.values():
            if row.state == "destroyed" or row.id in self._providers:
                continue
            try:
                await self.unwrap(row.wrapped, key_id=row.id, master=row.id, reason="another master key")
            except Unavailable as error:
                self.fault = str(error)
                if (provider := self._providers.pop(row.id, None)) is not None:
                    await provider.close()

    @property
    def usable(self) -> tuple[str, ...]:
        """The ids of the master keys that can be used here."""
        return tuple(sorted(row.id for row in self._rows.values() if row.id in self._providers))

    async def wrap(self, key: bytes, *, key_id: str, reason: str, master: str = "", subject: str = "") -> bytes:
        """The key, wrapped by the active master key or by `master`."""
        master = master or self.active
        provider = await self._find(master)
        try:
            wrapping = await provider.wrap(key, key_id=key_id)
        except (KeyRefused, ProviderAway) as error:
            self._note_failure(error, key_id, master, reason, subject)
            raise
        self._note("wrapped", key_id, master, reason, request_id=wrapping.request_id, subject=subject)
        return wrapping.wrapped

    async def unwrap(
        self, wrapped: bytes, *, key_id: str, master: str, reason: str, subject: str = ""
    ) -> bytes | bytearray:
        """The key; raises `KeyRefused` or `ProviderAway`."""
        provider = await self._find(master)
        try:
            unwrapping = await provider.unwrap(wrapped, key_id=key_id)
            if len(unwrapping.key) != KEY_BYTES:
                raise KeyRefused(f"{provider.describe()} answered with something else than the key {key_id}")
        except (KeyRefused, ProviderAway) as error:
            self._note_failure(error, key_id, master, reason, subject)
            raise
        self._note("unwrapped", key_id, master, reason, request_id=unwrapping.request_id, subject=subject)
        return unwrapping.key

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

    async def _prove(self, provider: KeyProvider, master_id: str) -> bytes:
        """A random value that only the holder of this master key opens, after he has."""
        proof = self._entropy.bytes(KEY_BYTES)
        wrapping = await provider.wrap(proof, key_id=master_id)
        self._note("wrapped", master_id, master_id, "new master key", request_id=wrapping.request_id)
        unwrapping = await provider.unwrap(wrapping.wrapped, key_id=master_id)
        self._note("unwrapped", master_id, master_id, "new master key", request_id=unwrapping.request_id)
        if unwrapping.key != proof:
            raise KeyRefused(f"{provider.describe()} did not give back what it wrapped")
        return wrapping.wrapped

    async def _find(self, master: str) -> KeyProvider:
        # Keys of before there were several master keys name none; they are the configured one's.
        if not master or not self._rows:
            return self._configured
        row = self._rows.get(master)
        if row is None or row.state == "destroyed":
            raise KeyRefused(f"master key {master} was destroyed or never belonged to this database")
        if master not in self._providers:
            address = self._read_uri(row)
            try:
                # A library or a network may take its time.
                self._providers[master] = await asyncio.to_thread(self._open, address, False)
            except ConfigurationError as error:
                raise KeyRefused(str(error)) from None
        return self._providers[master]

    def _read_uri(self, row: WrappedKey) -> str:
        if self._mac_keys is None or not self._mac_keys.is_signed(
            row.mac, _MAC_FIELD, row.id.encode(), row.uri.encode()
        ):
            raise KeyRefused(f"the row of master key {row.id} was changed by something else than Twofold")
        return row.uri

    def _note(self, operation: Operation, key_id: str, master: str, reason: str, **more: str) -> None:
        self.trace.note(KeyUse(self._clock.now(), operation, key_id, master, reason, **more))

    def _note_failure(self, error: Unavailable, key_id: str, master: str, reason: str, subject: str) -> None:
        is_refusal = isinstance(error, KeyRefused)
        request_id = error.request_id if isinstance(error, KeyRefused) else ""
        operation: Operation = "refused" if is_refusal else "away"
        self._note(operation, key_id, master, reason, request_id=request_id, subject=subject, why=str(error)[:200])
