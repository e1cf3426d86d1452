"""The administration at a glance: numbers, alarms, and people who need something."""

from __future__ import annotations

from typing import NamedTuple

from starlette.responses import Response

from twofold.core.activity import Activity
from twofold.engine import NotProven
from twofold.errors import InvalidInput
from twofold.server.pages.gate import SHOW_PASSKEY
from twofold.server.pages.people import person_path, to_line
from twofold.server.pages.people_words import say_factor
from twofold.server.pages.proof import Errors, ask, explain_unproven, prove
from twofold.server.pages.refusals import Explanation, explain_input
from twofold.server.pages.visit import Visit
from twofold.server.words import Sentence

ADMIN = "/admin"
NEEDY_SHOWN = 5
#: What a passkey is shown for that opens the administration.
ADMINISTER = "administer"
FACTORS = ("webauthn", "totp", "hotp", "yubico_otp", "recovery_codes", "password")


class Alarm(NamedTuple):
    """Something that an administrator should look into, and where to look."""

    what: Sentence
    what_to_do: Sentence
    at: int
    href: str


async def show_admin(visit: Visit) -> Response:
    """Charts before tables: how many people are how safe, what is wrong, and who needs something."""
    administration = visit.house.administration
    counts = await administration.count()
    disabled = await administration.page(state="disabled", limit=NEEDY_SHOWN)
    without = await administration.page(state="empty", limit=NEEDY_SHOWN)
    return visit.show(
        "admin/overview.html",
        total=counts.total,
        protected=counts.by_state.get("active", 0),
        unprotected=counts.by_state.get("empty", 0),
        disabled=counts.by_state.get("disabled", 0),
        administrators=counts.by_role.get("administrator", 0),
        networks=len(await visit.house.networks.list()),
        stopping=counts.stopping,
        first_stops_at=counts.first_stops_at,
        factors=[(say_factor(factor), n) for factor in FACTORS if (n := counts.by_factor.get(factor, 0))],
        suggestion=visit.house.addresses.suggestion,
        alarms=[_tell_alarm(alarm) for alarm in await administration.latest_alarms()],
        needy=[to_line(view) for view in (*disabled, *without)],
    )


async def show_passkey(visit: Visit) -> Response:
    """To an administrator who has a passkey and did not show it in this session: the way in, and what to do without."""
    if visit.session.is_user_verified or not visit.needs_passkey:
        return visit.go(visit.next_path or ADMIN)
    return await _show_passkey(visit)


async def take_passkey(visit: Visit) -> Response:
    """On to where the administrator was going, with a session in which the passkey was shown."""
    if not visit.needs_passkey:
        return visit.go(visit.next_path or ADMIN)
    try:
        await prove(visit, ADMINISTER)
    except InvalidInput as error:
        return await _show_passkey(visit, errors={error.field: explain_input(error)})
    except NotProven as wrong:
        return await _show_passkey(visit, await explain_unproven(visit, wrong))
    return visit.go(visit.next_path or ADMIN)


async def _show_passkey(visit: Visit, problem: Explanation | None = None, errors: Errors | None = None) -> Response:
    return await ask(
        visit, "admin/passkey.html", problem, errors, purpose=ADMINISTER, is_for_others=True, action=SHOW_PASSKEY
    )


def _tell_alarm(alarm: Activity) -> Alarm:
    account = alarm.text("account")
    href = person_path(account) if account else "/admin/people"
    match alarm.kind:
        case "account.tampered":
            return Alarm(
                Sentence("The record of %(name)s was changed by something other than this server", {"name": account}),
                Sentence("Run “twofold audit verify” on the server, and find out who can write to the database."),
                alarm.at,
                href,
            )
        case "sign_in.sprayed" if account:
            return Alarm(
                Sentence("Many networks fail on the password of %(name)s", {"name": account}),
                Sentence("Nothing is lost while the password holds. Ask for a new one if it is used elsewhere too."),
                alarm.at,
                href,
            )
        case "sign_in.sprayed":
            return Alarm(
                Sentence("Somebody tries passwords or codes on many accounts"),
                Sentence("The limits hold. Look who has no second factor yet: those are at risk."),
                alarm.at,
                "/admin/people?show=unprotected",
            )
    return Alarm(
        Sentence("The network %(network)s went over its limit", {"network": alarm.text("network")}),
        Sentence("It is refused for a while. Lift that if it is your own office."),
        alarm.at,
        "/admin/networks",
    )
