"""The only place where concrete classes meet: settings in, a working deployment out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from twofold import setup_link
from twofold.administration import Administration
from twofold.applications import ApplicationKeys
from twofold.clocks import SystemEntropy, system_clock
from twofold.config import Settings, environment, is_loopback, load_settings
from twofold.core.codec import Codec
from twofold.core.sign_in import DEFAULT_LIMITS, STRICT_LIMITS, SessionLimits
from twofold.credentials import Credentials
from twofold.crypto.argon2 import RECOMMENDED, Argon2
from twofold.databases import Database, Store, find_database
from twofold.delivery import Delivery
from twofold.directory import Directory
from twofold.engine import Engine
from twofold.errors import ConfigurationError, TwofoldError
from twofold.factors import FACTORS
from twofold.factors.webauthn import ANY_CREDENTIAL, Policy
from twofold.factors.webauthn_json import RelyingParty
from twofold.fido_metadata import load_trust
from twofold.hash_pool import HashPool
from twofold.inspection import Inspection
from twofold.key_audit import KeyAudit
from twofold.key_ports import KeyProvider
from twofold.keys.keyring import Keyring
from twofold.keys.masters import Masters, moved_to
from twofold.keys.node import ThisNode
from twofold.keys.providers import open_provider
from twofold.keys.receipts import KeyringReceipts
from twofold.keys.rotation import Rotation
from twofold.mass_reset import MassReset
from twofold.migrating import check_at_home
from twofold.networks import Networks
from twofold.passkeys import Passkeys
from twofold.ports import Clock, Entropy
from twofold.prompts import Prompts
from twofold.relying_party import find_own
from twofold.resealing import Resealing
from twofold.senders.log import LogSender
from twofold.sign_in import SignIn
from twofold.sign_in_limits import SignInLimits
from twofold.upkeep import KeyUpkeep, upkeep
from twofold.verifier import Verifier

DEFAULT_URL = "http://localhost:8000"


class Deployment:
    """Everything that belongs to one database, put together. End it with `close`."""

    settings: Settings
    store: Store
    keyring: Keyring
    clock: Clock
    entropy: Entropy
    public_url: str
    #: Whose passkeys Twofold's own pages ask for; None where browsers make none.
    relying_party: RelyingParty | None
    receipts: KeyringReceipts
    engine: Engine
    verifier: Verifier
    prompts: Prompts
    networks: Networks
    sign_in_limits: SignInLimits
    sign_in: SignIn
    administration: Administration
    mass_reset: MassReset
    applications: ApplicationKeys
    inspection: Inspection
    delivery: Delivery
    node: ThisNode
    key_audit: KeyAudit
    rotation: Rotation
    resealing: Resealing

    def __init__(
        self,
        settings: Settings,
        store: Store,
        keyring: Keyring,
        *,
        clock: Clock,
        entropy: Entropy,
        argon2: Argon2,
        public_url: str | None = None,
        policy: Policy = ANY_CREDENTIAL,
        role: str = "embedded",
    ) -> None:
        self.settings, self.store, self.keyring = settings, store, keyring
        self.clock, self.entropy = clock, entropy
        self.public_url = public_url or settings.public_url or DEFAULT_URL
        self.relying_party = rp = find_own(self.public_url)
        self.receipts = receipts = KeyringReceipts(keyring, self.public_url)
        codec = Codec(keyring.mac_keys())
        store.use_codec(codec)
        self._pool = HashPool()
        is_strict = settings.profile == "strict"
        self.engine = engine = Engine(
            accounts=store,
            limits=store,
            keys=keyring,
            factors=FACTORS,
            clock=clock,
            entropy=entropy,
            pool=self._pool,
            session_limits=STRICT_LIMITS if is_strict else DEFAULT_LIMITS,
        )
        credentials = Credentials(keyring, entropy, self._pool, issuer=settings.issuer, argon2=argon2)
        directory = Directory(engine, credentials, is_strict=is_strict, common_passwords=load_common_passwords())
        passkeys = Passkeys(
            engine, credentials, directory, receipts=receipts, claims=store, tickets=keyring, policy=policy
        )
        self.verifier = Verifier(
            engine,
            credentials,
            receipts,
            accounts=directory,
            passkeys=passkeys,
            is_strict=is_strict,
            on_close=self.close,
        )
        self.prompts = Prompts(engine, directory, rp, tickets=keyring, receipts=receipts, applications=store)
        self.networks = Networks(store, engine)
        self.sign_in_limits = SignInLimits(engine, self.networks)
        self.sign_in = SignIn(engine, credentials, directory, store, self.sign_in_limits, passkeys=passkeys)
        self.administration = Administration(engine, self.verifier.accounts, store, store)
        self.mass_reset = MassReset(engine, self.verifier.accounts, self.administration, codec, keyring.rows)
        self.applications = ApplicationKeys(store, keyring, engine)
        self.inspection = Inspection(store, codec, keyring)
        self.delivery = Delivery(store, LogSender(), clock)
        self.node = ThisNode(keyring, store)
        self.key_audit = KeyAudit(engine, store, keyring.masters.trace, role=role, node=self.node.id)
        self.rotation = Rotation(keyring, self.node, self.key_audit.record)
        self.resealing = Resealing(engine, store, keyring)
        self._upkeep = AsyncExitStack()

    async def begin_upkeep(self) -> None:
        """Deliver messages and watch the keys from now on, until `close`."""
        keys = KeyUpkeep(self.keyring, self.node, self.key_audit, self.rotation, self.resealing, limits=self.store)
        await self._upkeep.enter_async_context(upkeep(self.delivery, keys, self.sign_in, self.administration))

    async def close(self) -> None:
        """Finish what is under way and let the database go."""
        await self._upkeep.aclose()
        with suppress(TwofoldError):
            await self.sign_in.record_refused()
        with suppress(TwofoldError):
            await self.key_audit.record_uses()
        self._pool.close()
        await self.store.close()
        await self.keyring.close()


async def open_deployment(
    settings: Settings,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    argon2: Argon2 = RECOMMENDED,
    default_url: str = DEFAULT_URL,
    registers_passkeys: bool = False,
    role: str = "embedded",
) -> Deployment:
    """Open the database of these settings, or make it. The public URL is that of the settings, else what the set-up
    page stored, else `default_url`. What `registers_passkeys` reads the files by which their makers are believed.
    `role` is what this process does, for the audit of its keys. Raises `ConfigurationError`, one line."""
    clock = clock or system_clock(settings.test_clock)
    entropy = entropy or SystemEntropy()
    database = find_database(settings)
    if settings.database_url is None:
        make_private_folder(settings.data_dir)
    async with database.first_start() as is_new:
        provider = await _open_provider(settings, database, entropy, is_new=is_new)
        store = await database.open()
        try:
            await check_at_home(store)
            keyring = await open_keyring(settings, store, provider, clock=clock, entropy=entropy)
            stored_url = await setup_link.read_public_url(store, keyring)
            public_url = settings.public_url or stored_url or default_url
            if settings.test_clock is not None and not is_loopback(urlsplit(public_url).hostname):
                raise ConfigurationError("TEST_CLOCK is for tests only: PUBLIC_URL must be a loopback address with it")
            # Else a file that was fetched badly would stop the commands that are needed just then.
            policy = read_policy(settings, clock.now()) if registers_passkeys else ANY_CREDENTIAL
        except BaseException:
            await store.close()
            raise
    return Deployment(
        settings,
        store,
        keyring,
        clock=clock,
        entropy=entropy,
        argon2=argon2,
        public_url=public_url,
        policy=policy,
        role=role,
    )


async def _open_provider(settings: Settings, database: Database, entropy: Entropy, *, is_new: bool) -> KeyProvider:
    try:
        return open_provider(settings.key_address, entropy, environment(), may_create=is_new)
    except ConfigurationError as error:
        # A file that is there is meant, whatever is wrong with it.
        is_there = settings.key_file is not None and settings.key_file.exists()
        address = None if is_new or is_there else await database.find_master_address()
        if not address:
            raise
        if settings.postgres_url is not None and address.startswith("file:"):
            way_on = f"copy {address.removeprefix('file:')} from a server that has it"
            raise ConfigurationError(f"{error}; {way_on}, or move the keys to a provider that all reach") from None
        if address == settings.key_address:
            raise
        raise ConfigurationError(f"{error}; {moved_to(address)}") from None


async def open_keyring(
    settings: Settings, store: Store, provider: KeyProvider, *, clock: Clock, entropy: Entropy
) -> Keyring:
    """The keyring of a store, opened by this provider; raises `ConfigurationError`."""

    def open_another(address: str, may_create: bool) -> KeyProvider:
        return open_provider(address, entropy, environment(), may_create=may_create)

    masters = Masters(provider, settings.key_address, open_another, clock=clock, entropy=entropy)
    return await Keyring.open(store, masters, clock, entropy, mode=settings.data_keys)


def read_policy(settings: Settings, now: int) -> Policy:
    """Which passkeys may be registered. Statements are asked for only where something is there to believe them by:
    some browsers show a question about it. Raises `ConfigurationError`."""
    if settings.fido_metadata is None and settings.attestation_roots is None:
        return ANY_CREDENTIAL
    return Policy(conveyance="direct", trust=load_trust(settings, now))


@asynccontextmanager
async def deployment(settings: Settings, *, default_url: str = DEFAULT_URL) -> AsyncIterator[Deployment]:
    """`open_deployment` for a `with` block."""
    opened = await open_deployment(settings, default_url=default_url, registers_passkeys=True, role="serve")
    try:
        yield opened
    finally:
        await opened.close()


async def open_embedded(
    database_url: str,
    *,
    issuer: str,
    public_url: str | None = None,
    session_s: int | None = None,
) -> Deployment:
    """A deployment inside another application. The key file of a SQLite database lies beside it; over PostgreSQL this
    is one of several servers, and has the settings of them all. `session_s`: so long a second factor counts."""
    settings = Settings(database_url=database_url, issuer=issuer)
    if settings.postgres_url is None:
        path = settings.sqlite_path
        key_provider = f"file:{path.with_suffix('.key')}"
        test_clock = environment().get("TWOFOLD_TEST_CLOCK")
        settings = msgspec.structs.replace(
            settings,
            data_dir=path.parent,
            key_provider=key_provider,
            test_clock=None if test_clock is None else Path(test_clock),
        )
    else:
        settings, _ = load_settings(environment(), database_url=database_url, issuer=issuer)
    if public_url is not None:
        settings = msgspec.structs.replace(settings, public_url=public_url)
    opened = await open_deployment(settings, registers_passkeys=True)
    if session_s is not None:
        opened.engine.session_limits = SessionLimits(session_s, session_s)
    await opened.begin_upkeep()
    return opened


def make_private_folder(path: Path) -> None:
    """The data folder, readable by its owner alone."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A folder that held something before may be somebody else's too: `twofold doctor` tells of its mode.
        if not any(path.iterdir()):
            path.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(f"DATA_DIR {path}: cannot be used ({error.strerror})") from None


def load_common_passwords() -> frozenset[str]:
    """The well-known passwords that nobody may choose, in lower case."""
    text = (resources.files("twofold.factors") / "common_passwords.txt").read_text("utf-8")
    return frozenset(line for line in text.splitlines() if line)
