"""READ FIRST: the verbs of the second factor, and the only flow: gather, decide, commit, carry out.

`enroll` begins and `confirm` ends an enrollment, `verify` judges an answer, `redeem` uses a receipt up, `revoke`
removes. Each is one attempt (`twofold.engine`) around one pure decision of `twofold.core`. What is expected to happen
is a value to match on; what the state does not allow is raised as `Refused`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Self, cast

import msgspec

from twofold import qr
from twofold.core import enrollment, management, open_enrollment
from twofold.core.account import Account, Authenticator, check_label, find_known_browser, new_account
from twofold.core.attempt import Call, Context
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import (
    Confirmed,
    Decision,
    Done,
    Outcome,
    Pending,
    ReceiptClaims,
    Redeemed,
    Rejected,
    Renewed,
    Throttled,
    Verified,
)
from twofold.core.factor import Answer, read_answer
from twofold.core.network import network_of
from twofold.core.verdict import Question, check_purpose
from twofold.core.verification import verify_answer
from twofold.credentials import Credentials, OtpFactor
from twofold.directory import Directory
from twofold.engine import LOCAL, Caller, Engine
from twofold.errors import InvalidInput, Refused
from twofold.passkeys import Passkeys
from twofold.ports import Receipts
from twofold.recovery import RecoveryCodesOnDemand

THREE_CODES_PER_MINUTE = 10
THREE_CODES_PER_SECOND_WITHOUT_ADDRESS = 200


class PendingEnrollment(Pending, frozen=True, tag="Pending"):
    """An enrollment to show: `secret` in Base32, `uri` for the phone, and its QR code in two forms."""

    @property
    def qr_svg(self) -> str:
        """The QR code as an inline SVG element."""
        return qr.svg(self.uri)

    @property
    def qr_png(self) -> str:
        """The QR code as a `data:` URI with a PNG image."""
        return qr.png_data_uri(self.uri)


class Verifier:
    """Second factors for the accounts of one deployment. Every method may be called from many tasks at once."""

    def __init__(
        self,
        engine: Engine,
        credentials: Credentials,
        receipts: Receipts,
        *,
        accounts: Directory,
        passkeys: Passkeys,
        is_strict: bool = False,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._engine = engine
        self._credentials = credentials
        self.receipts = receipts
        self.accounts = accounts
        self.passkeys = passkeys
        self._is_strict = is_strict
        self._on_close = on_close

    @classmethod
    async def open(cls, database_url: str = "sqlite:///twofold.db", *, issuer: str = "Twofold") -> Self:
        """A verifier over a database of its own; the key file is made beside the database on first use.

        Over `postgresql://…` it is one of several servers, and all have the same settings: those of `twofold serve`
        from the environment and `twofold.toml`. So KEY_PROVIDER says where the master key is, else it is `twofold.key`
        in DATA_DIR. A verifier belongs to the event loop that opened it.

        Raises `ConfigurationError` when the database or its key cannot be opened. End it with `close`.
        """
        # Late, because bootstrap builds this class: the one arrow that points back.
        from twofold.bootstrap import open_embedded  # noqa: PLC0415

        return cast(Self, (await open_embedded(database_url, issuer=issuer)).verifier)

    async def close(self) -> None:
        """Finish what is under way and let the database go."""
        if self._on_close is not None:
            await self._on_close()

    async def enroll(
        self,
        account_id: str,
        factor: OtpFactor = "totp",
        *,
        label: str = "",
        replaces: str | None = None,
        step_up: str | None = None,
        caller: Caller = LOCAL,
        may_add_account: bool = True,
    ) -> PendingEnrollment:
        """Begin an enrollment, or show the caller's own open one again: same id, same secret, for 15 minutes.

        `replaces` names an authenticator that stays valid until the new one is confirmed. On an account that has a
        second factor `step_up` is a receipt with purpose `manage`. Raises `Refused`, `InvalidInput`.
        """
        if factor not in ("totp", "hotp"):
            raise InvalidInput("factor", "totp or hotp; passkeys are enrolled by `passkeys.enroll`")
        label = check_label(label)
        claims = self._read_step_up(step_up)
        authenticator_id = self._credentials.new_id()
        seed = self._credentials.new_seed()

        def decide(account: Account | None, call: Call) -> Decision:
            is_new = account is None and may_add_account
            if is_new:
                account = new_account(account_id, call.seed, call.now)
            # Sealed here, so that a repeated try uses the key that is active by then.
            fresh = self._credentials.new_otp(account_id, authenticator_id, factor, seed)
            decision, shown = enrollment.begin_enrollment(
                account, fresh, call, label=label, replaces=replaces, step_up=claims
            )
            events = (call.event("account.added"), *decision.events) if is_new else decision.events
            return msgspec.structs.replace(decision, outcome=self._show(account_id, shown), events=events)

        pending = cast(Pending, await self._engine.decide(account_id, decide, caller))
        return PendingEnrollment(**msgspec.structs.asdict(pending))

    async def see_again(
        self, account_id: str, authenticator_id: str, *, name: str = "", caller: Caller = LOCAL
    ) -> PendingEnrollment:
        """Show an open enrollment to whoever began it once more; nothing is begun. `name` is what the person's app
        shows, else it is the id. Raises `Refused`."""

        def decide(account: Account | None, call: Call) -> Decision:
            begun = open_enrollment.see_again(account, authenticator_id, call)
            if begun.factor not in ("totp", "hotp"):
                raise Refused("not_found", "you have no open enrollment of a secret of that id")
            return Decision(self._show(account_id, begun, name))

        pending = cast(Pending, await self._engine.decide(account_id, decide, caller))
        return PendingEnrollment(**msgspec.structs.asdict(pending))

    async def cancel(self, account_id: str, authenticator_id: str, *, caller: Caller = LOCAL) -> Done:
        """Forget an open enrollment that the caller began; what is active stays. Raises `Refused`."""

        def decide(account: Account | None, call: Call) -> Decision:
            return open_enrollment.cancel_enrollment(account, authenticator_id, call)

        return cast(Done, await self._engine.decide(account_id, decide, caller))

    async def confirm(
        self,
        account_id: str,
        authenticator_id: str,
        *,
        code: str,
        label: str | None = None,
        step_up: str | None = None,
        caller: Caller = LOCAL,
    ) -> Confirmed | Rejected | Throttled:
        """End an enrollment with its first code, which is used up by it. The account's first authenticator brings
        ten recovery codes, shown this once. Raises `Refused`, `InvalidInput`."""
        label = None if label is None else check_label(label)
        claims = self._read_step_up(step_up)
        answer = read_answer([code])
        recovery = RecoveryCodesOnDemand(self._credentials, account_id, caller)

        def decide(account: Account | None, call: Call) -> Decision:
            return enrollment.confirm_enrollment(
                account,
                authenticator_id,
                answer,
                call,
                factors=self._engine.factors,
                seals=self._engine.keys,
                label=label,
                recovery=recovery.made,
                step_up=claims,
            )

        outcome = await self._engine.decide(account_id, decide, caller, prepare=recovery.prepare)
        return cast(Confirmed | Rejected | Throttled, outcome)

    async def verify(
        self,
        account_id: str,
        *,
        code: str | None = None,
        codes: Sequence[str] | None = None,
        factor: str | None = None,
        authenticator_id: str | None = None,
        purpose: str | None = None,
        binding: str | None = None,
        browser: str | None = None,
        ip: str | None = None,
        user_agent: str | None = None,
        caller: Caller = LOCAL,
    ) -> Verified | Rejected | Throttled:
        """Judge one answer: `code`, or `codes` (three consecutive ones; two to find a HOTP token again).

        `purpose` or `binding` ask for a receipt. `browser` is the value of this browser's last success; `ip` and
        `user_agent` go into the audit log, and limits of three-code answers count by network.
        Raises `Refused` (`not_found`, `no_factor`, `disabled`), `Busy`, `Unavailable`, `InvalidInput`.
        """
        if (code is None) == (codes is None):
            raise InvalidInput("code", "either code or codes")
        check_purpose(purpose, binding)
        if browser is not None or ip is not None or user_agent is not None:
            caller = msgspec.structs.replace(caller, context=Context(ip, user_agent, browser))
        answer = read_answer([code] if code is not None else codes or ())
        question = Question(answer, factor, authenticator_id, purpose, binding, self._is_strict)
        if len(answer.codes) == 3 and not await self._may_try_three(account_id, caller.context):
            return self._engine.turn_away(factor or "any", Throttled(1 if caller.context.ip is None else 60))
        outcome = await self._judge(account_id, question, caller)
        if isinstance(outcome, Verified) and outcome.claims is not None:
            return msgspec.structs.replace(outcome, receipt=self.receipts.issue(outcome.claims))
        return outcome

    async def check_password(
        self, account_id: str, password: str, *, caller: Caller = LOCAL
    ) -> Verified | Rejected | Throttled:
        """Judge a password: the first factor, and never more than that. A digest with outdated parameters is replaced
        in the same decision."""
        return await self._judge(account_id, Question(Answer("password", (password,))), caller)

    async def redeem(
        self, receipt: str, *, purpose: str | None = None, binding: str | None = None, caller: Caller = LOCAL
    ) -> Redeemed:
        """Use a receipt up, once. Raises `Refused`: `receipt_mismatch` (nothing is consumed), `receipt_used`."""
        claims = self.receipts.check(receipt, field="receipt")

        def decide(account: Account | None, call: Call) -> Decision:
            return management.redeem_receipt(account, claims, call, purpose=purpose, binding=binding)

        return cast(Redeemed, await self._engine.decide(claims.sub, decide, caller))

    async def renew_recovery_codes(
        self, account_id: str, *, step_up: str | None = None, caller: Caller = LOCAL
    ) -> Renewed:
        """Ten new recovery codes, shown this once; the old ones are dead."""
        claims = self._read_step_up(step_up)
        recovery = RecoveryCodesOnDemand(self._credentials, account_id, caller)

        def decide(account: Account | None, call: Call) -> Decision:
            return enrollment.renew_recovery_codes(account, recovery.made, call, step_up=claims)

        return cast(Renewed, await self._engine.decide(account_id, decide, caller, prepare=recovery.prepare))

    async def revoke(
        self,
        account_id: str,
        authenticator_id: str,
        *,
        step_up: str | None = None,
        keeps_last: bool = False,
        useless: frozenset[str] = frozenset(),
        caller: Caller = LOCAL,
    ) -> Done:
        """Remove an authenticator, at once and for every open sign-in; also how a pending one is canceled. With
        `keeps_last` the last second factor is refused (`conflict`), not counting those that are `useless`."""
        claims = self._read_step_up(step_up)

        def decide(account: Account | None, call: Call) -> Decision:
            return enrollment.revoke_authenticator(
                account, authenticator_id, call, step_up=claims, keeps_last=keeps_last, useless=useless
            )

        return cast(Done, await self._engine.decide(account_id, decide, caller))

    async def rename(self, account_id: str, authenticator_id: str, label: str, *, caller: Caller = LOCAL) -> None:
        """Give an authenticator another label."""
        label = check_label(label)

        def decide(account: Account | None, call: Call) -> Decision:
            return enrollment.rename_authenticator(account, authenticator_id, label, call)

        await self._engine.decide(account_id, decide, caller)

    async def _judge(self, account_id: str, question: Question, caller: Caller) -> Verified | Rejected | Throttled:
        async def prepare(asked: Outcome | None) -> None:
            nonlocal question
            # Read first, hash, decide: the decision recognizes a proof that another attempt has made stale.
            account = await self._engine.load(account_id)
            if account is not None:
                now = self._engine.clock.now()
                is_known = find_known_browser(account, caller.context.browser, now) is not None
                answer = await self._credentials.prove(
                    account, question.answer, address=caller.neighborhood, is_known=is_known, now=now
                )
                question = msgspec.structs.replace(question, answer=answer)

        def decide(account: Account | None, call: Call) -> Decision:
            return verify_answer(account, question, call, factors=self._engine.factors, seals=self._engine.keys)

        needs_proof = question.answer.kind in ("recovery", "password")
        outcome = await self._engine.decide(account_id, decide, caller, prepare=prepare if needs_proof else None)
        return cast(Verified | Rejected | Throttled, outcome)

    async def _may_try_three(self, account_id: str, context: Context) -> bool:
        now_s = self._engine.clock.now() // MICROS_PER_S
        if await self._engine.load(account_id) is None:
            return True  # The decision says that there is no such account; a counter for each name would fill the disk.
        # Per account too: whoever guesses from one network does not use up the tries of another, or of another person.
        network = "" if context.ip is None else network_of(context.ip)
        key = self._engine.keys.index_digest(b"three_codes", account_id.encode(), network.encode())
        if context.ip is None:
            return await self._engine.limits.hit(key, now_s, THREE_CODES_PER_SECOND_WITHOUT_ADDRESS)
        return await self._engine.limits.hit(key, now_s - now_s % 60, THREE_CODES_PER_MINUTE)

    def _show(self, account_id: str, authenticator: Authenticator, name: str = "") -> Pending:
        otp = self._credentials.read_otp(account_id, authenticator)
        factor = cast(OtpFactor, authenticator.factor)
        expires_at = authenticator.enrollment.expires_at if authenticator.enrollment else 0
        secret = self._credentials.spell_secret(otp)
        return Pending(
            authenticator.id, factor, expires_at, secret, self._credentials.uri(name or account_id, factor, otp)
        )

    def _read_step_up(self, step_up: str | None) -> ReceiptClaims | None:
        return None if step_up is None else self.receipts.check(step_up, field="step_up")
