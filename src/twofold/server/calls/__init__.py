"""The calls of the API, one function each: from a request that was read and allowed to a status and an answer.

Each room has the calls of one thing; what all of them work with is here. Who may call what, under which path, is the
table's (`api.py`); what is decided, the verifier's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from twofold.engine import Caller
from twofold.errors import Refused
from twofold.factors.webauthn_json import RelyingParty
from twofold.ports import AccountPages, Application
from twofold.prompts import Prompts
from twofold.relying_party import explain_none, find_for, find_own
from twofold.server.metrics import Metrics
from twofold.verifier import Verifier

B = TypeVar("B")
Reply = tuple[int, object | None]


class Services(msgspec.Struct, frozen=True):
    """What the calls work with."""

    verifier: Verifier
    prompts: Prompts
    pages: AccountPages
    metrics: Metrics
    public_url: str


class Request(msgspec.Struct, Generic[B], frozen=True):
    """A call that was read and allowed. `account_id` and `authenticator_id` are of the path, "" where it has none."""

    application: Application
    caller: Caller
    account_id: str
    authenticator_id: str
    body: B
    query: Mapping[str, str]
    step_up: str | None


def find_party(services: Services, application: Application) -> RelyingParty:
    """The relying party of the application's passkeys; raises `Refused` where browsers make none for it."""
    party = find_for(application, find_own(services.public_url))
    if party is None:
        why = f"{explain_none(services.public_url)}; an application may also have an origin of its own"
        raise Refused("invalid", f"there are no passkeys for this application: {why} (twofold apikey create --origin)")
    return party
