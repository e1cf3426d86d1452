"""Moving a deployment from one database into another: every row as it is, checked, and then the old place is closed.

A move that was cut off goes on with the same call: what is there already is compared, and only what differs is
written. Where rows come from and go to is in `twofold.stores`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice, zip_longest
from operator import itemgetter
from typing import Protocol

from twofold.core.audit import EventRow, verify_chain
from twofold.core.codec import Codec, StoredAccount
from twofold.core.session import StoredSession
from twofold.errors import ConfigurationError, Refused, Unavailable
from twofold.key_ports import WrappedKey
from twofold.setup_link import SettingStore
from twofold.stores._tables import ACCOUNTS, EVENTS, KEYRING, MOVED_TO, MOVING_FROM, SESSIONS, TABLES, Row, Table

#: So many rows are written in one step.
STEP_ROWS = 2000

#: Told what is done with which table, and with how many rows more.
Note = Callable[[str, Table, int], None]


class Source(Protocol):
    """Where the rows are, while nobody changes them. `place` is its address as people may read it."""

    place: str

    def rows(self, table: Table) -> Iterator[Row]:
        """All rows in order of key."""
        ...

    def read_mark(self, name: str) -> str | None:
        """What the database says of its move."""
        ...

    def leave(self, to: str) -> None:
        """Say where the rows have gone, and take no decision on an account any more."""
        ...


class Target(Protocol):
    """Where they go."""

    place: str

    def rows(self, table: Table) -> Iterator[Row]:
        """All rows in order of key, as they are at the first of them."""
        ...

    def change(self, table: Table, gone: Sequence[Row], new: Sequence[Row]) -> None:
        """Take away the rows of the keys `gone` and add the `new` ones, in one step."""
        ...

    def read_mark(self, name: str) -> str | None:
        """What the database says of its move."""
        ...

    def write_mark(self, name: str, value: str | None) -> None:
        """Have it say that, or nothing more."""
        ...

    def settle(self) -> None:
        """All rows are in."""
        ...


async def check_at_home(store: SettingStore) -> None:
    """Raise `ConfigurationError` when the deployment in this database has gone to another one, or is not all here."""
    if coming := await store.get_setting(MOVING_FROM):
        unfinished = f"the move from {coming.partition(' ')[2]} into this database is not finished"
        raise ConfigurationError(f"{unfinished}: run twofold migrate-store again")
    if place := await store.get_setting(MOVED_TO):
        way_back = "to go back, move the data back with twofold migrate-store"
        raise ConfigurationError(f"the data of this database were moved to {place}: set DATABASE_URL to it; {way_back}")


def read_keys(source: Source) -> list[WrappedKey]:
    """The stored keys, oldest first. Raises `Refused` when the database holds no deployment, or not all of one."""
    if coming := source.read_mark(MOVING_FROM):
        problem = f"the move from {coming.partition(' ')[2]} into {source.place} is not finished"
        raise Refused("conflict", f"{problem}: finish it first")
    # Behind a key's own columns there is its position.
    keys = [WrappedKey(*row[:-1]) for row in source.rows(KEYRING)]
    if not keys:
        raise Refused("not_found", f"there is nothing in {source.place} to move")
    return sorted(keys, key=lambda key: (key.created_at, key.id))


def is_done(source: Source, target: Target) -> bool:
    """Whether this move was made before. Raises `Refused` when the rows have gone elsewhere, or were lost there: those
    that are left are out of date."""
    place = source.read_mark(MOVED_TO)
    if place is None or (place == target.place and target.read_mark(MOVING_FROM) is not None):
        return False
    keys = {row[0] for row in target.rows(KEYRING)}
    if place != target.place or not any(row[0] in keys for row in source.rows(KEYRING)):
        raise Refused("conflict", f"the data of {source.place} were moved to {place} already")
    return True


def begin(source: Source, target: Target, keys: Sequence[WrappedKey]) -> None:
    """Mark the target as unfinished. Raises `Refused` unless it is empty, or has the beginning of this very move."""
    # Every deployment makes its own first keys, and keeps their rows for ever.
    first = keys[0]
    coming = target.read_mark(MOVING_FROM)
    if coming is None:
        if any(next(target.rows(table), None) for table in TABLES):
            raise Refused("conflict", f"{target.place} holds data already, and nothing is overwritten")
        target.write_mark(MOVING_FROM, f"{first.id} {source.place}")
    elif coming.partition(" ")[0] != first.id:
        problem = f"{target.place} holds a part of another deployment, from {coming.partition(' ')[2]}"
        raise Refused("conflict", f"{problem}, and nothing is overwritten")


def copy(source: Source, target: Target, note: Note) -> None:
    """Make the rows of the target those of the source."""
    for table in TABLES:
        found = _differences(table, _noted(source.rows(table), "copying", table, note), target.rows(table))
        while step := list(islice(found, STEP_ROWS)):
            gone = [table.key_of(row) for row, _ in step if row is not None]
            target.change(table, gone, [row for _, row in step if row is not None])
    target.settle()


def verify(source: Source, target: Target, codec: Codec, note: Note) -> dict[str, int]:
    """How many rows there are in each table: all of them equal on both sides, every code right, every chain whole.

    Raises `Unavailable` for the first that is not.
    """
    counts = Counter({table.name: 0 for table in TABLES})

    def same(table: Table) -> Iterator[Row]:
        for here, there in zip_longest(_noted(source.rows(table), "checking", table, note), target.rows(table)):
            if here != there:
                raise Unavailable(f"{_describe(table, here or there)} is not the same in {target.place}")
            counts[table.name] += 1
            yield there

    _verify_accounts(codec, same(ACCOUNTS), same(EVENTS))
    for row in same(SESSIONS):
        values = dict(zip(SESSIONS.columns, row, strict=True))
        del values["position"]
        codec.load_session(StoredSession(**values))
    for table in TABLES:
        if table not in (ACCOUNTS, EVENTS, SESSIONS):
            for _ in same(table):
                pass
    return dict(counts)


def finish(source: Source, target: Target) -> None:
    """From now on the deployment is in the target. In this order: rather is it nowhere for a moment than in two places,
    where one code would be good twice."""
    source.leave(target.place)
    target.write_mark(MOVING_FROM, None)


def _differences(table: Table, wanted: Iterator[Row], found: Iterator[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    """What has to go and what has to come, so that the rows that were `found` become those that are `wanted`."""
    want, have = next(wanted, None), next(found, None)
    while want is not None or have is not None:
        if want == have:
            want, have = next(wanted, None), next(found, None)
        elif have is None or (want is not None and table.key_of(want) < table.key_of(have)):
            yield None, want
            want = next(wanted, None)
        else:
            yield have, None
            have = next(found, None)


def _verify_accounts(codec: Codec, accounts: Iterator[Row], events: Iterator[Row]) -> None:
    chains = groupby(events, key=itemgetter(0))
    chain_of, chain = next(chains, (None, ()))
    for row in accounts:
        stored = StoredAccount(*row[:5])
        if chain_of is not None and chain_of < stored.account_id:
            break
        head = codec.load(stored).head
        is_own = chain_of == stored.account_id
        broken = verify_chain(stored.account_id, map(_event, chain) if is_own else (), head)
        if broken is not None:
            raise Unavailable(f"{_describe(EVENTS, (broken.account_id, broken.seq))}: {broken.problem}")
        if is_own:
            chain_of, chain = next(chains, (None, ()))
    if chain_of is not None:
        raise Unavailable(f"account {chain_of!r} is gone while its events are there")


def _event(row: Row) -> EventRow:
    account_id, seq, at, kind, salt, payload, digest = row
    # A column of another type, which only somebody else's tools can have put there, is found out like any change.
    content = payload.encode() if isinstance(payload, str) else payload
    return EventRow(account_id, seq, at, kind, salt, content, digest)


def _describe(table: Table, row: Row) -> str:
    key = ", ".join(value.hex() if isinstance(value, bytes) else repr(value) for value in table.key_of(row))
    return f"the row {key} of the table {table.name}"


def _noted(rows: Iterable[Row], what: str, table: Table, note: Note) -> Iterator[Row]:
    number = 0
    for number, row in enumerate(rows, 1):
        yield row
        if number % STEP_ROWS == 0:
            note(what, table, STEP_ROWS)
    note(what, table, number % STEP_ROWS)
