"""The Account: the second-factor state of one person as one frozen document.

Everything that decides whether somebody is let in is in this one value, so that one write can change all of it or
nothing. No clock and no randomness: times are arguments, in microseconds since 1970 (`twofold.core.clock`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from typing import Literal

import msgspec

from twofold.core.clock import MICROS_PER_S
from twofold.core.entropy import Seed, derive, derive_token
from twofold.core.throttle import Lane
from twofold.errors import InvalidInput, Refused

ACCOUNT_ID_MAX = 128
LABEL_MAX = 64
AUTHENTICATORS_MAX = 20
PENDING_MAX = 2
PENDING_TTL_S = 15 * 60
KNOWN_BROWSERS_MAX = 20
KNOWN_BROWSER_TTL_S = 180 * 86_400
SPENT_MAX = 32
EPOCH_BYTES = 8

#: Accounts without a person: the chain of one tells what happened to the deployment itself, that of the other every use
#: of a master key. Ids of people begin with something that is printed, and so come behind them.
DEPLOYMENT = ""
KEY_TRACE = " keys"
FIRST_PERSON = "!"

AuthenticatorState = Literal["pending", "active", "disabled"]
AccountState = Literal["empty", "active", "disabled", "unavailable"]
#: What the person may do on Twofold's own pages; `administrator` is for other people's accounts too.
Role = Literal["", "administrator"]
LinkPurpose = Literal["invitation", "reset", "unlock"]

#: Factors that are not a second factor on their own: a password is the first one, recovery codes only accompany.
FIRST_FACTOR = "password"
RECOVERY = "recovery_codes"


class Enrollment(msgspec.Struct, frozen=True, array_like=True):
    """What is known of an authenticator only while it is pending.

    On an account that is bound, `begun_with` is the digest of the receipt that allowed it, and `begun_via` the
    authenticator that earned the receipt: it must still be there when this one becomes active.
    """

    expires_at: int
    begun_by: str
    begun_while_empty: bool
    replaces: str | None = None
    failures: int = 0
    failed_at: int = 0
    begun_with: bytes | None = None
    begun_via: str | None = None


class Authenticator(msgspec.Struct, frozen=True, array_like=True):
    """One enrolled thing: this phone, this key, this set of recovery codes.

    `credential` is the factor's own encoded data; nothing but the factor reads it. `credential_version` grows with
    each change of it, so that work prepared outside the transaction is recognized as stale. From `stops_at` on, after a
    reset with a grace, it counts for nothing; 0 for never.
    """

    id: str
    factor: str
    label: str
    state: AuthenticatorState
    credential: bytes
    created_at: int
    credential_version: int = 0
    last_used_at: int = 0
    failures: int = 0
    enrollment: Enrollment | None = None
    stops_at: int = 0


class KnownBrowser(msgspec.Struct, frozen=True, array_like=True):
    """A browser that has signed in before: its own guess budget, and nothing else; it skips no factor.

    `name` is for lists: "Firefox on Linux".
    """

    digest: bytes
    created_at: int
    seen_at: int
    returned: bool = False
    lane: Lane = Lane()
    name: str = ""

    @property
    def id(self) -> str:
        """What the browser is called in lists and forms; not its value."""
        return f"br_{self.digest[:8].hex()}"


class Spent(msgspec.Struct, frozen=True, array_like=True):
    """A ticket or receipt that was used; remembered until it would have expired anyway."""

    digest: bytes
    expires_at: int


class KeptAnswer(msgspec.Struct, frozen=True, array_like=True):
    """The sealed outcome of a call that carried an idempotency key."""

    key_digest: bytes
    body_digest: bytes
    expires_at: int
    sealed_outcome: bytes


class AuditHead(msgspec.Struct, frozen=True, array_like=True):
    """How long the account's audit chain is, the digest of its last event, and how many of the first events have lost
    their contents to a deletion."""

    seq: int
    digest: bytes
    erased: int = 0


class Contact(msgspec.Struct, frozen=True, array_like=True):
    """An address to reach the person at. Unconfirmed until proven."""

    kind: Literal["email", "phone"]
    address: str
    confirmed: bool = False


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """Personal data; sealed inside the document, because an identifier is often an address."""

    display_name: str = ""
    contacts: tuple[Contact, ...] = ()


class OneTimeLink(msgspec.Struct, frozen=True, array_like=True):
    """The one open link that signs this person in once, to enroll; a newer one takes its place."""

    digest: bytes
    purpose: LinkPurpose
    expires_at: int


class Handle(msgspec.Struct, frozen=True, array_like=True):
    """What an authenticator calls this person within `scope`: random, so that it tells nothing about her."""

    scope: str
    value: bytes


class Account(msgspec.Struct, frozen=True, array_like=True):
    """The document. `epoch` voids every ticket, receipt, session and known browser made under another one.

    `unguessable_failed_at` and `replayed_at` are when refusals that cost nothing were last recorded. What would have
    expired by `forgotten_until` never counts again, even if the clock goes back: that it is spent may be forgotten.
    """

    id: str
    epoch: bytes
    created_at: int
    head: AuditHead
    authenticators: tuple[Authenticator, ...] = ()
    lane: Lane = Lane()
    known_browsers: tuple[KnownBrowser, ...] = ()
    spent: tuple[Spent, ...] = ()
    kept_answers: tuple[KeptAnswer, ...] = ()
    groups: tuple[str, ...] = ()
    sealed_profile: bytes | None = None
    is_disabled: bool = False
    unguessable_failed_at: int = 0
    replayed_at: int = 0
    forgotten_until: int = 0
    role: Role = ""
    link: OneTimeLink | None = None
    handles: tuple[Handle, ...] = ()

    def find_handle(self, scope: str) -> bytes | None:
        """What authenticators call this person within `scope`, once one was asked to."""
        return next((handle.value for handle in self.handles if handle.scope == scope), None)

    def find(self, authenticator_id: str) -> Authenticator:
        """The authenticator of that id; raises `Refused("not_found")`."""
        for authenticator in self.authenticators:
            if authenticator.id == authenticator_id:
                return authenticator
        raise Refused("not_found", "this account has no authenticator of that id")

    @property
    def has_second_factor(self) -> bool:
        """Whether something active can be asked for; recovery codes and a password alone are not that."""
        return any(a.state == "active" and a.factor not in (FIRST_FACTOR, RECOVERY) for a in self.authenticators)

    @property
    def is_bound(self) -> bool:
        """Whether it has a second factor, or had one until too many failures disabled it: whoever guesses that long
        must not find the account as open as an empty one."""
        return any(a.state != "pending" and a.factor not in (FIRST_FACTOR, RECOVERY) for a in self.authenticators)

    @property
    def stops_at(self) -> int:
        """When the first of its authenticators stops, so that the person has to set up a new one; 0 for never."""
        return min((a.stops_at for a in self.authenticators if a.stops_at), default=0)

    def is_last_factor(self, authenticator_id: str, *, useless: frozenset[str] = frozenset()) -> bool:
        """Whether no active second factor is left without this authenticator, and without those that are `useless`."""
        others = tuple(a for a in self.authenticators if a.id not in {authenticator_id, *useless})
        return not msgspec.structs.replace(self, authenticators=others).has_second_factor

    @property
    def state(self) -> AccountState:
        """`disabled` also when every second factor was disabled by too many failures."""
        if self.is_disabled:
            return "disabled"
        if self.has_second_factor:
            return "active"
        return "disabled" if any(a.state == "disabled" for a in self.authenticators) else "empty"


def new_account(account_id: str, seed: Seed, now: int) -> Account:
    """An empty account under a fresh epoch; its audit chain begins, or goes on, when it is first written."""
    return Account(check_account_id(account_id), derive(seed, "epoch", EPOCH_BYTES), now, AuditHead(0, b""))


def new_deployment(seed: Seed, now: int, account_id: str = DEPLOYMENT) -> Account:
    """An account without a person, for its audit chain."""
    return Account(account_id, derive(seed, "epoch", EPOCH_BYTES), now, AuditHead(0, b""))


def check_account_id(account_id: str) -> str:
    """The id itself; raises `InvalidInput` unless it is 1 to 128 printable NFC characters without `/`."""
    expected = f"1 to {ACCOUNT_ID_MAX} printable characters in NFC, without / and outer spaces"
    if (
        not 1 <= len(account_id) <= ACCOUNT_ID_MAX
        or not account_id.isprintable()
        or "/" in account_id
        or account_id != account_id.strip()
        or not unicodedata.is_normalized("NFC", account_id)
    ):
        raise InvalidInput("id", expected)
    return account_id


def check_label(label: str) -> str:
    """A label as it is kept: NFC, at most 64 printable characters, one space between words, as pages show it anyway;
    raises `InvalidInput`."""
    label = re.sub(" +", " ", unicodedata.normalize("NFC", label).strip())
    if len(label) > LABEL_MAX or not label.isprintable():
        raise InvalidInput("label", f"at most {LABEL_MAX} printable characters")
    return label


def with_authenticator(account: Account, changed: Authenticator) -> Account:
    """The account with the authenticator of the same id exchanged."""
    return msgspec.structs.replace(
        account, authenticators=tuple(changed if a.id == changed.id else a for a in account.authenticators)
    )


def without_expired(account: Account, now: int) -> Account:
    """The account without what time has ended: authenticators that stopped, pending enrollments, spent tickets, kept
    answers."""
    if any(0 < a.stops_at <= now for a in account.authenticators):
        lasting = tuple(a for a in account.authenticators if not 0 < a.stops_at <= now)
        account = without_lone_codes(msgspec.structs.replace(account, authenticators=lasting))
    if any(a.enrollment and a.enrollment.expires_at <= now for a in account.authenticators):
        kept = tuple(a for a in account.authenticators if not a.enrollment or a.enrollment.expires_at > now)
        account = msgspec.structs.replace(account, authenticators=kept)
    if any(s.expires_at <= now for s in account.spent):
        account = msgspec.structs.replace(
            account,
            spent=tuple(s for s in account.spent if s.expires_at > now),
            forgotten_until=max(account.forgotten_until, *(s.expires_at for s in account.spent if s.expires_at <= now)),
        )
    if any(k.expires_at <= now for k in account.kept_answers):
        kept_answers = tuple(k for k in account.kept_answers if k.expires_at > now)
        account = msgspec.structs.replace(account, kept_answers=kept_answers)
    return account


def without_lone_codes(account: Account) -> Account:
    """The account without its recovery codes if it has nothing that they could stand in for."""
    if account.is_bound:
        return account
    kept = tuple(a for a in account.authenticators if a.factor != RECOVERY)
    return msgspec.structs.replace(account, authenticators=kept)


def begin_epoch(account: Account, seed: Seed) -> Account:
    """A new epoch: everything that carries the old one is void at once, pending enrollments, browsers and kept answers
    too."""
    return msgspec.structs.replace(
        account,
        epoch=derive(seed, "epoch", EPOCH_BYTES),
        authenticators=tuple(a for a in account.authenticators if a.state != "pending"),
        known_browsers=(),
        kept_answers=(),
        link=None,
    )


def epoch_claim(account: Account) -> str:
    """The epoch as receipts and sessions carry it: a digest, so that the value itself stays in the document."""
    return hashlib.sha256(b"twofold/1|epoch|" + account.epoch).hexdigest()[:16]


def spend(account: Account, token_digest: bytes, expires_at: int) -> Account | None:
    """The account (without what has expired) with a single-use value marked as used, or None when it was used before.

    Raises `Refused("too_many")` at 32 values in force: forgetting one of them would make it usable again.
    """
    if any(hmac.compare_digest(s.digest, token_digest) for s in account.spent):
        return None
    if len(account.spent) >= SPENT_MAX:
        raise Refused(
            "too_many", f"{SPENT_MAX} single-use values of this account are in force; wait for them to expire"
        )
    return msgspec.structs.replace(account, spent=(*account.spent, Spent(token_digest, expires_at)))


def find_known_browser(account: Account, value: str | None, now: int) -> KnownBrowser | None:
    """The known browser that this opaque value names, unless it was not seen for 180 days."""
    if value is None or not account.known_browsers:
        return None
    digest = _browser_digest(account, value)
    for browser in account.known_browsers:
        if hmac.compare_digest(browser.digest, digest):
            return browser if now < browser.seen_at + KNOWN_BROWSER_TTL_S * MICROS_PER_S else None
    return None


def remember_browser(
    account: Account, known: KnownBrowser | None, seed: Seed, now: int, *, name: str = ""
) -> tuple[Account, str]:
    """After a full sign-in: a fresh value for the browser, with a full budget; its old value is unknown from now on.

    At 20 browsers the oldest makes room, those that never came back first.
    """
    value = derive_token(seed, "browser")
    digest = _browser_digest(account, value)
    if known is not None:
        renewed = KnownBrowser(digest, known.created_at, now, returned=True, name=name)
        others = tuple(renewed if b is known else b for b in account.known_browsers)
    else:
        others = (*account.known_browsers, KnownBrowser(digest, now, now, name=name))
        if len(others) > KNOWN_BROWSERS_MAX:
            leaving = min(others[:-1], key=lambda b: (b.returned, b.seen_at))
            others = tuple(b for b in others if b is not leaving)
    return msgspec.structs.replace(account, known_browsers=others), value


def charge_known_browser(account: Account, known: KnownBrowser, lane: Lane) -> Account:
    """The account with that browser's lane exchanged."""
    changed = msgspec.structs.replace(known, lane=lane)
    browsers = tuple(changed if b is known else b for b in account.known_browsers)
    return msgspec.structs.replace(account, known_browsers=browsers)


def _browser_digest(account: Account, value: str) -> bytes:
    # Bound to the account and its epoch: the value of one person means nothing to another, or after a new epoch.
    material = b"twofold/1|browser|" + account.epoch + account.id.encode() + b"|" + value.encode("utf-8", "replace")
    return hashlib.sha256(material).digest()[:16]
