"""Passkeys that stop working when the address of this site changes: how many, and of whom, before it is too late.

Twofold's own passkeys are for the host of PUBLIC_URL, and for no other one, not even for a name below it. The host that
was in force last is kept with the data. Who is asked, and how, is the business of the start and of the set-up page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

import msgspec

from twofold.core.account import Account
from twofold.errors import TamperedRecord
from twofold.factors.webauthn import Webauthn
from twofold.ports import AccountPages, SealingKeys
from twofold.relying_party import find_own
from twofold.setup_link import SettingStore, put_rp_id, read_rp_id

_PAGE = 100
_WEBAUTHN = Webauthn()


class LostPasskeys(msgspec.Struct, frozen=True):
    """Active passkeys of this rp_id, and the people who have them."""

    rp_id: str
    passkeys: int
    people: int

    def describe(self) -> str:
        """The beginning of a line for the operator: "12 passkeys of 9 people were made for a.example"."""
        people = "1 person" if self.people == 1 else f"{self.people} people"
        if self.passkeys == 1:
            return f"1 passkey of {people} was made for {self.rp_id}"
        return f"{self.passkeys} passkeys of {people} were made for {self.rp_id}"


class PasskeyStore(SettingStore, AccountPages, Protocol):
    """Where the people and the settings are."""

    async def load(self, account_id: str) -> Account | None:
        """The account; raises `TamperedRecord`."""
        ...


async def find_lost(store: PasskeyStore, keys: SealingKeys, public_url: str) -> LostPasskeys | None:
    """The passkeys that work at the address in force last and would not at this one; None if there are none.

    The people are looked through only where the host differs: 20 microseconds for each who has a passkey.
    """
    before = await read_rp_id(store, keys)
    if not before or before == _rp_id_of(public_url):
        return None
    counts = [count async for account in _people(store) if (count := _count(account, before))]
    return LostPasskeys(before, sum(counts), len(counts)) if counts else None


async def settle(store: PasskeyStore, keys: SealingKeys, public_url: str) -> None:
    """From now on this address is the one in force; what is lost by it was agreed to."""
    if await read_rp_id(store, keys) != _rp_id_of(public_url):
        await put_rp_id(store, keys, _rp_id_of(public_url))


def _rp_id_of(public_url: str) -> str:
    own = find_own(public_url)
    return own.id if own else ""


async def _people(store: PasskeyStore) -> AsyncIterator[Account]:
    after = ""
    while rows := await store.page_accounts(after=after, factor=_WEBAUTHN.name, limit=_PAGE):
        after = rows[-1].account_id
        for row in rows:
            # Whoever's row was changed from outside cannot sign in anyway.
            with suppress(TamperedRecord):
                if account := await store.load(row.account_id):
                    yield account


def _count(account: Account, rp_id: str) -> int:
    own = (a for a in account.authenticators if a.factor == _WEBAUTHN.name and a.state == "active")
    return sum(_WEBAUTHN.read_credential(authenticator.credential).rp_id == rp_id for authenticator in own)
