import msgspec
import pytest
from tests.kit import reason_of
from tests.ledger import Ledger

from twofold.core.decision import Verified
from twofold.core.factor import Answer, Proof, read_answer
from twofold.core.verdict import Question
from twofold.core.verification import verify_answer
from twofold.crypto.argon2 import ONLY_FOR_TESTING, Argon2
from twofold.errors import InvalidInput
from twofold.factors.password import Password, check_new_password, prepare_password

COMMON = frozenset({"password", "12345678", "strasse1"})
GOOD = "correct horse battery"


def is_refused(password: str) -> bool:
    try:
        check_new_password(password, account_id="alice@example.com", common=COMMON)
    except InvalidInput as invalid:
        return invalid.field == "password"
    return False


@pytest.mark.parametrize("password", ["8 chars!", "x" * 128, "        ", "日本語のパスワード", "\U0001f511" * 8, GOOD])
def test_asvs_6_2_5_any_8_to_128_characters_will_do(password: str) -> None:
    assert not is_refused(password)


@pytest.mark.parametrize("password", ["", "7 chars", "x" * 129, "\U0001f511" * 7])
def test_asvs_6_2_1_shorter_and_longer_ones_will_not(password: str) -> None:
    assert is_refused(password)


@pytest.mark.parametrize(
    ("refused", "taken"),
    [
        ("password", "password of mine"),
        ("PassWord", "Pass Word"),
        ("STRASSE1", "STRASSE1!"),
        ("Straße1", "Straße 1"),
        ("Alice@Example.com", "Alice@Example.org"),
    ],
)
def test_asvs_6_2_4_well_known_ones_and_the_name_itself_will_not_in_any_case(refused: str, taken: str) -> None:
    assert is_refused(refused)
    assert not is_refused(taken)


def test_nist_3_1_1_2_composed_and_decomposed_letters_are_one_password() -> None:
    assert prepare_password("Zoe\u0308 and more") == prepare_password("Zoë and more")
    assert not is_refused("e\u0301" * 8)
    assert is_refused("e\u0301" * 7), "a character and its accent count as one"


def test_asvs_6_2_8_nothing_is_cut_off_and_case_matters() -> None:
    assert prepare_password("a" * 127 + "b") != prepare_password("a" * 127 + "c")
    assert prepare_password(GOOD) != prepare_password(GOOD.upper())
    assert prepare_password(" x ") == b" x "


@pytest.mark.parametrize("password", ["x" * 129, "\ud800 lone surrogate", "x" * 1_000_000])
def test_what_is_no_text_or_too_long_is_invalid_before_any_work_is_done(password: str) -> None:
    with pytest.raises(InvalidInput) as invalid:
        prepare_password(password)
    assert invalid.value.field == "password"


def test_a_digest_with_outdated_parameters_is_replaced_by_the_decision_that_found_it_right() -> None:
    ledger, _ = Ledger.with_totp()
    ledger.set_password(GOOD)
    before = next(a for a in ledger.account.authenticators if a.factor == "password")
    answer = ledger.prove(Answer("password", (GOOD,)))
    assert answer.proof is not None
    today = Argon2(2, 16, 1)
    rehashed = Password().new_credential(b"n" * 16, today.digest(GOOD.encode(), b"n" * 16), argon2=today)
    proof = msgspec.structs.replace(answer.proof, rehashed=rehashed)

    def decide(account: object) -> object:
        question = Question(Answer("password", (GOOD,), proof))
        return verify_answer(ledger.account, question, ledger.call(), factors=ledger.factors, seals=ledger.seals)

    assert isinstance(ledger.write(decide), Verified)  # type: ignore[arg-type]
    after = next(a for a in ledger.account.authenticators if a.factor == "password")
    assert after.credential == rehashed
    assert after.credential_version == before.credential_version + 1
    # A second attempt that hashed against the version before is told to hash again.
    stale = verify_answer(
        ledger.account,
        Question(Answer("password", (GOOD,), proof)),
        ledger.call(),
        factors=ledger.factors,
        seals=ledger.seals,
    )
    assert type(stale.outcome).__name__ == "Stale"


def test_a_wrong_password_is_never_rehashed() -> None:
    ledger, _ = Ledger.with_totp()
    ledger.set_password(GOOD)
    before = next(a for a in ledger.account.authenticators if a.factor == "password")
    assert reason_of(ledger.verify(password="wrong horse battery")) == "wrong_password"
    assert next(a for a in ledger.account.authenticators if a.factor == "password") == before


def test_it_reads_passwords_only_and_keeps_their_parameters() -> None:
    assert Password().reads(Answer("password", (GOOD,)))
    assert not Password().reads(read_answer([GOOD]))
    assert Password().cost_ppm(b"", Answer("password", (GOOD,))) == 0
    credential = Password().new_credential(b"s" * 16, b"d" * 32, argon2=ONLY_FOR_TESTING)
    assert Password().read_credential(credential).argon2 == ONLY_FOR_TESTING


def test_a_proof_shows_no_digest() -> None:
    assert "dddd" not in repr(Proof("au_1", 0, b"d" * 32))
