"""`twofold account add`, `list` and `show`: who is there; `unlock` and `reset`: the way back in for who is locked out.

The commands that ask for a code are in `codes.py`; what `reset` does to many at once is in `mass_reset.py`.
"""

from __future__ import annotations

import sys

import click

from twofold.bootstrap import Deployment, load_common_passwords
from twofold.commands import codes, mass_reset
from twofold.commands.shell import (
    ADMINISTRATOR,
    account_argument,
    find_id,
    find_url,
    json_option,
    opened,
    print_json,
    print_table,
    read_hidden,
    with_settings,
    working,
)
from twofold.config import Settings
from twofold.core.account import FIRST_FACTOR, RECOVERY, check_account_id
from twofold.core.administration import LINK_TTL_S
from twofold.core.clock import rfc3339
from twofold.directory import AccountView
from twofold.errors import InvalidInput, Refused
from twofold.factors.password import check_new_password
from twofold.mass_reset import GRACE_DAYS_MAX, Target
from twofold.server.wire import show_account
from twofold.sign_in import fold_name

PAGE = 200


@click.group()
def account() -> None:
    """Accounts and their second factors."""


account.add_command(codes.enroll)
account.add_command(codes.verify)
account.add_command(codes.test)


@account.command()
@account_argument
@click.option("--password", "with_password", is_flag=True, help="Ask for a password too (one line of standard input).")
@with_settings
def add(settings: Settings, account_id: str, *, with_password: bool) -> None:
    """Add the account ID, or a password to one that has none."""
    with opened(settings, may_create=True) as (deployment, runner):
        accounts = deployment.verifier.accounts
        if (before := runner.run(_find(deployment, account_id))) is not None:
            has_password = any(a.factor == FIRST_FACTOR for a in before.authenticators)
            if not with_password or has_password:
                what = "account with a password" if with_password else "account"
                raise Refused("conflict", f"there is an {what} {account_id} already; nothing was changed")
        # Read and checked before anything is written, so that a bad password leaves no half of what was asked for.
        password = _read_password(account_id) if with_password else None
        if before is None:
            runner.run(accounts.put(account_id, caller=ADMINISTRATOR))
        if password is not None:
            runner.run(accounts.set_password(account_id, password, caller=ADMINISTRATOR))
    added = "password set for" if before is not None else "added"
    click.echo(f"{added} {account_id}; next: twofold account enroll {account_id}")
    if before is None and (folded := fold_name(account_id)) != account_id:
        sentence = f"{account_id} is found only if typed exactly so; {folded} would be found in capitals too"
        click.echo(f"twofold: {sentence}", err=True)


@account.command(name="list")
@json_option
@with_settings
def list_accounts(settings: Settings, *, as_json: bool) -> None:
    """List all accounts: state, factors, recovery codes left, role."""
    with opened(settings) as (deployment, runner), working("reading the accounts"):
        views = runner.run(_find_all(deployment))
    if as_json:
        print_json([show_account(view) for view in views])
    else:
        print_table(("account", "state", "factors", "recovery codes", "role"), [_as_row(view) for view in views])


@account.command()
@account_argument
@json_option
@with_settings
def show(settings: Settings, account_id: str, *, as_json: bool) -> None:
    """Show one account and its authenticators; never a secret."""
    with opened(settings) as (deployment, runner):
        account_id = runner.run(find_id(deployment, account_id))
        view = runner.run(deployment.verifier.accounts.get(account_id))
    if as_json:
        print_json(show_account(view))
        return
    click.echo(f"account         {view.id}" + (f" ({view.display_name})" if view.display_name else ""))
    click.echo(f"state           {view.state}")
    if view.role:
        click.echo(f"role            {view.role}")
    if view.invited_until:
        click.echo(f"invited until   {rfc3339(view.invited_until)}")
    wait = f", try again in {view.retry_after_s} s" if view.retry_after_s else ""
    click.echo(f"throttle        {view.throttle}{wait}")
    click.echo(f"recovery codes  {view.recovery_codes_left} left")
    for authenticator in view.authenticators:
        used = f"last used {rfc3339(authenticator.last_used_at)}" if authenticator.last_used_at else "never used"
        label = f" {authenticator.label!r}" if authenticator.label else ""
        about = f"{authenticator.state}, added {rfc3339(authenticator.created_at)}, {used}"
        click.echo(f"{authenticator.factor:<15} {authenticator.id}{label}: {about}")


@account.command()
@account_argument
@with_settings
def unlock(settings: Settings, account_id: str) -> None:
    """Let ID in again: full budget, no delays, nothing disabled by failures. Prints a one-time link."""
    with opened(settings) as (deployment, runner):
        account_id = runner.run(find_id(deployment, account_id))
        url = runner.run(find_url(deployment))
        token = runner.run(deployment.administration.unlock_with_link(account_id, caller=ADMINISTRATOR))
    _hand_over(f"unlocked {account_id}", url, token)


@account.command()
@click.argument("account_id", metavar="[ID]", required=False)
@click.option("--all", "everybody", is_flag=True, help="Instead of ID: everybody.")
@click.option("--group", metavar="G", help="Instead of ID: whoever is in this group.")
@click.option("--data-key", metavar="KEY", help="Instead of ID: whoever has a seed that this key ever sealed.")
@click.option("--grace", type=click.IntRange(0, GRACE_DAYS_MAX), metavar="DAYS", help="What they have works so long.")
@click.option("--reason", help="Why, for the audit log.")
@click.option("--progress", is_flag=True, help="Reset nobody; show who still has to set up a new authenticator.")
@json_option
@with_settings
def reset(
    settings: Settings,
    account_id: str | None,
    *,
    everybody: bool,
    group: str | None,
    data_key: str | None,
    grace: int | None,
    reason: str | None,
    progress: bool,
    as_json: bool,
) -> None:
    """Remove all authenticators of ID, and end its sessions. Prints a one-time link that leads to a new one.

    Of many people at once with --all, --group or --data-key. Their sessions end at once; with a grace of some days what
    they have works so long, and each sign-in leads to a new authenticator. No links are printed then.
    """
    if sum((account_id is not None, everybody, bool(group), bool(data_key), progress)) != 1:
        raise click.UsageError("one of ID, --all, --group, --data-key and --progress")
    if progress and not (grace or reason):
        mass_reset.show_progress(settings, as_json=as_json)
    elif account_id is None and not progress:
        target = Target(group or "", data_key or "")
        mass_reset.reset_many(settings, target, grace_days=grace or 0, reason=reason or "", as_json=as_json)
    elif grace is not None or reason or as_json or account_id is None:
        raise click.UsageError("--grace, --reason and --json go with --all, --group or --data-key")
    else:
        _reset_one(settings, check_account_id(account_id))


def _reset_one(settings: Settings, account_id: str) -> None:
    with opened(settings) as (deployment, runner):
        account_id = runner.run(find_id(deployment, account_id))
        url = runner.run(find_url(deployment))
        token = runner.run(deployment.administration.reset_with_link(account_id, caller=ADMINISTRATOR))
    _hand_over(f"reset {account_id}", url, token)


def _hand_over(done: str, url: str, token: str) -> None:
    # The link alone on standard output: it is passed on, and the rest is for whoever typed the command.
    click.echo(
        f"{done}; the link signs in once within {LINK_TTL_S // 60} minutes and leads to a new authenticator", err=True
    )
    click.echo(f"{url}/link?token={token}")


async def _find(deployment: Deployment, account_id: str) -> AccountView | None:
    try:
        return await deployment.verifier.accounts.get(account_id)
    except Refused:
        return None


async def _find_all(deployment: Deployment) -> list[AccountView]:
    found: list[AccountView | None] = []
    after = ""
    while rows := await deployment.store.page_accounts(after=after, limit=PAGE):
        found += [await _find(deployment, row.account_id) for row in rows]
        after = rows[-1].account_id
    return [view for view in found if view is not None]


def _read_password(account_id: str) -> str:
    """Asked for twice on a terminal, until it is a good one."""
    common = load_common_passwords()
    while True:
        try:
            password = read_hidden("Password: ")
            check_new_password(password, account_id=account_id, common=common)
        except EOFError:
            raise InvalidInput("password", "one line") from None
        except InvalidInput as error:
            if not sys.stdin.isatty():
                raise
            click.echo(f"{error}.", err=True)
            continue
        if not sys.stdin.isatty() or read_hidden("The same again: ") == password:
            return password
        click.echo("They differ.", err=True)


def _as_row(view: AccountView) -> tuple[str, ...]:
    factors = [a.factor for a in view.authenticators if a.factor != RECOVERY and a.state != "pending"]
    return view.id, view.state, " ".join(dict.fromkeys(factors)) or "-", str(view.recovery_codes_left), view.role
