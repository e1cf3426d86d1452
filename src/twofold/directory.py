"""Accounts as a whole: add, look up, change, import, delete, and test why a code does not fit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Sequence
from typing import Literal, cast

import msgspec

from twofold.core import enrollment, management
from twofold.core.account import (
    FIRST_FACTOR,
    RECOVERY,
    Account,
    AccountState,
    AuthenticatorState,
    Contact,
    Profile,
    Role,
    check_account_id,
    check_label,
    epoch_claim,
    without_expired,
)
from twofold.core.activity import Activity, read_activity
from twofold.core.attempt import Call
from twofold.core.audit import EventRow
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Confirmed, Decision, Done, Tried
from twofold.core.enrollment import NewCredential
from twofold.core.entropy import derive
from twofold.core.factor import read_answer
from twofold.core.management import PROFILE_FIELD, AccountEvent, ProfileChange
from twofold.core.throttle import COST_MIN_PPM, find_wait, refill
from twofold.core.verification import check_usable
from twofold.credentials import Credentials, OtpFactor, OtpParameters, yubikeys_of
from twofold.engine import LOCAL, Caller, Engine
from twofold.errors import DataKeyMissing, InvalidInput, Refused, TamperedRecord
from twofold.factors.diagnosis import diagnose_hotp, diagnose_late_clock, diagnose_totp
from twofold.factors.password import check_new_password
from twofold.factors.recovery_codes import codes_left
from twofold.factors.webauthn import FACTOR, Webauthn, WebauthnCredential
from twofold.factors.yubico_otp import YubicoKey
from twofold.ports import SealingKeys

DISPLAY_NAME_MAX = 128
GROUPS_MAX = 32
GROUP_MAX = 64
TESTS_PER_DAY = 5
DAY_S = 86_400
#: The purpose of a code that is only tested: it is good for nothing else.
TEST_CODE = "test_code"


class AuthenticatorView(msgspec.Struct, frozen=True):
    """An authenticator as it may be shown, never a secret; `passkey` if it is one. Times in microseconds, 0: never.
    It counts until `stops_at`."""

    id: str
    factor: str
    label: str
    state: AuthenticatorState | str
    created_at: int
    last_used_at: int
    passkey: WebauthnCredential | None = None
    stops_at: int = 0


class AccountView(msgspec.Struct, frozen=True):
    """An account as it may be shown. `throttle` is that of new browsers: `open`, `delayed` or `empty`.

    `is_disabled`: as a whole, by somebody who may; `state` says so too where failures did it. Times in microseconds, 0
    for never: an open invitation works until `invited_until`, and at `stops_at` the first authenticator stops.
    """

    id: str
    display_name: str
    state: AccountState
    authenticators: tuple[AuthenticatorView, ...]
    recovery_codes_left: int
    throttle: str
    retry_after_s: int | None
    contacts: tuple[Contact, ...]
    groups: tuple[str, ...]
    role: Role = ""
    is_disabled: bool = False
    invited_until: int = 0
    stops_at: int = 0
    epoch: str = ""

    @property
    def has_password(self) -> bool:
        """Whether the person can take the first step of signing in here."""
        return any(a.factor == FIRST_FACTOR for a in self.authenticators)

    @property
    def second_factors(self) -> tuple[AuthenticatorView, ...]:
        """What is asked for besides the password, or was until failures disabled it; recovery codes only accompany."""
        return tuple(
            a for a in self.authenticators if a.factor not in (FIRST_FACTOR, RECOVERY) and a.state != "pending"
        )


class ProfileInput(msgspec.Struct, frozen=True):
    """What may be said of a person; None leaves it as it is."""

    display_name: str | None = None
    email: str | None = None
    phone: str | None = None
    groups: tuple[str, ...] | None = None


NOTHING = ProfileInput()


class Directory:
    """The accounts of one deployment."""

    def __init__(
        self, engine: Engine, credentials: Credentials, *, is_strict: bool, common_passwords: Container[str]
    ) -> None:
        self._engine = engine
        self._credentials = credentials
        self._is_strict = is_strict
        self._common_passwords = common_passwords

    async def put(self, account_id: str, profile: ProfileInput = NOTHING, *, caller: Caller = LOCAL) -> bool:
        """Create the account or change what is given; True when it is new. Raises `InvalidInput`, `Refused`."""
        check_account_id(account_id)
        checked = _check_profile(profile)

        def decide(account: Account | None, call: Call) -> Decision:
            change = None
            if (checked.display_name, checked.email, checked.phone) != (None, None, None):
                before = self._open_profile(account) if account else Profile()
                change = self._seal_profile(account_id, _merge(before, checked), call)
            return management.put_account(account, account_id, call, profile=change, groups=checked.groups)

        return cast(Done, await self._engine.decide(account_id, decide, caller)).is_new

    async def get(self, account_id: str) -> AccountView:
        """The account as it is now; raises `Refused("not_found")`. One that cannot be trusted is `unavailable`."""
        try:
            account = await self._engine.load(account_id)
            if account is None:
                raise Refused("not_found", "there is no account of that id")
            while True:
                try:
                    return self._view(account)
                except DataKeyMissing as missing:
                    await self._engine.keys.fetch(missing)
        except TamperedRecord as tampered:
            await self._engine.raise_alarm(account_id, tampered)
            return AccountView(account_id, "", "unavailable", (), 0, "open", None, (), ())

    async def delete(self, account_id: str, *, caller: Caller = LOCAL) -> None:
        """Remove the account and all its rows; a tombstone keeps the audit chain unbroken."""
        await self._engine.decide(account_id, management.delete_account, caller)

    async def record_event(self, account_id: str, event: AccountEvent, *, caller: Caller = LOCAL) -> None:
        """What happened to the account elsewhere: a new epoch, so everything in force before is void."""

        def decide(account: Account | None, call: Call) -> Decision:
            return management.record_event(account, event, call)

        await self._engine.decide(account_id, decide, caller)

    async def import_authenticator(
        self, account_id: str, factor: OtpFactor, otp: OtpParameters, *, label: str = "", caller: Caller = LOCAL
    ) -> Confirmed:
        """An authenticator whose secret the person has already: active at once. Needs `caller.is_admin`."""
        otp.check(is_strict=self._is_strict)
        label = check_label(label)
        authenticator_id = self._credentials.new_id()

        def decide(account: Account | None, call: Call) -> Decision:
            if account is not None and self._credentials.has_seed(account, otp.secret):
                raise Refused("conflict", "this account has an authenticator with this secret already")
            fresh = self._credentials.new_otp(account_id, authenticator_id, factor, otp)
            return enrollment.import_authenticator(account, fresh, call, label=label)

        return cast(Confirmed, await self._engine.decide(account_id, decide, caller))

    async def import_yubikey(
        self, account_id: str, key: YubicoKey, *, label: str = "", is_rehearsal: bool = False, caller: Caller = LOCAL
    ) -> Confirmed:
        """A YubiKey whose secrets are known: active at once. Needs `caller.is_admin`. A rehearsal decides the same and
        writes nothing. That no other account has the key is for the caller to see to: `twofold.importing.yubikeys`."""
        label = check_label(label)
        authenticator_id = self._credentials.new_id()

        def decide(account: Account | None, call: Call) -> Decision:
            if account is not None and key.public_id in yubikeys_of(account):
                raise Refused("conflict", "this account has this YubiKey already")
            # A rehearsal keeps nothing, so it asks for no key either.
            rehearsed = NewCredential(authenticator_id, "yubico_otp", b"")
            fresh = rehearsed if is_rehearsal else self._credentials.new_yubico_otp(account_id, authenticator_id, key)
            return enrollment.import_authenticator(account, fresh, call, label=label)

        if is_rehearsal:
            account = await self._engine.load(account_id)
            return cast(Confirmed, decide(account, self._engine.begin(account_id, caller)).outcome)
        return cast(Confirmed, await self._engine.decide(account_id, decide, caller))

    async def new_password(self, account_id: str, password: str) -> NewCredential:
        """A password as it may be set: 8 to 128 characters, not a well-known one. Raises `InvalidInput`."""
        check_new_password(password, account_id=account_id, common=self._common_passwords)
        return await self._credentials.new_password(account_id, password)

    async def set_password(self, account_id: str, password: str, *, caller: Caller = LOCAL) -> Done:
        """Set or change the password. Raises `InvalidInput`, `Refused`."""
        fresh = await self.new_password(account_id, password)

        def decide(account: Account | None, call: Call) -> Decision:
            return management.set_password(account, fresh, call)

        return cast(Done, await self._engine.decide(account_id, decide, caller))

    async def test_code(self, account_id: str, code: str, *, caller: Caller = LOCAL) -> Tried:
        """What a code fits, at any time and however computed: never a sign-in, audited, five a day. It is neither
        judged nor used up, so this is for an operator alone, who has the keys; needs `caller.is_admin`."""
        answer = read_answer([code])
        if not caller.is_admin:
            raise Refused("forbidden", "only an operator may look at a code without having it judged")

        def decide(account: Account | None, call: Call) -> Decision:
            account = without_expired(check_usable(account), call.now)
            tried = self._diagnose(account, answer.codes[0], call.now)
            return Decision(tried, account, (call.event("code.tested", finding=tried.finding),))

        if await self._engine.load(account_id) is None:
            raise Refused("not_found", "there is no account of that id")
        await self._count_test(b"test_code", account_id)
        return cast(Tried, await self._engine.decide(account_id, decide, caller))

    async def test_own_code(self, account_id: str, caller: Caller) -> Done:
        """Somebody in a session tests a code of her own, `caller.proof` for `TEST_CODE`; five a day. It is judged like
        any other: one that fits is used up, a wrong one is charged. Raises `NotProven`, `Refused`."""

        def decide(account: Account | None, call: Call) -> Decision:
            assert account is not None and call.proven_by  # noqa: S101, PT018 - or nobody gets here
            return Decision(Done(), account, (call.event("code.tested", finding="fits"),))

        await self._count_test(b"test_own_code", account_id)
        return cast(Done, await self._engine.decide(account_id, decide, caller))

    async def find_late_clock(self, account_id: str, code: str, caller: Caller) -> Tried:
        """Whether a code that was judged and refused is one of the past, as a clock that is behind shows them."""
        answer = read_answer([code])

        def decide(account: Account | None, call: Call) -> Decision:
            account = without_expired(check_usable(account), call.now)
            tried = self._look_back(account, answer.codes[0], call.now)
            return Decision(tried, account, (call.event("code.tested", finding=tried.finding),))

        return cast(Tried, await self._engine.decide(account_id, decide, caller))

    async def latest_activity(
        self, account: Account, *, count: int, before_seq: int | None = None
    ) -> Sequence[Activity]:
        """What happened to the account last, newest first; with `before_seq` what happened before that event. Of an
        account that had the same id and was deleted, nothing."""
        last = account.head.seq if before_seq is None else min(before_seq - 1, account.head.seq)
        first = max(account.head.erased, last - count)
        if last <= first:
            return ()
        rows = await self.events(account.id, after_seq=first, limit=last - first)
        return [read_activity(row) for row in reversed(rows)]

    async def events(self, account_id: str, *, after_seq: int = 0, limit: int = 1000) -> Sequence[EventRow]:
        """Events of an account, oldest first; of the deployment itself under the id ""."""
        return await self._engine.accounts.events(account_id, after_seq=after_seq, limit=limit)

    def _view(self, account: Account) -> AccountView:
        now = self._engine.clock.now()
        wait = find_wait(refill(account.lane, now), COST_MIN_PPM, now)
        shown = tuple(
            AuthenticatorView(
                a.id,
                a.factor,
                a.label,
                a.state if self._credentials.is_available(a) else "unavailable",
                a.created_at,
                a.last_used_at,
                Webauthn().read_credential(a.credential) if a.factor == FACTOR and a.state != "pending" else None,
                a.stops_at,
            )
            for a in account.authenticators
        )
        has_active = any(a.state == "active" and a.factor not in (FIRST_FACTOR, RECOVERY) for a in shown)
        profile = self._open_profile(account)
        link = account.link if account.link and account.link.purpose == "invitation" else None
        return AccountView(
            account.id,
            profile.display_name,
            "unavailable" if account.state == "active" and not has_active else account.state,
            shown,
            sum(codes_left(a.credential) for a in account.authenticators if a.factor == RECOVERY),
            "open" if wait is None else wait.state,
            None if wait is None else wait.retry_after_s,
            profile.contacts,
            account.groups,
            account.role,
            account.is_disabled,
            link.expires_at if link and now < link.expires_at else 0,
            account.stops_at,
            epoch_claim(account),
        )

    def _diagnose(self, account: Account, code: str, now: int) -> Tried:
        findings = []
        for authenticator in account.authenticators:
            if authenticator.factor not in ("totp", "hotp") or authenticator.state == "pending":
                continue
            otp = self._credentials.read_otp(account.id, authenticator)
            if authenticator.factor == "totp":
                found = diagnose_totp(
                    otp.secret, code, algorithm=otp.algorithm, digits=otp.digits, period_s=otp.period_s, now=now
                )
            else:
                found = diagnose_hotp(otp.secret, code, algorithm=otp.algorithm, digits=otp.digits, counter=otp.counter)
            findings.append(msgspec.structs.replace(found, authenticator_id=authenticator.id))
        if not findings:
            raise Refused("no_factor", "this account has no authenticator that gives codes")
        ranking = ("fits", "fits_with_clock_off", "fits_with_other_parameters", "fits_nothing")
        return min(findings, key=lambda found: (ranking.index(found.finding), abs(found.steps)))

    def _look_back(self, account: Account, code: str, now: int) -> Tried:
        findings = [Tried("fits_nothing")]
        # As in judging: one whose seed cannot be opened does not stop the others.
        for authenticator, otp in self._credentials.read_otps(account):
            if authenticator.factor == "totp" and authenticator.state == "active":
                found = diagnose_late_clock(
                    otp.secret, code, algorithm=otp.algorithm, digits=otp.digits, period_s=otp.period_s, now=now
                )
                findings.append(msgspec.structs.replace(found, authenticator_id=authenticator.id))
        return min(findings, key=lambda found: (found.finding == "fits_nothing", abs(found.steps)))

    async def _count_test(self, kind: bytes, account_id: str) -> None:
        now_s = self._engine.clock.now() // MICROS_PER_S
        key = self._engine.keys.index_digest(kind, account_id.encode())
        if not await self._engine.limits.hit(key, now_s - now_s % DAY_S, TESTS_PER_DAY):
            raise Refused("too_many", f"a code can be tested {TESTS_PER_DAY} times a day")

    def _open_profile(self, account: Account) -> Profile:
        if account.sealed_profile is None:
            return Profile()
        opened = self._engine.keys.open_seal(account.sealed_profile, field=PROFILE_FIELD, account_id=account.id)
        return msgspec.msgpack.decode(opened, type=Profile)

    def _seal_profile(self, account_id: str, profile: Profile, call: Call) -> ProfileChange:
        keys = self._engine.keys
        sealed = keys.seal(
            msgspec.msgpack.encode(profile),
            field=PROFILE_FIELD,
            account_id=account_id,
            nonce=derive(call.seed, "profile", 12),
        )
        found_by = tuple((c.kind, contact_digest(keys, c.kind, c.address)) for c in profile.contacts)
        return ProfileChange(sealed, keys.active_key_id, found_by)


def contact_digest(keys: SealingKeys, kind: str, address: str) -> bytes:
    """The keyed digest under which an address is found; case does not matter."""
    return keys.index_digest(b"contact", kind.encode(), address.casefold().encode())


def _check_profile(profile: ProfileInput) -> ProfileInput:
    name, email, phone, groups = profile.display_name, profile.email, profile.phone, profile.groups
    if name is not None and (len(name) > DISPLAY_NAME_MAX or not name.isprintable()):
        raise InvalidInput("display_name", f"at most {DISPLAY_NAME_MAX} printable characters")
    if email is not None and not _EMAIL.fullmatch(email):
        raise InvalidInput("email", "an address such as name@example.com")
    if phone is not None and not _PHONE.fullmatch(phone):
        raise InvalidInput("phone", "an international number such as +4915112345678")
    if groups is not None:
        if len(groups) > GROUPS_MAX or not all(0 < len(g) <= GROUP_MAX and g.isprintable() for g in groups):
            raise InvalidInput("groups", f"at most {GROUPS_MAX} names of 1 to {GROUP_MAX} printable characters")
        groups = tuple(dict.fromkeys(groups))
    return ProfileInput(name and unicodedata.normalize("NFC", name), email, phone, groups)


def _merge(before: Profile, change: ProfileInput) -> Profile:
    """The profile with what was given; an address that stays the same stays confirmed, a new one is not."""
    contacts = {contact.kind: contact for contact in before.contacts}
    given: tuple[tuple[Literal["email", "phone"], str | None], ...] = (("email", change.email), ("phone", change.phone))
    for kind, address in given:
        if address is not None and (kind not in contacts or contacts[kind].address != address):
            contacts[kind] = Contact(kind, address)
    name = before.display_name if change.display_name is None else change.display_name
    return Profile(name, tuple(contacts.values()))


# Deliberately loose: only a message that arrives proves an address. No spaces, no control characters, one @.
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f<>\",;]{1,64}@[^@\s\x00-\x1f\x7f<>\",;]{1,190}")
_PHONE = re.compile(r"\+[1-9][0-9]{5,14}", re.ASCII)
