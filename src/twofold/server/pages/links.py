"""One-time links of people: an invitation, and the ways back in that an administrator makes.

Looking uses nothing up, because programs look at links before people do. The button does: it signs in so far that a
second factor can be enrolled, and nothing else.
"""

from __future__ import annotations

from starlette.responses import Response

from twofold.core.account import FIRST_FACTOR
from twofold.errors import InvalidInput, Refused
from twofold.server.pages.gate import tell_blocked
from twofold.server.pages.refusals import explain_new_password
from twofold.server.pages.sign_in import begin_session
from twofold.server.pages.visit import Visit
from twofold.server.words import Sentence
from twofold.sign_in_limits import TooMany, log_refusal


async def show_link(visit: Visit) -> Response:
    """For whom the link is, and what it does."""
    token = visit.request.query_params.get("token", "")
    try:
        return await _show(visit, token)
    except Refused:
        return await _tell_wrong(visit, token)


async def take_link(visit: Visit) -> Response:
    """Use the link up: on to enrolling."""
    token = visit.field("token")
    try:
        done = await visit.house.sign_in.use_link(token, visit.field("new_password"), visit.guest)
    except InvalidInput as error:
        return await _show(visit, token, explain_new_password(error))
    except Refused as refused:
        if refused.code != "not_found":
            raise
        return await _tell_wrong(visit, token)
    await begin_session(visit, done)
    return visit.go("/enroll")


async def tell_wrong_link(visit: Visit, token: str, title: Sentence, why: Sentence, what_to_do: Sentence) -> Response:
    """A link that leads nowhere. Sent with a form it counts like a wrong password of its network, which is refused
    after many; looked at it counts for nothing, or any page of others could have its visitors' network refused."""
    if token and visit.request.method == "POST":
        sender, limits = visit.sender, visit.house.limits
        log_refusal(sender.address, "wrong_link")
        # Nobody's name is a whole link: each token is counted by itself.
        counted = await limits.admit(
            f"link {token}", sender.address, is_known=False, is_behind_unknown_proxy=sender.is_behind_unknown_proxy
        )
        if not isinstance(counted, TooMany):
            await limits.settle(counted, is_right=False)
        elif counted.over == "network":
            log_refusal(sender.address, "limit_network")
            return tell_blocked(visit, counted.retry_after_s)
    return visit.tell(title, why, what_to_do, status=403, links=((Sentence("Sign in"), "/sign-in"),))


async def _tell_wrong(visit: Visit, token: str) -> Response:
    return await tell_wrong_link(
        visit,
        token,
        Sentence("This link does not work any more"),
        Sentence("It was used, it is too old, or a newer one was made. Perhaps it lost a part on its way to you."),
        Sentence("Sign in if you have a password and a second factor; else ask for a new link."),
    )


async def _show(visit: Visit, token: str, error: Sentence | None = None) -> Response:
    account, link = await visit.house.sign_in.find_link(token)
    return visit.show(
        "link/link.html",
        status=422 if error else 200,
        error=error,
        token=token,
        owner=account.id,
        purpose=link.purpose,
        has_password=any(a.factor == FIRST_FACTOR for a in account.authenticators),
    )
