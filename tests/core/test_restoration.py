from typing import Any

import pytest
from tests.kit import reason_of
from tests.ledger import Ledger, sign_in

from twofold.core.account import find_known_browser
from twofold.core.administration import reset
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Done, Verified
from twofold.core.management import delete_account, redeem_receipt
from twofold.core.restoration import record_restoration, restore_account
from twofold.errors import Refused
from twofold.restoring import advance

BACKUP_AT = 1_700_000_000 * MICROS_PER_S


def restore(ledger: Ledger) -> Any:
    return ledger.commit(lambda account, call: restore_account(account, call, backup_at=BACKUP_AT, advance=advance))


def test_what_was_in_force_ends_and_what_was_enrolled_stays() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    receipt = ledger.receipt(phone, purpose="pay")
    ledger.enroll("hotp", is_admin=True)
    before = ledger.account
    assert find_known_browser(before, browser, ledger.clock.now()) is not None
    assert [a.state for a in before.authenticators].count("pending") == 1

    assert restore(ledger) == Done()
    after = ledger.account
    assert after.epoch != before.epoch
    assert (after.known_browsers, after.kept_answers, after.link) == ((), (), None)
    assert [a.id for a in after.authenticators] == [a.id for a in before.authenticators if a.state == "active"]
    with pytest.raises(Refused) as refused:
        ledger.commit(lambda account, call: redeem_receipt(account, receipt, call, purpose="pay", binding=None))
    assert refused.value.code == "receipt_mismatch"


def test_it_is_told_in_the_accounts_own_chain_with_the_time_of_the_backup() -> None:
    ledger, _ = Ledger.with_totp()
    restore(ledger)
    row = ledger.rows[-1]
    assert row.kind == "account.restored"
    assert row.payload is not None
    assert b'"backup_at":"2023-11-14T22:13:20Z"' in row.payload


def test_codes_of_an_app_that_may_have_been_used_since_are_used_and_soon_there_are_new_ones() -> None:
    ledger, phone = Ledger.with_totp()
    now = ledger.clock.now()
    restore(ledger)
    for ahead in range(-3, 4):
        assert reason_of(ledger.verify(phone.code(now, ahead=ahead))) == "code_already_used"
    assert ledger.account.lane.spent == 0, "whoever types one of them did nothing wrong"
    ledger.clock.advance(4 * phone.period_s)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_codes_of_a_token_are_dead_as_far_as_one_press_may_skip() -> None:
    ledger = Ledger.with_account()
    token = ledger.import_phone(ledger.new_phone("hotp"))
    restore(ledger)
    for _ in range(10):
        assert reason_of(ledger.verify(token.press())) == "code_already_used"
    assert isinstance(ledger.verify(token.press()), Verified)


def test_work_that_was_prepared_on_an_older_credential_is_recognized_as_stale() -> None:
    ledger, phone = Ledger.with_totp()
    before = {a.id: a for a in ledger.account.authenticators}
    restore(ledger)
    for after in ledger.account.authenticators:
        changed = after.id == phone.id
        assert after.credential_version == before[after.id].credential_version + changed
        assert (after.credential != before[after.id].credential) is changed


def test_passwords_and_recovery_codes_are_as_they_were() -> None:
    ledger, _ = Ledger.with_totp()
    ledger.set_password("violet harbour 1926")
    code = ledger.recovery_codes[0].replace("-", "")
    restore(ledger)
    assert isinstance(ledger.verify(code), Verified)
    assert isinstance(ledger.verify(password="violet harbour 1926"), Verified)


def test_a_link_that_signs_in_once_is_dead_too() -> None:
    ledger = Ledger.with_account()
    ledger.commit(lambda account, call: reset(account, call, has_link=True), is_admin=True)
    assert ledger.account.link is not None
    restore(ledger)
    assert ledger.account.link is None


def test_who_was_deleted_before_the_backup_stays_deleted() -> None:
    ledger, _ = Ledger.with_totp()
    ledger.commit(delete_account)
    standing = ledger.standing
    assert restore(ledger) == Done()
    assert ledger.standing == standing


def test_the_deployment_tells_it_once_also_where_nothing_was_told_before() -> None:
    for ledger in (Ledger(""), Ledger("")):
        for accounts in (3, 4):
            ledger.commit(
                lambda account, call, n=accounts: record_restoration(account, call, backup_at=BACKUP_AT, accounts=n)
            )
        assert ledger.kinds == ["deployment.restored"] * 2
        assert ledger.rows[-1].payload is not None
        assert b'"accounts":4' in ledger.rows[-1].payload
