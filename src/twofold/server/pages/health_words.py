"""The sentences for what is weak about an account (`twofold.core.health`), each with what to do about it."""

from __future__ import annotations

from typing import NamedTuple

from twofold.core.health import Finding, Health
from twofold.server.words import Sentence


class Advice(NamedTuple):
    """What is so, in a few words and in a sentence, and the next thing to do: a link's words and where it leads."""

    title: Sentence
    sentence: Sentence
    action_text: Sentence | None = None
    action_href: str | None = None


ADD_PASSKEY = Sentence("Add a passkey"), "/enroll"


def say_health(health: Health) -> Advice:
    """The account's safety in one line: its most urgent finding, or that nothing is missing."""
    codes = [finding.code for finding in health.findings]
    add_passkey = ADD_PASSKEY if "no_passkey" in codes else (None, None)
    if health.state == "good":
        return Advice(
            Sentence("Nothing is missing"),
            Sentence("Your account is well protected: there are two ways in, and recovery codes besides."),
            *add_passkey,
        )
    if codes[0] == "no_second_authenticator" and "no_passkey" in codes:
        return Advice(
            Sentence("Only one authenticator"),
            Sentence("You have one authenticator. A passkey lets you in without it, and no fake page can ask for one."),
            *add_passkey,
        )
    return say_finding(health.findings[0])


def say_finding(finding: Finding) -> Advice:
    """One finding, and what to do about it."""
    match finding.code:
        case "no_second_factor":
            return Advice(
                Sentence("Only a password"),
                Sentence("Your password is all that protects your account."),
                Sentence("Add an authenticator"),
                "/enroll",
            )
        case "disabled_authenticator":
            return Advice(
                Sentence("An authenticator is switched off"),
                Sentence(
                    "%(label)s was switched off after a hundred wrong codes in a row. Set it up again, and choose a "
                    "new password: whoever guessed knows yours.",
                    {"label": finding.label or Sentence("An authenticator")},
                ),
                Sentence("Set it up again"),
                f"/enroll?replaces={finding.authenticator_id}",
            )
        case "stopping":
            stops = Sentence("What you have stops working soon. Set up a new authenticator before then.")
            return Advice(Sentence("A new authenticator is due"), stops, Sentence("Set up a new one"), "/enroll")
        case "no_recovery_codes":
            return Advice(
                Sentence("No recovery codes"),
                Sentence("There is no recovery code left for the day you lose what you sign in with."),
                Sentence("Make new codes"),
                "/security/recovery-codes",
            )
        case "few_recovery_codes":
            return Advice(
                Sentence("Few recovery codes"),
                Sentence(
                    "You have one recovery code left.",
                    plural="You have %(count)s recovery codes left.",
                    count=finding.left,
                ),
                Sentence("Make new codes"),
                "/security/recovery-codes",
            )
        case "no_second_authenticator":
            return Advice(
                Sentence("Only one authenticator"),
                Sentence("You have one authenticator. A second one, on another device, lets you in without the first."),
                Sentence("Add a second one"),
                "/enroll",
            )
        case "only_phishable":
            return Advice(
                Sentence("A fake page can ask for your code"),
                Sentence("Look at the address each time before you type one."),
            )
        case "no_passkey":
            return Advice(
                Sentence("A fake page can ask for your code"),
                Sentence("It cannot ask for a passkey: that works at the right address only."),
                *ADD_PASSKEY,
            )
