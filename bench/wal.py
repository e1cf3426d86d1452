"""How much PostgreSQL writes to its log for a verification, with the table of accounts made in one way or another.

The statement has the shape of Twofold's own, and the documents are of its types. Only the first form is what the
migrations make; the others are tried here and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import NamedTuple, Self

import asyncpg
import msgspec
from msgspec.structs import replace
from tests.postgres import PostgresServer

from bench import cluster
from bench.figures import Figure
from bench.population import account_id
from twofold.core.account import Account, AuditHead, Authenticator, KnownBrowser
from twofold.factors.totp import TotpCredential

BATCH = 64
COUNT = 10_000
#: So many different documents; each is that of many accounts.
PEOPLE = 200
MAC_BYTES = 51
#: What of a document changes with a verification, if that were kept apart.
HOT_BYTES = 150
_NOW = 1_800_000_000_000_000
_FIXED = """schema integer DEFAULT 1, state text DEFAULT 'active', factors text DEFAULT ' recovery_codes totp ',
    role text DEFAULT '', stops_at bigint DEFAULT 0, created_at bigint DEFAULT 0"""


class Form(NamedTuple):
    """A way to make the table. `is_split`: what does not change with a verification is in a table of its own."""

    name: str
    columns: str = f"{_FIXED}, version bigint, mac bytea, document bytea"
    fillfactor: int = 50
    is_split: bool = False


FORMS = (
    Form("as it is"),
    Form("other columns last", f"version bigint, document bytea, mac bytea, {_FIXED}"),
    Form("fillfactor 70", fillfactor=70),
    Form("fillfactor 90", fillfactor=90),
    Form("fillfactor 100", fillfactor=100),
    Form("what changes apart from the rest", is_split=True),
)
_MAKE = (
    "DROP SCHEMA IF EXISTS tried CASCADE",
    "CREATE SCHEMA tried",
    """CREATE TABLE tried.accounts (id text COLLATE "C" PRIMARY KEY, {columns})
    WITH (fillfactor = {fillfactor}, toast_tuple_target = 8160)""",
    "CREATE TABLE tried.events (LIKE twofold.events INCLUDING ALL)",
    "CREATE INDEX ON tried.accounts (id, state, factors, role)",
)
_FILL = """
    INSERT INTO tried.accounts (id, version, mac, document)
    SELECT 'person-' || lpad(n::text, 7, '0'), 1, $2, document
    FROM unnest($1::bytea[]) WITH ORDINALITY AS person (document, number), generate_series(0, $3::integer - 1) AS n
    WHERE n % cardinality($1) = number - 1 ORDER BY n"""
_BEGIN_CHAINS = """
    INSERT INTO tried.events
    SELECT id, 1, 0, 'authenticator.imported', substr(mac, 1, 16), repeat('p', 101), substr(mac, 1, 32)
    FROM tried.accounts ORDER BY id"""
_WRITE = """
    WITH given AS (
        SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS row (id, mac, document)
    ), held AS MATERIALIZED (
        SELECT given.* FROM tried.accounts AS account JOIN given ON account.id = given.id
        ORDER BY account.id FOR NO KEY UPDATE OF account SKIP LOCKED
    ), changed AS (
        UPDATE tried.accounts AS account SET version = version + 1, mac = held.mac, document = held.document
        FROM held WHERE account.id = held.id RETURNING account.id, account.version, account.mac
    )
    INSERT INTO tried.events (account_id, seq, at, kind, salt, payload, digest)
    SELECT id, version, 0, 'code.accepted', substr(mac, 1, 16), repeat('p', 93), substr(mac, 1, 32) FROM changed"""


def measure(*, accounts: int) -> list[Figure]:
    """Bytes for each verification: right after a checkpoint, when a page that is touched is written whole, and when
    that has been done."""
    if not cluster.is_installed():
        return []
    figures = []
    with cluster.running() as server, _Tried(server, accounts) as tried:
        for form in FORMS:
            tried.make(form)
            figures.append(Figure(f"{form.name}, right after a checkpoint", tried.write(form), "B"))
            with cluster.without_page_images(server):
                figures.append(Figure(f"{form.name}, later", tried.write(form), "B"))
    return figures


class _Tried:
    """The tables of one form after the other, in one database."""

    def __init__(self, server: PostgresServer, accounts: int) -> None:
        self._server = server
        self._runner = asyncio.Runner()
        self._accounts = accounts
        self._random = random.Random(accounts)
        self._people = [_person(number) for number in range(PEOPLE)]

    def __enter__(self) -> Self:
        url = self._server.url(self._server.create_database())
        self._connection = self._runner.run(asyncpg.connect(url))
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._connection.close())
        self._runner.close()

    def make(self, form: Form) -> None:
        """Make and fill the tables."""
        for statement in _MAKE:
            self._sql(statement.format(columns=form.columns, fillfactor=form.fillfactor))
        documents = [_encode(person, form) for person in self._people]
        self._sql(_FILL, documents, os.urandom(MAC_BYTES), self._accounts)
        self._sql(_BEGIN_CHAINS)
        for table in ("accounts", "events"):
            self._sql(f"VACUUM ANALYZE tried.{table}")

    def write(self, form: Form) -> float:
        """The bytes of each of some verifications, of accounts at random."""
        numbers = self._random.sample(range(self._accounts), COUNT)
        wal = cluster.Wal(self._server)
        for start in range(0, COUNT, BATCH):
            batch = numbers[start : start + BATCH]
            documents = [_encode(_verify(self._people[number % PEOPLE]), form) for number in batch]
            macs = [os.urandom(MAC_BYTES) for _ in batch]
            self._sql(_WRITE, [account_id(number) for number in batch], macs, documents)
        return wal.written() / COUNT

    def _sql(self, statement: str, *values: object) -> None:
        self._runner.run(self._connection.fetch(statement, *values))


def _person(number: int) -> Account:
    """Somebody with an authenticator app and recovery codes, known in three browsers."""
    return Account(
        account_id(number),
        os.urandom(8),
        _NOW,
        AuditHead(1, os.urandom(32)),
        authenticators=(
            Authenticator("au_vay22yftlx4p2o6b", "totp", "Phone", "active", _totp(os.urandom(64), 60_000_000), _NOW),
            Authenticator("au_6bvay22yftlx4p2o", "recovery_codes", "", "active", os.urandom(560), _NOW),
        ),
        known_browsers=tuple(
            KnownBrowser(os.urandom(16), _NOW, _NOW, returned=True, name="Firefox on Linux") for _ in range(3)
        ),
        sealed_profile=os.urandom(90),
    )


def _verify(person: Account) -> Account:
    """What a right code changes: the head of the chain, the last step, and the browser that it came from."""
    phone, codes = person.authenticators
    first, *others = person.known_browsers
    sealed_seed = msgspec.msgpack.decode(phone.credential, type=TotpCredential).sealed_seed
    return replace(
        person,
        head=AuditHead(person.head.seq + 1, os.urandom(32)),
        authenticators=(replace(phone, credential=_totp(sealed_seed, 60_000_001), last_used_at=_NOW + 1), codes),
        known_browsers=(replace(first, digest=os.urandom(16), seen_at=_NOW + 1), *others),
    )


def _totp(sealed_seed: bytes, step: int) -> bytes:
    return msgspec.msgpack.encode(TotpCredential(sealed_seed, last_step=step, accepted=(step,)))


def _encode(person: Account, form: Form) -> bytes:
    return os.urandom(HOT_BYTES) if form.is_split else msgspec.msgpack.encode(person)
