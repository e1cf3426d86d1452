import re

import pytest
from tests.kit import RepeatableEntropy, reason_of
from tests.ledger import Ledger

from twofold.core.decision import Throttled, Verified
from twofold.core.factor import CROCKFORD, read_answer
from twofold.crypto.argon2 import ONLY_FOR_TESTING, Argon2
from twofold.factors.recovery_codes import RecoveryCode, RecoveryCodes, codes_left, spell


def credential_of(ledger: Ledger) -> bytes:
    return next(a.credential for a in ledger.account.authenticators if a.factor == "recovery_codes")


def test_a_code_is_spelled_in_five_groups_without_lookalikes() -> None:
    entropy = RepeatableEntropy()
    for _ in range(1000):
        assert re.fullmatch(rf"([{CROCKFORD}]{{4}}-){{4}}[{CROCKFORD}]{{4}}", spell(entropy.bytes(16)))
    assert not set("OILU") & set(CROCKFORD)
    assert spell(bytes(13)) == "0000-0000-0000-0000-0000"


def test_asvs_6_5_4_every_character_of_a_code_can_take_every_value() -> None:
    entropy = RepeatableEntropy()
    codes = [spell(entropy.bytes(16)).replace("-", "") for _ in range(2000)]
    for place in range(20):
        assert {code[place] for code in codes} == set(CROCKFORD)
    assert len(set(codes)) == 2000


def test_trap_17_a_hundred_thousand_codes_are_distinct() -> None:
    entropy = RepeatableEntropy()
    assert len({spell(entropy.bytes(16)) for _ in range(100_000)}) == 100_000


def test_trap_21_every_code_has_a_salt_of_its_own_and_only_a_digest_is_kept() -> None:
    ledger, _ = Ledger.with_totp()
    kept = RecoveryCodes().read_credential(credential_of(ledger))
    assert len(kept.codes) == 10
    assert len({code.salt for code in kept.codes}) == len({code.digest for code in kept.codes}) == 10
    assert all(len(code.salt) == 16 and len(code.digest) == 32 for code in kept.codes)
    assert sorted(code.locator for code in kept.codes) == sorted(code[:4] for code in ledger.recovery_codes)


def test_trap_22_an_unknown_locator_costs_no_hash_and_a_known_one_names_one_code() -> None:
    ledger, _ = Ledger.with_totp()
    credential = credential_of(ledger)
    known = ledger.recovery_codes[2]
    found = RecoveryCodes().find(credential, read_answer([known]))
    assert found is not None
    assert found.locator == known[:4]
    unknown = next(c for c in ("0000", "0001", "ZZZZ") if c not in {code[:4] for code in ledger.recovery_codes})
    assert RecoveryCodes().find(credential, read_answer([unknown + known[4:]])) is None
    assert reason_of(ledger.verify(unknown + known[4:])) == "wrong_code"


def test_every_code_of_a_set_works_once_and_they_count_down() -> None:
    ledger, _ = Ledger.with_totp()
    for number, code in enumerate(ledger.recovery_codes, 1):
        outcome = ledger.verify(code)
        assert isinstance(outcome, Verified)
        assert outcome.recovery_codes_left == 10 - number == codes_left(credential_of(ledger))
    assert all(reason_of(ledger.verify(code)) == "code_already_used" for code in ledger.recovery_codes)


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(0, 0), (4, 0), (5, 1), (6, 2), (7, 4), (8, 8), (11, 60), (12, 60), (10**6, 60)]
)
def test_trap_25_from_the_fifth_wrong_secret_on_the_locator_waits(failures: int, wait_s: int) -> None:
    code = RecoveryCode("AAAA", b"", b"", failures=failures, failed_at=1_000_000)
    assert code.wait_s(1_000_000) == wait_s
    assert code.wait_s(1_000_000 + wait_s * 1_000_000) == 0
    assert code.wait_s(999_999) == 0, "a clock that went back keeps nobody out"
    if wait_s:
        assert code.wait_s(1_000_000 + wait_s * 1_000_000 - 1) == 1


def test_while_a_locator_waits_its_right_secret_is_not_judged_and_a_success_ends_it() -> None:
    ledger, _ = Ledger.with_totp()
    code = ledger.recovery_codes[0]
    wrong = f"{code[:4]}-0000-0000-0000-0000"
    for _ in range(6):
        outcome = ledger.verify(wrong)
        if isinstance(outcome, Throttled):
            ledger.clock.advance(outcome.retry_after_s)
            ledger.verify(wrong)
    held = ledger.verify(code)
    assert isinstance(held, Throttled)
    assert held.retry_after_s == 2
    ledger.clock.advance(2)
    assert isinstance(ledger.verify(code), Verified)
    kept = next(c for c in RecoveryCodes().read_credential(credential_of(ledger)).codes if c.locator == code[:4])
    assert kept.failures == 0


def test_a_set_remembers_the_parameters_it_was_made_with() -> None:
    stronger = Argon2(2, 16, 1)
    credential = RecoveryCodes().new_credential([RecoveryCode("AAAA", b"s" * 16, b"d" * 32)], argon2=stronger)
    assert RecoveryCodes().read_credential(credential).argon2 == stronger != ONLY_FOR_TESTING


def test_recovery_codes_cannot_be_guessed_and_read_nothing_but_recovery_codes() -> None:
    assert RecoveryCodes().cost_ppm(b"", read_answer(["A" * 20])) == 0
    assert RecoveryCodes().reads(read_answer(["A" * 20]))
    assert not RecoveryCodes().reads(read_answer(["123456"]))
