import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.kit import PlainProvider

from twofold.errors import KeyRefused, ProviderAway, Unavailable
from twofold.key_ports import Unwrapping, Wrapping
from twofold.keys import patience
from twofold.keys.patience import (
    FIRST_PAUSE_S,
    REFUSED_FOR_S,
    SILENCE_MAX_S,
    SILENCE_S,
    TRIES,
    PatientProvider,
)

KEY = b"k" * 32
AWAY = ProviderAway("the plain provider is away")


class Flaky(PlainProvider):
    """Fails with each of `faults` once, then answers; None hangs for ever."""

    def __init__(self, *faults: Unavailable | None) -> None:
        super().__init__()
        self.faults = list(faults)

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        wrapping = await super().wrap(key, key_id=key_id)
        await self._fail()
        return wrapping

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        unwrapping = await super().unwrap(wrapped, key_id=key_id)
        await self._fail()
        return unwrapping

    async def _fail(self) -> None:
        if self.faults:
            fault = self.faults.pop(0)
            if fault is None:
                await asyncio.Event().wait()
            else:
                raise fault


class Patient:
    """A patient provider over a flaky one, the time of both, and how long it paused."""

    def __init__(self, *faults: Unavailable | None) -> None:
        self.inner = Flaky(*faults)
        self.now = 100.0
        self.pauses: list[float] = []
        self.provider = PatientProvider(self.inner, now=lambda: self.now, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def wrapped(self) -> bytes:
        return (await PlainProvider().wrap(KEY, key_id="data-1")).wrapped


async def test_what_answers_is_passed_on() -> None:
    patient = Patient()
    wrapping = await patient.provider.wrap(KEY, key_id="data-1")
    assert (await patient.provider.unwrap(wrapping.wrapped, key_id="data-1")).key == KEY
    assert wrapping.request_id == "plain-1"
    await patient.provider.watch()
    assert patient.provider.describe() == "the plain provider"
    await patient.provider.close()
    assert patient.pauses == []


async def test_it_is_tried_again_with_growing_pauses() -> None:
    patient = Patient(*[AWAY] * (TRIES - 1))
    assert (await patient.provider.unwrap(await patient.wrapped(), key_id="data-1")).key == KEY
    assert patient.pauses == [FIRST_PAUSE_S * 2**n for n in range(TRIES - 1)]


async def test_then_it_is_silent_for_a_while_and_nobody_waits() -> None:
    patient = Patient(*[AWAY] * TRIES)
    with pytest.raises(ProviderAway, match="is away"):
        await patient.provider.wrap(KEY, key_id="data-1")
    asked = len(patient.inner.asked)
    for _ in range(10):
        with pytest.raises(ProviderAway, match="is away"):
            await patient.provider.wrap(KEY, key_id="data-1")
    assert len(patient.inner.asked) == asked == TRIES
    patient.now += SILENCE_S
    await patient.provider.wrap(KEY, key_id="data-1")


async def test_the_silence_grows_up_to_half_a_minute_and_ends_with_the_first_answer() -> None:
    patient = Patient(*[AWAY] * TRIES * 7)
    silences = []
    for _ in range(7):
        with pytest.raises(ProviderAway):
            await patient.provider.wrap(KEY, key_id="data-1")
        silences.append(patient.provider._silent_until - patient.now)
        patient.now = patient.provider._silent_until
    assert silences == pytest.approx([1, 2, 4, 8, 16, SILENCE_MAX_S, SILENCE_MAX_S])
    await patient.provider.wrap(KEY, key_id="data-1")
    patient.inner.faults = [AWAY] * TRIES
    with pytest.raises(ProviderAway):
        await patient.provider.wrap(KEY, key_id="data-1")
    assert patient.provider._silent_until - patient.now == pytest.approx(SILENCE_S)


async def test_a_provider_that_refuses_has_answered_and_its_silences_are_short_again() -> None:
    patient = Patient(*[AWAY] * TRIES * 3, KeyRefused("no"), *[AWAY] * TRIES)
    for _ in range(3):
        with pytest.raises(ProviderAway):
            await patient.provider.wrap(KEY, key_id="data-1")
        patient.now = patient.provider._silent_until
    with pytest.raises(KeyRefused):
        await patient.provider.wrap(KEY, key_id="data-1")
    with pytest.raises(ProviderAway):
        await patient.provider.wrap(KEY, key_id="data-1")
    assert patient.provider._silent_until - patient.now == pytest.approx(SILENCE_S)


async def test_what_does_not_answer_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "TRY_S", 0.01)
    patient = Patient(*[None] * TRIES)
    with pytest.raises(ProviderAway, match=r"the plain provider did not answer within 0\.01 s"):
        await patient.provider.unwrap(await patient.wrapped(), key_id="data-1")
    monkeypatch.setattr(patience, "TRY_S", 4.0)
    patient.now += SILENCE_S
    assert (await patient.provider.unwrap(await patient.wrapped(), key_id="data-1")).key == KEY


@pytest.mark.parametrize(
    "ask",
    [
        lambda provider, _: provider.wrap(KEY, key_id="data-1"),
        lambda provider, wrapped: provider.unwrap(wrapped, key_id="data-1"),
    ],
    ids=["wrap", "unwrap"],
)
async def test_a_refusal_is_not_tried_again(ask: Callable[[PatientProvider, bytes], Awaitable[object]]) -> None:
    patient = Patient(KeyRefused("access denied", "r-7"))
    with pytest.raises(KeyRefused) as refused:
        await ask(patient.provider, await patient.wrapped())
    assert (str(refused.value), refused.value.request_id) == ("access denied", "r-7")
    assert (len(patient.inner.asked), patient.pauses) == (1, [])


async def test_a_key_that_was_refused_is_not_asked_for_again_for_a_second() -> None:
    patient = Patient(KeyRefused("access denied", "r-7"))
    wrapped = await patient.wrapped()
    for _ in range(3):
        with pytest.raises(KeyRefused, match="access denied"):
            await patient.provider.unwrap(wrapped, key_id="data-1")
    assert len(patient.inner.asked) == 1
    other = (await PlainProvider().wrap(KEY, key_id="data-2")).wrapped
    assert (await patient.provider.unwrap(other, key_id="data-2")).key == KEY
    patient.now += REFUSED_FOR_S
    assert (await patient.provider.unwrap(wrapped, key_id="data-1")).key == KEY
    assert (await patient.provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_refusals_of_many_keys_do_not_fill_the_memory() -> None:
    patient = Patient()
    patient.inner.fault = KeyRefused("no")
    for number in range(1_050):
        with pytest.raises(KeyRefused):
            await patient.provider.unwrap(b"x", key_id=f"seed-{number}")
    assert len(patient.provider._refusals) <= 1_000


async def test_what_is_no_failure_of_a_provider_is_passed_on_as_it_is() -> None:
    patient = Patient(ValueError("a mistake"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a mistake"):
        await patient.provider.wrap(KEY, key_id="data-1")
    assert (await patient.provider.wrap(KEY, key_id="data-1")).wrapped
