"""The otpauth:// URI that carries a TOTP or HOTP secret into an authenticator app, and the Base32 text of that secret.

Written after the "Key URI Format" of Google Authenticator. `dump` writes what every app reads; `load` reads what people
really have, and refuses what two readers could understand differently.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, quote, unquote

from twofold.crypto.otp import COUNTER_MAX, DIGITS_MAX, DIGITS_MIN, PERIOD_S_MAX, PERIOD_S_MIN, Algorithm
from twofold.errors import InvalidInput

OtpType = Literal["totp", "hotp"]

# 80 bits are what many services still hand out: good enough to import. Secrets made here have 160.
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 10, 128
# No QR code holds more letters.
URI_LENGTH_MAX = 4296

_TYPES: Final[Mapping[str, OtpType]] = {"totp": "totp", "hotp": "hotp"}
_ALGORITHMS: Final[Mapping[str, Algorithm]] = {"sha1": "SHA1", "sha256": "SHA256", "sha512": "SHA512"}
_PARAMETERS = frozenset({"secret", "issuer", "algorithm", "digits", "period", "counter"})
_SHAPE = re.compile(
    r"otpauth://(?P<type>[^/?#]*)(/(?P<label>[^?#]*))?(\?(?P<query>[^#]*))?(#.*)?", re.IGNORECASE | re.DOTALL
)
# Control characters, line separators and lone surrogates: they break logs and headers, or cannot be stored.
_UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtpauthUri:
    """What an otpauth URI says. `issuer` and `account` may be empty; TOTP has a period, HOTP a counter."""

    type: OtpType
    account: str
    issuer: str
    secret: bytes = field(repr=False)
    algorithm: Algorithm = "SHA1"
    digits: int = 6
    period_s: int | None = None
    counter: int | None = None


def dump(uri: OtpauthUri) -> str:
    """The URI as text, all of it ASCII."""
    # A colon inside a name is written %3A, so the only bare one is the separator. It is written in front of an account
    # without an issuer too when the account has a colon of its own, or its beginning would be read as the issuer.
    prefix = f"{quote(uri.issuer, safe='')}:" if uri.issuer or ":" in uri.account else ""
    # quote() writes a space as %20: apps show the + of form encoding as it is.
    # The defaults are written out: an app that assumes others would show wrong codes for ever without saying so.
    parameters = {
        "secret": encode_secret(uri.secret),
        "issuer": quote(uri.issuer, safe=""),
        "algorithm": uri.algorithm,
        "digits": uri.digits,
        "period": uri.period_s,
        "counter": uri.counter,
    }
    query = "&".join(f"{name}={value}" for name, value in parameters.items() if value not in ("", None))
    return f"otpauth://{uri.type}/{prefix}{quote(uri.account, safe='@')}?{query}"


def load(text: str) -> OtpauthUri:
    """Reads an otpauth URI; blanks around issuer and account are dropped.

    Raises InvalidInput, whose `field` is `uri`, `type`, `label` or the name of the parameter that is wrong.
    """
    if len(text) > URI_LENGTH_MAX:
        raise InvalidInput("uri", f"at most {URI_LENGTH_MAX} characters")
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise InvalidInput("uri", "otpauth:// at its beginning")
    parameters = _load_parameters(shape["query"] or "")
    type_ = _TYPES.get(shape["type"].lower())
    if type_ is None:
        raise InvalidInput("type", "totp or hotp")
    issuer, account = _load_names(shape["label"], parameters.get("issuer", ""))
    secret = decode_secret(parameters.get("secret", ""))
    algorithm = _ALGORITHMS.get(parameters.get("algorithm", "SHA1").lower())
    if algorithm is None:
        raise InvalidInput("algorithm", f"one of {', '.join(_ALGORITHMS.values())}")
    digits = _load_number("digits", parameters.get("digits", "6"), DIGITS_MIN, DIGITS_MAX)
    period_s = counter = None
    if type_ == "totp":
        period_s = _load_number("period", parameters.get("period", "30"), PERIOD_S_MIN, PERIOD_S_MAX)
    else:
        # Without a default: to assume 0 would bring back codes that were used long ago.
        counter = _load_number("counter", parameters.get("counter", ""), 0, COUNTER_MAX)
    return OtpauthUri(
        type=type_,
        account=account,
        issuer=issuer,
        secret=secret,
        algorithm=algorithm,
        digits=digits,
        period_s=period_s,
        counter=counter,
    )


def decode_secret(text: str) -> bytes:
    """Bytes of a Base32 secret (RFC 4648 §6) in either case, grouped by spaces or hyphens, with padding or without.

    Raises InvalidInput("secret", …). Look-alikes such as 0 and 1 are refused, not guessed. Bits left over in the last
    character are dropped, as apps do: many services make secrets out of random characters.
    """
    symbols = text.replace(" ", "").replace("-", "").rstrip("=")
    try:
        secret = base64.b32decode(symbols + "=" * (-len(symbols) % 8), casefold=True)
    except ValueError:
        raise InvalidInput("secret", "Base32: the letters A to Z and the digits 2 to 7") from None
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise InvalidInput("secret", f"{SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes in Base32")
    return secret


def encode_secret(secret: bytes) -> str:
    """Upper case Base32 without padding, as apps want it typed."""
    return base64.b32encode(secret).decode().rstrip("=")


def grouped(secret_text: str) -> str:
    """Groups of four characters with a space between them, for people who type the secret."""
    return " ".join(secret_text[start : start + 4] for start in range(0, len(secret_text), 4))


def _load_parameters(query: str) -> dict[str, str]:
    """The parameters that mean something to us; others, such as an image, are ignored."""
    try:
        # In a query + means a space, as form encoders write it.
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput("uri", "parameters in percent-encoded UTF-8") from None
    parameters: dict[str, str] = {}
    for name, value in pairs:
        # Of two secrets one app takes the first and another the last: codes that never match.
        if name in parameters:
            raise InvalidInput(name, "one value")
        if name in _PARAMETERS:
            parameters[name] = value
    return parameters


def _load_names(label: str | None, issuer: str) -> tuple[str, str]:
    """Issuer and account out of the label `issuer:account` and the issuer parameter, which wins where they differ."""
    if label is None:
        raise InvalidInput("label", "a slash and a name after the type")
    try:
        names = unquote(label, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput("label", "percent-encoded UTF-8") from None
    if names.startswith(f"{issuer}:"):
        # The separator is known, even if the issuer has a colon of its own.
        account = names.removeprefix(f"{issuer}:")
    else:
        prefix, colon, account = names.partition(":")
        issuer, account = (issuer or prefix, account) if colon else (issuer, prefix)
    for parameter, name in (("issuer", issuer), ("label", account)):
        if _UNSHOWABLE.search(name):
            raise InvalidInput(parameter, "text without control characters")
    return issuer.strip(), account.strip()


def _load_number(name: str, text: str, lowest: int, highest: int) -> int:
    # isascii() because int() reads full-width digits too; no allowed number is longer than the highest.
    if text.isascii() and text.isdigit() and len(text) <= len(str(highest)) and lowest <= int(text) <= highest:
        return int(text)
    raise InvalidInput(name, f"a number from {lowest} to {highest}")
