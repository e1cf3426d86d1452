"""`twofold import`: secrets from a file of somebody else's into accounts, with a report for each of its lines.

What is wrong with a line is said by its number and the name of the field; nothing that stands there is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from twofold.bootstrap import Deployment
from twofold.commands.shell import (
    ADMINISTRATOR,
    EXIT_FAILED,
    find_id,
    json_option,
    opened,
    print_json,
    print_table,
    with_settings,
    working,
)
from twofold.config import Settings
from twofold.core.account import check_account_id
from twofold.errors import InvalidInput, TwofoldError
from twofold.importing.csv_lines import FILE_BYTES_MAX, read_cells
from twofold.importing.yubico_csv import Fault, Row, read_rows
from twofold.importing.yubikeys import Yubikeys

FILE = "FILE"
ACCOUNTS = "--accounts"


class Report(msgspec.Struct, frozen=True):
    """What became of a line. `public_id` unless the line is no key; `problem` says why it is refused."""

    line: int
    result: str
    public_id: str | None = None
    account: str | None = None
    authenticator_id: str | None = None
    problem: str | None = None


@click.command("import")
@click.argument("file_format", metavar="FORMAT", type=click.Choice(["yubico-csv"]), expose_value=False)
@click.argument("file", metavar=FILE, type=click.Path(path_type=Path))
@click.option("--account", metavar="ID", help="The account that every key of the file is for.")
@click.option(
    ACCOUNTS, metavar="OWNERS", type=click.Path(path_type=Path), help="Lines of: serial or public id, account."
)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and write nothing.")
@json_option
@with_settings
def import_file(
    settings: Settings,
    *,
    file: Path,
    account: str | None,
    accounts: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import the authenticators that FILE holds; each is active at once.

    FORMAT is yubico-csv: YubiKeys, as the personalization tool or ykman wrote them down.
    """
    if (account is None) == (accounts is None):
        raise click.UsageError("say whose the keys are: either --account ID or --accounts OWNERS")
    owners = _read_owners(accounts) if accounts is not None else {"": check_account_id(account or "")}
    rows = read_rows(_read(file), field=FILE)
    if not rows:
        raise InvalidInput(FILE, "a line for each YubiKey")
    with opened(settings) as (deployment, runner), working("importing"):
        reports = runner.run(_import_all(deployment, rows, owners, is_rehearsal=dry_run))
    _print_reports(reports, as_json=as_json)
    refused = sum(report.problem is not None for report in reports)
    if refused < len(reports) and not dry_run:
        click.echo(f"{file} still holds the secrets: remove it once you need it no more.", err=True)
    if refused:
        click.echo(f"twofold: {refused} of {len(reports)} lines were refused", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


async def _import_all(
    deployment: Deployment, rows: Sequence[Row | Fault], owners: Mapping[str, str], *, is_rehearsal: bool
) -> list[Report]:
    yubikeys = Yubikeys(deployment.verifier, deployment.store, deployment.keyring, deployment.clock)
    reports = []
    for row in rows:
        if isinstance(row, Fault):
            reports.append(Report(row.line, "refused", problem=row.problem))
            continue
        report = Report(row.line, "would be imported" if is_rehearsal else "imported", row.key.public_id)
        try:
            owner = await find_id(deployment, _find_owner(row, owners))
            report = msgspec.structs.replace(report, account=owner)
            if is_rehearsal:
                await yubikeys.rehearse(owner, row.key, caller=ADMINISTRATOR)
            else:
                label = f"YubiKey {row.serial}".rstrip()
                added = await yubikeys.add(owner, row.key, label=label, caller=ADMINISTRATOR)
                report = msgspec.structs.replace(report, authenticator_id=added.id)
        except TwofoldError as error:
            report = msgspec.structs.replace(report, result="refused", problem=str(error))
        reports.append(report)
    return reports


def _find_owner(row: Row, owners: Mapping[str, str]) -> str:
    # With `--account` there is one owner, and the empty name fits every key.
    for name in (row.key.public_id, row.serial, ""):
        if name in owners:
            return owners[name]
    raise InvalidInput("account", f"a line with this key or its serial in {ACCOUNTS}")


def _read_owners(path: Path) -> dict[str, str]:
    """The accounts by public id and by serial. One line that is wrong is reason enough to import nothing."""
    owners: dict[str, str] = {}
    for line, cells in read_cells(_read(path), field=ACCOUNTS):
        field = f"{ACCOUNTS}, line {line}"
        if len(cells) != 2 or not cells[0]:
            raise InvalidInput(field, "serial or public id, account")
        name, owner = cells[0].lower(), check_account_id(cells[1])
        if owners.setdefault(name, owner) != owner:
            raise InvalidInput(field, "one account for each key")
    return owners


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX + 1)


def _print_reports(reports: Sequence[Report], *, as_json: bool) -> None:
    if as_json:
        print_json(reports)
        return
    rows = [
        (str(r.line), r.public_id or "-", r.account or "-", f"{r.result}: {r.problem}" if r.problem else r.result)
        for r in reports
    ]
    print_table(("line", "key", "account", "result"), rows)
