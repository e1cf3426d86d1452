"""Races over HTTP: two client processes with eight connections each send one secret at once, and one copy of it wins:
at one server over a file, and at three behind nginx over one PostgreSQL database.

Of sixteen copies eight may wait for an account; what comes beyond is turned away unjudged (429): nobody is let in by
that, and the secret stays good.
"""

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.postgres import PostgresServer
from tests.servers import Answer, Client, Clock, Phone, Server, running
from tests.stories.nodes import Nodes, running_nodes
from tests.stories.racers import Racers

from twofold.bootstrap import deployment
from twofold.config import Settings
from twofold.core.decision import Rejected, Verified
from twofold.errors import Busy
from twofold.testing import SoftwareAuthenticator

ORIGIN = "https://shop.example"
ROUNDS = 200
#: Three servers share the machine with the database here.
ROUNDS_OF_NODES = 25
TURNED_AWAY = (429, "throttled")
ALREADY_USED = (200, "code_already_used")


@pytest.fixture(scope="module", params=["one server", "three nodes"])
def settings(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> Iterator[Settings]:
    """Those of a library beside the servers; `database_url` is there where these are nodes."""
    if request.param == "one server":
        yield Settings(data_dir=folder / "data", test_clock=clock.path)
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        name = postgres.create_database()
        yield Settings(data_dir=folder / "node-0", test_clock=clock.path, database_url=postgres.url(name))
        postgres.drop_database(name)


@pytest.fixture(scope="module")
def server(settings: Settings, folder: Path, clock: Clock) -> Iterator[Server | Nodes]:
    if settings.database_url is None:
        with running(settings.data_dir, test_clock=str(clock.path)) as started:
            yield started
    else:
        with running_nodes(folder, test_clock=str(clock.path), database_url=settings.database_url) as nodes:
            yield nodes


@pytest.fixture(scope="module")
def rounds(server: Server | Nodes) -> int:
    return ROUNDS_OF_NODES if isinstance(server, Nodes) else ROUNDS


@pytest.fixture(scope="module")
def racers(server: Server | Nodes, api: Client) -> Iterator[Racers]:
    started = Racers(server, api)
    yield started
    started.close()


def find_winner(answers: Sequence[Answer], *, status: int = 200, lost: tuple[int, str]) -> Answer:
    """The one that won; all others lost in this way or were turned away."""
    winners = [a for a in answers if a.status == status and (a.body or {}).get("verified", True)]
    assert len(winners) == 1, answers
    assert {how_it_ended(a) for a in answers if a is not winners[0]} <= {lost, TURNED_AWAY}, answers
    return winners[0]


def how_it_ended(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.get("reason") or answer.body.get("code")


def race_one_code_after_the_other(api: Client, clock: Clock, racers: Racers, phone: Phone, rounds: int) -> None:
    for _ in range(rounds):
        clock.advance()
        answers = racers.post(f"/api/v1/accounts/{phone.account_id}/verify", {"code": phone.next_code(clock.now_s)})
        find_winner(answers, lost=ALREADY_USED)


@pytest.mark.parametrize("factor", ["totp", "hotp"])
def test_one_code_lets_one_of_sixteen_in(api: Client, clock: Clock, racers: Racers, factor: str, rounds: int) -> None:
    phone = api.import_phone(f"one-of-sixteen-{factor}", factor=factor)
    race_one_code_after_the_other(api, clock, racers, phone, rounds)


@pytest.mark.soak
def test_one_code_lets_one_of_sixteen_in_for_two_thousand_rounds(api: Client, clock: Clock, racers: Racers) -> None:
    race_one_code_after_the_other(api, clock, racers, api.import_phone("two-thousand-rounds"), 2_000)


def test_one_recovery_code_lets_one_of_sixteen_in(api: Client, clock: Clock, racers: Racers, rounds: int) -> None:
    # Fewer rounds: each answer that is judged costs a slow hash, and each set of ten codes costs ten of them.
    for number in range(max(1, rounds // 60)):
        account_id = f"recovering-{number}"
        _, recovery_codes = api.enroll_phone(account_id, clock.now_s)
        for left, code in zip(range(9, -1, -1), recovery_codes, strict=True):
            clock.advance()
            won = find_winner(racers.post(f"/api/v1/accounts/{account_id}/verify", {"code": code}), lost=ALREADY_USED)
            assert won.body["recovery_codes_left"] == left


def test_a_first_enrollment_is_confirmed_once_and_shows_one_set_of_recovery_codes(
    api: Client, clock: Clock, racers: Racers, rounds: int
) -> None:
    # Fewer rounds: each of them makes ten recovery codes, which are ten slow hashes.
    for number in range(max(2, rounds // 20)):
        path = f"/api/v1/accounts/first-{number}/authenticators"
        api.add_account(f"first-{number}")
        begun = api.call("POST", path, {"factor": "totp"}).body
        phone = Phone(f"first-{number}", begun["totp"]["secret"])
        answers = racers.post(f"{path}/{begun['id']}/confirm", {"code": phone.code(clock.now_s)})
        won = find_winner(answers, lost=(409, "conflict"))
        assert len(won.body["recovery_codes"]) == 10
        # The code that confirmed is used up with it.
        assert how_it_ended(api.verify(phone.account_id, phone.code(clock.now_s))) == ALREADY_USED


def test_a_further_enrollment_is_confirmed_once(api: Client, clock: Clock, racers: Racers, rounds: int) -> None:
    api.enroll_phone("further", clock.now_s)
    path = "/api/v1/accounts/further/authenticators"
    for _ in range(rounds):
        begun = api.call("POST", path, {"factor": "hotp"}).body
        code = Phone("further", begun["hotp"]["secret"], "hotp").next_code(clock.now_s)
        won = find_winner(racers.post(f"{path}/{begun['id']}/confirm", {"code": code}), lost=(409, "conflict"))
        assert won.body == {"id": begun["id"], "state": "active"}
        assert api.call("DELETE", f"{path}/{begun['id']}").status == 204


def test_a_step_up_receipt_allows_one_of_sixteen_changes(
    server: Server | Nodes, api: Client, clock: Clock, rounds: int
) -> None:
    phone = api.import_phone("stepping-up")
    path = "/api/v1/accounts/stepping-up/authenticators"
    removable = [api.import_another("stepping-up") for _ in range(16)]
    # The application that races must need the receipt: without the scope admin.
    with server.client(server.create_key("verify", "enroll")) as application:
        racers = Racers(server, application)
        for _ in range(rounds):
            clock.advance()
            receipt = application.verify("stepping-up", phone.code(clock.now_s), purpose="manage").body["receipt"]
            step_up = {"Twofold-Step-Up": receipt}
            answers = racers.send([("DELETE", f"{path}/{removed}", step_up, None) for removed in removable])
            won = find_winner(answers, status=204, lost=(403, "step_up_required"))
            removable[answers.index(won)] = api.import_another("stepping-up")
        racers.close()


def test_a_receipt_is_redeemed_by_one_of_sixteen(api: Client, clock: Clock, racers: Racers, rounds: int) -> None:
    phone = api.import_phone("redeeming")
    for _ in range(rounds):
        clock.advance()
        verified = api.verify("redeeming", phone.code(clock.now_s), purpose="pay", binding="order 7")
        body = {"receipt": verified.body["receipt"], "purpose": "pay", "binding": "order 7"}
        won = find_winner(racers.post("/api/v1/receipts/redeem", body), lost=(409, "receipt_used"))
        assert won.body["account_id"] == "redeeming"


def test_one_assertion_of_a_passkey_lets_one_of_sixteen_in(server: Server | Nodes, clock: Clock, rounds: int) -> None:
    authenticator = SoftwareAuthenticator()
    created = server.command("apikey", "create", "shop", "--origin", ORIGIN)
    with server.client(created.stdout.strip()) as application:
        add_passkey(application, "with-a-passkey", authenticator)
        racers = Racers(server, application)
        for _ in range(rounds):
            # An account remembers a few spent challenges, each until its time is over.
            clock.advance(60)
            path = "/api/v1/accounts/with-a-passkey/challenges"
            opened = application.call("POST", path, {"factor": "webauthn"})
            assertion = authenticator.answer(opened.body["prompt"]["public_key"], ORIGIN)
            body = {"challenge": opened.body["id"], "credential": assertion}
            find_winner(racers.post("/api/v1/challenges/answer", body), lost=(200, "challenge_used"))
        racers.close()


def add_passkey(application: Client, account_id: str, authenticator: SoftwareAuthenticator) -> None:
    application.add_account(account_id)
    path = f"/api/v1/accounts/{account_id}/authenticators"
    begun = application.call("POST", path, {"factor": "webauthn"})
    assert begun.status == 201, begun
    made = authenticator.register(begun.body["public_key"], ORIGIN)
    assert application.call("POST", f"{path}/{begun.body['id']}/confirm", {"credential": made}).status == 200


async def test_servers_and_a_library_on_one_database_let_one_of_them_in(
    settings: Settings, api: Client, clock: Clock, racers: Racers, rounds: int
) -> None:
    phone = api.import_phone("beside")
    path = "/api/v1/accounts/beside/verify"
    async with deployment(settings) as beside:

        async def verify(code: str) -> Verified | Rejected | Busy:
            try:
                outcome = await beside.verifier.verify("beside", code=code)
            except Busy as busy:
                return busy
            assert isinstance(outcome, Verified | Rejected)
            return outcome

        for _ in range(rounds):
            clock.advance()
            code = phone.code(clock.now_s)
            over_http = asyncio.to_thread(racers.post, path, {"code": code})
            answers, *outcomes = await asyncio.gather(over_http, *(verify(code) for _ in range(8)))
            winners = [a for a in answers if a.is_verified] + [o for o in outcomes if isinstance(o, Verified)]
            assert len(winners) == 1, (answers, outcomes)
            refused = {how_it_ended(a) for a in answers if a not in winners}
            assert refused <= {ALREADY_USED, TURNED_AWAY}
            assert {o.reason for o in outcomes if isinstance(o, Rejected)} <= {"code_already_used"}


def test_servers_and_command_lines_on_one_database_let_one_of_them_in(
    server: Server | Nodes, api: Client, clock: Clock, racers: Racers
) -> None:
    phone = api.import_phone("in-a-shell")
    for _ in range(5):
        clock.advance()
        code = phone.code(clock.now_s)
        shells = [server.command_process("account", "verify", "in-a-shell") for _ in range(2)]
        answers = racers.post("/api/v1/accounts/in-a-shell/verify", {"code": code})
        statuses = [_type_in(shell, code) for shell in shells]
        assert sum(a.is_verified for a in answers) + statuses.count(0) == 1, (answers, statuses)
        assert set(statuses) <= {0, 1}


def _type_in(shell: "subprocess.Popen[str]", code: str) -> int:
    said, _ = shell.communicate(code + "\n", timeout=30)
    assert said.count("\n") == 1, "one line in every case"
    return shell.returncode


def test_no_more_of_two_hundred_wrong_codes_are_judged_than_the_lane_allows(
    server: Server | Nodes, settings: Settings, api: Client, clock: Clock
) -> None:
    phone = api.import_phone("guessed-at")
    path = "/api/v1/accounts/guessed-at/verify"
    racers = Racers(server, api, connections=100)
    browser = api.verify("guessed-at", phone.code(clock.now_s)).body["browser"]

    def guess() -> int:
        """How many of two hundred different wrong codes at one moment were judged."""
        before = count_refusals(settings, "guessed-at")
        near = {phone.code(clock.now_s + steps * 30) for steps in range(-30, 31)}
        wrong = [code for code in (f"{number:06}" for number in range(1_000)) if code not in near][: racers.size]
        answers = racers.send([("POST", path, {}, {"code": code}) for code in wrong])
        assert {how_it_ended(a) for a in answers} <= {(200, "wrong_code"), TURNED_AWAY}
        judged = count_refusals(settings, "guessed-at") - before
        assert sum(a.status == 200 for a in answers) == judged
        return judged

    # The first two failures cause no delay; the third one does, and the clock stands still.
    assert guess() == 3
    # From then on one at a time, until a budget of 30 ppm is spent at 3 ppm for each guess.
    for _ in range(7):
        clock.advance(90)
        assert guess() == 1
    clock.advance(90)
    assert guess() == 0
    throttled = api.verify("guessed-at", phone.code(clock.now_s))
    assert throttled.status == 429
    assert throttled.body["ways"] == ["known_browser", "three_codes"]
    # All of that was in new browsers: the owner's own one has a lane of its own.
    assert api.verify("guessed-at", phone.code(clock.now_s), context={"browser": browser}).is_verified
    racers.close()


def count_refusals(settings: Settings, account_id: str) -> int:
    """Judged answers that failed, as the audit log has them."""

    async def count() -> int:
        async with deployment(settings) as beside:
            events = await beside.verifier.accounts.events(account_id)
            return sum(event.kind == "code.refused" for event in events)

    return asyncio.run(count())
