"""`twofold backup` and `twofold restore`: a deployment into one file, and out of it again."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from twofold import __version__
from twofold.backup import (
    DATABASE,
    KEY,
    PASSPHRASE_BYTES_MAX,
    SETTINGS,
    Manifest,
    Name,
    check_passphrase,
    read_master_key,
    read_passphrase,
    workshop,
    write_backup,
)
from twofold.bootstrap import Deployment, load_common_passwords, make_private_folder
from twofold.commands.keys import count_seeds
from twofold.commands.shell import (
    EXIT_FAILED,
    Addition,
    json_option,
    opened,
    print_json,
    read_hidden,
    with_settings,
    working,
)
from twofold.config import Settings, environment, load_settings
from twofold.core.clock import MICROS_PER_S, rfc3339
from twofold.core.codec import Codec
from twofold.errors import ConfigurationError, InvalidInput, Refused, Unavailable
from twofold.keys.secret import read_secret
from twofold.restoring import Restored, check_place, check_same, move_in, restore_accounts, sweep, unpack

VARIABLE = "TWOFOLD_BACKUP_PASSPHRASE"
_EXIT_TERMINATED = 128 + signal.SIGTERM

passphrase_option: Addition = click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that holds the passphrase.",
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@passphrase_option
@with_settings
def backup(settings: Settings, *, file: Path, force: bool, passphrase_file: Path | None) -> None:
    """Write the database, the master key and the settings to FILE, which a passphrase opens.

    The server may go on meanwhile. A master key in a service or a device stays there, and is needed to restore.
    """
    _check_is_sqlite(settings)
    if file.exists() and not (force and file.is_file()):
        raise Refused("conflict", f"{file} is there already: choose another name, or replace it with --force")
    passphrase = _choose_passphrase(passphrase_file)
    with _tidy_at_sigterm(), opened(settings) as (deployment, runner), working("backing up"):
        runner.run(_check_one_master(deployment))
        master = deployment.keyring.masters.active
        master_key = read_master_key(settings.key_address, environment())
        enclosed: dict[Name, bytes] = {} if master_key is None else {KEY: master_key}
        if (toml := settings.data_dir / SETTINGS).exists():
            enclosed[SETTINGS] = toml.read_bytes()
        manifest = write_backup(
            settings.sqlite_path,
            enclosed,
            file,
            passphrase=passphrase,
            key_provider=settings.key_address,
            version=__version__,
            clock=deployment.clock,
            entropy=deployment.entropy,
        )
        runner.run(deployment.keyring.refresh())
        if deployment.keyring.masters.active != master:
            file.unlink()
            raise Unavailable("the keys were moved to another master key meanwhile: back up again")
    click.echo(f"backed up {_count(manifest.accounts, 'account')} to {file}; try it: twofold restore {file} --check")
    if master_key is None:
        click.echo(f"The master key is not in it: without {settings.key_address} nothing opens the backup.", err=True)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--check", "is_check", is_flag=True, help="Open everything and change nothing.")
@json_option
@passphrase_option
@with_settings
def restore(settings: Settings, *, file: Path, is_check: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """Bring back the deployment that is in FILE, into a data folder without a database.

    Everybody is signed out by it, and codes that may have been used since the backup count as used.
    """
    if is_check:
        with _tidy_at_sigterm(), tempfile.TemporaryDirectory(prefix="twofold-") as folder:
            _check(settings, file, _read_passphrase(passphrase_file), Path(folder), as_json=as_json)
        return
    _check_is_sqlite(settings)
    with _tidy_at_sigterm():
        make_private_folder(settings.data_dir)
        with workshop(settings.data_dir / ".restoring") as draft:
            check_place(settings.sqlite_path)
            _restore(settings, file, _read_passphrase(passphrase_file), draft, as_json=as_json)


def _check_is_sqlite(settings: Settings) -> None:
    """PostgreSQL has backups of its own, and better ones: while it is used, and up to any moment."""
    if settings.postgres_url is not None:
        way_on = "use pg_dump or its archive, and keep the master key beside it (docs/howto/many-nodes.md)"
        raise ConfigurationError(f"backup files are for SQLite; for PostgreSQL {way_on}")


def _check(settings: Settings, file: Path, passphrase: bytes, folder: Path, *, as_json: bool) -> None:
    with working("opening the backup"):
        manifest = _unpack(file, passphrase, folder)
    with_its_own = settings if manifest.holds(KEY) else _with_restored(settings, folder)
    at_draft = _settings_of_draft(with_its_own, manifest, folder, may_use_own=True)
    with opened(at_draft) as (deployment, runner), working("opening every account"):
        seeds = runner.run(count_seeds(deployment))
        problems = runner.run(_find_unopenable(deployment))
        audit = runner.run(deployment.inspection.verify_audit())
    if audit.broken is not None:
        problems.append((audit.broken.account_id, f"event {audit.broken.seq}: {audit.broken.problem}"))
    if as_json:
        shown = _show_manifest(manifest)
        print_json({**shown, "ok": not problems, "seeds": seeds.total(), "problems": [list(p) for p in problems]})
    else:
        _print_check(manifest, seeds.total(), is_whole=not problems)
        click.echo("".join(f"{account_id or 'the deployment'}: {why}\n" for account_id, why in problems), nl=False)
    if problems:
        click.echo("twofold: the backup opens, and not everything in it does", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


def _restore(settings: Settings, file: Path, passphrase: bytes, draft: Path, *, as_json: bool) -> None:
    with working("opening the backup"):
        manifest = _unpack(file, passphrase, draft)
    has_settings = manifest.holds(SETTINGS) and not (settings.data_dir / SETTINGS).exists()
    if has_settings:
        settings = _with_restored(settings, draft)
        check_place(settings.sqlite_path)
    elif manifest.holds(SETTINGS):
        click.echo(f"twofold: {settings.data_dir / SETTINGS} is there already and stays as it is", err=True)
    key_file = _place_of_key(settings, manifest, draft)
    sweep(draft / DATABASE)
    at_draft = _settings_of_draft(settings, manifest, draft)
    with opened(at_draft) as (deployment, runner), working("making every account safe"):
        if deployment.clock.now() < manifest.made_at:
            raise Refused("conflict", "this machine's clock is behind the backup: set it, or used codes are good again")
        store, clock, now = deployment.store, deployment.clock, deployment.clock.now()
        codec = Codec(deployment.keyring.mac_keys())
        made_safe = restore_accounts(store, codec, clock, deployment.entropy, backup_at=manifest.made_at)
        restored = runner.run(made_safe)
        api_keys = {key.id: key.name for key in runner.run(store.list_applications())}
        networks = [block.network for block in runner.run(store.list_blocks()) if not 0 < block.until < now]
    if Path(f"{draft / DATABASE}-wal").exists():
        raise Unavailable("the restored database could not be written to its end: try again")
    # The database comes last: until it is there, the same command begins anew.
    if key_file is not None:
        move_in(draft / KEY, key_file)
    if has_settings:
        move_in(draft / SETTINGS, settings.data_dir / SETTINGS)
    move_in(draft / DATABASE, settings.sqlite_path)
    if as_json:
        shown = {**_show_manifest(manifest), **msgspec.to_builtins(restored)}
        print_json({**shown, "api_keys": api_keys, "networks": networks})
    else:
        _print_restored(manifest, restored, api_keys, networks)


def _unpack(file: Path, passphrase: bytes, folder: Path) -> Manifest:
    with file.open("rb") as stream:
        return unpack(stream, passphrase, folder)


def _with_restored(settings: Settings, folder: Path) -> Settings:
    """The settings as they will be with the file out of the backup; flags and environment win over it as ever.

    Where it would lead us is agreed to first, in the same way: whoever made the backup could have us load his library,
    show him our token, or write to a place of his.
    """
    if (settings.data_dir / SETTINGS).exists():
        return settings
    database_url = click.get_current_context().params["database_url"]
    restored, warnings = load_settings(environment(), data_dir=folder, database_url=database_url)
    for warning in warnings:
        click.echo(f"twofold: {warning}", err=True)
    if restored.postgres_url not in (None, settings.postgres_url):
        way_on = "set TWOFOLD_DATABASE_URL to the SQLite file to make"
        raise ConfigurationError(f"the settings in this backup name a PostgreSQL database: {way_on}")
    for name, its, ours in (
        ("KEY_PROVIDER", restored.key_provider, settings.key_provider),
        ("DATABASE_URL", restored.database_url, settings.database_url),
    ):
        if its not in (None, ours):
            raise ConfigurationError(
                f"the settings in this backup say {name} {its!r}: if you know that as yours, set TWOFOLD_{name} to it"
            )
    return msgspec.structs.replace(restored, data_dir=settings.data_dir)


def _settings_of_draft(settings: Settings, manifest: Manifest, folder: Path, *, may_use_own: bool = False) -> Settings:
    """The settings under which the unpacked database is opened: with its own key where that is inside, unless the
    settings name a service, which is proven by it to hold the key."""
    provider = settings.key_provider
    is_in_file = settings.key_file is not None
    if manifest.holds(KEY) and (is_in_file or may_use_own):
        provider = f"file:{folder / KEY}"
    elif is_in_file:
        raise ConfigurationError(
            f"the master key is not in this backup: set TWOFOLD_KEY_PROVIDER to what holds it ({manifest.key_provider})"
        )
    return msgspec.structs.replace(settings, data_dir=folder, database_url=None, key_provider=provider)


def _place_of_key(settings: Settings, manifest: Manifest, draft: Path) -> Path | None:
    """Where the master key goes; None where it is already, or not in a file."""
    if settings.key_file is None or not manifest.holds(KEY) or check_same(draft / KEY, settings.key_file):
        return None
    return settings.key_file


async def _check_one_master(deployment: Deployment) -> None:
    """Raise `Refused` while a seed is still under a master key that was moved away from: only one is in a backup."""
    retired = [row.id for row in deployment.keyring.rows() if row.purpose == "master" and row.state == "decrypt_only"]
    if not retired:
        return
    found, _ = await deployment.resealing.count()
    if left := [master for master in retired if found[master]]:
        raise Refused("conflict", f"seeds are still under {left[0]}, from before a move: twofold keys rotate --resume")


async def _find_unopenable(deployment: Deployment) -> list[tuple[str, str]]:
    return [found async for found in deployment.inspection.unopenable()]


@contextmanager
def _tidy_at_sigterm() -> Iterator[None]:
    """End by an exception, as at Ctrl-C, so that everything unfinished is removed."""

    def end(*_: object) -> None:
        sys.exit(_EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _given_passphrase(file: Path | None) -> str | None:
    """The passphrase where nobody has to be asked."""
    if file is None:
        return read_secret(environment(), VARIABLE)
    try:
        with file.open("rb") as stream:
            return stream.read(2 * PASSPHRASE_BYTES_MAX).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidInput("passphrase file", "text in UTF-8") from None


def _choose_passphrase(file: Path | None) -> bytes:
    """Asked for twice on a terminal, until it is a good one."""
    common = load_common_passwords()
    if (given := _given_passphrase(file)) is not None:
        return check_passphrase(given, common=common)
    while True:
        typed = _ask("Passphrase of the backup: ")
        try:
            passphrase = check_passphrase(typed, common=common)
        except InvalidInput as error:
            if not sys.stdin.isatty():
                raise
            click.echo(f"{error}.", err=True)
            continue
        if not sys.stdin.isatty() or _ask("The same again: ") == typed:
            return passphrase
        click.echo("They differ.", err=True)


def _read_passphrase(file: Path | None) -> bytes:
    given = _given_passphrase(file)
    return read_passphrase(_ask("Passphrase of the backup: ") if given is None else given)


def _ask(prompt: str) -> str:
    try:
        return read_hidden(prompt)
    except EOFError:
        raise InvalidInput("passphrase", f"one line; or --passphrase-file, or {VARIABLE}") from None


def _show_manifest(manifest: Manifest) -> dict[str, object]:
    return {
        "made_at": rfc3339(manifest.made_at),
        "version": manifest.version,
        "schema": manifest.schema,
        "accounts": manifest.accounts,
        "events": manifest.events,
        "newest_event_at": rfc3339(manifest.newest_event_at),
        "key_provider": manifest.key_provider,
        "files": [enclosed.name for enclosed in manifest.files],
    }


def _print_check(manifest: Manifest, seeds: int, *, is_whole: bool) -> None:
    key = "inside" if manifest.holds(KEY) else f"not inside: it is in {manifest.key_provider}"
    lines = {
        "made": f"{_to_second(manifest.made_at)} by Twofold {manifest.version}",
        "accounts": str(manifest.accounts),
        "audit log": f"{_count(manifest.events, 'event')}, the newest of {_to_second(manifest.newest_event_at)}",
        "master key": key,
        "seeds": f"{seeds}" if seeds else "none, so nothing shows that one would open",
        "settings": "inside" if manifest.holds(SETTINGS) else "none",
    }
    click.echo("".join(f"{name:<11} {text}\n" for name, text in lines.items()), nl=False)
    if is_whole:
        click.echo("everything opens, and every audit chain holds")


def _print_restored(manifest: Manifest, restored: Restored, api_keys: dict[str, str], networks: list[str]) -> None:
    newest = _to_second(manifest.newest_event_at)
    click.echo(
        f"restored {_count(restored.accounts, 'account')} as of {_to_second(manifest.made_at)}; newest event {newest}"
    )
    click.echo("everybody is signed out; codes of authenticator apps are good again in a few minutes")
    people = _count(restored.people_with_recovery_codes, "account")
    lines = {
        "administrators": ", ".join(restored.administrators),
        "API keys": ", ".join(f"{name} ({key_id})" for key_id, name in api_keys.items()),
        "recovery codes": restored.recovery_codes
        and f"{restored.recovery_codes} of {people}: those used since are good again",
        "passkeys": restored.passkeys and f"{restored.passkeys}: those removed since are good again",
        "networks": ", ".join(networks) and f"{', '.join(networks)} are refused, and no later ones",
        "code tokens": restored.tokens and f"{restored.tokens}: to be pressed up to ten times until a code is taken",
        "YubiKeys": restored.yubikeys and f"{restored.yubikeys}: to be plugged in up to ten times until one is taken",
        "not opened": ", ".join(restored.distrusted) and f"{', '.join(restored.distrusted)}: twofold keys check",
    }
    click.echo("\nWhat was removed or used after the backup is back. Look through it:\n")
    click.echo("".join(f"  {name:<15} {text}\n" for name, text in lines.items() if text), nl=False)
    click.echo("\nThen: twofold doctor, twofold keys rotate, twofold serve.")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _to_second(at: int) -> str:
    return rfc3339(at // MICROS_PER_S * MICROS_PER_S)
