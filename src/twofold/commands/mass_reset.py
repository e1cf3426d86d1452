"""`twofold account reset` of many people at once, and how far they have come since.

The command itself is in `account.py`, beside the reset of one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from twofold.bootstrap import Deployment
from twofold.commands.shell import ADMINISTRATOR, EXIT_FAILED, opened, print_json, print_table
from twofold.config import Settings
from twofold.core.clock import rfc3339
from twofold.directory import AccountView
from twofold.mass_reset import Report, Reset, Target


def reset_many(settings: Settings, target: Target, *, grace_days: int, reason: str, as_json: bool) -> None:
    """Reset them, and say what was done; exit status 1 if there are accounts that cannot be trusted."""
    with opened(settings) as (deployment, runner):
        if target.data_key and not deployment.mass_reset.find_key(target.data_key).retired_at:
            in_use = "is in use: seeds made from now on are sealed under it, too, until another one takes its place"
            click.echo(f"twofold: data key {target.data_key} {in_use}", err=True)
        total = runner.run(deployment.store.count_accounts())
        try:
            with _counting("looking at the accounts", total) as note:
                run = deployment.mass_reset.run(
                    target, grace_days=grace_days, reason=reason, caller=ADMINISTRATOR, note=note
                )
                report = runner.run(run)
        except KeyboardInterrupt:
            click.echo("twofold: interrupted; the same command goes on within a day", err=True)
            raise click.Abort from None
    if as_json:
        print_json(_show_report(report))
    else:
        _tell_report(report)
    if report.untrusted:
        raise click.exceptions.Exit(EXIT_FAILED)


def show_progress(settings: Settings, *, as_json: bool) -> None:
    """Who still has to set up a new authenticator, and how many of how many are done."""
    with opened(settings) as (deployment, runner):
        resets = runner.run(deployment.mass_reset.find_open())
        waiting = runner.run(_find_waiting(deployment))
    if as_json:
        print_json({"resets": [_show_reset(r) for r in resets], "waiting": [_show_waiting(v) for v in waiting]})
        return
    for reset in resets:
        click.echo(_tell_reset(reset))
    # The same people may be in several: then nobody knows who of them is done with which.
    asked = resets[0].people if len(resets) == 1 else None
    done = f"{max(0, asked - len(waiting))} of {asked} are done; " if asked else ""
    click.echo(f"{done}{_people(len(waiting))} still to set up a new authenticator")
    if waiting:
        print_table(("account", "stops", "last used"), [_as_row(view) for view in waiting])


def _tell_report(report: Report) -> None:
    if report.stops_at > report.begun_at:
        what_follows = f"what they have stops at {rfc3339(report.stops_at)}; until then they set up a new authenticator"
    else:
        what_follows = "the next sign-in of each leads to a new authenticator"
    click.echo(f"reset {_people(report.people)}; {what_follows}")
    if report.is_resumed:
        since = f"the reset of {rfc3339(report.begun_at)} was interrupted, and has gone on"
        click.echo(f"twofold: {since}; whatever was set up since then stays", err=True)
    if report.need_link:
        how = "to come in again on these pages each needs a link: twofold account reset ID"
        click.echo(f"twofold: {report.need_link} of them have no password here; {how}", err=True)
    for account_id in report.untrusted:
        click.echo(f"twofold: {account_id} was not reset: its record cannot be trusted", err=True)


def _show_report(report: Report) -> dict[str, object]:
    return {
        "people": report.people,
        "begun_at": rfc3339(report.begun_at),
        "stops_at": rfc3339(report.stops_at),
        "resumed": report.is_resumed,
        "need_link": report.need_link,
        "untrusted": report.untrusted,
    }


def _tell_reset(reset: Reset) -> str:
    name = _name(reset.target)
    if reset.people is None:
        return f"{name}, begun at {reset.begun_at}: interrupted; the same command goes on with it"
    return f"{name}, begun at {reset.begun_at}: {_people(reset.people)}, until {reset.stops_at}"


def _name(target: Target) -> str:
    if target.group:
        return f"group {target.group}"
    return f"data key {target.data_key}" if target.data_key else "all"


def _show_reset(reset: Reset) -> dict[str, object]:
    return {
        "group": reset.target.group or None,
        "data_key": reset.target.data_key or None,
        "begun_at": reset.begun_at,
        "stops_at": reset.stops_at or None,
        "people": reset.people,
    }


def _show_waiting(view: AccountView) -> dict[str, object]:
    return {"account": view.id, "stops_at": rfc3339(view.stops_at)}


def _as_row(view: AccountView) -> tuple[str, ...]:
    used_at = max((a.last_used_at for a in view.authenticators), default=0)
    return view.id, rfc3339(view.stops_at), rfc3339(used_at) if used_at else "never"


def _people(number: int) -> str:
    return "1 person" if number == 1 else f"{number} people"


async def _find_waiting(deployment: Deployment) -> list[AccountView]:
    return [view async for view in deployment.mass_reset.waiting()]


@contextmanager
def _counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal that moves with each call of what it gives; nothing anywhere else."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms that only a person waits for
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
