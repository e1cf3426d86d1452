"""The set-up: whoever holds the newest set-up link names the address of this site and becomes the administrator.

There is no account before, and none comes with the program. The link stays good until that person has a second factor.
"""

from __future__ import annotations

from typing import NamedTuple

from starlette.responses import Response

from twofold import setup_link
from twofold.config import check_public_url
from twofold.errors import ConfigurationError, InvalidInput, Refused
from twofold.lost_passkeys import LostPasskeys, find_lost, settle
from twofold.relying_party import check_own
from twofold.server.pages.links import tell_wrong_link
from twofold.server.pages.refusals import explain_input, explain_new_password
from twofold.server.pages.sign_in import begin_session
from twofold.server.pages.visit import Visit
from twofold.server.words import Sentence, counted


class Wrong(NamedTuple):
    """The field that cannot stay as it is, and why."""

    field: str
    why: Sentence


async def show_setup(visit: Visit) -> Response:
    """What is asked for; looking does not use the link up."""
    token = visit.request.query_params.get("token", "")
    return await _refuse(visit, token) or await _show(visit, token)


async def take_setup(visit: Visit) -> Response:
    """The administrator: signed in so far that a second factor can be enrolled, and nothing else."""
    token, house = visit.field("token"), visit.house
    if refusal := await _refuse(visit, token):
        return refusal
    try:
        url = _read_url(visit)
    except ConfigurationError:
        return await _show(visit, token, _explain_url())
    lost = await find_lost(house.store, house.keys, url)
    if lost and not visit.field("lose_passkeys"):
        return await _show(visit, token, Wrong("lose_passkeys", Sentence("Tick this, or keep the address.")), lost)
    try:
        done = await house.sign_in.make_first_administrator(
            visit.field("name"), visit.field("new_password"), visit.guest
        )
    except InvalidInput as error:
        return await _show(visit, token, _explain_input(error), lost)
    except Refused as refused:
        if refused.code not in ("conflict", "disabled"):
            raise
        taken = Sentence("Somebody of that name is here already. Choose another name.")
        return await _show(visit, token, Wrong("name", taken), lost)
    if url != await _find_public_url(visit):
        await setup_link.put_public_url(house.store, house.keys, url)
    if lost:
        await settle(house.store, house.keys, url)
    await begin_session(visit, done)
    return visit.go("/enroll")


async def _refuse(visit: Visit, token: str) -> Response | None:
    """The answer to a link that does not lead here, or not any more."""
    house = visit.house
    if not await setup_link.is_valid(house.store, house.keys, house.clock, token):
        return await tell_wrong_link(
            visit,
            token,
            Sentence("This set-up link does not work"),
            Sentence("Only the newest one does, for one day, and only until the set-up is done."),
            Sentence("On the machine of the server, this prints a new one: twofold setup-link"),
        )
    if await house.administration.has_administrator():
        return visit.tell(
            Sentence("This is set up already"),
            Sentence("There is an administrator, so the link leads nowhere any more."),
            Sentence("Sign in, or ask the administrator for an invitation."),
            status=403,
            links=((Sentence("Sign in"), "/sign-in"),),
        )
    return None


async def _show(visit: Visit, token: str, wrong: Wrong | None = None, lost: LostPasskeys | None = None) -> Response:
    return visit.show(
        "setup/setup.html",
        status=422 if wrong else 200,
        token=token,
        name=visit.field("name"),
        public_url=visit.field("public_url") or await _find_public_url(visit),
        is_fixed=visit.house.is_public_url_fixed,
        lost=_explain_lost(lost) if lost else None,
        may_lose=bool(visit.field("lose_passkeys")),
        wrong_field=wrong.field if wrong else None,
        error=wrong.why if wrong else None,
    )


async def _find_public_url(visit: Visit) -> str:
    """What was chosen before, for the next start; else what is in force."""
    house = visit.house
    if house.is_public_url_fixed:
        return house.public_url
    return await setup_link.read_public_url(house.store, house.keys) or house.public_url


def _read_url(visit: Visit) -> str:
    """The address that was typed, if it may be; raises `ConfigurationError`."""
    if visit.house.is_public_url_fixed:
        return visit.house.public_url
    url = check_public_url(visit.field("public_url").strip())
    check_own(url)
    return url


def _explain_input(error: InvalidInput) -> Wrong:
    if error.field == "name":
        return Wrong("name", explain_input(error))
    return Wrong("new_password", explain_new_password(error))


def _explain_lost(lost: LostPasskeys) -> tuple[Sentence, Sentence]:
    return (
        counted(
            "%(count)s passkey stops working at that address",
            "%(count)s passkeys stop working at that address",
            lost.passkeys,
        ),
        counted(
            "%(count)s person has made passkeys for %(host)s. They are good for that name only.",
            "%(count)s people have made passkeys for %(host)s. They are good for that name only.",
            lost.people,
            host=lost.rp_id,
        ),
    )


def _explain_url() -> Wrong:
    why = Sentence(
        "An address looks like https://login.example.com, without a path. Plain http is for this machine and private"
        " networks. A name under which everybody can have one, such as github.io, is nobody's address."
    )
    return Wrong("public_url", why)
