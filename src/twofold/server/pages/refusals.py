"""What a person is told when a code or an input is not right: what happened, why, and what to do, in that order.

Reason codes are for programs (`docs/reasons.md`); each of them has its sentences here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twofold.core.decision import Reason, Rejected, Throttled, Way
from twofold.core.factor import read_answer
from twofold.core.throttle import DELAY_MAX_S
from twofold.errors import InvalidInput, RefusalCode
from twofold.server.words import AnyOf, Duration, Moment, Sentence, Value, Wait

#: How many digits a code of an app or a token can have.
CODE_LENGTHS = range(6, 9)


class Explanation(NamedTuple):
    """What happened, why, what to do, and how many seconds to wait where that helps."""

    title: Sentence
    why: Sentence
    what_to_do: Sentence
    wait_s: int | None = None


def find_open_ways(throttled: Throttled | None) -> tuple[Way, ...]:
    """The ways in that are worth showing meanwhile: three codes take longer than a short wait."""
    if throttled is None:
        return ()
    is_long = throttled.retry_after_s > DELAY_MAX_S
    return tuple(way for way in throttled.ways if is_long or way != "three_codes")


def explain_open_ways(ways: Sequence[Way]) -> Sentence | None:
    """The ways in that stay open while single codes are not looked at."""
    named: dict[Way, Sentence] = {
        "known_browser": Sentence("a browser in which you signed in before"),
        "webauthn": Sentence("a passkey"),
        "recovery_codes": Sentence("a recovery code"),
        "three_codes": Sentence("three codes in a row"),
    }
    return Sentence("Without waiting: %(ways)s.", {"ways": AnyOf([named[way] for way in ways])}) if ways else None


def explain_code(outcome: Rejected | Throttled, now: int, typed: str = "") -> Explanation:
    """Why a code, or what a passkey gave, did not let the person in. What was `typed` tells a code from a recovery
    code, and from half a code."""
    if isinstance(outcome, Rejected) and outcome.reason in _PASSKEY:
        return _PASSKEY[outcome.reason]
    if isinstance(outcome, Rejected) and typed and read_answer([typed]).kind == "yubico_otp":
        return _explain_typing_key(outcome)
    if any(character.isalpha() for character in typed):
        return explain_recovery_code(outcome, now)
    match outcome:
        case Throttled(retry_after_s=wait_s) if wait_s > DELAY_MAX_S:
            return Explanation(
                Sentence("Somebody is guessing your codes"),
                Sentence(
                    "So many wrong codes came for your account that single codes are not looked at in a browser that is"
                    " new here, for %(left)s. Whoever it was knows your password.",
                    {"left": Wait(wait_s)},
                ),
                Sentence("Use one of the ways that are open, then choose a new password."),
                wait_s,
            )
        case Throttled(retry_after_s=wait_s):
            return Explanation(
                Sentence("Your code was not looked at"),
                Sentence(
                    "After several wrong codes the next one has to wait. You can try again in %(left)s.",
                    {"left": Wait(wait_s)},
                ),
                Sentence("Wait that long, then type the code of that moment."),
                wait_s,
            )
        case Rejected(reason="code_already_used", retry_after_s=wait_s) if wait_s:
            return Explanation(
                Sentence("That code was already used"),
                Sentence(
                    "Every code works once, so that nobody can use it after you. The next one comes in %(left)s.",
                    {"left": Wait(wait_s)},
                ),
                Sentence("Type the next one."),
            )
        case Rejected(reason="code_already_used"):
            return Explanation(
                Sentence("That code was already used"),
                Sentence("Every code works once, so that nobody can use it after you."),
                Sentence("Type the next one."),
            )
        case Rejected(reason="clock_off", clock_offset_s=offset_s):
            return _explain_clock(offset_s or 0, now)
    digits = "".join(typed.split()).replace("-", "")
    if digits.isdigit() and len(digits) not in CODE_LENGTHS:
        return Explanation(
            Sentence("That code is not right"),
            Sentence("A code has six digits, on some devices eight."),
            Sentence("Type all of them, and nothing else."),
        )
    return Explanation(
        Sentence("That code is not right"),
        Sentence("It may be from another account in your app, or it changed while you typed."),
        Sentence("Wait for the next code and type it here."),
    )


def explain_recovery_code(outcome: Rejected | Throttled, now: int) -> Explanation:
    """Why a recovery code did not let the person in."""
    match outcome:
        case Throttled():
            return explain_code(outcome, now)
        case Rejected(reason="code_already_used"):
            return Explanation(
                Sentence("That recovery code was already used"),
                Sentence("Every recovery code works once."),
                Sentence("Cross it off, and type another one of your list."),
            )
    return Explanation(
        Sentence("That recovery code is not right"),
        Sentence("It is mistyped, or from an older list: new codes make all the old ones void."),
        Sentence("Compare it with your list: 20 letters and digits, in five groups of four."),
    )


def _explain_typing_key(outcome: Rejected) -> Explanation:
    """Why what a key typed did not let the person in."""
    if outcome.reason == "code_already_used":
        return Explanation(
            Sentence("That code was already used"),
            Sentence("Every code that a key types works once, and only the newest one."),
            Sentence("Touch the key again, with the cursor in the box."),
        )
    return Explanation(
        Sentence("That key is not right"),
        Sentence("It belongs to another account, or it was programmed anew."),
        Sentence("Take your own key, and touch it with the cursor in the box."),
    )


#: Why what a passkey gave is not taken, as a proof or as a new one.
_PASSKEY: Mapping[Reason, Explanation] = {
    "passkey_required": Explanation(
        Sentence("That takes a passkey"),
        Sentence("You have one that makes sure who you are, so no code will do here: a code could be phished."),
        Sentence("Use your passkey. If it is lost, remove it on your security page with a recovery code."),
    ),
    "challenge_expired": Explanation(
        Sentence("That took too long"),
        Sentence("A passkey has five minutes to answer, and they were over."),
        Sentence("Try again."),
    ),
    "challenge_used": Explanation(
        Sentence("That was sent already"),
        Sentence("Every answer of a passkey counts once, so that nobody can use it after you."),
        Sentence("Try again."),
    ),
    "challenge_mismatch": Explanation(
        Sentence("That answer belongs elsewhere"),
        Sentence("Your passkey was asked on another page, in another browser, or before something changed."),
        Sentence("Try again, on this page."),
    ),
    "wrong_origin": Explanation(
        Sentence("Your passkey was used at another address"),
        Sentence("A page that only looks like this one does that, to sign in as you."),
        Sentence("Compare the address above with the one that you know. If it is right, tell whoever runs this site."),
    ),
    "unknown_credential": Explanation(
        Sentence("This passkey is not known here"),
        Sentence("It was removed from your account, or it is for another one."),
        Sentence("Take another passkey, or another way to sign in."),
    ),
    "uv_required": Explanation(
        Sentence("Your key did not make sure who you are"),
        Sentence("It must ask for a PIN, a fingerprint or your face here, so that whoever finds it gets nowhere."),
        Sentence("Set a PIN for the key, or sign in with your name and password and use the key after them."),
    ),
    "sign_count_went_back": Explanation(
        Sentence("This key may have been copied"),
        Sentence("It counts how often it is used, and its counter went back: somebody may have a second one like it."),
        Sentence("Sign in another way, remove this key, and tell whoever runs this site."),
    ),
    "wrong_credential": Explanation(
        Sentence("Your passkey was not accepted"),
        Sentence("What it gave does not fit: the device or the browser made a mistake, or somebody changed it."),
        Sentence("Try again, or take another way."),
    ),
    "already_registered": Explanation(
        Sentence("This device or key is registered already"),
        Sentence("It belongs to an account here, and one passkey is good for one account only."),
        Sentence("Take another device or key."),
    ),
    "key_refused": Explanation(
        Sentence("This device or key cannot be added"),
        Sentence("It makes keys of a kind that is not safe enough here."),
        Sentence("Take another device or key."),
    ),
    "attestation_refused": Explanation(
        Sentence("This device or key cannot be added"),
        Sentence("Only certain makes are taken here, or nobody can tell that it is one of them."),
        Sentence("Take another one, or ask whoever runs this site which ones are taken."),
    ),
}


def explain_switched_off(*, has_recovery_codes: bool) -> Explanation:
    """Why nothing that the person has can give a code that is taken."""
    recovery = Sentence("Type a recovery code, then set up your authenticator again.")
    unlock = Sentence("Ask an administrator to unlock your account.")
    return Explanation(
        Sentence("App codes are not taken any more"),
        Sentence("There were a hundred wrong ones in a row, so your authenticators are switched off."),
        recovery if has_recovery_codes else unlock,
    )


def _explain_clock(offset_s: int, now: int) -> Explanation:
    time: dict[str, Value] = {"off": Duration(abs(offset_s)), "time": Moment(now)}
    why = (
        Sentence("Your phone's clock is about %(off)s behind; the time here is %(time)s.", time)
        if offset_s < 0
        else Sentence("Your phone's clock is about %(off)s ahead; the time here is %(time)s.", time)
    )
    return Explanation(
        Sentence("Your phone's clock is off"),
        why,
        Sentence(
            "Switch on “set time automatically” on your phone, then type the code that it shows."
            " If your phone is right, tell whoever runs this site."
        ),
    )


def explain_input(error: InvalidInput) -> Sentence:
    """What is expected of a field."""
    fields = {
        "name": Sentence("A name has 1 to 128 letters, digits or signs, without a slash."),
        "password": Sentence("A password has at most 128 characters."),
        "new_password": Sentence("Choose a password: there is none yet."),
        "code": Sentence("Type the six digits of your app, or one of your recovery codes."),
        "codes": Sentence("Type three codes in a row, one after the other."),
        "credential": Sentence("Your browser sent something that is no passkey. Try again, or take another way."),
        "challenge": Sentence("This page was open for too long, or it was changed. Try again."),
        "label": Sentence("A name for an authenticator has at most 64 letters, digits or signs."),
    }
    field, _, _ = error.field.partition(".")
    return fields.get(
        field, Sentence("%(field)s: expected %(expected)s.", {"field": error.field, "expected": error.expected})
    )


def explain_new_password(error: InvalidInput) -> Sentence:
    """Why a password cannot be chosen."""
    match error.why:
        case "common":
            return Sentence("This password is among those that are tried first everywhere. Choose another one.")
        case "name":
            return Sentence("Choose something else than your name.")
        case "length":
            return Sentence("A password has 8 to 128 characters. A sentence is easy to remember and hard to guess.")
    return explain_input(error)


def explain_refusal(code: RefusalCode) -> tuple[int, Sentence, Sentence]:
    """The status, what happened, and why."""
    match code:
        case "not_found":
            return 404, Sentence("There is no such thing here"), Sentence("It was removed, or the link is not right.")
        case "disabled":
            return 409, Sentence("This account is disabled"), Sentence("An administrator can enable it again.")
        case "too_many":
            return 409, Sentence("There are too many already"), Sentence("Remove one that you do not need any more.")
        case "step_up_required" | "forbidden":
            return (
                403,
                Sentence("That needs a fresh code"),
                Sentence("Open the page again and show a code of your app."),
            )
        case "idempotency_mismatch":
            return 409, Sentence("That form was sent already"), Sentence("Open the page again to send another one.")
        case "no_factor":
            return 409, Sentence("There is nothing to check a code with"), Sentence("Add an authenticator first.")
    return 409, Sentence("That cannot be done now"), Sentence("Something changed since the page was shown.")
