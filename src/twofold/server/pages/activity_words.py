"""What the events of an account are called on its owner's pages: one sentence for each kind, and where it came from.

Every kind of `twofold.core.audit.EventKind` has its sentence here; one that is not known is told as what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twofold.core.account import RECOVERY, Account
from twofold.core.activity import Activity
from twofold.core.attempt import LOCAL_APPLICATION, PAGES
from twofold.core.user_agent import describe_browser
from twofold.directory import TEST_CODE
from twofold.server.words import Sentence


class Told(NamedTuple):
    """An event to show. `is_alarming`: whoever did not do this himself should look into it."""

    what: Sentence
    where: Sentence
    at: int
    icon_name: str
    is_alarming: bool


#: What a stranger does on the way in, and what happens to an account that is attacked.
ALARMING = frozenset(
    {
        "account.compromised",
        "account.tampered",
        "authenticator.cloned",
        "authenticator.disabled",
        "browsers.guessing",
        "code.refused",
        "enrollment.refused",
        "password.refused",
        "prompt.refused",
        "sign_in.sprayed",
    }
)

_ICONS = {
    "account": "person",
    "application": "key",
    "authenticator": "phone",
    "browser": "browser",
    "code": "check",
    "enrollment": "phone",
    "link": "arrow",
    "network": "network",
    "password": "lock",
    "recovery_codes": "list",
    "session": "sign-out",
    "sessions": "sign-out",
}

_FACTORS = {
    "totp": Sentence("An authenticator app"),
    "hotp": Sentence("A code token"),
    "yubico_otp": Sentence("A YubiKey"),
    "webauthn": Sentence("A passkey"),
    RECOVERY: Sentence("A set of recovery codes"),
}


def tell(activity: Activity, account: Account) -> Told:
    """The event, with the names that the account's authenticators have now."""
    say = _SENTENCES.get(activity.kind)
    if say is None:
        what = Sentence("Something happened that this page has no words for: %(kind)s", {"kind": activity.kind})
    else:
        what = say if isinstance(say, Sentence) else say(activity, account)
    is_alarming = activity.kind in ALARMING
    return Told(what, _tell_where(activity), activity.at, _find_icon(activity, is_alarming=is_alarming), is_alarming)


def _find_icon(activity: Activity, *, is_alarming: bool) -> str:
    if is_alarming:
        return "alert"
    icon_name = _ICONS.get(activity.kind.partition(".")[0], "info")
    return "passkey" if icon_name == "phone" and activity.text("factor") == "webauthn" else icon_name


def _tell_where(activity: Activity) -> Sentence:
    """Who or what did it: an administrator by name, a browser with its address, the server itself, an application."""
    if by := activity.text("by"):
        return Sentence("By the administrator %(name)s", {"name": by})
    application, ip = activity.text("application"), activity.text("ip") or activity.text("network")
    browser = describe_browser(activity.text("user_agent"))
    if browser and ip:
        return Sentence("%(browser)s, %(address)s", {"browser": browser, "address": ip})
    if ip:
        return Sentence("From %(address)s", {"address": ip})
    if application == LOCAL_APPLICATION:
        return Sentence("On the server itself")
    if application.partition(":")[0] in (PAGES, ""):
        return Sentence("On these pages")
    return Sentence("Through another application")


#: Why an answer was refused, by `docs/reasons.md`; a code that was wrong is the usual case.
_REFUSED = {
    "code_already_used": Sentence("A code was refused because it had been used before"),
    "clock_off": Sentence("A code was refused because the phone's clock is off"),
    "passkey_required": Sentence("A code was refused where only a passkey is taken"),
    "challenge_expired": Sentence("A passkey came too late"),
    "challenge_used": Sentence("The same answer of a passkey came twice"),
    "challenge_mismatch": Sentence("A passkey was shown for something else than it was asked for"),
    "wrong_origin": Sentence("A passkey was refused because it was shown to a page at another address"),
    "unknown_credential": Sentence("A passkey was refused that is not among yours"),
    "uv_required": Sentence("A passkey was refused because it had not checked finger, face or PIN"),
    "sign_count_went_back": Sentence("A passkey was refused of which there may be a copy"),
    "wrong_credential": Sentence("A passkey was refused because its answer was wrong"),
    "already_registered": Sentence("A passkey was not added because it is in use already"),
    "key_refused": Sentence("A passkey was not added because its kind is too weak"),
    "attestation_refused": Sentence("A passkey was not added because keys of its maker are not taken here"),
}


def _tell_accepted(activity: Activity, _: Account) -> Sentence:
    factor = activity.text("factor")
    if activity.text("purpose") == TEST_CODE:
        return Sentence("A code that was tested was used up")
    if not activity.is_sign_in:
        allowed = Sentence("A fresh code allowed a change")
        return Sentence("A passkey allowed a change") if factor == "webauthn" else allowed
    if factor == "webauthn":
        return Sentence("Signed in with a passkey")
    if factor == "yubico_otp":
        return Sentence("Signed in with a YubiKey")
    if factor == RECOVERY:
        return Sentence("Signed in with a recovery code")
    if activity.number("codes") == 3:
        return Sentence("Signed in with three codes in a row")
    return Sentence("Signed in with a code")


def _tell_refused(activity: Activity, _: Account) -> Sentence:
    what = _REFUSED.get(activity.text("reason"), Sentence("A wrong code was refused"))
    if unrecorded := activity.number("unrecorded_before"):
        more = Sentence("One more was not looked at", plural="%(count)s more were not looked at", count=unrecorded)
        return Sentence("%(what)s. %(more)s", {"what": what, "more": more})
    return what


def _tell_password_refused(activity: Activity, _: Account) -> Sentence:
    failures = max(1, activity.number("failures"))
    return Sentence("A wrong password was refused", plural="%(count)s wrong passwords were refused", count=failures)


def _tell_not_added(activity: Activity, _: Account) -> Sentence:
    if activity.text("factor") == "webauthn":
        return _REFUSED.get(activity.text("reason"), Sentence("A passkey was not added"))
    return Sentence("The first code of a new authenticator was wrong")


def _tell_begun(activity: Activity, _: Account) -> Sentence:
    if activity.text("factor") == "webauthn":
        return Sentence("Adding a passkey was begun")
    if activity.text("replaces"):
        return Sentence("Setting up a new phone was begun")
    return Sentence("Setting up an authenticator was begun")


def _tell_removed(activity: Activity, account: Account) -> Sentence:
    if activity.text("replaced_by"):
        return Sentence("The old authenticator was removed, as a new one took its place")
    return Sentence("%(what)s was removed", {"what": _name(activity, account)})


def _tell_made_codes(activity: Activity, _: Account) -> Sentence:
    made = max(1, activity.number("codes"))
    if not activity.text("replaces"):
        return Sentence("A recovery code was made", plural="%(count)s recovery codes were made", count=made)
    return Sentence(
        "A recovery code was made; older ones are dead",
        plural="%(count)s recovery codes were made; older ones are dead",
        count=made,
    )


def _tell_reset_begun(activity: Activity, _: Account) -> Sentence:
    if stops_at := activity.text("stops_at"):
        return Sentence("A new authenticator has to be set up by %(until)s", {"until": _say_time(stops_at)})
    return Sentence("Authenticators were taken away from many people at once, to be set up anew")


def _tell_reset_of_many(activity: Activity, _: Account) -> Sentence:
    people = activity.number("people")
    return Sentence("The reset of one person is done", plural="The reset of %(count)s people is done", count=people)


def _say_time(at: str) -> str:
    """A time of an event as people read it."""
    return at.replace("T", " ").replace("Z", " UTC")


def _tell_role(activity: Activity, _: Account) -> Sentence:
    if activity.text("role") == "administrator":
        return Sentence("This account became an administrator's")
    return Sentence("This account is not an administrator's any more")


def _tell_link(activity: Activity, _: Account) -> Sentence:
    return {
        "invitation": Sentence("A link to invite this person was made"),
        "reset": Sentence("A link to sign in and set up a new authenticator was made"),
    }.get(activity.text("purpose"), Sentence("A link to sign in again was made"))


def _tell_tested(activity: Activity, _: Account) -> Sentence:
    if activity.text("finding") == "fits":
        return Sentence("A code was tested, and it fits")
    return Sentence("A code was tested, and it does not fit")


def _tell_blocked(activity: Activity, _: Account) -> Sentence:
    network = activity.text("network")
    if until := activity.text("until"):
        return Sentence(
            "The network %(network)s is refused until %(until)s", {"network": network, "until": _say_time(until)}
        )
    return Sentence("The network %(network)s is refused", {"network": network})


def _with_name(msgid: str) -> Callable[[Activity, Account], Sentence]:
    return lambda activity, account: Sentence(msgid, {"what": _name(activity, account)})


def _name(activity: Activity, account: Account) -> str | Sentence:
    """What the person calls the authenticator, or called it then; else what kind of thing it is."""
    now = next((a.label for a in account.authenticators if a.id == activity.text("authenticator")), "")
    kind = _FACTORS.get(activity.text("factor"), Sentence("An authenticator"))
    return now or activity.text("label") or kind


_SENTENCES: dict[str, Sentence | Callable[[Activity, Account], Sentence]] = {
    "account.added": Sentence("The account was made"),
    "account.changed": Sentence("Name, addresses or groups were changed"),
    "account.deleted": Sentence("The account was deleted"),
    "account.disabled": Sentence("The account was disabled"),
    "account.enabled": Sentence("The account was enabled again"),
    "account.tampered": Sentence("The account was changed by something other than this server"),
    "account.compromised": Sentence("An application said that somebody else was in; everything was signed out"),
    "account.unlocked": Sentence("The account was unlocked"),
    "account.reset": Sentence("All authenticators were taken away, to be set up anew"),
    "account.reset_begun": _tell_reset_begun,
    "accounts.reset_begun": Sentence("A reset of many people was begun"),
    "accounts.reset": _tell_reset_of_many,
    "account.role_changed": _tell_role,
    "account.restored": Sentence("The account was brought back from a backup; everything was signed out"),
    "deployment.restored": Sentence("This site was brought back from a backup"),
    "application.added": Sentence("An application got a key"),
    "application.revoked": Sentence("An application lost its key"),
    "password.set": Sentence("The password was set"),
    "password.changed": Sentence("The password was changed"),
    "password.accepted": Sentence("The right password was given"),
    "password.refused": _tell_password_refused,
    "sign_in.vouched": Sentence("Signed in to an application, which asked for a second factor here"),
    "session.ended": Sentence("Sessions were ended"),
    "sessions.ended": Sentence("Signed out everywhere"),
    "browser.forgotten": Sentence("A known browser was forgotten"),
    "link.made": _tell_link,
    "link.used": Sentence("Signed in by a link that works once"),
    "setup.completed": Sentence("This site was set up"),
    "enrollment.begun": _tell_begun,
    "enrollment.refused": _tell_not_added,
    "authenticator.added": _with_name("%(what)s was added"),
    "authenticator.imported": _with_name("%(what)s was brought along by an administrator"),
    "authenticator.renamed": _with_name("%(what)s was given its name"),
    "authenticator.removed": _tell_removed,
    "authenticator.cloned": _with_name("There may be a copy of %(what)s: it was refused"),
    "authenticator.disabled": _with_name("%(what)s was switched off after a hundred wrong codes"),
    "recovery_codes.made": _tell_made_codes,
    "code.accepted": _tell_accepted,
    "code.refused": _tell_refused,
    "code.tested": _tell_tested,
    "browsers.guessing": Sentence("Somebody is guessing codes: new browsers have to wait"),
    "receipt.redeemed": Sentence("A confirmation was used by an application"),
    "prompt.opened": Sentence("An application asked whether it is you"),
    "prompt.answered": Sentence("An application was told that it is you"),
    "prompt.canceled": Sentence("Gone back to an application without an answer"),
    "prompt.redeemed": Sentence("A confirmation was used by an application"),
    "prompt.refused": Sentence("A confirmation came back in another browser than the one that asked; it was not taken"),
    "sign_in.sprayed": Sentence("Many wrong sign-ins came together"),
    "network.blocked": _tell_blocked,
    "network.lifted": lambda activity, _: Sentence(
        "The network %(network)s is let in again", {"network": activity.text("network")}
    ),
    "key.wrapped": Sentence("Keys were wrapped by the master key"),
    "key.unwrapped": Sentence("Keys were opened by the master key"),
    "key.refused": Sentence("The key provider refused to open a key"),
    "key.away": Sentence("The key provider did not answer"),
    "key.rotated": Sentence("A key was replaced by a new one"),
    "key.joined": Sentence("Another master key was entered"),
    "key.moved": Sentence("All keys were moved to another master key"),
    "key.destroyed": Sentence("A key was destroyed"),
    "keys.resealed": Sentence("Accounts were put under new keys"),
}
