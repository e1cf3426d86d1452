"""What all pages of a deployment work with."""

from __future__ import annotations

import msgspec

from twofold.administration import Administration
from twofold.config import Settings
from twofold.factors.webauthn_json import RelyingParty
from twofold.lost_passkeys import PasskeyStore
from twofold.networks import Networks
from twofold.ports import Clock, SealingKeys
from twofold.server.addresses import Addresses
from twofold.server.cookies import Cookies
from twofold.server.host import Host
from twofold.server.templates import Site, Templates
from twofold.server.words import Words
from twofold.sign_in import SignIn
from twofold.sign_in_limits import SignInLimits
from twofold.verifier import Verifier


class House(msgspec.Struct, frozen=True):
    """What all pages of a deployment work with."""

    verifier: Verifier
    #: Whose passkeys are asked for; None where browsers make none.
    relying_party: RelyingParty | None
    sign_in: SignIn
    administration: Administration
    networks: Networks
    limits: SignInLimits
    store: PasskeyStore
    keys: SealingKeys
    clock: Clock
    settings: Settings
    public_url: str
    is_public_url_fixed: bool
    addresses: Addresses
    cookies: Cookies
    templates: Templates
    words: Words
    site: Site
    #: The application around the pages; None where they are a site of their own.
    host: Host | None = None

    def at(self, path: str) -> str:
        """The address of one of our paths."""
        return path if self.host is None else self.host.at(path)
