"""What can be wrong around the process: clock, addresses, certificate, proxies, file modes, master key.

Databases are looked at elsewhere; what they say comes in as a `Look`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from twofold.certificate import read_certificate
from twofold.clocks import SystemEntropy, system_clock
from twofold.config import Settings, environment, is_loopback
from twofold.doctor.finding import Finding, Look, quote
from twofold.doctor.time_server import measure_offset_s
from twofold.errors import ConfigurationError, Unavailable
from twofold.fido_metadata import load_trust
from twofold.key_ports import KeyProvider
from twofold.keys.masters import moved_to
from twofold.keys.providers import open_provider
from twofold.keys.secret import PASSPHRASE
from twofold.relying_party import check_own, explain_none, find_own

OFFSET_MAX_S = 1.0
NTP_PORT = 123
EXPIRY_NEAR_DAYS = 14


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
        return Finding("certificate", "problem", f"everybody can read {key_file}", f"chmod o= {quote([key_file])}")
    days = (certificate.expires_at - now).days
    renew = f"renew {quote([path])}: a running server reads it again"
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
    paths = [] if settings.postgres_url else [settings.sqlite_path]
    if settings.key_file is not None:
        paths.append(settings.key_file)
    if folder.is_dir():
        paths += [path for path in folder.iterdir() if path.is_file()]
        if folder.stat().st_mode & 0o077:
            yield Finding("modes", "problem", f"others can look into {folder}", f"chmod 700 {quote([folder])}")
    readable = sorted({path for path in paths if path.exists() and path.stat().st_mode & 0o077})
    if readable:
        names = ", ".join(path.name for path in readable)
        yield Finding("modes", "problem", f"others can read or write {names}", f"chmod 600 {quote(readable)}")
    elif not folder.is_dir() or not folder.stat().st_mode & 0o077:
        yield Finding("modes", "ok", f"{folder} is for its owner alone" if folder.is_dir() else "nothing is there yet")


def check_key(settings: Settings, look: Look) -> Finding:
    """The master key is there and opens every key of the database."""
    if look.fault is not None:
        # That is the database's trouble: nobody should put another key in the place of a good one for it.
        return Finding("master key", "unknown", f"not checked: the database cannot be read ({look.fault})")
    if not look.keys:
        return Finding("master key", "ok", "not made yet: the first start makes it with the database")
    try:
        provider = open_provider(settings.key_address, SystemEntropy(), environment())
        asyncio.run(_open_keys(provider, look.keys))
    except (ConfigurationError, Unavailable) as error:
        mend = "see docs/keys.md: what to do when the provider does not open the keys"
        address = look.master_address or settings.key_address
        # Nodes may keep their copies of one key file at different places.
        is_copied = look.is_shared and settings.key_file is not None and address.startswith("file:")
        if address != settings.key_address and not is_copied:
            mend = moved_to(address)
        elif "passphrase" in str(error):
            mend = f"set {PASSPHRASE}_FILE to a file that holds the passphrase"
        elif settings.key_file is not None and "cannot be read" not in str(error):
            source = "another node or a backup" if look.is_shared else "a backup"
            mend = f"put the right {quote([settings.key_file])} back from {source}"
        return Finding("master key", "problem", str(error), mend)
    return Finding("master key", "ok", f"{provider.describe()} opens all {len(look.keys)} keys of the database")


def check_senders(look: Look) -> Finding:
    """How people are told of changes to their account."""
    if look.fault is not None:
        return Finding("senders", "unknown", f"not checked: the database cannot be read ({look.fault})")
    notices = f"; {look.waiting} wait for it" if look.waiting else ""
    return Finding("senders", "ok", f"notices go to the log of `twofold serve`{notices}")


async def _open_keys(provider: KeyProvider, keys: Sequence[tuple[str, bytes]]) -> None:
    try:
        for key_id, wrapped in keys:
            await provider.unwrap(wrapped, key_id=key_id)
    finally:
        await provider.close()
