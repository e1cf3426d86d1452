"""What a restored database decides on each account before it is served: it is older than what has happened since.

Whatever was in force ends, and codes that may have been used since the backup are used. What was removed since cannot
be known here; the one who restores is told to look (`twofold.restoring`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from twofold.core.account import Account, Authenticator, begin_epoch, new_deployment, without_expired
from twofold.core.attempt import Call
from twofold.core.clock import rfc3339
from twofold.core.decision import Decision, Done

#: The credential of an authenticator in a database that is restored at this time (microseconds).
Advance = Callable[[Authenticator, int], bytes]


def restore_account(account: Account | None, call: Call, *, backup_at: int, advance: Advance) -> Decision:
    """A new epoch, in which no session, browser, link, receipt, kept answer or pending enrollment counts, and every
    credential advanced. An account that was deleted before the backup stays so."""
    if account is None:
        return Decision(Done())
    account = begin_epoch(without_expired(account, call.now), call.seed)
    advanced = tuple(_advance(authenticator, call.now, advance) for authenticator in account.authenticators)
    event = call.event("account.restored", backup_at=rfc3339(backup_at))
    return Decision(Done(), msgspec.structs.replace(account, authenticators=advanced), (event,))


def record_restoration(account: Account | None, call: Call, *, backup_at: int, accounts: int) -> Decision:
    """The event of the deployment itself, when all accounts are restored."""
    deployment = account or new_deployment(call.seed, call.now)
    event = call.event("deployment.restored", backup_at=rfc3339(backup_at), accounts=accounts)
    return Decision(Done(), deployment, (event,))


def _advance(authenticator: Authenticator, now: int, advance: Advance) -> Authenticator:
    credential = advance(authenticator, now)
    if credential == authenticator.credential:
        return authenticator
    version = authenticator.credential_version + 1
    return msgspec.structs.replace(authenticator, credential=credential, credential_version=version)
