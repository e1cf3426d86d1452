import os

from twofold.core.entropy import Seed, derive, derive_id, derive_token

SEED = Seed(b"s" * 32)


def test_the_same_seed_and_label_give_the_same_bytes_so_that_a_store_may_decide_again() -> None:
    assert derive(SEED, "epoch", 8) == derive(SEED, "epoch", 8)
    assert derive(SEED, "epoch", 8) == derive(SEED, "epoch")[:8]


def test_another_label_or_seed_gives_other_bytes() -> None:
    assert derive(SEED, "epoch") != derive(SEED, "browser")
    assert derive(SEED, "epoch") != derive(Seed(b"t" * 32), "epoch")


def test_a_token_is_256_bits_of_base64url() -> None:
    token = derive_token(SEED, "browser")
    assert len(token) == 43
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_an_id_is_its_prefix_and_sixteen_lower_case_letters_and_digits() -> None:
    name = derive_id(SEED, "authenticator", "au_")
    assert name.startswith("au_")
    assert len(name) == 19
    assert name == name.lower()
    assert name.removeprefix("au_").isalnum()


def test_trap_17_a_hundred_thousand_ids_and_receipt_numbers_are_distinct() -> None:
    seeds = [Seed(os.urandom(32)) for _ in range(100_000)]
    assert len({derive_id(seed, "authenticator", "au_") for seed in seeds}) == 100_000
    assert len({derive_token(seed, "receipt")[:22] for seed in seeds}) == 100_000
