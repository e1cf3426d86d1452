"""`docs/howto/many-nodes.md` is followed on a server with a standby: its SQL, its commands, its settings for nginx.

Only names of hosts are changed; what needs several machines is told there as not run.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import find_program
from tests.postgres import PostgresServer
from tests.test_docs_console import DOCS, SERVED_AT, Shell, check_printed, steps

PAGE = DOCS / "howto" / "many-nodes.md"
TEXT = PAGE.read_text(encoding="utf-8")
NGINX = (DOCS.parent / "deploy" / "compose" / "nginx.conf").read_text(encoding="utf-8")
#: A standby has a change before it is answered, and shows it a moment later.
REPLAY_S_MAX = 10
#: The role of the page; of that name there is a superuser in the clusters of tests.
ROLE = re.compile(r"(ROLE |OWNER |TO |//)twofold\b")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def servers(own_postgres: Callable[..., PostgresServer]) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """`db1` and its standby `db2`, after the SQL of the page."""
    db1 = own_postgres()
    first, later = (for_role(block).split(";\n")[:-1] for block in blocks("sql"))
    for statement in first:
        db1.sql(statement)
    with db1.make_standby("db2") as db2:
        for statement in later:
            db1.sql(statement)
        yield db1, db2


def for_role(text: str) -> str:
    return ROLE.sub(r"\1node", text)


def test_the_page_leads_from_a_file_to_a_server_with_a_standby_and_a_backup(
    servers: tuple[PostgresServer, PostgresServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db1, db2 = servers
    programs = Path(find_program("postgres")).resolve().parent
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    places = f"@127.0.0.1:{db2.port},127.0.0.1:{db1.port}/"

    def here(text: str) -> str:
        return for_role(text).replace("@db1,db2/", places)

    shell = Shell(tmp_path, SERVED_AT)
    try:
        shell.run("twofold account add ada")
        for step in steps(PAGE):
            check_printed(here(step.shown), shell.run(here(step.command)))
        assert "ada" in shell.run("twofold account list")
        findings = shell.run("twofold doctor")
        assert "1 follow; synchronous_standby_names is ANY 1 (db2, db3)" in findings
    finally:
        shell.close()
    bring_back(db1, db2, tmp_path)


def bring_back(db1: PostgresServer, db2: PostgresServer, folder: Path) -> None:
    """As the page says, into another database of the same servers."""
    db1.sql("CREATE DATABASE restored OWNER node ENCODING 'UTF8' TEMPLATE template0")
    deadline = time.monotonic() + REPLAY_S_MAX
    while not db2.sql("SELECT FROM pg_database WHERE datname = 'restored'"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    url = (folder / "database-url").read_text().replace("/twofold?", "/restored?")
    (folder / "database-url").write_text(url)
    shell = Shell(folder, SERVED_AT)
    (block,) = (block for block in blocks("console") if "pg_restore" in block)
    try:
        shell.run("export TWOFOLD_DATABASE_URL_FILE=database-url")
        printed = [shell.run(command) for command in re.findall(r"^\$ (.+)$", block, re.MULTILINE)]
        assert printed[1].strip() == "every account opens"
        assert printed[2].startswith("the audit log holds")
        assert "ada" in shell.run("twofold account list")
    finally:
        shell.close()


def test_what_the_page_says_of_nginx_is_in_the_file_that_the_tests_run() -> None:
    lines = {line.split("#")[0].strip() for line in NGINX.replace("twofold-", "node").splitlines()}
    for block in blocks("nginx"):
        for line in block.splitlines():
            assert line.strip() in lines


def test_the_command_line_of_the_page_has_the_settings_of_the_node(tmp_path: Path) -> None:
    (command,) = re.findall(r"^\$ sudo -u twofold (sh -c '.+')$", TEXT, re.MULTILINE)
    settings = DOCS.parent / "deploy" / "systemd" / "twofold.env"
    command = command.replace("/etc/twofold/twofold.env", str(settings)).replace(
        "exec /opt/twofold/bin/twofold account list", "env"
    )
    told = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "TWOFOLD_PUBLIC_URL=https://login.example.com\n" in told
