import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from twofold.errors import ConfigurationError
from twofold.stores._sqlite_file import MIGRATIONS, prepare

LATEST = len(list(MIGRATIONS.glob("*.sql")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "twofold.db"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """The real migrations, for a test to add its own."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for file in MIGRATIONS.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def more(migrations: Path, ahead: int, name: str, sql: str) -> Path:
    """A migration that comes so many numbers after the last real one."""
    file = migrations / f"{LATEST + ahead:04}_{name}.sql"
    file.write_text(sql)
    return file


def run(path: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql).fetchall()


def tables(path: Path) -> set[str]:
    return {name for (name,) in run(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [int(file.name[:4]) for file in sorted(MIGRATIONS.glob("*.sql"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_new_database_has_the_tables_that_outsiders_may_read(path: Path) -> None:
    prepare(path)
    columns = [name for _, name, *_ in run(path, "PRAGMA table_info(events)")]
    assert columns == ["account_id", "seq", "at", "kind", "salt", "payload", "digest"]
    assert [name for _, name, *_ in run(path, "PRAGMA table_info(accounts)")][:2] == ["id", "version"]
    assert run(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_new_database_is_for_its_owner_alone_and_leaves_no_copy(path: Path) -> None:
    prepare(path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in path.parent.iterdir()} == {"twofold.db", "twofold.db-next", "twofold.db-turn"}
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_preparing_again_changes_nothing(path: Path) -> None:
    prepare(path)
    before = path.read_bytes()
    prepare(path)
    assert path.read_bytes() == before


def test_many_first_starts_at_once_make_one_database(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(prepare, [path] * 8))
    assert "accounts" in tables(path)


def test_a_copy_is_laid_beside_an_older_database_before_each_migration(path: Path, migrations: Path) -> None:
    prepare(path)
    run(path, "INSERT INTO settings VALUES ('kept', 'yes')")
    more(migrations, 1, "more", "CREATE TABLE more (n);")
    more(migrations, 2, "most", "CREATE TABLE most (n); INSERT INTO most VALUES (1);")
    prepare(path, migrations)
    assert {"more", "most"} <= tables(path)
    assert run(path, "SELECT value FROM settings") == [("yes",)]
    for ahead, missing in ((1, {"more", "most"}), (2, {"most"})):
        copy = path.with_name(f"twofold.db.before-{LATEST + ahead:04}")
        assert copy.stat().st_mode & 0o777 == 0o600
        assert run(copy, "SELECT value FROM settings") == [("yes",)]
        assert not missing & tables(copy)
    assert not list(path.parent.glob("*.draft"))


def test_a_change_of_the_database_is_a_line_in_the_log_and_nothing_else_is(
    path: Path, migrations: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "twofold")
    prepare(path)
    prepare(path)
    assert caplog.messages == [], "a new database, and one that is up to date"
    broken = more(migrations, 1, "more", "INSERT INTO missing VALUES (1);")
    with pytest.raises(ConfigurationError):
        prepare(path, migrations)
    assert caplog.messages == [], "it is still the old one"
    broken.write_text("CREATE TABLE more (n);")
    prepare(path, migrations)
    (line,) = caplog.messages
    assert f"{path} was changed from schema {LATEST} to {LATEST + 1};" in line
    assert line.endswith(f"; the one before is twofold.db.before-{LATEST + 1:04}")


def test_a_copy_can_be_put_back(path: Path, migrations: Path) -> None:
    prepare(path)
    more(migrations, 1, "more", "CREATE TABLE more (n);")
    prepare(path, migrations)
    path.with_name(f"twofold.db.before-{LATEST + 1:04}").replace(path)
    prepare(path)
    assert "more" not in tables(path)
    prepare(path, migrations)
    assert "more" in tables(path)


def test_a_migration_that_fails_leaves_the_database_as_it_was(path: Path, migrations: Path) -> None:
    prepare(path)
    broken = more(migrations, 1, "broken", "CREATE TABLE half (n); INSERT INTO missing VALUES (1);")
    with pytest.raises(ConfigurationError, match="no such table: missing"):
        prepare(path, migrations)
    assert "half" not in tables(path)
    prepare(path)
    broken.write_text("CREATE TABLE whole (n);")
    prepare(path, migrations)
    assert "whole" in tables(path)


def test_a_database_of_a_newer_program_is_refused_in_one_line(path: Path, migrations: Path) -> None:
    more(migrations, 1, "more", "CREATE TABLE more (n);")
    prepare(path, migrations)
    with pytest.raises(
        ConfigurationError, match=f"has schema {LATEST + 1}, this program knows up to {LATEST}"
    ) as refused:
        prepare(path)
    assert "\n" not in str(refused.value)
    prepare(path, migrations)


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    run(path, "CREATE TABLE bookmarks (url)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="belongs to another program"):
        prepare(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"holiday pictures" * 100)
    with pytest.raises(ConfigurationError, match="not a database"):
        prepare(path)
    assert path.read_bytes() == b"holiday pictures" * 100


def test_a_path_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "twofold.db", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be used") as refused:
            prepare(path)
        assert "\n" not in str(refused.value)
