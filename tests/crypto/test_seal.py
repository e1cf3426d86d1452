import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from twofold.crypto.seal import read_key_id, seal, unseal
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


@pytest.mark.parametrize("form", [b"", b"\1", b"\2\1\0" + bytes(40), b"\1\2\0" + bytes(40), b"\1\1\xff" + bytes(5)])
def test_what_is_no_seal_is_named_so(form: bytes) -> None:
    with pytest.raises(TamperedRecord):
        read_key_id(form)
    assert read_key_id(a_seal()) == "data-1"
