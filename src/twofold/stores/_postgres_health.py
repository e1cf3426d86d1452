"""Whether a PostgreSQL database may be relied on: it takes writes, its tables are ours, a commit survives a crash."""

from __future__ import annotations

from twofold.errors import Unavailable
from twofold.stores._postgres_connection import Connection
from twofold.stores._postgres_schema import check_schema

#: Anybody may ask whether we are ready, as often as he likes: all nodes together write once in so many seconds.
CHECK_WRITES_EVERY_S = 5
CHECK_TIMEOUT_S = 2.0

# The row itself tells when it was written: what was rolled back counts for nothing, and the clock may be set back.
# The first condition spares a look that writes nothing its transaction, the second one of several that come at once.
_WRITE_CHECK = """
    INSERT INTO twofold.settings AS kept (name, value)
    SELECT 'checked_at_s', floor(extract(epoch FROM now()))::bigint::text WHERE NOT EXISTS (
        SELECT FROM twofold.settings
        WHERE name = 'checked_at_s' AND abs(extract(epoch FROM now()) - value::bigint) < $1)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
        WHERE abs(excluded.value::bigint - kept.value::bigint) >= $1"""
_HOW_COMMITS_LAST = """
    SELECT current_setting('synchronous_commit'),
        current_setting('synchronous_standby_names') <> '' OR EXISTS (SELECT FROM pg_stat_replication)"""


class NotDurable(Unavailable):
    """A commit may be lost after it was acknowledged."""


async def check_health(connection: Connection) -> None:
    """Raise `Unavailable`, one sentence, or what asyncpg raises."""
    await check_schema(connection)
    # On a server that takes no writes this is an error, also when there is nothing to write.
    await connection.execute(_WRITE_CHECK, CHECK_WRITES_EVERY_S)
    await check_durable(connection)


async def check_durable(connection: Connection) -> None:
    """Raise `NotDurable` unless a commit waits until it is on the disk and, where there are replicas, on theirs."""
    synchronous_commit, has_replicas = (await connection.fetch(_HOW_COMMITS_LAST))[0]
    if synchronous_commit == "off":
        raise NotDurable("the database acknowledges commits before they are on the disk: set synchronous_commit = on")
    if synchronous_commit == "local" and has_replicas:
        raise NotDurable("the database has replicas and does not wait for them: set synchronous_commit = on")
