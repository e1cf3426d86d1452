"""`twofold doctor`: prints what `twofold.doctor` finds."""

from __future__ import annotations

import click

from twofold.commands.shell import EXIT_FAILED, json_option, print_json, with_settings, working
from twofold.config import Settings
from twofold.doctor import examine

_COLORS = {"ok": "green", "unknown": "cyan", "warning": "yellow", "problem": "red"}


@click.command()
@click.option("--ntp", default="pool.ntp.org", show_default=True, metavar="HOST[:PORT]", help="Time server to ask.")
@json_option
@with_settings
def doctor(settings: Settings, *, ntp: str, as_json: bool) -> None:
    """Say what is wrong around the deployment and the line that mends it; exit status 1 if there is a problem."""
    with working("examining"):
        findings = examine(settings, ntp_server=ntp)
    if as_json:
        print_json(findings)
    else:
        for found in findings:
            click.echo(f"{click.style(f'{found.state:<8}', fg=_COLORS[found.state])} {found.check:<11} {found.finding}")
            if found.mend is not None:
                click.echo(f"{'':<20} mend: {found.mend}")
    if any(found.state == "problem" for found in findings):
        raise click.exceptions.Exit(EXIT_FAILED)
