"""Other people: find them, invite them, look at what protects them, and act on them with a fresh code of one's own.

Nothing here shows or sets anybody's second factor. What an act means is in `people_words.py`, what it does in
`twofold.administration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote

from starlette.responses import Response

from twofold.administration import PAGE_PEOPLE, REASON_MAX, check_reason
from twofold.core.account import Role
from twofold.core.administration import INVITATION_TTL_S
from twofold.core.verdict import PURPOSE_MAX
from twofold.directory import AccountView
from twofold.engine import Caller, NotProven
from twofold.errors import InvalidInput, Refused
from twofold.ports import AccountCounts
from twofold.server.pages.activity_words import tell
from twofold.server.pages.authenticator_words import show_authenticators
from twofold.server.pages.people_words import ACTS, Act, find_act, say_factors, say_standing
from twofold.server.pages.proof import ask, explain_unproven, prove
from twofold.server.pages.refusals import Explanation, explain_input
from twofold.server.pages.visit import Visit, spell_query
from twofold.server.words import Sentence
from twofold.sign_in import make_name, spell_name

PEOPLE = "/admin/people"
#: Whom, is typed after the page has asked for a passkey; the events tell.
INVITE = "invite"
EVENTS_SHOWN = 10


class Filter(NamedTuple):
    """Some of the people: its name in addresses, its words, and what it asks the list for."""

    name: str
    text: Sentence
    state: str | None = None
    role: str | None = None
    stops_by: int | None = None

    def count(self, counts: AccountCounts) -> int:
        """How many people it leaves."""
        if self.stops_by is not None:
            return counts.stopping
        if self.role is not None:
            return counts.by_role.get(self.role, 0)
        return counts.total if self.state is None else counts.by_state.get(self.state, 0)


#: Those whose authenticators stop after a reset.
STOPPING = "stopping"
EVERYBODY = Filter("", Sentence("All"))
FILTERS = (
    EVERYBODY,
    Filter("protected", Sentence("With a second factor"), state="active"),
    Filter("unprotected", Sentence("Without one"), state="empty"),
    Filter("disabled", Sentence("Disabled"), state="disabled"),
    Filter("administrators", Sentence("Administrators"), role="administrator"),
    Filter(STOPPING, Sentence("New authenticator due"), stops_by=2**63 - 1),
)


class Line(NamedTuple):
    """A person in a list."""

    view: AccountView
    path: str
    word: Sentence
    is_urgent: bool
    factors: Sentence | None
    last_used_at: int


async def show_people(visit: Visit) -> Response:
    """All of them in order of name: some by a search, some by a filter, a page at a time."""
    query = visit.request.query_params
    search, after = spell_name(query.get("q", "")), query.get("after", "")
    chosen = next((f for f in FILTERS if f.name == query.get("show", "")), EVERYBODY)
    house = visit.house
    found = await house.administration.page(
        after=after, search=search or None, state=chosen.state, role=chosen.role, stops_by=chosen.stops_by
    )
    counts = await house.administration.count()
    lines = [to_line(view) for view in found[:PAGE_PEOPLE]]
    kept = {"q": search, "show": chosen.name}
    return visit.show(
        "admin/people.html",
        lines=lines,
        search=search,
        chosen=chosen,
        # What a search finds is not counted: the numbers are those of all people.
        chips=[
            (each.text, _list_path(kept, show=each.name), each is chosen, None if search else each.count(counts))
            for each in FILTERS
            if each.name != STOPPING or each is chosen or counts.stopping
        ],
        first_href=_list_path(kept) if after else None,
        next_href=_list_path(kept, after=lines[-1].view.id) if len(found) > PAGE_PEOPLE else None,
    )


async def show_invite(visit: Visit) -> Response:
    """The form for somebody new."""
    return await _show_invite(visit)


async def take_invite(visit: Visit) -> Response:
    """Invite somebody; the link is shown on the page that answers, and nowhere again."""
    house, caller, name = visit.house, visit.as_administrator(), visit.field("name")
    role: Role = "administrator" if visit.field("administrator") else ""
    taken = {"name": Sentence("There is a person of that name already. Choose another name.")}
    try:
        if await house.administration.is_taken(name, caller=caller):
            return await _show_invite(visit, errors=taken, taken_path=person_path(make_name(name)))
        await prove(visit, INVITE)
        account_id, token = await house.administration.invite(name, role=role, caller=caller)
    except InvalidInput as error:
        return await _show_invite(visit, errors={error.field: explain_input(error)})
    except NotProven as wrong:
        return await _show_invite(visit, await explain_unproven(visit, wrong))
    except Refused as refused:
        if refused.code != "conflict":
            raise
        return await _show_invite(visit, errors=taken, taken_path=person_path(make_name(name)))
    return _show_link(visit, account_id, token)


async def show_person(visit: Visit) -> Response:
    """What protects somebody, what happened, and what can be done."""
    house = visit.house
    view, account = await house.administration.find(visit.path("id"))
    activity = [] if account is None else await house.verifier.accounts.latest_activity(account, count=EVENTS_SHOWN)
    done = find_act(visit.request.query_params.get("done", ""))
    is_oneself = view.id == visit.owner.id
    return visit.show(
        "admin/person.html",
        view=view,
        path=person_path(view.id),
        standing=say_standing(view),
        authenticators=show_authenticators(view.second_factors, house.relying_party, is_own=False),
        is_oneself=is_oneself,
        acts=[] if is_oneself else [act for act in ACTS if act.is_offered(view)],
        done=done.done if done else None,
        activity=[tell(each, account) for each in activity if account is not None],
    )


async def show_act(visit: Visit) -> Response:
    """What an act will do, and what it asks for."""
    act, view = await _find_act(visit)
    if view.id == visit.owner.id:
        return _tell_oneself(visit)
    if not act.is_offered(view):
        return visit.tell(
            Sentence("There is nothing to do"),
            Sentence("As %(name)s stands now, “%(act)s” would change nothing.", {"name": view.id, "act": act.button}),
            status=409,
            links=((Sentence("Back to %(name)s", {"name": view.id}), person_path(view.id)),),
        )
    return await _show_act(visit, act, view)


async def take_act(visit: Visit) -> Response:
    """Do it, if the administrator's code is right."""
    act, view = await _find_act(visit)
    if view.id == visit.owner.id:
        return _tell_oneself(visit)
    try:
        reason = check_reason(visit.field("reason")) if act.needs_reason else ""
        await prove(visit, _purpose_of(act, view))
    except InvalidInput as error:
        return await _show_act(visit, act, view, errors={error.field: _explain(error)})
    except NotProven as wrong:
        return await _show_act(visit, act, view, await explain_unproven(visit, wrong))
    token = await _do(visit, act, view.id, reason, visit.as_administrator())
    return visit.go(f"{person_path(view.id)}?done={act.name}") if token is None else _show_link(visit, view.id, token)


def person_path(account_id: str) -> str:
    """The page of a person."""
    return f"{PEOPLE}/{quote(account_id, safe='')}"


def to_line(view: AccountView) -> Line:
    """A person as lists show her."""
    standing = say_standing(view)
    return Line(
        view,
        person_path(view.id),
        standing.word,
        standing.kind in ("warning", "bad"),
        say_factors(view),
        max((a.last_used_at for a in view.authenticators), default=0),
    )


def _list_path(kept: Mapping[str, str], **changed: str) -> str:
    return f"{PEOPLE}{spell_query({**kept, **changed})}"


async def _find_act(visit: Visit) -> tuple[Act, AccountView]:
    act = find_act(visit.path("act"))
    if act is None:
        raise Refused("not_found", "there is no such act")
    return act, await visit.house.verifier.accounts.get(visit.path("id"))


async def _do(visit: Visit, act: Act, account_id: str, reason: str, caller: Caller) -> str | None:
    """The token of a one-time link, where the act makes one."""
    administration = visit.house.administration
    match act.name:
        case "invite":
            return await administration.invite_again(account_id, caller=caller)
        case "unlock":
            await administration.unlock(account_id, caller=caller)
        case "reset":
            return await administration.reset(account_id, reason=reason, caller=caller)
        case "make-administrator" | "unmake-administrator":
            role: Role = "administrator" if act.name == "make-administrator" else ""
            await administration.set_role(account_id, role, caller=caller)
        case "sign-out":
            await administration.sign_out(account_id, caller=caller)
        case "disable" | "enable":
            await administration.set_disabled(account_id, is_disabled=act.name == "disable", caller=caller)
    return None


def _explain(error: InvalidInput) -> Sentence:
    if error.field == "reason":
        return Sentence("Write down the reason, in 1 to %(most)s letters, digits or signs.", {"most": REASON_MAX})
    return explain_input(error)


async def _show_invite(
    visit: Visit,
    problem: Explanation | None = None,
    *,
    errors: Mapping[str, Sentence] | None = None,
    taken_path: str | None = None,
) -> Response:
    return await ask(
        visit,
        "admin/invite.html",
        problem,
        errors,
        purpose=INVITE,
        is_for_others=True,
        name=spell_name(visit.field("name") or visit.request.query_params.get("name", "")),
        is_administrator=bool(visit.field("administrator")),
        taken_path=taken_path,
    )


def _purpose_of(act: Act, view: AccountView) -> str:
    """What a proof for the act is good for: just this, on just this person, also where her name is too long for it."""
    purpose = f"{act.name}:{view.id}"
    return purpose if len(purpose) <= PURPOSE_MAX else f"{act.name}:{sha256(view.id.encode()).hexdigest()}"


async def _show_act(
    visit: Visit,
    act: Act,
    view: AccountView,
    problem: Explanation | None = None,
    *,
    errors: Mapping[str, Sentence] | None = None,
) -> Response:
    return await ask(
        visit,
        "admin/act.html",
        problem,
        errors,
        purpose=_purpose_of(act, view),
        is_for_others=True,
        act=act,
        question=act.ask(view),
        effects=act.effects(view),
        view=view,
        path=person_path(view.id),
        reason=visit.field("reason"),
        reason_max=REASON_MAX,
    )


def _show_link(visit: Visit, account_id: str, token: str) -> Response:
    return visit.show(
        "admin/link.html",
        name=account_id,
        path=person_path(account_id),
        link=f"{visit.house.public_url}/link?token={token}",
        ttl_s=INVITATION_TTL_S,
    )


def _tell_oneself(visit: Visit) -> Response:
    return visit.tell(
        Sentence("You cannot do this to yourself"),
        Sentence("Nobody decides on their own account here, so that no single mistake or stolen session is enough."),
        Sentence("Ask another administrator, or use “twofold account” on the server. Your own things are here:"),
        status=409,
        links=((Sentence("Your security"), "/security"),),
    )
