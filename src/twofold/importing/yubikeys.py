"""YubiKeys into accounts, each key into one account alone: what was accepted in one must not be new in another."""

from __future__ import annotations

from typing import Protocol

from twofold.core.decision import Confirmed
from twofold.credentials import yubikeys_of
from twofold.engine import LOCAL, Caller
from twofold.errors import Refused
from twofold.factors.yubico_otp import YubicoKey
from twofold.ports import Accounts, Claims, Clock, SealingKeys
from twofold.verifier import Verifier

CLAIM = "yubico_otp"


class Store(Accounts, Claims, Protocol):
    """What importing needs of a database."""


class Yubikeys:
    """The YubiKeys of one deployment."""

    def __init__(self, verifier: Verifier, store: Store, keys: SealingKeys, clock: Clock) -> None:
        self._verifier = verifier
        self._store = store
        self._keys = keys
        self._clock = clock

    async def rehearse(self, account_id: str, key: YubicoKey, *, caller: Caller = LOCAL) -> None:
        """Raise what `add` would raise now, and write nothing."""
        await self._verifier.accounts.import_yubikey(account_id, key, is_rehearsal=True, caller=caller)
        holder = await self._store.find_claim(CLAIM, self._digest(key))
        if holder not in (None, account_id):
            await self._check_not_held(holder, key)

    async def add(self, account_id: str, key: YubicoKey, *, label: str = "", caller: Caller = LOCAL) -> Confirmed:
        """Make a key an authenticator of the account, active at once.

        Raises `Refused`: `not_found`, `disabled`, `forbidden`, `too_many`; `conflict` if an account has this key.
        """
        # What would be refused anyway claims nothing.
        await self.rehearse(account_id, key, caller=caller)
        digest, now = self._digest(key), self._clock.now()
        while (holder := await self._store.claim(CLAIM, digest, account_id, now)) != account_id:
            await self._check_not_held(holder, key)
            # Left behind by a key that was removed since, or by an import that was cut off.
            await self._store.release(CLAIM, digest, holder)
        confirmed = await self._verifier.accounts.import_yubikey(account_id, key, label=label, caller=caller)
        # Before the commit, somebody else may have taken this claim for one that was left behind.
        if await self._store.find_claim(CLAIM, digest) != account_id:
            await self._verifier.revoke(account_id, confirmed.id, caller=caller)
            raise Refused("conflict", "this YubiKey was imported for another account at the same moment")
        return confirmed

    async def _check_not_held(self, account_id: str, key: YubicoKey) -> None:
        """Raise `Refused` if the account has the key: a claim counts only where it is backed like this."""
        account = await self._store.load(account_id)
        if account is not None and key.public_id in yubikeys_of(account):
            raise Refused("conflict", "another account has this YubiKey already")

    def _digest(self, key: YubicoKey) -> bytes:
        return self._keys.index_digest(CLAIM.encode(), key.public_id.encode())
