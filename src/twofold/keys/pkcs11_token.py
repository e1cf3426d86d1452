"""One AES key on a PKCS #11 token: the library in this process, the session, and what an answer of the token means.

Everything is called in the one thread of the library. What is asked of the token and how it is stored is `pkcs11.py`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pkcs11
from pkcs11 import Attribute, KeyType, ObjectClass, TokenFlag
from pkcs11 import exceptions as failures

from twofold.errors import KeyRefused, ProviderAway
from twofold.keys.pkcs11 import TokenAddress
from twofold.ports import Entropy

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - a class, whatever its name looks like

P = ParamSpec("P")
T = TypeVar("T")

NONCE_BYTES = 12
_TAG_BYTES = 16
_DEMANDS = (
    (Attribute.KEY_TYPE, KeyType.AES, "it is no AES key"),
    (Attribute.VALUE_LEN, 32, "it is not 256 bits long"),
    (Attribute.ENCRYPT, True, "it may not encrypt (CKA_ENCRYPT)"),
    (Attribute.DECRYPT, True, "it may not decrypt (CKA_DECRYPT)"),
    (Attribute.EXTRACTABLE, False, "it can be taken out of the token (CKA_EXTRACTABLE)"),
    (Attribute.SENSITIVE, True, "it can be read in the clear (CKA_SENSITIVE is not set)"),
    (Attribute.PRIVATE, True, "it serves without the PIN, too (CKA_PRIVATE is not set)"),
)
#: The session, the token or the way to it is gone; nothing was said about the key.
_LOST = (
    failures.DeviceError,
    failures.DeviceMemory,
    failures.DeviceRemoved,
    failures.HostMemory,
    failures.KeyHandleInvalid,
    failures.ObjectHandleInvalid,
    failures.SessionClosed,
    failures.SessionCount,
    failures.SessionHandleInvalid,
    failures.TokenNotPresent,
    failures.TokenNotRecognised,
    failures.UserNotLoggedIn,
)


class Module:
    """A PKCS #11 library in this process.

    One thread makes all calls into it, whichever key they are for: a session is not for two threads, and signing in,
    out, and ending the library are common to the whole process. Sessions of an earlier `generation` do not count.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.generation: int = 0
        self.users: set[TokenKey] = set()
        #: Serial and PIN of each refusal: none is tried twice, for a token locks itself after a few.
        self.refused_pins: set[tuple[bytes, str]] = set()
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        # A token that hangs holds its thread for good: it must not keep the program from ending as well.
        Thread(target=self._serve, name=f"pkcs11 {path}", daemon=True).start()

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do this in the thread of the library, after what was asked for before."""
        future: Future[T] = Future()
        self._calls.put((future, partial(work, *args, **kwargs)))
        return future

    def load(self) -> Library:
        """The library, initialized."""
        return pkcs11.lib(self.path)

    def begin_anew(self) -> None:
        """Initialize it again: many libraries know only the tokens that they saw then."""
        self.generation += 1
        self.load().reinitialize()

    def end(self) -> None:
        """Sign out everywhere and let all tokens go."""
        self.generation += 1
        with suppress(failures.PKCS11Error):
            self.load().finalize()

    def _serve(self) -> None:
        while True:
            future, work = self._calls.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except Exception as error:  # noqa: BLE001 - it is raised to whoever waits for the result
                    future.set_exception(error)


_modules: dict[str, Module] = {}
_modules_lock = Lock()


class TokenKey:
    """The key at an address, in a session that is opened when it is needed, and again after it was lost.

    Raises `KeyRefused` and `ProviderAway`, one line.
    """

    def __init__(self, address: TokenAddress, read_pin: Callable[[], str], entropy: Entropy) -> None:
        with _modules_lock:
            if address.module not in _modules:
                _modules[address.module] = Module(address.module)
            self.module: Module = _modules[address.module]
        self._address = address
        self._read_pin = read_pin
        self._entropy = entropy
        self._session: pkcs11.Session | None = None
        self._key: pkcs11.SecretKey | None = None
        self._generation = 0
        self._was_lost = False

    def seal(self, plaintext: bytes, aad: bytes) -> bytes:
        """Nonce, ciphertext and tag."""
        key = self._reach()
        nonce = self._entropy.bytes(NONCE_BYTES)
        try:
            return nonce + _encrypt(key, plaintext, nonce, aad)
        except failures.PKCS11Error as error:
            raise self._lose(error) from None

    def unseal(self, sealed: bytes, aad: bytes) -> bytes | None:
        """The plaintext; None when this key did not seal it like that."""
        key = self._reach()
        if len(sealed) < NONCE_BYTES + _TAG_BYTES:
            return None
        try:
            return _decrypt(key, sealed[NONCE_BYTES:], sealed[:NONCE_BYTES], aad)
        except (failures.EncryptedDataInvalid, failures.EncryptedDataLenRange):
            return None
        except _LOST as error:
            raise self._lose(error) from None
        except failures.PKCS11Error as error:
            # Many tokens, SoftHSM 2 among them, call a tag that does not fit a general error, and a fault of their
            # own, too. One that opens what it seals at this moment is well, so it was what we sent.
            try:
                self._prove(key)
            except (failures.PKCS11Error, KeyRefused):
                raise self._lose(error) from None
            return None

    def look(self) -> None:
        """See that the key is still there."""
        key = self._reach()
        try:
            key[Attribute.LABEL]
        except failures.PKCS11Error as error:
            raise self._lose(error) from None

    def make(self) -> None:
        """Let the token make the key, and try it; raises `KeyRefused` when there is one already."""
        try:
            session = self._sign_in(self._find_token(), rw=True)
            try:
                if self._search(session):
                    raise KeyRefused(f"{self._address.describe()} is there already: nothing was made")
                session.generate_key(
                    KeyType.AES,
                    256,
                    label=self._address.object or None,
                    id=self._address.id or None,
                    store=True,
                    capabilities=pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT,
                    template={Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True, Attribute.PRIVATE: True},
                )
            finally:
                session.close()
        except failures.PKCS11Error as error:
            raise self._lose(error) from None
        self.look()

    def close(self) -> None:
        """Sign out. Whoever else is signed in to the token is signed out with us, and opens a session of his again."""
        self._sign_out()
        self.module.users.discard(self)
        if not self.module.users:
            self.module.end()

    def _reach(self) -> pkcs11.SecretKey:
        if self._key is None or self._generation != self.module.generation:
            try:
                self._session = self._sign_in(self._find_token())
                self._generation = self.module.generation
                key = self._find_key(self._session)
                self._prove(key)
            except failures.MechanismInvalid:
                self._sign_out()
                raise KeyRefused(f"the token {self._address.describe_token()} has no AES-GCM") from None
            except failures.PKCS11Error as error:
                raise self._lose(error) from None
            except KeyRefused:
                self._sign_out()  # a token has only so many sessions, and we shall ask again
                raise
            self.module.users.add(self)
            self._key, self._was_lost = key, False
        return self._key

    def _sign_out(self) -> None:
        if self._session is not None and self._generation == self.module.generation:
            with suppress(failures.PKCS11Error):
                self._session.close()
            self.module.generation += 1
        self._session = self._key = None

    def _find_token(self) -> pkcs11.Token:
        tokens = [] if self._was_lost else self._list_tokens()
        if not tokens:
            self.module.begin_anew()
            tokens = self._list_tokens()
        name = self._address.describe_token()
        if not tokens:
            self._was_lost = True
            raise ProviderAway(f"there is no token {name} in {self.module.path}: put it in")
        if len(tokens) > 1:
            raise KeyRefused(f"{len(tokens)} tokens are called {name}: add serial=… to the address")
        return tokens[0]

    def _list_tokens(self) -> list[pkcs11.Token]:
        tokens = []
        for slot in self.module.load().get_slots(token_present=True):
            with suppress(failures.PKCS11Error):  # one that is just being taken out
                token = slot.get_token()
                facts = {
                    "token": token.label,
                    "serial": token.serial.decode("utf-8", "replace").strip(),
                    "manufacturer": token.manufacturer_id,
                    "model": token.model,
                    "slot-id": str(slot.slot_id),
                }
                if self._address.token.items() <= facts.items():
                    tokens.append(token)
        return tokens

    def _sign_in(self, token: pkcs11.Token, *, rw: bool = False) -> pkcs11.Session:
        pin, name = self._read_pin(), self._address.describe_token()
        refused = KeyRefused(
            f"the token {name} refused the PIN: correct it; this one is not tried again before a restart"
        )
        if (token.serial, pin) in self.module.refused_pins:
            raise refused
        if token.flags & (TokenFlag.USER_PIN_LOCKED | TokenFlag.USER_PIN_TO_BE_CHANGED):
            raise KeyRefused(f"the PIN of the token {name} is locked or must be changed: do that with its own tool")
        if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
            raise KeyRefused(
                f"the token {name} gives its PIN one last try, which is left to you: "
                f"pkcs11-tool --module {shlex.quote(self.module.path)} --login --list-objects"
            )
        try:
            return token.open(rw=rw, user_pin=pin)
        except failures.UserAlreadyLoggedIn:  # for another key of ours on this token: that holds for all sessions
            return token.open(rw=rw)
        except (failures.PinIncorrect, failures.PinInvalid, failures.PinLenRange):
            self.module.refused_pins.add((token.serial, pin))
            raise refused from None
        except (failures.PinLocked, failures.PinExpired, failures.UserPinNotInitialized) as error:
            raise KeyRefused(f"the token {name} takes no PIN ({_name(error)}): mend that with its own tool") from None

    def _search(self, session: pkcs11.Session) -> list[pkcs11.SecretKey]:
        wanted: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.SECRET_KEY}
        if self._address.object:
            wanted[Attribute.LABEL] = self._address.object
        if self._address.id:
            wanted[Attribute.ID] = self._address.id
        return [key for key in session.get_objects(wanted) if isinstance(key, pkcs11.SecretKey)]

    def _find_key(self, session: pkcs11.Session) -> pkcs11.SecretKey:
        keys, name = self._search(session), self._address.describe()
        if not keys:
            raise KeyRefused(f"{name} is missing: put it back, or for a new database: {self._keygen()}")
        if len(keys) > 1:
            raise KeyRefused(f"{name} is there {len(keys)} times: add id=%… to the address")
        for attribute, expected, fault in _DEMANDS:
            try:
                is_right = keys[0][attribute] == expected
            except (failures.AttributeTypeInvalid, failures.AttributeSensitive):
                is_right = False
            if not is_right:
                raise KeyRefused(f"{name} is not fit: {fault}; for a new database: {self._keygen()}")
        return keys[0]

    def _keygen(self) -> str:
        token = ["--token-label", self._address.token["token"]] if "token" in self._address.token else []
        label = ["--label", self._address.object] if self._address.object else []
        command = ["pkcs11-tool", "--module", self.module.path, "--login", *token, "--keygen", "--key-type", "AES:32"]
        return shlex.join([*command, "--sensitive", "--private", *label, "--id", self._address.id.hex() or "01"])

    def _prove(self, key: pkcs11.SecretKey) -> None:
        """Before anything depends on it: that the token opens what it seals, and binds it to what it belongs to."""
        nonce, plaintext = self._entropy.bytes(NONCE_BYTES), bytes(32)
        sealed = _encrypt(key, plaintext, nonce, b"here")
        if _decrypt(key, sealed, nonce, b"here") != plaintext:
            raise KeyRefused(f"{self._address.describe()} does not open what it sealed: AES-GCM does not work there")
        try:
            _decrypt(key, sealed, nonce, b"elsewhere")
        except failures.PKCS11Error:
            return
        raise KeyRefused(f"{self._address.describe()} opens keys in the wrong place: AES-GCM does not work there")

    def _lose(self, error: failures.PKCS11Error) -> ProviderAway:
        self._key, self._was_lost = None, True
        return ProviderAway(f"{self._address.describe()} does not answer ({_name(error)})")


# A key has these two methods if its attributes allow them, which no type tells.
def _encrypt(key: Any, plaintext: bytes, nonce: bytes, aad: bytes) -> bytes:
    parameters = pkcs11.GCMParams(nonce, aad, _TAG_BYTES * 8)
    sealed: bytes = key.encrypt(plaintext, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters)
    return sealed


def _decrypt(key: Any, sealed: bytes, nonce: bytes, aad: bytes) -> bytes:
    parameters = pkcs11.GCMParams(nonce, aad, _TAG_BYTES * 8)
    plaintext: bytes = key.decrypt(sealed, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters)
    return plaintext


def _name(error: failures.PKCS11Error) -> str:
    """The name of the error and what the library says of it, on one line."""
    return " ".join(f"{type(error).__name__} {error}".split())
