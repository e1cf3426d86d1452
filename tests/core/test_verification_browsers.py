import msgspec
import pytest
from tests.kit import reason_of, wrong_code
from tests.ledger import Ledger, an_import, exhaust, sign_in

from twofold.core.account import KNOWN_BROWSERS_MAX
from twofold.core.decision import Throttled, Verified
from twofold.errors import InvalidInput

DAY_S = 86_400


# Known browsers.


def test_a_full_sign_in_makes_the_browser_known_and_rotates_its_value_each_time() -> None:
    ledger, phone = Ledger.with_totp()
    first = sign_in(ledger, phone)
    second = sign_in(ledger, phone, browser=first)
    assert first != second
    assert len(ledger.account.known_browsers) == 1
    assert ledger.account.known_browsers[0].returned
    third = sign_in(ledger, phone, browser=first)  # an old value is merely unknown
    assert len(ledger.account.known_browsers) == 2
    assert len({first, second, third}) == 3


def test_a_known_browser_has_a_budget_and_a_delay_of_its_own() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    exhaust(ledger, phone)
    ledger.clock.advance(30)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Throttled)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now()), browser=browser), Verified)


def test_a_known_browser_that_used_up_its_budget_counts_as_new_and_is_known_again_after_a_success() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    for _ in range(10):
        outcome = ledger.verify(ledger.wrong_code(phone), browser=browser)
        while isinstance(outcome, Throttled):
            ledger.clock.advance(outcome.retry_after_s)
            outcome = ledger.verify(ledger.wrong_code(phone), browser=browser)
    assert ledger.account.lane.spent == 0
    assert ledger.account.known_browsers[0].lane.spent == 30 * 86_400
    ledger.clock.advance(60)
    ledger.verify(ledger.wrong_code(phone), browser=browser)
    assert ledger.account.lane.spent == 3 * 86_400, "from now on it draws on the lane of new browsers"
    renewed = sign_in(ledger, phone, browser=browser)
    ledger.verify(ledger.wrong_code(phone), browser=renewed)
    assert ledger.account.lane.spent == pytest.approx(3 * 86_400, abs=200)


def test_a_success_in_a_known_browser_refills_its_budget_and_leaves_that_of_new_browsers_alone() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    ledger.verify(ledger.wrong_code(phone))
    ledger.verify(ledger.wrong_code(phone), browser=browser)
    spent = ledger.account.lane
    assert ledger.account.known_browsers[0].lane.spent == 3 * 86_400
    sign_in(ledger, phone, browser=browser)
    assert ledger.account.known_browsers[0].lane.spent == 0
    assert ledger.account.lane == spent


def test_a_known_browser_without_budget_for_this_answer_counts_as_new_and_is_not_put_off_for_days() -> None:
    ledger = Ledger.with_account()
    totp, hotp = (ledger.import_phone(ledger.new_phone(factor)) for factor in ("totp", "hotp"))
    browser = sign_in(ledger, totp)
    for phone in (totp, hotp, hotp):
        ledger.verify(wrong_code(phone, ledger.clock.now()), authenticator_id=phone.id, browser=browser)
    ledger.clock.advance(60)
    # 23 ppm are spent: a TOTP's 3 are left, a HOTP's 10 are not, and nothing but a success refills this lane.
    outcome = ledger.verify(hotp.press(), authenticator_id=hotp.id, browser=browser)
    assert isinstance(outcome, Verified)


def test_a_success_in_a_new_browser_ends_its_delay_and_refills_nothing() -> None:
    ledger, phone = Ledger.with_totp()
    for _ in range(2):
        ledger.verify(ledger.wrong_code(phone))
    sign_in(ledger, phone)
    assert (ledger.account.lane.failures, ledger.account.lane.spent) == (0, pytest.approx(6 * 86_400, abs=200))


def test_at_twenty_known_browsers_the_oldest_that_never_came_back_makes_room() -> None:
    ledger, phone = Ledger.with_totp()
    mine = sign_in(ledger, phone, browser=sign_in(ledger, phone))
    strays = [sign_in(ledger, phone) for _ in range(KNOWN_BROWSERS_MAX + 5)]
    assert len(ledger.account.known_browsers) == KNOWN_BROWSERS_MAX
    known = len(ledger.account.known_browsers)
    sign_in(ledger, phone, browser=mine)
    assert len(ledger.account.known_browsers) == known, "the one that came back is still known"
    exhaust(ledger, phone)
    ledger.clock.advance(60)
    code = ledger.next_code(phone)
    assert isinstance(ledger.verify(code, browser=strays[0]), Throttled)
    assert isinstance(ledger.verify(code, browser=strays[-1]), Verified)


def test_a_browser_that_was_not_seen_for_180_days_is_unknown() -> None:
    for days, expected in ((179.9, 1), (180.1, 2)):
        ledger, phone = Ledger.with_totp()
        browser = sign_in(ledger, phone)
        ledger.clock.advance(days * DAY_S)
        sign_in(ledger, phone, browser=browser)
        assert len(ledger.account.known_browsers) == expected


def test_trap_45_the_value_of_one_persons_browser_means_nothing_on_another_account() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    other, others_phone = Ledger.with_totp("bob", seed=1)
    theirs = sign_in(other, others_phone)
    exhaust(other, others_phone)
    other.clock.advance(60)
    code = other.next_code(others_phone)
    assert isinstance(other.verify(code, browser=browser), Throttled)
    assert isinstance(other.verify(code, browser=theirs), Verified)


def test_nothing_of_a_browsers_value_is_in_the_document() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    assert browser.encode() not in ledger.codec.dump(ledger.account, 1).document


# Three codes in a row.


def test_three_codes_in_a_row_open_an_empty_lane_and_a_delayed_one() -> None:
    ledger, phone = Ledger.with_totp()
    for _ in range(3):
        ledger.verify(ledger.wrong_code(phone))
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Throttled)
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)
    exhaust(ledger, phone)
    ledger.clock.advance(300)
    throttled = ledger.verify(phone.code(ledger.clock.now()))
    assert isinstance(throttled, Throttled)
    assert "three_codes" in throttled.ways
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)


@pytest.mark.parametrize("aheads", [(-3, -2, -1), (-2, -1, 0), (-1, 0, 1)], ids=str)
def test_the_last_of_three_codes_lies_within_one_step(aheads: tuple[int, ...]) -> None:
    ledger, phone = Ledger.with_totp()
    codes = [phone.code(ledger.clock.now(), ahead=ahead) for ahead in aheads]
    assert isinstance(ledger.verify(*codes), Verified)
    assert reason_of(ledger.verify(codes[-1])) == "code_already_used"


@pytest.mark.parametrize(
    "aheads", [(-1, -2, 0), (-2, -2, 0), (0, 0, 0), (-2, 0, 1), (-8, -7, -6), (4, 5, 6), (0, -1, -2)], ids=str
)
def test_three_codes_that_are_not_consecutive_in_order_and_of_now_are_wrong_and_burn_nothing(
    aheads: tuple[int, ...],
) -> None:
    ledger, phone = Ledger.with_totp()
    now = ledger.clock.now()
    codes = [phone.code(now, ahead=ahead) for ahead in aheads]
    assert reason_of(ledger.verify(*codes)) == "wrong_code"
    assert (ledger.account.lane.spent, ledger.account.lane.failures) == (0, 0)
    assert ledger.authenticator(phone).failures == 0
    assert isinstance(ledger.verify(*phone.three(now)), Verified)


def test_all_of_three_codes_must_be_later_than_the_last_used_step() -> None:
    ledger, phone = Ledger.with_totp()
    assert isinstance(ledger.verify(phone.code(ledger.clock.now(), ahead=-1)), Verified)
    for _ in range(2):
        assert reason_of(ledger.verify(*phone.three(ledger.clock.now()))) == "wrong_code"
        ledger.clock.advance(30)
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)


def test_three_hotp_codes_in_a_row_are_found_within_a_hundred() -> None:
    ledger, phone = an_import("hotp")
    assert reason_of(ledger.verify(*(phone.code_of(counter) for counter in (100, 101, 102)))) == "wrong_code"
    assert isinstance(ledger.verify(*(phone.code_of(counter) for counter in (99, 100, 101))), Verified)
    assert ledger.hotp(phone).counter == 102


def test_the_strict_profile_takes_no_three_codes_and_does_not_offer_them() -> None:
    ledger, phone = Ledger.with_totp()
    with pytest.raises(InvalidInput):
        ledger.verify(*phone.three(ledger.clock.now()), is_strict=True)
    throttled = exhaust(ledger, phone, is_strict=True)
    assert throttled.ways == ("recovery_codes",)
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)


def test_wrong_answers_that_cost_nothing_leave_one_event_a_minute() -> None:
    ledger, phone = Ledger.with_totp()
    before = len(ledger.rows)
    for _ in range(30):
        assert reason_of(ledger.verify("000000", "000000", "000000")) == "wrong_code"
        ledger.clock.advance(1)
    assert len(ledger.rows) == before + 1
    ledger.clock.advance(29)
    ledger.verify("000000", "000000", "000000")
    assert len(ledger.rows) == before + 1
    ledger.clock.advance(1)
    ledger.verify("000000", "000000", "000000")
    assert len(ledger.rows) == before + 2
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)


def test_the_ways_that_stay_open_are_those_that_the_account_has() -> None:
    ledger, phone = Ledger.with_totp()
    assert exhaust(ledger, phone).ways == ("recovery_codes", "three_codes")
    ledger.clock.advance(300)
    browser = ledger.verify(*phone.three(ledger.clock.now()))
    assert isinstance(browser, Verified)
    throttled = ledger.verify(phone.code(ledger.clock.now(), ahead=1))
    assert isinstance(throttled, Throttled)
    assert throttled.ways == ("known_browser", "recovery_codes", "three_codes")
    for _ in range(3):
        ledger.verify(ledger.wrong_code(phone), browser=browser.browser)
    delayed = ledger.verify(ledger.wrong_code(phone), browser=browser.browser)
    assert isinstance(delayed, Throttled)
    assert delayed.ways == ("recovery_codes", "three_codes")


def test_a_passkey_is_named_as_a_way_where_there_is_one() -> None:
    ledger, phone = Ledger.with_totp()
    passkey = msgspec.structs.replace(ledger.authenticator(phone), id="au_key", factor="webauthn")
    account = msgspec.structs.replace(ledger.account, authenticators=(*ledger.account.authenticators, passkey))
    ledger.standing = msgspec.structs.replace(ledger.standing, state=account)
    assert exhaust(ledger, phone).ways == ("webauthn", "recovery_codes", "three_codes")
