"""The `pkcs11:` provider against a real SoftHSM 2, and what it makes of a token that fails."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pkcs11
import pytest
from pkcs11 import exceptions as failures
from tests.conftest import find_program
from tests.keys.contract_provider import KEY, ProviderContract

from twofold.clocks import SystemEntropy
from twofold.errors import ConfigurationError, KeyRefused, ProviderAway
from twofold.keys import pkcs11_token
from twofold.keys.pkcs11 import Pkcs11KeyProvider, make_key
from twofold.keys.uri import read_uri

PIN = "98765432"
ENVIRONMENT = {"TWOFOLD_PKCS11_PIN": PIN}
#: Where distributions put the library; its tool stands on the PATH and tells nothing of it.
LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
    "/usr/lib/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


class SoftHsm:
    """A SoftHSM in a folder of its own; `take_out` and `put_in` move its tokens away and back."""

    def __init__(self, folder: Path) -> None:
        self._tool = find_program("softhsm2-util")
        self.library = next((path for path in LIBRARIES if Path(path).exists()), "")
        assert self.library, f"libsofthsm2.so is in none of {LIBRARIES}"
        self._tokens = folder / "tokens"
        self._away = folder / "away"
        self._tokens.mkdir()
        self.config = folder / "softhsm2.conf"
        self.config.write_text(f"directories.tokendir = {self._tokens}\nlog.level = ERROR\n")

    def add_token(self, label: str) -> None:
        arguments = ["--init-token", "--free", "--label", label, "--so-pin", "1234567", "--pin", PIN]
        environment = {**os.environ, "SOFTHSM2_CONF": str(self.config)}
        subprocess.run([self._tool, *arguments], env=environment, check=True, capture_output=True)

    def uri(self, path: str = "token=twofold;object=twofold-master", query: str = "") -> str:
        return f"pkcs11:{path}?module-path={self.library}{query}"

    def take_out(self) -> None:
        self._tokens.rename(self._away)
        self._tokens.mkdir()

    def put_in(self) -> None:
        shutil.rmtree(self._tokens)
        self._away.rename(self._tokens)


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """A token `twofold` with the key `twofold-master` on it."""
    softhsm = SoftHsm(tmp_path)
    softhsm.add_token("twofold")
    monkeypatch.setenv("SOFTHSM2_CONF", str(softhsm.config))
    make_key(read_uri(softhsm.uri()), SystemEntropy(), ENVIRONMENT)
    return softhsm


Open = Callable[..., Pkcs11KeyProvider]


@pytest.fixture
async def open_it(hsm: SoftHsm) -> AsyncIterator[Open]:
    opened = []

    def open_uri(uri: str = "", environment: dict[str, str] = ENVIRONMENT) -> Pkcs11KeyProvider:
        opened.append(Pkcs11KeyProvider.open(read_uri(uri or hsm.uri()), SystemEntropy(), environment))
        return opened[-1]

    yield open_uri
    for provider in opened:
        await provider.close()


def generate(hsm: SoftHsm, label: str, length: int = 256, **attributes: Any) -> None:
    """A key as somebody else would make it, with other attributes."""
    library = pkcs11.lib(hsm.library)
    with library.get_token(token_label="twofold").open(rw=True, user_pin=PIN) as session:
        template: dict[Any, Any] = {
            pkcs11.Attribute.EXTRACTABLE: False,
            pkcs11.Attribute.SENSITIVE: True,
            pkcs11.Attribute.PRIVATE: True,
            **{pkcs11.Attribute[name]: value for name, value in attributes.items()},
        }
        session.generate_key(pkcs11.KeyType.AES, length, label=label, store=True, template=template)
    library.finalize()


class Watched:
    """Stands before a library, a slot or a token of python-pkcs11: counts what is opened, and `fail` fails instead."""

    opened = 0
    closed = 0
    flags_added = pkcs11.TokenFlag(0)
    fail: Exception | None = None
    hold: Event | None = None

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_slots(self, **which: Any) -> list["Watched"]:
        if Watched.hold is not None:
            Watched.hold.wait()
        return [Watched(slot) for slot in self._real.get_slots(**which)]

    def get_token(self) -> "Watched":
        return Watched(self._real.get_token())

    @property
    def flags(self) -> pkcs11.TokenFlag:
        return pkcs11.TokenFlag(self._real.flags | Watched.flags_added)

    def open(self, **how: Any) -> Any:
        Watched.opened += 1
        if Watched.fail is not None:
            raise Watched.fail
        return Watched(self._real.open(**how))

    def close(self) -> None:
        Watched.closed += 1
        self._real.close()


@pytest.fixture
def watched(hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    """How often sessions are opened, from here on."""
    real = pkcs11.lib
    monkeypatch.setattr(pkcs11, "lib", lambda path: Watched(real(path)))
    for name, value in (
        ("opened", 0),
        ("closed", 0),
        ("flags_added", pkcs11.TokenFlag(0)),
        ("fail", None),
        ("hold", None),
    ):
        monkeypatch.setattr(Watched, name, value)
    return Watched


class TestPkcs11(ProviderContract):
    @pytest.fixture
    def provider(self, open_it: Open) -> Pkcs11KeyProvider:
        return open_it()

    @pytest.fixture
    def stranger(self, hsm: SoftHsm, open_it: Open) -> Pkcs11KeyProvider:
        uri = hsm.uri("token=twofold;object=other")
        make_key(read_uri(uri), SystemEntropy(), ENVIRONMENT)
        return open_it(uri)

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return [PIN]


async def test_another_deployment_does_not_open_it(hsm: SoftHsm, open_it: Open) -> None:
    wrapped = (await open_it().wrap(KEY, key_id="data-1")).wrapped
    other = open_it(hsm.uri(query="&deployment=staging"))
    with pytest.raises(KeyRefused):
        await other.unwrap(wrapped, key_id="data-1")
    assert (await open_it(hsm.uri(query="&deployment=twofold")).unwrap(wrapped, key_id="data-1")).key == KEY


async def test_the_key_is_found_by_what_the_address_says_of_token_and_key(hsm: SoftHsm, open_it: Open) -> None:
    hsm.add_token("other")
    path = "model=SoftHSM%20v2;manufacturer=SoftHSM%20project;token=twofold;object=by-id;id=%0A%ff;type=secret-key"
    make_key(read_uri(hsm.uri(path)), SystemEntropy(), ENVIRONMENT)
    token = pkcs11.lib(hsm.library).get_token(token_label="twofold")
    serial, slot_id = token.serial.decode(), token.slot.slot_id
    wrapped = (await open_it(hsm.uri(path)).wrap(KEY, key_id="data-1")).wrapped
    for same in (f"serial={serial};id=%0a%FF", f"slot-id={slot_id};object=by-id"):
        assert (await open_it(hsm.uri(same)).unwrap(wrapped, key_id="data-1")).key == KEY
    for wrong in (f"serial={serial[:-1]}x;object=by-id", "token=Twofold;object=by-id", "token=two;object=by-id"):
        with pytest.raises(ConfigurationError, match="there is no token"):
            open_it(hsm.uri(wrong))


async def test_module_and_pin_may_come_from_elsewhere(hsm: SoftHsm, open_it: Open, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    query = f"pkcs11:token=twofold;object=twofold-master?pin-source=file:{pin}"
    provider = open_it(query, {"TWOFOLD_PKCS11_MODULE": hsm.library})
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped
    pin.unlink()
    with pytest.raises(ConfigurationError, match=r"PIN file .* cannot be read"):
        open_it(query, {"TWOFOLD_PKCS11_MODULE": hsm.library})
    pin.write_text("")
    with pytest.raises(ConfigurationError, match="the PIN is missing"):
        open_it(query, {"TWOFOLD_PKCS11_MODULE": hsm.library})
    with pytest.raises(ConfigurationError, match="set TWOFOLD_PKCS11_PIN"):
        open_it(environment={})


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("pkcs11:token=t;object=o?module-path=/m.so&pin-value=1234", "the address is stored"),
        ("pkcs11:token=t;object=o;pin-value=1234?module-path=/m.so", "the address is stored"),
        ("pkcs11:token=t;object=o", "module-path="),
        ("pkcs11:token=t;object=o?module-path=libsofthsm2.so", "module-path=/path"),
        ("pkcs11:token=t;object=o?module-path=/m.so&pin-source=|getpin", "pin-source=file:"),
        ("pkcs11:token=t;object=o?module-path=/m.so&module-name=m", "no option 'module-name'"),
        ("pkcs11:object=o?module-path=/m.so", "expected a token and an object"),
        ("pkcs11:token=t?module-path=/m.so", "expected a token and an object"),
        ("pkcs11:token=t;token=u;object=o?module-path=/m.so", "each once"),
        ("pkcs11:token=;object=o?module-path=/m.so", "with a value"),
        ("pkcs11:tokn=t;object=o?module-path=/m.so", "expected each once"),
        ("pkcs11:token=t;object=o;type=private?module-path=/m.so", "type=secret-key"),
        ("pkcs11:token=t%0Au;object=o?module-path=/m.so", "can be printed"),
        ("pkcs11:token=t;object=o?module-path=/nowhere/m.so", "/nowhere/m.so"),
    ],
)
def test_an_address_that_is_wrong_is_named_in_one_line(uri: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Pkcs11KeyProvider.open(read_uri(uri), SystemEntropy(), ENVIRONMENT)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "1234" not in str(error.value)


def test_without_its_library_it_says_what_to_install(hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "twofold.keys.pkcs11_token")
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'twofold\[pkcs11\]'"):
        Pkcs11KeyProvider.open(read_uri(hsm.uri()), SystemEntropy(), ENVIRONMENT)


def test_a_key_is_made_once_and_never_by_opening(hsm: SoftHsm, open_it: Open) -> None:
    uri = hsm.uri("token=twofold;object=new;id=%07")
    with pytest.raises(ConfigurationError) as error:
        open_it(uri)
    command = f"pkcs11-tool --module {hsm.library} --login --token-label twofold --keygen --key-type AES:32"
    assert f"{command} --sensitive --private --label new --id 07" in str(error.value)
    assert make_key(read_uri(uri), SystemEntropy(), ENVIRONMENT) == "the key new on the token twofold was made"
    with pytest.raises(ConfigurationError, match="there already"):
        make_key(read_uri(uri), SystemEntropy(), ENVIRONMENT)
    assert open_it(uri)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"EXTRACTABLE": True}, "CKA_EXTRACTABLE"),
        ({"SENSITIVE": False}, "CKA_SENSITIVE"),
        ({"PRIVATE": False}, "CKA_PRIVATE"),
        ({"DECRYPT": False}, "CKA_DECRYPT"),
        ({"ENCRYPT": False}, "CKA_ENCRYPT"),
        ({"length": 128}, "256 bits"),
    ],
)
def test_a_key_that_the_token_does_not_keep_to_itself_is_refused(
    hsm: SoftHsm, open_it: Open, attributes: dict[str, Any], said: str
) -> None:
    generate(hsm, "loose", **attributes)
    with pytest.raises(ConfigurationError, match=said):
        open_it(hsm.uri("token=twofold;object=loose"))
    generate(hsm, "kept")
    assert open_it(hsm.uri("token=twofold;object=kept"))


def test_two_keys_or_two_tokens_of_one_name_are_told_apart_by_the_reader(hsm: SoftHsm, open_it: Open) -> None:
    generate(hsm, "twofold-master")
    with pytest.raises(ConfigurationError, match="2 times"):
        open_it()
    hsm.add_token("twofold")
    with pytest.raises(ConfigurationError, match="2 tokens are called twofold"):
        open_it()


async def test_a_wrong_pin_is_tried_once_whoever_asks_how_often(
    hsm: SoftHsm, open_it: Open, watched: type[Watched]
) -> None:
    for _ in range(3):
        with pytest.raises(ConfigurationError, match="refused the PIN") as error:
            open_it(environment={"TWOFOLD_PKCS11_PIN": "12345678"})
        assert "12345678" not in str(error.value)
    assert watched.opened == 1
    assert open_it()


async def test_a_pin_that_was_changed_is_tried_once_and_the_corrected_one_serves_without_a_restart(
    hsm: SoftHsm, open_it: Open, watched: type[Watched]
) -> None:
    environment = dict(ENVIRONMENT)
    provider = open_it(environment=environment)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    environment["TWOFOLD_PKCS11_PIN"] = "00000000"
    hsm.take_out()
    with pytest.raises(ProviderAway):
        await provider.watch()
    hsm.put_in()
    watched.opened = 0
    for _ in range(5):
        with pytest.raises(KeyRefused, match="refused the PIN"):
            await provider.watch()
    assert watched.opened == 1
    environment["TWOFOLD_PKCS11_PIN"] = PIN
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (pkcs11.TokenFlag.USER_PIN_FINAL_TRY, "one last try"),
        (pkcs11.TokenFlag.USER_PIN_LOCKED, "locked"),
        (pkcs11.TokenFlag.USER_PIN_TO_BE_CHANGED, "must be changed"),
    ],
)
def test_the_last_try_of_a_pin_is_left_to_people(
    open_it: Open, watched: type[Watched], flag: pkcs11.TokenFlag, said: str
) -> None:
    watched.flags_added = flag
    with pytest.raises(ConfigurationError, match=said):
        open_it()
    assert watched.opened == 0
    watched.flags_added = pkcs11.TokenFlag.USER_PIN_COUNT_LOW
    assert open_it()


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (failures.PinLocked(), "takes no PIN"),
        (failures.PinExpired(), "takes no PIN"),
        (failures.DeviceError(), "does not answer .DeviceError"),
        (failures.PKCS11Error("strange\nanswer"), "strange answer"),
    ],
)
def test_each_failure_of_signing_in_is_one_line(
    open_it: Open, watched: type[Watched], failure: Exception, said: str
) -> None:
    watched.fail = failure
    with pytest.raises(ConfigurationError, match=said) as error:
        open_it()
    assert "\n" not in str(error.value)
    watched.fail = None
    assert open_it()


async def test_a_token_that_is_taken_out_is_away_and_serves_again_once_it_is_back(hsm: SoftHsm, open_it: Open) -> None:
    provider = open_it()
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    hsm.take_out()
    for _ in range(2):
        with pytest.raises(ProviderAway):
            await provider.unwrap(wrapped, key_id="data-1")
        with pytest.raises(ProviderAway):
            await provider.wrap(KEY, key_id="data-1")
        with pytest.raises(ProviderAway):
            await provider.watch()
    hsm.put_in()
    await provider.watch()
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


@pytest.mark.parametrize("first", ["unwrap", "wrap", "watch"])
async def test_whatever_call_meets_the_missing_token_first_says_away(hsm: SoftHsm, open_it: Open, first: str) -> None:
    provider = open_it()
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    hsm.take_out()
    calls: dict[str, Any] = {
        "unwrap": lambda: provider.unwrap(wrapped, key_id="data-1"),
        "wrap": lambda: provider.wrap(KEY, key_id="data-1"),
        "watch": provider.watch,
    }
    with pytest.raises(ProviderAway):
        await calls[first]()
    hsm.put_in()
    await calls[first]()


async def test_a_key_that_was_destroyed_is_refused_from_the_second_call_on(
    hsm: SoftHsm, open_it: Open, watched: type[Watched]
) -> None:
    provider = open_it()
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    destroy = (
        "import sys, pkcs11\n"
        "session = pkcs11.lib(sys.argv[1]).get_token(token_label='twofold').open(rw=True, user_pin=sys.argv[2])\n"
        "for key in list(session.get_objects()): key.destroy()"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", destroy, hsm.library, PIN], check=True)
    with pytest.raises(ProviderAway):
        await provider.watch()
    watched.opened = 0
    for _ in range(5):
        with pytest.raises(KeyRefused, match="is missing: put it back"):
            await provider.unwrap(wrapped, key_id="data-1")
    assert watched.opened == watched.closed == 5, "no session is left behind"


async def test_another_token_of_the_same_names_in_its_place_is_refused(hsm: SoftHsm, open_it: Open) -> None:
    provider = open_it()
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    hsm.take_out()
    await asyncio.to_thread(hsm.add_token, "twofold")
    with pytest.raises(ProviderAway):
        await provider.watch()
    with pytest.raises(KeyRefused, match="is missing"):
        await provider.unwrap(wrapped, key_id="data-1")
    await asyncio.to_thread(make_key, read_uri(hsm.uri()), SystemEntropy(), ENVIRONMENT)
    for _ in range(2):
        with pytest.raises(KeyRefused, match="wrapped by another key"):
            await provider.unwrap(wrapped, key_id="data-1")
    hsm.put_in()
    with pytest.raises(ProviderAway):
        await provider.unwrap(wrapped, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_two_providers_of_one_library_do_without_each_other(hsm: SoftHsm, open_it: Open) -> None:
    hsm.add_token("second")
    uri = hsm.uri("token=second;object=twofold-master")
    make_key(read_uri(uri), SystemEntropy(), ENVIRONMENT)
    one, same_token, other = open_it(), open_it(), open_it(uri)
    wrapped = (await one.wrap(KEY, key_id="data-1")).wrapped
    await same_token.close()
    assert (await one.unwrap(wrapped, key_id="data-1")).key == KEY
    await one.close()
    assert (await other.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused):
        await other.unwrap(wrapped, key_id="data-1")
    assert (await open_it().unwrap(wrapped, key_id="data-1")).key == KEY


async def test_many_threads_with_loops_of_their_own_share_the_session(open_it: Open, watched: type[Watched]) -> None:
    provider = open_it()

    def use(number: int) -> bytes:
        async def there_and_back() -> bytes:
            wrapping = await provider.wrap(bytes([number]) * 32, key_id=f"data-{number}")
            return (await provider.unwrap(wrapping.wrapped, key_id=f"data-{number}")).key

        return asyncio.run(there_and_back())

    with ThreadPoolExecutor(16) as threads:
        opened = await asyncio.to_thread(lambda: list(threads.map(use, range(64))))
    assert opened == [bytes([number]) * 32 for number in range(64)]
    assert watched.opened == 1


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (failures.DeviceError, ProviderAway),
        (failures.DeviceRemoved, ProviderAway),
        (failures.SessionClosed, ProviderAway),
        (failures.UserNotLoggedIn, ProviderAway),
        # Said of the probe, too: then it is the token's own fault.
        (failures.GeneralError, ProviderAway),
        (failures.FunctionFailed, ProviderAway),
        (failures.EncryptedDataInvalid, KeyRefused),
        (failures.EncryptedDataLenRange, KeyRefused),
    ],
)
async def test_what_the_token_says_of_itself_may_pass_and_what_it_says_of_the_key_does_not(
    open_it: Open, monkeypatch: pytest.MonkeyPatch, failure: type[Exception], raised: type[Exception]
) -> None:
    provider = open_it()
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped

    def fail(*_: object) -> bytes:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(pkcs11_token, "_decrypt", fail)
        with pytest.raises(raised):
            await provider.unwrap(wrapped, key_id="data-1")
        patch.setattr(pkcs11_token, "_encrypt", fail)
        with pytest.raises(ProviderAway):
            await provider.wrap(KEY, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


def test_a_token_whose_gcm_does_not_work_is_found_before_anything_depends_on_it(
    open_it: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gcm(*_: object) -> bytes:
        raise failures.MechanismInvalid

    for broken, said in (
        (lambda *_: bytes(32), "opens keys in the wrong place"),
        (lambda *_: bytes(31), "does not open what it sealed"),
        (no_gcm, "has no AES-GCM"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(pkcs11_token, "_decrypt", broken)
            with pytest.raises(ConfigurationError, match=said):
                open_it()
    assert open_it()


async def test_opening_gives_up_on_a_token_that_hangs_and_it_serves_again_later(
    open_it: Open, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twofold.keys.pkcs11.OPEN_S", 0.05)
    watched.hold = Event()
    with pytest.raises(ConfigurationError, match=r"did not answer in 0.05 s"):
        open_it()
    watched.hold.set()
    monkeypatch.setattr("twofold.keys.pkcs11.OPEN_S", 10.0)
    assert open_it()


async def test_a_token_that_hangs_does_not_keep_a_server_from_ending(
    open_it: Open, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = open_it()
    monkeypatch.setattr("twofold.keys.pkcs11.CLOSE_S", 0.05)
    hold = Event()
    held = provider._key.module.call(hold.wait)
    await provider.close()
    assert not held.done()
    hold.set()
    hang = "from threading import Event; from twofold.keys.pkcs11_token import Module; Module('/m').call(Event().wait)"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", hang], check=True, timeout=60)


async def test_who_does_not_wait_any_more_is_not_served_later(open_it: Open) -> None:
    provider = open_it()
    hold = Event()
    provider._key.module.call(hold.wait)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(provider.watch(), 0.05)
    done: list[int] = []
    given_up = provider._key.module.call(done.append, 1)
    given_up.cancel()
    hold.set()
    await provider.watch()
    assert done == []
