"""What decisions do to the table `sessions`, inside the transaction of the decision. Reading is not done here."""

from __future__ import annotations

import sqlite3

import msgspec

from twofold.core.codec import Codec
from twofold.core.decision import EndSessions, OpenSession
from twofold.core.session import StoredSession
from twofold.stores._fold import fold_sessions

#: At most so many are dropped with one that is opened: more than come, and never a long wait.
EXPIRED_MAX = 100

_DROP_EXPIRED = """
    DELETE FROM sessions WHERE rowid IN (
        SELECT rowid FROM sessions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"""
_SELECT_HELD = """
    SELECT token_digest, id, account_id, level, begun_at, expires_at, document, mac
    FROM sessions WHERE account_id = ? ORDER BY begun_at, rowid"""
_DELETE = "DELETE FROM sessions WHERE token_digest = ?"
_INSERT = """
    INSERT INTO sessions (token_digest, id, account_id, level, begun_at, expires_at, document, mac)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""


def write_sessions(
    connection: sqlite3.Connection, account_id: str, effect: OpenSession | EndSessions, codec: Codec
) -> None:
    """Open or end sessions of the account."""
    if isinstance(effect, OpenSession):
        connection.execute(_DROP_EXPIRED, (effect.session.seen_at, EXPIRED_MAX))
    held = [StoredSession(*row) for row in connection.execute(_SELECT_HELD, (account_id,))]
    leaving, is_opened = fold_sessions(effect, held, codec)
    connection.executemany(_DELETE, [(digest,) for digest in leaving])
    if isinstance(effect, OpenSession) and is_opened:
        row = codec.dump_session(effect.session, effect.token_digest)
        connection.execute(_INSERT, msgspec.structs.astuple(row))
