"""`twofold import yubico-csv`: a report for each line, and no secret in any of them."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result
from tests.cli.conftest import Invoke
from tests.yubikeys import Yubikey

from twofold.importing.csv_lines import FILE_BYTES_MAX, LINES_MAX

Import = Callable[..., Result]
_BLOCK = re.MULTILINE | re.DOTALL
FIRST = Yubikey("cccccccfvtrl")
SECOND = Yubikey("cccccccfvtru", bytes.fromhex("a1b2c3d4e5f6"), bytes.fromhex("00112233445566778899aabbccddeeff"))


@pytest.fixture
def import_text(invoke: Invoke, tmp_path: Path) -> Import:
    """Import a file that says this; nothing that is printed ever holds a secret of it."""
    invoke("account", "add", "alice")
    invoke("account", "add", "bob")

    def run(text: str | bytes, *arguments: str) -> Result:
        file = tmp_path / "keys.csv"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        result = invoke("import", "yubico-csv", str(file), *arguments)
        assert not [key for key in (FIRST, SECOND) if key.aes_key.hex()[:8] in result.output.lower()]
        assert not [key for key in (FIRST, SECOND) if key.private_id.hex() in result.output.lower()]
        return result

    return run


def rows_of(data_dir: Path) -> list[list[tuple[object, ...]]]:
    """Everything that the database holds, but for the trace of its keys, which each command leaves."""
    with closing(sqlite3.connect(data_dir / "twofold.db")) as database:
        database.execute("DELETE FROM accounts WHERE id = ' keys'")
        database.execute("DELETE FROM events WHERE account_id = ' keys'")
        database.execute("UPDATE keyring SET unwrapped_at = 0")
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        rows = [database.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables]  # noqa: S608 - own tables
        database.rollback()
        return rows


def test_a_key_is_imported_and_then_lets_in_once(invoke: Invoke, import_text: Import) -> None:
    imported = import_text(FIRST.csv, "--account", "alice")
    assert (imported.exit_code, imported.stdout) == (0, "1  cccccccfvtrl  alice  imported\n")
    assert imported.stderr.endswith("keys.csv still holds the secrets: remove it once you need it no more.\n")
    assert "yubico_otp" in invoke("account", "show", "alice").stdout
    typed = FIRST.type(1, 0)
    assert invoke("account", "verify", "alice", typed=f"{typed}\n").stdout == "verified (yubico_otp)\n"
    again = invoke("account", "verify", "alice", typed=f"{typed}\n")
    assert (again.exit_code, again.stdout) == (1, "refused (code_already_used): that code was already used\n")
    assert invoke("account", "verify", "bob", typed=f"{typed}\n").exit_code == 69


def test_lines_that_are_wrong_are_refused_and_the_others_go_in(import_text: Import) -> None:
    text = f"{FIRST.csv}508326,{SECOND.public_id},,{SECOND.aes_key.hex()},,,\n{SECOND.csv.replace('508326', '7')}"
    result = import_text(text, "--account", "alice", "--json")
    assert result.exit_code == 1
    first, second, third = json.loads(result.stdout)
    assert first.pop("authenticator_id").startswith("au_")
    assert first == {"line": 1, "result": "imported", "public_id": "cccccccfvtrl", "account": "alice", "problem": None}
    assert second == {
        "line": 2,
        "result": "refused",
        "public_id": None,
        "account": None,
        "authenticator_id": None,
        "problem": "private_id: expected 12 hexadecimal digits",
    }
    assert (third["line"], third["result"]) == (3, "imported")
    assert result.stderr.endswith("twofold: 1 of 3 lines were refused\n")


def test_each_key_goes_to_the_account_that_its_serial_or_public_id_names(
    invoke: Invoke, import_text: Import, tmp_path: Path
) -> None:
    third = Yubikey("cccccccccccb")
    owners = tmp_path / "owners.csv"
    owners.write_text(f"# who has which\n508326,alice\n{SECOND.public_id.upper()}, bob\n")
    text = FIRST.csv + SECOND.csv.replace("508326", "") + third.csv.replace("508326", "9")
    result = import_text(text, "--accounts", str(owners))
    assert result.exit_code == 1
    problem = "account: expected a line with this key or its serial in --accounts"
    assert result.stdout.splitlines() == [
        "1  cccccccfvtrl  alice  imported",
        "2  cccccccfvtru  bob    imported",
        f"3  cccccccccccb  -      refused: {problem}",
    ]
    labels = [json.loads(invoke("account", "show", name, "--json").stdout) for name in ("alice", "bob")]
    assert [account["authenticators"][0]["label"] for account in labels] == ["YubiKey 508326", "YubiKey"]


def test_a_dry_run_says_what_would_happen_and_writes_nothing(import_text: Import, data_dir: Path) -> None:
    import_text(SECOND.csv, "--account", "bob")
    before = rows_of(data_dir)
    result = import_text(f"{FIRST.csv}{SECOND.csv}nonsense\n", "--account", "alice", "--dry-run")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "1  cccccccfvtrl  alice  would be imported",
        "2  cccccccfvtru  alice  refused: another account has this YubiKey already",
        "3  -             -      refused: serial: expected digits, or nothing",
    ]
    assert rows_of(data_dir) == before
    assert import_text(FIRST.csv, "--account", "alice", "--dry-run").exit_code == 0
    assert rows_of(data_dir) == before
    assert import_text(FIRST.csv, "--account", "alice").exit_code == 0
    assert rows_of(data_dir) != before


def test_a_key_is_imported_once_and_for_accounts_that_there_are(import_text: Import) -> None:
    assert import_text(FIRST.csv, "--account", "alice").exit_code == 0
    for account, why in (
        ("alice", "this account has this YubiKey already"),
        ("bob", "another account has this YubiKey already"),
        ("nobody", "there is no account of that id"),
    ):
        refused = import_text(FIRST.csv, "--account", account)
        assert (refused.exit_code, refused.stdout) == (1, f"1  cccccccfvtrl  {account}  refused: {why}\n")


def failure(result: Result) -> tuple[int, str]:
    """The exit status, and the one line on stderr with nothing on stdout."""
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    return result.exit_code, result.stderr.removeprefix("twofold: ").rstrip("\n")


def test_it_is_said_whose_the_keys_are(import_text: Import) -> None:
    for arguments in ((), ("--account", "alice", "--accounts", "owners.csv")):
        status, line = failure(import_text(FIRST.csv, *arguments))
        assert status == 2
        assert line.startswith("say whose the keys are: either --account ID or --accounts OWNERS (see ")
    assert failure(import_text(FIRST.csv, "--account", "a/b"))[1].startswith("id: expected 1 to 128 printable")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("508326\n", "--accounts, line 1: expected serial or public id, account"),
        ("508326,alice,bob\n", "--accounts, line 1: expected serial or public id, account"),
        ("508326,alice\n,bob\n", "--accounts, line 2: expected serial or public id, account"),
        ("508326,alice\n508326,bob\n", "--accounts, line 2: expected one account for each key"),
        ("508326,a/b\n", "id: expected 1 to 128 printable characters in NFC, without / and outer spaces"),
        ("508326,\xe4\n".encode("latin-1"), "--accounts: expected text in UTF-8"),
    ],
)
def test_a_list_of_owners_that_is_wrong_imports_nothing(
    invoke: Invoke, import_text: Import, tmp_path: Path, text: str | bytes, expected: str
) -> None:
    owners = tmp_path / "owners.csv"
    owners.write_bytes(text.encode() if isinstance(text, str) else text)
    assert failure(import_text(FIRST.csv, "--accounts", str(owners))) == (2, expected)
    assert "yubico_otp" not in invoke("account", "list").stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "FILE: expected a line for each YubiKey"),
        ("# none\n", "FILE: expected a line for each YubiKey"),
        (b"\x00\xff\xfe", "FILE: expected text in UTF-8"),
        (FIRST.csv.encode("utf-16"), "FILE: expected text in UTF-8"),
        (b"#" * (FILE_BYTES_MAX + 1), "FILE: expected at most 10,000,000 bytes"),
        (b"a\n" * (LINES_MAX + 1), "FILE: expected at most 100,000 lines"),
    ],
    ids=["empty", "comments", "binary", "UTF-16", "large", "long"],
)
def test_a_file_that_is_none_is_refused_in_one_line(import_text: Import, text: str | bytes, expected: str) -> None:
    assert failure(import_text(text, "--account", "alice")) == (2, expected)


def test_what_cannot_be_read_is_named(invoke: Invoke, tmp_path: Path) -> None:
    invoke("account", "add", "alice")
    for path in (tmp_path / "gone.csv", tmp_path):
        status, line = failure(invoke("import", "yubico-csv", str(path), "--account", "alice"))
        assert (status, line.startswith(f"{path}: ")) == (1, True)
    assert "'yubico-csv'" in failure(invoke("import", "yubico", str(tmp_path / "x"), "--account", "alice"))[1]


def test_the_page_on_the_factor_shows_what_is_printed(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "factors" / "yubico_otp.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name, text in zip(("keys.csv", "owners.csv"), re.findall(r"^```text\n(.*?)^```$", page, _BLOCK), strict=True):
        (tmp_path / name).write_text(text)
    for account_id in ("alice", "bob"):
        invoke("account", "add", account_id)
    commands = re.findall(r"^\$ twofold (.+)\n((?:(?!\$ |```).*\n)*)", page, re.MULTILINE)
    assert len(commands) == 2
    for command, shown in commands:
        result = invoke(*command.split())
        assert (result.exit_code, result.output) == (0, shown)
