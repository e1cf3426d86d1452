"""What a person's security page says: what was just done, what deserves a warning, why a tested code does not fit."""

from __future__ import annotations

from typing import Literal, NamedTuple

from twofold.core.activity import RefusedCodes
from twofold.core.decision import Rejected, Tried
from twofold.core.health import CODES_LEFT_LOW
from twofold.server.pages.refusals import Explanation, explain_code
from twofold.server.words import Moment, Sentence

ADDRESSES_SHOWN = 3

_DONE = {
    "label": Sentence("The name is changed."),
    "removed": Sentence("The authenticator is removed. It is not taken any more."),
    "password": Sentence("Your password is changed. Every other browser was signed out and has to sign in anew."),
    "browser": Sentence("The browser is forgotten."),
    "session": Sentence("The session is ended. Its next request is refused."),
    "sessions": Sentence("All other sessions are ended. Only this browser is signed in."),
}


class Note(NamedTuple):
    """A notice: of which kind, what it is about, what follows, and what to do next: each link's words and address."""

    kind: Literal["good", "info", "warning", "bad"]
    title: Sentence
    text: Sentence
    links: tuple[tuple[Sentence, str], ...] = ()


_NEW_PASSWORD = (Sentence("Change your password"), "/security/password")


def explain_done(done: str) -> Sentence | None:
    """What the last form did, by its word in the address."""
    return _DONE.get(done)


def explain_warnings(
    refused: RefusedCodes | None,
    *,
    has_used_recovery_code: bool,
    codes_left: int,
    is_guessed_at: bool,
    new_phone_href: str = "/enroll",
    events_max: int | None = None,
) -> list[Note]:
    """What somebody has to know at once, the most urgent first. `new_phone_href`: where a lost phone is replaced;
    `events_max`: so many events were looked through, and there are more."""
    notes = []
    if is_guessed_at:
        notes.append(
            Note(
                "bad",
                Sentence("Somebody is guessing your codes"),
                Sentence(
                    "Whoever does it knows your password. A new password stops it. Until then a browser in which you "
                    "have not signed in before takes a recovery code, or three codes in a row."
                ),
                (_NEW_PASSWORD,),
            )
        )
    if refused is not None:
        notes.append(_explain_refused(refused))
    if events_max is not None:
        notes.append(_explain_too_much(events_max))
    if has_used_recovery_code:
        notes.append(_explain_recovery_code(codes_left, new_phone_href))
    return notes


def explain_misfit(tried: Tried, now: int) -> Explanation:
    """Why a tested code is not right, and what to do about it."""
    if tried.clock_offset_s is not None:
        return explain_code(Rejected("clock_off", clock_offset_s=tried.clock_offset_s), now)
    return Explanation(
        Sentence("The code fits none of your authenticators"),
        Sentence(
            "It is from another account in your app, or from an authenticator that was removed. Or the app computes "
            "codes in another way, its clock is ahead, or the token was pressed too often."
        ),
        Sentence(
            "Look whether your app has several entries for this site. A token is found again by three codes in a row "
            "when you sign in. If neither helps, ask whoever runs this site to test a code with you."
        ),
    )


def explain_too_many(wait_s: int) -> Explanation:
    """Too many passwords were tried."""
    return Explanation(
        Sentence("Too many attempts"),
        Sentence("Your password was tried too often from your network. This one was not looked at."),
        Sentence("Wait, and try again."),
        wait_s,
    )


def _explain_refused(refused: RefusedCodes) -> Note:
    since = Moment(refused.since)
    shown = refused.addresses[:ADDRESSES_SHOWN]
    if not shown:
        title = Sentence(
            "A code was refused since %(since)s",
            {"since": since},
            plural="%(count)s codes were refused since %(since)s",
            count=refused.count,
        )
    else:
        title = Sentence(
            "A code from %(where)s was refused since %(since)s",
            {"where": shown, "since": since},
            plural="%(count)s codes from %(where)s were refused since %(since)s",
            count=refused.count,
        )
    return Note(
        "warning",
        title,
        Sentence("Whoever sent that knew your password. If it was not you, choose a new one now."),
        (_NEW_PASSWORD,),
    )


def _explain_too_much(events_max: int) -> Note:
    return Note(
        "warning",
        Sentence("More happened here than can be looked through"),
        Sentence(
            "The last %(events)s events do not reach back to your sign-in before. If they come neither from you nor "
            "from an application of yours, somebody knows your password: choose a new one now.",
            {"events": events_max},
        ),
        (_NEW_PASSWORD,),
    )


def _explain_recovery_code(left: int, new_phone_href: str) -> Note:
    if not left:
        text = Sentence("That was the last one. Without new ones, a lost phone is a lost account.")
    else:
        text = Sentence(
            "One is left. Each works once: cross out the one you used.",
            plural="%(count)s are left. Each works once: cross out the one you used.",
            count=left,
        )
    is_low = left <= CODES_LEFT_LOW
    new_phone = (Sentence("Lost your phone? Set up the new one"), new_phone_href)
    new_codes = (Sentence("Make new codes"), "/security/recovery-codes")
    return Note(
        "warning" if is_low else "info",
        Sentence("You signed in with a recovery code"),
        text,
        (new_phone, new_codes) if is_low else (new_phone,),
    )
