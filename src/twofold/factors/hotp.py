"""HOTP (RFC 4226): counter codes of hardware tokens and apps, each accepted once.

The counter only grows, by success alone. A token that was pressed too often is found again by two consecutive codes
(section 7.4), or by three where guessing is going on.
"""

from __future__ import annotations

import msgspec

from twofold.core.account import Authenticator
from twofold.core.factor import Answer, Factor, Finding, Right, Unseal, Used, Wrong
from twofold.core.throttle import COST_MIN_PPM, answer_cost_ppm
from twofold.crypto.otp import COUNTER_MAX, Algorithm, matching_counters

LOOK_AHEAD = 10
RESYNC_WINDOW = 100


class HotpCredential(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a HOTP authenticator. `counter` is the lowest one that may still be accepted."""

    sealed_seed: bytes
    algorithm: Algorithm = "SHA1"
    digits: int = 6
    counter: int = 0


_decode = msgspec.msgpack.Decoder(HotpCredential).decode
_encode = msgspec.msgpack.Encoder().encode


class Hotp:
    """The `hotp` factor."""

    name = "hotp"
    amr: tuple[str, ...] = ("otp",)

    def new_credential(
        self, sealed_seed: bytes, *, algorithm: Algorithm = "SHA1", digits: int = 6, counter: int = 0
    ) -> bytes:
        """The credential of a token whose next code is that of `counter`."""
        return _encode(HotpCredential(sealed_seed, algorithm, digits, counter))

    def read_credential(self, credential: bytes) -> HotpCredential:
        """The credential as data."""
        return _decode(credential)

    def reads(self, answer: Answer) -> bool:
        """One code, or two or three consecutive ones."""
        return answer.kind == "otp"

    def cost_ppm(self, credential: bytes, answer: Answer) -> int:
        """The odds of one guess within the look-ahead; two codes in a row cost the least there is, three nothing."""
        if len(answer.codes) == 1:
            return answer_cost_ppm(LOOK_AHEAD, _decode(credential).digits)
        return COST_MIN_PPM if len(answer.codes) == 2 else 0

    def check_answer(self, authenticator: Authenticator, answer: Answer, *, unseal: Unseal, now: int) -> Finding:
        """Judge one code (RFC 4226 section 7.2), or consecutive codes for resynchronization (section 7.4)."""
        credential = _decode(authenticator.credential)
        seed = unseal(credential.sealed_seed)
        ahead = LOOK_AHEAD if len(answer.codes) == 1 else RESYNC_WINDOW
        # The counter after the accepted one must still fit: at 2**63 - 1 the token is at its end, and never wraps.
        last = min(credential.counter + ahead, COUNTER_MAX)
        fitting: set[int] | None = None
        for place, code in enumerate(answer.codes):
            window = range(credential.counter + place, min(last + place, COUNTER_MAX))
            firsts = {counter - place for counter in _match(credential, seed, code, window)}
            fitting = firsts if fitting is None else fitting & firsts
        if len(answer.codes) == 1:
            # Before "right": a used code may be that of a coming counter too, and it is free to try.
            past = range(max(0, credential.counter - RESYNC_WINDOW), credential.counter)
            if _match(credential, seed, answer.codes[0], past):
                return Used()
        if fitting:
            reached = min(fitting) + len(answer.codes)
            return Right(_encode(msgspec.structs.replace(credential, counter=reached)))
        return Wrong()

    def after_restore(self, credential: bytes, now: int) -> bytes:
        """The credential in a restored database: as many codes as one press may skip are used, for the token may have
        made them since the backup. One that was pressed less often is pressed up to ten times, which costs nothing; one
        that was pressed more often is found as ever."""
        read = _decode(credential)
        return _encode(msgspec.structs.replace(read, counter=min(read.counter + LOOK_AHEAD, COUNTER_MAX)))


def _match(credential: HotpCredential, seed: bytes, code: str, counters: range) -> tuple[int, ...]:
    return matching_counters(seed, code, counters, digits=credential.digits, algorithm=credential.algorithm)


_: Factor = Hotp()
