"""What a deployment consists of, as tables: their columns by the names that PostgreSQL has for them, the key first.

Every database reads and writes its rows in this form, so that they can be moved from one into another as they are.
Which process serves it is not part of a deployment, nor is what a database says of its own move.
"""

from __future__ import annotations

from typing import Any, NamedTuple

#: Numbers, texts, bytes and None, in the order of the table's columns.
Row = tuple[Any, ...]

#: Settings that say: rows from there are still coming in, the rows have gone there. They are not moved themselves.
MOVING_FROM = "moving_from"
MOVED_TO = "moved_to"
#: What a database answers to whoever had it open when it was left, and goes on to write.
REFUSAL = "the data were moved to another database"


class Table(NamedTuple):
    """One table. Its first `key_length` columns are unique together, and rows are read in their order, byte by byte."""

    name: str
    key_length: int
    columns: tuple[str, ...]
    condition: str = "true"

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the key."""
        return self.columns[: self.key_length]

    def key_of(self, row: Row) -> Row:
        """The key of a row."""
        return row[: self.key_length]


def _table(name: str, key: str, rest: str, condition: str = "true") -> Table:
    return Table(name, len(key.split()), (*key.split(), *rest.split()), condition)


KEYRING = _table(
    "keyring",
    "id",
    "purpose state wrapped created_at master uses retired_at empty_since unwrapped_at uri mac position",
)
ACCOUNTS = _table("accounts", "id", "version schema document mac state factors role stops_at created_at")
EVENTS = _table("events", "account_id seq", "at kind salt payload digest")
SESSIONS = _table("sessions", "account_id token_digest", "id level begun_at expires_at document mac position")
#: The keys come first: nobody makes others in a database that has some.
TABLES = (
    KEYRING,
    ACCOUNTS,
    EVENTS,
    _table("contacts", "account_id kind key_hmac", ""),
    SESSIONS,
    _table("outbox", "account_id id", "kind payload created_at due_at attempts position"),
    _table("claims", "kind key_hmac", "account_id created_at"),
    _table("applications", "id", "created_at document"),
    _table("rate", "window_start key_hmac", "n"),
    _table("network_blocks", "network", "document"),
    _table("settings", "name", "value", f"name NOT IN ('{MOVING_FROM}', '{MOVED_TO}')"),
)
