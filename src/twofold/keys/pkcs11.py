"""The `pkcs11:` key provider: an AES-256 key that never leaves its token, an HSM or SoftHSM, wraps there with AES-GCM.

Here are the address (RFC 7512), where the PIN comes from and what is stored; the token itself is `pkcs11_token.py`.
What is stored is a version byte, the nonce, the ciphertext and its tag, bound to the deployment and to the key's id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_to_bytes

import msgspec

from twofold.crypto.digest import length_prefixed
from twofold.errors import ConfigurationError, KeyRefused, Unavailable
from twofold.key_ports import KeyProvider, Unwrapping, Wrapping
from twofold.keys.secret import read_secret
from twofold.keys.uri import KeyUri
from twofold.ports import Entropy

if TYPE_CHECKING:
    from twofold.keys.pkcs11_token import TokenKey

PIN_VARIABLE = "TWOFOLD_PKCS11_PIN"
MODULE_VARIABLE = "TWOFOLD_PKCS11_MODULE"
OPEN_S = 10.0
CLOSE_S = 2.0
_VERSION = b"\1"
_EXAMPLE = "pkcs11:token=twofold;object=twofold-master?module-path=/usr/lib/softhsm/libsofthsm2.so"
_TOKEN_ATTRIBUTES = ("token", "serial", "manufacturer", "model", "slot-id")
_KEY_ATTRIBUTES = ("object", "id", "type")


class TokenAddress(msgspec.Struct, frozen=True):
    """Which key on which token, and where its PIN is: never the PIN itself. `token` holds the attributes of RFC 7512
    that name the token, `object` and `id` name the key on it."""

    module: str
    token: Mapping[str, str]
    object: str
    id: bytes
    pin_file: Path | None
    deployment: str

    def describe(self) -> str:
        """One line for people."""
        return f"the key {self.object or self.id.hex()} on the token {self.describe_token()}"

    def describe_token(self) -> str:
        """The token alone."""
        return self.token.get("token") or ", ".join(f"{name}={value}" for name, value in self.token.items())

    def read_pin(self, environment: Mapping[str, str]) -> str:
        """The PIN as it is now; raises `KeyRefused`."""
        try:
            pin = self.pin_file.read_text().rstrip("\r\n") if self.pin_file else read_secret(environment, PIN_VARIABLE)
        except ConfigurationError as error:
            raise KeyRefused(str(error)) from None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise KeyRefused(f"the PIN file {self.pin_file} cannot be read ({why})") from None
        if not pin:
            place = f"{self.pin_file} is empty" if self.pin_file else f"set {PIN_VARIABLE}, or pin-source=file:/path"
            raise KeyRefused(f"the PIN is missing: {place}")
        return pin


class Pkcs11KeyProvider:
    """Wraps keys with AES-GCM inside of a token."""

    def __init__(self, key: TokenKey, address: TokenAddress) -> None:
        self._key = key
        self._address = address

    @classmethod
    def open(cls, uri: KeyUri, entropy: Entropy, environment: Mapping[str, str]) -> Pkcs11KeyProvider:
        """Sign in to the token and try the key there.

        Raises `ConfigurationError`, one line. A PIN that the token refused is never tried a second time by this
        program: tokens lock themselves after a few wrong ones.
        """
        address = read_address(uri, environment)
        key = _take_up(address, entropy, environment)
        _wait(key, key.look)
        return cls(key, address)

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        aad = self._additional_data(key_id)
        return Wrapping(_VERSION + await asyncio.wrap_future(self._key.module.call(self._key.seal, key, aad)))

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        if wrapped[:1] != _VERSION:
            raise KeyRefused(f"key {key_id} was not wrapped by {self.describe()}")
        aad = self._additional_data(key_id)
        key = await asyncio.wrap_future(self._key.module.call(self._key.unseal, wrapped[1:], aad))
        if key is None:
            raise KeyRefused(f"key {key_id} was wrapped by another key than {self.describe()}, or changed")
        return Unwrapping(key)

    async def watch(self) -> None:
        """Ask the token for the key's attributes; that is no use of the key."""
        await asyncio.wrap_future(self._key.module.call(self._key.look))

    def describe(self) -> str:
        return f"{self._address.describe()} ({self._address.module})"

    async def close(self) -> None:
        # A token that hangs does not keep the program from ending.
        await asyncio.wait([asyncio.wrap_future(self._key.module.call(self._key.close))], timeout=CLOSE_S)

    def _additional_data(self, key_id: str) -> bytes:
        return length_prefixed(b"twofold/1", b"keyring.wrapped", self._address.deployment.encode(), key_id.encode())


def read_address(uri: KeyUri, environment: Mapping[str, str]) -> TokenAddress:
    """The address in a URI; raises `ConfigurationError`."""
    attributes: dict[str, str] = {}
    for part in filter(None, uri.place.split(";")):
        name, _, value = part.partition("=")
        if name == "pin-value":
            _refuse_pin()
        if name not in _TOKEN_ATTRIBUTES + _KEY_ATTRIBUTES or name in attributes or not value:
            known = ", ".join(_TOKEN_ATTRIBUTES + _KEY_ATTRIBUTES)
            raise ConfigurationError(f"KEY_PROVIDER pkcs11: {name[:40]!r}: expected each once, with a value: {known}")
        attributes[name] = value
    if "pin-value" in uri.options:
        _refuse_pin()
    uri.check_options("module-path", "pin-source", "deployment")
    if attributes.get("type", "secret-key") != "secret-key":
        raise ConfigurationError("KEY_PROVIDER pkcs11: expected type=secret-key: an AES key")
    token = {name: unquote(attributes[name]) for name in _TOKEN_ATTRIBUTES if name in attributes}
    label = unquote(attributes.get("object", ""))
    if not token or not (label or "id" in attributes):
        raise ConfigurationError(f"KEY_PROVIDER pkcs11: expected a token and an object or id, such as {_EXAMPLE}")
    if not "".join((*token.values(), label)).isprintable():
        raise ConfigurationError("KEY_PROVIDER pkcs11: expected names that can be printed")
    module = uri.options.get("module-path") or environment.get(MODULE_VARIABLE, "")
    if not Path(module).is_absolute():
        raise ConfigurationError(
            f"KEY_PROVIDER pkcs11: expected module-path=/path/to/the/library.so, or that path in {MODULE_VARIABLE}"
        )
    return TokenAddress(
        module,
        token,
        label,
        unquote_to_bytes(attributes.get("id", "")),
        _read_pin_source(uri.options.get("pin-source", "")),
        uri.options.get("deployment") or "twofold",
    )


def make_key(uri: KeyUri, entropy: Entropy, environment: Mapping[str, str]) -> str:
    """Make the key of this address on its token and say so in one line; raises `ConfigurationError`, also when there
    is one already. The token draws it, and it can be neither read nor taken out."""
    address = read_address(uri, environment)
    key = _take_up(address, entropy, environment)
    _wait(key, key.make)
    _wait(key, key.close)
    return f"{address.describe()} was made"


def _take_up(address: TokenAddress, entropy: Entropy, environment: Mapping[str, str]) -> TokenKey:
    try:
        from twofold.keys.pkcs11_token import TokenKey  # noqa: PLC0415 - its library is an extra
    except ImportError:
        raise ConfigurationError("KEY_PROVIDER pkcs11: needs python-pkcs11: pip install 'twofold[pkcs11]'") from None
    return TokenKey(address, lambda: address.read_pin(environment), entropy)


def _wait(key: TokenKey, work: Callable[[], None]) -> None:
    """Do this with a key that is given up where it fails."""
    try:
        key.module.call(work).result(OPEN_S)
    except Unavailable as error:
        _wait(key, key.close)
        raise ConfigurationError(f"KEY_PROVIDER pkcs11: {error}") from None
    except TimeoutError:
        key.module.call(key.close)
        raise ConfigurationError(f"KEY_PROVIDER pkcs11: {key.module.path} did not answer in {OPEN_S:g} s") from None


def _read_pin_source(source: str) -> Path | None:
    path = Path(source.removeprefix("file:"))
    if source and not path.is_absolute():
        raise ConfigurationError("KEY_PROVIDER pkcs11: expected pin-source=file:/path/to/a/file with the PIN")
    return path if source else None


def _refuse_pin() -> None:
    raise ConfigurationError(
        "KEY_PROVIDER pkcs11: a pin-value has no place here, for the address is stored and shown: "
        f"put the PIN into {PIN_VARIABLE} or a file, pin-source=file:/path"
    )


_: type[KeyProvider] = Pkcs11KeyProvider
