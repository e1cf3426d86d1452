from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.deployments import add_phone, open_for_test, open_in_memory, phone_of
from tests.kit import SetClock, wrong_code

from twofold.bootstrap import Deployment
from twofold.core.account import Authenticator, Contact
from twofold.core.decision import Rejected, Throttled, Tried, Verified
from twofold.credentials import OtpParameters
from twofold.crypto.otp import code_at
from twofold.directory import Directory, ProfileInput, contact_digest
from twofold.engine import Caller
from twofold.errors import InvalidInput, Refused, Unavailable

ADMIN = Caller(is_admin=True)
SECRET = b"12345678901234567890"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "sqlite"])
async def deployment(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> AsyncIterator[Deployment]:
    is_memory = request.param == "memory"
    opened = await (open_in_memory(clock) if is_memory else open_for_test(tmp_path / "data", clock))
    yield opened
    await opened.close()


@pytest.fixture
def directory(deployment: Deployment) -> Directory:
    return deployment.verifier.accounts


async def refusal(attempt: Any) -> str:
    with pytest.raises(Refused) as refused:
        await attempt
    return refused.value.code


# Profiles.


async def test_an_account_is_created_once_and_what_is_given_is_changed(directory: Directory) -> None:
    assert await directory.put("alice", ProfileInput("Alice", "Alice@Example.com", "+4915112345678", ("staff", "it")))
    assert not await directory.put("alice", ProfileInput(display_name="Alice B."))
    view = await directory.get("alice")
    assert (view.display_name, view.groups, view.state) == ("Alice B.", ("staff", "it"), "empty")
    assert view.contacts == (Contact("email", "Alice@Example.com"), Contact("phone", "+4915112345678"))
    assert not await directory.put("alice", ProfileInput(email="new@example.com", groups=()))
    view = await directory.get("alice")
    assert view.contacts == (Contact("email", "new@example.com"), Contact("phone", "+4915112345678"))
    assert view.groups == ()


async def test_an_account_that_does_not_exist_is_not_found(directory: Directory) -> None:
    assert await refusal(directory.get("nobody")) == "not_found"
    assert await refusal(directory.delete("nobody")) == "not_found"
    assert await refusal(directory.record_event("nobody", "compromised")) == "not_found"
    assert await refusal(directory.test_code("nobody", "123456", caller=ADMIN)) == "not_found"


async def test_a_person_is_found_by_an_address_in_any_case_and_not_by_the_one_before(
    deployment: Deployment, directory: Directory
) -> None:
    await directory.put("alice", ProfileInput(email="Alice@Example.com"))
    await directory.put("bob", ProfileInput(email="alice@example.com"))

    async def found(kind: str, address: str) -> list[str]:
        digest = contact_digest(deployment.keyring, kind, address)
        return sorted(await deployment.store.find_by_contact(kind, digest))

    assert await found("email", "ALICE@example.COM") == ["alice", "bob"]
    assert await found("phone", "alice@example.com") == []
    await directory.put("alice", ProfileInput(email="other@example.com"))
    assert await found("email", "alice@example.com") == ["bob"]
    await directory.delete("bob")
    assert await found("email", "alice@example.com") == []


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        (ProfileInput(display_name="x" * 129), "display_name"),
        (ProfileInput(display_name="a\nb"), "display_name"),
        (ProfileInput(email="nobody"), "email"),
        (ProfileInput(email="a@b@c"), "email"),
        (ProfileInput(email="a b@example.com"), "email"),
        (ProfileInput(email="a@example.com\r\nBcc: x"), "email"),
        (ProfileInput(email="x" * 65 + "@example.com"), "email"),
        (ProfileInput(phone="015112345678"), "phone"),
        (ProfileInput(phone="+0151"), "phone"),
        (ProfileInput(phone="+49 151"), "phone"),
        (ProfileInput(phone="+\u0661" * 8), "phone"),
        (ProfileInput(groups=("",)), "groups"),
        (ProfileInput(groups=("x" * 65,)), "groups"),
        (ProfileInput(groups=("a\tb",)), "groups"),
        (ProfileInput(groups=tuple(map(str, range(33)))), "groups"),
    ],
    ids=str,
)
async def test_trap_82_what_cannot_be_a_name_an_address_or_a_group_is_named_and_nothing_is_made(
    directory: Directory, profile: ProfileInput, field: str
) -> None:
    with pytest.raises(InvalidInput) as invalid:
        await directory.put("alice", profile)
    assert invalid.value.field == field
    assert await refusal(directory.get("alice")) == "not_found"


async def test_names_are_kept_in_nfc_and_groups_once_each(directory: Directory) -> None:
    await directory.put("alice", ProfileInput(display_name="Zoe\u0308", groups=("b", "a", "b")))
    view = await directory.get("alice")
    assert (view.display_name, view.groups) == ("Zoë", ("b", "a"))


async def test_an_id_that_cannot_be_one_is_refused(directory: Directory) -> None:
    for account_id in ("", "a/b", "x" * 129):
        with pytest.raises(InvalidInput):
            await directory.put(account_id)
    assert await directory.put("x" * 128)


async def test_trap_74_no_address_is_readable_in_the_files(tmp_path: Path) -> None:
    opened = await open_for_test(tmp_path)
    await opened.verifier.accounts.put("a1", ProfileInput("Alice Liddell", "alice@example.com", "+4915112345678"))
    await opened.close()
    assert readable(tmp_path, b"Liddell", b"alice@example.com", b"15112345678") == []
    assert readable(tmp_path, b"account.added") != [], "the files are the ones that were written"


def readable(folder: Path, *words: bytes) -> list[str]:
    """The files in which one of these words stands as it is."""
    return [path.name for path in folder.iterdir() if any(word in path.read_bytes() for word in words)]


# What is shown.


async def test_an_account_is_shown_with_its_authenticators_and_never_a_secret(
    deployment: Deployment, directory: Directory, clock: SetClock
) -> None:
    phone, confirmed = await add_phone(deployment.verifier, "alice", clock, label="phone")
    pending = await deployment.verifier.enroll("alice", caller=ADMIN)
    view = await directory.get("alice")
    assert (view.state, view.recovery_codes_left, view.throttle, view.retry_after_s) == ("active", 10, "open", None)
    assert [(a.factor, a.label, a.state) for a in view.authenticators] == [
        ("totp", "phone", "active"),
        ("recovery_codes", "", "active"),
        ("totp", "", "pending"),
    ]
    shown = msgspec.json.encode(view).decode()
    assert pending.secret not in shown
    assert phone.secret.hex() not in shown
    assert not any(code[5:] in shown for code in confirmed.recovery_codes)


async def test_the_throttle_of_new_browsers_is_shown(
    deployment: Deployment, directory: Directory, clock: SetClock
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    for _ in range(3):
        await deployment.verifier.verify("alice", code=wrong_code(phone, clock.now()))
    view = await directory.get("alice")
    assert (view.throttle, view.retry_after_s) == ("delayed", 1)
    while True:
        outcome = await deployment.verifier.verify("alice", code=wrong_code(phone, clock.now()))
        if isinstance(outcome, Throttled):
            if outcome.retry_after_s > 60:
                break
            clock.advance(outcome.retry_after_s)
    view = await directory.get("alice")
    assert (view.throttle, view.retry_after_s) == ("empty", outcome.retry_after_s)
    clock.advance(86_400 * 15)
    assert (await directory.get("alice")).throttle == "open"


async def test_what_expired_is_not_shown(deployment: Deployment, directory: Directory, clock: SetClock) -> None:
    await deployment.verifier.enroll("alice")
    assert len((await directory.get("alice")).authenticators) == 1
    clock.advance(900)
    assert (await directory.get("alice")).authenticators == ()


# Imports.


async def test_an_imported_secret_works_at_once_with_its_own_parameters(
    deployment: Deployment, directory: Directory, clock: SetClock
) -> None:
    await directory.put("alice")
    otp = OtpParameters(SECRET, "SHA256", 8, 60)
    confirmed = await directory.import_authenticator("alice", "totp", otp, label="old phone", caller=ADMIN)
    assert confirmed.recovery_codes == ()
    code = code_at(SECRET, int(clock.now_s) // 60, digits=8, algorithm="SHA256")
    assert isinstance(await deployment.verifier.verify("alice", code=code), Verified)
    other = SECRET[::-1]
    await directory.import_authenticator("alice", "hotp", OtpParameters(other, counter=9), caller=ADMIN)
    assert isinstance(await deployment.verifier.verify("alice", code=code_at(other, 9), factor="hotp"), Verified)


async def test_trap_05_a_secret_that_the_account_has_already_is_refused(directory: Directory) -> None:
    await directory.put("alice")
    await directory.import_authenticator("alice", "totp", OtpParameters(SECRET), caller=ADMIN)
    with pytest.raises(Refused) as refused:
        await directory.import_authenticator("alice", "hotp", OtpParameters(SECRET), caller=ADMIN)
    assert refused.value.code == "conflict"
    assert await directory.import_authenticator("alice", "hotp", OtpParameters(SECRET[::-1]), caller=ADMIN)


@pytest.mark.parametrize(
    ("otp", "field"),
    [
        (OtpParameters(SECRET, "MD5"), "algorithm"),  # type: ignore[arg-type]
        (OtpParameters(SECRET, digits=5), "digits"),
        (OtpParameters(SECRET, digits=9), "digits"),
        (OtpParameters(SECRET, period_s=14), "period"),
        (OtpParameters(SECRET, period_s=121), "period"),
        (OtpParameters(SECRET, counter=-1), "counter"),
        (OtpParameters(SECRET, counter=2**63 - 1), "counter"),
        (OtpParameters(b""), "secret"),
    ],
    ids=str,
)
async def test_nist_3_1_4_1_parameters_out_of_bounds_are_named(
    directory: Directory, otp: OtpParameters, field: str
) -> None:
    await directory.put("alice")
    with pytest.raises(InvalidInput) as invalid:
        await directory.import_authenticator("alice", "totp", otp, caller=ADMIN)
    assert invalid.value.field == field
    assert await directory.import_authenticator("alice", "totp", OtpParameters(SECRET), caller=ADMIN)


async def test_importing_needs_an_account_and_the_scope_admin(directory: Directory) -> None:
    assert await refusal(directory.import_authenticator("alice", "totp", OtpParameters(SECRET), caller=ADMIN)) == (
        "not_found"
    )
    await directory.put("alice")
    assert await refusal(directory.import_authenticator("alice", "totp", OtpParameters(SECRET))) == "forbidden"


# Testing a code.


async def test_a_code_is_tested_without_signing_anybody_in(
    deployment: Deployment, directory: Directory, clock: SetClock
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    code = phone.code(clock.now())
    assert await directory.test_code("alice", code, caller=ADMIN) == Tried("fits", phone.id)
    old = phone.code(clock.now(), ahead=-20)
    late = await directory.test_code("alice", f"{old[:3]} {old[3:]}", caller=ADMIN)
    assert late == Tried("fits_with_clock_off", phone.id, steps=-20, clock_offset_s=-600)
    assert isinstance(await deployment.verifier.verify("alice", code=code), Verified), "it was not used up"
    assert await refusal(directory.test_code("alice", code)) == "forbidden", "it is not judged either"
    assert [event.kind for event in await directory.events("alice")].count("code.tested") == 2


async def test_a_code_is_tested_five_times_a_day(deployment: Deployment, directory: Directory, clock: SetClock) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    await add_phone(deployment.verifier, "bob", clock)
    clock.set(clock.now_s // 86_400 * 86_400 + 86_400)
    wrong = wrong_code(phone, clock.now())
    for _ in range(5):
        assert (await directory.test_code("alice", wrong, caller=ADMIN)).finding == "fits_nothing"
    assert await refusal(directory.test_code("alice", wrong, caller=ADMIN)) == "too_many"
    assert (await directory.test_code("bob", wrong, caller=ADMIN)).finding
    clock.advance(86_400)
    assert (await directory.test_code("alice", wrong, caller=ADMIN)).finding == "fits_nothing"


async def test_the_best_finding_of_several_authenticators_is_told(
    deployment: Deployment, directory: Directory, clock: SetClock
) -> None:
    await add_phone(deployment.verifier, "alice", clock)
    token, _ = await add_phone(deployment.verifier, "alice", clock, factor="hotp", caller=ADMIN)
    pending = phone_of(await deployment.verifier.enroll("alice", caller=Caller("shop", is_admin=True)))
    assert await directory.test_code("alice", token.press(), caller=ADMIN) == Tried("fits", token.id)
    assert (await directory.test_code("alice", token.code_of(500), caller=ADMIN)).authenticator_id == token.id
    assert (await directory.test_code("alice", pending.code(clock.now()), caller=ADMIN)).finding == "fits_nothing"


async def test_a_late_clock_is_found_by_whatever_seed_can_be_opened(
    deployment: Deployment, directory: Directory, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, _ = await add_phone(deployment.verifier, "alice", clock)
    phone, _ = await add_phone(deployment.verifier, "alice", clock, caller=ADMIN)
    opener = directory._credentials
    open_otp = opener.read_otp

    def open_all_but_one(account_id: str, authenticator: Authenticator) -> OtpParameters:
        if authenticator.id == gone.id:
            raise Unavailable("its key is gone")
        return open_otp(account_id, authenticator)

    monkeypatch.setattr(opener, "read_otp", open_all_but_one)
    late = await directory.find_late_clock("alice", phone.code(clock.now(), ahead=-20), ADMIN)
    assert late == Tried("fits_with_clock_off", phone.id, steps=-20, clock_offset_s=-600)
    assert (await directory.find_late_clock("alice", gone.code(clock.now(), ahead=-20), ADMIN)) == Tried("fits_nothing")


async def test_an_account_without_codes_has_nothing_to_test(directory: Directory) -> None:
    await directory.put("alice")
    assert await refusal(directory.test_code("alice", "123456", caller=ADMIN)) == "no_factor"


@pytest.mark.parametrize("code", ["9" * 11, "9" * 5000, "", "\u0661" * 6])
async def test_trap_10_anything_at_all_can_be_tested(
    deployment: Deployment, directory: Directory, clock: SetClock, code: str
) -> None:
    await add_phone(deployment.verifier, "alice", clock)
    assert (await directory.test_code("alice", code, caller=ADMIN)).finding == "fits_nothing"


# Events, deletion, passwords.


async def test_events_are_read_in_order_and_in_pieces(
    deployment: Deployment, directory: Directory, clock: SetClock
) -> None:
    await add_phone(deployment.verifier, "alice", clock)
    events = await directory.events("alice")
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert list(await directory.events("alice", after_seq=2)) == list(events[2:])
    assert list(await directory.events("alice", limit=1)) == list(events[:1])
    assert await directory.events("nobody") in ([], ())


async def test_trap_83_a_deleted_account_leaves_no_contents_and_no_way_in(
    deployment: Deployment, directory: Directory, clock: SetClock
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    await directory.delete("alice")
    assert await refusal(directory.get("alice")) == "not_found"
    events = await directory.events("alice")
    assert events
    assert all(event.salt is None and event.payload is None for event in events)
    await directory.put("alice")
    assert await refusal(deployment.verifier.verify("alice", code=phone.code(clock.now()))) == "no_factor"
    assert (await deployment.inspection.verify_audit()).ok


async def test_a_changed_password_ends_what_was_in_force(
    deployment: Deployment, directory: Directory, clock: SetClock
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    await directory.set_password("alice", "correct horse battery")
    signed_in = await deployment.verifier.verify("alice", code=phone.code(clock.now()))
    assert isinstance(signed_in, Verified)
    await directory.set_password("alice", "another horse battery")
    for _ in range(3):
        await deployment.verifier.verify("alice", code=wrong_code(phone, clock.now()))
    clock.advance(0.5)
    outcome = await deployment.verifier.verify("alice", code=wrong_code(phone, clock.now()), browser=signed_in.browser)
    assert isinstance(outcome, Throttled)
    assert isinstance(await deployment.verifier.check_password("alice", "correct horse battery"), Rejected)
    assert isinstance(await deployment.verifier.check_password("alice", "another horse battery"), Verified)
    assert await refusal(directory.set_password("nobody", "correct horse battery")) == "not_found"


async def test_an_account_under_a_data_key_that_is_not_in_memory_yet_is_shown_as_it_is(
    deployment: Deployment, directory: Directory, clock: SetClock
) -> None:
    await add_phone(deployment.verifier, "alice", clock)
    await directory.put("alice", ProfileInput("Alice"))
    deployment.keyring._opened.clear()
    view = await directory.get("alice")
    assert (view.state, view.display_name) == ("active", "Alice")
