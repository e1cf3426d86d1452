"""Where a keyring is opened in tests: one store, one clock, and providers by their address."""

import msgspec
from tests.kit import PlainProvider, RepeatableEntropy, SetClock

from twofold.errors import ConfigurationError
from twofold.key_ports import KeyProvider, WrappedKey
from twofold.keys.keyring import Keyring, Mode
from twofold.keys.masters import Masters
from twofold.stores.memory import MemoryStore

HOME = "plain:home"


class Shelf(MemoryStore):
    """A key store whose rows a test may change, and whose number of accounts it may set."""

    accounts = 0

    async def count_accounts(self) -> int:
        return self.accounts

    def change(self, key_id: str, **changes: object) -> None:
        self._keys[key_id] = msgspec.structs.replace(self._keys[key_id], **changes)


class Place:
    """One database and the providers that are within reach, by address; `configured` is that of the settings."""

    def __init__(self) -> None:
        self.store, self.clock, self.entropy = Shelf(), SetClock(), RepeatableEntropy()
        self.provider = PlainProvider("home")
        self.providers: dict[str, KeyProvider] = {HOME: self.provider}
        self.configured = HOME
        self.opened: list[str] = []

    def masters(self) -> Masters:
        return Masters(
            self.providers[self.configured], self.configured, self.open_another, clock=self.clock, entropy=self.entropy
        )

    def open_another(self, address: str, may_create: bool) -> KeyProvider:
        self.opened.append(address)
        if address not in self.providers:
            raise ConfigurationError(f"KEY_PROVIDER {address}: cannot be opened here")
        return self.providers[address]

    async def open(self, mode: Mode = "shared") -> Keyring:
        return await Keyring.open(self.store, self.masters(), self.clock, self.entropy, mode=mode)

    async def row(self, key_id: str) -> WrappedKey:
        return next(row for row in await self.store.load_keys() if row.id == key_id)

    async def rows(self, purpose: str) -> list[WrappedKey]:
        return [row for row in await self.store.load_keys() if row.purpose == purpose]
