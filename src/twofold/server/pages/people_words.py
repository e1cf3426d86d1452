"""What administrators read of a person: how she stands in a word and a sentence, and what each act on her means.

Which acts are offered is said here too; what they do, and to whom they are refused, is `twofold.administration`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from twofold.core.account import FIRST_FACTOR, RECOVERY
from twofold.core.administration import INVITATION_TTL_S
from twofold.directory import AccountView
from twofold.server.words import Duration, Moment, Sentence


class Standing(NamedTuple):
    """How somebody stands, in a word for lists and in a sentence; `act` is what mends it, if something does."""

    kind: Literal["good", "info", "warning", "bad"]
    word: Sentence
    sentence: Sentence
    act: str = ""


class Act(NamedTuple):
    """What an administrator may do to a person: its name in addresses, its button, the question that its page asks
    about `%(name)s`, what will happen, and what is said afterwards."""

    name: str
    icon: str
    button: Sentence
    title: Sentence
    effects: Callable[[AccountView], tuple[Sentence, ...]]
    done: Sentence
    is_offered: Callable[[AccountView], bool]
    is_grave: bool = False
    needs_reason: bool = False

    def ask(self, view: AccountView) -> Sentence:
        """The question, about this person."""
        return msgspec.structs.replace(self.title, values={"name": view.id})


_FACTORS = {
    "totp": Sentence("Authenticator app"),
    "hotp": Sentence("Code token"),
    "yubico_otp": Sentence("YubiKey that types"),
    "webauthn": Sentence("Passkey"),
    RECOVERY: Sentence("Recovery codes"),
    FIRST_FACTOR: Sentence("Password"),
}


#: In a list, where there is room for a word.
_SHORT = {
    "totp": Sentence("App"),
    "hotp": Sentence("Token"),
    "yubico_otp": Sentence("YubiKey"),
    "webauthn": Sentence("Passkey"),
}


def say_factor(factor: str) -> Sentence | str:
    """A kind of authenticator by its name."""
    return _FACTORS.get(factor, factor)


def say_factors(view: AccountView) -> Sentence | None:
    """The kinds of second factors that somebody has, each once and in a word; None if there are none."""
    kinds = tuple(_SHORT.get(kind, kind) for kind in dict.fromkeys(a.factor for a in view.second_factors))
    return Sentence("%(factors)s", {"factors": kinds}) if kinds else None


def say_standing(view: AccountView) -> Standing:
    """How the person stands, the most urgent first."""
    if view.state == "unavailable":
        return Standing(
            "bad",
            Sentence("Cannot be read"),
            Sentence("The record was changed from outside, or its key is missing. Nobody can sign in with it."),
        )
    if view.is_disabled:
        return Standing("bad", Sentence("Disabled"), Sentence("Nobody can sign in to this account."), "enable")
    if view.state == "disabled":
        return Standing(
            "bad",
            Sentence("Switched off"),
            Sentence("After a hundred wrong codes in a row, codes of this person are not taken any more."),
            "unlock",
        )
    if view.state == "empty":
        return _say_without_factor(view)
    if view.throttle == "empty":
        return Standing(
            "warning",
            Sentence("Somebody is guessing"),
            Sentence("Too many wrong codes came from new browsers. There the person needs three codes in a row."),
            "unlock",
        )
    if view.throttle == "delayed":
        return Standing(
            "warning",
            Sentence("Has to wait"),
            Sentence("After several wrong codes, new browsers wait before the next one is looked at."),
            "unlock",
        )
    if view.stops_at:
        return Standing(
            "warning",
            Sentence("New authenticator due"),
            Sentence(
                "What this person has stops at %(when)s. Until then each sign-in leads to setting up a new one.",
                {"when": Moment(view.stops_at)},
            ),
        )
    if view.throttle == "open" and not view.recovery_codes_left:
        return Standing(
            "info",
            Sentence("No recovery codes"),
            Sentence("Signs in with two factors. A lost phone would lock this person out."),
        )
    return Standing("good", Sentence("Protected"), Sentence("Signs in with two factors, and has recovery codes."))


def _say_without_factor(view: AccountView) -> Standing:
    if view.has_password:
        return Standing(
            "warning",
            Sentence("No second factor"),
            Sentence("A password is all there is. The next sign-in leads to setting up an authenticator."),
        )
    if view.invited_until:
        return Standing(
            "info",
            Sentence("Invited"),
            Sentence("The invitation is open, and nobody has followed its link yet."),
            "invite",
        )
    return Standing(
        "warning",
        Sentence("Never came"),
        Sentence("There is no password, no authenticator, and no open invitation."),
        "invite",
    )


def _is_in_use(view: AccountView) -> bool:
    return bool(view.second_factors) and not view.is_disabled and view.state != "unavailable"


def _is_readable(view: AccountView) -> bool:
    return view.state != "unavailable"


ACTS = (
    Act(
        "invite",
        "arrow",
        Sentence("Invite again"),
        Sentence("Invite %(name)s again?"),
        lambda _: (
            Sentence(
                "You get a new link. It works once, within %(time)s, and leads to a password and an authenticator.",
                {"time": Duration(INVITATION_TTL_S)},
            ),
            Sentence("A link that was made before stops working."),
        ),
        Sentence("A new invitation was made."),
        lambda view: not (view.second_factors or view.has_password or view.is_disabled) and view.state != "unavailable",
    ),
    Act(
        "unlock",
        "refresh",
        Sentence("Unlock"),
        Sentence("Unlock %(name)s?"),
        lambda _: (
            Sentence("Waiting times after wrong codes end at once, also in new browsers."),
            Sentence("An authenticator that was switched off after a hundred wrong codes works again."),
            Sentence("Sessions, password and authenticators stay as they are."),
            Sentence("Whoever guesses codes knows the password already: if that was somebody else, have it changed."),
        ),
        Sentence("Unlocked: codes are looked at again, without waiting."),
        _is_in_use,
    ),
    Act(
        "reset",
        "trash",
        Sentence("Reset"),
        Sentence("Reset %(name)s?"),
        lambda view: (
            Sentence("Every authenticator and all recovery codes of this person stop working at once."),
            Sentence("Whoever is signed in as this person is signed out everywhere."),
            Sentence("The next sign-in with the password leads to setting up a new authenticator, and nowhere else.")
            if view.has_password
            else Sentence("As there is no password, you get a link for a new invitation."),
            Sentence("Make sure who is asking: call back at a number that you knew before."),
        ),
        Sentence("Reset: the next sign-in with the password leads to a new authenticator."),
        _is_in_use,
        is_grave=True,
        needs_reason=True,
    ),
    Act(
        "make-administrator",
        "key",
        Sentence("Make administrator"),
        Sentence("Make %(name)s an administrator?"),
        lambda _: (
            Sentence("Administrators invite, reset and disable people, and make others administrators."),
            Sentence("Whoever is signed in as this person is signed out, and signs in anew with two factors."),
        ),
        Sentence("This person is an administrator now."),
        lambda view: view.role != "administrator" and _is_readable(view),
    ),
    Act(
        "unmake-administrator",
        "key",
        Sentence("Take administration away"),
        Sentence("Take administration away from %(name)s?"),
        lambda _: (
            Sentence("Other people's accounts are out of reach at once."),
            Sentence("Whoever is signed in as this person is signed out. Password and second factor stay as they are."),
        ),
        Sentence("This person is not an administrator any more."),
        lambda view: view.role == "administrator" and _is_readable(view),
        is_grave=True,
    ),
    Act(
        "sign-out",
        "sign-out",
        Sentence("Sign out everywhere"),
        Sentence("Sign %(name)s out everywhere?"),
        lambda _: (
            Sentence("Every session of this person ends at once, and no browser is known any more."),
            Sentence("Password and second factor stay as they are: the person can sign in again."),
        ),
        Sentence("Signed out everywhere."),
        _is_in_use,
    ),
    Act(
        "disable",
        "lock",
        Sentence("Disable"),
        Sentence("Disable %(name)s?"),
        lambda _: (
            Sentence("Nobody can sign in to it, not even with the right password and code."),
            Sentence("Whoever is signed in as this person is signed out everywhere, at once."),
            Sentence("Nothing is deleted: you can enable it again, with all its authenticators."),
        ),
        Sentence("Disabled: nobody can sign in to this account."),
        lambda view: not view.is_disabled and _is_readable(view),
        is_grave=True,
    ),
    Act(
        "enable",
        "check",
        Sentence("Enable"),
        Sentence("Enable %(name)s again?"),
        lambda _: (
            Sentence("Password, authenticators and recovery codes work again as before."),
            Sentence("Nobody is signed in by it."),
        ),
        Sentence("Enabled: this person can sign in again."),
        lambda view: view.is_disabled and _is_readable(view),
    ),
)


def find_act(name: str) -> Act | None:
    """The act of that name in addresses."""
    return next((act for act in ACTS if act.name == name), None)
