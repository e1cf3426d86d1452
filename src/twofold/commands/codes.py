"""`twofold account enroll`, `verify` and `test`: the commands that ask for a code, and the sentences they answer with.

Codes are asked for between two calls of the engine, never inside one; no code is ever printed.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import click

from twofold import qr
from twofold.bootstrap import Deployment
from twofold.commands.shell import (
    ADMINISTRATOR,
    EXIT_FAILED,
    EXIT_USAGE,
    account_argument,
    explain,
    find_id,
    opened,
    read_hidden,
    read_line,
    with_settings,
)
from twofold.config import Settings
from twofold.core.decision import Confirmed, Reason, Rejected, Throttled, Tried, Verified, Way
from twofold.credentials import OtpFactor
from twofold.directory import AuthenticatorView
from twofold.errors import Busy, ConfigurationError, InvalidInput, Refused, Unavailable
from twofold.verifier import PendingEnrollment

P = ParamSpec("P")

# From sysexits.h: EX_UNAVAILABLE and EX_TEMPFAIL, so that mailers, PAM modules and scripts know them already.
EXIT_UNAVAILABLE = 69
EXIT_THROTTLED = 75

_REASONS: dict[Reason, str] = {
    "wrong_code": "that code is wrong, or not valid any more",
    "code_already_used": "that code was already used",
    "clock_off": "that code is of another time",
    "wrong_password": "that password is wrong",
}
_WAYS: dict[Way, str] = {"recovery_codes": "a recovery code", "three_codes": "three consecutive codes on one line"}

#: How many codes a line of so many digits is. No two differ, so spaces and hyphens may stand anywhere between them.
_CODES_ON_LINE = {count * digits: count for count in (2, 3) for digits in (6, 7, 8)}


@click.command()
@account_argument
@click.option("--factor", type=click.Choice(["totp", "hotp"]), default="totp", show_default=True)
@click.option("--png", type=click.Path(path_type=Path), help="Write the QR code to this new file.")
@click.option("--svg", type=click.Path(path_type=Path), help="Write the QR code to this new file.")
@with_settings
def enroll(settings: Settings, account_id: str, *, factor: OtpFactor, png: Path | None, svg: Path | None) -> None:
    """Enroll a phone for the account ID: shows the QR code and the key, asks for the first code."""
    with opened(settings) as (deployment, runner):
        account_id = runner.run(find_id(deployment, account_id))
        try:
            begun = deployment.verifier.enroll(account_id, factor, caller=ADMINISTRATOR, may_add_account=False)
            pending = runner.run(begun)
        except Refused as refused:
            if refused.code != "not_found":
                raise
            sentence = f"there is no account {account_id}; `twofold account add {account_id}` makes it"
            raise Refused("not_found", sentence) from None
        if any(a.state == "active" and a.factor in ("totp", "hotp") for a in _view(deployment, runner, account_id)):
            click.echo(f"{account_id} has an authenticator already; it stays, and this one is added.")
        _show(pending)
        for path, image in ((png, qr.png_bytes(pending.uri)), (svg, pending.qr_svg.encode())):
            if path is not None:
                _write_secret(path, image)
        try:
            confirmed = _ask_until_confirmed(deployment, runner, account_id, pending)
        except (EOFError, KeyboardInterrupt):
            raise click.ClickException(
                f"not confirmed yet: within 15 minutes `twofold account enroll {account_id}` goes on with the same key"
            ) from None
    click.echo(f"confirmed: {confirmed.factor} is active for {account_id}")
    if confirmed.recovery_codes:
        click.echo("Recovery codes, each good for one sign-in without the phone. Keep them; they are not shown again:")
        click.echo("\n".join(confirmed.recovery_codes))


def _ends_with_one_line(judge: Callable[P, tuple[str, int]]) -> Callable[P, None]:
    """Print the line of `verify` and exit with its status, also when nothing could be judged."""

    @functools.wraps(judge)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            line, status = judge(*args, **kwargs)
        except (EOFError, KeyboardInterrupt):
            line, status = "not judged: no code was given", EXIT_USAGE
        except Busy as busy:
            line, status = f"not judged: {busy}", EXIT_THROTTLED
        except Refused as refused:
            line, status = f"not judged ({refused.code}): {refused.detail}", EXIT_UNAVAILABLE
        except (ConfigurationError, Unavailable, OSError) as error:
            line, status = f"not judged (unavailable): {explain(error)}", EXIT_UNAVAILABLE
        click.echo(line)
        raise click.exceptions.Exit(status)

    return run


@click.command()
@account_argument
@click.option("--purpose", help="Ask for a receipt with this purpose; it is the last word of the line.")
@_ends_with_one_line
@with_settings
def verify(settings: Settings, account_id: str, *, purpose: str | None) -> tuple[str, int]:
    """Ask for a code of the account ID and print one line.

    Exit status: 0 verified, 1 refused, 75 throttled, 69 unavailable or no factor, 2 usage. Three consecutive codes on
    the line are one answer, two find a HOTP token again.
    """
    with opened(settings) as (deployment, runner):
        account_id = runner.run(find_id(deployment, account_id))
        codes = split_codes(_read_code())
        code, several = (codes[0], None) if len(codes) == 1 else (None, codes)
        judged = deployment.verifier.verify(account_id, code=code, codes=several, purpose=purpose)
        return _describe(runner.run(judged))


@click.command()
@account_argument
@with_settings
def test(settings: Settings, account_id: str) -> None:
    """Say what a code of the account ID fits, and why not; never a sign-in, five times a day."""
    with opened(settings) as (deployment, runner):
        account_id = runner.run(find_id(deployment, account_id))
        try:
            code = _read_code()
        except EOFError:
            raise InvalidInput("code", "one line") from None
        tried = runner.run(deployment.verifier.accounts.test_code(account_id, code, caller=ADMINISTRATOR))
        view = runner.run(deployment.verifier.accounts.get(account_id))
    factor = next((a.factor for a in view.authenticators if a.id == tried.authenticator_id), "totp")
    click.echo(_diagnosis(tried, factor))


def _read_code() -> str:
    """What was typed; an empty line is nobody's guess. Raises `EOFError`."""
    code = read_hidden("Code: ")
    if not code.strip():
        raise EOFError
    return code


def split_codes(line: str) -> list[str]:
    """The codes of a line: one, or as many as its number of digits tells."""
    digits = line.translate(str.maketrans("", "", " \t-,"))
    count = _CODES_ON_LINE.get(len(digits), 1) if digits.isascii() and digits.isdigit() else 1
    length = len(digits) // count
    return [line] if count == 1 else [digits[i : i + length] for i in range(0, len(digits), length)]


def _view(deployment: Deployment, runner: asyncio.Runner, account_id: str) -> tuple[AuthenticatorView, ...]:
    return runner.run(deployment.verifier.accounts.get(account_id)).authenticators


def _ask_until_confirmed(
    deployment: Deployment, runner: asyncio.Runner, account_id: str, pending: PendingEnrollment
) -> Confirmed:
    """Raises `EOFError` or `KeyboardInterrupt` when the person gives up."""
    while True:
        click.echo("Code: ", nl=False)
        code = read_line()
        if not sys.stdin.isatty():
            click.echo()
        if not code.strip():
            continue
        confirmation = deployment.verifier.confirm(account_id, pending.id, code=code, caller=ADMINISTRATOR)
        match runner.run(confirmation):
            case Confirmed() as confirmed:
                return confirmed
            case Rejected(reason):
                click.echo(f"{_REASONS[reason].capitalize()}. The key stays the same.")
            case Throttled(retry_after_s):
                click.echo(f"Not judged: too many wrong codes. Wait {retry_after_s} s.")


def _show(pending: PendingEnrollment) -> None:
    if sys.stdout.isatty():
        _draw(pending.uri)
    click.echo(pending.uri)
    click.echo("Or type this key into the app:")
    click.echo(" ".join(pending.secret[i : i + 4] for i in range(0, len(pending.secret), 4)))


def _draw(uri: str) -> None:
    """The QR code, where it can be drawn and seen as a whole."""
    width, height = qr.terminal_size(uri)
    columns, lines = shutil.get_terminal_size()
    if columns < width or os.environ.get("TERM") == "dumb":
        click.echo(f"A QR code needs a terminal of {width} columns: type the key below, or use --png FILE.")
        return
    click.echo("Scan this with an authenticator app:")
    click.echo(qr.terminal(uri))
    if lines < height + 8:
        click.echo(f"(If its top is out of sight: make the window {height + 8} lines high, or scroll up.)")


def _write_secret(path: Path, content: bytes) -> None:
    """A new file for its owner alone. One that exists is never written over: its mode and its readers are not ours."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.ClickException(f"{path} exists already; remove it or name another file") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    click.echo(f"{path} holds the key too: remove it once it is scanned.", err=True)


def _describe(outcome: Verified | Rejected | Throttled) -> tuple[str, int]:
    """The line of an outcome, and its exit status."""
    match outcome:
        case Verified():
            left = "" if outcome.recovery_codes_left is None else f", {outcome.recovery_codes_left} left"
            receipt = "" if outcome.receipt is None else f" receipt {outcome.receipt}"
            return f"verified ({outcome.factor}{left}){receipt}", 0
        case Rejected(reason, retry_after_s, clock_offset_s):
            hint = f"; the next one comes in {retry_after_s} s" if retry_after_s else ""
            if clock_offset_s is not None:
                hint = f"; the phone's clock is {_distance(clock_offset_s)}: let it set its time automatically"
            return f"refused ({reason}): {_REASONS[reason]}{hint}", EXIT_FAILED
        case Throttled(retry_after_s, ways):
            open_ways = " or ".join(_WAYS[way] for way in ways if way in _WAYS)
            now = f"; at once with {open_ways}" if open_ways else ""
            return f"throttled: not judged, try again in {retry_after_s} s{now}", EXIT_THROTTLED


def _diagnosis(tried: Tried, factor: str) -> str:
    where = "ahead" if tried.steps > 0 else "behind"
    match tried.finding:
        case "fits":
            return "fits"
        case "fits_with_clock_off" if factor == "totp":
            return (
                f"fits {abs(tried.steps)} steps away: the phone's clock is {where}; let it set its time automatically"
            )
        case "fits_with_clock_off":
            return f"fits {abs(tried.steps)} codes {where}: verify with two consecutive codes on one line"
        case "fits_with_other_parameters":
            return f"fits with other parameters: the app computes {tried.parameters}; import its key like that"
        case "fits_nothing":
            return "fits nothing: it belongs to another key or account"


def _distance(seconds: int) -> str:
    return f"{abs(seconds)} s {'ahead' if seconds > 0 else 'behind'}"
