"""Whole deployments in a folder or in memory, and phones for them: for what stands around the core."""

import base64
from pathlib import Path
from typing import Any

from tests.kit import Phone, PlainProvider, RepeatableEntropy, SetClock

from twofold.bootstrap import Deployment, open_deployment, open_keyring
from twofold.config import Settings
from twofold.core.decision import (
    Confirmed,
    Pending,
)
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.stores.memory import MemoryStore
from twofold.verifier import Verifier


async def open_for_test(folder: Path, clock: SetClock | None = None, *, seed: int = 0, **settings: Any) -> Deployment:
    """A deployment over SQLite in this folder, with a clock that the test sets and cheap hashes.

    Opened again it needs another `seed`: no randomness comes twice.
    """
    return await open_deployment(
        Settings(data_dir=folder, **settings),
        clock=clock or SetClock(),
        entropy=RepeatableEntropy(seed),
        argon2=ONLY_FOR_TESTING,
    )


async def open_in_memory(clock: SetClock | None = None, **settings: Any) -> Deployment:
    """The same over the store in memory."""
    store, entropy, clock = MemoryStore(), RepeatableEntropy(), clock or SetClock()
    chosen = Settings(**{"key_provider": "plain:", **settings})
    keyring = await open_keyring(chosen, store, PlainProvider(), clock=clock, entropy=entropy)
    return Deployment(chosen, store, keyring, clock=clock, entropy=entropy, argon2=ONLY_FOR_TESTING)


def phone_of(pending: Pending) -> Phone:
    """The phone that has scanned the QR code of this enrollment."""
    secret = base64.b32decode(pending.secret + "=" * (-len(pending.secret) % 8))
    return Phone(pending.id, secret, pending.factor)


async def add_phone(verifier: Verifier, account_id: str, clock: SetClock, **options: Any) -> tuple[Phone, Confirmed]:
    """Enroll and confirm, and wait for the next code."""
    phone = phone_of(await verifier.enroll(account_id, **options))
    code = phone.press() if phone.factor == "hotp" else phone.code(clock.now())
    confirmed = await verifier.confirm(account_id, phone.id, code=code)
    assert isinstance(confirmed, Confirmed)
    clock.advance(30)
    return phone, confirmed
