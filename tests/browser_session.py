"""A browser that signs in to the account of a ledger: what its cookies hold, and the decisions of its requests."""

from collections.abc import Callable
from typing import Any

from tests.ledger import Ledger

from twofold.core.account import Account
from twofold.core.attempt import Call
from twofold.core.decision import Decision, Done, OpenSession, Outcome, Verified
from twofold.core.factor import Answer, read_answer
from twofold.core.session import Session, digest_token
from twofold.core.sign_in import DEFAULT_LIMITS, Bearer, SessionLimits, begin_session, in_session
from twofold.core.verdict import Question
from twofold.core.verification import verify_answer

PASSWORD = "correct horse battery"


class Browser:
    """One browser. `token` is what its cookie holds now; `effects` what the last decision writes besides."""

    def __init__(self, ledger: Ledger, *, limits: SessionLimits = DEFAULT_LIMITS) -> None:
        self.ledger = ledger
        self.limits = limits
        self.session: Session | None = None
        self.token = ""
        self.known: str | None = None
        self.ends_others = False

    def give_password(self, password: str = PASSWORD, *, next_path: str = "", **context: str | None) -> Outcome:
        """The first step."""
        question = Question(self.ledger.prove(Answer("password", (password,))))

        def decide(account: Account | None, call: Call) -> Decision:
            decision = verify_answer(account, question, call, factors=self.ledger.factors, seals=self.ledger.seals)
            if not isinstance(decision.outcome, Verified) or isinstance(decision.account, str):
                return decision
            return begin_session(decision, decision.outcome, decision.account, call, next_path=next_path)

        return self._keep(self.ledger.commit(decide, **context))

    def give_code(self, *codes: str) -> Outcome:
        """The second step."""
        question = Question(self.ledger.prove(read_answer(codes)))
        return self.act(
            lambda account, call: verify_answer(
                account, question, call, factors=self.ledger.factors, seals=self.ledger.seals
            )
        )

    def prove(self, code: str, purpose: str = "manage") -> Outcome:
        """Show a fresh second factor, for nothing else."""
        return self.act(lambda account, call: Decision(Done()), code, purpose)

    def act(
        self, decide: Callable[[Account | None, Call], Decision], code: str | None = None, purpose: str = "manage"
    ) -> Outcome:
        """Whatever a page does, with a fresh code where one is asked for."""
        assert self.session is not None
        proof = None if code is None else Question(self.ledger.prove(read_answer([code])), purpose=purpose)
        call = self.ledger.call(application=f"pages:{self.session.id}", browser=self.known)
        run = in_session(
            decide,
            Bearer(self.session, digest_token(self.token)),
            call,
            proof=proof,
            ends_others=self.ends_others,
            limits=self.limits,
            factors=self.ledger.factors,
            seals=self.ledger.seals,
        )
        return self._keep(self.ledger.write(run))

    def follow(self, outcome: Outcome) -> Outcome:
        """Take over what another decision opened."""
        return self._keep(outcome)

    def _keep(self, outcome: Outcome) -> Outcome:
        assert self.ledger.last is not None
        for effect in self.ledger.last.effects:
            if isinstance(effect, OpenSession):
                token: Any = getattr(outcome, "session", None)
                assert effect.token_digest == digest_token(token)
                assert effect.replaces == (digest_token(self.token) if self.session else None)
                self.session, self.token = effect.session, token
        return outcome
