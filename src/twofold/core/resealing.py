"""The same secrets under other seals: the decision that exchanges them, made outside, in an account.

Nothing is opened here. What an account holds under a seal is listed by `find_seals`; the shell opens and seals each of
them again, and the decision puts in place what is still as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from twofold.core.account import Account, Authenticator
from twofold.core.decision import Decision, Done, Stale
from twofold.core.idempotency import ANSWER_FIELD
from twofold.core.management import PROFILE_FIELD
from twofold.core.verification import SEED_FIELD

FindSeed = Callable[[Authenticator], bytes | None]
ExchangeSeed = Callable[[Authenticator, bytes], Authenticator]


class Sealed(NamedTuple):
    """One sealed value and the place that it is bound to."""

    value: bytes
    field: str
    authenticator_id: str = ""


def find_seals(account: Account, find_seed: FindSeed) -> Iterator[Sealed]:
    """Everything that the account holds under a seal."""
    for authenticator in account.authenticators:
        if (seed := find_seed(authenticator)) is not None:
            yield Sealed(seed, SEED_FIELD, authenticator.id)
    if account.sealed_profile is not None:
        yield Sealed(account.sealed_profile, PROFILE_FIELD)
    for kept in account.kept_answers:
        yield Sealed(kept.sealed_outcome, ANSWER_FIELD)


def exchange_seals(
    account: Account | None,
    exchanged: Mapping[bytes, bytes],
    *,
    sealed_with: tuple[str, ...],
    is_outdated: Callable[[Sealed], bool],
    find_seed: FindSeed,
    exchange_seed: ExchangeSeed,
) -> Decision:
    """The account with each sealed value that is in `exchanged` replaced by the other one.

    Ends as `Stale` when a value is outdated and not in `exchanged`: it came in the meantime. `sealed_with` are the keys
    of the new seals; the commit checks that they are still active.
    """
    if account is None:
        return Decision(Done())
    outdated = [sealed for sealed in find_seals(account, find_seed) if is_outdated(sealed)]
    if not outdated:
        return Decision(Done())
    if any(sealed.value not in exchanged for sealed in outdated):
        return Decision(Stale())
    changed = msgspec.structs.replace(
        account,
        authenticators=tuple(
            a if (seed := find_seed(a)) not in exchanged or seed is None else exchange_seed(a, exchanged[seed])
            for a in account.authenticators
        ),
        sealed_profile=exchanged.get(account.sealed_profile or b"", account.sealed_profile),
        kept_answers=tuple(
            msgspec.structs.replace(k, sealed_outcome=exchanged.get(k.sealed_outcome, k.sealed_outcome))
            for k in account.kept_answers
        ),
    )
    return Decision(Done(is_new=True), changed, sealed_with=sealed_with)
