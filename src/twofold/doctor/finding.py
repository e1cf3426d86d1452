"""What a check gives back, and what a look at a database gives the checks that need it. Nothing is asked here."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from twofold.stores._tables import MOVED_TO, MOVING_FROM

State = Literal["ok", "unknown", "warning", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """One result: what was looked at, how it is, in a sentence, and the line that mends it."""

    check: str
    state: State
    finding: str
    mend: str | None = None


class Look(msgspec.Struct, frozen=True):
    """What was seen of a database. Nothing of it is believed: the server checks signatures before it uses a row.

    `fault` is why it could not be read; all that follows says nothing then. `keys` are the ids and wrapped forms of the
    keys in the keyring, none in a database that is new; `waiting` counts the messages that are to be sent.
    """

    findings: tuple[Finding, ...]
    is_shared: bool = False
    fault: str | None = None
    public_url: str | None = None
    master_address: str | None = None
    keys: tuple[tuple[str, bytes], ...] = ()
    waiting: int = 0


def check_move(settings: Mapping[str, str]) -> tuple[Finding, ...]:
    """What the stored settings say of a move into another database: nothing, unless there is one."""
    if place := settings.get(MOVED_TO):
        return (Finding("move", "problem", f"the data were moved to {place}", "set TWOFOLD_DATABASE_URL to it"),)
    if MOVING_FROM in settings:
        finding = "the data are being moved here, and are not complete yet"
        return (Finding("move", "problem", finding, "go on with the same twofold migrate-store"),)
    return ()


def read_url(settings: Mapping[str, str]) -> str | None:
    """The PUBLIC_URL among the stored settings; its signature stands before it, and is not checked here."""
    return settings["public_url"].partition(":")[2] if "public_url" in settings else None


def quote(paths: Sequence[os.PathLike[str]]) -> str:
    """Paths for a shell."""
    return shlex.join(str(path) for path in paths)
