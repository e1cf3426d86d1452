"""What sealed seeds cost a verification, under shared data keys and under one for each seed; and how much slower it is
while all accounts are put under a new key.

The side without encryption keeps seeds as they are and is otherwise the same: the codes that authenticate rows stay.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tests.keys.aws import ANYBODY, REGION, client, running_moto

from bench import servers
from bench.figures import Figure, ratio
from bench.load import Load
from bench.population import Phones, account_id, fill, populate
from twofold.bootstrap import Deployment, open_deployment
from twofold.clocks import SystemClock, SystemEntropy
from twofold.config import Settings
from twofold.core.decision import Verified
from twofold.crypto.argon2 import RECOMMENDED
from twofold.crypto.seal import NONCE_BYTES
from twofold.keys.file import FileKeyProvider
from twofold.keys.keyring import Keyring
from twofold.keys.masters import Masters
from twofold.keys.pkcs11 import make_key
from twofold.keys.uri import read_uri
from twofold.stores.sqlite import SqliteStore

IN_FLIGHT = 64
#: A local KMS is slow to fill, for it is written to be complete.
ACCOUNTS = {"none": 10_000, "shared": 10_000, "file": 10_000, "SoftHSM": 10_000, "KMS server": 1_000}
#: How many verifications are measured at once: few where the sides are so near each other that the noise of a machine
#: is larger, and they take so many turns in a round.
COUNTS = {"none": 500, "shared": 500, "file": 1_000, "SoftHSM": 1_000, "KMS server": 200}
TURNS = 6
RESEALED_ACCOUNTS = 50_000
RESEALING_COUNT = 6_000
PIN = "24681357"
SOFTHSM = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/lib/libsofthsm2.so")


def measure(*, rounds: int) -> list[Figure]:
    """Medians over rounds in which all sides take turns."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "none").mkdir()
        sealing = asyncio.run(_measure_sealing(Path(folder), rounds))
    return [*sealing, *_measure_resealing(rounds)]


async def _measure_sealing(folder: Path, rounds: int) -> list[Figure]:
    rates: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        sides = {"none": await _open_unsealed(folder / "none")}
        sides["shared"] = await open_deployment(Settings(data_dir=folder / "shared"))
        sides["file"] = await _open_per_seed(folder / "file")
        for name, service in (("SoftHSM", _soft_hsm), ("KMS server", _kms)):
            if address := stack.enter_context(service(folder)):
                sides[name] = await _open_per_seed(folder / name, address)
        phones = {}
        for name, deployment in sides.items():
            stack.push_async_callback(deployment.close)
            await fill(deployment, ACCOUNTS[name])
            await deployment.begin_upkeep()
            phones[name] = Phones(ACCOUNTS[name])
            await _rate(deployment, phones[name], COUNTS[name] // 4)
        near, far = list(sides)[:2], list(sides)[2:]
        for _ in range(rounds):
            for name in [*near, *near[::-1]] * (TURNS // 2) + far:
                rates.setdefault(name, []).append(await _rate(sides[name], phones[name], COUNTS[name]))
    return [
        Figure("engine, no encryption", median(rates["none"]), "/s"),
        Figure("engine, shared data keys", median(rates["shared"]), "/s"),
        *(Figure(f"engine, a key for each seed, {name}", median(rates[name]), "/s") for name in far),
        Figure("shared data keys : no encryption", ratio(rates["shared"], rates["none"]), "x", at_least=0.9),
        *(
            Figure(f"a key for each seed, {name} : no encryption", median(rates[name]) / median(rates["none"]), "x")
            for name in far
        ),
    ]


async def _rate(deployment: Deployment, phones: Phones, count: int) -> float:
    """Verifications a second with so many callers that each wait for their answer."""
    answers = iter([phones.next_code(time.time()) for _ in range(count)])

    async def call() -> None:
        for number, code in answers:
            outcome = await deployment.verifier.verify(account_id(number), code=code)
            assert isinstance(outcome, Verified), outcome

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - began)


class UnsealedKeyring(Keyring):
    """Leaves everything as it is, behind the head of a sealed value and an empty nonce."""

    def check_usable(self) -> None:
        """Nothing is needed."""

    def seal(self, plaintext: bytes, *, nonce: bytes, **_: str) -> bytes:
        key_id = self.active_key_id.encode()
        return b"\1\1" + len(key_id).to_bytes(1) + key_id + bytes(len(nonce)) + plaintext

    def open_seal(self, sealed: bytes, **_: str) -> bytes:
        return sealed[3 + sealed[2] + NONCE_BYTES :]


async def _open_unsealed(data_dir: Path) -> Deployment:
    settings, clock, entropy = Settings(data_dir=data_dir), SystemClock(), SystemEntropy()
    provider = FileKeyProvider.open(data_dir / "twofold.key", entropy, may_create=True)
    masters = Masters(provider, settings.key_address, lambda *_: provider, clock=clock, entropy=entropy)
    store = SqliteStore.open(settings.sqlite_path)
    keyring = await UnsealedKeyring.open(store, masters, clock, entropy)
    return Deployment(settings, store, keyring, clock=clock, entropy=entropy, argon2=RECOMMENDED)


async def _open_per_seed(data_dir: Path, address: str | None = None) -> Deployment:
    return await open_deployment(Settings(data_dir=data_dir, data_keys="per-seed", key_provider=address))


@contextmanager
def _soft_hsm(folder: Path) -> Iterator[str | None]:
    """The address of a key on a token of its own; None where SoftHSM is not installed."""
    tool = shutil.which("softhsm2-util")
    library = next((path for path in SOFTHSM if Path(path).exists()), None)
    if tool is None or library is None:
        print("  without SoftHSM: softhsm2-util or its library is not there")
        yield None
        return
    tokens = folder / "tokens"
    tokens.mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
    address = f"pkcs11:token=bench;object=bench?module-path={library}"
    environment = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf"), "TWOFOLD_PKCS11_PIN": PIN}
    with _environment(environment):
        add = [tool, "--init-token", "--free", "--label", "bench", "--so-pin", "1234567", "--pin", PIN]
        subprocess.run(add, check=True, capture_output=True)
        make_key(read_uri(address), SystemEntropy(), environment)
        yield address


@contextmanager
def _kms(_: Path) -> Iterator[str]:
    """The address of a key in moto's AWS KMS, which is a process of its own."""
    credentials = {"AWS_ACCESS_KEY_ID": ANYBODY.access_key, "AWS_SECRET_ACCESS_KEY": ANYBODY.secret_key}
    with running_moto() as endpoint, closing(client(endpoint, "kms")) as kms, _environment(credentials):
        arn = kms.create_key()["KeyMetadata"]["Arn"]
        yield f"aws-kms:{arn}?region={REGION}&endpoint={endpoint}"


@contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(added)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _measure_resealing(rounds: int) -> list[Figure]:
    """Verification over HTTP, by turns alone and beside `twofold keys rotate`."""
    alone, beside, resealed = [], [], []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        key = populate(Path(folder), RESEALED_ACCOUNTS)
        server = stack.enter_context(servers.twofold(Path(folder)))
        load = stack.enter_context(Load("twofold", server.port, accounts=RESEALED_ACCOUNTS, key=key))
        load.run(count=2_000, in_flight=IN_FLIGHT)
        for _ in range(rounds):
            alone.append(load.run(count=RESEALING_COUNT, in_flight=IN_FLIGHT))
            with _rotation(Path(folder)) as rotation:
                begun, began = rotation.count(), time.perf_counter()
                beside.append(load.run(count=RESEALING_COUNT, in_flight=IN_FLIGHT))
                resealed.append((rotation.count() - begun) / (time.perf_counter() - began))
                rotation.check_runs()
    return [
        Figure("verify over HTTP, alone", median(r.rate for r in alone), "/s"),
        Figure("verify over HTTP while accounts are re-sealed", median(r.rate for r in beside), "/s"),
        Figure("accounts re-sealed meanwhile", median(resealed), "/s"),
        Figure("while re-sealing : alone", ratio([r.rate for r in beside], [r.rate for r in alone]), "x", at_least=0.7),
        Figure("p99 of verify, alone", median(r.p99_ms for r in alone), "ms"),
        Figure("p99 of verify while re-sealing", median(r.p99_ms for r in beside), "ms"),
    ]


class _Rotation:
    """`twofold keys rotate` over a database of which everything is under the key `old`."""

    def __init__(self, database: Path, process: subprocess.Popen[bytes], old: str) -> None:
        self._database = database
        self._process = process
        self._old = old

    def count(self) -> int:
        """How many accounts have nothing under the old key any more."""
        sql = "SELECT count(*) FROM accounts WHERE NOT instr(document, CAST(? AS BLOB))"
        return int(_read(self._database, sql, self._old))

    def check_runs(self) -> None:
        """It has not come to its end."""
        assert self._process.poll() is None, "there are too few accounts for this rate"


@contextmanager
def _rotation(data_dir: Path) -> Iterator[_Rotation]:
    """Everything comes under a new data key while the block runs; it has begun, and is stopped at the end."""
    database = data_dir / "twofold.db"
    old = str(_read(database, "SELECT id FROM keyring WHERE purpose = 'data' AND state = 'active'"))
    command = [sys.executable, "-m", "twofold", "keys", "rotate", "--data", "--data-dir", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            rotation = _Rotation(database, process, old)
            before = rotation.count()
            while rotation.count() == before:
                rotation.check_runs()
                time.sleep(0.05)
            yield rotation
        finally:
            process.terminate()


def _read(database: Path, sql: str, *values: str) -> Any:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, values).fetchone()[0]
