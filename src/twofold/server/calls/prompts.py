"""The calls by which an application sends somebody to Twofold's own pages, and takes the answer.

The pages are in `server/pages/prompt.py`.
"""

from __future__ import annotations

import msgspec

from twofold.core.account import check_account_id
from twofold.core.prompt import Prompt
from twofold.errors import InvalidInput, Refused
from twofold.server import wire
from twofold.server.calls import Reply, Request, Services

PATH = "/prompt/"


async def open_prompt(services: Services, request: Request[wire.PromptBody]) -> Reply:
    """Make a link to a page where the person shows a second factor, or sets one up."""
    body = request.body
    if body.enroll and "enroll" not in request.application.scopes:
        raise Refused("forbidden", "enrolling in a prompt needs the scope enroll")
    if body.state == "":
        raise InvalidInput("state", "at least one character")
    prompt = Prompt(body.return_to, body.code_challenge, body.state or "", body.enroll)
    begun = await services.prompts.begin(
        _read_account(body.account),
        prompt,
        request.application,
        purpose=body.purpose,
        binding=body.binding,
        caller=request.caller,
    )
    url = f"{services.public_url}{PATH}{begun.link}"
    return 201, wire.PromptAnswer(url, wire.show_time(begun.expires_at))


async def redeem_prompt(services: Services, request: Request[wire.RedeemPromptBody]) -> Reply:
    """Use the code of a prompt up, once, for the receipt."""
    body = request.body
    answered = await services.prompts.redeem(
        body.code, verifier=body.code_verifier, binding=body.binding, caller=request.caller
    )
    shown = wire.show_outcome(answered.verified)
    return 200, msgspec.structs.replace(shown, account_id=answered.account_id, enrolled=answered.is_enrolled)


def _read_account(account_id: str) -> str:
    try:
        return check_account_id(account_id)
    except InvalidInput as wrong:
        raise InvalidInput("account", wrong.expected) from None
