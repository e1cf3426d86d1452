import asyncio

from tests.keys.rings import Place

from twofold.crypto.seal import OwnKey
from twofold.keys.keyring import Keyring
from twofold.keys.seed_keys import SeedKeys


async def a_ring() -> tuple[Place, Keyring, SeedKeys]:
    place = Place()
    keyring = await place.open("per-seed")
    return place, keyring, SeedKeys(keyring.masters, place.entropy)


def asked(place: Place, call: str) -> int:
    return sum(name == call and key_id.startswith("seed-") for name, key_id in place.provider.asked)


async def test_the_key_of_a_seed_goes_with_the_last_attempt_that_needs_it() -> None:
    _, _, keys = await a_ring()
    await keys.fetch("alice/au_1", None, subject="alice")
    made = keys.find("alice/au_1")
    await keys.fetch("alice/au_1", None, subject="alice")
    assert made is not None
    keys.drop("alice/au_1")
    assert keys.find("alice/au_1") is made
    keys.drop("alice/au_1")
    assert keys.find("alice/au_1") is None


async def test_what_was_made_is_opened_again_by_its_stored_form() -> None:
    place, keyring, keys = await a_ring()
    await keys.fetch("alice/au_1", None, subject="alice")
    made = keys.find("alice/au_1")
    assert made is not None
    assert isinstance(made.own, OwnKey)
    assert made.own.master == keyring.masters.active
    sealed = made.cipher.encrypt(b"n" * 12, b"seed", b"")
    keys.drop("alice/au_1")
    before = asked(place, "unwrap")
    await keys.fetch(made.own.key_id, made.own, subject="alice")
    opened = keys.find(made.own.key_id)
    assert opened is not None
    assert opened.cipher.decrypt(b"n" * 12, sealed, b"") == b"seed"
    assert asked(place, "unwrap") == before + 1


async def test_of_two_that_fetch_the_same_key_at_once_both_use_the_first() -> None:
    _, _, keys = await a_ring()
    await asyncio.gather(*(keys.fetch("alice/au_1", None, subject="alice") for _ in range(2)))
    first = keys.find("alice/au_1")
    keys.drop("alice/au_1")
    assert keys.find("alice/au_1") is first is not None
    keys.drop("alice/au_1")
    assert keys.find("alice/au_1") is None
