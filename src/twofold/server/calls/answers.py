"""The calls in which somebody shows who she is: answers, the questions to some of them, and receipts of them."""

from __future__ import annotations

import ipaddress

import msgspec

from twofold.core.attempt import Context
from twofold.core.decision import Rejected, Throttled, Verified
from twofold.engine import Caller
from twofold.errors import InvalidInput
from twofold.server import wire
from twofold.server.calls import Reply, Request, Services, find_party
from twofold.server.problems import throttled

ADDRESS_MAX = 64


async def verify(services: Services, request: Request[wire.VerifyBody]) -> Reply:
    """Judge one answer."""
    body = request.body
    outcome = await services.verifier.verify(
        request.account_id,
        code=body.code,
        codes=body.codes,
        factor=body.factor,
        authenticator_id=body.authenticator_id,
        purpose=body.purpose,
        binding=body.binding,
        caller=_from_where(request.caller, body.context),
    )
    return 200, _show(outcome)


async def open_challenge(services: Services, request: Request[wire.ChallengeBody]) -> Reply:
    """Ask for one of the account's passkeys or security keys."""
    body = request.body
    if body.detail is not None:
        raise InvalidInput("detail", "nothing here: a passkey shows no text; bind the answer with binding")
    challenge = await services.verifier.passkeys.challenge(
        request.account_id,
        find_party(services, request.application),
        purpose=body.purpose,
        binding=body.binding,
        user_verification=body.user_verification,
        caller=_from_where(request.caller, body.context),
    )
    return 201, wire.ChallengeAnswer(
        id=challenge.id,
        expires_at=wire.show_time(challenge.expires_at),
        prompt=wire.Prompt(public_key=challenge.public_key),
    )


async def answer_challenge(services: Services, request: Request[wire.ChallengeAnswerBody]) -> Reply:
    """Judge the answer to a challenge."""
    body = request.body
    outcome = await services.verifier.passkeys.answer(
        body.challenge,
        body.credential,
        find_party(services, request.application),
        binding=body.binding,
        caller=_from_where(request.caller, body.context),
    )
    shown = _show(outcome)
    if isinstance(shown, wire.VerifiedAnswer):
        asked = services.verifier.passkeys.read_challenge(body.challenge)
        shown = msgspec.structs.replace(shown, account_id=asked.account_id)
    return 200, shown


async def redeem_receipt(services: Services, request: Request[wire.RedeemBody]) -> Reply:
    """Use a receipt up, once."""
    body = request.body
    redeemed = await services.verifier.redeem(
        body.receipt, purpose=body.purpose, binding=body.binding, caller=request.caller
    )
    return 200, wire.show_redeemed(redeemed)


def _show(outcome: Verified | Rejected | Throttled) -> wire.VerifiedAnswer | wire.RejectedAnswer:
    """How an answer ended; raises `Problem` for one that was not judged."""
    if isinstance(outcome, Throttled):
        raise throttled(outcome)
    return wire.show_outcome(outcome)


def _from_where(caller: Caller, context: wire.ContextBody) -> Caller:
    if context.ip is not None:
        _check_address(context.ip)
    return msgspec.structs.replace(caller, context=Context(context.ip, context.user_agent, context.browser))


def _check_address(address: str) -> None:
    try:
        # Short: an IPv6 address with a zone may be as long as somebody likes, and it goes into the audit log.
        ipaddress.ip_address(address[: ADDRESS_MAX + 1])
    except ValueError:
        raise InvalidInput("context.ip", "an IPv4 or IPv6 address") from None
    if len(address) > ADDRESS_MAX:
        raise InvalidInput("context.ip", f"an address of at most {ADDRESS_MAX} characters")
