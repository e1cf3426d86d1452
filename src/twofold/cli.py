"""The command line: `twofold` and its topics. Each topic is a file in `twofold.commands`; here they are put together.

`serve` and `setup-link` are written here. The server and what it needs are imported only by the command that serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import click

from twofold import __version__
from twofold.bootstrap import Deployment
from twofold.commands.account import account
from twofold.commands.apikey import apikey
from twofold.commands.audit import audit
from twofold.commands.backup import backup, restore
from twofold.commands.check import check
from twofold.commands.doctor import doctor
from twofold.commands.importing import import_file
from twofold.commands.keys import keys
from twofold.commands.migrate_store import migrate_store
from twofold.commands.shell import OneLineGroup, agree, find_url, opened, with_settings
from twofold.config import Settings
from twofold.doctor import check_certificate, check_modes, check_proxies
from twofold.errors import Refused
from twofold.setup_link import new_link


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="twofold", message="%(prog)s %(version)s")
def main() -> None:
    """A second factor for any sign-in."""


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="0 picks a free one.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes; one with SQLite.")
@click.option("--accept-lost-passkeys", is_flag=True, help="Start though PUBLIC_URL has a new host, where they end.")
@with_settings
def serve(settings: Settings, *, host: str, port: int, workers: int, accept_lost_passkeys: bool) -> None:
    """Serve the pages and the API until SIGTERM or Ctrl-C."""
    from twofold.server import run  # noqa: PLC0415 - uvicorn and Starlette take longer to import than all the rest

    def may_lose(warning: str) -> bool:
        return accept_lost_passkeys or agree(f"{warning}. Go on?")

    run.serve(settings, host, port, workers, _find_warnings, may_lose=may_lose)


def _find_warnings(settings: Settings) -> Iterator[str]:
    for found in (*check_modes(settings), check_certificate(settings, now=datetime.now(UTC)), check_proxies(settings)):
        if found.mend:
            yield f"{found.finding}; mend it with: {found.mend}"


@main.command("setup-link")
@with_settings
def print_setup_link(settings: Settings) -> None:
    """Print a new one-time set-up link, good for a day; the one before is void."""
    with opened(settings) as (deployment, runner):
        click.echo(runner.run(_new_setup_link(deployment)))


async def _new_setup_link(deployment: Deployment) -> str:
    if await deployment.administration.has_administrator():
        raise Refused("conflict", "there is an administrator already; to let one in again: twofold account reset NAME")
    url = await find_url(deployment)
    return await new_link(deployment.store, deployment.keyring, deployment.clock, deployment.entropy, url)


for _command in (account, apikey, keys, audit, backup, restore, migrate_store, doctor, check, import_file):
    main.add_command(_command)
