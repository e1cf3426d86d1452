"""Hosted prompts as decisions: the link, its session, the code, and that one proof is worth one receipt."""

import base64
import hashlib
from typing import Any

import msgspec
import pytest
from tests.browser_session import Browser
from tests.kit import Phone
from tests.ledger import Ledger

from twofold.core.account import Account, epoch_claim
from twofold.core.attempt import Call
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Confirmed, Decision, Done, EndSessions, Outcome, Refusal, Verified
from twofold.core.enrollment import begin_enrollment, confirm_enrollment
from twofold.core.factor import read_answer
from twofold.core.prompt import (
    CODE_TTL_S,
    PROMPT_TTL_S,
    STATE_MAX,
    Prompt,
    begin_prompt,
    bond_of,
    cancel_prompt,
    check_prompt,
    finish_prompt,
    open_prompt,
    read_prompt,
    read_proven,
    redeem_prompt,
)
from twofold.core.session import PENDING_TTL_S
from twofold.core.ticket import TICKET_TTL_S, Ticket
from twofold.errors import InvalidInput, Refused, SessionEnded

BACK = "https://shop.example/back"
#: RFC 7636 appendix B.
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def begin(ledger: Ledger, *, nonce: bytes = b"n" * 32, **said: Any) -> Ticket:
    account = ledger.standing.state
    prompt = Prompt(BACK, CHALLENGE, **said)
    return begin_prompt(
        account if isinstance(account, Account) else None,
        prompt,
        "shop",
        purpose="pay",
        binding="b1",
        nonce=nonce,
        now=ledger.clock.now(),
    )


class Window(Browser):
    """The browser at a prompt; `code` is the ticket that it goes back with."""

    code: Ticket

    def open(self, ticket: Ticket) -> Outcome:
        return self._keep(
            self.ledger.commit(lambda account, call: open_prompt(account, ticket, call), application="shop")
        )

    def enroll(self) -> Phone:
        phone = self.ledger.new_phone()
        fresh, recovery = self.ledger.new_otp(phone), self.ledger.new_recovery_codes()
        self.act(lambda account, call: begin_enrollment(account, fresh, call)[0])
        first = read_answer([phone.code(self.ledger.clock.now())])

        def confirm(account: Account | None, call: Call) -> Decision:
            keys = {"factors": self.ledger.factors, "seals": self.ledger.seals}
            return confirm_enrollment(account, phone.id, first, call, recovery=recovery, **keys)

        assert isinstance(self.act(confirm), Confirmed)
        return phone

    def finish(self, ticket: Ticket) -> Outcome:
        def decide(account: Account | None, call: Call) -> Decision:
            self.code, decision = finish_prompt(account, ticket, call)
            return decision

        return self.act(decide)


def asked() -> tuple[Ledger, Phone, Ticket]:
    ledger, phone = Ledger.with_totp()
    return ledger, phone, begin(ledger)


def answered() -> tuple[Ledger, Phone, Window]:
    """Somebody who answered, and is on her way back."""
    ledger, phone, ticket = asked()
    window = Window(ledger)
    window.open(ticket)
    assert isinstance(window.give_code(ledger.next_code(phone)), Verified)
    window.finish(ticket)
    return ledger, phone, window


def redeem(
    ledger: Ledger, code: Ticket, *, verifier: str = VERIFIER, binding: str = "b1", application: str = "shop"
) -> Outcome:
    def decide(account: Account | None, call: Call) -> Decision:
        return redeem_prompt(account, code, call, verifier=verifier, binding=binding)

    return ledger.commit(decide, application=application)


def refusal_of(ledger: Ledger, code: Ticket, **options: str) -> str:
    with pytest.raises(Refused) as refused:
        redeem(ledger, code, **options)
    return refused.value.code


# The link.


def test_a_link_is_for_one_account_application_purpose_binding_and_epoch() -> None:
    ledger, _, ticket = asked()
    assert (ticket.account_id, ticket.application, ticket.purpose, ticket.binding) == ("alice", "shop", "pay", "b1")
    assert ticket.epoch == epoch_claim(ledger.account)
    assert ticket.expires_at - ticket.issued_at == TICKET_TTL_S
    assert read_prompt(ticket) == Prompt(BACK, CHALLENGE)


@pytest.mark.parametrize("challenge", ["", CHALLENGE[:-1], CHALLENGE + "A", CHALLENGE[:-1] + "=", CHALLENGE[:-1] + "+"])
def test_rfc_7636_4_2_a_challenge_is_a_digest_in_base64url(challenge: str) -> None:
    check_prompt(Prompt(BACK, CHALLENGE))
    with pytest.raises(InvalidInput, match="code_challenge"):
        check_prompt(Prompt(BACK, challenge))


@pytest.mark.parametrize("state", [" ", "a b", "a\n", "\x7f", "\u00e4", "s" * (STATE_MAX + 1)])
def test_a_state_is_short_and_visible(state: str) -> None:
    for good in ("", "!", "~" * STATE_MAX):
        check_prompt(Prompt(BACK, CHALLENGE, good))
    with pytest.raises(InvalidInput, match="state"):
        check_prompt(Prompt(BACK, CHALLENGE, state))


def test_without_a_second_factor_there_is_a_prompt_only_to_enroll_one() -> None:
    ledger = Ledger.with_account()
    with pytest.raises(Refused) as refused:
        begin(ledger)
    assert refused.value.code == "no_factor"
    assert read_prompt(begin(ledger, may_enroll=True)).may_enroll
    ledger.record("disabled")
    with pytest.raises(Refused) as refused:
        begin(ledger, may_enroll=True)
    assert refused.value.code == "disabled"
    with pytest.raises(Refused) as refused:
        begin(Ledger("nobody"), may_enroll=True)
    assert refused.value.code == "not_found"


def test_a_link_is_no_code_and_a_code_no_link() -> None:
    ledger, _, window = answered()
    with pytest.raises(InvalidInput):
        read_prompt(window.code)
    with pytest.raises(InvalidInput):
        read_proven(begin(ledger))
    with pytest.raises(InvalidInput):
        window.open(window.code)


# Its session.


def test_whoever_has_a_second_factor_is_asked_for_it_also_where_one_may_be_enrolled() -> None:
    ledger, _ = Ledger.with_totp()
    window = Window(ledger)
    window.open(begin(ledger, may_enroll=True))
    assert window.session is not None
    assert window.session.level == "pending"
    assert ledger.kinds[-1] == "prompt.opened"


def test_the_session_is_tied_to_this_prompt_alone() -> None:
    ledger, phone, ticket = asked()
    window, other = Window(ledger), begin(ledger, nonce=b"m" * 32)
    window.open(ticket)
    assert window.session is not None
    assert window.session.bond == bond_of(ticket) != bond_of(other)
    window.give_code(ledger.next_code(phone))
    with pytest.raises(SessionEnded):
        window.finish(other)
    with pytest.raises(SessionEnded):
        window.act(lambda account, call: cancel_prompt(account, other, call))
    with pytest.raises(SessionEnded):
        ledger.commit(lambda account, call: cancel_prompt(account, ticket, call))
    assert isinstance(window.finish(ticket), Done)


@pytest.mark.parametrize(("opened_after_s", "level"), [(0, "pending"), (299, "pending"), (0, "enrolling")])
def test_it_ends_ten_minutes_after_the_link_at_the_latest(opened_after_s: int, level: str) -> None:
    ledger = Ledger.with_totp()[0] if level == "pending" else Ledger.with_account()
    begun_at = ledger.clock.now()
    ticket = begin(ledger, may_enroll=True)
    ledger.clock.advance(opened_after_s)
    window = Window(ledger)
    window.open(ticket)
    assert window.session is not None
    assert window.session.level == level
    lives_s = (window.session.expires_at - begun_at) / MICROS_PER_S
    assert lives_s <= PROMPT_TTL_S
    assert lives_s >= PENDING_TTL_S


def test_a_link_opens_in_time_and_epoch_and_while_there_is_something_to_answer_with() -> None:
    ledger, phone, ticket = asked()
    window = Window(ledger)
    ledger.clock.advance(TICKET_TTL_S)
    with pytest.raises(Refused) as refused:
        window.open(ticket)
    assert refused.value.code == "prompt_mismatch"
    ticket = begin(ledger)
    ledger.record("compromised")
    with pytest.raises(Refused) as refused:
        window.open(ticket)
    assert refused.value.code == "prompt_mismatch"
    ticket = begin(ledger)
    without = tuple(a for a in ledger.account.authenticators if a.id != phone.id)
    with pytest.raises(Refused) as refused:
        ledger.write(
            lambda account: open_prompt(
                msgspec.structs.replace(ledger.account, authenticators=without), ticket, ledger.call()
            )
        )
    assert refused.value.code == "no_factor"


def test_before_the_answer_there_is_no_way_back_but_to_cancel() -> None:
    ledger, _, ticket = asked()
    window = Window(ledger)
    window.open(ticket)
    with pytest.raises(SessionEnded):
        window.finish(ticket)
    assert isinstance(window.act(lambda account, call: cancel_prompt(account, ticket, call)), Done)
    assert ledger.kinds[-1] == "prompt.canceled"
    assert window.session is not None
    assert ledger.effects[-1] == EndSessions((window.session.id,))


def test_going_back_ends_the_session_and_is_done_within_ten_minutes() -> None:
    ledger, phone, ticket = asked()
    window = Window(ledger)
    window.open(ticket)
    window.give_code(ledger.next_code(phone))
    assert window.session is not None
    ledger.clock.advance(PENDING_TTL_S - 1)
    window.finish(ticket)
    assert ledger.effects[-1] == EndSessions((window.session.id,))
    assert ledger.kinds[-1] == "prompt.answered"
    ledger.clock.advance(1)
    with pytest.raises(SessionEnded):
        window.finish(ticket)


def test_what_earned_the_way_back_must_still_be_there() -> None:
    ledger, phone, ticket = asked()
    window = Window(ledger)
    window.open(ticket)
    window.give_code(ledger.next_code(phone))
    without = tuple(a for a in ledger.account.authenticators if a.id != phone.id)
    ledger.write(lambda account: Decision(Done(), msgspec.structs.replace(ledger.account, authenticators=without)))
    with pytest.raises(SessionEnded):
        window.finish(ticket)


# The code.


def test_rfc_7636_appendix_b_a_code_is_redeemed_with_the_verifier_of_its_challenge() -> None:
    ledger, phone, window = answered()
    proved_s = ledger.clock.now() // MICROS_PER_S
    ledger.clock.advance(7)
    outcome = redeem(ledger, window.code)
    assert isinstance(outcome, Verified)
    assert (outcome.factor, outcome.authenticator_id, outcome.browser) == ("totp", phone.id, None)
    claims = outcome.claims
    assert claims is not None
    assert (claims.sub, claims.aud, claims.purpose, claims.bnd, claims.via) == ("alice", "shop", "pay", "b1", phone.id)
    assert (claims.auth_time, claims.iat) == (proved_s, proved_s + 7)
    assert (claims.amr, claims.acr) == (("otp",), "urn:nist:aal1")
    assert ledger.kinds[-1] == "prompt.redeemed"


def test_a_code_counts_once_and_so_do_all_that_are_made_of_one_prompt() -> None:
    ledger, phone, ticket = asked()
    window = Window(ledger)
    window.open(ticket)
    window.give_code(ledger.next_code(phone))
    window.finish(ticket)
    first = window.code
    # A second request that came at the same time, before the session had ended.
    ledger.clock.advance(1)
    window.finish(ticket)
    assert first != window.code
    assert isinstance(redeem(ledger, first), Verified)
    assert refusal_of(ledger, first) == "prompt_used"
    assert refusal_of(ledger, window.code) == "prompt_used"
    ledger.clock.advance(CODE_TTL_S - 1)
    assert refusal_of(ledger, window.code) == "prompt_used"
    ledger.clock.advance(1)
    assert refusal_of(ledger, window.code) == "prompt_mismatch"


@pytest.mark.parametrize(
    "said",
    [
        {"verifier": ""},
        {"verifier": CHALLENGE},
        {"verifier": VERIFIER + "\n"},
        {"verifier": VERIFIER[:-1] + "l"},
        {"binding": "b2"},
        {"binding": ""},
        {"binding": "\ud800"},
    ],
)
def test_handed_in_by_another_session_it_is_void(said: dict[str, str]) -> None:
    ledger, _, window = answered()
    refused = redeem(ledger, window.code, **said)
    assert isinstance(refused, Refusal)
    assert refused.code == "prompt_mismatch"
    assert ledger.kinds[-1] == "prompt.refused"
    assert refusal_of(ledger, window.code) == "prompt_used"


def test_another_application_does_not_even_make_it_void() -> None:
    ledger, _, window = answered()
    assert refusal_of(ledger, window.code, application="other") == "prompt_mismatch"
    assert isinstance(redeem(ledger, window.code), Verified)


def test_a_code_is_void_in_another_epoch_and_on_another_account() -> None:
    ledger, _, window = answered()
    assert refusal_of(Ledger("nobody"), window.code) == "prompt_mismatch"
    assert refusal_of(Ledger.with_totp("bob")[0], window.code) == "prompt_mismatch"
    ledger.record("password_changed")
    assert refusal_of(ledger, window.code) == "prompt_mismatch"


def test_a_code_for_what_was_removed_or_for_a_disabled_account_is_refused() -> None:
    ledger, phone, window = answered()
    disabled = msgspec.structs.replace(ledger.account, is_disabled=True)
    without = tuple(a for a in ledger.account.authenticators if a.id != phone.id)
    removed = msgspec.structs.replace(ledger.account, authenticators=without)
    for account, code in ((disabled, "disabled"), (removed, "prompt_mismatch")):
        with pytest.raises(Refused) as refused:
            redeem_prompt(account, window.code, ledger.call(application="shop"), verifier=VERIFIER, binding="b1")
        assert refused.value.code == code


def test_a_proof_says_whether_it_was_an_enrollment() -> None:
    _, _, window = answered()
    assert not read_proven(window.code).is_enrolled
    assert window.session is not None
    ledger = Ledger.with_account()
    ticket = begin(ledger, may_enroll=True)
    enrolling = Window(ledger)
    enrolling.open(ticket)
    phone = enrolling.enroll()
    enrolling.finish(ticket)
    proven = read_proven(enrolling.code)
    assert (proven.is_enrolled, proven.via, proven.strength.amr) == (True, phone.id, ("otp",))


def test_the_challenge_is_the_one_of_the_standard() -> None:
    assert base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode() == CHALLENGE
