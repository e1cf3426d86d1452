"""Whatever an authenticator sends is read, believed or refused: no exception but our own, little time, little memory.

In the soak a search guided by coverage goes on for ten minutes: what reaches a line, in another way than anything
before, is kept and changed further.
"""

import json
import random
import resource
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from cryptography import x509
from fido2 import cbor as written_by_others
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.factors.attestations import (
    AAGUID,
    CLIENT_DATA_HASH,
    NOT_CA,
    NOW,
    Issuer,
    NewCredential,
    Statement,
    aaguid_extension,
    key_description,
    origin,
    public_area,
    purposes,
    rsa_key,
    tpm_extensions,
)

import twofold.factors
from twofold.factors import cbor
from twofold.factors.attestation import Attested, BadAttestation, check_attestation
from twofold.factors.attestation_formats import FORMATS
from twofold.factors.attestation_trust import Metadata, Model, Trust
from twofold.factors.authenticator_data import read_authenticator_data
from twofold.testing.software_authenticator import decode

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number:Warning")

SOAK_S = 600
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "webauthn_l3.json").read_text(encoding="utf-8"))
ROOT = Issuer()
BETWEEN = Issuer("Between", above=ROOT)
TRUST = Trust((ROOT.certificate,), Metadata({AAGUID: Model("Key 5", (ROOT.der,))}, {}))
ES256, RS256 = NewCredential(), NewCredential(-257)
MADE = (
    ES256.self_attested(),
    RS256.self_attested(),
    NewCredential(-8).self_attested(),
    NewCredential(-53).self_attested(),
    ES256.packed(BETWEEN, ROOT, extensions=[(NOT_CA, True), (aaguid_extension(AAGUID), False)]),
    ES256.packed(ROOT, key=rsa_key(), algorithm=-257),
    ES256.tpm(ROOT),
    RS256.tpm(ROOT, extensions=[*tpm_extensions(), (aaguid_extension(AAGUID), False)]),
    ES256.android_key(ROOT),
    ES256.apple(ROOT),
    ES256.fido_u2f(ROOT),
)
OBJECTS = tuple(
    written_by_others.encode({"fmt": made.fmt, "attStmt": made.members, "authData": made.data}) for made in MADE
) + tuple(decode(vector["registration"]["attestationObject"]) for vector in VECTORS["vectors"])


def check_object(raw: bytes) -> Attested | None:
    """The way of an attestation object, as far as it gets."""
    try:
        read = cbor.decode(raw)
        if not isinstance(read, dict) or not isinstance(read.get("attStmt"), dict):
            return None
        data, fmt = read.get("authData"), read.get("fmt")
        if not isinstance(data, bytes) or not isinstance(fmt, str):
            return None
        attested = check_attestation(
            fmt, read["attStmt"], read_authenticator_data(data), CLIENT_DATA_HASH, trust=TRUST, now=NOW
        )
    except ValueError:
        return None
    assert attested.is_trusted == (attested.why_untrusted == "")
    return attested


def change(raw: bytes, chance: random.Random) -> bytes:
    """A few of the changes that parsers stumble over."""
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(raw) + 1), chance.choice((1, 1, 1, 2, 4, 16))
        other = chance.choice(OBJECTS)
        start = chance.randrange(len(other))
        match chance.randrange(6):
            case 0:
                raw = raw[:at] + chance.randbytes(length) + raw[at + length :]
            case 1:
                raw = raw[:at] + bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFF))]) + raw[at + 1 :]
            case 2:
                raw = raw[:at] + raw[at + length :]
            case 3:
                raw = raw[:at] + raw[at : at + length] * 2 + raw[at + length :]
            case 4:
                raw = raw[:at] + other[start : start + chance.randrange(64)] + raw[at:]
            case _:
                raw = raw[:at] + bytes([chance.randrange(256)]) + raw[at:]
    return raw[: cbor.BYTES_MAX]


def changes(raws: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    return st.builds(change, st.sampled_from(raws), st.randoms(use_true_random=False))


@given(changes(OBJECTS))
def test_a_changed_attestation_object_is_read_or_refused(raw: bytes) -> None:
    check_object(raw)


LEAVES = st.integers(-70_000, 70_000) | st.binary(max_size=40) | st.text(max_size=5) | st.booleans()
PATHS = st.lists(st.sampled_from([ROOT.der, BETWEEN.der, b""]) | st.binary(max_size=40), max_size=9)


@given(
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from(MADE),
    st.dictionaries(st.sampled_from(["ver", "alg", "sig", "x5c", "certInfo", "pubArea", "x"]), LEAVES | PATHS),
    st.sets(st.sampled_from(["ver", "alg", "sig", "x5c", "certInfo", "pubArea"])),
)
def test_statements_with_other_members_are_read_or_refused(
    fmt: str, made: Statement, members: dict[str, Any], missing: set[str]
) -> None:
    kept = {name: value for name, value in {**made.members, **members}.items() if name not in missing}
    try:
        attested = Statement(fmt, kept, made.data).check(trust=TRUST)
    except BadAttestation:
        return
    if attested.is_trusted:
        assert fmt == made.fmt
        assert all(kept[name] == value for name, value in made.members.items())


@given(st.sampled_from([made for made in MADE if "x5c" in made.members]), st.randoms(use_true_random=False))
def test_changed_certificates_are_judged_or_refused(made: Statement, chance: random.Random) -> None:
    path = list(made.members["x5c"])
    at = chance.randrange(len(path))
    path[at] = change(path[at], chance)
    try:
        attested = Statement(made.fmt, {**made.members, "x5c": path}, made.data).check(trust=TRUST)
    except BadAttestation:
        return
    if attested.is_trusted:
        # Of what was signed nothing changed; an end that nobody signs may be written in more ways than one.
        kept, original = (x509.load_der_x509_certificate(p[at]) for p in (path, made.members["x5c"]))
        assert (kept.tbs_certificate_bytes, kept.signature) == (original.tbs_certificate_bytes, original.signature)


def assert_own_words(make: Callable[[], Statement]) -> None:
    with suppress(BadAttestation):
        assert make().check(trust=TRUST).kind


@given(st.randoms(use_true_random=False), st.sampled_from([ES256, RS256]))
def test_structures_of_a_tpm_that_are_changed_and_signed_again_are_judged_or_refused(
    chance: random.Random, credential: NewCredential
) -> None:
    assert credential.key is not None
    area = change(public_area(credential.key), chance)
    assert_own_words(lambda: credential.tpm(ROOT, area=area))
    assert_own_words(lambda: credential.tpm(ROOT, certified=lambda raw: change(raw, chance)))


@given(st.randoms(use_true_random=False))
def test_descriptions_of_android_that_are_changed_and_certified_again_are_judged_or_refused(
    chance: random.Random,
) -> None:
    lists = purposes(2) + origin(0)
    description = change(key_description(CLIENT_DATA_HASH, lists, lists), chance)
    assert_own_words(lambda: ES256.android_key(ROOT, description=description))


@given(st.binary(max_size=100))
@example(b"")
def test_any_extension_may_say_anything(contents: bytes) -> None:
    assert_own_words(lambda: ES256.apple(ROOT, extension=contents))
    for oid in ("2.5.29.17", "2.5.29.19", "2.5.29.32", "2.5.29.37", "2.5.29.15", "1.3.6.1.4.1.45724.1.1.4"):
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), contents)
        assert_own_words(lambda extension=extension: ES256.packed(ROOT, extensions=[(extension, False)]))  # type: ignore[misc]
        assert_own_words(lambda extension=extension: ES256.tpm(ROOT, extensions=[(extension, False)]))  # type: ignore[misc]


def hostile() -> Iterator[tuple[str, bytes]]:
    head = written_by_others.encode({"fmt": "packed", "attStmt": {}, "authData": ES256.data})
    members = {"alg": -7, "sig": b"", "x5c": [b""] * 12_000}
    yield "as deep as it goes", b"\x81" * cbor.BYTES_MAX
    yield "a map as deep as it goes", b"\xa1\x00" * (cbor.BYTES_MAX // 2)
    yield "a length without end", b"\x9b" + b"\xff" * 8
    yield "a string without end", b"\x5b" + b"\xff" * 8
    yield "many lengths without end", b"\x84" * 4 + b"\x9b\x00\x00\x00\xff\xff\xff\xff\xff" * 1_000
    yield "something behind it", head + bytes(cbor.BYTES_MAX - len(head))
    yield "as many items as fit", b"\x99\x3f\xfd" + bytes(cbor.BYTES_MAX - 3)
    yield (
        "as many certificates as fit",
        written_by_others.encode({"fmt": "packed", "attStmt": members, "authData": ES256.data}),
    )
    for fmt in ("packed", "tpm", "android-key", "apple"):
        made = next(made for made in MADE if made.fmt == fmt and "x5c" in made.members)
        path = {"x5c": [made.members["x5c"][0], *[BETWEEN.der] * 30]}
        yield (
            f"{fmt} with a long path",
            written_by_others.encode({"fmt": fmt, "attStmt": {**made.members, **path}, "authData": made.data}),
        )


@pytest.mark.parametrize(("_name", "raw"), tuple(hostile()), ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_meant_to_hurt_takes_no_time_and_no_room(_name: str, raw: bytes) -> None:
    assert len(raw) <= cbor.BYTES_MAX
    check_object(raw)
    started = time.process_time()
    check_object(raw)
    assert time.process_time() - started < 0.05
    tracemalloc.start()
    try:
        check_object(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 1024 * 1024


ROOM = str(Path(twofold.factors.__file__).parent)


def lines_of(run: Callable[[], object]) -> frozenset[tuple[str, int, int]]:
    """The steps from line to line that a run takes in the factors."""
    steps: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(ROOM):
            return None
        last = frame.f_lineno

        def trace_line(frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal last
            steps.add((frame.f_code.co_name, last, -frame.f_lineno if event == "return" else frame.f_lineno))
            last = frame.f_lineno
            return trace_line

        return trace_line

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return frozenset(steps)


@pytest.mark.soak
def test_ten_minutes_of_a_search_guided_by_coverage_find_nothing() -> None:
    seed = random.SystemRandom().getrandbits(64)
    chance = random.Random(seed)
    kept, seen, tries = list(OBJECTS), set[tuple[str, int, int]](), 0
    room = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    until = time.monotonic() + SOAK_S
    warnings.simplefilter("ignore")
    while time.monotonic() < until:
        tries += 1
        raw = change(chance.choice(kept), chance)
        started = time.process_time()
        try:
            steps = lines_of(lambda raw=raw: check_object(raw))  # type: ignore[misc]
        except Exception as error:
            raise AssertionError(f"seed {seed}, try {tries}: {raw.hex()}") from error
        assert time.process_time() - started < 1, raw.hex()
        if not steps <= seen:
            seen |= steps
            kept.append(raw)
    print(f"{tries} tries, {len(seen)} steps from line to line, {len(kept)} objects kept")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - room < 64 * 1024


@pytest.mark.soak
@settings(max_examples=20_000)
@given(changes(OBJECTS))
def test_many_changed_attestation_objects_are_read_or_refused(raw: bytes) -> None:
    check_object(raw)
