"""`twofold doctor` over PostgreSQL: each finding of a real server beside the same server when it is sound."""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import msgspec
import pytest
from tests.certificates import make_certificate
from tests.cli.conftest import Invoke
from tests.postgres import PostgresServer

from twofold import doctor
from twofold.config import Settings
from twofold.doctor import postgres as examining
from twofold.doctor.finding import Finding
from twofold.doctor.postgres import Facts, check_replicas, check_server, check_transport, read_facts
from twofold.key_ports import Node
from twofold.stores._postgres_connection import connect

NO_TIME_SERVER = "127.0.0.1:9"
Find = Callable[..., list[Finding]]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """The findings of one check; those that need mending say how, and no password is in any."""

    def find(url: str, check: str) -> list[Finding]:
        found = doctor.examine(Settings(data_dir=tmp_path / "data", database_url=url), ntp_server=NO_TIME_SERVER)
        assert all((each.mend is None) == (each.state in ("ok", "unknown")) for each in found)
        password = url.partition("@")[0].rpartition(":")[2]
        assert not any(password in each.finding + (each.mend or "") for each in found)
        return [each for each in found if each.check == check]

    return find


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresServer]:
    """A cluster of these tests alone, for settings that are those of all its databases."""
    with PostgresServer() as server:
        server.create()
        server.start()
        yield server


@contextmanager
def configured(server: PostgresServer, **settings: str) -> Iterator[None]:
    """These settings inside the block, those of before after it."""
    before = {name: server.sql("SELECT reset_val FROM pg_settings WHERE name = $1", name)[0][0] for name in settings}
    server.configure(**settings)
    try:
        yield
    finally:
        server.configure(**before)


def facts_of(url: str) -> Facts:
    async def read() -> Facts:
        connection = await connect(url)
        try:
            return await read_facts(connection)
        finally:
            await connection.close()

    return asyncio.run(read())


def with_role(server: PostgresServer, url: str, *grants: str) -> str:
    """The same database for a new role that may only do what is granted, `{}` standing for its name."""
    name = f"role_{time.monotonic_ns()}"
    server.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'of-a-role'")
    for grant in grants:
        server.sql(grant.format(name), database=url.rpartition("/")[2])
    return f"postgresql://{name}:of-a-role@{url.partition('@')[2]}"


def test_sound_database_has_only_good_findings(
    invoke: Invoke, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOFOLD_DATABASE_URL", postgres_url)
    assert invoke("account", "add", "me").exit_code == 0
    examined = invoke("doctor", "--json", "--ntp", NO_TIME_SERVER)
    found = {each["check"]: each for each in json.loads(examined.stdout)}
    assert examined.exit_code == 0
    assert {check for check, each in found.items() if each["state"] == "unknown"} == {"clock", "disk"}
    assert {each["state"] for each in found.values()} == {"ok", "unknown"}
    assert "opens all 5 keys of the database" in found["master key"]["finding"]
    assert found["durability"]["finding"] == "synchronous_commit=on, fsync, full_page_writes"


def test_nothing_is_made_where_nothing_is_yet(postgres_server: PostgresServer, find: Find, tmp_path: Path) -> None:
    name = postgres_server.create_database(is_prepared=False)
    (found,) = find(postgres_server.url(name), "database")
    assert (found.state, found.finding) == ("ok", f"{name} takes writes; the first start makes the tables")
    assert postgres_server.sql("SELECT to_regnamespace('twofold')", database=name)[0][0] is None
    assert not (tmp_path / "data").exists()
    postgres_server.drop_database(name)


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        (lambda url: re.sub(r":\d+/", ":1/", url), "start PostgreSQL, or correct"),
        (lambda url: url.replace("//twofold:", "//twofold:not-"), "correct user and password"),
        (lambda url: f"{url}_gone", "CREATE DATABASE test_"),
        (lambda url: re.sub(r":\d+/", ":here/", url), "set TWOFOLD_DATABASE_URL="),
        (lambda url: f"{url}?sslmode=verify-full&sslrootcert=/gone.pem", "start PostgreSQL, or correct"),
    ],
    ids=["nobody there", "wrong password", "no such database", "no number", "no certificate"],
)
def test_a_database_that_cannot_be_reached_is_one_problem(
    postgres_url: str, find: Find, change: Callable[[str], str], mend: str
) -> None:
    assert find(postgres_url, "database")[0].state == "ok"
    (found,) = find(change(postgres_url), "database")
    assert found.state == "problem"
    assert str(found.mend).startswith(mend)
    assert find(change(postgres_url), "master key")[0].state == "unknown"


def test_tables_of_another_version_are_a_problem(
    postgres_server: PostgresServer, postgres_url: str, find: Find
) -> None:
    name = postgres_url.rpartition("/")[2]
    (version,) = postgres_server.sql("SELECT version FROM twofold.schema_version", database=name)[0]
    for other, sentence in ((version + 1, "use a newer Twofold"), (version - 1, "start `twofold serve` once")):
        postgres_server.sql("UPDATE twofold.schema_version SET version = $1", other, database=name)
        (found,) = find(postgres_url, "database")
        assert (found.state, sentence in found.finding) == ("problem", True)
    postgres_server.sql("UPDATE twofold.schema_version SET version = $1", version, database=name)
    assert find(postgres_url, "database")[0].state == "ok"


def test_rights_that_are_missing_are_named(postgres_server: PostgresServer, postgres_url: str, find: Find) -> None:
    stranger = with_role(postgres_server, postgres_url)
    (found,) = find(stranger, "database")
    role = stranger.partition("//")[2].partition(":")[0]
    assert (found.state, found.mend) == ("problem", f"GRANT twofold TO {role}")
    postgres_server.sql(f"GRANT twofold TO {role}")
    assert find(stranger, "database")[0].state == "ok"
    empty = postgres_server.create_database(is_prepared=False)
    newcomer = with_role(postgres_server, postgres_server.url(empty))
    (found,) = find(newcomer, "database")
    assert str(found.mend).startswith(f"GRANT CREATE ON DATABASE {empty} TO role_")
    postgres_server.sql(str(found.mend))
    assert find(newcomer, "database")[0].state == "ok"
    postgres_server.drop_database(empty)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_settings_that_lose_everything_in_a_power_cut_are_a_problem(
    cluster: PostgresServer, find: Find, setting: str
) -> None:
    assert find(cluster.url("postgres"), "durability")[0].state == "ok"
    with configured(cluster, **{setting: "off"}):
        (found,) = find(cluster.url("postgres"), "durability")
    assert (found.state, found.mend) == ("problem", f"ALTER SYSTEM SET {setting} = on; SELECT pg_reload_conf()")


def test_commits_that_are_not_waited_for_are_a_problem_and_the_line_mends_it(
    postgres_server: PostgresServer, postgres_url: str, find: Find
) -> None:
    name = postgres_url.rpartition("/")[2]
    postgres_server.sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    (found,) = find(postgres_url, "durability")
    assert (found.state, "used codes may be good again" in found.finding) == ("problem", True)
    postgres_server.sql(str(found.mend))
    assert find(postgres_url, "durability")[0].state == "ok"


def test_old_rows_that_nobody_clears_away_are_noticed(cluster: PostgresServer, find: Find) -> None:
    assert find(cluster.url("postgres"), "server")[0].state == "ok"
    with configured(cluster, autovacuum="off"):
        assert find(cluster.url("postgres"), "server")[0].state == "warning"


def test_replicas_must_be_waited_for_and_be_there(own_postgres: Callable[..., PostgresServer], find: Find) -> None:
    primary = own_postgres()
    url = primary.url("postgres")
    assert find(url, "replicas")[0].finding.startswith("there are none")
    with configured(primary, synchronous_commit="local"):
        assert find(url, "durability")[0].state == "ok", "there is nobody to wait for"
    with configured(primary, synchronous_standby_names="standby"):
        assert find(url, "replicas")[0].state == "problem", "it is not connected"
    with primary.make_standby() as standby:
        assert find(url, "replicas")[0].state == "warning", "it is not waited for"
        with configured(primary, synchronous_commit="local"):
            assert find(url, "durability")[0].state == "problem"
        (refused,) = find(standby.url("postgres"), "database")
        assert "no server there takes writes" in refused.finding
        with configured(primary, synchronous_standby_names="another"):
            assert find(url, "replicas")[0].state == "problem", "another one is waited for"
        with configured(primary, synchronous_standby_names="standby"):
            (found,) = find(url, "replicas")
            assert (found.state, found.finding) == ("ok", "1 follow; synchronous_standby_names is standby")


def test_who_sees_no_details_of_replicas_suspects_none() -> None:
    facts = some_facts(synchronous_names="standby", replicas=1, synchronous_replicas=0)
    assert check_replicas(msgspec.structs.replace(facts, sees_others=True)).state == "problem"
    assert check_replicas(msgspec.structs.replace(facts, sees_others=False)).state == "ok"


def some_facts(**changed: object) -> Facts:
    """What a sound server says."""
    sound = Facts(
        major=15,
        version="15.1",
        encoding="UTF8",
        database="twofold",
        role="twofold",
        size_bytes=1 << 24,
        synchronous_commit="on",
        is_synced=True,
        writes_full_pages=True,
        vacuums=True,
        synchronous_names="",
        replicas=0,
        synchronous_replicas=0,
        sees_others=True,
        is_encrypted=True,
        is_local=False,
        connections_max=97,
        timeouts=(),
        may_create=True,
        owner="twofold",
        closed_tables=0,
    )
    return msgspec.structs.replace(sound, **changed)


def test_versions_and_encodings_that_do_not_fit_are_a_problem(
    postgres_server: PostgresServer, postgres_url: str, find: Find
) -> None:
    assert find(postgres_url, "server")[0].state == "ok"
    postgres_server.sql("CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0")
    assert find(postgres_server.url("narrow"), "server")[0].finding == "the encoding LATIN1 cannot hold every name"
    postgres_server.drop_database("narrow")
    assert check_server(some_facts(major=13, version="13.9")).finding == "PostgreSQL 13.9 is too old"
    assert check_server(some_facts(major=14)).state == "ok"


def test_tls_is_wanted_over_a_network_and_believes_nobody_without_a_certificate(
    own_postgres: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    server = own_postgres()
    files = make_certificate(server.folder, "localhost")
    for file in files:
        os.chown(file, server.folder.stat().st_uid, server.folder.stat().st_gid)
        file.chmod(0o600)
    url = server.url("postgres")
    assert facts_of(f"{url}?sslmode=prefer").is_encrypted is False
    server.configure(ssl="on", ssl_cert_file=str(files.cert), ssl_key_file=str(files.key))
    facts = facts_of(f"{url}?sslmode=require")
    assert facts.is_encrypted
    assert check_transport(facts, url).finding == "the database is on this machine"
    elsewhere = msgspec.structs.replace(facts, is_local=False)
    assert check_transport(elsewhere, f"{url}?sslmode=verify-full").state == "ok"
    believing = check_transport(elsewhere, f"{url}?sslmode=require")
    assert (believing.state, believing.finding) == ("warning", "TLS with sslmode=require: whoever answers is believed")
    in_clear = check_transport(msgspec.structs.replace(elsewhere, is_encrypted=False), url)
    assert (in_clear.state, "?sslmode=verify-full" in str(in_clear.mend)) == ("warning", True)


def test_a_pooler_that_drops_the_time_limits_is_noticed_and_the_lines_mend_it(
    postgres_server: PostgresServer, postgres_url: str, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(postgres_url, "timeouts")[0].state == "ok"
    monkeypatch.setattr(examining, "connect", asyncpg.connect)
    role = with_role(postgres_server, postgres_url, "GRANT twofold TO {}")
    (found,) = find(role, "timeouts")
    assert found.state == "warning"
    for line in str(found.mend).split("; "):
        postgres_server.sql(line)
    assert find(role, "timeouts")[0].state == "ok"


def test_a_database_of_another_time_is_noticed(postgres_url: str, find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(postgres_url, "db clock")[0].state == "ok"
    now = time.time
    monkeypatch.setattr("time.time", lambda: now() + 90)
    (found,) = find(postgres_url, "db clock")
    assert found.state == "warning"
    assert re.fullmatch(r"the database is (89\.9|90\.0)\d\d s behind this machine", found.finding)


def test_room_for_the_connections_of_all_nodes_is_counted(
    postgres_server: PostgresServer, postgres_url: str, find: Find
) -> None:
    (found,) = find(postgres_url, "connections")
    assert (found.state, found.finding[:23]) == ("ok", "0 processes and one mor")
    name = postgres_url.rpartition("/")[2]
    postgres_server.sql(f"ALTER DATABASE {name} CONNECTION LIMIT 30")
    assert find(postgres_url, "connections")[0].state == "ok"
    put_nodes(postgres_server, postgres_url, *(Node(f"n{number}", "one", 0, seen(0)) for number in range(4)))
    assert find(postgres_url, "connections")[0].state == "warning"


@contextmanager
def forgotten(url: str) -> Iterator[None]:
    """Somebody begins a transaction and does not end it inside the block."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(url))
        runner.run(connection.execute("BEGIN; SELECT * FROM twofold.schema_version"))
        yield
        runner.run(connection.close())


def test_transactions_that_are_open_for_long_are_noticed(
    postgres_url: str, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forgotten(postgres_url):
        assert find(postgres_url, "vacuum")[0].state == "ok"
        monkeypatch.setattr(examining, "OLD_TRANSACTION_S", 0)
        (found,) = find(postgres_url, "vacuum")
        assert found.state == "warning"
        assert re.fullmatch(r"SELECT pg_terminate_backend\(\d+\)", str(found.mend))
    assert find(postgres_url, "vacuum")[0].state == "ok"


def test_a_prepared_transaction_that_nobody_ends_is_noticed_and_the_line_ends_it(
    own_postgres: Callable[..., PostgresServer], find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'for''gotten'")
        await connection.close()

    server = own_postgres(max_prepared_transactions="2")
    url = server.url("postgres")
    monkeypatch.setattr(examining, "OLD_TRANSACTION_S", 0)
    assert find(url, "vacuum")[0].state == "ok"
    asyncio.run(forget())
    (found,) = find(url, "vacuum")
    assert (found.state, found.mend) == ("warning", "ROLLBACK PREPARED 'for''gotten'")
    server.sql(str(found.mend))
    assert find(url, "vacuum")[0].state == "ok"


def test_who_may_not_see_the_transactions_of_others_is_told_so(
    postgres_server: PostgresServer, postgres_url: str, find: Find
) -> None:
    role = with_role(postgres_server, postgres_url)
    (found,) = find(role, "vacuum")
    name = role.partition("//")[2].partition(":")[0]
    assert found.finding.endswith(f"GRANT pg_read_all_stats TO {name} shows the others")
    postgres_server.sql(f"GRANT pg_read_all_stats TO {name}")
    assert find(role, "vacuum")[0].finding == "no transaction holds it back"


def put_nodes(server: PostgresServer, url: str, *nodes: Node) -> None:
    for node in nodes:
        sql = "INSERT INTO twofold.nodes (id, seen_at, document) VALUES ($1, $2, $3)"
        server.sql(sql, node.id, node.seen_at, msgspec.json.encode(node), database=url.rpartition("/")[2])


def seen(ago_s: float) -> int:
    return int((time.time() - ago_s) * 1_000_000)


def test_nodes_that_serve_are_counted_and_those_in_trouble_named(
    postgres_server: PostgresServer, postgres_url: str, find: Find
) -> None:
    assert [found.finding for found in find(postgres_url, "nodes")] == ["none serves now"]
    sound = (Node("a", "alpha", 0, seen(0)), Node("b", "alpha", 0, seen(2)), Node("c", "beta", 0, seen(1)))
    put_nodes(postgres_server, postgres_url, *sound, Node("d", "gone", 0, seen(3600)))
    (found,) = find(postgres_url, "nodes")
    assert (found.state, found.finding) == ("ok", "serving, each with its processes: alpha (2), beta (1)")
    put_nodes(
        postgres_server,
        postgres_url,
        Node("e", "keyless", 0, seen(0), fault="no key file"),
        Node("f", "early", 0, seen(-8)),
        Node("g", "late", 0, seen(20)),
    )
    keyless, early, late, _ = find(postgres_url, "nodes")
    assert (keyless.state, keyless.finding) == ("problem", "keyless cannot use the master key: no key file")
    assert (early.state, early.finding[:25]) == ("warning", "the clock of early is 8 s")
    assert (late.state, late.finding[:24]) == ("warning", "late was last heard 20 s")


def test_a_node_without_the_key_of_the_others_is_told_where_to_get_it(
    invoke: Invoke, postgres_url: str, find: Find, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOFOLD_DATABASE_URL", postgres_url)
    invoke("account", "add", "me")
    assert find(postgres_url, "master key")[0].state == "ok"
    key = (data_dir / "twofold.key").rename(data_dir.parent / "twofold.key")
    (found,) = find(postgres_url, "master key")
    assert (found.state, found.mend) == (
        "problem",
        f"put the right {data_dir / 'twofold.key'} back from another node or a backup",
    )
    key.rename(data_dir / "twofold.key")
    assert find(postgres_url, "master key")[0].state == "ok"


def test_without_the_library_the_line_that_installs_it_is_told(
    postgres_url: str, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(postgres_url, "database")[0].state == "ok"
    monkeypatch.delitem(sys.modules, "twofold.doctor.postgres")
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    (found,) = find(postgres_url, "database")
    assert (found.state, found.mend) == ("problem", "pip install 'twofold[postgres]'")


def test_a_database_whose_data_were_moved_says_where_they_are(
    invoke: Invoke, postgres_url: str, find: Find, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("account", "add", "me")
    file = f"sqlite:///{data_dir / 'twofold.db'}"
    assert find(file, "move") == find(postgres_url, "move") == []
    assert invoke("migrate-store", file, postgres_url).exit_code == 0
    (left,) = find(file, "move")
    assert (left.state, left.mend) == ("problem", "set TWOFOLD_DATABASE_URL to it")
    assert left.finding.endswith(postgres_url.partition("@")[2])
    assert find(postgres_url, "move") == []


def test_a_move_that_was_cut_off_is_noticed(postgres_server: PostgresServer, postgres_url: str, find: Find) -> None:
    insert = "INSERT INTO twofold.settings (name, value) VALUES ('moving_from', 'master-1 sqlite:///here')"
    postgres_server.sql(insert, database=postgres_url.rpartition("/")[2])
    (found,) = find(postgres_url, "move")
    assert (found.state, found.mend) == ("problem", "go on with the same twofold migrate-store")
