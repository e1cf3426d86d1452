"""The networks that are refused: see them, lift a refusal, refuse one more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from starlette.responses import Response

from twofold.engine import NotProven
from twofold.errors import InvalidInput
from twofold.networks import HOURS_MAX, REASON_MAX
from twofold.ports import NetworkBlock
from twofold.server.pages.proof import ask, explain_unproven, prove
from twofold.server.pages.refusals import Explanation, explain_input
from twofold.server.pages.visit import Visit
from twofold.server.words import Sentence, counted

NETWORKS = "/admin/networks"
REFUSE = "refuse_network"
#: What the form offers, in hours; "" stays until it is lifted.
HOURS = (
    ("1", counted("%(count)s hour", "%(count)s hours", 1)),
    ("24", counted("%(count)s hour", "%(count)s hours", 24)),
    ("168", counted("%(count)s day", "%(count)s days", 7)),
    ("", Sentence("Until it is lifted")),
)
_DONE = {
    "refused": Sentence("Refused from now on: the network reaches no page that is open to strangers."),
    "lifted": Sentence("Lifted: the network is let in again, and its strikes are forgotten."),
    "over": Sentence("That network was let in already."),
}


class Line(NamedTuple):
    """A refused network in the list."""

    network: str
    until: int
    why: Sentence | str
    by: Sentence | str
    strikes: int


async def show_networks(visit: Visit) -> Response:
    """Which are refused, until when, why and by whom."""
    return await _show_networks(visit)


async def take_network(visit: Visit) -> Response:
    """Refuse a network. It may shut people out, so it takes a fresh code."""
    network = visit.field("network")
    try:
        hours = _read_hours(visit.field("hours"))
        await prove(visit, REFUSE)
        await visit.house.networks.add(
            network, hours=hours, reason=visit.field("reason").strip(), caller=visit.as_administrator()
        )
    except InvalidInput as error:
        return await _show_networks(visit, errors={error.field: _explain(error)})
    except NotProven as wrong:
        return await _show_networks(visit, await explain_unproven(visit, wrong))
    return visit.go(f"{NETWORKS}?done=refused")


async def take_lift(visit: Visit) -> Response:
    """Let a network in again. It takes no code: the limits hold on, so a stranger gains nothing that others lack."""
    is_lifted = await visit.house.networks.lift(visit.field("network"), caller=visit.as_administrator())
    return visit.go(f"{NETWORKS}?done={'lifted' if is_lifted else 'over'}")


def _read_hours(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(HOURS_MAX))):
        raise InvalidInput("hours", f"1 to {HOURS_MAX}")
    return int(text)


def _to_line(block: NetworkBlock) -> Line:
    if not block.by:
        limits = Sentence("The limits")
        return Line(block.network, block.until, Sentence("Over its limit"), limits, block.strikes)
    return Line(block.network, block.until, block.reason, block.by, block.strikes)


def _explain(error: InvalidInput) -> Sentence:
    match error.field:
        case "network" if error.why == "own":
            return Sentence("Your own address is in this network: you would shut yourself out. Choose a smaller one.")
        case "network" if error.why == "loopback":
            return Sentence("This server itself is in this network. Choose a smaller one.")
        case "network":
            return Sentence("Type an address or a network, such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/48.")
        case "hours":
            return Sentence("Choose how long: 1 to %(most)s hours.", {"most": HOURS_MAX})
        case "reason":
            return Sentence("A reason has at most %(most)s letters, digits or signs.", {"most": REASON_MAX})
    return explain_input(error)


async def _show_networks(
    visit: Visit, problem: Explanation | None = None, *, errors: Mapping[str, Sentence] | None = None
) -> Response:
    blocks = sorted(await visit.house.networks.list(), key=lambda block: block.blocked_at, reverse=True)
    return await ask(
        visit,
        "admin/networks.html",
        problem,
        errors,
        purpose=REFUSE,
        is_for_others=True,
        lines=[_to_line(block) for block in blocks],
        done=_DONE.get(visit.request.query_params.get("done", "")),
        network=visit.field("network"),
        reason=visit.field("reason"),
        hours=visit.form.get("hours", "24"),
        hours_offered=HOURS,
        suggestion=visit.house.addresses.suggestion,
        own_address=visit.sender.address,
    )
