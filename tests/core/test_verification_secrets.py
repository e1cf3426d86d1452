from typing import Any

from tests.kit import reason_of
from tests.ledger import Ledger, an_import, exhaust

from twofold.core.account import epoch_claim
from twofold.core.decision import Stale, Throttled, Verified
from twofold.core.factor import Answer, Proof, read_answer
from twofold.core.verdict import Question
from twofold.core.verification import verify_answer

# Recovery codes.


def test_a_recovery_code_is_accepted_once_and_says_how_many_are_left() -> None:
    ledger, phone = Ledger.with_totp()
    outcome = ledger.verify(ledger.recovery_codes[3])
    assert isinstance(outcome, Verified)
    assert (outcome.factor, outcome.recovery_codes_left) == ("recovery_codes", 9)
    assert ledger.notices[-1] == "recovery_code.used"
    assert reason_of(ledger.verify(ledger.recovery_codes[3])) == "code_already_used"
    assert isinstance(ledger.verify(ledger.recovery_codes[4]), Verified)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified), "a recovery code leaves the rest alone"


def test_trap_26_a_recovery_code_may_be_typed_in_lower_case_without_hyphens_and_with_lookalikes() -> None:
    ledger, _ = Ledger.with_totp()
    for code, write in zip(ledger.recovery_codes, (str.lower, undashed, spaced, lookalike), strict=False):
        assert isinstance(ledger.verify(write(code)), Verified), code


def undashed(code: str) -> str:
    return code.replace("-", "")


def spaced(code: str) -> str:
    return f" {code.replace('-', ' ')}\n"


def lookalike(code: str) -> str:
    return code.replace("0", "o").replace("1", "l")


def test_nothing_that_is_wrong_elsewhere_stops_a_recovery_code() -> None:
    ledger, phone = Ledger.with_totp()
    exhaust(ledger, phone)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Throttled)
    assert isinstance(ledger.verify(ledger.recovery_codes[0]), Verified)


def test_trap_25_five_wrong_secrets_under_one_locator_delay_that_locator_alone() -> None:
    ledger, phone = Ledger.with_totp()
    locator = ledger.recovery_codes[0][:4]
    for number in range(5):
        assert reason_of(ledger.verify(f"{locator}-0000-0000-0000-000{number}")) == "wrong_code"
    held = ledger.verify(ledger.recovery_codes[0])
    assert held == Throttled(1, ("recovery_codes", "three_codes"))
    assert isinstance(ledger.verify(ledger.recovery_codes[1]), Verified)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)
    ledger.clock.advance(1)
    assert isinstance(ledger.verify(ledger.recovery_codes[0]), Verified)


def test_trap_22_a_proof_for_another_version_of_the_credential_is_stale_and_costs_nothing() -> None:
    ledger, _ = Ledger.with_totp()
    question = Question(ledger.prove(read_answer([ledger.recovery_codes[0]])))
    ledger.verify(ledger.recovery_codes[1])
    before = ledger.account

    def decide(account: Any) -> Any:
        return verify_answer(account, question, ledger.call(), factors=ledger.factors, seals=ledger.seals)

    assert ledger.write(decide) == Stale()
    assert ledger.account == before
    assert isinstance(ledger.verify(ledger.recovery_codes[0]), Verified)


def test_a_recovery_code_on_an_account_that_has_none_is_wrong() -> None:
    ledger, _ = an_import("totp")
    assert reason_of(ledger.verify("0000-0000-0000-0000-0000")) == "wrong_code"
    assert ledger.account.lane.failures == 0


# Passwords.


def test_a_password_is_judged_by_the_password_alone_and_makes_no_browser_known() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    outcome = ledger.verify(password="correct horse battery")
    assert outcome == Verified("password", next(a.id for a in ledger.account.authenticators if a.factor == "password"))
    assert ledger.account.known_browsers == ()
    assert ledger.rows[-1].kind == "password.accepted"
    assert reason_of(ledger.verify(password="another horse battery")) == "wrong_password"
    assert ledger.rows[-1].kind == "password.refused"
    assert reason_of(ledger.verify("correct horse battery")) == "wrong_code", "a password is no code"
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_trap_30_the_right_password_resets_no_counter_of_the_second_factor() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    ledger.verify(ledger.wrong_code(phone))
    lane = ledger.account.lane
    ledger.verify(password="correct horse battery")
    assert ledger.account.lane == lane
    assert ledger.authenticator(phone).failures == 1
    ledger.verify(phone.code(ledger.clock.now()))
    assert (ledger.account.lane.failures, ledger.authenticator(phone).failures) == (0, 0)


def test_trap_35_wrong_passwords_count_nowhere_against_the_second_factor() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    before = ledger.account.lane
    for number in range(200):
        assert reason_of(ledger.verify(password=f"wrong horse {number}")) == "wrong_password"
    assert ledger.account.lane == before
    assert all(a.failures == 0 for a in ledger.account.authenticators)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


# Receipts.


def test_a_receipt_states_who_with_what_when_for_whom_and_for_what() -> None:
    ledger, phone = Ledger.with_totp()
    outcome = ledger.verify(phone.code(ledger.clock.now()), purpose="pay", binding="b1", application="shop")
    assert isinstance(outcome, Verified)
    claims = outcome.claims
    assert claims is not None
    now_s = int(ledger.clock.now_s)
    assert (claims.sub, claims.aud, claims.epoch) == ("alice", "shop", epoch_claim(ledger.account))
    assert (claims.iat, claims.exp, claims.auth_time) == (now_s, now_s + 120, now_s)
    assert (claims.amr, claims.acr, claims.purpose, claims.bnd) == (("otp",), "urn:nist:aal1", "pay", "b1")
    assert len(claims.jti) == 22


def test_a_receipt_to_manage_lives_300_seconds_and_none_is_made_unasked() -> None:
    ledger, phone = Ledger.with_totp()
    managing = ledger.verify(phone.code(ledger.clock.now(), ahead=-1), purpose="manage")
    bound = ledger.verify(phone.code(ledger.clock.now()), binding="b")
    unasked = ledger.verify(phone.code(ledger.clock.now(), ahead=1))
    assert isinstance(managing, Verified)
    assert isinstance(bound, Verified)
    assert isinstance(unasked, Verified)
    assert managing.claims is not None
    assert managing.claims.exp - managing.claims.iat == 300
    assert bound.claims is not None
    assert (bound.claims.purpose, bound.claims.bnd) == (None, "b")
    assert unasked.claims is None


def test_a_proof_of_another_authenticator_is_stale() -> None:
    ledger, _ = Ledger.with_totp()
    answer = ledger.prove(read_answer([ledger.recovery_codes[0]]))
    assert answer.proof is not None
    other = Answer("recovery", answer.codes, Proof("au_other", answer.proof.credential_version, answer.proof.digest))
    for asked in (other, Answer("recovery", answer.codes)):
        decision = verify_answer(
            ledger.account, Question(asked), ledger.call(), factors=ledger.factors, seals=ledger.seals
        )
        assert decision.outcome == Stale()
    assert isinstance(ledger.verify(ledger.recovery_codes[0]), Verified)
