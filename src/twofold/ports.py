"""What the shell needs from outside, as small protocols. One class for each database may implement several of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from twofold.core.account import Account
from twofold.core.audit import EventRow
from twofold.core.codec import StoredAccount
from twofold.core.decision import Decision, Message, ReceiptClaims
from twofold.core.factor import Seals
from twofold.core.session import Session
from twofold.core.ticket import Ticket
from twofold.errors import DataKeyMissing


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...


class Entropy(Protocol):
    """Where randomness comes from."""

    def bytes(self, length: int) -> bytes:
        """Unpredictable bytes (a CSPRNG)."""
        ...


class Accounts(Protocol):
    """Accounts and their audit chains."""

    async def transact(self, account_id: str, decide: Callable[[Account | None], Decision]) -> Decision:
        """Load, decide, commit as ONE step; `decide` is pure, so a store may call it again; None = no such account.

        Raises whatever `decide` raises, `Busy` when too many attempts wait, `TamperedRecord`, `OutcomeUnknown`.
        """
        ...

    async def load(self, account_id: str) -> Account | None:
        """The account as it is committed now, for reading only."""
        ...

    def scan(self, *, after: str = "", tombstones: bool = False) -> AsyncIterator[StoredAccount]:
        """The raw rows of all accounts in order of id, not checked, in small steps that block nobody for long."""
        ...

    async def events(self, account_id: str, *, after_seq: int = 0, limit: int = 1000) -> Sequence[EventRow]:
        """Events of one account in order."""
        ...

    async def orphans(self) -> Sequence[str]:
        """Ids that have events and no account row: somebody took the row away."""
        ...

    async def find_by_contact(self, kind: str, key_hmac: bytes) -> Sequence[str]:
        """Ids of the accounts with this address."""
        ...


class AccountCounts(msgspec.Struct, frozen=True):
    """How many accounts of people there are, deleted ones not counted. A factor counts where it is active, and only
    named roles do. Of so many something is `stopping` after a reset, the first at `first_stops_at`, in microseconds."""

    total: int
    by_state: Mapping[str, int]
    by_role: Mapping[str, int]
    by_factor: Mapping[str, int]
    stopping: int = 0
    first_stops_at: int = 0


class AccountPages(Protocol):
    """Where lists of people come from. Deleted accounts are in none, nor is the deployment's own."""

    async def page_accounts(
        self,
        *,
        after: str = "",
        limit: int = 100,
        factor: str | None = None,
        state: str | None = None,
        role: str | None = None,
        search: str | None = None,
        stops_by: int | None = None,
    ) -> Sequence[StoredAccount]:
        """The next accounts in order of id, not checked. `search`: a part of the id, in capitals or not. `stops_by`:
        only those with an authenticator that stops by then, in microseconds."""
        ...

    async def count_accounts_by(self) -> AccountCounts:
        """How many there are of which kind."""
        ...


class Claims(Protocol):
    """What must be unique across accounts: a credential id, a user handle, an import id."""

    async def claim(self, kind: str, key_hmac: bytes, account_id: str, now: int) -> str:
        """Insert first, in a step of its own: the account that holds the claim now, which may be another one. Claimed
        again by its holder, it is as new."""
        ...

    async def find_claim(self, kind: str, key_hmac: bytes) -> str | None:
        """The account that holds the claim."""
        ...

    async def release(self, kind: str, key_hmac: bytes, account_id: str, *, made_before: int | None = None) -> None:
        """Give a claim back; with `made_before` (microseconds) only one that is older."""
        ...


class Application(msgspec.Struct, frozen=True):
    """A caller with a key. `mac` covers the key and every other field: a row cannot be forged or widened. `return_to`
    are the addresses to which people come back from a prompt."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: int
    origins: tuple[str, ...] = ()
    rp_id: str | None = None
    rate_per_s: int | None = None
    networks: tuple[str, ...] = ()
    mac: bytes = b""
    return_to: tuple[str, ...] = ()


class Applications(Protocol):
    """API keys."""

    async def add_application(self, application: Application) -> None:
        """A new one."""
        ...

    async def find_application(self, application_id: str) -> Application | None:
        """The one of that id, unless it was revoked."""
        ...

    async def list_applications(self) -> Sequence[Application]:
        """All that are not revoked, oldest first."""
        ...

    async def revoke_application(self, application_id: str) -> bool:
        """Whether there was one to revoke."""
        ...


class Sessions(Protocol):
    """Who is signed in. Sessions are opened and ended by decisions (`OpenSession`, `EndSessions`)."""

    async def find_session(self, token_digest: bytes) -> Session | None:
        """The session of that token, whether it is still in force or not; raises `TamperedRecord`."""
        ...

    async def list_sessions(self, account_id: str) -> Sequence[Session]:
        """All sessions of an account, oldest first; rows that were changed from outside are left out."""
        ...

    async def touch_session(self, token_digest: bytes, session: Session) -> None:
        """Keep a changed session (`seen_at`) under its token, if it is still there."""
        ...


class Limits(Protocol):
    """Counters for what no account holds."""

    async def hit(self, key_hmac: bytes, window: int, cap: int) -> bool:
        """Count one in the window that began at this second; False when `cap` is reached already (then nothing is
        counted). Windows that began more than a day ago may be forgotten."""
        ...

    async def take_back(self, key_hmac: bytes, window: int) -> None:
        """Count one less: what was counted in advance turned out to be right."""
        ...


class NetworkBlock(msgspec.Struct, frozen=True):
    """A network that is refused on everything open to strangers. `network` as CIDR; times in microseconds.

    `until` is 0 for one that stays until it is lifted. `strikes`: how often it went over its limit so far; a row stays
    for a while after `until`, so that the next block is a longer one. `by` is an account, or empty: the limits.
    """

    network: str
    until: int
    strikes: int
    blocked_at: int
    reason: str = ""
    by: str = ""


class NetworkBlocks(Protocol):
    """Networks that are refused."""

    async def list_blocks(self) -> Sequence[NetworkBlock]:
        """All rows, by network."""
        ...

    async def put_block(self, block: NetworkBlock) -> None:
        """Keep a block, in place of an earlier one of the same network."""
        ...

    async def drop_block(self, network: str) -> bool:
        """Whether there was one to drop."""
        ...


class OutboxRow(msgspec.Struct, frozen=True):
    """A message that waits to be sent."""

    id: str
    account_id: str
    kind: str
    payload: bytes
    created_at: int
    attempts: int


class Outbox(Protocol):
    """Messages written with the decision that caused them, sent after the commit."""

    async def take(self, limit: int, now: int, lease_s: int) -> Sequence[OutboxRow]:
        """Messages due now, oldest first; nobody else gets them until the lease is over."""
        ...

    async def settle(self, message_id: str, *, sent: bool, retry_at: int = 0) -> None:
        """Sent: the row goes. Not sent: it is due again at `retry_at`."""
        ...


class Sender(Protocol):
    """One channel."""

    async def send(self, message: Message, account_id: str) -> None:
        """Hand the message over; raises `Unavailable` when it could not be."""
        ...


class SealingKeys(Seals, Protocol):
    """The keyring as the engine sees it: seals and indexes, and how to bring a missing key into memory."""

    def check_usable(self) -> None:
        """Raise `DataKeyMissing` unless the data key in use is in memory: nothing is decided without it."""
        ...

    def check_known(self, sealed: bytes) -> None:
        """Raise `Unavailable` if the key of a sealed value was destroyed or never was ours; opens nothing."""
        ...

    async def fetch(self, missing: DataKeyMissing, *, subject: str = "") -> None:
        """Bring a missing data key into memory, or know it as gone from now on. That of a single seed, of the account
        `subject`, stays until `drop`. Raises `KeyRefused`, `ProviderAway`."""
        ...

    def drop(self, missing: Iterable[DataKeyMissing]) -> None:
        """The attempt for which these keys of single seeds were fetched is over."""
        ...

    async def refresh(self) -> None:
        """Read the stored keyring again."""
        ...

    def index_digest(self, *parts: bytes) -> bytes:
        """A keyed digest under which something is found or counted."""
        ...


class Tickets(Protocol):
    """Seals and opens tickets."""

    def issue_ticket(self, ticket: Ticket) -> str:
        """The ticket as text."""
        ...

    def read_ticket(self, text: str) -> Ticket:
        """The ticket of a text; raises `InvalidInput` for what was not made here within the last minutes."""
        ...


class Receipts(Protocol):
    """Signs and reads receipts."""

    def issue(self, claims: ReceiptClaims) -> str:
        """The signed receipt."""
        ...

    def check(self, receipt: str, *, field: str) -> ReceiptClaims:
        """The claims of a receipt that was issued here; raises `InvalidInput` naming `field`."""
        ...

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys as a JSON Web Key Set (RFC 7517)."""
        ...
