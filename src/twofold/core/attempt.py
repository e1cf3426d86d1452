"""What every call brings along besides its subject: time, randomness, who calls, and from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from twofold.core.audit import SALT_BYTES, Event, EventKind, Scalar
from twofold.core.decision import Message
from twofold.core.discreet import Discreet
from twofold.core.entropy import Seed, derive, derive_id
from twofold.core.session import Session

USER_AGENT_MAX = 256
LOCAL_APPLICATION = "local"
#: Who calls from Twofold's own pages: this, and after a colon the session, where there is one.
PAGES = "pages"


class Context(Discreet, frozen=True):
    """What the caller says of the person's side: `ip`, `user_agent`, and the opaque `browser` of an earlier success."""

    hidden: ClassVar[tuple[str, ...]] = ("browser",)

    ip: str | None = None
    user_agent: str | None = None
    browser: str | None = None


class Call(Discreet, frozen=True):
    """One call. `now` in microseconds; `seed` fresh; `application` an API key's id or `local`.

    `is_admin` lets management calls do without a step-up; `unrecorded_before` counts answers that were turned
    away since the last event without one of their own, so that the next one can tell. `by` is the account that acts
    on this one, where it is another. `session` is the caller's, if he has one, and `proven_by` the authenticator whose
    answer came with this very call.
    """

    hidden: ClassVar[tuple[str, ...]] = ("seed",)

    now: int
    seed: Seed
    application: str = LOCAL_APPLICATION
    is_admin: bool = False
    context: Context = Context()
    unrecorded_before: int = 0
    by: str | None = None
    session: Session | None = None
    proven_by: str | None = None

    @property
    def may_enroll(self) -> bool:
        """Whether the caller's session showed a second factor for this a moment ago."""
        return self.session is not None and self.now < self.session.may_enroll_until

    def event(self, kind: EventKind, **payload: Scalar | Sequence[str]) -> Event:
        """An event of this call, with who and where."""
        origin: dict[str, Scalar | Sequence[str]] = {
            "application": self.application,
            "admin": self.is_admin or None,
            "by": self.by,
            "ip": _sound(self.context.ip),
            "user_agent": _sound(self.context.user_agent),
        }
        return Event(
            kind,
            self.now,
            derive(self.seed, f"salt|{kind}|{payload.get('authenticator')}", SALT_BYTES),
            {**payload, **origin},
        )

    def message(self, kind: str, payload: Mapping[str, str | int | bool | None]) -> Message:
        """A notice of this call to the person."""
        return Message(derive_id(self.seed, f"message|{kind}|{payload.get('authenticator')}", "me_"), kind, payload)


def _sound(text: str | None) -> str | None:
    """What a stranger sent, cut to a length that may be kept, with nothing in it that has no encoding."""
    return text and text[:USER_AGENT_MAX].encode("utf-8", "replace").decode()
