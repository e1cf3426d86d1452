"""What can be wrong with a PostgreSQL database, as a node sees it: facts are read over one connection, then judged.

`judge` and what it calls know no database, so each rule reads as one refusal. Nothing is changed anywhere.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import asyncpg
import msgspec

from twofold.config import environment
from twofold.core.clock import MICROS_PER_S
from twofold.doctor.finding import Finding, Look, check_move, read_url
from twofold.doctor.surroundings import OFFSET_MAX_S
from twofold.errors import Unavailable
from twofold.key_ports import Node
from twofold.keys.node import ALIVE_S, REPORT_EVERY_S
from twofold.stores._postgres_connection import (
    IDLE_IN_TRANSACTION_S,
    LOCK_TIMEOUT_S,
    STATEMENT_TIMEOUT_S,
    Connection,
    connect,
    without_password,
)
from twofold.stores._postgres_schema import MAJOR_MIN, check_schema
from twofold.stores._postgres_writer import BATCHES_AT_ONCE, LANES_UNBATCHED
from twofold.stores.postgres import CONNECTIONS_MAX, LIST_CONNECTIONS_MAX

#: How long a transaction may be open before rows that nobody needs any more pile up behind it.
OLD_TRANSACTION_S = 600
#: Of one process: those that read, those that list and, by BATCH, those of the writer.
CONNECTIONS_EACH = {
    "on": CONNECTIONS_MAX + LIST_CONNECTIONS_MAX + BATCHES_AT_ONCE + 1,
    "off": CONNECTIONS_MAX + LIST_CONNECTIONS_MAX + LANES_UNBATCHED,
}
#: A node reports every three seconds.
LATE_S = 3 * REPORT_EVERY_S
_VERIFYING = ("verify-ca", "verify-full")

_FACTS = """
    SELECT current_setting('server_version_num')::int / 10000 AS major,
           current_setting('server_version') AS version,
           current_setting('server_encoding') AS encoding,
           current_database()::text AS database,
           current_user::text AS role,
           pg_database_size(current_database()) AS size_bytes,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('fsync') = 'on' AS is_synced,
           current_setting('full_page_writes') = 'on' AS writes_full_pages,
           current_setting('autovacuum') = 'on' AS vacuums,
           current_setting('synchronous_standby_names') AS synchronous_names,
           (SELECT count(*) FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup') AS replicas,
           (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS synchronous_replicas,
           pg_has_role('pg_read_all_stats', 'USAGE') AS sees_others,
           (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) IS TRUE AS is_encrypted,
           coalesce(inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1', true) AS is_local,
           least(
             current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - coalesce(current_setting('reserved_connections', true)::int, 0),
             (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
             (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
           ) AS connections_max,
           ARRAY[current_setting('statement_timeout'), current_setting('lock_timeout'),
                 current_setting('idle_in_transaction_session_timeout')]::interval[] AS timeouts,
           has_database_privilege(current_database(), 'CREATE') AS may_create,
           (SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = 'twofold') AS owner,
           (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('twofold') AND relkind IN ('r', 'p')
              AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                       AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
                       AND has_schema_privilege(relnamespace, 'USAGE'))) AS closed_tables
"""
# Only transactions in this database hold its rows back; those of a standby are its own.
_OLD_TRANSACTIONS = """
    SELECT format('SELECT pg_terminate_backend(%s)', pid) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND xact_start < clock_timestamp() - make_interval(secs => $1)
    UNION ALL
    SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts
    WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => $1)
"""
#: What connecting raises, also for an address that is none.
_NO_CONNECTION = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.TargetServerAttributeNotMatched,
    OSError,
    ValueError,
    OverflowError,
)
_KEYS = "SELECT id, wrapped FROM twofold.keyring WHERE state <> 'destroyed' AND purpose <> 'master'"


class Facts(msgspec.Struct, frozen=True):
    """What the server says of itself, of this connection and of who may do what."""

    major: int
    version: str
    encoding: str
    database: str
    role: str
    size_bytes: int
    synchronous_commit: str
    is_synced: bool
    writes_full_pages: bool
    vacuums: bool
    synchronous_names: str
    replicas: int
    synchronous_replicas: int
    sees_others: bool
    is_encrypted: bool
    is_local: bool
    connections_max: int
    timeouts: tuple[timedelta, ...]
    may_create: bool
    owner: str | None
    closed_tables: int


async def look_at_postgres(url: str, *, batch: Literal["on", "off"] = "on") -> Look:
    """The findings, and what the database says of keys, messages and PUBLIC_URL."""
    try:
        connection = await connect(url)
    except _NO_CONNECTION as error:
        refusal = explain_refusal(url, error)
        return Look((refusal,), is_shared=True, fault=refusal.finding)
    try:
        return await _look(connection, url, CONNECTIONS_EACH[batch])
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        # A database that only speaks as PostgreSQL does, for instance.
        finding = f"{without_password(url)} cannot be examined: {_in_one_line(error)}"
        return Look((Finding("database", "unknown", finding),), is_shared=True, fault=finding)
    finally:
        await connection.close()


async def _look(connection: Connection, url: str, each: int) -> Look:
    asked_at = time.time()
    theirs = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
    offset_s = theirs - (asked_at + time.time()) / 2
    facts = await read_facts(connection)
    remedies = [sql for (sql,) in await connection.fetch(_OLD_TRANSACTIONS, OLD_TRANSACTION_S)]
    findings = (*judge(facts, url), check_database_clock(offset_s), check_transactions(facts, remedies))
    fault = await _find_fault(connection, facts)
    if facts.owner is None or facts.closed_tables or fault:
        return Look((check_tables(facts, fault), *findings), is_shared=True, fault=fault)
    addresses = await connection.fetch("SELECT uri FROM twofold.keyring WHERE purpose = 'master' AND state = 'active'")
    settings: dict[str, str] = dict(map(tuple, await connection.fetch("SELECT name, value FROM twofold.settings")))
    nodes = await _find_serving(connection, theirs)
    return Look(
        (
            check_tables(facts),
            *check_move(settings),
            *findings,
            check_connections(facts, len(nodes), each),
            *check_nodes(nodes, theirs),
        ),
        is_shared=True,
        public_url=read_url(settings),
        master_address=next((uri for (uri,) in addresses), None),
        keys=tuple((key_id, wrapped) for key_id, wrapped in await connection.fetch(_KEYS)),
        waiting=await connection.fetchval("SELECT count(*) FROM twofold.outbox"),
    )


async def read_facts(connection: Connection) -> Facts:
    """One look; raises what asyncpg raises."""
    (row,) = await connection.fetch(_FACTS)
    return msgspec.convert(dict(row), Facts)


async def _find_fault(connection: Connection, facts: Facts) -> str | None:
    """Why tables that are there cannot be read by this program."""
    if facts.owner is None:
        return None
    if facts.closed_tables:
        return f"{facts.role} may not write the tables of {facts.owner}"
    try:
        await check_schema(connection)
    except Unavailable as error:
        return str(error)
    return None


async def _find_serving(connection: Connection, now_s: float) -> list[Node]:
    nodes = []
    for (document,) in await connection.fetch("SELECT document FROM twofold.nodes ORDER BY id"):
        with suppress(msgspec.DecodeError):
            nodes.append(msgspec.json.decode(document, type=Node))
    return [node for node in nodes if abs(now_s - node.seen_at / MICROS_PER_S) < ALIVE_S]


def explain_refusal(url: str, error: Exception) -> Finding:
    """Why there is no connection that could write."""
    reason, mend = _in_one_line(error), "start PostgreSQL, or correct TWOFOLD_DATABASE_URL"
    if isinstance(error, ValueError | OverflowError) and not isinstance(error, asyncpg.InterfaceError):
        # Its own words may hold a part of the password.
        reason, mend = "it is no address", "set TWOFOLD_DATABASE_URL=postgresql://user:password@host/database"
    elif isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        reason = "no server there takes writes"
        mend = "name all servers, postgresql://user@one,two/database, or promote the standby: SELECT pg_promote()"
    elif isinstance(error, asyncpg.TooManyConnectionsError):
        mend = f"raise max_connections: each process of Twofold takes up to {CONNECTIONS_EACH['on']}"
    elif isinstance(error, asyncpg.InvalidCatalogNameError):
        mend = f"CREATE DATABASE {urlsplit(url).path[1:]} ENCODING 'UTF8' TEMPLATE template0"
    elif isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        mend = "correct user and password in TWOFOLD_DATABASE_URL, or let them in with a line in pg_hba.conf"
    return Finding("database", "problem", f"{without_password(url)} cannot be used: {reason}", mend)


def judge(facts: Facts, url: str) -> Iterator[Finding]:
    """What versions and settings decide."""
    yield check_server(facts)
    yield check_durability(facts)
    yield check_replicas(facts)
    yield check_transport(facts, url)
    yield check_timeouts(facts)
    size = f"the database takes {facts.size_bytes // (1 << 20):,} MiB"
    yield Finding("disk", "unknown", f"{size}; how much room is left is seen on the database server alone")


def check_server(facts: Facts) -> Finding:
    """A version that is known, an encoding that holds every name, and old rows that are cleared away."""
    if facts.major < MAJOR_MIN:
        return Finding(
            "server", "problem", f"PostgreSQL {facts.version} is too old", f"upgrade to {MAJOR_MIN} or later"
        )
    if facts.encoding != "UTF8":
        mend = "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and move there"
        return Finding("server", "problem", f"the encoding {facts.encoding} cannot hold every name", mend)
    if not facts.vacuums:
        mend = "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()"
        return Finding("server", "warning", "autovacuum is off: the tables grow with each sign-in", mend)
    return Finding("server", "ok", f"PostgreSQL {facts.version}")


def check_tables(facts: Facts, fault: str | None = None) -> Finding:
    """Tables that this program knows and may write, or the right to make them."""
    if facts.owner is None and not facts.may_create:
        mend = f"GRANT CREATE ON DATABASE {facts.database} TO {facts.role}"
        return Finding("database", "problem", f"{facts.role} may not make tables in {facts.database}", mend)
    if facts.owner is None:
        return Finding("database", "ok", f"{facts.database} takes writes; the first start makes the tables")
    if fault is not None:
        newer = "run the newest Twofold on every node; its first start brings the tables up to date"
        return Finding(
            "database", "problem", fault, f"GRANT {facts.owner} TO {facts.role}" if facts.closed_tables else newer
        )
    return Finding("database", "ok", f"{facts.database} takes writes, and its tables are those of this version")


def check_durability(facts: Facts) -> Finding:
    """What is answered survives a power cut and, where there are replicas, the loss of the server."""
    for name, is_on in (("fsync", facts.is_synced), ("full_page_writes", facts.writes_full_pages)):
        if not is_on:
            mend = f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"
            return Finding("durability", "problem", f"{name} is off: a power cut may destroy everything", mend)
    mend = f"ALTER ROLE {facts.role} IN DATABASE {facts.database} SET synchronous_commit = on"
    if facts.synchronous_commit == "off":
        finding = "synchronous_commit is off: after a crash, used codes may be good again"
        return Finding("durability", "problem", finding, mend)
    if facts.synchronous_commit == "local" and (facts.synchronous_names or facts.replicas):
        finding = "synchronous_commit is local: the standby that takes over may not know which codes were used"
        return Finding("durability", "problem", finding, mend)
    return Finding("durability", "ok", f"synchronous_commit={facts.synchronous_commit}, fsync, full_page_writes")


def check_replicas(facts: Facts) -> Finding:
    """A standby that takes over knows all that was answered."""
    names, replicas = facts.synchronous_names, facts.replicas
    if names and (not replicas or (facts.sees_others and not facts.synchronous_replicas)):
        finding = f"none of synchronous_standby_names ({names}) is connected: every write waits"
        mend = "start the standby, or ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()"
        return Finding("replicas", "problem", finding, mend)
    if replicas and not names:
        finding = f"{replicas} follow, none synchronously: after a fail-over, used codes may be good again"
        mend = "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'; SELECT pg_reload_conf()"
        return Finding("replicas", "warning", finding, mend)
    if not replicas:
        return Finding("replicas", "ok", "there are none: only a backup is left when this server is lost")
    return Finding("replicas", "ok", f"{replicas} follow; synchronous_standby_names is {names}")


def check_transport(facts: Facts, url: str) -> Finding:
    """Nobody between here and the server reads along, or takes its place."""
    if facts.is_local:
        return Finding("transport", "ok", "the database is on this machine")
    given = parse_qs(urlsplit(url).query).get("sslmode")
    mode = given[-1] if given else environment().get("PGSSLMODE", "prefer")
    mend = "add ?sslmode=verify-full&sslrootcert=/path/to/ca.pem to TWOFOLD_DATABASE_URL"
    if not facts.is_encrypted:
        return Finding("transport", "warning", "what the database is told crosses the network in clear", mend)
    if mode not in _VERIFYING:
        return Finding("transport", "warning", f"TLS with sslmode={mode}: whoever answers is believed", mend)
    return Finding("transport", "ok", f"TLS with sslmode={mode}")


def check_timeouts(facts: Facts) -> Finding:
    """The limits that come with each connection are in force: a pooler may have dropped them."""
    wanted = {
        "statement_timeout": STATEMENT_TIMEOUT_S,
        "lock_timeout": LOCK_TIMEOUT_S,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_S,
    }
    dropped = [
        f"ALTER ROLE {facts.role} SET {name} = '{seconds * 1000:.0f}ms'"
        for (name, seconds), found in zip(wanted.items(), facts.timeouts, strict=True)
        if found.total_seconds() != seconds
    ]
    if dropped:
        finding = "a pooler drops our time limits: a node that hangs would hold up the others"
        return Finding("timeouts", "warning", finding, "; ".join(dropped))
    return Finding("timeouts", "ok", "statements, locks and idle transactions are limited")


def check_database_clock(offset_s: float) -> Finding:
    """The database's clock against this machine's."""
    where = f"the database is {abs(offset_s):.3f} s {'ahead of' if offset_s > 0 else 'behind'} this machine"
    if abs(offset_s) > OFFSET_MAX_S:
        return Finding("db clock", "warning", where, "timedatectl set-ntp true, on both machines")
    return Finding("db clock", "ok", where)


def check_connections(facts: Facts, processes: int, each: int) -> Finding:
    """Room for the connections of all processes that serve, and of one more while one takes the place of another."""
    needed = (processes + 1) * each
    finding = f"{processes} processes and one more take up to {needed}, and {facts.connections_max} may be open"
    if needed > facts.connections_max:
        mend = f"ALTER SYSTEM SET max_connections = {needed + 20} and restart PostgreSQL, or run fewer workers"
        return Finding("connections", "warning", finding, mend)
    return Finding("connections", "ok", finding)


def check_transactions(facts: Facts, remedies: Sequence[str]) -> Finding:
    """No transaction is open for so long that rows nobody needs any more pile up. `remedies`: what ends each."""
    if remedies:
        finding = f"{len(remedies)} transactions are open for {OLD_TRANSACTION_S // 60} minutes and more: tables grow"
        return Finding("vacuum", "warning", finding, "; ".join(remedies))
    if not facts.sees_others:
        finding = (
            f"no transaction of {facts.role} holds it back; GRANT pg_read_all_stats TO {facts.role} shows the others"
        )
        return Finding("vacuum", "ok", finding)
    return Finding("vacuum", "ok", "no transaction holds it back")


def check_nodes(serving: Sequence[Node], now_s: float) -> Iterator[Finding]:
    """Who serves now: each can use the master key, and all go by one time."""
    for node in serving:
        age_s = now_s - node.seen_at / MICROS_PER_S
        if node.fault:
            finding = f"{node.host} cannot use the master key: {node.fault}"
            yield Finding("nodes", "problem", finding, f"twofold doctor, on {node.host}")
        if age_s < -OFFSET_MAX_S:
            finding = f"the clock of {node.host} is {-age_s:.0f} s ahead of the database's"
            yield Finding("nodes", "warning", finding, f"timedatectl set-ntp true, on {node.host}")
        if age_s > LATE_S:
            finding = f"{node.host} was last heard {age_s:.0f} s ago: it died, hangs, or its clock is behind"
            yield Finding("nodes", "warning", finding, f"systemctl status twofold; timedatectl; both on {node.host}")
    hosts = Counter(node.host for node in serving)
    told = ", ".join(f"{host} ({processes})" for host, processes in sorted(hosts.items()))
    yield Finding("nodes", "ok", f"serving, each with its processes: {told}" if told else "none serves now")


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
