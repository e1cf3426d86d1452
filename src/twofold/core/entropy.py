"""Randomness as an argument: one fresh 32-byte seed for each attempt, from which a decision derives what it needs.

Nothing here draws random bytes. A store may call a decision again; with the same seed it comes to the same values, and
only one of those runs is ever committed.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NewType

Seed = NewType("Seed", bytes)
SEED_BYTES = 32


def derive(seed: Seed, label: str, length: int = 32) -> bytes:
    """`length` (at most 32) bytes that are unpredictable without `seed` and independent for each label."""
    return hashlib.sha256(b"twofold/1|derive|" + seed + label.encode()).digest()[:length]


def derive_token(seed: Seed, label: str) -> str:
    """256 bits as 43 characters of base64url: for values that somebody outside keeps."""
    return base64.urlsafe_b64encode(derive(seed, label)).rstrip(b"=").decode()


def derive_id(seed: Seed, label: str, prefix: str) -> str:
    """A short public identifier such as `au_3k9…` (80 bits of base32, lower case); not a secret."""
    return prefix + base64.b32encode(derive(seed, label, 10)).decode().lower()
