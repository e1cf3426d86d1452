import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from twofold.crypto.seal import OwnKey, read_key_id, read_own_key, seal, unseal
from twofold.errors import TamperedRecord

CIPHER = AESGCM(b"k" * 32)
PLACE = {"field": "accounts.seed", "account_id": "alice", "authenticator_id": "au_1"}
NONCE = b"n" * 12


def a_seal(plaintext: bytes = b"secret", **changes: str) -> bytes:
    return seal(CIPHER, plaintext, key_id="data-1", nonce=NONCE, **{**PLACE, **changes})


@given(st.binary(max_size=300), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_what_was_sealed_opens_in_its_place(plaintext: bytes, field: str, account: str, authenticator: str) -> None:
    try:
        place = {"field": field, "account_id": account, "authenticator_id": authenticator}
        sealed = seal(CIPHER, plaintext, key_id="data-1", nonce=NONCE, **place)
    except UnicodeEncodeError:
        return
    assert unseal(CIPHER, sealed, **place) == plaintext
    assert read_key_id(sealed) == "data-1"


@pytest.mark.parametrize(
    "changes",
    [
        {"field": "accounts.profile"},
        {"account_id": "bob"},
        {"authenticator_id": "au_2"},
        {"authenticator_id": ""},
        # Length-prefixed: nothing moves from one name to the next.
        {"account_id": "aliceau", "authenticator_id": "_1"},
        {"field": "accounts.seeda", "account_id": "lice"},
    ],
    ids=str,
)
def test_trap_74_moved_to_another_field_account_or_authenticator_it_does_not_open(changes: dict[str, str]) -> None:
    sealed = a_seal()
    with pytest.raises(TamperedRecord) as tampered:
        unseal(CIPHER, sealed, **{**PLACE, **changes})
    assert "secret" not in str(tampered.value)
    assert unseal(CIPHER, sealed, **PLACE) == b"secret"


def open_seal(sealed: bytes) -> bytes:
    read_key_id(sealed)
    return unseal(CIPHER, sealed, **PLACE)


def test_with_any_byte_changed_or_missing_it_does_not_open() -> None:
    sealed = a_seal()
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(TamperedRecord):
            open_seal(bytes(changed))
        with pytest.raises(TamperedRecord):
            open_seal(sealed[:place])
    assert unseal(CIPHER, sealed, **PLACE) == b"secret"


def test_under_another_key_it_does_not_open() -> None:
    with pytest.raises(TamperedRecord):
        unseal(AESGCM(b"x" * 32), a_seal(), **PLACE)
    assert unseal(AESGCM(b"k" * 32), a_seal(), **PLACE) == b"secret"


@pytest.mark.parametrize("key_id", ["data-1", "x", "k" * 255, "schlüssel"])
def test_the_key_id_is_read_before_anything_is_opened(key_id: str) -> None:
    sealed = seal(CIPHER, b"", key_id=key_id, nonce=NONCE, **PLACE)
    assert read_key_id(sealed) == key_id
    assert unseal(CIPHER, sealed, **PLACE) == b""


def test_the_key_id_is_bound_too() -> None:
    sealed = a_seal()
    renamed = sealed.replace(b"data-1", b"data-2")
    assert read_key_id(renamed) == "data-2"
    with pytest.raises(TamperedRecord):
        unseal(CIPHER, renamed, **PLACE)


def test_the_place_is_not_stored_and_the_plaintext_not_readable() -> None:
    sealed = a_seal(b"a seed of twenty by.")
    assert not any(part in sealed for part in (b"alice", b"au_1", b"accounts", b"seed of"))


@pytest.mark.parametrize(
    "form", [b"", b"\1", b"\2\1\0" + bytes(40), b"\1\3\0" + bytes(40), b"\1\2\0\0" + bytes(9), b"\1\1\xff" + bytes(5)]
)
def test_what_is_no_seal_is_named_so(form: bytes) -> None:
    with pytest.raises(TamperedRecord):
        read_key_id(form)
    assert read_key_id(a_seal()) == "data-1"


# Values with a data key of their own.

OWN = OwnKey("seed-1", "master-1", b"a wrapped key")


def an_own_seal(own: OwnKey = OWN, cipher: AESGCM = CIPHER, plaintext: bytes = b"secret") -> bytes:
    return seal(cipher, plaintext, key_id=own.key_id, nonce=NONCE, **PLACE, own=own)


def test_a_value_brings_its_own_key_wrapped_and_names_the_master_key_without_which_it_is_lost() -> None:
    sealed = an_own_seal()
    assert read_own_key(sealed) == OWN
    assert read_key_id(sealed) == "master-1"
    assert unseal(CIPHER, sealed, **PLACE) == b"secret"
    assert read_own_key(a_seal()) is None


@given(st.binary(max_size=300), st.binary(max_size=600))
def test_whatever_a_provider_makes_of_a_key_stands_in_the_value(plaintext: bytes, wrapped: bytes) -> None:
    own = OwnKey("seed-1", "master-1", wrapped)
    sealed = an_own_seal(own, plaintext=plaintext)
    assert read_own_key(sealed) == own
    assert unseal(CIPHER, sealed, **PLACE) == plaintext


def test_with_any_bit_changed_a_value_with_its_own_key_does_not_open() -> None:
    sealed = an_own_seal()
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TamperedRecord):
            open_seal(bytes(changed))
    assert open_seal(sealed) == b"secret"


def test_with_any_bit_changed_a_value_under_a_shared_key_does_not_open() -> None:
    sealed = a_seal()
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TamperedRecord):
            open_seal(bytes(changed))
    assert open_seal(sealed) == b"secret"


def test_cut_off_anywhere_a_value_with_its_own_key_does_not_open() -> None:
    sealed = an_own_seal()
    for length in range(len(sealed)):
        with pytest.raises(TamperedRecord):
            open_seal(sealed[:length])
    assert open_seal(sealed) == b"secret"


@pytest.mark.parametrize(
    "changes", [{"field": "accounts.profile"}, {"account_id": "bob"}, {"authenticator_id": "au_2"}], ids=str
)
def test_trap_74_a_value_with_its_own_key_does_not_open_elsewhere_either(changes: dict[str, str]) -> None:
    sealed = an_own_seal()
    with pytest.raises(TamperedRecord):
        unseal(CIPHER, sealed, **{**PLACE, **changes})
    assert unseal(CIPHER, sealed, **PLACE) == b"secret"


@pytest.mark.parametrize(
    "exchanged",
    [OWN._replace(master="master-2"), OWN._replace(wrapped=b"another one!!"), OWN._replace(key_id="seed-2")],
    ids=["master key", "wrapped key", "key id"],
)
def test_with_the_master_key_the_wrapped_key_or_the_id_of_another_value_it_does_not_open(exchanged: OwnKey) -> None:
    one = an_own_seal()
    other = an_own_seal(exchanged)
    body = len(NONCE) + len(b"secret") + 16
    mixed = other[:-body] + one[-body:]
    assert read_own_key(mixed) == exchanged
    with pytest.raises(TamperedRecord):
        open_seal(mixed)
    assert open_seal(one) == open_seal(other) == b"secret"


def test_a_shared_and_an_own_key_are_not_taken_for_each_other() -> None:
    own, shared = an_own_seal(), seal(CIPHER, b"secret", key_id="seed-1", nonce=NONCE, **PLACE)
    body = len(NONCE) + len(b"secret") + 16
    for head, value in ((own, shared), (shared, own)):
        with pytest.raises(TamperedRecord):
            open_seal(head[:-body] + value[-body:])


@pytest.mark.parametrize(
    "form",
    [
        b"\1\2\6seed-1",
        b"\1\2\6seed-1" + bytes(11),
        b"\1\2\6seed-1\x08master-1",
        b"\1\2\6seed-1\x08master-1\xff\xff" + bytes(40),
        b"\1\2\6seed-1\xff" + bytes(40),
    ],
    ids=str,
)
def test_a_value_whose_own_key_is_cut_off_is_named_so(form: bytes) -> None:
    for read in (read_own_key, read_key_id):
        with pytest.raises(TamperedRecord):
            read(form)
    assert read_own_key(an_own_seal()) == OWN
