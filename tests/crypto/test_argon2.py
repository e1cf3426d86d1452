from argon2.low_level import Type, hash_secret_raw

from twofold.crypto.argon2 import DIGEST_BYTES, ONLY_FOR_TESTING, RECOMMENDED, Argon2


def test_asvs_6_5_2_the_recommended_parameters_are_those_of_appendix_c() -> None:
    assert RECOMMENDED.time_cost >= 2
    assert RECOMMENDED.memory_kib >= 19 * 1024


def test_a_digest_is_argon2id_over_secret_and_salt() -> None:
    digest = ONLY_FOR_TESTING.digest(b"secret", b"s" * 16)
    assert digest == hash_secret_raw(b"secret", b"s" * 16, 1, 8, 1, DIGEST_BYTES, Type.ID)
    assert len(digest) == 32


def test_every_part_of_it_matters() -> None:
    digests = {
        ONLY_FOR_TESTING.digest(b"secret", b"s" * 16),
        ONLY_FOR_TESTING.digest(b"Secret", b"s" * 16),
        ONLY_FOR_TESTING.digest(b"secret", b"t" * 16),
        Argon2(2, 8, 1).digest(b"secret", b"s" * 16),
        Argon2(1, 16, 1).digest(b"secret", b"s" * 16),
    }
    assert len(digests) == 5


def test_a_long_secret_is_not_cut_off() -> None:
    long = b"x" * 500
    assert ONLY_FOR_TESTING.digest(long + b"a", b"s" * 16) != ONLY_FOR_TESTING.digest(long + b"b", b"s" * 16)
