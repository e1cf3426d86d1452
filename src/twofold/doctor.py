"""What can be wrong around a deployment, each finding with the line that mends it: reads everything, changes nothing.

Printing is the command's business (`twofold.commands.doctor`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import shutil
import socket
import sqlite3
import struct
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from twofold.certificate import read_certificate
from twofold.clocks import SystemEntropy, system_clock
from twofold.config import Settings, environment, is_loopback
from twofold.errors import ConfigurationError, Unavailable
from twofold.fido_metadata import load_trust
from twofold.key_ports import KeyProvider
from twofold.keys.masters import moved_to
from twofold.keys.providers import open_provider
from twofold.keys.secret import PASSPHRASE
from twofold.relying_party import check_own, explain_none, find_own
from twofold.stores._sqlite_file import connect
from twofold.stores._sqlite_keys import find_master_address

OFFSET_MAX_S = 1.0
NTP_TIMEOUT_S = 2.0
NTP_PORT = 123
EXPIRY_NEAR_DAYS = 14
FREE_LOW_BYTES = 1 << 30
FREE_MIN_BYTES = 100 << 20
_SYNCHRONOUS_FULL = 2
_SECONDS_1900_TO_1970 = 2_208_988_800
_MODE_CLIENT, _MODE_SERVER, _VERSION = 3, 4, 4

State = Literal["ok", "unknown", "warning", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """One result: what was looked at, how it is, in a sentence, and the line that mends it."""

    check: str
    state: State
    finding: str
    mend: str | None = None


def examine(settings: Settings, *, ntp_server: str) -> list[Finding]:
    """Every finding, in the order in which they are worth reading."""
    settings = _with_stored_url(settings)
    return [
        check_clock(settings, ntp_server),
        check_public_url(settings),
        check_passkeys(settings),
        check_attestation(settings),
        check_certificate(settings, now=datetime.now(UTC)),
        check_proxies(settings),
        *check_modes(settings),
        check_key(settings),
        *check_database(settings.sqlite_path),
        check_senders(settings.sqlite_path),
    ]


def check_clock(settings: Settings, ntp_server: str) -> Finding:
    """The machine's clock against a time server. Time-based codes allow 30 s; the clock should be far better."""
    if settings.test_clock is not None:
        return Finding("clock", "warning", f"time is read from {settings.test_clock}", "unset TWOFOLD_TEST_CLOCK")
    host, _, port = ntp_server.partition(":")
    try:
        offset_s = measure_offset_s(host, int(port or NTP_PORT))
    except (OSError, ValueError) as error:
        return Finding("clock", "unknown", f"not checked: {ntp_server} did not tell the time ({error})")
    where = f"{abs(offset_s):.3f} s {'behind' if offset_s > 0 else 'ahead of'} {ntp_server}"
    if abs(offset_s) > OFFSET_MAX_S:
        return Finding("clock", "warning", f"{where}: codes of right clocks may be refused", "timedatectl set-ntp true")
    return Finding("clock", "ok", where)


def measure_offset_s(host: str, port: int) -> float:
    """Seconds to add to this machine's clock (SNTP client, RFC 5905 section 14; positive: we are behind).

    Raises `OSError` when nobody answers within 2 s, `ValueError` for a server that does not know the time either.
    """
    # A random number in place of our own time: it tells nobody our clock, and no forged answer can know it.
    cookie = secrets.token_bytes(8)
    address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(*address[:3]) as connection:
        connection.settimeout(NTP_TIMEOUT_S)
        connection.connect(address[4])
        began, sent_at = time.monotonic(), time.time()
        connection.send(bytes((_VERSION << 3 | _MODE_CLIENT,)) + bytes(39) + cookie)
        reply = connection.recv(512)
        received_at = sent_at + (time.monotonic() - began)
    if len(reply) < 48 or reply[0] & 7 != _MODE_SERVER or reply[24:32] != cookie:
        raise ValueError("its answer is not one to our question")
    if reply[0] >> 6 == 3 or not 1 <= reply[1] <= 15:
        raise ValueError("its own clock is not synchronized")
    arrived_at, left_at = (read_timestamp(reply[place : place + 8]) for place in (32, 40))
    return ((arrived_at - sent_at) + (left_at - received_at)) / 2


def check_public_url(settings: Settings) -> Finding:
    """Where people reach Twofold. What cannot be at all is refused when the settings are read."""
    url = settings.public_url
    if url is None:
        return Finding("public url", "ok", "not set: for this machine only, at http://localhost")
    if urlsplit(url).scheme == "http" and not is_loopback(urlsplit(url).hostname):
        mend = f"put TLS in front and set TWOFOLD_PUBLIC_URL={url.replace('http:', 'https:', 1)}"
        return Finding("public url", "warning", f"{url}: codes and cookies cross the network in clear", mend)
    return Finding("public url", "ok", url)


def check_passkeys(settings: Settings) -> Finding:
    """Whether browsers make passkeys for PUBLIC_URL, and for which host."""
    url = settings.public_url or "http://localhost"
    own = find_own(url)
    if own is None:
        name = "http://localhost" if is_loopback(urlsplit(url).hostname) else "https:// and a name"
        return Finding(
            "passkeys", "warning", f"none at {url}: {explain_none(url)}", f"set TWOFOLD_PUBLIC_URL to {name}"
        )
    try:
        check_own(url)
    except ConfigurationError as error:
        return Finding("passkeys", "problem", str(error), "set TWOFOLD_PUBLIC_URL to a name of your own")
    return Finding("passkeys", "ok", f"are for {own.id}, and end when PUBLIC_URL gets another host")


def check_attestation(settings: Settings) -> Finding:
    """Whether the files by which makers of authenticators are believed can be read."""
    if settings.fido_metadata is None and settings.attestation_roots is None:
        return Finding("attestation", "ok", "not checked: every passkey and security key is taken")
    try:
        load_trust(settings, system_clock(settings.test_clock).now())
    except ConfigurationError as error:
        return Finding("attestation", "problem", str(error), "fetch the file anew, or unset the setting")
    return Finding("attestation", "ok", "the files can be read; `twofold serve` warns when they are out of date")


def check_certificate(settings: Settings, *, now: datetime) -> Finding:
    """The certificate of TLS_CERT: it can be served, its key is secret, it is for PUBLIC_URL's host, and it lasts."""
    path, host = settings.tls_cert, urlsplit(settings.public_url or "https://localhost").hostname or ""
    if path is None:
        return Finding("certificate", "ok", "none of our own: TLS, if any, is the business of the web server in front")
    try:
        certificate = read_certificate(path, settings.tls_key)
    except ConfigurationError as error:
        mend = "set TWOFOLD_TLS_CERT and TWOFOLD_TLS_KEY to the PEM files of one certificate and its key"
        return Finding("certificate", "problem", str(error), mend)
    key_file = settings.tls_key or path
    if key_file.stat().st_mode & 0o007:
        return Finding("certificate", "problem", f"everybody can read {key_file}", f"chmod o= {_quote([key_file])}")
    days = (certificate.expires_at - now).days
    renew = f"renew {_quote([path])}: a running server reads it again"
    if days < 0:
        return Finding("certificate", "problem", f"{path} ran out on {certificate.expires_at:%Y-%m-%d}", renew)
    finding = f"{path}: for {', '.join(certificate.names) or 'no name'}, good for {days} days"
    if not certificate.fits(host):
        return Finding("certificate", "problem", f"{finding}, but not for {host}", f"get a certificate for {host}")
    if days < EXPIRY_NEAR_DAYS:
        return Finding("certificate", "warning", finding, renew)
    return Finding("certificate", "ok", finding)


def check_proxies(settings: Settings) -> Finding:
    """Whose word about addresses counts. A web server in front that is not named makes everybody one address."""
    networks = settings.proxy_networks
    if networks:
        return Finding("proxies", "ok", f"X-Forwarded-For is believed from {', '.join(map(str, networks))}")
    if networks is not None or settings.tls_cert is not None or not (settings.public_url or "").startswith("https:"):
        return Finding("proxies", "ok", "none is named: addresses are those of the connections")
    finding = "PUBLIC_URL is https without TLS_CERT: all who come through the web server in front share its address"
    mend = "set TWOFOLD_TRUSTED_PROXIES=127.0.0.1, or to its address, which the log of `twofold serve` tells"
    return Finding("proxies", "warning", finding, mend)


def check_modes(settings: Settings) -> Iterator[Finding]:
    """The data folder and each file in it belong to their owner alone."""
    folder = settings.data_dir
    paths = [settings.sqlite_path]
    if settings.key_file is not None:
        paths.append(settings.key_file)
    if folder.is_dir():
        paths += [path for path in folder.iterdir() if path.is_file()]
        if folder.stat().st_mode & 0o077:
            yield Finding("modes", "problem", f"others can look into {folder}", f"chmod 700 {_quote([folder])}")
    readable = sorted({path for path in paths if path.exists() and path.stat().st_mode & 0o077})
    if readable:
        names = ", ".join(path.name for path in readable)
        yield Finding("modes", "problem", f"others can read or write {names}", f"chmod 600 {_quote(readable)}")
    elif not folder.is_dir() or not folder.stat().st_mode & 0o077:
        yield Finding("modes", "ok", f"{folder} is for its owner alone" if folder.is_dir() else "nothing is there yet")


def check_key(settings: Settings) -> Finding:
    """The master key is there and opens every key of the database."""
    path = settings.sqlite_path
    if not path.exists():
        return Finding("master key", "ok", "not made yet: the first start makes it with the database")
    try:
        provider = open_provider(settings.key_address, SystemEntropy(), environment())
        opened = asyncio.run(_open_keys(provider, path))
    except sqlite3.Error as error:
        # That is the database's trouble: nobody should put another key in the place of a good one for it.
        return Finding("master key", "unknown", f"not checked: the database cannot be read ({error})")
    except (ConfigurationError, Unavailable) as error:
        mend = "see docs/keys.md: what to do when the provider does not open the keys"
        address = find_master_address(path)
        if address and address != settings.key_address:
            mend = moved_to(address)
        elif "passphrase" in str(error):
            mend = f"set {PASSPHRASE}_FILE to a file that holds the passphrase"
        elif settings.key_file is not None and "cannot be read" not in str(error):
            mend = f"put the right {_quote([settings.key_file])} back from a backup"
        return Finding("master key", "problem", str(error), mend)
    return Finding("master key", "ok", f"{provider.describe()} opens all {opened} keys of the database")


def check_database(path: Path) -> Iterator[Finding]:
    """What is acknowledged stays: write-ahead log, synchronous commits, room on the disk, a sound file."""
    if not path.exists():
        yield Finding("database", "ok", f"{path} is not made yet")
        return
    if closed := [place for place in (path, path.parent) if not os.access(place, os.R_OK | os.W_OK)]:
        mend = f"chown {os.geteuid()} {_quote(closed)}, or run as its owner"
        yield Finding("database", "problem", f"this user may not write {_quote(closed)}", mend)
        return
    try:
        connection = connect(path, cache_kib=2048)
        try:
            mode, synchronous, health = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "quick_check(1)")
            )
        finally:
            connection.close()
    except sqlite3.Error as error:
        yield Finding("database", "problem", f"{path} cannot be read: {error}", "put it back from a backup")
        return
    if (mode, synchronous) != ("wal", _SYNCHRONOUS_FULL):
        mend = f"move it to a local disk: {_quote([path])}"
        yield Finding("database", "problem", f"journal_mode={mode}, synchronous={synchronous}: may forget", mend)
    if health != "ok":
        yield Finding("database", "problem", f"{path} is damaged: {health}", "put it back from a backup")
    if (mode, synchronous, health) == ("wal", _SYNCHRONOUS_FULL, "ok"):
        yield Finding("database", "ok", f"{path}: journal_mode=wal, synchronous=FULL, quick_check ok")
    free = shutil.disk_usage(path.parent).free
    state: State = "problem" if free < FREE_MIN_BYTES else "warning" if free < FREE_LOW_BYTES else "ok"
    room = None if state == "ok" else f"make room on the disk of {_quote([path.parent])}"
    yield Finding("disk", state, f"{free // (1 << 20):,} MiB are free", room)


def check_senders(path: Path) -> Finding:
    """How people are told of changes to their account."""
    waiting = 0
    if path.exists():
        try:
            ((waiting,),) = _read(path, "SELECT count(*) FROM outbox")
        except sqlite3.Error as error:
            return Finding("senders", "unknown", f"not checked: the database cannot be read ({error})")
    notices = f"; {waiting} wait for it" if waiting else ""
    return Finding("senders", "ok", f"notices go to the log of `twofold serve`{notices}")


def _with_stored_url(settings: Settings) -> Settings:
    """The settings with the PUBLIC_URL that the set-up page stored, where nobody sets another one. Only looked at: the
    server believes it after checking its signature."""
    if settings.public_url is not None or not settings.sqlite_path.exists():
        return settings
    try:
        rows = _read(settings.sqlite_path, "SELECT value FROM settings WHERE name = 'public_url'")
    except sqlite3.Error:
        return settings
    url = next((value.partition(":")[2] for (value,) in rows), None)
    return msgspec.structs.replace(settings, public_url=url)


async def _open_keys(provider: KeyProvider, path: Path) -> int:
    rows = _read(path, "SELECT id, wrapped FROM keyring WHERE state <> 'destroyed' AND purpose <> 'master'")
    for key_id, wrapped in rows:
        await provider.unwrap(wrapped, key_id=key_id)
    return len(rows)


def _read(path: Path, sql: str) -> list[Any]:
    connection = connect(path, cache_kib=2048)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def read_timestamp(data: bytes) -> float:
    """Unix time of an NTP timestamp (RFC 4330 section 3)."""
    seconds: int
    seconds, fraction = struct.unpack(">II", data)
    # The counter began in 1900 and starts again in 2036: a cleared top bit means the second round.
    seconds += 0 if seconds >> 31 else 1 << 32
    return float(seconds - _SECONDS_1900_TO_1970 + fraction / (1 << 32))


def _quote(paths: Sequence[os.PathLike[str]]) -> str:
    return shlex.join(str(path) for path in paths)
