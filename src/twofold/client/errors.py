"""What the client raises where a call gives nothing.

    TwofoldError
    ├── ApiError            the server answered no: the key, the scope, the state of the account, or not now
    ├── InvalidInput        what was passed cannot be sent at all
    ├── Unavailable
    │   └── NoAnswer        no answer of a Twofold server came; whether the call happened is not known
    └── ConfigurationError  what can be no address or no key

Whichever it is: nobody is let in.
"""

from __future__ import annotations

from twofold.errors import TwofoldError, Unavailable


class ApiError(TwofoldError):
    """An error of the API (RFC 9457). `code` is stable and explained in `docs/reasons.md`; `detail` is a sentence for
    your log, `field` what it is about. `retry_after_s` is there where waiting helps, `ways` where others stay open."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
        ways: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_after_s = retry_after_s
        self.ways = ways


class NoAnswer(Unavailable):
    """The server could not be reached, was too slow, or something else than Twofold answered."""
