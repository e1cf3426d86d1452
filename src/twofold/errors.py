"""Every exception that Twofold raises on purpose.

    TwofoldError
    ├── InvalidInput          what was sent cannot be understood: names the field and what was expected
    ├── Refused               understood, but the state of the account or the caller's rights do not allow it
    ├── SessionEnded          the caller's session is over: the person signs in again
    ├── Busy                  too many attempts wait already: nothing was judged, try again after `retry_after_s`
    ├── Unavailable           a key, a store or a provider cannot be reached: fail closed
    │   ├── DataKeyMissing    one data key is not in memory (the verifier fetches it and repeats)
    │   ├── KeyRetired        a key was retired between its use and the commit (the verifier repeats)
    │   ├── ProviderAway      the key provider does not answer, or not now: what is in memory serves until its time ends
    │   ├── KeyRefused        the key provider answered and does not open this key: nothing is served from memory
    │   ├── TamperedRecord    a stored record does not carry the code that its contents demand
    │   ├── DatabaseAway      the database does not answer, or not now: nothing was done
    │   └── OutcomeUnknown    the connection was lost while committing: it may or may not have happened
    └── ConfigurationError    a setting, a key file or a database that the program cannot start with

An expected ending of an attempt (verified, rejected, throttled) is a value, not an exception: `twofold.core.decision`.
"""

from __future__ import annotations

from typing import Literal

RefusalCode = Literal[
    "not_found",
    "no_factor",
    "too_many",
    "disabled",
    "conflict",
    "forbidden",
    "step_up_required",
    "receipt_mismatch",
    "receipt_used",
    "prompt_mismatch",
    "prompt_used",
    "idempotency_mismatch",
    "invalid",
]


class TwofoldError(Exception):
    """The root of the tree."""


class InvalidInput(TwofoldError):
    """Something sent by the caller is not of the expected form.

    `field` is the name the caller used; `expected` completes the sentence "<field>: expected …". `why` is a stable word
    for whoever says it in other words, where one field can be wrong in several ways.
    """

    def __init__(self, field: str, expected: str, *, why: str = "") -> None:
        super().__init__(f"{field}: expected {expected}")
        self.field = field
        self.expected = expected
        self.why = why


class Refused(TwofoldError):
    """The call was understood and is not allowed now; `code` is stable and documented in `docs/reasons.md`."""

    def __init__(self, code: RefusalCode, detail: str) -> None:
        super().__init__(detail)
        self.code: RefusalCode = code
        self.detail = detail


class SessionEnded(TwofoldError):
    """The session that the call came with counts no more; `ending` is `expired`, `idle` or `ended`."""

    def __init__(self, ending: Literal["expired", "idle", "ended"]) -> None:
        super().__init__(f"the session is over: {ending}")
        self.ending = ending


class Busy(TwofoldError):
    """Too much is waiting; nothing was judged and nothing was charged."""

    def __init__(self, retry_after_s: int = 1, *, per_account: bool = False) -> None:
        super().__init__(f"busy: try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s
        self.per_account = per_account


class Unavailable(TwofoldError):
    """Something that the decision needs cannot be had, so nobody is let in."""


class DataKeyMissing(Unavailable):
    """The data key `key_id` is not in memory.

    `seed`: a seed with a key of its own. It is what was sealed under that key, or empty where such a key is to be made.
    """

    def __init__(self, key_id: str, seed: bytes | None = None) -> None:
        super().__init__(f"data key {key_id} is not in memory")
        self.key_id = key_id
        self.seed = seed


class ProviderAway(Unavailable):
    """The key provider did not answer in time, is throttled or failing: it may do so again by itself."""


class KeyRefused(Unavailable):
    """The key provider answered and does not open this key: it is another one, was taken away, or this program may not.

    `request_id` is how the provider's own log calls the answer, where it has one.
    """

    def __init__(self, message: str, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id


class KeyRetired(Unavailable):
    """Something was sealed or signed with a key that is not active any more; nothing was written."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"key {key_id} is not active any more")
        self.key_id = key_id


class TamperedRecord(Unavailable):
    """A stored record was changed by something other than Twofold, or belongs to another key."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was changed by something else than Twofold")
        self.what = what


class DatabaseAway(Unavailable):
    """The database does not answer, refuses, or takes no writes; nothing was done."""


class OutcomeUnknown(Unavailable):
    """The commit was sent and its answer never came; repeat with the same idempotency key."""


class ConfigurationError(TwofoldError):
    """The program cannot start like this; the message is one line that says what to do."""
