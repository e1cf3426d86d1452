"""Somebody who can write the database still lets nobody in: what they change is refused, named and told."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import msgspec
import pytest
from tests.servers import Client, Clock, Phone, Server

from twofold.bootstrap import open_deployment
from twofold.config import Settings
from twofold.core.account import Account
from twofold.core.codec import SCHEMA, Codec, StoredAccount
from twofold.credentials import exchange_seed, find_seed
from twofold.crypto.digest import MacKeys

Change = Callable[[sqlite3.Connection], object]


@contextmanager
def writable(server: Server) -> Iterator[sqlite3.Connection]:
    """The database as somebody with a shell has it."""
    with closing(sqlite3.connect(server.database, timeout=10)) as database, database:
        yield database


def read_document(server: Server, account_id: str) -> tuple[int, bytes, bytes]:
    with writable(server) as database:
        sql = "SELECT version, document, mac FROM accounts WHERE id = ?"
        return database.execute(sql, (account_id,)).fetchone()


def write_document(server: Server, account_id: str, row: tuple[int, bytes, bytes]) -> None:
    with writable(server) as database:
        database.execute("UPDATE accounts SET version = ?, document = ?, mac = ? WHERE id = ?", (*row, account_id))


def unopenable(server: Server) -> set[str]:
    """The accounts that `keys check` names."""
    checked = server.command("keys", "check", "--json")
    named = {entry["account"] for entry in json.loads(checked.stdout)}
    assert checked.returncode == (1 if named else 0)
    return named


def alarms(server: Server) -> set[str]:
    """The accounts that alarms in the deployment's own audit chain are about."""
    with writable(server) as database:
        sql = "SELECT payload FROM events WHERE account_id = '' AND kind = 'account.tampered'"
        return {json.loads(payload)["account"] for (payload,) in database.execute(sql)}


def check_refused(server: Server, api: Client, clock: Clock, phone: Phone) -> None:
    """No code is judged, an operator sees the account named everywhere, and everybody else is served."""
    account_id = phone.account_id
    refused = api.verify(account_id, phone.code(clock.now_s))
    assert (refused.status, refused.body["code"]) == (503, "unavailable")
    assert api.call("GET", f"/api/v1/accounts/{account_id}").body["state"] == "unavailable"
    assert account_id in unopenable(server)
    assert account_id in alarms(server)
    assert f"ALARM account='{account_id}'" in server.log.read_text()


def check_accepted(api: Client, clock: Clock, phone: Phone) -> None:
    clock.advance()
    assert api.verify(phone.account_id, phone.code(clock.now_s)).is_verified


def test_exchanged_documents_are_refused_until_they_are_back(server: Server, api: Client, clock: Clock) -> None:
    one, other, third = (api.import_phone(f"exchanged-{number}") for number in range(3))
    rows = [read_document(server, phone.account_id) for phone in (one, other)]
    write_document(server, one.account_id, rows[1])
    write_document(server, other.account_id, rows[0])
    check_refused(server, api, clock, one)
    check_refused(server, api, clock, other)
    check_accepted(api, clock, third)
    assert third.account_id not in unopenable(server) | alarms(server)

    write_document(server, one.account_id, rows[0])
    write_document(server, other.account_id, rows[1])
    check_accepted(api, clock, one)
    check_accepted(api, clock, other)
    assert unopenable(server) == set()


@pytest.mark.parametrize("column", ["version", "document", "mac"])
def test_one_changed_byte_is_refused_until_it_is_back(server: Server, api: Client, clock: Clock, column: str) -> None:
    phone = api.import_phone(f"changed-{column}")
    row = version, document, mac = read_document(server, phone.account_id)
    changed = {
        "version": (version + 1, document, mac),
        "document": (version, document[:-1] + bytes([document[-1] ^ 1]), mac),
        "mac": (version, document, mac[:-1] + bytes([mac[-1] ^ 1])),
    }
    write_document(server, phone.account_id, changed[column])
    check_refused(server, api, clock, phone)

    write_document(server, phone.account_id, row)
    check_accepted(api, clock, phone)


async def _steal_integrity_keys(settings: Settings) -> MacKeys:
    deployment = await open_deployment(settings)
    await deployment.close()
    return deployment.keyring.mac_keys()


class Thief:
    """Writes what is in accounts. Without the integrity key (`signs` is false) their codes stay as they are."""

    def __init__(self, server: Server, clock: Clock, *, signs: bool) -> None:
        self._server = server
        self._signs = signs
        stolen = asyncio.run(_steal_integrity_keys(Settings(data_dir=server.data_dir, test_clock=clock.path)))
        self._codec = Codec(stolen)

    def read(self, account_id: str) -> Account:
        version, document, mac = read_document(self._server, account_id)
        account = self._codec.load(StoredAccount(account_id, version, SCHEMA, document, mac))
        assert isinstance(account, Account)
        return account

    def write(self, account: Account) -> None:
        version, _, mac = read_document(self._server, account.id)
        row = self._codec.dump(account, version)
        write_document(self._server, account.id, (version, row.document, row.mac if self._signs else mac))


def with_seeds(account: Account, seeds: Sequence[bytes]) -> Account:
    """The account whose authenticators keep these sealed seeds."""
    changed = map(exchange_seed, account.authenticators, seeds)
    return msgspec.structs.replace(account, authenticators=tuple(changed))


def seeds_of(account: Account) -> list[bytes]:
    found = [find_seed(authenticator) for authenticator in account.authenticators]
    assert None not in found
    return [seed for seed in found if seed is not None]


def swap_between_accounts(one: Account, other: Account) -> tuple[Account, Account]:
    return with_seeds(one, seeds_of(other)), with_seeds(other, seeds_of(one))


def swap_between_authenticators(one: Account, other: Account) -> tuple[Account, Account]:
    return with_seeds(one, seeds_of(one)[::-1]), with_seeds(other, seeds_of(other)[::-1])


def swap_between_columns(one: Account, other: Account) -> tuple[Account, Account]:
    return _exchange_with_profile(one), _exchange_with_profile(other)


def _exchange_with_profile(account: Account) -> Account:
    first, *others = seeds_of(account)
    assert account.sealed_profile is not None
    return msgspec.structs.replace(with_seeds(account, [account.sealed_profile, *others]), sealed_profile=first)


Swap = Callable[[Account, Account], tuple[Account, Account]]


@pytest.mark.parametrize("signs", [True, False], ids=["with the integrity key", "without"])
@pytest.mark.parametrize("swap", [swap_between_accounts, swap_between_authenticators, swap_between_columns])
def test_swapped_ciphertexts_are_refused_until_they_are_back(
    server: Server, api: Client, clock: Clock, swap: Swap, *, signs: bool
) -> None:
    names = [f"{swap.__name__.replace('_', '-')}-{signs}-{number}" for number in range(2)]
    phones = [api.import_phone(name) for name in names]
    for name in names:
        api.import_another(name)
        api.add_account(name, email=f"{name}@example.org")
    thief = Thief(server, clock, signs=signs)
    before = [thief.read(name) for name in names]
    for account in swap(*before):
        thief.write(account)
    for phone in phones:
        refused = api.verify(phone.account_id, phone.code(clock.now_s))
        assert (refused.status, refused.body["code"]) == (503, "unavailable")
        assert phone.account_id in unopenable(server)
        assert phone.account_id in alarms(server)
        assert f"ALARM account='{phone.account_id}'" in server.log.read_text()

    for account in before:
        thief.write(account)
    for phone in phones:
        check_accepted(api, clock, phone)
    assert unopenable(server) == set()


def test_swapped_profiles_are_refused_until_they_are_back(server: Server, api: Client, clock: Clock) -> None:
    names = [f"profile-{number}" for number in range(2)]
    for name in names:
        api.add_account(name, display_name=f"The name of {name}")
    thief = Thief(server, clock, signs=True)
    one, other = (thief.read(name) for name in names)
    thief.write(msgspec.structs.replace(one, sealed_profile=other.sealed_profile))
    thief.write(msgspec.structs.replace(other, sealed_profile=one.sealed_profile))
    for name in names:
        seen = api.call("GET", f"/api/v1/accounts/{name}")
        assert (seen.status, seen.body["display_name"], seen.body["state"]) == (200, "", "unavailable")
        assert name in unopenable(server)
        assert name in alarms(server)

    thief.write(one)
    thief.write(other)
    assert unopenable(server) == set()
    assert api.call("GET", "/api/v1/accounts/profile-0").body["display_name"] == "The name of profile-0"


def test_an_older_row_put_back_is_found_by_the_audit(server: Server, api: Client, clock: Clock) -> None:
    phone = api.import_phone("put-back")
    older = read_document(server, "put-back")
    check_accepted(api, clock, phone)
    newer = read_document(server, "put-back")
    assert server.command("audit", "verify").returncode == 0

    write_document(server, "put-back", older)
    verified = server.command("audit", "verify")
    assert verified.returncode == 1
    assert "put-back" in verified.stdout + verified.stderr

    write_document(server, "put-back", newer)
    assert server.command("audit", "verify").returncode == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET payload = replace(CAST(payload AS TEXT), 'imported', 'exported')",
        "UPDATE events SET at = at + 1",
        "UPDATE events SET kind = 'account.enabled'",
        "UPDATE events SET salt = zeroblob(16)",
        "UPDATE events SET salt = NULL, payload = NULL",
        "DELETE FROM events",
    ],
)
def test_a_changed_event_is_found_by_the_audit(server: Server, api: Client, change: str) -> None:
    api.add_account("edited", groups=["imported"])
    with writable(server) as database:
        (last,) = database.execute("SELECT max(seq) FROM events WHERE account_id = 'edited'").fetchone()
        kept = database.execute("SELECT * FROM events WHERE account_id = 'edited' AND seq = ?", (last,)).fetchone()
        database.execute(f"{change} WHERE account_id = 'edited' AND seq = ?", (last,))
    verified = server.command("audit", "verify", "--json")
    assert verified.returncode == 1
    assert "edited" in verified.stdout

    with writable(server) as database:
        database.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", kept)
    assert server.command("audit", "verify").returncode == 0


def test_a_widened_key_opens_nothing_until_it_is_as_it_was(server: Server, api: Client) -> None:
    key = server.create_key("verify")
    application_id = key.split("_")[1]
    with server.client(key) as narrow:
        assert narrow.call("GET", "/api/v1/accounts").status == 403
        with writable(server) as database:
            sql = "SELECT document FROM applications WHERE id = ?"
            (kept,) = database.execute(sql, (application_id,)).fetchone()
            widened = kept.replace(b'["verify"]', b'["verify","enroll","admin"]')
            assert widened != kept
            database.execute("UPDATE applications SET document = ? WHERE id = ?", (widened, application_id))
        # A key that was just checked is remembered for half a second at most; it is never wider than it was.
        assert _status_once_read_again(narrow) == 401
        with writable(server) as database:
            database.execute("UPDATE applications SET document = ? WHERE id = ?", (kept, application_id))
        assert narrow.call("GET", "/api/v1/accounts").status == 403


def _status_once_read_again(client: Client) -> int:
    while (status := client.call("GET", "/api/v1/accounts").status) == 403:
        pass
    return status
