"""Ten thousand passwords against fifty names from twenty addresses: what an attacker gets, and who still gets in."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from tests.deployments import add_phone, open_for_test
from tests.kit import Phone, SetClock

from twofold.bootstrap import Deployment
from twofold.hash_pool import HashPool
from twofold.server.app import create_app
from twofold.sign_in_limits import NAME_NETWORK_PER_WINDOW, NETWORK_PER_WINDOW, WINDOW_S

URL = "http://localhost:8000"
PROXY = "127.0.0.1"
WINDOW_START_S = 1_700_000_100
PASSWORD = "a sentence that nobody guesses"


class Browser:
    """A browser somewhere in the world, behind the proxy of this deployment."""

    def __init__(self, app: Any, address: str, *, cookies: httpx.Cookies | None = None) -> None:
        transport = httpx.ASGITransport(app, client=(PROXY, 4000))
        self.http = httpx.AsyncClient(
            transport=transport,
            base_url=URL,
            headers={"x-forwarded-for": f"192.0.2.200, {address}"},
            cookies=cookies,
            trust_env=False,
        )
        self._csrf = ""

    async def open(self, path: str) -> httpx.Response:
        """Open a page, and remember the token of its forms."""
        answer = await self.http.get(path)
        token = re.search(r'name="csrf" value="([^"]+)"', answer.text)
        self._csrf = token[1] if token else self._csrf
        return answer

    async def send(self, path: str, **fields: str) -> httpx.Response:
        """Send a form of the page opened last."""
        return await self.http.post(path, data={"csrf": self._csrf, **fields})

    async def guess(self, name: str, password: str) -> httpx.Response:
        """One more password from the same page."""
        if not self._csrf:
            assert (await self.open("/sign-in")).status_code == 200
        return await self.send("/sign-in", name=name, password=password)


class World:
    """A deployment behind a proxy, people with passwords and phones, and every hash that is computed."""

    def __init__(self, deployment: Deployment, clock: SetClock) -> None:
        self.deployment = deployment
        self.clock = clock
        self.app = create_app(deployment, clock=lambda: clock.now_s)
        self.hashes = 0
        self._browsers: list[Browser] = []

    def browser(self, address: str, *, like: Browser | None = None) -> Browser:
        """A new browser at this address, or one that was carried there with its cookies."""
        self._browsers.append(Browser(self.app, address, cookies=like and like.http.cookies))
        return self._browsers[-1]

    async def add(self, name: str, *, has_password: bool = True, has_phone: bool = True) -> "Person":
        verifier = self.deployment.verifier
        await verifier.accounts.put(name)
        if has_password:
            await verifier.accounts.set_password(name, PASSWORD)
        phone = (await add_phone(verifier, name, self.clock))[0] if has_phone else None
        return Person(name, phone, self.clock)

    async def close(self) -> None:
        for browser in self._browsers:
            await browser.http.aclose()
        await self.deployment.close()


class Person(NamedTuple):
    """Somebody who knows her password and has her phone."""

    name: str
    phone: Phone | None
    clock: SetClock

    async def sign_in(self, browser: Browser) -> None:
        """From the first page to one that nobody sees who is not signed in."""
        assert self.phone is not None
        assert (await browser.open("/sign-in")).status_code == 200
        answer = await browser.send("/sign-in", name=self.name, password=PASSWORD)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in/code"), answer.text
        assert (await browser.open("/sign-in/code")).status_code == 200
        answer = await browser.send("/sign-in/code", code=self.phone.code(self.clock.now()))
        assert answer.status_code == 303, answer.text
        assert (await browser.open("/sign-out")).status_code == 200

    async def sign_out(self, browser: Browser) -> None:
        await browser.open("/sign-out")
        assert (await browser.send("/sign-out")).headers["location"] == "/sign-in?signed-out=1"


@pytest.fixture
def clock() -> SetClock:
    return SetClock(WINDOW_START_S)


OpenWorld = Callable[..., Awaitable[World]]


@pytest.fixture
async def open_world(tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenWorld]:
    """Give a function from settings to a world."""
    worlds: list[World] = []
    run = HashPool.run

    async def run_counted(pool: HashPool, work: Callable[[], Any], **options: Any) -> Any:
        def counted() -> Any:
            worlds[0].hashes += 1
            return work()

        return await run(pool, counted, **options)

    async def open_one(**settings: Any) -> World:
        worlds.append(World(await open_for_test(tmp_path / "data", clock, public_url=URL, **settings), clock))
        return worlds[0]

    monkeypatch.setattr(HashPool, "run", run_counted)
    yield open_one
    for opened in worlds:
        await opened.close()


@pytest.fixture
async def world(open_world: OpenWorld) -> World:
    """A deployment that knows its proxy."""
    return await open_world(trusted_proxies=PROXY)


@pytest.fixture
def refusals(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Give a function to the reasons of the refusals that were logged."""
    caplog.set_level("INFO", "twofold.sign_in")

    def reasons() -> list[str]:
        return [message.rpartition(": ")[2] for message in caplog.messages if message.startswith("refused sign-in")]

    return reasons


def begin_window(clock: SetClock) -> None:
    """Wait for the next quarter of an hour."""
    clock.advance(WINDOW_S - clock.now_s % WINDOW_S)


async def exhaust(attacker: Browser) -> httpx.Response:
    """Guess until the network is refused: the answer that says so."""
    for number in range(NETWORK_PER_WINDOW):
        assert (await attacker.guess(f"name-{number}", "wrong")).status_code == 401
    return await attacker.guess("name", "wrong")


async def test_asvs_6_3_1_ten_thousand_passwords_get_what_the_limits_allow_and_people_get_in(
    world: World, clock: SetClock, refusals: Callable[[], list[str]]
) -> None:
    addresses = [f"203.0.113.{number}" for number in range(1, 21)]
    people = [await world.add(f"name-{number}", has_phone=number < 2) for number in range(25)]
    owner, bystander = people[:2]
    names = [person.name for person in people] + [f"nobody-{number}" for number in range(25)]
    owner_browser, attackers = world.browser(addresses[0]), [world.browser(address) for address in addresses]
    await owner.sign_in(owner_browser)
    await owner.sign_out(owner_browser)
    begin_window(clock)
    began_at_s, people_hashed, guesses, statuses = clock.now_s, 0, 0, []

    async def let_people_in() -> int:
        before = world.hashes
        clock.advance(30)
        await owner.sign_in(owner_browser)
        await owner.sign_out(owner_browser)
        await bystander.sign_in(world.browser("198.51.100.7"))
        return world.hashes - before

    world.hashes = 0
    for number in range(10):
        for turn, _ in enumerate(names):
            # Each address is at another name, or the hash of a name that is under way would hold the others back.
            batch = [
                attacker.guess(names[(turn + place) % len(names)], f"wrong {number} {place}")
                for place, attacker in enumerate(attackers)
            ]
            answers = await asyncio.gather(*batch)
            statuses += [answer.status_code for answer in answers]
            guesses += len(batch)
        people_hashed += await let_people_in()

    assert clock.now_s - began_at_s < WINDOW_S
    assert guesses == 10_000
    allowed = len(addresses) * min(NETWORK_PER_WINDOW, len(names) * NAME_NETWORK_PER_WINDOW)
    assert world.hashes - people_hashed == allowed == 2000
    assert (statuses.count(401), statuses.count(429)) == (allowed, guesses - allowed)
    assert people_hashed == 10 * 2
    reasons = refusals()
    assert (len(reasons), reasons.count("wrong_password")) == (guesses, allowed)
    assert reasons.count("limit_network") == len(addresses)
    assert reasons.count("blocked") == guesses - allowed - len(addresses)
    assert len(await world.deployment.networks.list()) == len(addresses)


async def test_one_name_is_tried_ten_times_from_a_network_and_again_after_the_window(
    world: World, clock: SetClock
) -> None:
    attacker = world.browser("203.0.113.9")
    clock.advance(100)
    statuses = [(await attacker.guess("alice", "wrong")).status_code for _ in range(15)]
    assert statuses == [401] * NAME_NETWORK_PER_WINDOW + [429] * 5
    refused = await attacker.guess("alice", "wrong")
    assert refused.headers["retry-after"] == str(WINDOW_S - 100)
    assert (await attacker.guess("bob", "wrong")).status_code == 401
    assert (await world.browser("203.0.113.10").guess("alice", "wrong")).status_code == 401
    assert world.hashes == NAME_NETWORK_PER_WINDOW + 2
    clock.advance(WINDOW_S - 100)
    assert (await attacker.guess("alice", "wrong")).status_code == 401


async def test_blocks_of_a_network_grow_from_a_quarter_of_an_hour_to_a_day(world: World, clock: SetClock) -> None:
    attacker, neighbor = world.browser("203.0.113.9"), world.browser("203.0.113.10")
    lengths = []
    for _ in range(9):
        begin_window(clock)
        refused = await exhaust(attacker)
        assert refused.status_code == 429
        lengths.append(int(refused.headers["retry-after"]))
        clock.advance(lengths[-1] - 1)
        for path in ("/sign-in", "/sign-in/help", "/setup?token=x", "/link?token=x", "/"):
            assert (await attacker.open(path)).status_code == 429
            assert (await neighbor.open(path)).status_code != 429
        assert (await attacker.guess("alice", "wrong")).status_code == 429
        clock.advance(1)
        assert (await attacker.open("/sign-in")).status_code == 200
    assert lengths == [900, 1800, 3600, 7200, 14400, 28800, 57600, 86400, 86400]
    assert world.hashes == 9 * NETWORK_PER_WINDOW


async def test_whoever_is_signed_in_goes_on_in_a_network_that_is_refused(world: World, clock: SetClock) -> None:
    person = await world.add("ada")
    inside, attacker, stranger = (world.browser("203.0.113.9") for _ in range(3))
    await person.sign_in(inside)
    begin_window(clock)
    assert (await exhaust(attacker)).status_code == 429
    assert (await stranger.open("/sign-in")).status_code == 429
    assert (await inside.open("/security")).status_code == 200
    assert (await inside.open("/security/activity")).status_code == 200
    # And so she does anywhere else; and signed out, with a browser that is known, she gets in again.
    await person.sign_out(inside)
    clock.advance(30)
    await person.sign_in(inside)


async def test_a_cookie_that_only_looks_known_gets_no_hash_in_a_network_that_is_refused(
    world: World, clock: SetClock, refusals: Callable[[], list[str]]
) -> None:
    person = await world.add("ada")
    begin_window(clock)
    attacker = world.browser("203.0.113.9")
    await exhaust(attacker)
    attacker.http.cookies.set("twofold-known", "A" * 43)
    world.hashes = 0
    assert (await attacker.guess(person.name, PASSWORD)).status_code == 429
    assert world.hashes == 0
    assert refusals()[NETWORK_PER_WINDOW:] == ["limit_network", "blocked"]


async def test_trap_36_an_address_that_only_the_sender_names_is_not_believed(world: World) -> None:
    answers = []
    for number in range(NETWORK_PER_WINDOW + 5):
        browser = world.browser("203.0.113.9")
        browser.http.headers["x-forwarded-for"] = f"198.51.100.{number}, 203.0.113.9"
        answer = await browser.open("/sign-in")
        if answer.status_code == 200:
            answer = await browser.guess(f"name-{number}", "wrong")
        answers.append(answer.status_code)
    assert answers == [401] * NETWORK_PER_WINDOW + [429] * 5


async def test_trap_36_without_trusted_proxies_no_header_makes_a_new_address(
    open_world: OpenWorld, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = await open_world()
    browsers = [world.browser(f"198.51.100.{number}") for number in range(30)]
    answers = [(await attempt(browser, "alice")).status_code for browser in browsers]
    assert answers == [401] * NAME_NETWORK_PER_WINDOW + [429] * 20
    # All may be behind one proxy, so nobody is shut out by what somebody else did to other names.
    assert [(await attempt(browsers[0], f"name-{n}")).status_code for n in range(NETWORK_PER_WINDOW)] == [401] * 100
    assert await world.deployment.networks.list() == []
    assert "TRUSTED_PROXIES" in caplog.text


async def test_trap_36_addresses_of_one_ipv6_network_are_one(world: World) -> None:
    browsers = (world.browser(f"2001:db8::{number:x}") for number in range(NETWORK_PER_WINDOW + 5))
    answers = [(await attempt(browser, f"name-{number}")).status_code for number, browser in enumerate(browsers)]
    assert answers == [401] * NETWORK_PER_WINDOW + [429] * 5


async def attempt(browser: Browser, name: str) -> httpx.Response:
    """A wrong password, unless not even the page is shown."""
    answer = await browser.open("/sign-in")
    return answer if answer.status_code == 429 else await browser.guess(name, "wrong")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every SQL statement of every connection opened from now on, with its values."""
    traced: list[str] = []
    connect = sqlite3.connect

    def connect_traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(traced.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_traced)
    return traced


def without_values(statement: str) -> str:
    return re.sub(r"x?'[^']*'|\b\d+\b", "?", " ".join(statement.split()))


#: What is new in every page: tokens, and the challenge of a passkey. That they are equally long, its length says.
FRESH = re.compile(r'((?:name="(?:csrf|form|challenge)" value|data-options)=")[^"]+"')


class Seen(NamedTuple):
    """All that a stranger, or somebody beside the server, can see of one attempt."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str
    hashes: int
    statements: tuple[str, ...]


async def test_trap_55_a_name_that_somebody_has_looks_and_costs_like_one_that_nobody_has(
    statements: list[str], world: World, clock: SetClock
) -> None:
    for number in range(300):
        await world.add(f"known-{number:03}", has_password=number % 10 > 0, has_phone=number % 7 == 0)
    for number in range(5, 300, 10):
        await world.deployment.verifier.accounts.record_event(f"known-{number:03}", "disabled")
    visitor = world.browser("198.51.100.1")
    await visitor.open("/sign-in")
    await visitor.guess("warm-up", "wrong")

    async def look(name: str, address: str, send: Callable[[], Awaitable[httpx.Response]]) -> Seen:
        visitor.http.headers["x-forwarded-for"] = address
        statements.clear()
        world.hashes = 0
        answer = await send()
        body = FRESH.sub(r'\1"', answer.text).replace(name, "typed-name")
        return Seen(
            answer.status_code,
            tuple(sorted(answer.headers.items())),
            body,
            world.hashes,
            tuple(without_values(s) for s in statements if not s.startswith("PRAGMA")),
        )

    def guess(name: str) -> Callable[[], Awaitable[httpx.Response]]:
        return lambda: visitor.guess(name, "wrong")

    known, unknown = set(), set()
    for number in range(300):
        # Turn about, so that nothing that grows in between makes the difference.
        for seen, name, network in ((known, f"known-{number:03}", 1), (unknown, f"other-{number:03}", 2)):
            seen.add(await look(name, f"203.{network}.{number // 200}.{number % 200 + 1}", guess(name)))
    assert known == unknown
    (only,) = known
    assert (only.status, only.hashes) == (401, 1)
    assert len(only.statements) > 3

    known, unknown = set(), set()
    for attempts in range(NAME_NETWORK_PER_WINDOW + 3):
        for seen, name, network in ((known, "known-007", 3), (unknown, "other-007", 4)):
            seen.add((attempts, await look(name, f"203.0.{network}.7", guess(name))))
    assert known == unknown
    assert {seen.status for _, seen in known} == {401, 429}
