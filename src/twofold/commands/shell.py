"""What every command shares: its settings, the deployment it works on, how it asks, prints, and fails in one line.

Nothing here knows what any command does.
"""

from __future__ import annotations

import asyncio
import functools
import getpass
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import click
import msgspec

from twofold.bootstrap import Deployment, open_deployment
from twofold.config import Settings, check_public_url, environment, load_settings
from twofold.core.account import check_account_id
from twofold.databases import find_database
from twofold.engine import Caller
from twofold.errors import ConfigurationError, InvalidInput, TwofoldError
from twofold.setup_link import noted_url
from twofold.sign_in import fold_name

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
LINE_MAX = 8192

#: Whoever has this shell has the database and its key, so nothing is asked first; the audit log records the caller.
ADMINISTRATOR = Caller(is_admin=True)

P = ParamSpec("P")
T = TypeVar("T")

_SILENCE = logging.NullHandler()


class OneLineGroup(click.Group):
    """The topmost group: whatever goes wrong is one line on stderr and an exit code, never a trace."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run and exit; `standalone_mode` is ours."""
        try:
            status = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            status = EXIT_USAGE
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "twofold"
            status = _fail(f"{error.format_message().rstrip('.')} (see {path} --help)", EXIT_USAGE)
        except click.ClickException as error:
            status = _fail(error.format_message(), EXIT_FAILED)
        except InvalidInput as error:
            status = _fail(str(error), EXIT_USAGE)
        except (TwofoldError, OSError) as error:
            status = _fail(explain(error), EXIT_FAILED)
        except click.Abort:
            status = EXIT_INTERRUPTED
        sys.exit(status)


def explain(error: TwofoldError | OSError) -> str:
    """The error as part of one line."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _fail(sentence: str, status: int) -> int:
    click.echo(f"twofold: {' '.join(sentence.split())}", err=True)
    return status


def with_settings(command: Callable[Concatenate[Settings, P], T]) -> Callable[P, T]:
    """Give a command its settings: flags, then environment, then the file in the data folder."""

    @click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the database and its key.")
    @click.option("--database-url", help="Database elsewhere: sqlite:///path/to/file.db or postgresql://….")
    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        flags = {name: kwargs.pop(name) for name in ("data_dir", "database_url")}
        settings, warnings = load_settings(environment(), **flags)
        for warning in warnings:
            click.echo(f"twofold: {warning}", err=True)
        return command(settings, *args, **kwargs)

    return run


def _check_id(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    return check_account_id(value)


#: What click's decorators are: a command in, the same command with one thing more out.
Addition = Callable[[Callable[..., Any]], Callable[..., Any]]
account_argument: Addition = click.argument("account_id", metavar="ID", callback=_check_id)
json_option: Addition = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@contextmanager
def opened(settings: Settings, *, may_create: bool = False) -> Iterator[tuple[Deployment, asyncio.Runner]]:
    """The deployment and the loop that runs its calls; between two calls the terminal may be waited for.

    Only commands that begin something make a database: a mistyped folder is an error everywhere else.
    """
    database = find_database(settings)
    # An alarm is in the audit log by the time it is logged; what the person reads is the command's own line.
    logging.getLogger("twofold").addHandler(_SILENCE)
    with asyncio.Runner() as runner:
        if not may_create and not runner.run(database.is_there()):
            raise ConfigurationError(
                f"there is no database {database}: `twofold account add ID` or `twofold serve` makes one"
            )
        deployment = runner.run(open_deployment(settings, role=click.get_current_context().command_path))
        try:
            yield deployment, runner
        finally:
            runner.run(deployment.close())


async def find_url(deployment: Deployment) -> str:
    """Where links lead: PUBLIC_URL, else what a server noted when it began to listen, else the default."""
    noted = await noted_url(deployment.store, deployment.keyring)
    return check_public_url(deployment.settings.public_url or noted or deployment.public_url)


async def find_id(deployment: Deployment, typed: str) -> str:
    """The account that `typed` means: the one of exactly that ID, else the one that the sign-in page would find.

    Where there is neither, `typed` as it is, for the command to refuse.
    """
    folded = fold_name(typed)
    if folded == typed or await deployment.store.load(typed) is not None:
        return typed
    return typed if await deployment.store.load(folded) is None else folded


def read_hidden(prompt: str) -> str:
    """A line typed without echo, or the next line of standard input where that is no terminal.

    Raises `EOFError` when there is none.
    """
    return getpass.getpass(prompt) if sys.stdin.isatty() else read_line()


def read_line() -> str:
    """The next line of standard input, without its end; raises `EOFError` when there is none."""
    try:
        line = sys.stdin.readline(LINE_MAX)
    except UnicodeDecodeError:
        raise InvalidInput("standard input", "text in UTF-8") from None
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def agree(question: str) -> bool:
    """Whether somebody at the terminal types "y"; nobody agrees where there is none."""
    if not sys.stdin.isatty():
        return False
    # An event loop that waits for this answer would take Ctrl-C for itself, and see it only afterwards.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question, err=True)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def working(on_what: str) -> Iterator[None]:
    """A moving line on a terminal while something takes its time; nothing anywhere else."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms that only a person waits for

    with Console(stderr=True).status(on_what):
        yield


def print_json(value: object) -> None:
    """One document, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns under their heads; the heads are left out where a program may read the lines."""
    lines = [heads, *rows] if sys.stdout.isatty() else rows
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.echo(click.style(text, bold=True) if line is heads else text)
