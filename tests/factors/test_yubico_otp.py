import asyncio
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.deployments import open_for_test, open_in_memory
from tests.kit import reason_of
from tests.ledger import Ledger, exhaust, refusal_of
from tests.yubikeys import Yubikey, modhex

from twofold.core.decision import Rejected, Verified
from twofold.core.enrollment import NewCredential, import_authenticator
from twofold.core.factor import Answer, read_answer
from twofold.core.verification import SEED_FIELD
from twofold.engine import Caller
from twofold.errors import Busy, InvalidInput, Unavailable
from twofold.factors.yubico_otp import YubicoKey, YubicoOtp, read_key

OTHER = Yubikey("cccccccfvtru", bytes(range(6)), bytes(range(16)))


def bind(ledger: Ledger, yubikey: Yubikey) -> str:
    """The key in the account, active at once; the authenticator's id."""
    authenticator_id = ledger.new_id()
    sealed = ledger.seals.seal(
        yubikey.key.seed,
        field=SEED_FIELD,
        account_id=ledger.standing.account_id,
        authenticator_id=authenticator_id,
        nonce=ledger.entropy.bytes(12),
    )
    credential = YubicoOtp().new_credential(yubikey.public_id, sealed)
    fresh = NewCredential(authenticator_id, "yubico_otp", credential, ledger.seals.active_key_id)
    ledger.commit(lambda account, call: import_authenticator(account, fresh, call), is_admin=True)
    return authenticator_id


def a_yubikey() -> tuple[Ledger, Yubikey, str]:
    ledger, yubikey = Ledger.with_account(), Yubikey()
    return ledger, yubikey, bind(ledger, yubikey)


def last_use(ledger: Ledger, authenticator_id: str) -> int:
    return YubicoOtp().read_credential(ledger.account.find(authenticator_id).credential).last_use


def test_a_touch_lets_in_once() -> None:
    ledger, yubikey, authenticator_id = a_yubikey()
    typed = yubikey.touch()
    accepted = ledger.verify(typed, purpose="pay")
    assert isinstance(accepted, Verified)
    assert (accepted.factor, accepted.authenticator_id) == ("yubico_otp", authenticator_id)
    assert accepted.claims is not None
    assert accepted.claims.amr == ("otp",)
    assert reason_of(ledger.verify(typed)) == "code_already_used"
    assert isinstance(ledger.verify(yubikey.touch()), Verified)


def test_the_first_string_of_a_new_key_is_accepted_and_so_is_the_last_one() -> None:
    for power_ups, touches in ((0, 0), (1, 0), (0x7FFF, 255)):
        ledger, yubikey, _ = a_yubikey()
        assert isinstance(ledger.verify(yubikey.type(power_ups, touches)), Verified)
        assert reason_of(ledger.verify(yubikey.type(power_ups, touches))) == "code_already_used"


def test_the_counters_only_grow_so_what_was_passed_over_is_dead() -> None:
    ledger, yubikey, authenticator_id = a_yubikey()
    assert isinstance(ledger.verify(yubikey.type(7, 3)), Verified)
    for power_ups, touches in ((7, 3), (7, 2), (7, 0), (6, 255), (1, 0), (0, 0)):
        assert reason_of(ledger.verify(yubikey.type(power_ups, touches))) == "code_already_used"
        assert last_use(ledger, authenticator_id) == 7 * 256 + 3
    # A key may be touched elsewhere as often as its owner likes: there is no window to leave.
    for power_ups, touches in ((7, 4), (7, 200), (8, 0), (0x7000, 1)):
        assert isinstance(ledger.verify(yubikey.type(power_ups, touches)), Verified)


def test_the_bit_of_caps_lock_makes_no_old_string_new() -> None:
    ledger, yubikey, _ = a_yubikey()
    assert isinstance(ledger.verify(yubikey.type(7, 3)), Verified)
    shouting = Yubikey(is_caps_locked=True)
    assert reason_of(ledger.verify(shouting.type(7, 3))) == "code_already_used"
    assert isinstance(ledger.verify(shouting.type(7, 4)), Verified)


def test_capitals_and_spaces_do_not_matter() -> None:
    ledger, yubikey, _ = a_yubikey()
    assert isinstance(ledger.verify(yubikey.touch().upper()), Verified)
    typed = yubikey.touch()
    assert isinstance(ledger.verify(f" {typed[:12]}-{typed[12:]}\n"), Verified)


def test_a_string_with_any_bit_changed_is_refused_and_the_right_one_is_not() -> None:
    ledger, yubikey, authenticator_id = a_yubikey()
    typed = yubikey.touch()
    for place in range(12, 44):
        for letter in "cbdefghijklnrtuv".replace(typed[place], ""):
            assert reason_of(ledger.verify(typed[:place] + letter + typed[place + 1 :])) == "wrong_code"
    assert last_use(ledger, authenticator_id) == -1
    assert isinstance(ledger.verify(typed), Verified)


@pytest.mark.parametrize(
    "forged",
    [
        Yubikey(private_id=bytes(6)),
        Yubikey(aes_key=bytes(16)),
        Yubikey(private_id=OTHER.private_id, aes_key=OTHER.aes_key),
        OTHER,
    ],
    ids=["another private id", "another AES key", "another key under this name", "another key"],
)
def test_what_another_key_types_is_refused(forged: Yubikey) -> None:
    ledger, yubikey, _ = a_yubikey()
    assert reason_of(ledger.verify(forged.type(9, 9))) == "wrong_code"
    assert isinstance(ledger.verify(yubikey.type(1, 0)), Verified)


def test_of_two_keys_the_one_that_is_named_judges_and_the_other_one_stays_shut() -> None:
    ledger, yubikey, first = a_yubikey()
    second = bind(ledger, OTHER)
    opened = []
    open_seal = ledger.seals.open_seal

    def note(sealed: bytes, *, field: str, account_id: str, authenticator_id: str = "") -> bytes:
        opened.append(authenticator_id)
        return open_seal(sealed, field=field, account_id=account_id, authenticator_id=authenticator_id)

    ledger.seals.open_seal = note  # type: ignore[method-assign]
    for typed, meant in ((yubikey.touch(), first), (OTHER.type(1, 0), second), (yubikey.touch(), first)):
        outcome = ledger.verify(typed)
        assert isinstance(outcome, Verified)
        assert outcome.authenticator_id == meant
        assert opened.pop() == meant
        assert not opened
    assert reason_of(ledger.verify(yubikey.touch(), authenticator_id=second)) == "wrong_code"
    assert not opened


def test_a_key_that_cannot_be_opened_lets_nobody_in() -> None:
    ledger, yubikey, _ = a_yubikey()
    ledger.seals.gone.add("data-1")
    with pytest.raises(Unavailable):
        ledger.verify(yubikey.type(1, 0))
    ledger.seals.gone.clear()
    assert isinstance(ledger.verify(yubikey.type(1, 0)), Verified)


def test_a_stranger_who_knows_the_public_id_neither_disables_the_key_nor_fills_the_disk() -> None:
    ledger, yubikey, authenticator_id = a_yubikey()
    seen = yubikey.touch()
    assert isinstance(ledger.verify(seen), Verified)
    before = len(ledger.rows)
    for number in range(300):
        guess = yubikey.public_id + modhex(number.to_bytes(16))
        assert reason_of(ledger.verify(guess)) == "wrong_code"
        assert reason_of(ledger.verify(seen)) == "code_already_used"
    assert len(ledger.rows) - before == 2, "one of each in a minute"
    assert ledger.account.lane.spent == 0
    assert (ledger.account.find(authenticator_id).failures, ledger.account.find(authenticator_id).state) == (
        0,
        "active",
    )
    assert isinstance(ledger.verify(yubikey.touch()), Verified)


def test_guesses_at_codes_do_not_keep_a_key_out_and_a_key_does_not_open_the_lane() -> None:
    ledger, yubikey, _ = a_yubikey()
    phone = ledger.import_phone(ledger.new_phone())
    exhaust(ledger, phone)
    spent = ledger.account.lane.spent
    assert isinstance(ledger.verify(yubikey.touch()), Verified)
    assert ledger.account.lane.spent == spent


def test_without_a_key_a_string_is_a_wrong_code_that_costs_nothing() -> None:
    ledger, _ = Ledger.with_totp()
    assert reason_of(ledger.verify(Yubikey().touch())) == "wrong_code"
    assert ledger.account.lane.spent == 0
    assert refusal_of(ledger, Yubikey().touch(), factor="yubico_otp") == "no_factor"


def test_it_reads_44_characters_of_modhex_and_nothing_else() -> None:
    factor, typed = YubicoOtp(), Yubikey().touch()
    assert read_answer([typed.upper()]) == Answer("yubico_otp", (typed,))
    assert factor.reads(read_answer([typed]))
    assert factor.cost_ppm(b"", read_answer([typed])) == 0
    for other in (typed[:-1], typed + "c", typed[:-1] + "a", typed[:-1] + "\u212a", "1" * 44, "A" * 20, ""):
        assert not factor.reads(read_answer([other]))
    assert not factor.reads(read_answer([typed, typed]))
    assert not factor.reads(Answer("password", (typed,)))


def test_a_key_is_read_as_tools_write_it_and_prints_no_secret() -> None:
    yubikey = Yubikey()
    read = read_key(yubikey.public_id.upper(), yubikey.private_id.hex().upper(), yubikey.aes_key.hex())
    assert read == yubikey.key
    assert repr(read) == f"YubicoKey(public_id='{yubikey.public_id}', private_id=…, aes_key=…)"
    assert read.seed == yubikey.private_id + yubikey.aes_key


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("public_id", "", "12 characters out of cbdefghijklnrtuv"),
        ("public_id", "ccccccccccc", "12 characters out of cbdefghijklnrtuv"),
        ("public_id", "cccccccccccccc", "12 characters out of cbdefghijklnrtuv"),
        ("public_id", "ccccccccccca", "12 characters out of cbdefghijklnrtuv"),
        ("public_id", "ccccccccccc\u212a", "12 characters out of cbdefghijklnrtuv"),
        ("private_id", "8792ebfe26c", "12 hexadecimal digits"),
        ("private_id", "8792ebfe26ccdd", "12 hexadecimal digits"),
        ("private_id", "87 92eb fe26", "12 hexadecimal digits"),
        ("aes_key", "ecde18dbe76fbd0c33330f1c354871d", "32 hexadecimal digits"),
        ("aes_key", "ecde18dbe76fbd0c33330f1c354871dg", "32 hexadecimal digits"),
        ("aes_key", "ecde18dbe76fbd0c33330f1c354871d\u0661", "32 hexadecimal digits"),
    ],
)
def test_a_key_that_is_none_is_refused_by_the_name_of_its_field(field: str, value: str, expected: str) -> None:
    right = {"public_id": "cccccccccccb", "private_id": "8792ebfe26cc", "aes_key": "ecde18dbe76fbd0c33330f1c354871db"}
    assert isinstance(read_key(**right), YubicoKey)
    with pytest.raises(InvalidInput) as refused:
        read_key(**{**right, field: value})
    assert (refused.value.field, refused.value.expected) == (field, expected)
    assert not value or value not in str(refused.value)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_of_twenty_who_send_one_string_at_once_one_is_let_in(store: str, tmp_path: Path) -> None:
    opened = await (open_in_memory() if store == "memory" else open_for_test(tmp_path))
    try:
        yubikey, accounts = Yubikey(), opened.verifier.accounts
        await accounts.put("alice")
        await accounts.import_yubikey("alice", yubikey.key, caller=Caller(is_admin=True))
        for _ in range(20):
            typed = yubikey.touch()
            attempts = (opened.verifier.verify("alice", code=typed) for _ in range(20))
            ends = await asyncio.gather(*attempts, return_exceptions=True)
            assert sum(isinstance(end, Verified) for end in ends) == 1
            assert {reason_of(end) for end in ends if isinstance(end, Rejected)} == {"code_already_used"}
            assert all(isinstance(end, Verified | Rejected | Busy) for end in ends)
    finally:
        await opened.close()


class KeyMachine(RuleBasedStateMachine):
    """A key that is touched here and elsewhere, plugged in and out, and whose strings are kept and sent again."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger, self.yubikey, self.authenticator_id = a_yubikey()
        self.typed: list[tuple[int, str]] = []
        self.reached = -1

    @rule()
    def touch(self) -> None:
        use = self.yubikey.power_ups << 8 | self.yubikey.touches
        self.typed.append((use, self.yubikey.touch()))

    @rule()
    def plug_in(self) -> None:
        self.yubikey.plug_in()

    @rule(power_ups=st.sampled_from([0x7FFD, 0x7FFF]), touches=st.sampled_from([0, 254, 255]))
    def grow_old(self, power_ups: int, touches: int) -> None:
        grown = (power_ups, touches)
        self.yubikey.power_ups, self.yubikey.touches = max(grown, (self.yubikey.power_ups, self.yubikey.touches))

    @precondition(lambda self: self.typed)
    @rule(data=st.data(), minutes=st.integers(0, 2))
    def send(self, data: st.DataObject, minutes: int) -> None:
        self.ledger.clock.advance(60 * minutes)
        use, typed = data.draw(st.sampled_from(self.typed))
        outcome = self.ledger.verify(typed)
        if use > self.reached:
            assert isinstance(outcome, Verified)
            self.reached = use
        else:
            assert reason_of(outcome) == "code_already_used"

    @precondition(lambda self: self.typed)
    @rule(data=st.data(), place=st.integers(12, 43), letter=st.sampled_from("cbdefghijklnrtuv"))
    def send_changed(self, data: st.DataObject, place: int, letter: str) -> None:
        _, typed = data.draw(st.sampled_from(self.typed))
        if typed[place] != letter:
            assert reason_of(self.ledger.verify(typed[:place] + letter + typed[place + 1 :])) == "wrong_code"

    @rule(block=st.binary(min_size=16, max_size=16))
    def send_made_up(self, block: bytes) -> None:
        assert reason_of(self.ledger.verify(self.yubikey.public_id + modhex(block))) == "wrong_code"

    @invariant()
    def what_was_reached_is_kept(self) -> None:
        assert last_use(self.ledger, self.authenticator_id) == self.reached
        assert self.ledger.account.find(self.authenticator_id).state == "active"
        assert self.ledger.account.lane.spent == 0


TestKeyMachine = KeyMachine.TestCase
TestKeyMachine.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize("touches", [1, 200])
def test_after_a_restore_all_is_used_until_the_key_was_plugged_in_ten_times_more(touches: int) -> None:
    ledger, yubikey, authenticator_id = a_yubikey()
    yubikey.power_ups = 41
    for _ in range(touches):
        typed = yubikey.touch()
    assert isinstance(ledger.verify(typed), Verified)
    credential = ledger.account.find(authenticator_id).credential
    last_use = YubicoOtp().read_credential(YubicoOtp().after_restore(credential, 0)).last_use
    assert last_use == (50 << 8) + 0xFF
    assert YubicoOtp().read_credential(credential).last_use == (41 << 8) + touches - 1


def test_after_a_restore_the_first_strings_of_a_key_that_was_never_used_are_used_too() -> None:
    credential = YubicoOtp().after_restore(YubicoOtp().new_credential("cccccccfvtrl", b"sealed"), 0)
    assert YubicoOtp().read_credential(credential).last_use == (8 << 8) + 0xFF
