"""`twofold keys`: which keys there are and what is under them, their rotation and end, and the trace of their uses."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from twofold.bootstrap import Deployment
from twofold.clocks import SystemEntropy
from twofold.commands.shell import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    agree,
    json_option,
    opened,
    print_json,
    print_table,
    read_hidden,
    with_settings,
    working,
)
from twofold.config import Settings, environment
from twofold.core.account import KEY_TRACE, Account
from twofold.core.clock import MICROS_PER_S, rfc3339
from twofold.core.codec import Codec
from twofold.credentials import find_seed
from twofold.crypto.seal import read_key_id
from twofold.errors import ConfigurationError, TamperedRecord, Unavailable
from twofold.key_ports import WrappedKey
from twofold.keys.file import protect
from twofold.keys.rotation import GRACE_DAYS, Rotation, end_of_grace
from twofold.keys.secret import PASSPHRASE, read_secret
from twofold.keys.uri import read_uri
from twofold.resealing import Progress

DAY_S = 86_400
T = TypeVar("T")


@click.group()
def keys() -> None:
    """The keys under which seeds are sealed, and the master key that protects them."""


@keys.command()
@click.option("--all", "shows_all", is_flag=True, help="Every key, not only those that seal.")
@json_option
@with_settings
def status(settings: Settings, *, shows_all: bool, as_json: bool) -> None:
    """List the data keys: how many seeds each has sealed, its age, uses and last unwrap."""
    with opened(settings) as (deployment, runner), working("counting the seeds"):
        seeds = runner.run(count_seeds(deployment))
        shown = [key for key in deployment.keyring.rows() if shows_all or key.purpose == "data"]
        now = deployment.clock.now()
    if as_json:
        print_json([_describe(key, seeds[key.id], now) for key in shown])
        return
    heads = ("key", "state", "seeds", "created", "days", "uses", "last unwrap", "under")
    print_table(heads, [_cells(key, seeds[key.id], now) for key in shown])


@keys.command()
@json_option
@with_settings
def check(settings: Settings, *, as_json: bool) -> None:
    """Name the accounts that cannot be opened; exit status 1 if there are any."""
    with opened(settings) as (deployment, runner), working("opening every account"):
        found = runner.run(_find_unopenable(deployment))
    if as_json:
        print_json([{"account": account_id, "problem": problem} for account_id, problem in found])
    else:
        click.echo("\n".join(f"{account_id}: {problem}" for account_id, problem in found) or "every account opens")
    if found:
        raise click.exceptions.Exit(EXIT_FAILED)


@keys.command()
@click.option("--data", "only_data", is_flag=True, help="A new data key only, not those that sign.")
@click.option("--provider", "uri", metavar="URI", help="Move to the master key there, such as aws-kms:alias/twofold.")
@click.option("--resume", is_flag=True, help="Go on where a rotation was stopped.")
@click.option("--reason", default="", metavar="TEXT", help="For the audit log.")
@with_settings
def rotate(settings: Settings, *, only_data: bool, uri: str | None, resume: bool, reason: str) -> None:
    """Put everything under new keys while the server serves; returns when all of it is.

    It can be stopped at any time, and goes on with --resume.
    """
    if sum((only_data, uri is not None, resume)) > 1:
        raise click.UsageError("--data, --provider and --resume exclude each other")
    if uri is not None and uri.startswith("file:"):
        # Servers may have been started elsewhere.
        uri = f"file:{Path(uri.removeprefix('file:')).absolute()}"
    with opened(settings) as (deployment, runner):
        rotation, why = deployment.rotation, reason or "asked for"
        if uri is not None:
            _run(runner, _move(rotation, uri, why), "")
            click.echo(f"every key is under {uri} now: set KEY_PROVIDER to it before the next start of any server")
        hint = "; twofold keys rotate --resume goes on" + (f", with KEY_PROVIDER set to {uri}" if uri else "")
        _run(runner, rotation.resume(why) if resume else _make_new(rotation, why, only_data=only_data), hint)
        with _counting() as show:
            progress = _run(runner, _reseal(deployment, show), hint)
        active = deployment.keyring.active_key_id
    all_done = "" if progress.failed else f"; everything is under {active}"
    click.echo(f"{progress.changed} of {progress.seen} accounts were put under new keys{all_done}")
    for account_id, problem in progress.failed:
        click.echo(f"not done: {account_id}: {problem}", err=True)
    if progress.failed:
        raise click.exceptions.Exit(EXIT_FAILED)


@keys.command()
@click.argument("key_id", metavar="KEY")
@click.option("--grace", type=click.IntRange(0), default=GRACE_DAYS, show_default=True, metavar="DAYS")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--reason", default="", metavar="TEXT", help="For the audit log.")
@with_settings
def destroy(settings: Settings, *, key_id: str, grace: int, yes: bool, reason: str) -> None:
    """Forget a retired key for good: two scans, a day apart, must find nothing under it."""
    with opened(settings) as (deployment, runner):
        with working("looking for what is under it"):
            refusal = _run(runner, _scan(deployment, key_id, grace), "")
        if refusal is not None:
            raise ConfigurationError(refusal)
        question = f"Destroy {key_id}? Whatever an older copy of the database holds under it can never be opened again."
        if not yes and not agree(question):
            raise ConfigurationError("nothing was destroyed: --yes answers the question where nobody can")
        row = deployment.rotation.check_retired(key_id)
        is_there = row.purpose == "master" and runner.run(deployment.keyring.masters.is_at_its_address(row))
        _run(runner, deployment.rotation.destroy(key_id, reason or "asked for"), "")
        rows = deployment.keyring.rows()
    click.echo(f"{key_id} is destroyed")
    if row.purpose == "master":
        click.echo(_end_file(row, rows, settings, is_there=is_there))


@keys.command()
@click.option("--days", type=click.IntRange(1), default=7, show_default=True, help="How far to look back.")
@json_option
@with_settings
def trace(settings: Settings, *, days: int, as_json: bool) -> None:
    """List every use of a master key, to hold against the provider's own log."""
    with opened(settings) as (deployment, runner):
        uses = runner.run(_collect(_read_trace(deployment, days)))
    if as_json:
        print_json(uses)
        return
    heads = ("time", "use", "key", "request", "reason", "account", "by", "node")
    names = ("at", "use", "key", "request", "reason", "account", "caller", "node")
    print_table(heads, [[str(use[name] or "-") for name in names] for use in uses])


@keys.command("protect")
@click.option("--remove", is_flag=True, help="Write the key without a passphrase.")
@with_settings
def set_passphrase(settings: Settings, *, remove: bool) -> None:
    """Set or change the passphrase of the key file. Servers are stopped first, and need TWOFOLD_KEY_PASSPHRASE then."""
    if settings.key_file is None:
        raise ConfigurationError(f"KEY_PROVIDER {settings.key_address}: only a key file has a passphrase")
    with opened(settings) as (deployment, runner):
        if serving := runner.run(deployment.node.find_others()):
            raise ConfigurationError(f"the server on {serving[0].host} would lose its key: stop it first")
    new = None
    if not remove:
        try:
            new = read_hidden("New passphrase: ")
            if read_hidden("Again: ") != new:
                raise ConfigurationError("these are not the same: nothing was changed")
        except EOFError:
            raise ConfigurationError("no passphrase was given: two lines on standard input, both the same") from None
    protect(settings.key_file, SystemEntropy(), old=read_secret(environment(), PASSPHRASE), new=new)
    click.echo(f"{settings.key_file} is {'without a' if remove else 'under the new'} passphrase")


@keys.command("make")
@click.argument("uri", metavar="URI")
def make_master(uri: str) -> None:
    """Make a master key in an HSM, where it stays: pkcs11:token=…;object=…"""
    from twofold.keys.pkcs11 import make_key  # noqa: PLC0415 - its library is an extra

    address = read_uri(uri)
    if address.kind != "pkcs11":
        raise ConfigurationError(f"{uri}: only a master key in an HSM is made here; docs/keys.md tells of the others")
    click.echo(make_key(address, SystemEntropy(), environment()))


async def count_seeds(deployment: Deployment) -> Counter[str]:
    """How many seeds each data key has sealed; those with keys of their own count for the master key. Accounts that
    were tampered with count for none."""
    codec = Codec(deployment.keyring.mac_keys())
    seeds: Counter[str] = Counter()
    async for row in deployment.store.scan():
        try:
            account = codec.load(row)
        except TamperedRecord:
            continue
        if isinstance(account, Account):
            seeds.update(read_key_id(seed) for a in account.authenticators if (seed := find_seed(a)) is not None)
    return seeds


async def _find_unopenable(deployment: Deployment) -> list[tuple[str, str]]:
    return [found async for found in deployment.inspection.unopenable()]


async def _move(rotation: Rotation, uri: str, reason: str) -> None:
    await rotation.move(await rotation.join_master(uri), reason)


async def _make_new(rotation: Rotation, reason: str, *, only_data: bool) -> None:
    await rotation.make_data_key(reason)
    if not only_data:
        await rotation.replace_signing_keys(reason)


async def _reseal(deployment: Deployment, show: Callable[[Progress], None]) -> Progress:
    # Else what is on its way under a key of before could arrive where the walk has passed already.
    await deployment.node.let_commits_end()
    progress = await deployment.resealing.run(on_progress=show)
    if progress.changed:
        counts = {"accounts": progress.changed, "failed": len(progress.failed)}
        await deployment.key_audit.record("keys.resealed", {**counts, "key": deployment.keyring.active_key_id})
    return progress


async def _scan(deployment: Deployment, key_id: str, grace: int) -> str | None:
    deployment.rotation.check_retired(key_id)
    found, unreadable = await deployment.resealing.count()
    if unreadable:
        raise Unavailable(f"{unreadable} accounts cannot be read, and may be under {key_id}: twofold keys check")
    return await deployment.rotation.note_scan(key_id, found[key_id], grace_days=grace)


def _run(
    runner: asyncio.Runner, work: Coroutine[Any, Any, T], hint: str = "; twofold keys rotate --resume goes on"
) -> T:
    """Run it; stopped by Ctrl-C or SIGTERM it ends with one line."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return runner.run(work)
    except KeyboardInterrupt:
        click.echo(f"twofold: stopped{hint}", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _counting() -> Iterator[Callable[[Progress], None]]:
    """A number that grows on a terminal; nothing anywhere else."""
    from rich.console import Console  # noqa: PLC0415 - 60 ms that only a person waits for

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("looking through the accounts") as line:
        yield lambda progress: line.update(f"{progress.changed} accounts under new keys, {progress.seen} looked at")


def _end_file(row: WrappedKey, rows: Sequence[WrappedKey], settings: Settings, *, is_there: bool) -> str:
    """What is left to do for the master key itself. Its file is overwritten and removed if that key `is_there` and no
    other one that may still be needed."""
    kind, _, place = row.uri.partition(":")
    path = Path(place)
    others = [Path(r.uri.removeprefix("file:")) for r in rows if r.uri.startswith("file:") and r.state != "destroyed"]
    needed = [other for other in (settings.key_file, *others) if other is not None and other.exists()]
    is_free = kind == "file" and path.is_absolute() and path.is_file() and not any(map(path.samefile, needed))
    if not is_there or not is_free:
        return f"now destroy the master key at {row.uri} itself, if it is there: docs/keys.md says how"
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    return f"{path} was overwritten and removed; copies of it elsewhere are yours to find"


def _describe(key: WrappedKey, seeds: int, now: int) -> dict[str, object]:
    found: dict[str, object] = {"id": key.id, "state": key.state, "seeds": seeds, "created_at": rfc3339(key.created_at)}
    if key.purpose != "data":
        found["purpose"] = key.purpose
    return found | {
        "age_days": max(0, now - key.created_at) // MICROS_PER_S // DAY_S,
        "uses": key.uses,
        "last_unwrap_at": rfc3339(key.unwrapped_at) if key.unwrapped_at else None,
        "retired_at": rfc3339(key.retired_at) if key.retired_at else None,
        "may_be_destroyed_at": rfc3339(end_of_grace(key)) if key.state == "decrypt_only" else None,
        "provider" if key.purpose == "master" else "master": key.uri if key.purpose == "master" else key.master,
    }


def _cells(key: WrappedKey, seeds: int, now: int) -> tuple[str, ...]:
    last = rfc3339(key.unwrapped_at) if key.unwrapped_at else "-"
    age = max(0, now - key.created_at) // MICROS_PER_S // DAY_S
    under = key.uri if key.purpose == "master" else key.master
    return (key.id, key.state, str(seeds), rfc3339(key.created_at), str(age), str(key.uses), last, under)


async def _read_trace(deployment: Deployment, days: int) -> AsyncIterator[dict[str, object]]:
    since = deployment.clock.now() - days * DAY_S * MICROS_PER_S
    after = 0
    while page := await deployment.store.events(KEY_TRACE, after_seq=after):
        after = page[-1].seq
        for event in page:
            if event.at < since or event.payload is None:
                continue
            told = msgspec.json.decode(event.payload)
            requests = told.get("requests") or [""] * len(told["keys"])
            for key_id, request in zip(told["keys"], requests, strict=True):
                yield {
                    "at": rfc3339(event.at),
                    "use": event.kind.removeprefix("key."),
                    "key": key_id,
                    "master": told["master"],
                    "request": request or None,
                    "reason": told["reason"],
                    "account": told.get("subject"),
                    "why": told.get("why"),
                    "caller": told["caller"],
                    "node": told["node"],
                }


async def _collect(items: AsyncIterator[dict[str, object]]) -> list[dict[str, object]]:
    return [item async for item in items]
