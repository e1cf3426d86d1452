"""An authenticator as pages show it: its kind and picture, what is known of it in words, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twofold.directory import AuthenticatorView
from twofold.factors.webauthn_json import RelyingParty
from twofold.passkey_facts import PasskeyFacts, describe_passkey
from twofold.server.pages.security_words import Note
from twofold.server.words import Sentence

_KINDS = {
    "totp": (Sentence("Authenticator app"), "phone"),
    "hotp": (Sentence("Code token"), "key"),
    "yubico_otp": (Sentence("YubiKey that types"), "key"),
}
_PASSKEY = Sentence("Passkey"), "passkey"
_SECURITY_KEY = Sentence("Security key"), "key"


class Shown(NamedTuple):
    """An authenticator in a list or on a page of its own. `name` is its label, or what kind of thing it is; `facts` are
    in the order in which they are read; `elsewhere` is the address where it works, if that is not this one."""

    view: AuthenticatorView
    kind: Sentence
    icon: str
    facts: tuple[Sentence, ...]
    badge: Sentence | None
    replace: Sentence
    elsewhere: str
    is_cloned: bool

    @property
    def name(self) -> str | Sentence:
        """What a sentence calls it."""
        return self.view.label or self.kind


def show_authenticators(
    views: Sequence[AuthenticatorView], rp: RelyingParty | None, *, is_own: bool = True
) -> list[Shown]:
    """Each as it is shown to its owner, or to an administrator."""
    return [_show(view, rp, is_own=is_own) for view in views]


def warn_of_passkeys(shown: Sequence[Shown]) -> list[Note]:
    """What somebody has to know about her passkeys at once."""
    notes = [
        Note(
            "bad",
            Sentence("There may be a copy of %(name)s", {"name": each.name}),
            Sentence(
                "It counts its uses, and that number went back: two devices use the same key. If that is not your "
                "doing, remove it and add a new one."
            ),
            ((Sentence("Look at it"), f"/security/authenticators/{each.view.id}"),),
        )
        for each in shown
        if each.is_cloned
    ]
    if addresses := list(dict.fromkeys(each.elsewhere for each in shown if each.elsewhere)):
        notes.append(
            Note(
                "warning",
                Sentence("You have passkeys that do not work here"),
                Sentence(
                    "A passkey works at the address where it was made, and these are of %(address)s. If this site "
                    "moved here for good, add another authenticator and remove them.",
                    {"address": addresses},
                ),
                ((Sentence("Add an authenticator"), "/enroll"),),
            )
        )
    return notes


def _show(view: AuthenticatorView, rp: RelyingParty | None, *, is_own: bool) -> Shown:
    facts = None if view.passkey is None else describe_passkey(view.passkey)
    told: tuple[Sentence, ...]
    if facts is None:
        kind, icon = _KINDS.get(view.factor, (Sentence("Authenticator"), "phone"))
        elsewhere, told = "", (kind,) if view.label else ()
    else:
        kind, icon = _SECURITY_KEY if facts.is_security_key else _PASSKEY
        elsewhere = facts.rp_id if rp is None or facts.rp_id != rp.id else ""
        told = _tell(facts, kind, view.label, is_own=is_own)
    if elsewhere:
        told = (*told, Sentence("Works at %(address)s only", {"address": elsewhere}))
    is_cloned = facts is not None and facts.cloned_at > 0
    badge = _find_badge(view, is_cloned=is_cloned, is_elsewhere=bool(elsewhere))
    replace = Sentence("I have a new phone") if view.factor == "totp" else Sentence("Replace it")
    return Shown(view, kind, icon, told, badge, replace, elsewhere, is_cloned)


def _tell(facts: PasskeyFacts, kind: Sentence, label: str, *, is_own: bool) -> tuple[Sentence, ...]:
    told = [kind] if label else []
    if facts.maker and facts.maker != label:
        told.append(Sentence("%(maker)s", {"maker": facts.maker}))
    if facts.is_synced:
        told.append(Sentence("Synced between your devices") if is_own else Sentence("Synced between devices"))
    else:
        told.append(Sentence("Only on this device") if is_own else Sentence("On one device only"))
    verifies = Sentence("Checks finger, face or PIN")
    return (*told, verifies if facts.is_user_verifying else Sentence("Asks for a touch only"))


def _find_badge(view: AuthenticatorView, *, is_cloned: bool, is_elsewhere: bool) -> Sentence | None:
    if view.state == "disabled":
        return Sentence("Switched off")
    if view.state == "unavailable":
        return Sentence("Cannot be read now")
    if is_cloned:
        return Sentence("Perhaps copied")
    if view.stops_at:
        return Sentence("To be replaced")
    return Sentence("Not at this address") if is_elsewhere else None
