"""Small decisions to commit: stores know no factor and no rule, so their tests need none either."""

from collections.abc import Callable

import msgspec

from twofold.core.account import Account, AuditHead, Authenticator, Role
from twofold.core.audit import Event
from twofold.core.decision import Decision, Done, Effect, OpenSession, Refusal, Rejected
from twofold.core.session import Level, Session, digest_token
from twofold.key_ports import WrappedKey

Decide = Callable[[Account | None], Decision]

SALT = b"0123456789abcdef"


def event(n: int, at: int = 1) -> Event:
    return Event("account.changed", at, SALT, {"n": n})


def count(account_id: str, *effects: Effect, sealed_with: tuple[str, ...] = ()) -> Decide:
    """Count one: creates the account when there is none. The outcome tells the number in `detail`."""

    def decide(account: Account | None) -> Decision:
        if account is None:
            account = Account(account_id, b"epoch---", 5, AuditHead(0, b""))
        n = account.unguessable_failed_at + 1
        changed = msgspec.structs.replace(account, unguessable_failed_at=n)
        return Decision(Refusal("conflict", str(n)), changed, (event(n),), effects, sealed_with)

    return decide


def counted(decision: Decision) -> int:
    assert isinstance(decision.outcome, Refusal)
    return int(decision.outcome.detail)


def look(account: Account | None) -> Decision:
    """Writes nothing; tells the count."""
    return Decision(Refusal("conflict", str(account.unguessable_failed_at if account else 0)))


def reject(account: Account | None) -> Decision:
    """Judges and writes nothing."""
    return Decision(Rejected("wrong_code"))


def delete(account: Account | None) -> Decision:
    return Decision(Done(), "deleted", (event(0),))


def fail(account: Account | None) -> Decision:
    raise LookupError("this decision cannot be made")


def enroll(account_id: str, *factors: str, is_disabled: bool = False, role: Role = "", stops_at: int = 0) -> Decide:
    """An account with these factors, all active, and a pending one that must not count. The first one stops then."""

    def decide(account: Account | None) -> Decision:
        authenticators = (
            *(
                Authenticator(f"id-{f}", f, "", "active", b"", 1, stops_at=stops_at * (n == 0))
                for n, f in enumerate(factors)
            ),
            Authenticator("id-pending", "sms", "", "pending", b"", 1),
        )
        enrolled = Account(
            account_id, b"epoch---", 5, AuditHead(0, b""), authenticators, is_disabled=is_disabled, role=role
        )
        return Decision(Done(), enrolled, (event(1),))

    return decide


def signed_in(
    name: str, account_id: str = "alice", *, level: Level = "full", begun_at: int = 1, expires_at: int = 100
) -> Session:
    """A session of that name."""
    return Session(f"se_{name}", account_id, "epoch", level, begun_at, begun_at, expires_at, 60, browser="Lynx on VMS")


def opening(session: Session, token: str, *, replaces: str | None = None) -> OpenSession:
    """The effect that opens it, with these tokens."""
    return OpenSession(session, digest_token(token), None if replaces is None else digest_token(replaces))


def data_key(key_id: str, created_at: int = 1) -> WrappedKey:
    return WrappedKey(key_id, "data", "active", b"wrapped " + key_id.encode(), created_at)
