"""The key provider fails, is slow, answers wrongly or for another key, at each of its calls in turn: nobody gets in, no
seed is lost, no rotation stays half done, and when it is well again everything goes on by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.deployments import add_phone, phone_of
from tests.kit import Phone, PlainProvider, RepeatableEntropy, SetClock, wrong_code

from twofold.bootstrap import Deployment, open_keyring
from twofold.config import Settings
from twofold.core.attempt import Context
from twofold.core.decision import Confirmed, Pending, Verified
from twofold.core.sign_in import Bearer
from twofold.credentials import OtpParameters
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.engine import Caller
from twofold.errors import ConfigurationError, DataKeyMissing, KeyRefused, ProviderAway, TwofoldError, Unavailable
from twofold.key_ports import KeyProvider, Unwrapping, Wrapping
from twofold.keys import patience
from twofold.keys.masters import Masters
from twofold.keys.opened import LEASE_S
from twofold.keys.patience import PatientProvider
from twofold.sign_in import Guest
from twofold.stores.memory import MemoryStore

ADMIN = Caller(is_admin=True)
HERE = Guest(Context("192.0.2.7", "Mozilla/5.0 (X11; Linux) Firefox/140.0"))
PASSWORD = "correct horse battery"
OTHER_KEY = b"another key of thirty-two bytes!"
MODES = ["shared", "per-seed"]
ALICE_S_SEED = b"a seed of twenty by."


class FaultyProvider(PlainProvider):
    """From the so-many-th call on (`fails_at`), as often as `left` says, it does what `how` says."""

    def __init__(self) -> None:
        super().__init__("home")
        self.well()

    def well(self) -> None:
        self.how, self.fails_at, self.left = "", 0, 0

    def fail(self, how: str, *, at: int = 1, times: int = 1_000_000) -> None:
        self.how, self.fails_at, self.left = how, at, times

    def _fails(self) -> str:
        if not self.how:
            return ""
        self.fails_at -= 1
        if self.fails_at > 0 or not self.left:
            return ""
        self.left -= 1
        return self.how

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        how = self._fails()
        wrapping = await super().wrap(key, key_id=key_id)
        await _raise(how)
        if how == "garbage":
            return Wrapping(b"nothing that opens")
        if how == "another key":
            return Wrapping(wrapping.wrapped[: -len(key)] + OTHER_KEY)
        return wrapping

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        how = self._fails()
        unwrapping = await super().unwrap(wrapped, key_id=key_id)
        await _raise(how)
        if how == "garbage":
            return Unwrapping(b"too short")
        if how == "another key":
            # Each provider binds what it wraps to the id and refuses anything else: the contract suite proves that.
            raise KeyRefused(f"what was opened is not {key_id}")
        return unwrapping

    async def watch(self) -> None:
        """Nothing is seen without using it, as with a KMS."""


async def _raise(how: str) -> None:
    if how == "away":
        raise ProviderAway("the home provider is away")
    if how == "refused":
        raise KeyRefused("access denied", "r-1")
    if how == "hangs":
        await asyncio.Event().wait()


HOWS = ["away", "refused", "hangs", "garbage", "another key"]


class House:
    """One database and one faulty provider; deployments come and go. `vault` is a second provider that is well."""

    def __init__(self, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(patience, "TRY_S", 0.001)
        self.mode, self.store, self.clock, self.provider = mode, MemoryStore(), SetClock(), FaultyProvider()
        self.vault = FaultyProvider()
        self.vault.name = "vault"
        self.starts = 0
        self.configured = "plain:home"

    def patient(self, provider: KeyProvider) -> PatientProvider:
        async def sleep(_: float) -> None:
            pass

        return PatientProvider(provider, now=lambda: self.clock.now_s, sleep=sleep)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Deployment]:
        self.starts += 1
        self.store._is_closed = False
        settings = Settings(key_provider=self.configured, data_keys=self.mode)  # type: ignore[arg-type]
        entropy = RepeatableEntropy(self.starts)
        providers = {"plain:home": self.provider, "plain:vault": self.vault}
        provider = self.patient(providers[self.configured])
        keyring = await open_keyring(settings, self.store, provider, clock=self.clock, entropy=entropy)
        masters: Masters = keyring.masters
        masters._open = lambda address, _: self.patient(providers[address])
        deployment = Deployment(
            settings, self.store, keyring, clock=self.clock, entropy=entropy, argon2=ONLY_FOR_TESTING
        )
        deployment.node._sleep = self.no_time  # type: ignore[attr-defined]
        try:
            yield deployment
        finally:
            await deployment.close()

    async def no_time(self, _: float) -> None:
        """Nobody comes after in the meantime."""

    def later(self) -> None:
        """Every lease is over, and no silence of the provider goes on."""
        self.clock.advance(LEASE_S + 30)

    async def check_whole(self) -> None:
        """After a restart with a provider that is well, everything opens and one key of each purpose is in use."""
        self.provider.well()
        self.vault.well()
        self.later()
        async with self.open() as deployment:
            assert [found async for found in deployment.inspection.unopenable()] == []
            active = [row.purpose for row in deployment.keyring.rows() if row.state == "active"]
            assert sorted(active) == ["data", "index", "integrity", "master", "receipt", "ticket"]


@pytest.fixture(params=MODES)
def house(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(request.param, monkeypatch)


async def passes(house: House, phone: Phone, deployment: Deployment, **more: Any) -> bool:
    house.clock.advance(30)
    outcome = await deployment.verifier.verify("alice", code=phone.code(house.clock.now()), **more)
    return isinstance(outcome, Verified)


async def unless_unavailable(work: Awaitable[Any]) -> Any:
    """What it returned, or the failure: only one that says "not now", never a mistake of ours."""
    try:
        return await work
    except DataKeyMissing:
        raise AssertionError("nobody but us knows what that is") from None
    except (Unavailable, ConfigurationError) as error:
        return error


async def each_call(work: Callable[[int], Awaitable[bool]]) -> int:
    """Run it with the fault at the first call, the second, … until it was not reached; how many there were."""
    for number in range(1, 200):
        if not await work(number):
            return number - 1
    raise AssertionError("it does not end")


@pytest.mark.parametrize("times", [1, 1_000_000], ids=["once", "from then on"])
@pytest.mark.parametrize("how", HOWS)
async def test_enrollment_passes_or_is_not_available_and_no_seed_is_lost(
    house: House, how: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def attempt(number: int) -> bool:
        own = House(house.mode, monkeypatch)
        async with own.open() as deployment:
            verifier = deployment.verifier
            own.later()
            own.provider.fail(how, at=number, times=times)
            begun = await unless_unavailable(verifier.enroll("alice"))
            deployment.keyring._opened.clear()
            ended: Any = None
            if isinstance(begun, Pending):
                phone = phone_of(begun)
                own.clock.advance(30)
                code = phone.code(own.clock.now())
                ended = await unless_unavailable(verifier.confirm("alice", begun.id, code=code))
                assert isinstance(ended, Confirmed | Unavailable)
            was_reached = own.provider.left < times
            own.provider.well()
            own.clock.advance(60)
            # Who has scanned the code goes on with it; who saw an error begins again.
            if isinstance(begun, Pending) and not isinstance(ended, Confirmed):
                confirmed = await verifier.confirm("alice", begun.id, code=phone.code(own.clock.now()))
                assert isinstance(confirmed, Confirmed)
            elif not isinstance(begun, Pending):
                phone, _ = await add_phone(verifier, "alice", own.clock)
            assert await passes(own, phone, deployment)
        await own.check_whole()
        return was_reached

    calls = await each_call(attempt)
    assert calls >= (2 if house.mode == "per-seed" else 1)


@pytest.mark.parametrize("how", HOWS)
async def test_an_import_passes_or_is_not_available_and_no_seed_is_lost(
    house: House, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def attempt(number: int) -> bool:
        own = House(house.mode, monkeypatch)
        async with own.open() as deployment:
            otp = OtpParameters(ALICE_S_SEED)
            await deployment.verifier.accounts.put("alice")
            own.later()
            own.provider.fail(how, at=number, times=3)
            done = await unless_unavailable(
                deployment.verifier.accounts.import_authenticator("alice", "totp", otp, caller=ADMIN)
            )
            was_reached = own.provider.left < 3
            own.provider.well()
            own.clock.advance(60)
            if not isinstance(done, Confirmed):
                await deployment.verifier.accounts.import_authenticator("alice", "totp", otp, caller=ADMIN)
            assert await passes(own, Phone("", ALICE_S_SEED), deployment)
        await own.check_whole()
        return was_reached

    assert await each_call(attempt) >= 1


@pytest.mark.parametrize("how", HOWS)
async def test_while_it_fails_nobody_gets_in_and_afterwards_everybody_does_without_a_restart(
    house: House, how: str
) -> None:
    async with house.open() as deployment:
        verifier, sign_in = deployment.verifier, deployment.sign_in
        phone, confirmed = await add_phone(verifier, "alice", house.clock)
        await verifier.accounts.set_password("alice", PASSWORD)
        begun = await sign_in.begin("alice", PASSWORD, HERE)
        assert isinstance(begun, Verified)
        assert begun.session is not None
        bearer = (await sign_in.find(begun.session, HERE.context.user_agent))[0]  # type: ignore[index]
        assert isinstance(bearer, Bearer)
        deployment.keyring._opened.clear()
        house.provider.fail(how)
        events = len(await verifier.accounts.events("alice"))
        caller = Caller(f"pages:{bearer.session.id}", context=HERE.context, session=bearer)
        for _ in range(3):
            house.clock.advance(31)
            now = house.clock.now()
            attempts: list[Awaitable[Any]] = [
                verifier.verify("alice", code=phone.code(now)),
                verifier.verify("alice", code=phone.code(now), caller=caller),
                verifier.verify("alice", code=wrong_code(phone, now)),
                verifier.verify("alice", code=confirmed.recovery_codes[0]),
                verifier.verify("alice", codes=phone.three(now)),
                sign_in.begin("alice", PASSWORD, HERE),
                verifier.enroll("bob"),
            ]
            for attempt in attempts:
                assert isinstance(await unless_unavailable(attempt), Unavailable)
        # Nothing was judged, so nothing was charged.
        assert len(await verifier.accounts.events("alice")) == events
        assert [session.level for session in await house.store.list_sessions("alice")] == ["pending"]
        house.provider.well()
        house.clock.advance(31)
        outcome = await verifier.verify("alice", code=phone.code(house.clock.now()), caller=caller)
        assert isinstance(outcome, Verified)
        assert outcome.session is not None
    await house.check_whole()


@pytest.mark.parametrize("how", HOWS)
async def test_verification_passes_or_is_not_available_whichever_call_fails(
    house: House, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def attempt(number: int) -> bool:
        own = House(house.mode, monkeypatch)
        async with own.open() as deployment:
            phone, _ = await add_phone(deployment.verifier, "alice", own.clock)
            own.later()
            own.provider.fail(how, at=number, times=3)
            code = phone.code(own.clock.now())
            outcome = await unless_unavailable(deployment.verifier.verify("alice", code=code))
            was_reached = own.provider.left < 3
            own.provider.well()
            own.clock.advance(5)
            if not isinstance(outcome, Verified):
                # The code was not used up by an attempt that nobody judged.
                assert isinstance(await deployment.verifier.verify("alice", code=code), Verified)
        await own.check_whole()
        return was_reached

    assert await each_call(attempt) == (2 if house.mode == "per-seed" else 1)


def rotations(deployment: Deployment) -> dict[str, Callable[[], Awaitable[Any]]]:
    rotation = deployment.rotation

    async def move() -> None:
        await rotation.move(await rotation.join_master("plain:vault"), "test")

    async def reseal() -> None:
        progress = await deployment.resealing.run(rest=0)
        if progress.failed:
            raise Unavailable(str(progress.failed))

    async def everything() -> None:
        await move()
        await rotation.make_data_key("test")
        await rotation.replace_signing_keys("test")
        await reseal()

    return {
        "data key": lambda: rotation.make_data_key("test"),
        "signing keys": lambda: rotation.replace_signing_keys("test"),
        "move": move,
        "everything": everything,
    }


@pytest.mark.parametrize(
    ("rotation", "which"),
    [
        ("data key", "home"),
        ("signing keys", "home"),
        ("move", "home"),
        ("move", "vault"),
        ("everything", "home"),
        ("everything", "vault"),
    ],
)
@pytest.mark.parametrize("how", HOWS)
async def test_a_rotation_passes_or_has_changed_nothing_that_stands_in_the_way(
    house: House, how: str, rotation: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def attempt(number: int) -> bool:
        own = House(house.mode, monkeypatch)
        failing = own.provider if which == "home" else own.vault
        async with own.open() as deployment:
            phone, _ = await add_phone(deployment.verifier, "alice", own.clock)
            own.later()
            failing.fail(how, at=number, times=3)
            await unless_unavailable(rotations(deployment)[rotation]())
            was_reached = failing.left < 3
            own.provider.well()
            own.vault.well()
            own.clock.advance(60)
            # The server goes on, whatever became of it.
            assert await passes(own, phone, deployment)
            own.configured = deployment.keyring.row(deployment.keyring.masters.active).uri  # type: ignore[union-attr]
        await own.check_whole()
        # And so it does with the same command again.
        async with own.open() as deployment:
            with suppress_refusal():
                await rotations(deployment)[rotation]()
            assert await passes(own, phone, deployment)
            own.configured = deployment.keyring.row(deployment.keyring.masters.active).uri  # type: ignore[union-attr]
        await own.check_whole()
        return was_reached

    assert await each_call(attempt) >= 1


def suppress_refusal() -> suppress:
    """Moved already, it is told that there is nothing to move."""
    return suppress(TwofoldError)


@pytest.mark.parametrize("how", HOWS)
async def test_a_first_start_fails_whole_or_not_at_all(house: House, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def attempt(number: int) -> bool:
        own = House(house.mode, monkeypatch)
        own.provider.fail(how, at=number, times=3)
        with suppress(ConfigurationError):
            async with own.open():
                pass
        was_reached = own.provider.left < 3
        own.provider.well()
        own.clock.advance(60)
        async with own.open() as deployment:
            phone, _ = await add_phone(deployment.verifier, "alice", own.clock)
            assert await passes(own, phone, deployment)
        await own.check_whole()
        return was_reached

    assert await each_call(attempt) >= 6


# Leases.


async def test_keys_in_memory_serve_while_it_is_away_and_until_their_time_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House("shared", monkeypatch)
    async with house.open() as deployment:
        phone, _ = await add_phone(deployment.verifier, "alice", house.clock)
        house.later()
        await deployment.keyring.check()
        house.provider.fail("away")
        end = house.clock.now_s + LEASE_S
        while house.clock.now_s + 31 < end:
            await deployment.keyring.check()
            assert await passes(house, phone, deployment)
        house.clock.set(end)
        for _ in range(3):
            with pytest.raises(ProviderAway):
                await deployment.keyring.check()
            with pytest.raises(ProviderAway):
                await passes(house, phone, deployment)
        house.provider.well()
        house.clock.advance(30)
        assert await passes(house, phone, deployment)
        await deployment.keyring.check()
        assert deployment.keyring.fault == ""


async def test_a_refusal_ends_service_at_once(house: House) -> None:
    async with house.open() as deployment:
        phone, _ = await add_phone(deployment.verifier, "alice", house.clock)
        house.later()
        await deployment.keyring.check()
        assert await passes(house, phone, deployment)
        house.provider.fail("refused")
        house.clock.advance(LEASE_S / 2)
        with pytest.raises(KeyRefused):
            await deployment.keyring.check()
        with pytest.raises(KeyRefused):
            await passes(house, phone, deployment)
        house.provider.well()
        house.clock.advance(5)
        assert await passes(house, phone, deployment)
