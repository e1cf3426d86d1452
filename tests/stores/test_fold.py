"""What a batch writes stands on keys that were active when it was worked out; every store folds like this."""

import pytest
from tests.stores.examples import Decide, count, delete, look

from twofold.core.codec import Codec, signer_of
from twofold.crypto.digest import MacKeys
from twofold.errors import KeyRetired
from twofold.stores._collector import Attempt
from twofold.stores._fold import Changes, fold

KEYS = {"integrity-old": b"o" * 32, "integrity-new": b"n" * 32}
IN_USE = frozenset({"integrity-new", "data-new"})


def signed_by(key_id: str) -> Codec:
    return Codec(MacKeys(KEYS, signing=key_id))


async def folded(*decides: Decide, codec: Codec) -> tuple[Changes, list[BaseException | None]]:
    """What is to be written, and how each attempt ended."""
    attempts = [Attempt("alice", decide) for decide in decides]
    changes = fold(attempts, {}, frozenset(), codec=codec, active_keys=IN_USE)
    return changes, [attempt.error for attempt in attempts]


@pytest.mark.parametrize("decide", [count("alice"), delete])
async def test_a_row_under_a_retired_key_is_not_written_and_under_the_one_in_use_it_is(decide: Decide) -> None:
    changes, (error,) = await folded(decide, codec=signed_by("integrity-old"))
    assert isinstance(error, KeyRetired)
    assert (error.key_id, changes.rows, changes.events, changes.keys) == ("integrity-old", {}, [], set())
    changes, (error,) = await folded(decide, codec=signed_by("integrity-new"))
    assert error is None
    assert [signer_of(row) for row, _ in changes.rows.values()] == ["integrity-new"]
    assert changes.keys == {"integrity-new"}


async def test_a_seal_under_a_retired_key_is_not_written_and_the_attempts_around_it_are() -> None:
    sealed = [count("alice", sealed_with=(key_id,)) for key_id in ("data-new", "data-old", "data-new")]
    changes, errors = await folded(*sealed, codec=signed_by("integrity-new"))
    assert [type(error) for error in errors] == [type(None), KeyRetired, type(None)]
    assert changes.keys == {"integrity-new", "data-new"}
    assert len(changes.events) == 2


async def test_what_only_looks_stands_on_no_key() -> None:
    changes, (error,) = await folded(look, codec=signed_by("integrity-old"))
    assert (error, changes.rows, changes.keys) == (None, {}, set())


async def test_the_key_of_a_codec_without_a_keyring_is_never_retired() -> None:
    changes, (error,) = await folded(count("alice"), codec=Codec(MacKeys({"k1": bytes(32)}, signing="k1")))
    assert error is None
    assert list(changes.rows) == ["alice"]
    assert changes.keys == set()
