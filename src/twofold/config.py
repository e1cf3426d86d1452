"""Frozen settings, from flags, environment and file, in that order; no setting is mandatory.

Only reading and checking happens here; what a setting does is where it is used. `docs/settings.md` lists them.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

import msgspec

from twofold.core.discreet import Discreet
from twofold.core.network import Network
from twofold.errors import ConfigurationError

PREFIX = "TWOFOLD_"
Profile = Literal["default", "strict"]

SUPPORT_LENGTH_MAX = 200
_DEFAULT_PORTS = {"http": 80, "https": 443}
#: What no name of a host has in it; names of other scripts are written in their ASCII form, `xn--…`.
_NO_HOST = re.compile(r"[^a-z0-9._:-]")
_NO_PROXIES = "none"
#: What is read from the environment where it is used, and kept in no struct: secrets, and what leads to them.
_ELSEWHERE = ("master_key", "key_passphrase", "backup_passphrase", "pkcs11_pin", "pkcs11_module")
# What was given may hold a password: it is not repeated.
_DATABASE_EXPECTED = "DATABASE_URL: expected sqlite:///path/to/file.db or postgresql://user:password@host/database"
_MAIL_ADDRESS = re.compile(r"[^\s@:;,<>\"]+@[^\s@:;,<>\"]+")
#: A word and a colon, no blank behind it: whatever kind of link it is, a browser may act on it.
_LINK = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?! )")


class Settings(Discreet, frozen=True, forbid_unknown_fields=True):
    """Every setting; the environment variable is `TWOFOLD_` and the name in capitals."""

    #: It may hold a password.
    hidden: ClassVar[tuple[str, ...]] = ("database_url",)

    data_dir: Path = Path("twofold-data")
    database_url: str | None = None
    batch: Literal["on", "off"] = "on"
    public_url: str | None = None
    key_provider: str | None = None
    data_keys: Literal["shared", "per-seed"] = "shared"
    issuer: str = "Twofold"
    profile: Profile = "default"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: str | None = None
    support: str | None = None
    fido_metadata: Path | None = None
    attestation_roots: Path | None = None
    log_format: Literal["text", "json"] = "text"
    test_clock: Path | None = None

    @property
    def sqlite_path(self) -> Path:
        """Where the SQLite database is; raises `ConfigurationError` for another kind of database."""
        if self.database_url is None:
            return self.data_dir / "twofold.db"
        scheme, _, path = self.database_url.partition("://")
        if scheme != "sqlite" or not path.startswith("/") or len(path) < 2:
            raise ConfigurationError(_DATABASE_EXPECTED)
        return Path(path[1:])

    @property
    def postgres_url(self) -> str | None:
        """The address of the PostgreSQL database; None where the database is a SQLite file.

        Raises `ConfigurationError` for one that names no database, or that cannot be meant.
        """
        scheme, _, rest = (self.database_url or "").partition("://")
        if scheme not in ("postgresql", "postgres"):
            return None
        url = f"postgresql://{rest}"
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ConfigurationError(_DATABASE_EXPECTED) from None
        if "@" in parts.path or "#" in url or parts.netloc.count("@") > 1:
            raise ConfigurationError("DATABASE_URL: / ? # @ in a password are written as %2F %3F %23 %40")
        ports = re.findall(r":(\d+)(?:,|$)", parts.netloc.rpartition("@")[2])
        if not parts.path.strip("/") or any(not 0 < int(port) < 65_536 for port in ports):
            raise ConfigurationError(_DATABASE_EXPECTED)
        return url

    @property
    def key_address(self) -> str:
        """Where the master key is (`twofold.keys.uri`): `twofold.key` in the data folder unless KEY_PROVIDER says.

        A file by its whole path, for the address is stored, and others read it elsewhere.
        """
        if self.key_file is not None:
            return f"file:{self.key_file.absolute()}"
        return str(self.key_provider)

    @property
    def key_file(self) -> Path | None:
        """The file of the master key, where it is in one."""
        if self.key_provider is None:
            return self.data_dir / "twofold.key"
        kind, _, path = self.key_provider.partition(":")
        return Path(path) if kind == "file" else None

    @property
    def proxy_networks(self) -> tuple[Network, ...] | None:
        """The networks of TRUSTED_PROXIES: empty when it says `none`, None when it says nothing.

        Raises `ConfigurationError` for what is no address and no network.
        """
        given = (self.trusted_proxies or "").replace(",", " ").split()
        if not given:
            return None
        return () if given == [_NO_PROXIES] else tuple(map(_check_proxy, given))

    @property
    def support_link(self) -> str | None:
        """What SUPPORT links to; None where it is a text to show as it is."""
        if self.support is None or _is_safe_link(self.support):
            return self.support
        return f"mailto:{quote(self.support, safe='@+')}" if _MAIL_ADDRESS.fullmatch(self.support) else None


def load_settings(environment: Mapping[str, str], **flags: object) -> tuple[Settings, list[str]]:
    """The settings and the warnings to show. Flags that are None are not given.

    Raises `ConfigurationError`, one line that names the setting and what was expected.
    """
    warnings: list[str] = []
    given = {name: value for name, value in flags.items() if value is not None}
    from_environment = _read_environment(environment, warnings)
    data_dir = Path(str(given.get("data_dir", from_environment.get("data_dir", Settings().data_dir))))
    values = {**_read_file(data_dir / "twofold.toml", warnings), **from_environment, **given, "data_dir": data_dir}
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_to_path)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    if settings.public_url is not None:
        settings = msgspec.structs.replace(settings, public_url=check_public_url(settings.public_url))
    if settings.support is not None:
        settings = msgspec.structs.replace(settings, support=_check_support(settings.support))
    if settings.test_clock is not None and not is_loopback(
        urlsplit(settings.public_url or "http://localhost").hostname
    ):
        raise ConfigurationError("TEST_CLOCK is for tests only: PUBLIC_URL must be a loopback address with it")
    _check_tls(settings)
    if settings.key_provider is not None:
        _check_key_address(settings.key_provider)
    _ = settings.postgres_url or settings.sqlite_path
    _ = settings.proxy_networks
    return settings, warnings


def check_public_url(url: str) -> str:
    """The origin as browsers spell it: in lower case, without the port that goes without saying, without a slash at its
    end. Raises `ConfigurationError` for what cannot be one.

    Plain http goes to loopback and private addresses only: anywhere else codes would cross the network in clear.
    """
    unfit = ConfigurationError(f"PUBLIC_URL {url!r}: expected an origin such as https://login.example.com")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise unfit from None
    host = parts.hostname
    if parts.scheme not in _DEFAULT_PORTS or not host or parts.username is not None:
        raise unfit
    if parts.path.rstrip("/") or "?" in url or "#" in url or not host.isascii() or _NO_HOST.search(host):
        raise unfit
    if parts.scheme == "http" and not is_loopback(host) and not _is_private(host):
        raise ConfigurationError(f"PUBLIC_URL {url!r}: plain http is for loopback and private addresses; use https")
    authority = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{authority}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")


def is_loopback(host: str | None) -> bool:
    """Whether the name means this machine."""
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def _check_tls(settings: Settings) -> None:
    for name, path in (("TLS_CERT", settings.tls_cert), ("TLS_KEY", settings.tls_key)):
        # What somebody gave in place of a path may be the key itself: it is not repeated.
        if path is not None and (str(path) == "." or "-----" in str(path)):
            raise ConfigurationError(f"{name}: expected the path of a PEM file")
    if settings.tls_key is not None and settings.tls_cert is None:
        raise ConfigurationError("TLS_KEY goes with TLS_CERT, the file of the certificate: set both or neither")
    if settings.tls_cert is not None and (settings.public_url or "").startswith("http:"):
        raise ConfigurationError(f"PUBLIC_URL {settings.public_url!r}: expected https:// together with TLS_CERT")


def _check_key_address(address: str) -> None:
    kind, colon, place = address.partition(":")
    if not colon or (kind == "file" and not place):
        # What somebody gave in place of an address may be a key itself: it is not repeated.
        raise ConfigurationError("KEY_PROVIDER: expected kind:place, such as file:/path/to/twofold.key")


def _check_proxy(text: str) -> Network:
    try:
        network: Network = ipaddress.ip_network(text)
    except ValueError:
        detail = "expected addresses and networks such as 127.0.0.1 and 172.17.0.0/16, or none"
        raise ConfigurationError(f"TRUSTED_PROXIES {text!r}: {detail}") from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        network = ipaddress.IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    if network.prefixlen == 0:
        raise ConfigurationError(f"TRUSTED_PROXIES {text!r}: everybody could forge an address then; name the proxies")
    return network


def _check_support(text: str) -> str:
    text = text.strip()
    is_short = 0 < len(text) <= SUPPORT_LENGTH_MAX and text.isprintable()
    if not is_short or (_LINK.match(text) and not _is_safe_link(text)):
        detail = f"expected https://…, mailto:…, an e-mail address or a text of at most {SUPPORT_LENGTH_MAX} characters"
        raise ConfigurationError(f"SUPPORT {text[:40]!r}: {detail}")
    return text


def _is_safe_link(text: str) -> bool:
    """Whether it only leads somewhere: `javascript:` and its kin would act on the page that shows them."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    if " " in text:
        return False
    if parts.scheme == "mailto":
        return _MAIL_ADDRESS.fullmatch(parts.path) is not None
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _read_environment(environment: Mapping[str, str], warnings: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in Settings.__struct_fields__:
            values[name] = value
        elif name.removesuffix("_file") in Settings.__struct_fields__:
            try:
                values[name.removesuffix("_file")] = Path(value).read_text().strip()
            except OSError as error:
                raise ConfigurationError(f"{variable}: {value} cannot be read ({error.strerror})") from None
        elif name.removesuffix("_file") not in _ELSEWHERE:
            warnings.append(_unknown(variable, name, PREFIX))
    return values


def _read_file(path: Path, warnings: list[str]) -> dict[str, Any]:
    try:
        read = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    warnings += [_unknown(name, name.lower(), "") for name in read if name.lower() not in Settings.__struct_fields__]
    return {name.lower(): value for name, value in read.items() if name.lower() in Settings.__struct_fields__}


def _unknown(written: str, name: str, prefix: str) -> str:
    near = difflib.get_close_matches(name, Settings.__struct_fields__, 1)
    hint = f"; did you mean {prefix}{near[0].upper() if prefix else near[0]}?" if near else ""
    return f"unknown setting {written} is ignored{hint}"


def _to_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value)
    raise ValueError(f"expected {kind.__name__}")


def _explain(error: msgspec.ValidationError) -> str:
    # msgspec says "Expected …, got … - at `$.field`"; people want the setting first.
    text, _, where = str(error).partition(" - at ")
    return f"{where.strip('`').removeprefix('$.').upper() or 'settings'}: {text[:1].lower()}{text[1:]}"


def environment() -> Mapping[str, str]:
    """The environment of this process."""
    return os.environ
