import msgspec
import pytest
from tests.browser_session import PASSWORD, Browser
from tests.kit import Phone, reason_of
from tests.ledger import Ledger, exhaust

from twofold.core.account import Account
from twofold.core.attempt import Call
from twofold.core.decision import (
    Confirmed,
    Decision,
    Done,
    EndSessions,
    OpenSession,
    Rejected,
    Renewed,
    Throttled,
    Tried,
    Verified,
)
from twofold.core.enrollment import (
    NewCredential,
    begin_enrollment,
    confirm_enrollment,
    rename_authenticator,
    renew_recovery_codes,
    revoke_authenticator,
)
from twofold.core.factor import read_answer
from twofold.core.management import record_event, set_password
from twofold.core.session import ENROLLMENT_GRANT_TTL_S
from twofold.core.sign_in import (
    ENROLL,
    STRICT_LIMITS,
    Bearer,
    Vouched,
    begin_vouched,
    end_sessions,
    use_grant,
)
from twofold.errors import Refused, SessionEnded


def a_person() -> tuple[Ledger, Phone]:
    ledger, phone = Ledger.with_totp()
    ledger.set_password(PASSWORD)
    return ledger, phone


def signed_in(**options: object) -> tuple[Browser, Phone]:
    ledger, phone = a_person()
    browser = Browser(ledger, **options)  # type: ignore[arg-type]
    browser.give_password()
    assert isinstance(browser.give_code(ledger.next_code(phone)), Verified)
    return browser, phone


def level(browser: Browser) -> str:
    assert browser.session is not None
    return browser.session.level


# Steps.


def test_a_session_that_another_application_vouches_for_is_tied_to_its_login() -> None:
    ledger, _ = Ledger.with_totp()
    browser = Browser(ledger)

    def vouch(account: Account | None, call: Call) -> Decision:
        return begin_vouched(account, Vouched("alice", "bond of this login"), call, next_path="/-/orders")

    assert isinstance(browser.follow(ledger.commit(vouch)), Done)
    assert browser.session is not None
    assert (level(browser), browser.session.bond, browser.session.next) == (
        "pending",
        "bond of this login",
        "/-/orders",
    )
    assert ledger.kinds[-1] == "sign_in.vouched"
    ledger.record("disabled")
    with pytest.raises(Refused, match="disabled"):
        ledger.commit(vouch)


def test_somebody_new_who_is_vouched_for_gets_an_account_and_is_led_to_enroll() -> None:
    ledger = Ledger("bob")
    browser = Browser(ledger)
    browser.follow(ledger.commit(lambda account, call: begin_vouched(account, Vouched("bob", "b"), call)))
    assert level(browser) == "enrolling"
    assert ledger.kinds == ["account.added", "sign_in.vouched"]


def test_a_proof_for_one_act_is_granted_until_the_next_and_used_up_once() -> None:
    browser, phone = signed_in()
    ledger = browser.ledger
    browser.prove(ledger.next_code(phone), "fresh:code:transfer")
    session = browser.session
    assert session is not None
    assert session.granted == "fresh:code:transfer"

    def use(account: Account | None, call: Call) -> Decision:
        return use_grant(account, session, call, ttl_s=300)

    assert ledger.commit(use) == Done()
    with pytest.raises(Refused) as refused:
        ledger.commit(use)
    assert refused.value.code == "step_up_required"
    browser.prove(ledger.next_code(phone), "fresh:code:other")
    assert browser.session is not None
    assert browser.session.granted == "fresh:code:other"
    ledger.record("signed_out_everywhere")
    with pytest.raises(SessionEnded):
        ledger.commit(use)


def test_a_right_password_opens_a_pending_session_and_a_right_code_makes_it_full() -> None:
    ledger, phone = a_person()
    browser = Browser(ledger)
    browser.give_password(next_path="/admin", ip="192.0.2.7", user_agent="Mozilla/5.0 (X11; Linux) Firefox/140.0")
    assert level(browser) == "pending"
    session = browser.session
    assert session is not None
    assert (session.next, session.ip, session.browser) == ("/admin", "192.0.2.7", "Firefox on Linux")
    before = browser.token
    outcome = browser.give_code(ledger.next_code(phone))
    assert isinstance(outcome, Verified)
    assert outcome.browser is not None
    assert level(browser) == "full"
    assert browser.session is not None
    assert (browser.session.id, browser.session.next) == (session.id, "/admin")
    assert (browser.session.via, browser.session.proved_at) == (phone.id, ledger.clock.now())
    assert browser.token != before, "a new token at every step"


def test_asvs_6_3_5_a_sign_in_in_a_browser_that_is_not_known_is_told_and_one_in_a_known_one_is_not() -> None:
    browser, phone = signed_in()
    ledger = browser.ledger
    assert ledger.notices.count("browser.added") == 1
    ledger.verify(ledger.next_code(phone))
    assert ledger.notices.count("browser.added") == 1, "an application's calls are its own affair"
    again = Browser(ledger)
    again.give_password()
    verified = again.give_code(ledger.next_code(phone))
    assert isinstance(verified, Verified)
    assert ledger.notices.count("browser.added") == 2
    again.known = verified.browser
    assert isinstance(again.prove(ledger.next_code(phone)), Done)
    assert ledger.notices.count("browser.added") == 2


def test_a_session_tells_whether_it_was_begun_in_a_known_browser_of_the_account() -> None:
    browser, phone = signed_in()
    assert browser.session is not None
    assert not browser.session.is_known
    verified = browser.give_code(browser.ledger.next_code(phone))
    assert isinstance(verified, Verified)
    known, stranger = Browser(browser.ledger), Browser(browser.ledger)
    known.give_password(browser=verified.browser)
    stranger.give_password(browser="of another account")
    assert known.session is not None
    assert stranger.session is not None
    assert (known.session.is_known, stranger.session.is_known) == (True, False)


def test_a_wrong_code_leaves_the_session_pending_under_its_token() -> None:
    ledger, phone = a_person()
    browser = Browser(ledger)
    browser.give_password()
    token = browser.token
    assert reason_of(browser.give_code(ledger.wrong_code(phone))) == "wrong_code"
    assert (level(browser), browser.token) == ("pending", token)


def test_somebody_without_a_second_factor_is_led_to_enroll() -> None:
    ledger = Ledger.with_account()
    ledger.set_password(PASSWORD)
    browser = Browser(ledger)
    browser.give_password()
    assert level(browser) == "enrolling"
    phone = enroll(browser)
    confirmed = confirm(browser, phone)
    assert isinstance(confirmed, Confirmed)
    assert len(confirmed.recovery_codes) == 10
    assert level(browser) == "full"
    assert confirmed.session == browser.token


def test_a_disabled_authenticator_still_asks_for_a_second_factor() -> None:
    ledger, phone = a_person()
    broken = msgspec.structs.replace(ledger.authenticator(phone), state="disabled")
    others = tuple(a for a in ledger.account.authenticators if a.id != phone.id)
    change = msgspec.structs.replace(ledger.account, authenticators=(*others, broken))
    ledger.commit(lambda account, call: Decision(Done(), change, (call.event("account.changed"),)))
    browser = Browser(ledger)
    browser.give_password()
    assert level(browser) == "pending"


def test_a_session_of_the_strict_profile_is_a_shorter_one() -> None:
    browser, _ = signed_in(limits=STRICT_LIMITS)
    assert browser.session is not None
    assert browser.session.expires_at - browser.session.begun_at == 43_200 * 1_000_000
    assert browser.session.idle_ttl_s == 900


@pytest.mark.parametrize("event", ["signed_out_everywhere", "password_changed", "compromised", "disabled"])
def test_nothing_is_decided_for_a_session_whose_epoch_ended_meanwhile(event: str) -> None:
    ledger, phone = a_person()
    browser = Browser(ledger)
    browser.give_password()
    ledger.commit(lambda account, call: record_event(account, event, call))  # type: ignore[arg-type]
    before = ledger.standing
    with pytest.raises(SessionEnded, match="ended"):
        browser.give_code(ledger.next_code(phone))
    assert ledger.standing == before, "the code is not used up"


def test_a_password_alone_never_lifts_a_session() -> None:
    browser, _ = signed_in()
    pending = Browser(browser.ledger)
    pending.give_password()
    token = pending.token
    outcome = pending.act(lambda account, call: Decision(Verified("password", "au_x"), account or "unchanged"))
    assert isinstance(outcome, Verified)
    assert (level(pending), pending.token, outcome.session) == ("pending", token, None)


# A fresh second factor for what is sensitive.


def test_a_fresh_code_allows_what_it_came_with_and_brings_a_new_token() -> None:
    browser, phone = signed_in()
    ledger, before = browser.ledger, browser.token
    second = ledger.import_phone(ledger.new_phone())
    code = ledger.next_code(phone)
    outcome = browser.act(lambda a, call: revoke_authenticator(a, second.id, call), code, "remove")
    assert isinstance(outcome, Done)
    assert outcome.browser is not None, "a success rotates the browser's value"
    assert outcome.session == browser.token != before
    assert level(browser) == "full"
    assert [a.id for a in ledger.account.authenticators if a.factor == "totp"] == [phone.id]
    assert ledger.kinds[-2:] == ["code.accepted", "authenticator.removed"]


def test_without_a_code_a_session_manages_nothing_sensitive() -> None:
    browser, phone = signed_in()
    with pytest.raises(Refused) as refused:
        browser.act(lambda a, call: revoke_authenticator(a, phone.id, call))
    assert refused.value.code == "step_up_required"
    assert isinstance(browser.act(lambda a, call: rename_authenticator(a, phone.id, "Pixel", call)), Done)


def test_a_wrong_code_is_judged_and_what_it_was_for_does_not_happen() -> None:
    browser, phone = signed_in()
    token, ledger = browser.token, browser.ledger
    outcome = browser.act(lambda a, call: revoke_authenticator(a, phone.id, call), ledger.wrong_code(phone))
    assert reason_of(outcome) == "wrong_code"
    assert ledger.account.find(phone.id).failures == 1
    assert browser.token == token


def test_a_throttled_proof_does_nothing() -> None:
    browser, phone = signed_in()
    ledger = browser.ledger
    exhaust(ledger, phone)
    before = ledger.standing
    outcome = browser.act(lambda a, call: revoke_authenticator(a, phone.id, call), ledger.next_code(phone))
    assert isinstance(outcome, Throttled)
    assert ledger.standing == before


def test_a_code_is_not_used_up_while_what_it_is_for_must_be_prepared() -> None:
    browser, phone = signed_in()
    ledger = browser.ledger
    code, before = ledger.next_code(phone), ledger.standing
    browser.act(lambda a, call: renew_recovery_codes(a, None, call), code)
    assert ledger.standing == before
    made = ledger.new_recovery_codes()
    outcome = browser.act(lambda a, call: renew_recovery_codes(a, made, call), code)
    assert isinstance(outcome, Renewed)
    assert outcome.session == browser.token


def test_a_proof_for_nothing_else_brings_a_new_token_too() -> None:
    browser, phone = signed_in()
    before = browser.token
    outcome = browser.prove(browser.ledger.next_code(phone))
    assert isinstance(outcome, Done)
    assert outcome.session == browser.token != before


def test_an_ending_that_cannot_carry_the_next_token_leaves_the_one_before_in_force() -> None:
    browser, phone = signed_in()
    before = browser.token
    tried = Tried("fits_nothing")
    assert browser.act(lambda a, call: Decision(tried, a or "unchanged"), browser.ledger.next_code(phone)) == tried
    assert browser.token == before
    assert isinstance(browser.prove(browser.ledger.next_code(phone)), Done)


def test_a_session_goes_on_in_the_epoch_that_its_own_password_change_begins() -> None:
    browser, phone = signed_in()
    ledger = browser.ledger
    other = Browser(ledger)
    other.give_password()
    ledger_password = ledger.account.authenticators[-1]

    def change(account: Account | None, call: Call) -> Decision:
        return set_password(account, NewCredential("au_new", "password", ledger_password.credential), call)

    outcome = browser.act(change, ledger.next_code(phone), "password")
    assert isinstance(outcome, Done)
    assert outcome.browser is None, "no browser is known in the new epoch"
    assert isinstance(browser.act(lambda a, call: rename_authenticator(a, phone.id, "Pixel", call)), Done)
    with pytest.raises(SessionEnded):
        other.give_code(ledger.next_code(phone))


def test_a_deletion_in_a_session_opens_none() -> None:
    browser, phone = signed_in()
    outcome = browser.act(
        lambda a, call: Decision(Done(), "deleted", (call.event("account.deleted"),)),
        browser.ledger.next_code(phone),
    )
    assert isinstance(outcome, Done)
    assert outcome.session is None
    assert browser.ledger.last is not None
    assert not any(isinstance(effect, OpenSession) for effect in browser.ledger.last.effects)


# Enrolling in a session.


def enroll(browser: Browser, *, replaces: str | None = None) -> Phone:
    """Begin, or see again; the phone that has scanned what is shown."""
    ledger = browser.ledger
    fresh = ledger.new_phone()
    shown: list[str] = []

    def decide(account: Account | None, call: Call) -> Decision:
        decision, pending = begin_enrollment(account, ledger.new_otp(fresh), call, replaces=replaces)
        shown.append(pending.id)
        return decision

    browser.act(decide)
    return fresh if shown[-1] == fresh.id else Phone(shown[-1], b"seen before")


def confirm(browser: Browser, phone: Phone) -> object:
    ledger = browser.ledger
    return browser.act(
        lambda account, call: confirm_enrollment(
            account,
            phone.id,
            read_answer([phone.code(call.now)]),
            call,
            factors=ledger.factors,
            seals=ledger.seals,
            recovery=ledger.new_recovery_codes(),
        )
    )


def test_a_session_enrolls_for_a_quarter_of_an_hour_after_a_code_for_just_that() -> None:
    browser, phone = signed_in()
    ledger = browser.ledger
    with pytest.raises(Refused):
        enroll(browser)
    browser.prove(ledger.next_code(phone), "manage")
    with pytest.raises(Refused):
        enroll(browser)
    browser.prove(ledger.next_code(phone), ENROLL)
    begun = enroll(browser)
    assert enroll(browser).id == begun.id, "the same after a reload"
    ledger.clock.advance(30)
    assert isinstance(confirm(browser, begun), Confirmed)
    assert level(browser) == "full"
    with pytest.raises(Refused):
        enroll(browser)


def test_whoever_signed_in_with_a_recovery_code_adds_the_new_phone_without_another_one() -> None:
    ledger, _ = a_person()
    browser = Browser(ledger)
    browser.give_password()
    assert isinstance(browser.give_code(ledger.recovery_codes[0]), Verified)
    begun = enroll(browser)
    ledger.clock.advance(30)
    assert isinstance(confirm(browser, begun), Confirmed)
    with pytest.raises(Refused):
        enroll(browser)


def test_the_permission_to_enroll_ends_after_a_quarter_of_an_hour() -> None:
    browser, phone = signed_in()
    browser.prove(browser.ledger.next_code(phone), ENROLL)
    browser.ledger.clock.advance(ENROLLMENT_GRANT_TTL_S - 1)
    enroll(browser)
    browser.ledger.clock.advance(1)
    with pytest.raises(Refused) as refused:
        enroll(browser)
    assert refused.value.code == "step_up_required"


def test_an_enrollment_dies_with_the_authenticator_that_allowed_it() -> None:
    browser, phone = signed_in()
    ledger = browser.ledger
    second = ledger.import_phone(ledger.new_phone())
    browser.prove(ledger.next_code(second), ENROLL)
    begun = enroll(browser)
    thief, owner = browser, Browser(ledger)
    owner.give_password()
    owner.give_code(ledger.next_code(phone))
    owner.act(lambda a, call: revoke_authenticator(a, second.id, call), ledger.next_code(phone))
    with pytest.raises(Refused) as refused:
        confirm(thief, begun)
    assert refused.value.code == "conflict"


def test_what_was_begun_before_the_account_was_bound_is_not_shown_again_after_a_code() -> None:
    ledger = Ledger.with_account()
    ledger.set_password(PASSWORD)
    early, owner = Browser(ledger), Browser(ledger)
    early.give_password()
    begun = enroll(early)
    owner.give_password()
    phone = enroll(owner)
    confirm(owner, phone)
    with pytest.raises(Refused):
        enroll(early)
    with pytest.raises(Refused):
        confirm(early, begun)


def test_a_code_with_the_very_call_allows_to_enroll_as_well() -> None:
    browser, phone = signed_in()
    ledger = browser.ledger
    fresh = ledger.new_phone()
    outcome = browser.act(
        lambda account, call: begin_enrollment(account, ledger.new_otp(fresh), call)[0], ledger.next_code(phone)
    )
    assert isinstance(outcome, Done)
    enrollment = ledger.account.find(fresh.id).enrollment
    assert enrollment is not None
    assert enrollment.begun_via == phone.id


# Ending.


def test_ending_sessions_is_an_event_and_an_effect() -> None:
    browser, _ = signed_in()
    assert browser.session is not None
    own = browser.session.id
    browser.act(lambda account, call: end_sessions(account, call, ids=(own,), but=None))
    assert browser.ledger.last is not None
    assert browser.ledger.last.effects == (EndSessions((own,), None),)
    browser.act(lambda account, call: end_sessions(account, call, ids=None, but=own))
    assert browser.ledger.last.effects == (EndSessions(None, own),)
    assert browser.ledger.kinds[-2:] == ["session.ended", "session.ended"]


def test_asvs_7_4_3_what_a_fresh_code_allows_can_end_all_other_sessions_with_it() -> None:
    browser, phone = signed_in()
    ledger = browser.ledger
    assert browser.session is not None
    browser.ends_others = True
    assert isinstance(browser.prove(ledger.wrong_code(phone)), Rejected)
    assert not any(isinstance(effect, EndSessions) for effect in ledger.effects)
    assert isinstance(browser.prove(ledger.next_code(phone)), Done)
    assert ledger.last is not None
    *_, ended, opened = ledger.last.effects
    assert ended == EndSessions(None, browser.session.id)
    assert isinstance(opened, OpenSession)
    assert ledger.kinds[-2:] == ["code.accepted", "session.ended"]


def test_sessions_of_nobody_cannot_be_ended() -> None:
    with pytest.raises(SessionEnded):
        Ledger().commit(lambda account, call: end_sessions(account, call, ids=None, but=None))


def test_a_bearer_shows_no_digest() -> None:
    browser, _ = signed_in()
    assert browser.session is not None
    assert "secret" not in repr(Bearer(browser.session, b"secret"))
