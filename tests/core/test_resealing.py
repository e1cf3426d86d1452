import msgspec

from twofold.core.account import Account, Authenticator, new_account
from twofold.core.decision import Decision, Done, Stale
from twofold.core.entropy import Seed
from twofold.core.idempotency import ANSWER_FIELD
from twofold.core.management import PROFILE_FIELD
from twofold.core.resealing import Sealed, exchange_seals, find_seals
from twofold.core.verification import SEED_FIELD

KEYS = ("data-2",)
NOW = 1_700_000_000_000_000


def find_seed(authenticator: Authenticator) -> bytes | None:
    return authenticator.credential if authenticator.factor == "totp" else None


def exchange_seed(authenticator: Authenticator, sealed: bytes) -> Authenticator:
    return msgspec.structs.replace(authenticator, credential=sealed)


def is_old(sealed: Sealed) -> bool:
    return sealed.value.startswith(b"old")


def an_account(*credentials: bytes, profile: bytes | None = None, answers: tuple[bytes, ...] = ()) -> Account:
    account = new_account("alice", Seed(b"s" * 32), NOW)
    kinds = msgspec.structs.fields(Account)
    kept_type = next(field.type for field in kinds if field.name == "kept_answers").__args__[0]
    return msgspec.structs.replace(
        account,
        authenticators=(
            *(an_authenticator(f"au_{number}", "totp", value) for number, value in enumerate(credentials)),
            an_authenticator("au_password", "password", b"old, and no seal"),
        ),
        sealed_profile=profile,
        kept_answers=tuple(a_kept_answer(kept_type, value) for value in answers),
    )


def an_authenticator(authenticator_id: str, factor: str, credential: bytes) -> Authenticator:
    given = {"id": authenticator_id, "factor": factor, "credential": credential, "state": "active"}
    return _filled(Authenticator, given)


def a_kept_answer(kind: type, value: bytes) -> object:
    return _filled(kind, {"sealed_outcome": value})


def _filled(kind: type, given: dict[str, object]) -> object:
    """A struct with what matters here; anything else is empty."""
    empty = {int: 0, str: "", bytes: b"", bool: False}
    needed = {
        field.name: empty.get(field.type, "")
        for field in msgspec.structs.fields(kind)
        if field.required and field.name not in given
    }
    return kind(**needed, **given)


def exchange(account: Account | None, exchanged: dict[bytes, bytes]) -> Decision:
    return exchange_seals(
        account,
        exchanged,
        sealed_with=KEYS,
        is_outdated=is_old,
        find_seed=find_seed,
        exchange_seed=exchange_seed,
    )


def test_everything_under_a_seal_is_found_with_the_place_that_it_is_bound_to() -> None:
    account = an_account(b"old 1", b"new 2", profile=b"old p", answers=(b"old a", b"new b"))
    assert list(find_seals(account, find_seed)) == [
        Sealed(b"old 1", SEED_FIELD, "au_0"),
        Sealed(b"new 2", SEED_FIELD, "au_1"),
        Sealed(b"old p", PROFILE_FIELD),
        Sealed(b"old a", ANSWER_FIELD),
        Sealed(b"new b", ANSWER_FIELD),
    ]
    assert list(find_seals(an_account(), find_seed)) == []


def test_each_is_exchanged_in_its_place_and_nothing_else_changes() -> None:
    account = an_account(b"old 1", b"new 2", profile=b"old p", answers=(b"old a", b"new b"))
    decision = exchange(account, {b"old 1": b"fresh 1", b"old p": b"fresh p", b"old a": b"fresh a"})
    assert decision.outcome == Done(is_new=True)
    assert decision.sealed_with == KEYS
    assert decision.events == ()
    assert decision.account == an_account(b"fresh 1", b"new 2", profile=b"fresh p", answers=(b"fresh a", b"new b"))


def test_an_account_without_a_profile_gets_none() -> None:
    decision = exchange(an_account(b"old 1"), {b"old 1": b"fresh 1"})
    assert decision.account == an_account(b"fresh 1")


def test_where_nothing_is_outdated_nothing_is_written() -> None:
    for account in (None, an_account(), an_account(b"new 1", profile=b"new p", answers=(b"new a",))):
        assert exchange(account, {b"old 9": b"fresh 9"}) == Decision(Done())


def test_what_came_in_the_meantime_is_asked_for_first() -> None:
    account = an_account(b"old 1", b"old 2")
    assert exchange(account, {b"old 1": b"fresh 1"}) == Decision(Stale())
    both = exchange(account, {b"old 1": b"fresh 1", b"old 2": b"fresh 2"})
    assert both.account == an_account(b"fresh 1", b"fresh 2")


def test_what_went_in_the_meantime_does_not_come_back() -> None:
    decision = exchange(an_account(b"old 2"), {b"old 1": b"fresh 1", b"old 2": b"fresh 2"})
    assert decision.account == an_account(b"fresh 2")
