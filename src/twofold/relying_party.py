"""Whose passkeys: which WebAuthn relying party Twofold's own pages and each application are, and what cannot be one.

A passkey belongs to its rp_id, a host name, for good. What happens in a ceremony is in `twofold.factors.webauthn`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twofold.errors import ConfigurationError, InvalidInput
from twofold.factors.webauthn_json import RelyingParty
from twofold.ports import Application

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

#: Different names in related origins that every browser looks at (WebAuthn L3 §5.11.1); the others may be passed over.
RELATED_LABELS_READ = 5
_HOST_LENGTH_MAX = 253
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
#: What browsers read as an address: IPv6, or a number at the end (URL Standard, "ends in a number").
_ADDRESS = re.compile(r"[0-9a-f.]*:[0-9a-f.]*:[0-9a-f.:]*|(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def find_own(public_url: str) -> RelyingParty | None:
    """Twofold's own: the rp_id is the host of PUBLIC_URL. None where browsers make no passkeys: `explain_none`."""
    parts = urlsplit(public_url)
    host = parts.hostname or ""
    if _is_address(host) or not (parts.scheme == "https" or _is_local(host)):
        return None
    return RelyingParty(host, (public_url,))


def explain_none(public_url: str) -> str:
    """Why there are no passkeys at this PUBLIC_URL, in a line for the operator."""
    host = urlsplit(public_url).hostname or ""
    if _is_address(host):
        return f"passkeys need a name: browsers make none for an address such as {host}"
    return "passkeys need https, or localhost"


def check_own(public_url: str) -> None:
    """Raises `ConfigurationError`, one line, for a PUBLIC_URL whose host can be nobody's rp_id."""
    own = find_own(public_url)
    if own is not None and is_public_suffix(own.id):
        raise ConfigurationError(
            f"PUBLIC_URL {public_url!r}: anybody can have a name under {own.id}, so browsers make no passkeys for it;"
            " use the name below it that is yours"
        )


def find_for(application: Application, own: RelyingParty | None) -> RelyingParty | None:
    """The relying party of an application's ceremonies: what its key was made with, else Twofold's own."""
    return own if application.rp_id is None else RelyingParty(application.rp_id, application.origins)


def read_relying_party(origins: Sequence[str], rp_id: str | None) -> RelyingParty | None:
    """The relying party that `apikey create --origin --rp-id` names, as browsers spell it; None when it names none.

    Without an rp_id it is the host of the origins, if they share one. Raises `InvalidInput`.
    """
    if not origins and rp_id is None:
        return None
    if not origins:
        raise InvalidInput("origin", "with rp_id at least one, such as https://app.example.com")
    spelled = tuple(dict.fromkeys(_read_origin(origin) for origin in origins))
    hosts = {_host_of(origin) for origin in spelled}
    if rp_id is None and len(hosts) > 1:
        raise InvalidInput("rp_id", "the domain of the passkeys, because the origins are on several hosts")
    party = RelyingParty(_read_rp_id(hosts.pop() if rp_id is None else rp_id), spelled)
    if len(find_related(party)) == len(spelled):
        raise InvalidInput("rp_id", f"the host of an origin, or a domain above it: {party.id} is that of none")
    return party


def check_party(party: RelyingParty) -> None:
    """Raises `InvalidInput` for a relying party that a program made by itself, and that no browser would be one of."""
    if not isinstance(party.origins, tuple):
        raise InvalidInput("origins", 'a tuple, such as ("https://app.example.com",)')
    _check_tuple(party)


@lru_cache(maxsize=1024)
def _check_tuple(party: RelyingParty) -> None:
    if (spelled := read_relying_party(party.origins, party.id)) != party:
        raise InvalidInput("origins", f"{spelled}: as browsers spell them")


def find_related(party: RelyingParty) -> tuple[str, ...]:
    """Its origins outside the rp_id (WebAuthn L3 §5.11): allowed by https://<rp_id>/.well-known/webauthn."""
    return tuple(origin for origin in party.origins if not f".{_host_of(origin)}".endswith(f".{party.id}"))


def list_related(applications: Iterable[Application], rp_id: str) -> list[str]:
    """The related origins of all applications with this rp_id."""
    parties = (find_for(application, None) for application in applications)
    return list(dict.fromkeys(o for party in parties if party and party.id == rp_id for o in find_related(party)))


def count_labels(origins: Iterable[str]) -> int:
    """How many different registrable names they have: `example` in https://login.example.co.uk."""
    return len({_registrable_label(_host_of(origin)) for origin in origins})


def is_public_suffix(host: str) -> bool:
    """Whether strangers can have names under it, by a rule of the public suffix list for it (`co.uk`, `github.io`)."""
    return _find_suffix(host) == host


def _find_suffix(host: str) -> str | None:
    """The public suffix that the host lies in; None for one like `intranet`, about which the list says nothing."""
    return _load_suffixes().publicsuffix(host)


@cache
def _load_suffixes() -> PublicSuffixList:
    # Late: it takes 80 ms to read the list, which few commands ask.
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415

    return PublicSuffixList(accept_unknown=False)


def _registrable_label(host: str) -> str:
    suffix = _find_suffix(host) or host.rpartition(".")[2]
    return host.removesuffix(suffix).rstrip(".").rpartition(".")[2]


def _read_origin(origin: str) -> str:
    unfit = InvalidInput("origin", "an exact origin such as https://app.example.com")
    try:
        parts = urlsplit(origin)
        host, port = _read_host(parts.hostname or ""), parts.port
    except ValueError:
        raise unfit from None
    if parts.scheme not in _DEFAULT_PORTS or "@" in origin or origin[len(parts.scheme) :] != f"://{parts.netloc}":
        raise unfit
    if _is_address(host):
        raise InvalidInput("origin", f"a name: browsers make no passkeys for an address such as {host}")
    if parts.scheme == "http" and not _is_local(host):
        raise InvalidInput("origin", "https, or http on localhost: browsers make passkeys nowhere else")
    return f"{parts.scheme}://{host}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")


def _read_rp_id(text: str) -> str:
    try:
        host = _read_host(text)
    except ValueError:
        raise InvalidInput("rp_id", "a domain such as example.com, without scheme and port") from None
    if _is_address(host):
        raise InvalidInput("rp_id", f"a domain such as example.com: browsers make no passkeys for the address {host}")
    if is_public_suffix(host):
        raise InvalidInput("rp_id", f"a domain of your own: anybody can have a name under {host}")
    return host


def _read_host(text: str) -> str:
    """The name as browsers spell it, or an address as it is; raises `ValueError` for what is neither."""
    host = text.lower()
    if not host.isascii():
        spelled = host.encode("idna").decode()
        # Python has the rules of 2003: where those of today spell otherwise (ß), only the `xn--` form is certain.
        if spelled.encode().decode("idna") != host:
            raise ValueError(text)
        host = spelled
    if len(host) > _HOST_LENGTH_MAX or not (_HOST.fullmatch(host) or _is_address(host)):
        raise ValueError(text)
    return host


def _host_of(origin: str) -> str:
    return urlsplit(origin).hostname or ""


def _is_address(host: str) -> bool:
    return _ADDRESS.fullmatch(host) is not None


def _is_local(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")
