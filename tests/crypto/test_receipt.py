import base64
import json

import msgspec
import pytest
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey

from twofold.core.decision import ReceiptClaims
from twofold.crypto.receipt import ReceiptKey, check_receipt
from twofold.errors import InvalidInput

ISSUER = "https://login.example.com"
KEY = ReceiptKey("receipt-1", b"k" * 32)
CLAIMS = ReceiptClaims(
    jti="j" * 22,
    sub="alice",
    aud="shop",
    epoch="e" * 16,
    iat=1_700_000_000,
    exp=1_700_000_120,
    auth_time=1_700_000_000,
    amr=("otp",),
    acr="urn:nist:aal1",
    via="au_1",
    purpose="pay",
    bnd="b1",
)


def encode(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_receipt_is_read_back_as_it_was_issued() -> None:
    receipt = KEY.issue(CLAIMS, issuer=ISSUER)
    assert KEY.check(receipt, issuer=ISSUER) == CLAIMS
    plain = msgspec.structs.replace(CLAIMS, purpose=None, bnd=None)
    assert KEY.check(KEY.issue(plain, issuer=ISSUER), issuer=ISSUER) == plain


def test_the_same_claims_are_the_same_receipt() -> None:
    assert KEY.issue(CLAIMS, issuer=ISSUER) == KEY.issue(CLAIMS, issuer=ISSUER)


def test_rfc7519_another_library_verifies_a_receipt_with_the_published_key() -> None:
    receipt = KEY.issue(CLAIMS, issuer=ISSUER)
    key = OKPKey.import_key(KEY.public_jwk())  # type: ignore[arg-type]
    # RFC 9864 gives the algorithm a second name; ours is the one that every library knows.
    with pytest.warns(SecurityWarning):
        read = jws.deserialize_compact(receipt, key, algorithms=["EdDSA"])
    assert read.headers() == {"alg": "EdDSA", "typ": "twofold-receipt+jwt", "kid": "receipt-1"}
    claims = json.loads(read.payload)
    assert claims == {
        "jti": "j" * 22,
        "via": "au_1",
        "sub": "alice",
        "aud": "shop",
        "epoch": "e" * 16,
        "iat": 1_700_000_000,
        "exp": 1_700_000_120,
        "auth_time": 1_700_000_000,
        "amr": ["otp"],
        "acr": "urn:nist:aal1",
        "purpose": "pay",
        "bnd": "b1",
        "iss": ISSUER,
    }


def test_claims_that_were_not_asked_for_are_left_out() -> None:
    receipt = KEY.issue(msgspec.structs.replace(CLAIMS, purpose=None, bnd=None), issuer=ISSUER)
    assert not {"purpose", "bnd"} & set(json.loads(decode(receipt.split(".")[1])))


def test_the_published_key_has_no_private_half() -> None:
    jwk = KEY.public_jwk()
    assert set(jwk) == {"kty", "crv", "x", "kid", "use", "alg"}


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "typ": "twofold-receipt+jwt", "kid": "receipt-1"},
        {"alg": "HS256", "typ": "twofold-receipt+jwt", "kid": "receipt-1"},
        {"alg": "EdDSA", "typ": "JWT", "kid": "receipt-1"},
        {"alg": "EdDSA", "typ": "twofold-receipt+jwt", "kid": "receipt-2"},
        {"typ": "twofold-receipt+jwt", "alg": "EdDSA", "kid": "receipt-1"},
        {"alg": "EdDSA", "typ": "twofold-receipt+jwt", "kid": "receipt-1", "jwk": KEY.public_jwk()},
    ],
    ids=str,
)
def test_asvs_6_8_2_no_header_but_our_own_is_read(header: dict[str, object]) -> None:
    receipt = KEY.issue(CLAIMS, issuer=ISSUER)
    _, body, signature = receipt.split(".")
    assert KEY.check(f"{encode(header)}.{body}.{signature}", issuer=ISSUER) is None
    assert KEY.check(f"{encode(header)}.{body}.", issuer=ISSUER) is None
    assert KEY.check(receipt, issuer=ISSUER) == CLAIMS


def test_a_receipt_with_any_character_changed_is_none() -> None:
    receipt = KEY.issue(CLAIMS, issuer=ISSUER)
    for place, character in enumerate(receipt):
        for other in ("A" if character != "A" else "B", "=", "", " "):
            assert KEY.check(receipt[:place] + other + receipt[place + 1 :], issuer=ISSUER) is None
    assert KEY.check(receipt + "=", issuer=ISSUER) is None


@pytest.mark.parametrize(
    "text", ["", ".", "..", "...", "a.b.c", "é.é.é", "\ud800", "a" * 100_000, "." * 1000], ids=lambda t: ascii(t[:8])
)
def test_what_is_no_receipt_is_none_and_raises_nothing(text: str) -> None:
    assert KEY.check(text, issuer=ISSUER) is None
    header = KEY.issue(CLAIMS, issuer=ISSUER).split(".")[0]
    assert KEY.check(f"{header}.{text}", issuer=ISSUER) is None


def test_a_signed_body_that_is_no_claims_is_none() -> None:
    header = KEY.issue(CLAIMS, issuer=ISSUER).split(".")[0]
    for body in (b"", b"null", b"{}", b'{"sub":1}', b"\xff", b"[" * 10_000):
        signed = f"{header}.{encode(body)}"
        signature = KEY._private.sign(signed.encode())
        assert KEY.check(f"{signed}.{encode(signature)}", issuer=ISSUER) is None


def test_a_receipt_of_another_issuer_or_key_is_none() -> None:
    receipt = KEY.issue(CLAIMS, issuer=ISSUER)
    assert KEY.check(receipt, issuer="https://login.example.org") is None
    assert ReceiptKey("receipt-1", b"x" * 32).check(receipt, issuer=ISSUER) is None
    assert ReceiptKey("receipt-2", b"k" * 32).check(receipt, issuer=ISSUER) is None


def test_any_key_that_is_held_checks_a_receipt_and_none_makes_it_invalid() -> None:
    keys = [ReceiptKey("receipt-2", b"x" * 32), KEY]
    receipt = KEY.issue(CLAIMS, issuer=ISSUER)
    assert check_receipt(receipt, keys, issuer=ISSUER) == CLAIMS
    for wanting in ([], keys[:1]):
        with pytest.raises(InvalidInput) as invalid:
            check_receipt(receipt, wanting, issuer=ISSUER, field="step_up")
        assert invalid.value.field == "step_up"
