"""What the audit chain of an account tells its owner: each event as it can be read, and what deserves a warning.

How it is said is the pages' affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from twofold.core.attempt import PAGES
from twofold.core.audit import EventRow, Scalar
from twofold.core.session import Session

_RESETS = ("account.reset", "account.reset_begun")
_FIRST_STEPS = ("password.accepted", "sign_in.vouched")
_GIVEN_OR_TAKEN = (*_RESETS, "authenticator.added", "authenticator.imported")


class Activity(msgspec.Struct, frozen=True):
    """One event; `fields` are those of its payload (`docs/events.md`). `at` in microseconds."""

    seq: int
    at: int
    kind: str
    fields: Mapping[str, Scalar | Sequence[str]]

    def text(self, name: str) -> str:
        """A field that is text, "" where the event has none."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        """A field that is a number, 0 where the event has none."""
        value = self.fields.get(name)
        return value if isinstance(value, int) else 0

    @property
    def is_sign_in(self) -> bool:
        """Whether somebody was let in by it; a code that was given for one act has a purpose."""
        return self.kind == "code.accepted" and not self.text("purpose")


class RefusedCodes(msgspec.Struct, frozen=True):
    """Codes that did not let somebody in: how many, from which addresses (newest first), and since which sign-in."""

    count: int
    addresses: tuple[str, ...]
    since: int


def read_activity(row: EventRow) -> Activity:
    """The event of a row; without fields where its contents were erased."""
    return Activity(row.seq, row.at, row.kind, {} if row.payload is None else _decode(row.payload))


def leave_out_first_steps(newest_first: Sequence[Activity]) -> list[Activity]:
    """The events without each right password that a sign-in in the same place followed at once: one line for both."""
    later = (None, *newest_first)
    return [each for each, next_ in zip(newest_first, later, strict=False) if not _is_first_step(each, next_)]


def find_refused_codes(newest_first: Iterable[Activity], session: Session) -> RefusedCodes | None:
    """The codes refused anywhere but in this session, since the sign-in before it: whoever sends one knows the
    password already, but for a passkey alone. None if there are none."""
    refused, since = [], session.begun_at
    for activity in newest_first:
        if activity.text("application") == f"{PAGES}:{session.id}":
            continue
        since = activity.at
        if is_sign_in_before(activity, session):
            break
        if activity.kind == "code.refused" and activity.text("application") != PAGES:
            refused.append(activity)
    if not refused:
        return None
    addresses = dict.fromkeys(activity.text("ip") for activity in refused if activity.text("ip"))
    return RefusedCodes(len(refused), tuple(addresses), since)


def is_sign_in_before(activity: Activity, session: Session) -> bool:
    """Whether somebody was let in by it before this session: so far back its owner has seen what happened."""
    is_own = activity.text("application") == f"{PAGES}:{session.id}"
    return activity.is_sign_in and activity.at < session.begun_at and not is_own


def find_reset(newest_first: Iterable[Activity]) -> Activity | None:
    """The reset that took the authenticators away, unless one was added since."""
    latest = next((activity for activity in newest_first if activity.kind in _GIVEN_OR_TAKEN), None)
    return latest if latest is not None and latest.kind in _RESETS else None


def _is_first_step(activity: Activity, next_: Activity | None) -> bool:
    places = [(each.text("ip"), each.text("user_agent")) for each in (activity, next_) if each is not None]
    return activity.kind in _FIRST_STEPS and next_ is not None and next_.is_sign_in and len(set(places)) == 1


_decode = msgspec.json.Decoder(dict[str, Scalar | list[str]]).decode
