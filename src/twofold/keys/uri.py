"""How KEY_PROVIDER and `keys rotate --provider` name a key provider: `kind:place?option=value`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from twofold.errors import ConfigurationError


class KeyUri(msgspec.Struct, frozen=True):
    """A key provider's address. It never holds a secret: it is stored, shown and logged."""

    kind: str
    place: str
    options: Mapping[str, str] = {}

    def check_options(self, *known: str) -> None:
        """Raise `ConfigurationError` for an option that this kind does not have."""
        for name in self.options:
            if name not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise ConfigurationError(f"KEY_PROVIDER {self.kind}: has no option {name!r}; {has}")


def read_uri(text: str) -> KeyUri:
    """The address of a text; raises `ConfigurationError`. A file's path is taken as it is, whatever is in it."""
    kind, colon, place = text.partition(":")
    if not colon:
        raise ConfigurationError(f"KEY_PROVIDER {text!r}: expected kind:place, such as file:/path/to/twofold.key")
    if kind == "file":
        return KeyUri(kind, place)
    place, _, query = place.partition("?")
    options: dict[str, str] = {}
    for option in query.split("&") if query else ():
        name, equals, value = option.partition("=")
        if not name or not equals or name in options:
            raise ConfigurationError(f"KEY_PROVIDER {text!r}: expected options as name=value&name=value, each once")
        options[name] = unquote(value)
    return KeyUri(kind, place, options)
