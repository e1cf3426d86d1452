import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import InvalidInput
from twofold.factors.otpauth import OtpauthUri, decode_secret, dump, encode_secret, grouped, load

VECTORS_FILE = Path(__file__).parent.parent / "vectors" / "otpauth_uris.json"
VECTORS: list[dict[str, Any]] = json.loads(VECTORS_FILE.read_text())["vectors"]
# Where a vector says "policy", both are seen in the field; ours is what it recommends.
VERDICTS = [(vector, vector.get("recommended", vector["expect"])) for vector in VECTORS]
ACCEPTED = [vector for vector, verdict in VERDICTS if verdict == "accept"]
REFUSED = [vector for vector, verdict in VERDICTS if verdict == "reject"]

# Which part of the URI the person is told to look at, by the vector's reason.
FIELDS = {
    "hotp_without_counter": "counter",
    "secret_too_short": "secret",
    "duplicate_parameter": "secret",
    "weak_algorithm": "algorithm",
    "digits_out_of_range": "digits",
    "lookalike_digit": "secret",
    "period_out_of_range": "period",
    "missing_secret": "secret",
    "empty_secret": "secret",
    "bad_base32": "secret",
    "bad_base32_length": "secret",
    "unknown_algorithm": "algorithm",
    "empty_algorithm": "algorithm",
    "digits_not_a_number": "digits",
    "digits_not_ascii": "digits",
    "period_not_a_number": "period",
    "counter_out_of_range": "counter",
    "counter_not_a_number": "counter",
    "unknown_type": "type",
    "missing_type": "type",
    "missing_label": "label",
    "wrong_scheme": "uri",
    "empty": "uri",
    "control_character": "issuer",
    "not_utf8": "label",
    "too_long": "uri",
}
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
RFC_SECRET = b"12345678901234567890"


def a_totp(**changes: Any) -> OtpauthUri:
    fields: dict[str, Any] = {
        "type": "totp",
        "account": "alice",
        "issuer": "Example",
        "secret": RFC_SECRET,
        "period_s": 30,
    }
    return OtpauthUri(**(fields | changes))


def test_every_vector_is_either_accepted_or_refused() -> None:
    assert len(ACCEPTED) + len(REFUSED) == len(VECTORS) == 74


@pytest.mark.parametrize("vector", ACCEPTED, ids=lambda vector: vector["id"])
def test_a_uri_people_really_have_is_understood(vector: dict[str, Any]) -> None:
    uri, expected = load(vector["uri"]), vector["expected"]
    assert (uri.type, uri.account, uri.issuer) == (expected["type"], expected["account"], expected["issuer"] or "")
    assert (uri.algorithm, uri.digits) == (expected["algorithm"], expected["digits"])
    assert (uri.period_s, uri.counter) == (expected["period"], expected["counter"])
    assert encode_secret(uri.secret) == expected["secret"]
    assert load(dump(uri)) == uri


@pytest.mark.parametrize("vector", REFUSED, ids=lambda vector: f"{vector['id']}-{vector['reason']}")
def test_a_uri_that_cannot_be_trusted_is_refused_naming_the_wrong_part(vector: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        load(vector["uri"])
    assert refusal.value.field == FIELDS[vector["reason"]]


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        (
            a_totp(account="john.doe@email.com", issuer="ACME Co"),
            f"otpauth://totp/ACME%20Co:john.doe@email.com?secret={SECRET}&issuer=ACME%20Co&algorithm=SHA1&digits=6&period=30",
        ),
        (
            a_totp(algorithm="SHA512", digits=8, period_s=60),
            f"otpauth://totp/Example:alice?secret={SECRET}&issuer=Example&algorithm=SHA512&digits=8&period=60",
        ),
        (
            a_totp(type="hotp", period_s=None, counter=0),
            f"otpauth://hotp/Example:alice?secret={SECRET}&issuer=Example&algorithm=SHA1&digits=6&counter=0",
        ),
        (a_totp(issuer=""), f"otpauth://totp/alice?secret={SECRET}&algorithm=SHA1&digits=6&period=30"),
        (
            a_totp(account="bob:work", issuer="A:B"),
            f"otpauth://totp/A%3AB:bob%3Awork?secret={SECRET}&issuer=A%3AB&algorithm=SHA1&digits=6&period=30",
        ),
        (
            a_totp(account="bob:work", issuer=""),
            f"otpauth://totp/:bob%3Awork?secret={SECRET}&algorithm=SHA1&digits=6&period=30",
        ),
        (
            a_totp(account="a+b/c?d&e=f", issuer="1+1"),
            f"otpauth://totp/1%2B1:a%2Bb%2Fc%3Fd%26e%3Df?secret={SECRET}&issuer=1%2B1&algorithm=SHA1&digits=6&period=30",
        ),
    ],
)
def test_a_uri_is_written_in_the_form_that_every_app_reads(uri: OtpauthUri, text: str) -> None:
    assert dump(uri) == text
    assert load(text) == uri


def test_a_secret_is_written_in_upper_case_without_padding() -> None:
    text = dump(a_totp(secret=bytes(range(16))))
    assert "secret=AAAQEAYEAUDAOCAJBIFQYDIOB4&" in text
    assert load(text).secret == bytes(range(16))


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40).map(str.strip)
COMMON = {
    "account": NAMES | st.text(":@a ", max_size=6).map(str.strip),
    "issuer": NAMES | st.text(":@a ", max_size=6).map(str.strip),
    "secret": st.binary(min_size=10, max_size=128),
    "algorithm": st.sampled_from(["SHA1", "SHA256", "SHA512"]),
    "digits": st.integers(6, 8),
}
URIS = st.builds(OtpauthUri, type=st.just("totp"), period_s=st.integers(15, 120), **COMMON) | st.builds(
    OtpauthUri, type=st.just("hotp"), counter=st.integers(0, 2**63 - 1), **COMMON
)


@given(URIS)
def test_what_was_written_is_read_back(uri: OtpauthUri) -> None:
    text = dump(uri)
    assert load(text) == uri
    assert text.isascii()
    assert "+" not in text
    assert " " not in text


@given(st.text() | st.text().map(lambda rest: f"otpauth://totp/{rest}"))
def test_any_text_is_either_read_or_refused_as_invalid_input(text: str) -> None:
    try:
        uri = load(text)
    except InvalidInput:
        return
    assert load(dump(uri)) == uri


@given(st.sampled_from(ACCEPTED), st.data())
def test_a_uri_with_one_character_changed_never_fails_otherwise(vector: dict[str, Any], data: st.DataObject) -> None:
    text = vector["uri"]
    place = data.draw(st.integers(0, len(text) - 1))
    with contextlib.suppress(InvalidInput):
        load(text[:place] + data.draw(st.characters()) + text[place + 1 :])


@pytest.mark.parametrize("name", ["secret", "issuer", "algorithm", "digits", "period", "counter"])
def test_a_parameter_given_twice_is_refused_under_its_name(name: str) -> None:
    known = {"secret": SECRET, "issuer": "X", "algorithm": "SHA1", "digits": "6", "period": "30", "counter": "1"}
    query = "&".join(f"{parameter}={value}" for parameter, value in known.items())
    assert load(f"otpauth://hotp/X:alice?{query}").counter == 1
    # Its name percent-encoded is still its name.
    for again in (name, f"%{ord(name[0]):02x}{name[1:]}"):
        with pytest.raises(InvalidInput) as refusal:
            load(f"otpauth://hotp/X:alice?{query}&{again}={known[name]}")
        assert refusal.value.field == name


@pytest.mark.parametrize(
    ("parameter", "values_read", "values_refused"),
    [
        (
            "digits",
            ["6", "8"],
            [
                "5",
                "9",
                "06",
                "",
                "+6",
                "6 ",
                "\N{FULLWIDTH DIGIT SIX}",
                "\N{ARABIC-INDIC DIGIT SIX}",
                "6_",
                "0x6",
                "9" * 4000,
            ],
        ),
        ("period", ["15", "120"], ["14", "121", "", "-30", "30.0", "1e2", "\N{FULLWIDTH DIGIT THREE}0", "9" * 4000]),
        ("counter", ["0", str(2**63 - 1)], [str(2**63), "-0", "", "1_0", "\N{FULLWIDTH DIGIT ONE}", "9" * 4000]),
        (
            "algorithm",
            ["SHA1", "sha512", "Sha256"],
            ["", "MD5", "SHA-1", "SHA224", "\N{LATIN SMALL LETTER LONG S}ha1", "SHA1 "],
        ),
    ],
)
def test_a_value_is_read_within_its_bounds_and_refused_outside(
    parameter: str, values_read: list[str], values_refused: list[str]
) -> None:
    type_, rest = ("totp", "") if parameter in ("period", "algorithm") else ("hotp", "&counter=1")
    rest = "" if parameter == "counter" else rest
    for value in values_read:
        load(f"otpauth://{type_}/X:alice?secret={SECRET}&{parameter}={value}{rest}")
    for value in values_refused:
        with pytest.raises(InvalidInput) as refusal:
            load(f"otpauth://{type_}/X:alice?secret={SECRET}&{parameter}={value}{rest}")
        assert refusal.value.field == parameter


@pytest.mark.parametrize("character", ["%00", "%0A", "%1B", "%7F", "%C2%85", "%E2%80%A8", "\n", "\0", "\ud800"])
def test_a_name_that_would_break_a_log_or_a_database_is_refused(character: str) -> None:
    assert load(f"otpauth://totp/Ex:al%20ice?secret={SECRET}&issuer=E%20x").issuer == "E x"
    with pytest.raises(InvalidInput, match="label"):
        load(f"otpauth://totp/Ex:al{character}ice?secret={SECRET}&issuer=Ex")
    with pytest.raises(InvalidInput, match="issuer"):
        load(f"otpauth://totp/Ex:alice?secret={SECRET}&issuer=E{character}x")
    with pytest.raises(InvalidInput, match="issuer"):
        load(f"otpauth://totp/E{character}x:alice?secret={SECRET}")


def test_parameters_that_are_not_utf8_are_refused() -> None:
    assert load(f"otpauth://totp/alice?secret={SECRET}&issuer=%C3%89").issuer == "É"
    with pytest.raises(InvalidInput, match="UTF-8"):
        load(f"otpauth://totp/alice?secret={SECRET}&issuer=%C9")


def test_a_fragment_and_empty_parts_of_the_query_are_ignored() -> None:
    assert load(f"otpauth://totp/Example:alice?&secret={SECRET}&&issuer=Example&#later") == a_totp()


def test_a_period_of_hotp_and_a_counter_of_totp_mean_nothing() -> None:
    hotp = load(f"otpauth://hotp/alice?secret={SECRET}&counter=3&period=9999")
    totp = load(f"otpauth://totp/alice?secret={SECRET}&counter=-1")
    assert (hotp.period_s, hotp.counter) == (None, 3)
    assert (totp.period_s, totp.counter) == (30, None)


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        SECRET.lower(),
        "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ",
        "gezd-gnbv-gy3t-qojq-gezd-gnbv-gy3t-qojq",
        "  GEZDGNBVGY3TQOJQ GEZDGNBVGY3TQOJQ ",
        SECRET + "======",
    ],
)
def test_a_secret_is_read_however_it_was_copied(text: str) -> None:
    assert decode_secret(text) == RFC_SECRET


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "====",
        "GEZDGNBVGY3TQ0JQ",
        "GEZDGNBVGY3TQ1JQ",
        "GEZDGNBVGY3TQOJQG",
        "GEZDGNBV=GY3TQOJQ",
        "GEZDGNBVGY3TQOJQ\0",
        "GEZDGNBVGY3TQOJQ\n",
        "GEZDGNBVGY3TQOJ\ud800",
        "GEZDGNBVGY3TQOJ\N{LATIN SMALL LETTER LONG S}",
        "GEZDGNBVGY3TQOJ\N{LATIN SMALL LETTER DOTLESS I}",
        "GEZDGNBVGY3TQOJ\N{FULLWIDTH LATIN CAPITAL LETTER Q}",
        "\N{KEY}" * 16,
    ],
    ids=ascii,
)
def test_a_secret_with_anything_else_in_it_is_refused_and_not_guessed(text: str) -> None:
    assert decode_secret("GEZDGNBVGY3TQOJQ") == b"1234567890"
    with pytest.raises(InvalidInput) as refusal:
        decode_secret(text)
    assert refusal.value.field == "secret"


@pytest.mark.parametrize(("shortest_or_longest", "beyond"), [(10, 9), (128, 129)])
def test_a_secret_has_between_10_and_128_bytes(shortest_or_longest: int, beyond: int) -> None:
    assert len(decode_secret(encode_secret(bytes(shortest_or_longest)))) == shortest_or_longest
    with pytest.raises(InvalidInput, match="10 to 128 bytes"):
        decode_secret(encode_secret(bytes(beyond)))


def test_bits_left_over_in_the_last_character_are_dropped_as_apps_do() -> None:
    assert decode_secret("MFRGGZDFMZTWQ2LKNNWG23TPOB") == decode_secret("MFRGGZDFMZTWQ2LKNNWG23TPOA")


@given(st.binary(min_size=10, max_size=128))
def test_a_secret_is_the_same_after_being_shown_in_groups_and_typed_in(secret: bytes) -> None:
    shown = grouped(encode_secret(secret))
    assert decode_secret(shown) == decode_secret(shown.lower().replace(" ", "-")) == secret


@pytest.mark.parametrize(
    ("text", "groups"), [(SECRET, "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"), ("ABCDEF", "ABCD EF"), ("", "")]
)
def test_a_secret_is_shown_in_groups_of_four(text: str, groups: str) -> None:
    assert grouped(text) == groups


def test_neither_the_repr_nor_a_refusal_shows_the_secret() -> None:
    assert "12345" not in repr(a_totp())
    assert "alice" in repr(a_totp())
    with pytest.raises(InvalidInput) as refusal:
        decode_secret("GEZDGNBVGY3TQ0JQ")
    assert "GEZD" not in str(refusal.value)
