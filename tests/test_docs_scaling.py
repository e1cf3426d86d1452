"""`docs/scaling.md` is followed where it can be: a move into divided tables, and the SQL that looks at them.

What it says of databases that are spread over several machines is compared with the tables that there are.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres import PASSWORD, PostgresServer
from tests.test_docs_console import DOCS, SERVED_AT, Shell, check_printed, steps

from twofold.stores._postgres_schema import MIGRATIONS

PAGE = DOCS / "scaling.md"
TEXT = PAGE.read_text(encoding="utf-8")
TABLES = "\n".join(file.read_text("utf-8") for file in sorted(MIGRATIONS.glob("*.sql")))
BY_HASH = dict(re.findall(r"CREATE TABLE (twofold\.\w+) \([^;]*?\n\) /\* BY HASH \((\w+)\) \*/;", TABLES))
SPREAD = re.compile(r"create_distributed_table\('([\w.]+)', '(\w+)', colocate_with => '([\w.]+)'\)")


def sql() -> list[str]:
    """The statements that are run: all but those for which there is no server here."""
    blocks = re.findall(r"(<!-- not run: .+? -->\n)?```sql\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [statement for excuse, statement in blocks if not excuse]


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create_database(is_prepared=False)
    yield name
    postgres_server.drop_database(name)


def test_the_page_leads_into_divided_tables_and_shows_them(
    database: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    def here(text: str) -> str:
        place = f"@127.0.0.1:{postgres_server.port}/{database}"
        return text.replace("@db1/twofold", place).replace("a-long-password", PASSWORD)

    shell = Shell(tmp_path, SERVED_AT)
    try:
        shell.run("twofold account add ada")
        for step in steps(PAGE):
            check_printed(here(step.shown), shell.run(here(step.command)))
    finally:
        shell.close()
    sizes, parts = (postgres_server.sql(statement, database=database) for statement in sql())
    assert all(size for row in sizes for size in row)
    assert {table: count for table, count, _ in parts} == {table.partition(".")[2]: 16 for table in BY_HASH}


def test_tables_are_spread_as_they_would_be_divided_and_with_the_accounts_where_they_are_keyed_by_them() -> None:
    spread = {table: (key, beside) for table, key, beside in SPREAD.findall(TEXT)}
    beside_accounts = {table: (key, "twofold.accounts") for table, key in BY_HASH.items() if key == "account_id"}
    # The limits stay on one machine: the page says why.
    assert spread == beside_accounts | {"twofold.claims": (BY_HASH["twofold.claims"], "none")}
    assert f"create_distributed_table('twofold.accounts', '{BY_HASH['twofold.accounts']}');" in TEXT
    assert f"spread by `{BY_HASH['twofold.rate']}`" in re.sub(r"\s+", " ", TEXT)


def test_all_other_tables_are_said_to_stay_on_one_machine_or_to_be_copied_to_each() -> None:
    others = {table.partition(".")[2] for table in re.findall(r"CREATE TABLE (twofold\.\w+)", TABLES)}
    others -= {table.partition(".")[2] for table in BY_HASH}
    (staying,) = re.findall(r"machine has a copy\. (.+?) stay on the coordinator", TEXT.replace("\n", " "))
    copied = set(re.findall(r"create_reference_table\('twofold\.(\w+)'\)", TEXT))
    assert set(re.findall(r"`(\w+)`", staying)) | copied == others | {"schema_version"}
