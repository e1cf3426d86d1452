"""Secrets that come with the start of the program: read where they are used, and kept in no struct of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twofold.errors import ConfigurationError

PASSPHRASE = "TWOFOLD_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable


def read_secret(environment: Mapping[str, str], name: str) -> str | None:
    """What a variable says, or the file named by the variable with `_FILE` behind it; raises `ConfigurationError`."""
    if name in environment:
        return environment[name]
    path = environment.get(f"{name}_FILE")
    if path is None:
        return None
    try:
        return Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigurationError(f"{name}_FILE {path}: cannot be read ({why})") from None
