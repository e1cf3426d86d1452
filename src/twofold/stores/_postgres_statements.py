"""What an attempt reads and writes in PostgreSQL: each statement in a form for many accounts at once, and in one for a
single account, which goes to the one partition or server that holds it.

Who decides, and what becomes of an error, is the writer's business (`_postgres_writer`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from twofold.core.account import Account
from twofold.core.audit import EventRow
from twofold.core.codec import Codec, StoredAccount, Tombstone
from twofold.core.decision import ContactIndex, EndSessions, Message, OpenSession
from twofold.core.session import StoredSession
from twofold.core.settlement import Settlement
from twofold.stores._fold import Changes, fold_sessions, summarize
from twofold.stores._postgres_connection import Connection

#: At most so many sessions that are over go with one that is opened.
EXPIRED_MAX = 100

_KEYS = "(SELECT array_agg(id) FROM twofold.keyring WHERE state = 'active')"
# The same work for names that are known and names that nobody has; the latter may not have events.
_READ_MANY = f"""
    SELECT wanted.id, account.version, account.schema, account.document, account.mac,
        account.id IS NULL AND EXISTS (SELECT FROM twofold.events WHERE account_id = wanted.id),
        CASE WHEN n = 1 THEN {_KEYS} END
    FROM unnest($1::text[]) WITH ORDINALITY AS wanted (id, n)
        LEFT JOIN twofold.accounts AS account ON account.id = wanted.id
    ORDER BY n"""  # noqa: S608 - above
_READ_ONE = f"SELECT version, schema, document, mac, {_KEYS} FROM twofold.accounts WHERE id = $1"  # noqa: S608 - above
_LOCK_ONE = f"{_READ_ONE} FOR NO KEY UPDATE OF accounts"
# Somebody may have made the account since it was not found.
_READ_NOBODY = f"""
    SELECT NOT EXISTS (SELECT FROM twofold.accounts WHERE id = $1)
        AND EXISTS (SELECT FROM twofold.events WHERE account_id = $1), {_KEYS}"""  # noqa: S608 - above

# What is written was worked out under these keys: not after one of them was retired.
_NO_KEY_RETIRED = "NOT EXISTS (SELECT FROM twofold.keyring WHERE id = ANY ($1::text[]) AND state <> 'active')"
_SET = """
    SET version = {0}.version, schema = {0}.schema, document = {0}.document, mac = {0}.mac, state = {0}.state,
        factors = {0}.factors, role = {0}.role, stops_at = {0}.stops_at, created_at = {0}.created_at"""
_COLUMNS = "id, version, schema, document, mac, state, factors, role, stops_at, created_at"
_NOTED = """
    INSERT INTO twofold.events (account_id, seq, at, kind, salt, payload, digest)
    SELECT {id}, seq, at, kind, salt, payload, digest FROM unnest($13::text[], $14::bigint[], $15::bigint[],
        $16::text[], $17::bytea[], $18::text[], $19::bytea[])
        AS event (account_id, seq, at, kind, salt, payload, digest)"""
_QUEUED = """
    INSERT INTO twofold.outbox (account_id, id, kind, payload, created_at, due_at, attempts)
    SELECT {id}, id, kind, payload, created_at, 0, 0 FROM unnest($20::text[], $21::text[], $22::text[], $23::bytea[],
        $24::bigint[]) AS message (account_id, id, kind, payload, created_at)"""
# Rows that somebody else works on are passed over, and those that changed since they were read: both go alone then.
# A lock is held for as long as this statement runs, and for no longer.
_WRITE_MANY = f"""
    WITH given AS (
        SELECT * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::integer[], $6::bytea[], $7::bytea[],
            $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[])
            AS row (id, before, version, schema, document, mac, state, factors, role, stops_at, created_at)
        WHERE {_NO_KEY_RETIRED}
    ), held AS MATERIALIZED (
        SELECT given.* FROM twofold.accounts AS account JOIN given ON account.id = given.id
        WHERE account.version = given.before ORDER BY account.id FOR NO KEY UPDATE OF account SKIP LOCKED
    ), changed AS (
        UPDATE twofold.accounts AS account {_SET.format("held")}
        FROM held WHERE account.id = held.id RETURNING account.id
    ), added AS (
        INSERT INTO twofold.accounts ({_COLUMNS}) SELECT {_COLUMNS} FROM given WHERE before = 0 ORDER BY id
        ON CONFLICT (id) DO NOTHING RETURNING id
    ), written AS (
        SELECT id FROM changed UNION ALL SELECT id FROM added
    ), noted AS (
        {_NOTED.format(id="account_id")} WHERE account_id IN (SELECT id FROM written)
    ), queued AS (
        {_QUEUED.format(id="account_id")} WHERE account_id IN (SELECT id FROM written)
    ) SELECT id FROM written"""  # noqa: S608 - all of it is above
_GIVEN = """
    (SELECT $4::bigint AS version, $5::integer AS schema, $6::bytea AS document, $7::bytea AS mac, $8::text AS state,
        $9::text AS factors, $10::text AS role, $11::bigint AS stops_at, $12::bigint AS created_at) AS given"""
_HELD = """
    SELECT 1 FROM twofold.accounts WHERE id = $2::text AND version = $3::bigint FOR NO KEY UPDATE SKIP LOCKED"""
_CHANGE = f"""
    UPDATE twofold.accounts AS account {_SET.format("given")} FROM {_GIVEN}
    WHERE account.id = $2::text AND account.version = $3::bigint AND EXISTS (SELECT 1 FROM held)
        AND {_NO_KEY_RETIRED} RETURNING account.id"""  # noqa: S608 - above
_ADD = f"""
    INSERT INTO twofold.accounts ({_COLUMNS}) SELECT $2::text, given.* FROM {_GIVEN}
    WHERE $3::bigint = 0 AND {_NO_KEY_RETIRED} ON CONFLICT (id) DO NOTHING RETURNING id"""  # noqa: S608 - above
_BEHIND = f"""
    noted AS ({_NOTED.format(id="$2::text")} WHERE EXISTS (SELECT 1 FROM written)),
    queued AS ({_QUEUED.format(id="$2::text")} WHERE EXISTS (SELECT 1 FROM written))
    SELECT id FROM written"""  # noqa: S608 - above
_CHANGE_ONE = f"WITH held AS MATERIALIZED ({_HELD}), written AS ({_CHANGE}), {_BEHIND}"
_ADD_ONE = f"WITH written AS ({_ADD}), {_BEHIND}"

_ERASE_EVENTS = """
    UPDATE twofold.events SET at = 0, kind = '', salt = NULL, payload = NULL WHERE account_id = $1 AND seq <= $2"""
_DROP_MESSAGES = "DELETE FROM twofold.outbox WHERE account_id = $1 AND NOT id = ANY ($2::text[])"
_DROP_CLAIMS = "DELETE FROM twofold.claims WHERE account_id = $1"
# Whose rows: of one account or of many, as `_spell_whose` says.
_DROP_CONTACTS = "DELETE FROM twofold.contacts WHERE {whose}"
_ADD_CONTACTS = """
    INSERT INTO twofold.contacts (account_id, kind, key_hmac) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
    ON CONFLICT DO NOTHING"""
_READ_SESSIONS = """
    SELECT token_digest, id, account_id, level, begun_at, expires_at, document, mac
    FROM twofold.sessions WHERE {whose} ORDER BY begun_at, position"""
_DROP_SESSIONS = "DELETE FROM twofold.sessions WHERE {whose} AND token_digest = ANY ($2::bytea[])"
_ADD_SESSIONS = """
    INSERT INTO twofold.sessions (token_digest, id, account_id, level, begun_at, expires_at, document, mac)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bytea[],
        $8::bytea[])"""
_DROP_EXPIRED = """
    DELETE FROM twofold.sessions WHERE (account_id, token_digest) IN (
        SELECT account_id, token_digest FROM twofold.sessions WHERE expires_at <= $1
        ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)"""


class Found(msgspec.Struct, frozen=True):
    """What was read before a decision. `lost_ids` have events and no row."""

    rows: Mapping[str, StoredAccount]
    lost_ids: frozenset[str]
    active_keys: frozenset[str]


async def read_many(connection: Connection, ids: Sequence[str]) -> Found:
    """The accounts as they are committed now; nothing is locked."""
    if len(ids) == 1:
        return await read_one(connection, ids[0], lock=False)
    found = await connection.fetch(_READ_MANY, ids)
    rows = {row[0]: StoredAccount(*row[:5]) for row in found if row[1] is not None}
    return Found(rows, frozenset(row[0] for row in found if row[5]), frozenset(found[0][6] or ()))


async def read_one(connection: Connection, account_id: str, *, lock: bool) -> Found:
    """The account; with `lock` nobody else changes it until the end of the transaction."""
    row = await connection.fetchrow(_LOCK_ONE if lock else _READ_ONE, account_id)
    if row is not None:
        rows = {account_id: StoredAccount(account_id, *row[:4])}
        return Found(rows, frozenset(), frozenset(row[4] or ()))
    ((is_lost, active),) = await connection.fetch(_READ_NOBODY, account_id)
    return Found({}, frozenset([account_id] if is_lost else []), frozenset(active or ()))


def spell_write(changes: Changes, found: Found) -> tuple[str, Sequence[object]]:
    """The statement, with its values, that writes the rows which are still as they were read and which nobody else
    holds, with their events and messages. It tells which ones these are. One alone is written in its own partition."""
    values = [_row_values(row, state, found) for row, state in changes.rows.values()]
    behind = (*_event_columns(changes), *_message_columns(changes))
    if len(values) > 1:
        return _WRITE_MANY, (list(changes.keys), *zip(*values, strict=True), *behind)
    statement = _CHANGE_ONE if next(iter(changes.rows)) in found.rows else _ADD_ONE
    return statement, (list(changes.keys), *values[0], *behind)


async def write_further(connection: Connection, settlements: Iterable[Settlement], codec: Codec) -> None:
    """Sessions, contacts and deletions, behind their accounts in the same transaction: a few statements, however many
    accounts there are."""
    further = [settlement for settlement in settlements if needs_transaction(settlement)]
    held = await _read_sessions(
        connection, sorted({each.standing.account_id for each in further if _is_of_session(each)})
    )
    sessions = {account_id: list(rows) for account_id, rows in held.items()}
    contacts: dict[str, Sequence[tuple[str, bytes]]] = {}
    for settlement in further:
        account_id, state = settlement.standing.account_id, settlement.standing.state
        if isinstance(state, Tombstone):
            await _erase(connection, account_id, state, settlement)
            contacts[account_id], sessions[account_id] = (), []
        for effect in settlement.effects:
            if isinstance(effect, ContactIndex):
                contacts[account_id] = effect.entries
            elif isinstance(effect, OpenSession | EndSessions):
                sessions[account_id] = _follow(effect, sessions[account_id], codec)
    await _write_contacts(connection, contacts)
    await _write_sessions(connection, held, sessions)


async def drop_expired(connection: Connection, now: int) -> None:
    """Some of the sessions whose time is over go."""
    await connection.execute(_DROP_EXPIRED, now, EXPIRED_MAX)


def needs_transaction(settlement: Settlement) -> bool:
    """Whether more is to be written than the statement of the account does."""
    return settlement.is_deletion or not all(isinstance(effect, Message) for effect in settlement.effects)


async def _erase(connection: Connection, account_id: str, tombstone: Tombstone, settlement: Settlement) -> None:
    await connection.execute(_ERASE_EVENTS, account_id, tombstone.head.erased)
    kept = [effect.id for effect in settlement.effects if isinstance(effect, Message)]
    await connection.execute(_DROP_MESSAGES, account_id, kept)
    await connection.execute(_DROP_CLAIMS, account_id)


def _is_of_session(settlement: Settlement) -> bool:
    return settlement.is_deletion or any(isinstance(each, OpenSession | EndSessions) for each in settlement.effects)


async def _read_sessions(connection: Connection, ids: Sequence[str]) -> dict[str, list[StoredSession]]:
    found: dict[str, list[StoredSession]] = {account_id: [] for account_id in ids}
    if ids:
        for row in await connection.fetch(*_spell_whose(_READ_SESSIONS, ids)):
            found[row[2]].append(StoredSession(*row))
    return found


def _follow(effect: OpenSession | EndSessions, held: list[StoredSession], codec: Codec) -> list[StoredSession]:
    """The sessions of an account after this effect."""
    leaving, is_opened = fold_sessions(effect, held, codec)
    after = [row for row in held if row.token_digest not in leaving]
    if isinstance(effect, OpenSession) and is_opened:
        # In order of their beginning, as they will be read; of one moment the later one behind.
        after.append(codec.dump_session(effect.session, effect.token_digest))
        after.sort(key=lambda row: row.begun_at)
    return after


async def _write_sessions(
    connection: Connection, before: Mapping[str, Sequence[StoredSession]], after: Mapping[str, Sequence[StoredSession]]
) -> None:
    known = {row for rows in before.values() for row in rows}
    kept = {row for rows in after.values() for row in rows}
    if leaving := known - kept:
        statement, whose = _spell_whose(_DROP_SESSIONS, list(before))
        await connection.execute(statement, whose, [row.token_digest for row in leaving])
    opened = [msgspec.structs.astuple(row) for rows in after.values() for row in rows if row not in known]
    if opened:
        await connection.execute(_ADD_SESSIONS, *zip(*opened, strict=True))


async def _write_contacts(connection: Connection, contacts: Mapping[str, Sequence[tuple[str, bytes]]]) -> None:
    if contacts:
        await connection.execute(*_spell_whose(_DROP_CONTACTS, list(contacts)))
    entries = [(account_id, *entry) for account_id, found in contacts.items() for entry in found]
    if entries:
        await connection.execute(_ADD_CONTACTS, *zip(*entries, strict=True))


def _spell_whose(statement: str, ids: Sequence[str]) -> tuple[str, object]:
    """The statement for the rows of these accounts, and its first value. One account's lie in one place."""
    if len(ids) == 1:
        return statement.format(whose="account_id = $1::text"), ids[0]
    return statement.format(whose="account_id = ANY ($1::text[])"), ids


def _row_values(row: StoredAccount, state: Account | Tombstone | None, found: Found) -> tuple[object, ...]:
    before = found.rows[row.account_id].version if row.account_id in found.rows else 0
    created_at = state.created_at if isinstance(state, Account) else 0
    return (
        row.account_id,
        before,
        row.version,
        row.schema,
        row.document,
        row.mac,
        *summarize(state),
        created_at,
    )


def _event_columns(changes: Changes) -> Iterable[Collection[object]]:
    return zip(*map(_event_values, changes.events), strict=True) if changes.events else ((),) * 7


def _event_values(event: EventRow) -> tuple[object, ...]:
    # The payload as text, for whoever looks at the table; its bytes are what the digest is over.
    payload = None if event.payload is None else event.payload.decode()
    return event.account_id, event.seq, event.at, event.kind, event.salt, payload, event.digest


def _message_columns(changes: Changes) -> Iterable[Collection[object]]:
    # What was to be told to somebody who is deleted in the same batch is not told.
    values: list[tuple[object, ...]] = []
    for settlement in changes.further:
        account_id = settlement.standing.account_id
        if settlement.is_deletion:
            values = [row for row in values if row[0] != account_id]
        at = settlement.events[-1].at if settlement.events else 0
        values += [
            (account_id, effect.id, effect.kind, msgspec.json.encode(effect.payload), at)
            for effect in settlement.effects
            if isinstance(effect, Message)
        ]
    return zip(*values, strict=True) if values else ((),) * 5
