"""The kit: takes the place of what opens deployments, and does in one call what people do with their authenticators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar
from unittest import mock
from urllib.parse import urlsplit

import msgspec

from twofold import bootstrap, setup_link
from twofold.blocking import BlockingVerifier
from twofold.bootstrap import DEFAULT_URL, Deployment, open_keyring, read_policy
from twofold.clocks import SystemEntropy
from twofold.config import Settings, environment, is_loopback, load_settings
from twofold.core.account import Account
from twofold.core.attempt import PAGES, Call
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Confirmed, Decision, Done, Rejected, Throttled
from twofold.core.discreet import Discreet
from twofold.credentials import OtpFactor
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.engine import LOCAL, Caller
from twofold.errors import ConfigurationError
from twofold.factors.webauthn import ANY_CREDENTIAL
from twofold.factors.webauthn_json import RelyingParty
from twofold.keys.env import EnvKeyProvider
from twofold.keys.local import KEY_BYTES
from twofold.portal import Portal
from twofold.testing.clients import Client, ask
from twofold.testing.codes import NoCode, Reading, read_code
from twofold.testing.fixed_clock import STEP_S, FixedClock
from twofold.testing.memory_database import MemoryDatabase
from twofold.testing.outbox import Outbox
from twofold.testing.software_authenticator import SoftwareAuthenticator

#: Where test clients of Flask find an application, and browsers make passkeys without https.
LOCALHOST = RelyingParty("localhost", ("http://localhost",))
#: As if on Twofold's own pages, which believe no passkey that was made elsewhere to have verified its user; without a
#: proof, as an administrator may.
_KIT = Caller(PAGES, is_admin=True)


class Enrolled(Discreet, frozen=True):
    """An authenticator that is active now. `recovery_codes` come with the first one of the account."""

    hidden: ClassVar[tuple[str, ...]] = ("recovery_codes",)

    id: str
    factor: str
    recovery_codes: tuple[str, ...] = ()


class Kit:
    """What a test has at hand. Every method waits, and may be called from tests with an event loop and without one. An
    `account_id` is what the application calls a person; numbers become text."""

    def __init__(self, at_s: float | None) -> None:
        self.clock: FixedClock = FixedClock(at_s)
        #: What would have been sent.
        self.outbox: Outbox = Outbox()
        self._at_s = at_s
        self._entropy = SystemEntropy()
        self._database = MemoryDatabase(self.outbox)
        self._provider = EnvKeyProvider("memory", self._entropy.bytes(KEY_BYTES), self._entropy)
        self._portal = Portal()
        self._deployment = self._portal.wait(self.open_deployment(Settings()))
        #: Over the same accounts as the application, for what it does not do itself.
        self.verifier: BlockingVerifier = BlockingVerifier(
            lambda: self._deployment.verifier, self._portal.wait, self._end
        )

    async def open_deployment(
        self,
        settings: Settings,
        *,
        default_url: str = DEFAULT_URL,
        registers_passkeys: bool = False,
        role: str = "embedded",
        **_: object,
    ) -> Deployment:
        """`bootstrap.open_deployment` with the kit's clock, over its database, with cheap hashes. Raises
        `ConfigurationError` for a public URL."""
        settings = msgspec.structs.replace(settings, database_url=None, key_provider="env:memory")
        keyring = await open_keyring(settings, self._database, self._provider, clock=self.clock, entropy=self._entropy)
        stored_url = await setup_link.read_public_url(self._database, keyring)
        public_url = settings.public_url or stored_url or default_url
        refuse_public_url(public_url)
        return Deployment(
            settings,
            self._database,
            keyring,
            clock=self.clock,
            entropy=self._entropy,
            argon2=ONLY_FOR_TESTING,
            public_url=public_url,
            policy=read_policy(settings, self.clock.now()) if registers_passkeys else ANY_CREDENTIAL,
            role=role,
        )

    def reset(self) -> None:
        """As it was at first: no accounts, nothing sent, the time of the beginning."""
        self._database.forget_people()
        self.outbox.clear()
        self.clock.set(FixedClock(self._at_s).now_s)

    def close(self) -> None:
        """Let the kit's own deployment go; those of the application are its own business."""
        self.verifier.close()

    def _end(self) -> None:
        if self._portal.is_open:
            self._portal.wait(self._deployment.close())
            self._portal.close()

    def enroll(self, account_id: str | int, factor: OtpFactor = "totp", *, label: str = "") -> Enrolled:
        """An authenticator app, or a token with `hotp`; the account is made if there is none. It is confirmed with an
        earlier code than the one that is shown, which can still be used. Raises `Refused`."""

        async def enroll() -> Enrolled:
            verifier = self._deployment.verifier
            pending = await verifier.enroll(str(account_id), factor, label=label, caller=_KIT)
            now = self.clock.now() - STEP_S * MICROS_PER_S * (factor == "totp")
            shown = await self._read(account_id, pending.id, now)
            return _enrolled(await verifier.confirm(str(account_id), pending.id, code=shown.code, caller=_KIT))

        return self._portal.wait(enroll())

    def enroll_passkey(
        self,
        account_id: str | int,
        authenticator: SoftwareAuthenticator,
        rp: RelyingParty = LOCALHOST,
        *,
        label: str | None = None,
    ) -> Enrolled:
        """A passkey that this authenticator makes for the pages of `rp`. Raises `Refused`, `NotAllowed`."""

        async def enroll() -> Enrolled:
            passkeys = self._deployment.verifier.passkeys
            pending = await passkeys.enroll(str(account_id), rp, caller=_KIT)
            made = authenticator.register(pending.public_key, rp.origins[0])
            return _enrolled(await passkeys.confirm(str(account_id), pending.id, made, rp, label=label, caller=_KIT))

        return self._portal.wait(enroll())

    def current_code(self, account_id: str | int, authenticator_id: str | None = None) -> str:
        """The code that the account's app shows now; or the coming one, which counts already, if this one is used.

        Without an id it is the authenticator added last. Raises `NoCode` when both are used, or there is none.
        """
        shown = self._portal.wait(self._read(account_id, authenticator_id, self.clock.now()))
        if not shown.code:
            raise NoCode(
                f"the codes of {account_id} that count now are used: the next one comes in {shown.wait_s:g} s,"
                " which `clock.advance` lets pass; `next_code` waits for it"
            )
        return shown.code

    def next_code(self, account_id: str | int, authenticator_id: str | None = None) -> str:
        """The same, waiting for it if need be, as a person does: the clock moves on."""
        shown = self._portal.wait(self._read(account_id, authenticator_id, self.clock.now()))
        self.clock.advance(shown.wait_s)
        return shown.code or self.current_code(account_id, authenticator_id)

    def pass_second_step(
        self,
        client: Client,
        account_id: str | int,
        *,
        authenticator: SoftwareAuthenticator | None = None,
        act: str | None = None,
        headers: Mapping[str, str] | None = None,
        prefix: str = "/2fa",
    ) -> None:
        """Show the second factor of somebody whom a test client has signed in to an application with a `SecondFactor`:
        the next code, or a passkey of this authenticator. With `act`, the path of a view that wants it fresh, for just
        that act. `headers` are sent along, such as the token of a program. Raises AssertionError when it is refused."""
        meant = {} if act is None else {"act": act, "at_least": "code" if authenticator is None else "passkey"}
        shown: dict[str, object]
        if authenticator is None:
            shown = {"code": self.next_code(account_id)}
        else:
            asked = ask(client, f"{prefix}/challenge", meant, headers)
            answer = authenticator.answer(asked["public_key"], LOCALHOST.origins[0])
            shown = {"challenge": asked["challenge"], "credential": answer}
        told = ask(client, f"{prefix}/verify", {**shown, **meant}, headers)
        if not told["verified"]:
            raise AssertionError(f"the second factor of {account_id} was refused: {told['reason']}")

    async def _read(self, account_id: str | int, authenticator_id: str | None, now: int) -> Reading:
        readings = []

        def look(account: Account | None, _: Call) -> Decision:
            readings.append(read_code(account, authenticator_id, self._deployment.keyring, now=now))
            return Decision(Done())

        # Not only loaded: the engine brings a key into memory if need be.
        await self._deployment.engine.decide(str(account_id), look, LOCAL)
        return readings[-1]


@contextmanager
def open_kit(*, at_s: float | None = None) -> Iterator[Kit]:
    """A kit. As long as the block runs, whatever database a program in this process opens Twofold over, it is the
    kit's, and the time is the kit's time: from `at_s` (Unix, in seconds) on, else from now.

    Raises `ConfigurationError` where PUBLIC_URL is not a loopback address: nobody's second factor hangs on a test.
    """
    refuse_public_url()
    kit = Kit(at_s)
    try:
        with mock.patch.object(bootstrap, "open_deployment", kit.open_deployment):
            yield kit
    finally:
        kit.close()


def refuse_public_url(url: str | None = None) -> None:
    """Raise `ConfigurationError` if people reach a deployment at this address, or at the one that the environment or
    `twofold.toml` says."""
    configured, _ = load_settings(environment())
    for address in filter(None, (url, configured.public_url)):
        if not is_loopback(urlsplit(address).hostname):
            raise ConfigurationError(
                f"twofold.testing is for tests only: PUBLIC_URL is {address}, and with it must be a loopback address"
            )


def _enrolled(outcome: Confirmed | Rejected | Throttled) -> Enrolled:
    if not isinstance(outcome, Confirmed):
        raise AssertionError(f"the enrollment was refused: {outcome}")
    return Enrolled(outcome.id, outcome.factor, outcome.recovery_codes)
