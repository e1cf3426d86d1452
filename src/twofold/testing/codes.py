"""What people read off their authenticators: the code that counts now and was not used yet."""

from __future__ import annotations

import msgspec

from twofold.core.account import Account, Authenticator, without_expired
from twofold.core.clock import MICROS_PER_S
from twofold.core.factor import Seals
from twofold.core.verification import SEED_FIELD, check_usable
from twofold.crypto.otp import code_at, step_at
from twofold.errors import TwofoldError
from twofold.factors.hotp import Hotp
from twofold.factors.totp import WINDOW_STEPS, Totp


class NoCode(TwofoldError):
    """There is no code to type now; the message says what to do."""


class Reading(msgspec.Struct, frozen=True):
    """A code; or none, since those that count are used, and in how many seconds the next one comes."""

    code: str
    wait_s: float = 0


def read_code(account: Account | None, authenticator_id: str | None, seals: Seals, *, now: int) -> Reading:
    """What the holder of the account's authenticator reads at `now` (microseconds). Without an id it is the one added
    last; one that is not confirmed yet only where there is no other. Raises `NoCode`, `Refused`."""
    account = without_expired(check_usable(account), now)
    chosen = _find_newest(account) if authenticator_id is None else account.find(authenticator_id)
    if chosen.factor == "totp":
        return _read_totp(account.id, chosen, seals, now)
    if chosen.factor != "hotp":
        raise NoCode(f"a {chosen.factor} authenticator shows no codes")
    hotp = Hotp().read_credential(chosen.credential)
    seed = seals.open_seal(hotp.sealed_seed, field=SEED_FIELD, account_id=account.id, authenticator_id=chosen.id)
    return Reading(code_at(seed, hotp.counter, digits=hotp.digits, algorithm=hotp.algorithm))


def _find_newest(account: Account) -> Authenticator:
    for state in ("active", "pending"):
        for authenticator in reversed(account.authenticators):
            if authenticator.state == state and authenticator.factor in ("totp", "hotp"):
                return authenticator
    raise NoCode(f"{account.id} has no authenticator that shows codes: `enroll` adds one")


def _read_totp(account_id: str, authenticator: Authenticator, seals: Seals, now: int) -> Reading:
    totp = Totp().read_credential(authenticator.credential)
    now_s = now / MICROS_PER_S
    shown = step_at(now_s, totp.period_s)
    # The one that is shown, or else the one that comes next if it counts already, as with a phone that is fast.
    center = shown + totp.drift
    step = max(shown, center - WINDOW_STEPS, totp.last_step + 1)
    while step in totp.burnt:
        step += 1
    if step > center + WINDOW_STEPS:
        return Reading("", step * totp.period_s - now_s)
    seed = seals.open_seal(totp.sealed_seed, field=SEED_FIELD, account_id=account_id, authenticator_id=authenticator.id)
    return Reading(code_at(seed, step, digits=totp.digits, algorithm=totp.algorithm))
