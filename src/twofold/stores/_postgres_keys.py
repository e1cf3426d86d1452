"""The keyring and the nodes in PostgreSQL: each function is one step over one connection.

Whoever locks several keys does so in order of their ids, so no two of these wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from twofold.key_ports import Node, WrappedKey
from twofold.stores._postgres_connection import Connection

#: Held while a first keyring is made, of all that use the database ("2fkr"): of several first starts one makes it.
FIRST_KEYRING_LOCK = 0x32666B72

_COLUMNS = "id, purpose, state, wrapped, created_at, master, uses, retired_at, empty_since, unwrapped_at, uri, mac"
LOAD_KEYS = f"SELECT {_COLUMNS} FROM twofold.keyring ORDER BY created_at, position"  # noqa: S608 - our own columns
_INSERT = f"""
    INSERT INTO twofold.keyring ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    """  # noqa: S608 - as above
_INSERT_IF_NEW = f"{_INSERT} ON CONFLICT (id) DO NOTHING RETURNING id"
# What the change stands on, and what it may set: `uses` and `unwrapped_at` go their own way.
_CHANGE = """
    UPDATE twofold.keyring
    SET state = $1, wrapped = $2, master = $3, retired_at = $4, empty_since = $5, uri = $6, mac = $7
    WHERE id = $8 AND state = $9 AND wrapped = $10 AND master = $11 AND retired_at = $12 AND empty_since = $13
        AND uri = $14
    RETURNING id"""
RESERVE_USES = """
    UPDATE twofold.keyring SET uses = uses + $2
    WHERE id = $1 AND state = 'active' AND uses + $2 <= $3 RETURNING uses"""
_NOTE_UNWRAP = "UPDATE twofold.keyring SET unwrapped_at = $2 WHERE id = $1 AND unwrapped_at < $2"
_FORGET_NODES = "DELETE FROM twofold.nodes WHERE seen_at < $1"
_PUT_NODE = """
    INSERT INTO twofold.nodes (id, seen_at, document) VALUES ($1, $2, $3)
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, document = excluded.document
    RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"""


class _NotAsExpected(Exception):
    """A key is another one than the change stands on."""


async def add_keys(connection: Connection, keys: Sequence[WrappedKey], *, first: bool) -> bool:
    """New rows, all or none. `first`: only into an empty keyring, else False."""
    async with connection.transaction():
        if first:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", FIRST_KEYRING_LOCK)
            if await connection.fetchval("SELECT EXISTS (SELECT FROM twofold.keyring)"):
                return False
        await connection.executemany(_INSERT, [msgspec.structs.astuple(key) for key in keys])
    return True


async def change_keys(connection: Connection, changes: Sequence[tuple[WrappedKey | None, WrappedKey]]) -> bool:
    """All changes or, when one row is not as expected, none of them and False."""
    with suppress(_NotAsExpected):
        async with connection.transaction():
            for before, after in sorted(changes, key=lambda change: change[1].id):
                if not await _change_key(connection, before, after):
                    raise _NotAsExpected
        return True
    return False


async def _change_key(connection: Connection, before: WrappedKey | None, after: WrappedKey) -> object:
    """Something, if there was something to change. Whoever came first is waited for, and the row looked at anew."""
    if before is None:
        return await connection.fetchval(_INSERT_IF_NEW, *msgspec.structs.astuple(after))
    set_to = (after.state, after.wrapped, after.master, after.retired_at, after.empty_since, after.uri)
    expected = (before.state, before.wrapped, before.master, before.retired_at, before.empty_since, before.uri)
    return await connection.fetchval(_CHANGE, *set_to, after.mac, before.id, *expected)


async def note_unwraps(connection: Connection, at: Mapping[str, int]) -> None:
    """When keys were last unwrapped."""
    await connection.executemany(_NOTE_UNWRAP, sorted(at.items()))


async def put_node(connection: Connection, node: Node, *, forget_before: int) -> int:
    """Two statements that commit by themselves: nodes that report at the same moment do not wait for each other."""
    await connection.execute(_FORGET_NODES, forget_before)
    return int(await connection.fetchval(_PUT_NODE, node.id, node.seen_at, msgspec.json.encode(node)))


def read_nodes(rows: Sequence[Any]) -> list[Node]:
    """The nodes of these rows, each a document. What somebody else's tools have put there is no process that could be
    waited for."""
    nodes = []
    for (document,) in rows:
        with suppress(msgspec.DecodeError, TypeError):
            nodes.append(msgspec.json.decode(document, type=Node))
    return nodes
