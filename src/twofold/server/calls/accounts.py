"""The calls that are about an account as a whole."""

from __future__ import annotations

import base64

from twofold.directory import ProfileInput
from twofold.errors import InvalidInput, Refused
from twofold.server import wire
from twofold.server.calls import Reply, Request, Services

PAGE_ACCOUNTS = 100
LISTED_STATES = ("empty", "active", "disabled", "unavailable")
LISTED_FACTORS = ("totp", "hotp", "webauthn", "yubico_otp", "recovery_codes")


async def put_account(services: Services, request: Request[wire.AccountBody]) -> Reply:
    """Create an account, or change what is sent of it."""
    body = request.body
    groups = None if body.groups is None else tuple(body.groups)
    profile = ProfileInput(body.display_name, body.email, body.phone, groups)
    is_new = await services.verifier.accounts.put(request.account_id, profile, caller=request.caller)
    account = await services.verifier.accounts.get(request.account_id)
    return 201 if is_new else 200, wire.show_account(account)


async def get_account(services: Services, request: Request[None]) -> Reply:
    """An account and its authenticators; never a secret."""
    return 200, wire.show_account(await services.verifier.accounts.get(request.account_id))


async def list_accounts(services: Services, request: Request[None]) -> Reply:
    """A page of the accounts in order of id."""
    query = request.query
    for name, known in (("factor", LISTED_FACTORS), ("state", LISTED_STATES)):
        if name in query and query[name] not in known:
            raise InvalidInput(name, f"one of {', '.join(known)}")
    rows = await services.pages.page_accounts(
        after=_read_cursor(query.get("cursor")),
        limit=PAGE_ACCOUNTS + 1,
        factor=query.get("factor"),
        # No row says of itself that it cannot be opened: those are found by looking.
        state=None if query.get("state") == "unavailable" else query.get("state"),
    )
    shown = []
    for row in rows[:PAGE_ACCOUNTS]:
        try:
            account = await services.verifier.accounts.get(row.account_id)
        except Refused:
            continue  # deleted since the page was read
        if query.get("state") in (None, account.state):
            shown.append(wire.show_account(account))
    cursor = _write_cursor(rows[PAGE_ACCOUNTS - 1].account_id) if len(rows) > PAGE_ACCOUNTS else None
    return 200, wire.AccountPageAnswer(shown, cursor)


async def delete_account(services: Services, request: Request[None]) -> Reply:
    """Delete an account and all its rows."""
    await services.verifier.accounts.delete(request.account_id, caller=request.caller)
    return 204, None


async def record_event(services: Services, request: Request[wire.EventBody]) -> Reply:
    """Tell what happened to the account elsewhere: everything in force before is void."""
    await services.verifier.accounts.record_event(request.account_id, request.body.type, caller=request.caller)
    return 204, None


def _write_cursor(account_id: str) -> str:
    return base64.urlsafe_b64encode(account_id.encode()).rstrip(b"=").decode()


def _read_cursor(cursor: str | None) -> str:
    text = cursor or ""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise InvalidInput("cursor", "the next_cursor of the page before") from None
