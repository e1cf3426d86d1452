"""`account add`, `list`, `show`, and what all commands have in common."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import Result
from tests.cli.conftest import NOON, Invoke, Phone

from twofold import __version__

Enrolled = tuple[Phone, list[str]]
GOOD = "correct horse battery"


def one_line(text: str) -> str:
    """The text, which must be one whole line."""
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text[:-1]


def failure(result: Result, status: int = 1) -> str:
    """The one line on stderr with which a command failed."""
    assert (result.exit_code, result.stdout) == (status, "")
    return one_line(result.stderr)


def test_account_is_added_once(invoke: Invoke) -> None:
    added = invoke("account", "add", "me")
    assert (added.exit_code, added.stdout) == (0, "added me; next: twofold account enroll me\n")
    again = invoke("account", "add", "me")
    assert failure(again) == "twofold: there is an account me already; nothing was changed"


def test_password_comes_from_one_line_without_a_terminal(invoke: Invoke) -> None:
    assert invoke("account", "add", "me", "--password", typed=f"{GOOD}\n").exit_code == 0
    assert invoke("account", "list").stdout == "me  empty  password  0\n"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("short\n", "password: expected 8 to 128 characters"),
        ("password123\n", "password: expected one that is not on the list of well-known passwords"),
        ("", "password: expected one line"),
    ],
)
def test_bad_password_leaves_no_account_behind(invoke: Invoke, typed: str, expected: str) -> None:
    assert failure(invoke("account", "add", "me", "--password", typed=typed), 2).startswith(f"twofold: {expected}")
    assert json.loads(invoke("account", "list", "--json").stdout) == []


def test_password_is_added_to_an_account_without_one_and_never_replaced(invoke: Invoke) -> None:
    invoke("account", "add", "me")
    added = invoke("account", "add", "me", "--password", typed=f"{GOOD}\n")
    assert (added.exit_code, added.stdout) == (0, "password set for me; next: twofold account enroll me\n")
    again = invoke("account", "add", "me", "--password", typed="another good one\n")
    assert failure(again) == "twofold: there is an account with a password me already; nothing was changed"


@pytest.mark.parametrize("account_id", ["", "a/b", " me", "a\u0308", "x" * 129, "\udcff"])
def test_id_that_cannot_be_one_is_refused_by_every_command(invoke: Invoke, account_id: str) -> None:
    for command in ("add", "show", "verify", "enroll", "test"):
        assert "id: expected 1 to 128 printable characters" in failure(invoke("account", command, "--", account_id), 2)


def test_list_and_show_tell_what_there_is_and_no_secret(invoke: Invoke, enrolled: Enrolled) -> None:
    invoke("account", "add", "you")
    assert invoke("account", "list").stdout == "me   active  totp  10\nyou  empty   -     0\n"

    listed = invoke("account", "list", "--json")
    mine, yours = json.loads(listed.stdout)
    shown = invoke("account", "show", "me", "--json")
    assert json.loads(shown.stdout) == mine
    assert (mine["id"], mine["state"], mine["recovery_codes_left"]) == ("me", "active", 10)
    assert mine["throttle"] == {"state": "open", "retry_after": None}
    assert yours["authenticators"] == []
    (totp,) = mine["authenticators"]
    assert (totp["factor"], totp["state"], totp["created_at"]) == ("totp", "active", "2026-03-01T12:00:00Z")

    told = invoke("account", "show", "me").stdout
    assert f"totp            {totp['id']}: active, added 2026-03-01T12:00:00Z, last used 2026-03-01T12:00:00Z" in told
    phone, recovery_codes = enrolled
    for secret in (phone.key, *recovery_codes):
        assert secret not in listed.stdout + shown.stdout + told


def test_account_that_is_not_there_is_named_in_one_line(invoke: Invoke) -> None:
    invoke("account", "add", "me")
    assert failure(invoke("account", "show", "you")) == "twofold: there is no account of that id"


def test_a_name_is_found_in_capitals_too_unless_there_is_one_of_exactly_that_spelling(
    invoke: Invoke, enrolled: Enrolled
) -> None:
    phone, _ = enrolled
    assert invoke("account", "show", "ME").stdout == invoke("account", "show", "me").stdout
    assert invoke("account", "verify", "Me", typed=f"{phone.code()}\n").stdout == "verified (totp)\n"
    assert invoke("account", "test", "Me", typed=f"{phone.code()}\n").stdout == "fits\n"
    assert "me has an authenticator already" in invoke("account", "enroll", "Me").stdout
    assert invoke("account", "unlock", "Me").stderr.startswith("unlocked me;")
    assert failure(invoke("account", "show", "You")) == "twofold: there is no account of that id"

    invoke("account", "add", "Me")
    assert invoke("account", "show", "Me").stdout.startswith("account         Me\n")
    assert invoke("account", "verify", "Me", typed="000000\n").exit_code == 69
    assert invoke("account", "reset", "ME").stderr.startswith("reset me;")


def test_a_name_with_capitals_is_added_as_it_is_and_warned_about(invoke: Invoke) -> None:
    added = invoke("account", "add", "Bob")
    assert (added.exit_code, added.stdout) == (0, "added Bob; next: twofold account enroll Bob\n")
    warning = "twofold: Bob is found only if typed exactly so; bob would be found in capitals too"
    assert one_line(added.stderr) == warning
    assert invoke("account", "add", "bob").stderr == ""
    assert invoke("account", "add", "Bob", "--password", typed=f"{GOOD}\n").stderr == "", "it was told before"
    assert [account["id"] for account in json.loads(invoke("account", "list", "--json").stdout)] == ["Bob", "bob"]


@pytest.mark.parametrize("command", [("account", "list"), ("keys", "status"), ("audit", "verify"), ("apikey", "list")])
def test_mistyped_folder_is_an_error_and_makes_nothing(
    invoke: Invoke, command: tuple[str, ...], tmp_path: Path
) -> None:
    missing = tmp_path / "misstyped"
    assert f"there is no database {missing / 'twofold.db'}" in failure(invoke(*command, "--data-dir", str(missing)))
    assert not missing.exists()


def test_flags_come_before_the_environment(invoke: Invoke, tmp_path: Path, data_dir: Path) -> None:
    invoke("account", "add", "me", "--data-dir", str(tmp_path / "other"))
    assert (tmp_path / "other" / "twofold.db").exists()
    assert not data_dir.exists()
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    invoke("account", "add", "you", "--database-url", url)
    assert invoke("account", "list", "--database-url", url).stdout.startswith("you ")


def test_what_is_made_belongs_to_its_owner_alone(invoke: Invoke, data_dir: Path) -> None:
    invoke("account", "add", "me")
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()} == {0o600}


def test_unknown_setting_is_warned_about_beside_the_result(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_ISUER", "Acme")
    added = invoke("account", "add", "me")
    assert added.stdout == "added me; next: twofold account enroll me\n"
    assert one_line(added.stderr) == "twofold: unknown setting TWOFOLD_ISUER is ignored; did you mean TWOFOLD_ISSUER?"


def test_wrong_setting_is_one_line(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", "http://example.com")
    assert "PUBLIC_URL 'http://example.com': plain http" in failure(invoke("account", "add", "me"))


def test_missing_key_stops_every_command_and_is_never_made_anew(invoke: Invoke, data_dir: Path) -> None:
    invoke("account", "add", "me")
    (data_dir / "twofold.key").unlink()
    assert "twofold.key is missing" in failure(invoke("account", "list"))
    assert "twofold.key is missing" in failure(invoke("account", "add", "you"))
    assert not (data_dir / "twofold.key").exists()


def test_folder_that_is_none_is_one_line(invoke: Invoke, data_dir: Path) -> None:
    data_dir.write_text("a file where the folder should be")
    assert str(data_dir) in failure(invoke("account", "list"))
    assert str(data_dir) in failure(invoke("account", "add", "me"))


@pytest.mark.parametrize("arguments", [("nosuch",), ("account", "nosuch"), ("account", "add"), ("--nosuch",)])
def test_usage_error_is_one_line_with_the_way_to_help(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    assert failure(invoke(*arguments), 2).endswith(" --help)")


def test_help_and_version_need_nothing(invoke: Invoke, data_dir: Path) -> None:
    assert invoke("--version").stdout == f"twofold {__version__}\n"
    assert "Exit status: 0 verified, 1 refused, 75 throttled" in invoke("account", "verify", "--help").stdout
    assert not data_dir.exists()


def test_the_clock_of_these_tests_is_the_one_of_the_commands(invoke: Invoke, enrolled: Enrolled) -> None:
    assert NOON % 30 == 0
    assert "2026-03-01T12:00:00Z" in invoke("keys", "status").stdout
