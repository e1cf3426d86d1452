"""`twofold audit verify`: does every audit chain hold."""

from __future__ import annotations

import click

from twofold.commands.shell import EXIT_FAILED, json_option, opened, print_json, with_settings, working
from twofold.config import Settings
from twofold.inspection import AuditReport


@click.group()
def audit() -> None:
    """The audit log."""


@audit.command()
@json_option
@with_settings
def verify(settings: Settings, *, as_json: bool) -> None:
    """Check that no event was changed or taken away; exit status 1 and the first broken place if one was."""
    with opened(settings) as (deployment, runner), working("checking every chain"):
        report = runner.run(deployment.inspection.verify_audit())
    if as_json:
        print_json(_as_json(report))
    else:
        click.echo(_describe(report))
    if not report.ok:
        raise click.exceptions.Exit(EXIT_FAILED)


def _describe(report: AuditReport) -> str:
    broken = report.broken
    if broken is None:
        return f"the audit log holds: {report.events} events of {report.accounts} accounts"
    chain = f"account {broken.account_id}" if broken.account_id else "the deployment's own chain"
    return f"the audit log is broken at {chain}, event {broken.seq}: {broken.problem}"


def _as_json(report: AuditReport) -> dict[str, object]:
    shown: dict[str, object] = {"ok": report.ok, "accounts": report.accounts, "events": report.events}
    if report.broken is not None:
        shown["broken"] = report.broken
    return shown
