"""A Twofold server's API for applications in Python, waiting or asyncio: the verbs of `BlockingVerifier`, over HTTP.

    from twofold.client import Client, Rejected, Throttled, Verified

    twofold = Client("https://2fa.example.com", "tf_…")

`AsyncClient` is the same, to be awaited. Nothing of the server is needed here but `pip install 'twofold[client]'`.
"""

from __future__ import annotations

try:
    import httpx as httpx
except ImportError:
    raise ImportError("twofold.client needs httpx: pip install 'twofold[client]'") from None

from twofold.client.errors import ApiError, NoAnswer
from twofold.client.faces import AsyncClient, Client
from twofold.client.results import (
    Account,
    AccountPage,
    Authenticator,
    Challenge,
    Confirmed,
    HostedPrompt,
    Passkey,
    PendingEnrollment,
    PendingPasskey,
    Redeemed,
    Rejected,
    Renewed,
    Throttle,
    Throttled,
    Verified,
)

__all__ = [
    "Account",
    "AccountPage",
    "ApiError",
    "AsyncClient",
    "Authenticator",
    "Challenge",
    "Client",
    "Confirmed",
    "HostedPrompt",
    "NoAnswer",
    "Passkey",
    "PendingEnrollment",
    "PendingPasskey",
    "Redeemed",
    "Rejected",
    "Renewed",
    "Throttle",
    "Throttled",
    "Verified",
]
