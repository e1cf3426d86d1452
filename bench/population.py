"""Databases full of accounts, written in bulk: real documents, seals, codes and chains, without a commit for each.

The engine would take minutes for a million. Rows come from the same pure functions that every store uses, so a server
cannot tell these accounts from others. Every account has one TOTP authenticator whose seed follows from its number.
"""

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec

from twofold.bootstrap import Deployment, open_deployment
from twofold.clocks import SystemEntropy
from twofold.config import Settings
from twofold.core.account import Account, new_account
from twofold.core.attempt import Call
from twofold.core.codec import Codec
from twofold.core.decision import Decision
from twofold.core.enrollment import NewCredential, import_authenticator
from twofold.core.entropy import SEED_BYTES, Seed
from twofold.core.settlement import Settlement, Standing, settle
from twofold.credentials import Credentials, OtpParameters
from twofold.crypto.otp import code_at, step_at
from twofold.errors import DataKeyMissing
from twofold.hash_pool import HashPool
from twofold.keys.keyring import Keyring
from twofold.stores._fold import summarize
from twofold.stores._sqlite_file import connect

STEP_S = 30
ROWS_PER_COMMIT = 20_000
ACCOUNT_COLUMNS = ("id", "version", "schema", "document", "mac", "state", "factors", "role", "stops_at", "created_at")
_INSERT_ACCOUNT = f"""
    INSERT INTO accounts ({", ".join(ACCOUNT_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""  # noqa: S608 - above


def account_id(number: int) -> str:
    """The id of an account."""
    return f"person-{number:07}"


def seed_of(number: int) -> bytes:
    """The seed of an account's authenticator."""
    return hashlib.sha256(b"twofold bench %d" % number).digest()[:20]


def right_code(number: int, step: int) -> str:
    """What the phone of this account shows in this step."""
    return code_at(seed_of(number), step)


class Phones:
    """The phones of all accounts, in a shuffled order: each code is right when it is asked for, and asked for once."""

    def __init__(self, accounts: int, *, stride: int = 1) -> None:
        """Of every account, or of one in `stride` (where the others are only there to fill the tables)."""
        numbers = range(0, accounts, stride)
        self._turns = itertools.cycle(random.Random(accounts).sample(numbers, len(numbers)))
        self._steps: dict[int, int] = {}
        self._shown: set[tuple[int, str]] = set()

    def next_code(self, now_s: float) -> tuple[int, str]:
        """An account's number and a code that stays right for half a minute at least."""
        number, step_now = next(self._turns), step_at(now_s, STEP_S)
        step = max(step_now, self._steps.get(number, 0) + 1)
        # The next step's code is right as well, so an account has two codes at a time.
        assert step <= step_now + 1, "there are too few accounts for this rate"
        self._steps[number] = step
        shown = number, right_code(number, step)
        if shown in self._shown:
            # Now and then two steps share a code, which is then good for one of them only.
            return self.next_code(now_s)
        self._shown.add(shown)
        return shown


def populate(data_dir: Path, accounts: int) -> str:
    """Make a database with that many accounts in `data_dir`; returns an API key for it."""
    return asyncio.run(_populate(data_dir, accounts))


async def _populate(data_dir: Path, accounts: int) -> str:
    deployment = await open_deployment(Settings(data_dir=data_dir))
    try:
        _, key = await deployment.applications.create("bench")
        await fill(deployment, accounts)
    finally:
        await deployment.close()
    return key


async def fill(deployment: Deployment, accounts: int) -> None:
    """Put that many accounts into the database of a deployment, which has nothing else to do meanwhile."""
    settlements = settle_all(deployment, range(accounts))
    # Nothing that a crash could cost.
    connection = connect(deployment.settings.sqlite_path, cache_kib=64 * 1024)
    connection.executescript("PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 4000")
    # Gathered before BEGIN: for a new block of uses the deployment writes, too.
    while batch := [settled async for settled in _take(settlements, ROWS_PER_COMMIT)]:
        events = [msgspec.structs.astuple(event) for settlement in batch for event in settlement.events]
        connection.execute("BEGIN")
        connection.executemany(_INSERT_ACCOUNT, map(row_values, batch))
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", events)
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


async def _take(settlements: AsyncIterator[Settlement], count: int) -> AsyncIterator[Settlement]:
    for _ in range(count):
        try:
            yield await anext(settlements)
        except StopAsyncIteration:
            return


async def settle_all(deployment: Deployment, numbers: Iterable[int]) -> AsyncIterator[Settlement]:
    """What making each of these accounts writes."""
    codec, entropy, pool = Codec(deployment.keyring.mac_keys()), SystemEntropy(), HashPool(1)
    credentials = Credentials(deployment.keyring, entropy, pool, issuer="Bench")
    now = time.time_ns() // 1000
    for number in numbers:
        name = account_id(number)
        call = Call(now, Seed(entropy.bytes(SEED_BYTES)), is_admin=True)
        fresh = await _seal(deployment.keyring, credentials, name, number)
        imported = import_authenticator(new_account(name, call.seed, call.now), fresh, call)
        yield _settle(name, imported, codec)


async def _seal(keyring: Keyring, credentials: Credentials, name: str, number: int) -> NewCredential:
    """The credential of an account's authenticator, as the engine has it sealed: asking for the key that it needs."""
    authenticator_id, lent = credentials.new_id(), list[DataKeyMissing]()
    while True:
        try:
            fresh = credentials.new_otp(name, authenticator_id, "totp", OtpParameters(seed_of(number)))
        except DataKeyMissing as missing:
            await keyring.fetch(missing)
            lent += [missing] if missing.seed is not None else []
        else:
            keyring.drop(lent)
            return fresh


def _settle(name: str, decision: Decision, codec: Codec) -> Settlement:
    return settle(Standing(name, 0, None), lambda _: decision, codec)


def row_values(settlement: Settlement) -> tuple[object, ...]:
    """The row of an account, in the order of `ACCOUNT_COLUMNS`."""
    row, state = settlement.row, settlement.standing.state
    assert row is not None
    assert isinstance(state, Account)
    columns = (row.account_id, row.version, row.schema, row.document, row.mac)
    return (*columns, *summarize(state), state.created_at)
