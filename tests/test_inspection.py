import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.deployments import add_phone, open_for_test, open_in_memory
from tests.kit import SetClock

from twofold.bootstrap import Deployment
from twofold.inspection import AuditReport


async def unopenable(deployment: Deployment) -> dict[str, str]:
    return {account_id: reason async for account_id, reason in deployment.inspection.unopenable()}


async def two_accounts(folder: Path, clock: SetClock) -> None:
    opened = await open_for_test(folder, clock)
    for account_id in ("alice", "bob"):
        await add_phone(opened.verifier, account_id, clock)
    await opened.applications.create("shop")
    await opened.verifier.accounts.put("carol")
    await opened.verifier.accounts.delete("carol")
    await opened.close()


def change(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "twofold.db") as database:
        for statement in statements:
            database.execute(statement)
    database.close()


async def test_where_everything_holds_nothing_is_named(tmp_path: Path) -> None:
    clock = SetClock()
    await two_accounts(tmp_path, clock)
    opened = await open_for_test(tmp_path, clock, seed=1)
    assert await unopenable(opened) == {}
    report = await opened.inspection.verify_audit()
    # Tombstones count as accounts; the events of the deployment and of its keys are among the others.
    with closing(sqlite3.connect(tmp_path / "twofold.db")) as database:
        ((events,),) = database.execute("SELECT count(*) FROM events").fetchall()
    assert report == AuditReport(ok=True, accounts=3, events=events)
    assert events > 10
    await opened.close()


async def test_nothing_at_all_holds_too() -> None:
    opened = await open_in_memory()
    assert await unopenable(opened) == {}
    assert await opened.inspection.verify_audit() == AuditReport(ok=True, accounts=0, events=0)
    await opened.close()


@pytest.mark.parametrize("columns", ["document", "document, mac", "version, document, mac"])
async def test_trap_74_the_documents_of_two_accounts_exchanged_are_both_named(tmp_path: Path, columns: str) -> None:
    clock = SetClock()
    await two_accounts(tmp_path, clock)
    other = "SELECT CASE accounts.id WHEN 'alice' THEN 'bob' ELSE 'alice' END"
    change(
        tmp_path,
        "CREATE TEMP TABLE kept AS SELECT * FROM accounts",
        f"UPDATE accounts SET ({columns}) = (SELECT {columns} FROM kept WHERE kept.id = ({other}))"  # noqa: S608 - a test's own words
        " WHERE id IN ('alice', 'bob')",
    )
    opened = await open_for_test(tmp_path, clock, seed=1)
    assert set(await unopenable(opened)) == {"alice", "bob"}
    for account_id in ("alice", "bob"):
        assert (await opened.verifier.accounts.get(account_id)).state == "unavailable"
    report = await opened.inspection.verify_audit()
    assert not report.ok
    await opened.close()


@pytest.mark.parametrize("schema", ["0", "2", "256", "-1", "9223372036854775807"])
async def test_a_row_of_another_schema_is_named_and_breaks_nothing(tmp_path: Path, schema: str) -> None:
    clock = SetClock()
    await two_accounts(tmp_path, clock)
    change(tmp_path, f"UPDATE accounts SET schema = {schema} WHERE id = 'alice'")  # noqa: S608 - a test's own number
    opened = await open_for_test(tmp_path, clock, seed=1)
    assert set(await unopenable(opened)) == {"alice"}
    assert (await opened.verifier.accounts.get("alice")).state == "unavailable"
    assert (await opened.verifier.accounts.get("bob")).state == "active"
    await opened.close()


CHANGES: dict[str, Callable[[Path], None]] = {
    "an event's contents": lambda folder: change(
        folder, "UPDATE events SET payload = '{}' WHERE account_id = 'alice' AND seq = 2"
    ),
    "an event gone": lambda folder: change(folder, "DELETE FROM events WHERE account_id = 'alice' AND seq = 2"),
    "the last event gone": lambda folder: change(folder, "DELETE FROM events WHERE account_id = 'alice' AND seq = 4"),
    "an event's contents taken away": lambda folder: change(
        folder, "UPDATE events SET payload = NULL, salt = NULL WHERE account_id = 'alice' AND seq = 2"
    ),
    "an account's row gone": lambda folder: change(folder, "DELETE FROM accounts WHERE id = 'alice'"),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_trap_78_a_change_of_the_audit_log_is_found_and_named(tmp_path: Path, what: str) -> None:
    clock = SetClock()
    await two_accounts(tmp_path, clock)
    CHANGES[what](tmp_path)
    opened = await open_for_test(tmp_path, clock, seed=1)
    report = await opened.inspection.verify_audit()
    assert not report.ok
    assert report.broken is not None
    assert report.broken.account_id == "alice"
    await opened.close()


async def test_the_audit_log_of_the_deployment_itself_is_checked_too(tmp_path: Path) -> None:
    clock = SetClock()
    await two_accounts(tmp_path, clock)
    change(tmp_path, "UPDATE events SET at = at + 1 WHERE account_id = ''")
    opened = await open_for_test(tmp_path, clock, seed=1)
    report = await opened.inspection.verify_audit()
    assert not report.ok
    assert report.broken is not None
    assert report.broken.account_id == ""
    await opened.close()


async def test_an_account_that_goes_on_while_it_is_read_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SetClock()
    opened = await open_in_memory(clock)
    phone, _ = await add_phone(opened.verifier, "alice", clock, factor="hotp")
    read, more = opened.store.events, [phone.press(), phone.press()]

    async def meanwhile(account_id: str, **piece: int) -> object:
        if more and not piece["after_seq"]:
            assert await opened.verifier.verify("alice", code=more.pop(0))
        return await read(account_id, **piece)

    monkeypatch.setattr(opened.store, "events", meanwhile)
    report = await opened.inspection.verify_audit()
    assert report.ok, report.broken
    assert len(more) == 1
    await opened.close()


async def test_an_account_whose_data_key_is_gone_is_named(tmp_path: Path) -> None:
    clock = SetClock()
    await two_accounts(tmp_path, clock)
    opened = await open_for_test(tmp_path, clock, seed=1)
    keyring = opened.keyring
    keyring._opened.clear()
    del keyring._rows[keyring.active_key_id]
    keyring._gone.add(keyring.active_key_id)
    assert set(await unopenable(opened)) == {"alice", "bob"}
    await opened.close()
