"""TOTP (RFC 6238): codes of an authenticator app, each accepted once.

The last accepted step only grows, so a code is spent together with every older one, also when the server's clock goes
back. The window is three steps around the remembered drift of the phone.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from twofold.core.account import Authenticator
from twofold.core.clock import MICROS_PER_S
from twofold.core.factor import Answer, Factor, Finding, Right, Unseal, Used, Wrong
from twofold.core.throttle import answer_cost_ppm
from twofold.crypto.otp import Algorithm, matching_counters, step_at

WINDOW_STEPS = 1
DRIFT_MAX_STEPS = 2
DRIFT_SEARCH_S = 600
THREE = 3


class Sighting(msgspec.Struct, frozen=True, array_like=True):
    """A code that was right for another time: its step, its distance from now in steps, and when it was sent."""

    step: int
    offset: int
    seen_at: int


class TotpCredential(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a TOTP authenticator. `burnt` are steps seen outside the window, never to be accepted; `accepted`
    the ones accepted within the last ten minutes."""

    sealed_seed: bytes
    algorithm: Algorithm = "SHA1"
    digits: int = 6
    period_s: int = 30
    last_step: int = -1
    drift: int = 0
    leaning: int = 0
    sighting: Sighting | None = None
    burnt: tuple[int, ...] = ()
    accepted: tuple[int, ...] = ()


_decode = msgspec.msgpack.Decoder(TotpCredential).decode
_encode = msgspec.msgpack.Encoder().encode


class Totp:
    """The `totp` factor."""

    name = "totp"
    amr: tuple[str, ...] = ("otp",)

    def new_credential(
        self, sealed_seed: bytes, *, algorithm: Algorithm = "SHA1", digits: int = 6, period_s: int = 30
    ) -> bytes:
        """The credential of a fresh authenticator: no step accepted yet, no drift known."""
        return _encode(TotpCredential(sealed_seed, algorithm, digits, period_s))

    def read_credential(self, credential: bytes) -> TotpCredential:
        """The credential as data."""
        return _decode(credential)

    def reads(self, answer: Answer) -> bool:
        """One code, or three consecutive ones."""
        return answer.kind == "otp" and len(answer.codes) in (1, THREE)

    def cost_ppm(self, credential: bytes, answer: Answer) -> int:
        """The odds of one guess against three candidates; three codes in a row cannot be guessed."""
        if len(answer.codes) == THREE:
            return 0
        return answer_cost_ppm(2 * WINDOW_STEPS + 1, _decode(credential).digits)

    def check_answer(self, authenticator: Authenticator, answer: Answer, *, unseal: Unseal, now: int) -> Finding:
        """Judge one code (RFC 6238 section 5.2), or three consecutive codes, the last of them within the window."""
        credential = _decode(authenticator.credential)
        seed = unseal(credential.sealed_seed)
        step_now = step_at(now // MICROS_PER_S, credential.period_s)
        center = step_now + credential.drift
        window = range(center - WINDOW_STEPS, center + WINDOW_STEPS + 1)
        if len(answer.codes) == THREE:
            return _check_three(credential, seed, answer.codes, step_now)
        code = answer.codes[0]
        used = [step for step in credential.accepted if step >= step_now - _reach(credential)]
        fitting = _match(credential, seed, code, sorted({*window, *used}) if used else window)
        # First: two steps may share a code, and a used one is free to try.
        if any(step in used for step in fitting):
            return Used(_next_code_in_s(credential, now))
        fresh = [step for step in fitting if step > credential.last_step and step not in credential.burnt]
        if fresh:
            # The latest of them: a code that two steps share must not be good twice.
            return Right(_encode(_accept(credential, fresh[-1:], center)))
        return _look_around(credential, seed, code, step_now, now)

    def after_restore(self, credential: bytes, now: int) -> bytes:
        """The credential in a database that is restored at `now` (microseconds): each step that may have been accepted
        since the backup is used, whatever drift the phone had by then. That is two minutes with the usual period, for
        which its owner reads that the code was used, and when the next one comes."""
        read = _decode(credential)
        step_now = step_at(now // MICROS_PER_S, read.period_s)
        reach = DRIFT_MAX_STEPS + WINDOW_STEPS
        last_step = max(read.last_step, step_now + reach)
        return _encode(
            msgspec.structs.replace(
                read,
                last_step=last_step,
                sighting=None,
                burnt=tuple(step for step in read.burnt if step > last_step),
                accepted=tuple(range(step_now - reach, step_now + reach + 1)),
            )
        )


def _check_three(credential: TotpCredential, seed: bytes, codes: tuple[str, ...], step_now: int) -> Finding:
    # Around the remembered drift and around none: a clock that was set right must not lock its owner out.
    center = step_now + credential.drift
    window = range(min(center, step_now) - WINDOW_STEPS, max(center, step_now) + WINDOW_STEPS + 1)
    # Every step is computed and compared whatever the earlier codes were; one reason for every way to be wrong.
    fitting = None
    for back, code in zip((2, 1, 0), codes, strict=True):
        lasts = {step + back for step in _match(credential, seed, code, range(window[0] - back, window[-1] - back + 1))}
        fitting = lasts if fitting is None else fitting & lasts
    for last in sorted(fitting or ()):
        steps = range(last - 2, last + 1)
        if steps[0] > credential.last_step and not set(steps) & set(credential.burnt):
            return Right(_encode(_accept(credential, list(steps), center)))
    return Wrong()


def _look_around(credential: TotpCredential, seed: bytes, code: str, step_now: int, now: int) -> Finding:
    """After a wrong code: is it one of the past, or of a clock that is off? Nothing found here is ever accepted."""
    reach = _reach(credential)
    fitting = _match(credential, seed, code, range(step_now - reach, step_now + reach + 1))
    if not fitting:
        return Wrong()
    step = min(fitting, key=lambda s: abs(s - step_now))
    if step <= credential.last_step or step in credential.burnt:
        return Wrong(is_overtaken=True, retry_after_s=_next_code_in_s(credential, now))
    sighting = Sighting(step, step - step_now, now)
    # One such code alone must tell a guesser nothing: only a second, later one with the same distance is named.
    before = credential.sighting
    is_sure = (
        before is not None
        and before.offset == sighting.offset
        and before.step < step
        and 0 <= now - before.seen_at <= DRIFT_SEARCH_S * MICROS_PER_S
    )
    # What lies further back than we look is in no window again, so these are few.
    burnt = tuple(s for s in credential.burnt if s >= step_now - reach)
    changed = msgspec.structs.replace(credential, sighting=sighting, burnt=(*burnt, step))
    if is_sure and abs(sighting.offset) <= WINDOW_STEPS:
        # The clocks agree again: it is the remembered drift that is off.
        return Wrong(_encode(msgspec.structs.replace(changed, drift=0, leaning=0)))
    return Wrong(_encode(changed), sighting.offset * credential.period_s if is_sure else None)


def _accept(credential: TotpCredential, steps: list[int], center: int) -> TotpCredential:
    """The steps are the last accepted ones now; two successes in a row on one side move the window by one step."""
    step = steps[-1]
    lean = step - center
    drift = credential.drift
    if abs(lean) > WINDOW_STEPS:
        drift = lean = 0
    elif lean and lean == credential.leaning:
        drift = max(-DRIFT_MAX_STEPS, min(DRIFT_MAX_STEPS, drift + lean))
        lean = 0
    return msgspec.structs.replace(
        credential,
        last_step=step,
        drift=drift,
        leaning=lean,
        sighting=None,
        burnt=tuple(s for s in credential.burnt if s > step),
        accepted=(*(s for s in credential.accepted if s >= center - drift - _reach(credential)), *steps),
    )


def _reach(credential: TotpCredential) -> int:
    """How many steps to either side of now are looked at after a wrong code."""
    return DRIFT_SEARCH_S // credential.period_s


def _match(credential: TotpCredential, seed: bytes, code: str, steps: Iterable[int]) -> tuple[int, ...]:
    return matching_counters(seed, code, steps, digits=credential.digits, algorithm=credential.algorithm)


def _next_code_in_s(credential: TotpCredential, now: int) -> int | None:
    """Seconds until the phone shows a code that can still be accepted; None when it does already."""
    begins = (credential.last_step + 1 - credential.drift) * credential.period_s
    wait = -(-(begins * MICROS_PER_S - now) // MICROS_PER_S)
    return wait if wait > 0 else None


_: Factor = Totp()
