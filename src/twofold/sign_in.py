"""Signing in on Twofold's own pages: the password step, one-time links, and the sessions that come of them.

What a session may do is decided in `twofold.core.sign_in`; here is what waits: limits before any hash, the hash, the
rows. A name that nobody has costs the same as one that somebody has, until the password was right.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections import Counter
from typing import cast

import msgspec

from twofold.core import administration, management, sign_in
from twofold.core.account import Account, OneTimeLink, check_account_id, find_known_browser
from twofold.core.attempt import PAGES, Call, Context
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Decision, Done, Rejected, Verified
from twofold.core.enrollment import NewCredential
from twofold.core.factor import Answer, read_answer
from twofold.core.network import network_of
from twofold.core.session import SEEN_EVERY_S, Ending, Session, digest_token, find_ending
from twofold.core.sign_in import Bearer, Vouched
from twofold.core.user_agent import describe_browser
from twofold.core.verdict import Question
from twofold.core.verification import verify_answer
from twofold.credentials import Credentials
from twofold.directory import Directory
from twofold.engine import Caller, Engine
from twofold.errors import InvalidInput, Refused, TamperedRecord
from twofold.passkeys import Passkeys
from twofold.ports import Sessions
from twofold.sign_in_limits import Admitted, SignInLimits, TooMany, log_refusal

NAME_MAX = 128
_COUNTED_MAX = 10_000


class Guest(msgspec.Struct, frozen=True):
    """Whoever has no session: what is known of where the request comes from. `blocked_for_s`: his network is refused,
    for so long; only a known browser of the account passes."""

    context: Context = Context()
    is_behind_unknown_proxy: bool = False
    blocked_for_s: int = 0


class SignIn:
    """The sessions of one deployment, and the steps that begin and end them."""

    def __init__(
        self,
        engine: Engine,
        credentials: Credentials,
        directory: Directory,
        sessions: Sessions,
        limits: SignInLimits,
        *,
        passkeys: Passkeys,
    ) -> None:
        self._engine = engine
        self._credentials = credentials
        self._directory = directory
        self._sessions = sessions
        self._limits = limits
        self._passkeys = passkeys
        self._refused: Counter[tuple[str, str]] = Counter()
        self._tampered: dict[str, TamperedRecord] = {}

    async def find(self, token: str, user_agent: str | None, bond: str = "") -> tuple[Bearer, Account] | Ending | None:
        """The session of a token with its account, or why it counts no more; None for a token that names none, and for
        one that is tied to another `bond`."""
        digest, now = digest_token(token), self._engine.clock.now()
        try:
            session = await self._engine.read(lambda: self._sessions.find_session(digest))
        except TamperedRecord as tampered:
            await self._engine.raise_alarm("", tampered)
            return None
        # A browser keeps its family and its system; another one that brings the same token has stolen it.
        if session is None or session.browser != describe_browser(user_agent):
            return None
        if not hmac.compare_digest(session.bond.encode(), bond.encode()):
            return None
        account = await self._engine.load(session.account_id)
        if ending := find_ending(session, account, now):
            return ending
        assert account is not None  # noqa: S101 - or the session would have ended
        if session.level == "full" and now - session.seen_at >= SEEN_EVERY_S * MICROS_PER_S:
            session = msgspec.structs.replace(session, seen_at=now)
            await self._sessions.touch_session(digest, session)
        return Bearer(session, digest), account

    async def begin(
        self, name: str, password: str, guest: Guest, *, next_path: str = ""
    ) -> Verified | Rejected | TooMany:
        """The password step. `Verified.session` is the token of a session that is pending, or enrolling where there is
        no second factor yet. Raises `Refused("disabled")` after the right password only, `Busy`, `InvalidInput`."""
        name = spell_name(name)
        folded = fold_name(name)
        account_id, account = await self._find_account(name)
        now, context = self._engine.clock.now(), guest.context
        is_known = account is not None and find_known_browser(account, context.browser, now) is not None
        if guest.blocked_for_s and not is_known:
            log_refusal(context.ip, "blocked")
            return TooMany(guest.blocked_for_s, "network")
        admitted = await self._admit(folded, guest, is_known=is_known)
        if isinstance(admitted, TooMany):
            return admitted
        is_right = True  # unless it is judged wrong: what is never judged costs nothing
        unfinished: list[str] = []
        try:
            answer = await self._credentials.check_password(
                account, folded, password, address=_address_of(guest), is_known=is_known, now=now
            )
            is_right = answer is not None
            if account is not None and answer is not None:
                unfinished = [] if is_known else await self._find_unfinished(account)
                return await self._open(account_id, answer, Caller(PAGES, context=context), next_path)
        finally:
            await self._limits.settle(
                admitted, is_right=is_right, is_account=account is not None, unfinished=unfinished
            )
        return self._refuse_password(account, context.ip)

    async def begin_by_passkey(
        self, question: Question, guest: Guest, *, next_path: str = ""
    ) -> Verified | Rejected | TooMany:
        """Signing in with a passkey alone: who it is, the authenticator says. `Verified.session` is the token of a full
        session. Raises `Refused("disabled")`."""
        context, now = guest.context, self._engine.clock.now()
        factor = question.factor or "any"
        account_id = await self._passkeys.find_owner(question)
        account = None if account_id is None else await self._load(account_id)
        is_known = account is not None and find_known_browser(account, context.browser, now) is not None
        if guest.blocked_for_s and not is_known:
            log_refusal(context.ip, "blocked")
            return TooMany(guest.blocked_for_s, "network")
        if account is None:
            log_refusal(context.ip, "wrong_passkey")
            return self._engine.turn_away(factor, Rejected("unknown_credential"))
        limits = self._engine.session_limits

        def decide(account: Account | None, call: Call) -> Decision:
            decision = verify_answer(account, question, call, factors=self._engine.factors, seals=self._engine.keys)
            return sign_in.begin_by_passkey(decision, call, limits=limits, next_path=next_path)

        try:
            outcome = await self._engine.decide(account.id, decide, Caller(PAGES, context=context))
        except Refused as refused:
            if refused.code != "no_factor":
                raise
            # The account's last passkey was removed; the authenticator still has it.
            outcome = self._engine.turn_away(factor, Rejected("unknown_credential"))
        if isinstance(outcome, Rejected):
            log_refusal(context.ip, "wrong_passkey")
        return cast(Verified | Rejected, outcome)

    async def begin_vouched(self, vouched: Vouched, guest: Guest, *, next_path: str = "") -> Done:
        """The step after somebody else's first factor: `Done.session` is the token of a session that is pending, or
        enrolling where there is no second factor yet. Raises `Refused("disabled")`, `InvalidInput`."""

        def decide(account: Account | None, call: Call) -> Decision:
            return sign_in.begin_vouched(account, vouched, call, next_path=next_path)

        return cast(Done, await self._engine.decide(vouched.account_id, decide, Caller(PAGES, context=guest.context)))

    async def check_current_password(self, bearer: Bearer, password: str, guest: Guest) -> Rejected | TooMany | None:
        """Ask a person who is signed in for the password again, under the same limits; None if it is right."""
        account = await self._engine.load(bearer.session.account_id)
        context, name, now = guest.context, fold_name(bearer.session.account_id), self._engine.clock.now()
        admitted = await self._admit(name, guest, is_known=False)
        if isinstance(admitted, TooMany):
            return admitted
        is_right = True
        try:
            answer = await self._credentials.check_password(
                account,
                name,
                password,
                address=_address_of(guest),
                is_known=account is not None and find_known_browser(account, context.browser, now) is not None,
                now=now,
            )
            is_right = answer is not None
        finally:
            await self._limits.settle(admitted, is_right=is_right, is_account=True)
        return None if is_right else self._refuse_password(account, context.ip)

    async def prepare_proof(self, bearer: Bearer, code: str, purpose: str, context: Context) -> Question:
        """The answer that proves, with the call that it comes with, who calls; recovery codes are hashed here."""
        answer = read_answer([code])
        account = await self._engine.load(bearer.session.account_id)
        if account is not None and answer.kind == "recovery":
            address = None if context.ip is None else network_of(context.ip)
            now = self._engine.clock.now()
            is_known = find_known_browser(account, context.browser, now) is not None
            answer = await self._credentials.prove(account, answer, address=address, is_known=is_known, now=now)
        return Question(answer, purpose=purpose)

    async def prove(self, bearer: Bearer, caller: Caller) -> Done:
        """Only show the second factor that is the caller's proof. Raises `NotProven`."""

        def decide(account: Account | None, call: Call) -> Decision:
            return Decision(Done())

        return cast(Done, await self._engine.decide(bearer.session.account_id, decide, caller))

    async def use_grant(self, bearer: Bearer, *, ttl_s: int) -> Done:
        """Use up what the session was granted for `ttl_s`, for one act. Raises `Refused("step_up_required")`,
        `SessionEnded`."""

        def decide(account: Account | None, call: Call) -> Decision:
            return sign_in.use_grant(account, bearer.session, call, ttl_s=ttl_s)

        caller = Caller(f"{PAGES}:{bearer.session.id}")
        return cast(Done, await self._engine.decide(bearer.session.account_id, decide, caller))

    async def find_link(self, token: str) -> tuple[Account, OneTimeLink]:
        """Whom a one-time link is for; looking does not use it up. Raises `Refused("not_found")`."""
        owner = administration.read_link_owner(token)
        account = None if not owner else await self._engine.load(owner)
        link = administration.find_link(account, token, self._engine.clock.now())
        assert account is not None  # noqa: S101 - the link was found in it
        return account, link

    async def use_link(self, token: str, password: str, guest: Guest) -> Done:
        """Use a one-time link up: `Done.session` is the token of a session that leads to enrollment. `password` may be
        empty where there is one already. Raises `Refused`, `InvalidInput`."""
        account, _ = await self.find_link(token)
        fresh = await self._directory.new_password(account.id, password) if password else None

        def decide(current: Account | None, call: Call) -> Decision:
            return administration.use_link(current, token, fresh, call)

        return cast(Done, await self._engine.decide(account.id, decide, Caller(PAGES, context=guest.context)))

    async def make_first_administrator(self, name: str, password: str, guest: Guest) -> Done:
        """The account of whoever holds the set-up link. Raises `Refused`, `InvalidInput`."""
        account_id = make_name(name)
        fresh: NewCredential = await self._directory.new_password(account_id, password)

        def decide(account: Account | None, call: Call) -> Decision:
            return administration.make_first_administrator(account, account_id, fresh, call)

        return cast(Done, await self._engine.decide(account_id, decide, Caller(PAGES, context=guest.context)))

    async def list_sessions(self, account: Account) -> list[Session]:
        """The account's sessions in force, the one seen last first."""
        now = self._engine.clock.now()
        found = [s for s in await self._sessions.list_sessions(account.id) if find_ending(s, account, now) is None]
        return sorted(found, key=lambda s: s.seen_at, reverse=True)

    async def end_sessions(
        self, account_id: str, caller: Caller, *, ids: tuple[str, ...] | None = None, but: str | None = None
    ) -> None:
        """End the sessions with these ids, or all of the account but one."""

        def decide(account: Account | None, call: Call) -> Decision:
            return sign_in.end_sessions(account, call, ids=ids, but=but)

        await self._engine.decide(account_id, decide, caller)

    async def forget_browser(self, account_id: str, browser_id: str, caller: Caller) -> None:
        """A known browser is a new one from now on. Raises `Refused("not_found")`."""

        def decide(account: Account | None, call: Call) -> Decision:
            return management.forget_browser(account, browser_id, call)

        await self._engine.decide(account_id, decide, caller)

    async def record_refused(self) -> None:
        """Write down the wrong passwords of the last minute, one event for each account and network, with a count; and
        raise the alarm for each account that was found changed from outside.

        Not written while the person waits: a name that somebody has would take longer than one that nobody has.
        """
        tampered, self._tampered = self._tampered, {}
        for account_id, error in tampered.items():
            await self._engine.raise_alarm(account_id, error)
        counted, self._refused = self._refused, Counter()
        for (account_id, network), failures in counted.items():

            def decide(account: Account | None, call: Call, *, ip: str = network, n: int = failures) -> Decision:
                if account is None:
                    return Decision(Done())
                return Decision(Done(), account, (call.event("password.refused", failures=n, network=ip),))

            await self._engine.decide(account_id, decide, Caller(PAGES))

    async def _open(self, account_id: str, answer: Answer, caller: Caller, next_path: str) -> Verified | Rejected:
        def decide(account: Account | None, call: Call) -> Decision:
            decision = verify_answer(
                account, Question(answer), call, factors=self._engine.factors, seals=self._engine.keys
            )
            if not isinstance(decision.outcome, Verified) or isinstance(decision.account, str):
                return decision
            return sign_in.begin_session(decision, decision.outcome, decision.account, call, next_path=next_path)

        return cast(Verified | Rejected, await self._engine.decide(account_id, decide, caller))

    async def _find_unfinished(self, account: Account) -> list[str]:
        """The addresses of the account's sign-ins that were begun and not completed."""
        return [session.ip for session in await self.list_sessions(account) if session.level != "full"]

    async def _find_account(self, name: str) -> tuple[str, Account | None]:
        """The account of a sign-in name: spelled like that, else as names made on these pages are."""
        folded = fold_name(name)
        exact = await self._load(name)
        if name == folded:
            return name, exact
        # Looked for in any case, so that nobody can tell by the work which of the two there is.
        as_made_here = await self._load(folded)
        return (name, exact) if exact is not None else (folded, as_made_here)

    async def _load(self, account_id: str) -> Account | None:
        """The account; none, to whoever gives a password, if it was changed from outside: no password is right for it,
        and only we are told why."""
        try:
            return await self._engine.load(account_id)
        except TamperedRecord as error:
            if len(self._tampered) < _COUNTED_MAX:
                self._tampered[account_id] = error
            return None

    async def _admit(self, name: str, guest: Guest, *, is_known: bool) -> Admitted | TooMany:
        """Count an attempt at the password of this (folded) name."""
        ip = guest.context.ip
        admitted = await self._limits.admit(
            name, ip, is_known=is_known, is_behind_unknown_proxy=guest.is_behind_unknown_proxy
        )
        if isinstance(admitted, TooMany):
            log_refusal(ip, "limit_network" if admitted.over == "network" else "limit_name")
        return admitted

    def _refuse_password(self, account: Account | None, ip: str | None) -> Rejected:
        """A wrong password: in the log now, among the events later (`record_refused`)."""
        log_refusal(ip, "wrong_password")
        if account is not None and len(self._refused) < _COUNTED_MAX:
            self._refused[account.id, "" if ip is None else network_of(ip)] += 1
        return Rejected("wrong_password")


def _address_of(guest: Guest) -> str | None:
    """Whom the pool of hashes takes for one neighbor; nobody, where all share the address of a proxy."""
    return None if guest.context.ip is None or guest.is_behind_unknown_proxy else network_of(guest.context.ip)


def make_name(name: str) -> str:
    """A sign-in name as these pages make it: folded, so that nobody can take one that differs in case or spaces only.

    Raises `InvalidInput`.
    """
    try:
        return check_account_id(fold_name(name.strip()))
    except InvalidInput as wrong:
        raise InvalidInput("name", wrong.expected) from None


def fold_name(name: str) -> str:
    """The one spelling of all names that differ only in case, or in how many spaces stand between their words: a page
    shows one. In NFC, for what folding leaves is not always in it."""
    single_spaced = re.sub(" +", " ", unicodedata.normalize("NFC", name))
    return unicodedata.normalize("NFC", single_spaced.casefold())


def spell_name(name: str) -> str:
    """A name as typed: without spaces around it, in NFC, and not longer than a name can be."""
    return unicodedata.normalize("NFC", name).strip()[:NAME_MAX]
