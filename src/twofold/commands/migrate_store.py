"""`twofold migrate-store`: a deployment from one database into another, SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Union

import click
import msgspec

from twofold import migrating
from twofold.bootstrap import open_keyring
from twofold.clocks import SystemEntropy, system_clock
from twofold.commands.shell import EXIT_INTERRUPTED, json_option, opened, print_json, with_settings
from twofold.config import Settings, environment
from twofold.core.clock import in_seconds
from twofold.core.codec import Codec
from twofold.databases import find_database
from twofold.errors import ConfigurationError, Refused
from twofold.key_ports import Node, WrappedKey
from twofold.keys.keyring import Keyring
from twofold.keys.node import ALIVE_S
from twofold.keys.providers import open_provider
from twofold.keys.trace import KeyTrace
from twofold.migrating import Note
from twofold.server.alone import only_server
from twofold.stores._sqlite_side import SqliteSide
from twofold.stores._tables import Table
from twofold.stores.memory import MemoryStore

if TYPE_CHECKING:
    from twofold.stores._postgres_side import PostgresSide

Side = Union[SqliteSide, "PostgresSide"]
PARTITIONS_MAX = 1024


@click.command("migrate-store")
@click.argument("source_url", metavar="FROM")
@click.argument("target_url", metavar="TO")
@click.option("--partitions", type=click.IntRange(2, PARTITIONS_MAX), help="Divide the new tables into so many.")
@json_option
@with_settings
def migrate_store(
    settings: Settings, *, source_url: str, target_url: str, partitions: int | None, as_json: bool
) -> None:
    """Move everything from one database into another, check it there, and close the old place.

    FROM and TO are sqlite:///path/to/file.db or postgresql://user:password@host/database. Nobody may serve them
    meanwhile. What was cut off goes on with the same command.
    """
    at_source = _at("FROM", source_url, settings)
    at_target = _at("TO", target_url, settings)
    if partitions and at_target.postgres_url is None:
        raise click.UsageError("--partitions is for a TO in PostgreSQL")
    if at_source.database_url == at_target.database_url:
        raise click.UsageError("FROM and TO are the same database")
    try:
        with ExitStack() as held:
            source = _open_source(at_source, held)
            target = held.enter_context(closing(_open(at_target, partitions or 0)))
            if migrating.is_done(source, target):
                click.echo(f"{source.place} was moved to {target.place} before")
                return
            _reserve(target, held)
            trace, counts = _move(settings, source, target)
    except KeyboardInterrupt:
        click.echo("twofold: interrupted; the same command goes on", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    # It opens, as for everybody else from now on; and it was its own keys that checked it.
    with opened(at_target) as (deployment, _):
        deployment.keyring.masters.trace.put_back(*trace.take())
    if as_json:
        print_json({"from": source.place, "to": target.place, "rows": counts})
        return
    click.echo(
        f"moved {sum(counts.values())} rows to {target.place}: all are the same there, and every audit chain holds"
    )
    click.echo(f"Set TWOFOLD_DATABASE_URL to it. The master key stays where it is: {settings.key_address}")


def _at(argument: str, url: str, settings: Settings) -> Settings:
    """The settings with this database; raises `UsageError` that names the argument and repeats no password."""
    kind, _, place = url.partition(":")
    if kind == "sqlite" and place and not place.startswith("//"):
        url = f"sqlite:///{place}"
    at = msgspec.structs.replace(settings, database_url=url)
    try:
        database_url = at.postgres_url or f"sqlite:///{at.sqlite_path.resolve()}"
    except ConfigurationError as error:
        raise click.UsageError(f"{argument}{str(error).removeprefix('DATABASE_URL')}") from None
    return msgspec.structs.replace(at, database_url=database_url)


def _open_source(at: Settings, held: ExitStack) -> Side:
    database = find_database(at)
    if not asyncio.run(database.is_there()):
        raise ConfigurationError(f"there is no database {database}")
    source = held.enter_context(closing(_open(at)))
    if isinstance(source, SqliteSide):
        _reserve(source, held)
    source.hold()
    since = system_clock(at.test_clock).now() - in_seconds(ALIVE_S)
    for document in source.seen_since(since):
        with suppress(msgspec.DecodeError, TypeError):
            host = msgspec.json.decode(document, type=Node).host
            forgotten = f"one that was killed is forgotten after {ALIVE_S} s"
            raise Refused("conflict", f"{source.place} is served on {host}: stop it first; {forgotten}")
    return source


def _open(at: Settings, partitions: int = 0) -> Side:
    find_database(at)  # It says so where the library is missing.
    if at.postgres_url is None:
        return SqliteSide(at.sqlite_path)
    from twofold.stores._postgres_side import PostgresSide  # noqa: PLC0415 - its library is an extra

    return PostgresSide(at.postgres_url, partitions=partitions)


def _reserve(side: Side, held: ExitStack) -> None:
    """Let nobody else begin there."""
    if isinstance(side, SqliteSide):
        held.enter_context(only_server(side.path))
    else:
        side.reserve()


def _move(settings: Settings, source: Side, target: Side) -> tuple[KeyTrace, dict[str, int]]:
    """How the master key was used, and how many rows there are now in each table."""
    keys = migrating.read_keys(source)
    keyring = asyncio.run(_unlock(settings, keys))
    migrating.begin(source, target, keys)
    with _showing_progress(source) as note:
        migrating.copy(source, target, note)
        counts = migrating.verify(source, target, Codec(keyring.mac_keys()), note)
    migrating.finish(source, target)
    return keyring.masters.trace, counts


async def _unlock(settings: Settings, keys: Sequence[WrappedKey]) -> Keyring:
    """The keyring of what is moved: it checks the codes of all rows, and is closed for everything else."""
    clock, entropy = system_clock(settings.test_clock), SystemEntropy()
    provider = open_provider(settings.key_address, entropy, environment(), may_create=False)
    # Whoever opens a keyring may correct it, too: not while it is being moved.
    store = MemoryStore()
    await store.add_keys(keys)
    keyring = await open_keyring(settings, store, provider, clock=clock, entropy=entropy)
    await keyring.close()
    return keyring


@contextmanager
def _showing_progress(source: Side) -> Iterator[Note]:
    """A bar for each table on a terminal; nothing anywhere else."""
    if not sys.stderr.isatty():
        yield lambda what, table, rows: None
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms that only a person waits for
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks = {}

        def note(what: str, table: Table, rows: int) -> None:
            if (what, table) not in tasks:
                tasks[what, table] = progress.add_task(f"{what} {table.name}", total=source.count(table))
            progress.advance(tasks[what, table], rows)

        yield note
