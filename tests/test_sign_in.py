"""The steps of signing in with what is around them: hashes, limits, rows, events. The decisions are in tests/core."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.deployments import add_phone, open_for_test
from tests.kit import Phone, SetClock, reason_of, wrong_code

from twofold.bootstrap import Deployment
from twofold.core.attempt import Context
from twofold.core.decision import Rejected, Verified
from twofold.core.session import SEEN_EVERY_S, SESSION_IDLE_TTL_S, SESSIONS_MAX, digest_token
from twofold.core.sign_in import Bearer
from twofold.engine import Caller, NotProven
from twofold.errors import InvalidInput, Refused
from twofold.sign_in import Guest, SignIn, make_name
from twofold.sign_in_limits import KNOWN_PER_WINDOW, NAME_NETWORK_PER_WINDOW, TooMany

PASSWORD = "correct horse battery"
HERE = Guest(Context("192.0.2.7", "Mozilla/5.0 (X11; Linux) Firefox/140.0"))
ELSEWHERE = Guest(Context("198.51.100.9", "Mozilla/5.0 (Macintosh) Version/18 Safari/600"))


class House:
    """A deployment with alice in it, her phone, and a clock."""

    def __init__(self, deployment: Deployment, clock: SetClock, phone: Phone) -> None:
        self.deployment = deployment
        self.clock = clock
        self.phone = phone
        self.hashes = 0
        #: Whether each of them waited in the line of known browsers.
        self.lines: list[bool] = []
        pool_run = deployment.verifier._engine.pool.run

        async def run(work: Any, **options: Any) -> Any:
            self.hashes += 1
            self.lines.append(options.get("is_known", False))
            return await pool_run(work, **options)

        deployment.verifier._engine.pool.run = run  # type: ignore[method-assign]

    @property
    def sign_in(self) -> SignIn:
        return self.deployment.sign_in

    async def give_password(self, name: str = "alice", password: str = PASSWORD, guest: Guest = HERE) -> Any:
        return await self.sign_in.begin(name, password, guest)

    async def bearer(self, token: str, guest: Guest = HERE) -> Bearer:
        found = await self.sign_in.find(token, guest.context.user_agent)
        assert isinstance(found, tuple), found
        return found[0]

    async def caller(self, token: str, code: str | None = None) -> Caller:
        bearer = await self.bearer(token)
        proof = None if code is None else await self.sign_in.prepare_proof(bearer, code, "test", HERE.context)
        return Caller(f"pages:{bearer.session.id}", context=HERE.context, session=bearer, proof=proof)

    async def give_code(self, token: str) -> str:
        """The second step with the next code; the token of the full session."""
        self.clock.advance(30)
        outcome = await self.deployment.verifier.verify(
            "alice", code=self.phone.code(self.clock.now()), caller=await self.caller(token)
        )
        assert isinstance(outcome, Verified)
        assert outcome.session is not None
        return outcome.session

    async def enter(self) -> str:
        """Both steps."""
        return await self.give_code((await self.give_password()).session)

    async def kinds(self, account_id: str = "alice") -> list[str]:
        return [event.kind for event in await self.deployment.verifier.accounts.events(account_id)]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = SetClock()
    deployment = await open_for_test(tmp_path, clock)
    await deployment.verifier.accounts.put("alice")
    await deployment.verifier.accounts.set_password("alice", PASSWORD)
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    yield House(deployment, clock, phone)
    await deployment.close()


def holds(folder: Path, text: str) -> bool:
    """Whether any file of the folder has this text in it."""
    return any(text.encode() in file.read_bytes() for file in folder.iterdir())


# The password.


async def test_a_right_password_and_a_right_code_open_a_session(house: House) -> None:
    pending = await house.give_password()
    assert isinstance(pending, Verified)
    assert pending.session is not None
    assert (await house.bearer(pending.session)).session.level == "pending"
    full = await house.give_code(pending.session)
    assert (await house.bearer(full)).session.level == "full"
    assert await house.sign_in.find(pending.session, HERE.context.user_agent) is None, "the old token is dead"


async def test_a_name_in_capitals_is_the_one_made_on_these_pages_unless_there_is_another(house: House) -> None:
    assert isinstance(await house.give_password(" ALICE "), Verified)
    await house.deployment.verifier.accounts.put("Alice")
    assert await house.give_password("Alice") == Rejected("wrong_password"), "it has no password"
    assert isinstance(await house.give_password("ALICE"), Verified)


@pytest.mark.parametrize("typed", ["J\u030cANE", "J\u030cane", "j\u030cane", "\u01f0ane"])
async def test_a_name_is_found_however_its_letters_and_marks_are_composed(house: House, typed: str) -> None:
    await house.deployment.administration.invite("J\u030cane", caller=Caller(is_admin=True))
    await house.deployment.verifier.accounts.set_password("\u01f0ane", PASSWORD)
    assert isinstance(await house.give_password(typed), Verified)
    assert await house.give_password(typed, "wrong") == Rejected("wrong_password")
    assert await house.give_password("jane") == Rejected("wrong_password"), "a mark makes another name"


async def test_by_which_hash_waits_for_which_one_cannot_tell_how_a_name_is_spelled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.deployment.verifier.accounts.put("Carol")
    await house.deployment.verifier.accounts.set_password("Carol", PASSWORD)
    pool, waiting = house.deployment.verifier._engine.pool, []
    pool_run = pool.run

    async def run(work: Any, **options: Any) -> Any:
        waiting.append(options["account_id"])
        return await pool_run(work, **options)

    monkeypatch.setattr(pool, "run", run)
    assert isinstance(await house.give_password("Carol"), Verified)
    for name in ("Carol", "carol", "NOBODY", "nobody"):
        assert await house.give_password(name, "wrong") == Rejected("wrong_password")
    assert waiting == ["carol"] * 3 + ["nobody"] * 2


async def test_an_account_changed_from_outside_looks_like_a_wrong_password_and_raises_the_alarm(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await house.deployment.verifier.accounts.put("bob")
    await house.deployment.verifier.accounts.set_password("bob", PASSWORD)
    row = "UPDATE accounts SET version = version + ? WHERE id = 'alice'"
    with sqlite3.connect(tmp_path / "twofold.db") as database:
        database.execute(row, (1,))
    before = house.hashes
    for name in ("alice", "Alice"):
        assert await house.give_password(name) == Rejected("wrong_password")
    assert house.hashes == before + 2
    assert await house.kinds("") == [], "nobody waits for the alarm to be written"
    await house.sign_in.record_refused()
    assert await house.kinds("") == ["account.tampered"]
    assert "ALARM account='alice'" in caplog.text
    assert isinstance(await house.give_password("bob"), Verified)
    with sqlite3.connect(tmp_path / "twofold.db") as database:
        database.execute(row, (-1,))
    assert isinstance(await house.give_password(), Verified)
    await house.sign_in.record_refused()
    assert await house.kinds("") == ["account.tampered"]


@pytest.mark.parametrize(
    ("name", "password"), [("alice", "wrong"), ("nobody", PASSWORD), ("bob", PASSWORD), ("no/name", PASSWORD)]
)
async def test_trap_55_wrong_unknown_and_without_a_password_end_alike_and_cost_one_hash(
    house: House, name: str, password: str
) -> None:
    await house.deployment.verifier.accounts.put("bob")
    before = house.hashes
    assert await house.give_password(name, password) == Rejected("wrong_password")
    assert house.hashes == before + 1


async def test_an_overlong_password_is_refused_for_every_name_and_costs_no_hash(house: House) -> None:
    for name in ("alice", "nobody"):
        with pytest.raises(InvalidInput, match="password"):
            await house.give_password(name, "x" * 129)
    assert house.hashes == 0


async def test_wrong_passwords_are_one_event_a_minute_for_each_network_and_none_while_one_waits(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    before = await house.kinds()
    with caplog.at_level(logging.INFO, logger="twofold.sign_in"):
        for guest in (HERE, HERE, ELSEWHERE):
            await house.give_password(password="wrong", guest=guest)
        await house.give_password("nobody", "wrong")
    assert await house.kinds() == before
    await house.sign_in.record_refused()
    events = (await house.deployment.verifier.accounts.events("alice"))[len(before) :]
    payloads = [msgspec.json.decode(event.payload or b"") for event in events]
    assert [event.kind for event in events] == ["password.refused"] * 2
    assert {(payload["network"], payload["failures"]) for payload in payloads} == {
        ("192.0.2.7/32", 2),
        ("198.51.100.9/32", 1),
    }
    assert await house.deployment.verifier.accounts.events("nobody") == []
    await house.sign_in.record_refused()
    assert len(await house.kinds()) == len(before) + 2
    assert caplog.records[0].getMessage() == "refused sign-in from 192.0.2.7: wrong_password"
    assert not any("alice" in record.getMessage() for record in caplog.records)


async def test_the_limit_of_a_name_and_network_stops_neither_its_owner_elsewhere_nor_in_a_known_browser(
    house: House,
) -> None:
    pending = await house.give_password()
    house.clock.advance(30)
    code = house.phone.code(house.clock.now())
    verified = await house.deployment.verifier.verify("alice", code=code, caller=await house.caller(pending.session))
    assert isinstance(verified, Verified)
    for _ in range(NAME_NETWORK_PER_WINDOW):
        assert await house.give_password(password="wrong") == Rejected("wrong_password")
    hashes = house.hashes
    assert isinstance(await house.give_password(), TooMany)
    assert house.hashes == hashes, "nothing is hashed beyond the limit"
    known = Guest(Context(HERE.context.ip, HERE.context.user_agent, verified.browser))
    assert isinstance(await house.give_password(guest=known), Verified)
    assert isinstance(await house.give_password(guest=ELSEWHERE), Verified)


async def test_whoever_has_the_password_alone_begins_few_sign_ins_and_pushes_out_none_of_the_owner(
    house: House,
) -> None:
    token = (await house.give_password(guest=ELSEWHERE)).session
    outcomes = [await house.give_password() for _ in range(SESSIONS_MAX)]
    begun = [outcome for outcome in outcomes if isinstance(outcome, Verified)]
    assert len(begun) == 1 + NAME_NETWORK_PER_WINDOW
    assert isinstance(outcomes[-1], TooMany)
    assert (await house.bearer(token, ELSEWHERE)).session.level == "pending"
    assert isinstance(await house.give_password(guest=ELSEWHERE), Verified)


async def test_who_completes_each_sign_in_may_do_so_as_often_as_she_likes(house: House) -> None:
    for _ in range(2 * NAME_NETWORK_PER_WINDOW):
        assert (await house.bearer(await house.enter())).session.level == "full"
    # Some that were begun and left, as in private windows that were closed, change nothing about that.
    for _ in range(NAME_NETWORK_PER_WINDOW // 2):
        await house.give_password()
    assert (await house.bearer(await house.enter())).session.level == "full"


async def test_in_a_known_browser_sign_ins_that_were_left_are_not_counted(house: House) -> None:
    token = (await house.give_password()).session
    house.clock.advance(30)
    code = house.phone.code(house.clock.now())
    verified = await house.deployment.verifier.verify("alice", code=code, caller=await house.caller(token))
    assert isinstance(verified, Verified)
    known = Guest(Context(HERE.context.ip, HERE.context.user_agent, verified.browser))
    outcomes = [await house.give_password(guest=known) for _ in range(2 * KNOWN_PER_WINDOW)]
    assert all(isinstance(outcome, Verified) for outcome in outcomes)


async def test_only_a_known_browser_passes_from_a_network_that_is_refused(house: House) -> None:
    blocked = msgspec.structs.replace(HERE, blocked_for_s=60)
    assert await house.give_password(guest=blocked) == TooMany(60, "network")
    token = (await house.give_password()).session
    house.clock.advance(30)
    code = house.phone.code(house.clock.now())
    verified = await house.deployment.verifier.verify("alice", code=code, caller=await house.caller(token))
    assert isinstance(verified, Verified)
    known = Guest(Context(HERE.context.ip, HERE.context.user_agent, verified.browser), blocked_for_s=60)
    assert isinstance(await house.give_password(guest=known), Verified)


async def test_that_an_account_is_disabled_is_told_after_the_right_password_only(house: House) -> None:
    await house.deployment.verifier.accounts.record_event("alice", "disabled")
    assert await house.give_password(password="wrong") == Rejected("wrong_password")
    with pytest.raises(Refused) as refused:
        await house.give_password()
    assert refused.value.code == "disabled"


async def test_the_password_of_somebody_signed_in_is_asked_under_the_same_limits(house: House) -> None:
    bearer = await house.bearer(await house.enter())
    assert await house.sign_in.check_current_password(bearer, PASSWORD, HERE) is None
    assert await house.sign_in.check_current_password(bearer, "wrong", HERE) == Rejected("wrong_password")
    outcomes = [await house.sign_in.check_current_password(bearer, "wrong", HERE) for _ in range(120)]
    assert isinstance(outcomes[-1], TooMany)


async def test_one_refusal_is_one_line_in_the_log_wherever_the_password_is_asked(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    bearer = await house.bearer(await house.enter())
    caplog.set_level(logging.INFO, logger="twofold.sign_in")
    await house.sign_in.check_current_password(bearer, PASSWORD, HERE)
    assert caplog.messages == []
    await house.sign_in.check_current_password(bearer, "wrong", HERE)
    assert caplog.messages == ["refused sign-in from 192.0.2.7: wrong_password"]


# Sessions.


async def test_asvs_7_2_3_only_a_digest_of_the_token_is_kept(house: House, tmp_path: Path) -> None:
    token = await house.enter()
    assert len(token) == 43
    await house.deployment.close()
    assert not holds(tmp_path, token)


async def test_another_kind_of_browser_with_the_same_token_is_nobody(house: House) -> None:
    token = await house.enter()
    assert await house.sign_in.find(token, ELSEWHERE.context.user_agent) is None
    newer = "Mozilla/5.0 (X11; Linux) Firefox/141.0"
    assert isinstance(await house.sign_in.find(token, newer), tuple)
    assert await house.sign_in.find("guess", HERE.context.user_agent) is None


async def test_asvs_7_3_1_a_session_lives_on_while_it_is_used(house: House) -> None:
    token = await house.enter()
    for _ in range(3):
        house.clock.advance(SESSION_IDLE_TTL_S - 1)
        await house.bearer(token)
    house.clock.advance(SESSION_IDLE_TTL_S)
    assert await house.sign_in.find(token, HERE.context.user_agent) == "idle"


async def test_a_look_is_written_down_once_a_minute(house: House) -> None:
    token = await house.enter()
    store = house.deployment.store
    began = (await house.bearer(token)).session.seen_at
    house.clock.advance(SEEN_EVERY_S - 1)
    await house.bearer(token)
    kept = await store.find_session(digest_token(token))
    assert kept is not None
    assert kept.seen_at == began
    house.clock.advance(1)
    await house.bearer(token)
    kept = await store.find_session(digest_token(token))
    assert kept is not None
    assert kept.seen_at == house.clock.now()


async def test_asvs_7_5_2_sessions_are_listed_and_ended_one_or_all_but_this(house: House) -> None:
    first, second, third = [await house.enter() for _ in range(3)]
    account = await house.deployment.store.load("alice")
    assert account is not None
    assert len(await house.sign_in.list_sessions(account)) == 3
    own = (await house.bearer(third)).session
    other = (await house.bearer(first)).session
    await house.sign_in.end_sessions("alice", await house.caller(third), ids=(other.id,))
    assert await house.sign_in.find(first, HERE.context.user_agent) is None
    await house.bearer(second)
    await house.sign_in.end_sessions("alice", await house.caller(third), but=own.id)
    assert await house.sign_in.find(second, HERE.context.user_agent) is None
    await house.bearer(third)


async def test_a_step_on_a_session_that_was_ended_meanwhile_opens_none(house: House) -> None:
    full = await house.enter()
    pending = (await house.give_password()).session
    caller = await house.caller(pending)
    own = (await house.bearer(full)).session
    await house.sign_in.end_sessions("alice", await house.caller(full), but=own.id)
    house.clock.advance(30)
    outcome = await house.deployment.verifier.verify("alice", code=house.phone.code(house.clock.now()), caller=caller)
    assert isinstance(outcome, Verified)
    assert outcome.session is not None
    assert await house.sign_in.find(outcome.session, HERE.context.user_agent) is None


async def test_trap_1_of_many_sign_ins_at_once_with_one_code_one_comes_in(house: House) -> None:
    guests = [Guest(Context(f"192.0.2.{n}", HERE.context.user_agent)) for n in range(1, 9)]
    tokens = [(await house.give_password(guest=guest)).session for guest in guests]
    house.clock.advance(30)
    code = house.phone.code(house.clock.now())
    callers = [await house.caller(token) for token in tokens]
    outcomes = await asyncio.gather(
        *(house.deployment.verifier.verify("alice", code=code, caller=caller) for caller in callers)
    )
    assert sum(isinstance(outcome, Verified) for outcome in outcomes) == 1
    levels = [await house.sign_in.find(t, HERE.context.user_agent) for t in tokens]
    assert sum(isinstance(found, tuple) for found in levels) == 7, "the others are still pending"


async def test_a_session_row_that_was_changed_from_outside_is_none(house: House, tmp_path: Path) -> None:
    token = await house.enter()
    with sqlite3.connect(tmp_path / "twofold.db") as connection:
        connection.execute("UPDATE sessions SET document = zeroblob(20)")
    assert await house.sign_in.find(token, HERE.context.user_agent) is None


# A fresh second factor.


async def test_a_proof_is_judged_with_what_it_is_for(house: House) -> None:
    token = await house.enter()
    account = await house.deployment.store.load("alice")
    assert account is not None
    codes_id = next(a.id for a in account.authenticators if a.factor == "recovery_codes")
    wrong = wrong_code(house.phone, house.clock.now())
    with pytest.raises(NotProven) as refused:
        await house.deployment.verifier.revoke("alice", codes_id, caller=await house.caller(token, wrong))
    assert isinstance(refused.value.outcome, Rejected)
    assert reason_of(refused.value.outcome) == "wrong_code"
    house.clock.advance(30)
    right = house.phone.code(house.clock.now())
    done = await house.deployment.verifier.revoke("alice", codes_id, caller=await house.caller(token, right))
    assert done.session is not None
    await house.bearer(done.session)
    assert await house.sign_in.find(token, HERE.context.user_agent) is None


async def test_a_recovery_code_proves_too(house: House) -> None:
    token = await house.enter()
    house.clock.advance(30)
    code = house.phone.code(house.clock.now())
    renewed = await house.deployment.verifier.renew_recovery_codes("alice", caller=await house.caller(token, code))
    assert renewed.session is not None
    recovery_code = renewed.recovery_codes[0]
    done = await house.sign_in.prove(
        await house.bearer(renewed.session), await house.caller(renewed.session, recovery_code)
    )
    assert done.session is not None
    with pytest.raises(NotProven):
        await house.sign_in.prove(await house.bearer(done.session), await house.caller(done.session, recovery_code))


async def test_only_a_known_browser_waits_in_the_line_of_known_ones_when_a_session_proves_something(
    house: House,
) -> None:
    pending = await house.give_password()
    house.clock.advance(30)
    code = house.phone.code(house.clock.now())
    verified = await house.deployment.verifier.verify("alice", code=code, caller=await house.caller(pending.session))
    assert isinstance(verified, Verified)
    assert verified.session is not None
    bearer = await house.bearer(verified.session)
    house.clock.advance(30)
    caller = await house.caller(verified.session, house.phone.code(house.clock.now()))
    recovery_code = (await house.deployment.verifier.renew_recovery_codes("alice", caller=caller)).recovery_codes[0]
    for browser, is_known in ((None, False), ("another", False), (verified.browser, True)):
        guest = Guest(Context(HERE.context.ip, HERE.context.user_agent, browser))
        house.lines.clear()
        assert await house.sign_in.check_current_password(bearer, PASSWORD, guest) is None
        await house.sign_in.prepare_proof(bearer, recovery_code, "test", guest.context)
        assert house.lines == [is_known, is_known]


# Links and names.


async def test_looking_at_a_link_does_not_use_it_up_and_using_it_signs_in_once(house: House) -> None:
    token = await house.deployment.administration.reset_with_link("alice")
    account, link = await house.sign_in.find_link(token)
    assert (account.id, link.purpose) == ("alice", "reset")
    done = await house.sign_in.use_link(token, "", HERE)
    assert done.session is not None
    assert (await house.bearer(done.session)).session.level == "enrolling"
    for again in (token, "nonsense", "bm9ib2R5.guess"):
        with pytest.raises(Refused):
            await house.sign_in.use_link(again, "", HERE)


async def test_a_weak_password_is_refused_and_leaves_the_link_good(house: House) -> None:
    _, token = await house.deployment.administration.invite("Bob", caller=Caller(is_admin=True))
    with pytest.raises(InvalidInput, match="well-known"):
        await house.sign_in.use_link(token, "password", HERE)
    done = await house.sign_in.use_link(token, PASSWORD, HERE)
    assert done.session is not None
    assert isinstance(await house.give_password("bob"), Verified)


async def test_the_first_administrator_is_asked_for_a_second_factor_before_there_is_one(house: House) -> None:
    assert not await house.deployment.administration.has_administrator()
    done = await house.sign_in.make_first_administrator("Root", PASSWORD, HERE)
    assert done.session is not None
    assert (await house.bearer(done.session)).session.level == "enrolling"
    assert not await house.deployment.administration.has_administrator()


async def test_a_browser_is_forgotten(house: House) -> None:
    token = await house.enter()
    account = await house.deployment.store.load("alice")
    assert account is not None
    (browser,) = account.known_browsers
    await house.sign_in.forget_browser("alice", browser.id, await house.caller(token))
    account = await house.deployment.store.load("alice")
    assert account is not None
    assert account.known_browsers == ()


async def test_spaces_within_a_name_count_once_for_pages_show_no_more(house: House) -> None:
    await house.deployment.administration.invite("Ann  Lee", caller=Caller(is_admin=True))
    await house.deployment.verifier.accounts.set_password("ann lee", PASSWORD)
    for typed in ("ann lee", "ann  lee", " Ann   Lee "):
        assert isinstance(await house.give_password(typed), Verified), typed
    assert await house.give_password("annlee") == Rejected("wrong_password"), "no space is another name"
    # One that an application spells with two is still found as it is spelled.
    await house.deployment.verifier.accounts.put("cy  doe")
    await house.deployment.verifier.accounts.set_password("cy  doe", PASSWORD)
    assert isinstance(await house.give_password("cy  doe"), Verified)


@pytest.mark.parametrize(
    ("typed", "name"),
    [(" Ada ", "ada"), ("STRASSE", "strasse"), ("Jürgen", "jürgen"), ("Ann   van  Lee", "ann van lee")],
)
def test_names_are_made_in_one_spelling(typed: str, name: str) -> None:
    assert make_name(typed) == name


@pytest.mark.parametrize("typed", ["", "  ", "a/b", "x" * 129, "a\nb", "a\tb", "a\u00a0b"])
def test_what_cannot_be_a_name_is_told_at_its_field(typed: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        make_name(typed)
