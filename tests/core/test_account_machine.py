"""Anything in any order on one account, and what must hold after each step."""

from collections.abc import Callable
from typing import Any

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from tests.kit import Phone
from tests.ledger import Ledger

from twofold.core.account import AUTHENTICATORS_MAX, KNOWN_BROWSERS_MAX, PENDING_MAX, SPENT_MAX, Account, epoch_claim
from twofold.core.attempt import Call
from twofold.core.audit import verify_chain
from twofold.core.codec import DOCUMENT_MAX
from twofold.core.decision import Confirmed, Decision, ReceiptClaims, Rejected, Renewed, Throttled, Verified
from twofold.core.enrollment import renew_recovery_codes, revoke_authenticator
from twofold.core.idempotency import KEPT_MAX
from twofold.core.management import redeem_receipt
from twofold.core.throttle import GRAINS_PER_PPM, Lane, refill
from twofold.crypto.otp import step_at
from twofold.errors import Refused

DAY_S = 86_400


def unless_refused(action: Callable[[], Any], *codes: str) -> Any:
    """What the action gives, or None when it is refused with one of these codes."""
    try:
        return action()
    except Refused as refused:
        if refused.code not in codes:
            raise
        return None


class AccountMachine(RuleBasedStateMachine):
    phones = Bundle("phones")
    browsers = Bundle("browsers")
    receipts = Bundle("receipts")
    recovery_codes = Bundle("recovery_codes")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger.with_account()
        # What was accepted: (authenticator, step or counter), recovery codes, receipts.
        self.accepted: set[tuple[str, int]] = set()
        self.spent_codes: set[str] = set()
        self.spent_receipts: set[str] = set()
        self.reached: dict[str, int] = {}
        self.epoch_of: dict[str, bytes] = {}
        self.latest_s = self.ledger.clock.now_s
        self.forward_s = 0.0
        self.budget_at_s, self.charged_ppm, self.dearest_ppm = 0.0, 0.0, 0.0
        self.old_epochs: set[str] = set()

    # Helpers.

    def attempt(self, *codes: str, phone: Phone | None = None, browser: str | None = None, **options: Any) -> Any:
        """One answer; what it charged to the lane of new browsers is added up."""
        before = self.ledger.account.lane
        known_before = {b.digest: b.lane.spent for b in self.ledger.account.known_browsers}
        named = phone.id if phone else None
        outcome = unless_refused(
            lambda: self.ledger.verify(*codes, authenticator_id=named, browser=browser, **options),
            *("disabled", "no_factor", "not_found"),
        )
        event(f"verify: {type(outcome).__name__}")
        if isinstance(outcome, Rejected) and outcome.reason != "code_already_used" and len(codes) < 3:
            grew = [b for b in self.ledger.account.known_browsers if b.lane.spent > known_before.get(b.digest, 0)]
            if not grew and len(codes[0]) != 24:
                cost = self.charged_by(before)
                self.charged_ppm += cost
                self.dearest_ppm = max(self.dearest_ppm, cost)
        if isinstance(outcome, Verified) and outcome.browser is not None:
            self.epoch_of[outcome.browser] = self.ledger.account.epoch
        return outcome

    def charged_by(self, before: Lane) -> float:
        """What the last answer cost: the difference to the lane as it stood refilled."""
        stood = refill(before, self.ledger.clock.now())
        return (self.ledger.account.lane.spent - stood.spent) / GRAINS_PER_PPM

    def accept(self, outcome: Verified, counters: list[int]) -> None:
        """These counters were good for that authenticator now, and were never before."""
        for counter in counters:
            assert (outcome.authenticator_id, counter) not in self.accepted, "a code was accepted twice"
        last = max(counters)
        assert last > self.reached.get(outcome.authenticator_id, -1)
        self.accepted |= {(outcome.authenticator_id, counter) for counter in counters}

    def is_active(self, phone: Phone) -> bool:
        return any(a.id == phone.id and a.state == "active" for a in self.ledger.account.authenticators)

    def step(self, phone: Phone, ahead: int = 0) -> int:
        return step_at(self.ledger.clock.now() // 1_000_000, phone.period_s) + ahead

    # Enrollments.

    @initialize(target=phones)
    def begin_with_a_phone(self) -> Phone:
        phone = self.ledger.add()
        self.accepted.add((phone.id, self.step(phone)))
        return phone

    @rule(target=phones, factor=st.sampled_from(["totp", "hotp"]), application=st.sampled_from(["local", "shop"]))
    def enroll(self, factor: str, application: str) -> Any:
        phone = unless_refused(
            lambda: self.ledger.enroll(factor, application=application, is_admin=True), "disabled", "too_many"
        )
        return phone or multiple()

    @rule(phone=phones, is_right=st.booleans())
    def confirm(self, phone: Phone, is_right: bool) -> None:
        counter = self.step(phone) if phone.factor == "totp" else phone.counter
        code = phone.code_of(counter) if is_right else self.ledger.wrong_code(phone)
        was_pending = any(a.id == phone.id and a.state == "pending" for a in self.ledger.account.authenticators)
        outcome = unless_refused(
            lambda: self.ledger.confirm(phone, code, is_admin=True), "not_found", "conflict", "disabled", "too_many"
        )
        assert outcome is None or was_pending
        if isinstance(outcome, Confirmed):
            assert is_right
            self.accepted.add((phone.id, counter))
            phone.counter += phone.factor == "hotp"

    @rule(target=phones, factor=st.sampled_from(["totp", "hotp"]), digits=st.sampled_from([6, 8]))
    def import_phone(self, factor: str, digits: int) -> Any:
        phone = self.ledger.new_phone(factor, digits=digits)
        return unless_refused(lambda: self.ledger.import_phone(phone), "disabled", "too_many") or multiple()

    @rule(phone=phones)
    def revoke(self, phone: Phone) -> None:
        unless_refused(
            lambda: self.ledger.commit(
                lambda account, call: revoke_authenticator(account, phone.id, call), is_admin=True
            ),
            *("not_found", "disabled"),
        )

    @rule(target=recovery_codes)
    def renew(self) -> Any:
        fresh = self.ledger.new_recovery_codes()
        outcome = unless_refused(
            lambda: self.ledger.commit(lambda account, call: renew_recovery_codes(account, fresh, call), is_admin=True),
            *("no_factor", "disabled", "too_many"),
        )
        if outcome is None:
            return multiple()
        assert isinstance(outcome, Renewed)
        return outcome.recovery_codes[0]

    # Answers.

    @rule(target=browsers, phone=phones, ahead=st.integers(-3, 3), named=st.booleans())
    def sign_in(self, phone: Phone, ahead: int, named: bool) -> Any:
        return self.try_code(phone, ahead, named=named, browser=None)

    @rule(target=browsers, phone=phones, ahead=st.integers(-1, 1), browser=consumes(browsers))
    def sign_in_with_browser(self, phone: Phone, ahead: int, browser: str) -> Any:
        return self.try_code(phone, ahead, named=True, browser=browser)

    def try_code(self, phone: Phone, ahead: int, *, named: bool, browser: str | None) -> Any:
        counter = self.step(phone, ahead) if phone.factor == "totp" else max(0, phone.counter + ahead)
        was_active = self.is_active(phone)
        lane = self.ledger.account.lane
        outcome = self.attempt(phone.code_of(counter), phone=phone if named else None, browser=browser)
        is_old = browser is not None and self.epoch_of[browser] != self.ledger.account.epoch
        if is_old and isinstance(outcome, Rejected) and outcome.reason == "wrong_code":
            assert self.ledger.account.lane != lane, "a browser of an old epoch draws on the lane of new ones"
        if not isinstance(outcome, Verified):
            return multiple()
        if outcome.authenticator_id == phone.id:
            assert was_active, "pending never counts"
            self.accept(outcome, [counter])
            if phone.factor == "hotp":
                phone.counter = counter + 1
        return outcome.browser

    @rule(phone=phones, browser=st.none() | browsers, named=st.booleans())
    def guess(self, phone: Phone, browser: str | None, named: bool) -> None:
        outcome = self.attempt(self.ledger.wrong_code(phone), phone=phone if named else None, browser=browser)
        if named:
            assert not isinstance(outcome, Verified)

    @rule(phone=phones)
    def guess_until_the_lane_is_empty(self, phone: Phone) -> None:
        for _ in range(12):
            outcome = self.attempt(self.ledger.wrong_code(phone), phone=phone)
            if isinstance(outcome, Throttled) and outcome.retry_after_s <= 60:
                self.move_clock(outcome.retry_after_s)

    @precondition(lambda self: self.accepted)
    @rule(phone=phones, choose=st.randoms(use_true_random=False))
    def replay(self, phone: Phone, choose: Any) -> None:
        used = sorted(counter for owner, counter in self.accepted if owner == phone.id)
        if used:
            outcome = self.attempt(phone.code_of(choose.choice(used)), phone=phone)
            assert not isinstance(outcome, Verified)

    @rule(target=browsers, phone=phones, ahead=st.integers(-2, 2), browser=st.none() | browsers)
    def three_codes(self, phone: Phone, ahead: int, browser: str | None) -> Any:
        last = self.step(phone, ahead) if phone.factor == "totp" else phone.counter + 2 + max(0, ahead)
        counters = [last - 2, last - 1, last]
        was_active = self.is_active(phone)
        lane = self.ledger.account.lane.spent
        outcome = self.attempt(*map(phone.code_of, counters), phone=phone, browser=browser)
        assert not isinstance(outcome, Throttled)
        if not isinstance(outcome, Verified):
            assert self.ledger.account.lane.spent <= lane
            return multiple()
        assert was_active
        self.accept(outcome, counters)
        if phone.factor == "hotp":
            phone.counter = last + 1
        return outcome.browser

    @rule(target=browsers, code=recovery_codes)
    def recover(self, code: str) -> Any:
        outcome = self.attempt(code)
        if not isinstance(outcome, Verified):
            return multiple()
        assert code not in self.spent_codes, "a recovery code was accepted twice"
        self.spent_codes.add(code)
        return outcome.browser

    # Receipts.

    @rule(target=receipts, phone=phones)
    def get_receipt(self, phone: Phone) -> Any:
        counter = self.step(phone) if phone.factor == "totp" else phone.counter
        outcome = self.attempt(phone.code_of(counter), phone=phone, purpose="manage")
        if not isinstance(outcome, Verified):
            return multiple()
        self.accept(outcome, [counter])
        phone.counter += phone.factor == "hotp"
        return outcome.claims

    @rule(receipt=receipts, as_step_up=st.booleans())
    def spend(self, receipt: ReceiptClaims, as_step_up: bool) -> None:
        fresh = self.ledger.new_recovery_codes()

        def decide(account: Account | None, call: Call) -> Decision:
            if as_step_up:
                return renew_recovery_codes(account, fresh, call, step_up=receipt)
            return redeem_receipt(account, receipt, call, purpose="manage", binding=None)

        is_bound = self.ledger.account.is_bound
        reasons = ("step_up_required", "receipt_used", "receipt_mismatch", "no_factor", "disabled", "too_many")
        if unless_refused(lambda: self.ledger.commit(decide), *reasons) is None or (as_step_up and not is_bound):
            return
        assert receipt.exp > self.ledger.clock.now_s
        assert receipt.epoch not in self.old_epochs
        # A clock that goes back behind the end of a receipt that was already forgotten is beyond what we remember.
        assert receipt.jti not in self.spent_receipts or receipt.exp <= self.latest_s
        self.spent_receipts.add(receipt.jti)

    # Events and time.

    @rule(kind=st.sampled_from(["password_changed", "signed_out_everywhere", "compromised", "disabled", "enabled"]))
    def record(self, kind: Any) -> None:
        self.old_epochs.add(epoch_claim(self.ledger.account))
        self.ledger.record(kind)
        assert self.ledger.account.known_browsers == ()
        assert not any(a.state == "pending" for a in self.ledger.account.authenticators)
        if kind == "password_changed":
            self.charged_ppm, self.dearest_ppm, self.budget_at_s = 0.0, 0.0, self.forward_s
        if kind == "disabled":
            self.ledger.record("enabled")

    @rule(seconds=st.integers(0, 120) | st.sampled_from([300, 900, 3600, DAY_S, 30 * DAY_S, 400 * DAY_S]))
    def wait(self, seconds: int) -> None:
        self.move_clock(seconds)

    @rule(seconds=st.sampled_from([1, 30, 600, 3600, DAY_S]))
    def clock_goes_back(self, seconds: int) -> None:
        self.move_clock(-seconds)

    def move_clock(self, seconds: float) -> None:
        self.ledger.clock.advance(seconds)
        self.forward_s += max(0.0, seconds)
        self.latest_s = max(self.latest_s, self.ledger.clock.now_s)

    # What always holds.

    @invariant()
    def no_more_was_judged_than_the_budget_allows(self) -> None:
        allowed = 30 + 2 * (self.forward_s - self.budget_at_s + 1) / DAY_S + self.dearest_ppm
        assert self.charged_ppm <= allowed

    @invariant()
    def what_was_reached_only_grows(self) -> None:
        for authenticator in self.ledger.account.authenticators:
            if authenticator.factor not in ("totp", "hotp"):
                continue
            phone = Phone(authenticator.id, b"")
            reached = (
                self.ledger.totp(phone).last_step
                if authenticator.factor == "totp"
                else self.ledger.hotp(phone).counter - 1
            )
            assert reached >= self.reached.get(authenticator.id, -1)
            self.reached[authenticator.id] = reached

    @invariant()
    def the_limits_hold(self) -> None:
        account = self.ledger.account
        assert len(account.authenticators) <= AUTHENTICATORS_MAX
        assert sum(a.state == "pending" for a in account.authenticators) <= PENDING_MAX
        assert len(account.known_browsers) <= KNOWN_BROWSERS_MAX
        assert len(account.spent) <= SPENT_MAX
        assert len(account.kept_answers) <= KEPT_MAX
        assert all(a.failures < 100 or a.state == "disabled" for a in account.authenticators)
        totps = [self.ledger.totp(Phone(a.id, b"")) for a in account.authenticators if a.factor == "totp"]
        assert all(abs(totp.drift) <= 2 and len(totp.burnt) <= 41 for totp in totps)

    @invariant()
    def the_document_is_small_and_reads_back_as_it_was(self) -> None:
        row = self.ledger.codec.dump(self.ledger.account, self.ledger.standing.version)
        assert len(row.document) <= DOCUMENT_MAX
        assert self.ledger.codec.load(row) == self.ledger.account

    def teardown(self) -> None:
        assert verify_chain("alice", self.ledger.rows, self.ledger.account.head) is None


TestAccountMachine = AccountMachine.TestCase
TestAccountMachine.settings = settings(settings.get_profile("repeatable"), max_examples=60, stateful_step_count=60)
