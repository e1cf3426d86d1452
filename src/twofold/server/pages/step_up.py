"""A fresh proof for one act of the application around the pages, and on to that act.

The act is a path of the application; where a form was sent to it, also just that form. The proof is remembered in the
session (`Session.granted`), counts for a few minutes, and is used up by the act (`twofold.integrations.guard`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from starlette.responses import Response

from twofold.engine import NotProven
from twofold.errors import InvalidInput
from twofold.server.host import OUTSIDE
from twofold.server.pages.proof import A_CODE, Asked, Box, Errors, explain_unproven, gives_codes, show_form
from twofold.server.pages.refusals import Explanation, explain_input
from twofold.server.pages.visit import Visit, spell_query
from twofold.server.words import Sentence

FRESH = "/fresh"
#: Where a request holds the form that was sent to the application, and waits for the proof. Nothing from outside gets
#: there.
WAITING = "twofold.waiting"
#: As much of a form goes along with ours.
WAITING_BYTES_MAX = 32 * 1024
WAITING_FIELDS_MAX = 256
Strength = Literal["code", "passkey"]


def read_pairs(form: bytes) -> list[tuple[str, str]]:
    """The fields of a form as browsers send them; raises `ValueError` for anything else."""
    if len(form) > WAITING_BYTES_MAX:
        raise ValueError("too large")
    text = form.decode("ascii")
    return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=WAITING_FIELDS_MAX)


def name_act(address: str, pairs: Sequence[tuple[str, str]] | None = None) -> str:
    """What the proof is for: a path of the application, or where a form waits that very form to that very address."""
    if pairs is None:
        address = address.partition("?")[0]
    # A browser may spell a field otherwise the second time.
    form = "" if pairs is None else "?" + urlencode([(name, value.replace("\r\n", "\n")) for name, value in pairs])
    return hashlib.sha256(f"{address}\0{form}".encode()).hexdigest()[:32]


def purpose_of(act: str, at_least: Strength) -> str:
    """The purpose of a proof for an act; no other proof has it."""
    return f"fresh:{at_least}:{act}"


async def show_fresh(visit: Visit) -> Response:
    """What is about to be done, and the proof that it takes."""
    form: bytes | None = visit.request.scope.get(WAITING)
    return await _show(visit, None if form is None else base64.urlsafe_b64encode(form).decode())


async def take_fresh(visit: Visit) -> Response:
    """On to the act: by its address, or with the form that waits for it."""
    waiting = visit.form.get("waiting")
    pairs = _read_waiting(waiting)
    act, at_least = name_act(visit.next_path, pairs), _read_strength(visit)
    try:
        if not visit.has_answer:
            raise InvalidInput("code", "a fresh code")
        assert visit.bearer is not None  # noqa: S101 - nobody reaches the page without a session
        caller = await visit.caller(
            purpose=purpose_of(act, at_least), needs_passkey=at_least == "passkey", is_once=True
        )
        visit.keep(await visit.house.sign_in.prove(visit.bearer, caller))
    except InvalidInput as error:
        return await _show(visit, waiting, errors={"code": explain_input(error)})
    except NotProven as wrong:
        return await _show(visit, waiting, await explain_unproven(visit, wrong))
    if pairs is None:
        return visit.go(visit.next_path)
    return visit.show("fresh/resume.html", action=visit.next_path, fields=pairs, path=_act_path(visit))


async def _show(
    visit: Visit, waiting: str | None, problem: Explanation | None = None, errors: Errors | None = None
) -> Response:
    at_least, path = _read_strength(visit), _act_path(visit)
    if not path:
        return visit.go("/")
    needs_passkey = at_least == "passkey"
    purpose = purpose_of(name_act(visit.next_path, _read_waiting(waiting)), at_least)
    passkey = await visit.ask_passkey(purpose, needs_passkey=needs_passkey)
    if needs_passkey and passkey is None:
        return visit.tell(
            Sentence("This takes a passkey"),
            Sentence(
                "You have none that works here. A code is not enough for it, because a fake page could ask for one."
            ),
            Sentence("Add a passkey, then do it again. Nothing was done yet."),
            status=403,
            links=((Sentence("Add a passkey"), "/enroll"), (Sentence("Back"), path)),
        )
    box: Box = "none" if needs_passkey else "codes" if passkey is None or gives_codes(visit) else "recovery"
    asked = A_CODE if passkey is None else Asked(passkey, box)
    # A form cannot come along to there: then it is the proof first, and the form once more.
    letters_url = FRESH + spell_query({"letters": "1", "next": visit.next_path, "at_least": at_least})
    more = {"at_least": at_least, "path": path, "waiting": waiting, "letters_url": letters_url}
    return show_form(visit, "fresh/step_up.html", problem, errors, asked, **more)


def _act_path(visit: Visit) -> str:
    """The path of the act, as the application's; "" if it is none."""
    path = visit.next_path.partition("?")[0]
    return path if path.startswith(OUTSIDE) else ""


def _read_strength(visit: Visit) -> Strength:
    asked = visit.field("at_least") or visit.request.query_params.get("at_least", "")
    return "passkey" if asked == "passkey" else "code"


def _read_waiting(waiting: str | None) -> list[tuple[str, str]] | None:
    """The form that waits; raises `InvalidInput` for what none of our pages holds."""
    if waiting is None:
        return None
    try:
        return read_pairs(base64.b64decode(waiting, b"-_", validate=True))
    except ValueError:
        raise InvalidInput("waiting", "the form that waits, as the page holds it") from None
