"""What operators run: `apikey`, `keys`, `audit`, also over a database that somebody else has changed."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import Invoke, Phone


@pytest.fixture
def tamper(data_dir: Path) -> Callable[..., None]:
    """Change the database behind the program's back."""

    def execute(sql: str, *values: object) -> None:
        with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
            assert connection.execute(sql, values).rowcount > 0

    return execute


def test_key_is_alone_on_stdout_and_never_shown_again(invoke: Invoke) -> None:
    created = invoke("apikey", "create", "shop")
    assert created.exit_code == 0
    assert re.fullmatch(r"tf_[a-z2-7]{8}_[\w-]{43}\n", created.stdout)
    key = created.stdout.strip()
    assert key not in created.stderr
    assert "(shop): verify, enroll" in created.stderr
    listed = invoke("apikey", "list")
    assert re.fullmatch(rf"{key.split('_')[1]}  shop  verify,enroll  \S+Z\n", listed.stdout)
    assert key.split("_", 2)[2] not in listed.stdout + invoke("apikey", "list", "--json").stdout


def test_key_carries_what_it_was_made_with(invoke: Invoke) -> None:
    arguments = "--scope verify,admin --origin https://a.example --origin https://b.example --rp-id a.example --rate 5"
    more = ("--cidr", "10.0.0.0/8", "--return-to", "https://a.example/back", "--return-to", "http://localhost:5000/b")
    created = invoke("apikey", "create", "shop", *arguments.split(), *more)
    assert created.exit_code == 0
    assert "prompts lead back to http://localhost:5000/b\n" in created.stderr
    (shown,) = json.loads(invoke("apikey", "list", "--json").stdout)
    assert shown["scopes"] == ["verify", "admin"]
    assert shown["origins"] == ["https://a.example", "https://b.example"]
    assert (shown["rp_id"], shown["rate_per_s"], shown["networks"]) == ("a.example", 5, ["10.0.0.0/8"])
    assert shown["return_to"] == ["https://a.example/back", "http://localhost:5000/b"]
    listed = invoke("apikey", "list").stdout.splitlines()
    assert listed[1:] == [f"{shown['id']}: prompts lead back to {url}" for url in shown["return_to"]]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--scope", "everything"], "scope"),
        (["--scope", ""], "scope"),
        (["--origin", "https://a.example/path"], "origin"),
        (["--rate", "0"], "rate"),
        (["--cidr", "10.0.0.1/8"], "cidr"),
        (["--return-to", "http://a.example/back"], "return_to"),
    ],
)
def test_key_that_cannot_be_made_is_refused_in_one_line(invoke: Invoke, arguments: list[str], field: str) -> None:
    refused = invoke("apikey", "create", "shop", *arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"twofold: {field}: expected ")
    assert refused.stderr.count("\n") == 1
    assert json.loads(invoke("apikey", "list", "--json").stdout) == []


def test_key_is_revoked_once(invoke: Invoke) -> None:
    application_id = invoke("apikey", "create", "shop").stdout.split("_")[1]
    assert invoke("apikey", "revoke", application_id).stdout == f"revoked {application_id}\n"
    again = invoke("apikey", "revoke", application_id)
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr == f"twofold: there is no application {application_id}; `twofold apikey list` names them\n"


def test_status_counts_the_seeds_under_each_data_key_and_names_no_other_key(
    invoke: Invoke, enrolled: tuple[Phone, list[str]]
) -> None:
    (key,) = json.loads(invoke("keys", "status", "--json").stdout)
    assert set(key) >= {"id", "state", "seeds", "created_at"}
    assert (key["state"], key["seeds"], key["created_at"]) == ("active", 1, "2026-03-01T12:00:00Z")
    invoke("account", "enroll", "me", "--factor", "hotp")
    assert invoke("keys", "status").stdout.startswith(f"{key['id']}  active  2  2026-03-01T12:00:00Z  0  ")


def test_check_finds_nothing_where_every_account_opens(invoke: Invoke, enrolled: tuple[Phone, list[str]]) -> None:
    assert (invoke("keys", "check").stdout, invoke("keys", "check").exit_code) == ("every account opens\n", 0)
    assert json.loads(invoke("keys", "check", "--json").stdout) == []


def test_check_names_accounts_whose_documents_were_changed_or_exchanged(
    invoke: Invoke, enrolled: tuple[Phone, list[str]], tamper: Callable[..., None]
) -> None:
    for account_id in ("you", "them", "others"):
        invoke("account", "add", account_id)
    tamper("UPDATE accounts SET document = CAST(document || x'00' AS BLOB) WHERE id = 'me'")
    tamper("UPDATE accounts AS a SET document = b.document, mac = b.mac FROM accounts AS b "
           "WHERE (a.id, b.id) IN (VALUES ('you', 'them'), ('them', 'you'))")  # fmt: skip
    checked = invoke("keys", "check")
    assert checked.exit_code == 1
    assert [line.partition(": ")[0] for line in checked.stdout.splitlines()] == ["me", "them", "you"]
    named = json.loads(invoke("keys", "check", "--json").stdout)
    assert [entry["account"] for entry in named] == ["me", "them", "you"]

    (key,) = json.loads(invoke("keys", "status", "--json").stdout)
    assert key["seeds"] == 0
    states = {shown["id"]: shown["state"] for shown in json.loads(invoke("account", "list", "--json").stdout)}
    assert states == {"me": "unavailable", "them": "unavailable", "you": "unavailable", "others": "empty"}
    refused = invoke("account", "verify", "me", typed=f"{enrolled[0].code()}\n")
    assert (refused.exit_code, refused.stderr) == (69, "")
    assert refused.stdout.startswith("not judged (unavailable): account me was changed")


def test_audit_log_holds_and_is_counted(invoke: Invoke, enrolled: tuple[Phone, list[str]]) -> None:
    verified = invoke("audit", "verify", "--json")
    assert verified.exit_code == 0
    report = json.loads(verified.stdout)
    assert (set(report), report["ok"], report["accounts"]) == ({"ok", "accounts", "events"}, True, 1)
    # The command itself has used the master key, which is one event more.
    assert invoke("audit", "verify").stdout == f"the audit log holds: {report['events'] + 1} events of 1 accounts\n"


@pytest.mark.parametrize(
    ("sql", "seq"),
    [
        ("UPDATE events SET at = at + 1 WHERE account_id = 'me' AND seq = 2", 2),
        ("DELETE FROM events WHERE account_id = 'me' AND seq = 3", 3),
        ("UPDATE events SET payload = NULL WHERE account_id = 'me' AND seq = 1", 1),
    ],
)
def test_first_broken_place_of_the_audit_log_is_named(
    invoke: Invoke, enrolled: tuple[Phone, list[str]], tamper: Callable[..., None], sql: str, seq: int
) -> None:
    tamper(sql)
    broken = invoke("audit", "verify")
    assert broken.exit_code == 1
    assert broken.stdout.startswith(f"the audit log is broken at account me, event {seq}: ")
    report = json.loads(invoke("audit", "verify", "--json").stdout)
    assert report["ok"] is False
    assert (report["broken"]["account_id"], report["broken"]["seq"]) == ("me", seq)
