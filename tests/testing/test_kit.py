"""The kit of `twofold.testing` around applications that open Twofold themselves, in each of its ways."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest

from twofold import BlockingVerifier, ConfigurationError, Refused, Rejected, RelyingParty, Verified, Verifier
from twofold import bootstrap as the_bootstrap
from twofold.config import Settings
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.factors.recovery_codes import RecoveryCodes
from twofold.testing import Kit, NoCode, SoftwareAuthenticator, open_kit

START_S = 1_767_225_600


@pytest.fixture
def kit() -> Iterator[Kit]:
    with open_kit(at_s=START_S) as opened:
        yield opened


def test_a_verifier_that_the_application_opens_is_over_the_kits_accounts_and_no_file(kit: Kit, tmp_path: Path) -> None:
    with BlockingVerifier.open(f"sqlite:///{tmp_path}/twofold.db") as twofold:
        kit.enroll("alice")
        assert isinstance(twofold.verify("alice", code=kit.current_code("alice")), Verified)
        assert isinstance(twofold.verify("alice", code="000 000"), Rejected)
    assert list(tmp_path.iterdir()) == []


def test_an_application_for_postgresql_needs_none(kit: Kit) -> None:
    with BlockingVerifier.open("postgresql://nobody@nowhere.invalid/twofold") as twofold:
        kit.enroll("alice")
        assert isinstance(twofold.verify("alice", code=kit.current_code("alice")), Verified)


async def test_with_asyncio_it_is_the_same(kit: Kit) -> None:
    verifier = await Verifier.open("sqlite:///twofold.db")
    kit.enroll("alice")
    assert isinstance(await verifier.verify("alice", code=kit.current_code("alice")), Verified)
    await verifier.close()


def test_an_application_that_is_started_again_finds_its_accounts(kit: Kit) -> None:
    with BlockingVerifier.open() as first:
        pending = first.enroll("alice")
        first.confirm("alice", pending.id, code=kit.current_code("alice"))
    with BlockingVerifier.open() as second:
        assert isinstance(second.verify("alice", code=kit.current_code("alice")), Verified)


def test_a_new_kit_knows_nobody(kit: Kit) -> None:
    kit.enroll("alice")
    with open_kit() as other, pytest.raises(Refused, match="no account"):
        other.current_code("alice")
    assert kit.current_code("alice")


def test_after_it_programs_open_real_databases_again(tmp_path: Path) -> None:
    with open_kit() as kit:
        assert the_bootstrap.open_deployment == kit.open_deployment
    with BlockingVerifier.open(f"sqlite:///{tmp_path}/twofold.db"):
        assert (tmp_path / "twofold.db").exists()


def test_the_code_is_that_of_the_account_s_app(kit: Kit) -> None:
    pending = kit.verifier.enroll("alice")
    app = pyotp.TOTP(pending.secret)
    assert kit.current_code("alice") == app.at(START_S)
    kit.clock.advance(3600)
    kit.verifier.enroll("alice")
    assert kit.current_code("alice") != app.at(START_S)
    assert kit.current_code("alice") == kit.current_code("alice", kit.verifier.account("alice").authenticators[0].id)


def test_a_used_code_is_followed_by_the_coming_one_and_then_time_has_to_pass(kit: Kit) -> None:
    kit.enroll("alice")
    codes = []
    for _ in range(2):
        codes.append(kit.current_code("alice"))
        assert isinstance(kit.verifier.verify("alice", code=codes[-1]), Verified)
        assert kit.verifier.verify("alice", code=codes[-1]).reason == "code_already_used"  # type: ignore[union-attr]
    assert codes[0] != codes[1]
    with pytest.raises(NoCode, match="the next one comes in 60 s"):
        kit.current_code("alice")
    kit.clock.advance(30)
    assert isinstance(kit.verifier.verify("alice", code=kit.current_code("alice")), Verified)


def test_the_next_code_is_waited_for_as_often_as_one_likes(kit: Kit) -> None:
    kit.enroll("alice")
    for _ in range(20):
        assert isinstance(kit.verifier.verify("alice", code=kit.next_code("alice")), Verified)
    assert START_S < kit.clock.now_s <= START_S + 20 * 30


def test_a_code_that_was_not_used_is_not_waited_for(kit: Kit) -> None:
    kit.enroll("alice")
    assert kit.next_code("alice") == kit.next_code("alice") == kit.current_code("alice")
    assert kit.clock.now_s == START_S


def test_enrolling_moves_no_clock_and_uses_up_no_code_of_now(kit: Kit) -> None:
    assert len(kit.enroll("alice").recovery_codes) == 10
    assert kit.clock.now_s == START_S
    assert isinstance(kit.verifier.verify("alice", code=kit.current_code("alice")), Verified)


def test_a_second_authenticator_needs_no_proof_and_each_has_its_own_codes(kit: Kit) -> None:
    phone, token = kit.enroll("alice", label="phone"), kit.enroll("alice", "hotp", label="token")
    assert token.recovery_codes == ()
    assert kit.current_code("alice") == kit.current_code("alice", token.id) != kit.current_code("alice", phone.id)
    for own in (phone, token):
        verified = kit.verifier.verify("alice", code=kit.current_code("alice", own.id))
        assert isinstance(verified, Verified)
        assert verified.authenticator_id == own.id


def test_the_code_of_an_open_enrollment_is_there_for_the_page_that_asks_for_it(kit: Kit) -> None:
    pending = kit.verifier.enroll("alice")
    assert kit.verifier.confirm("alice", pending.id, code=kit.current_code("alice"))
    assert kit.verifier.account("alice").state == "active"
    kit.clock.advance(60)
    replaced = kit.verifier.verify("alice", code=kit.current_code("alice"), purpose="manage")
    assert isinstance(replaced, Verified)
    new = kit.verifier.enroll("alice", replaces=pending.id, step_up=replaced.receipt)
    assert kit.current_code("alice", new.id) != kit.current_code("alice")


def test_who_has_no_app_has_no_code(kit: Kit) -> None:
    with pytest.raises(Refused, match="no account"):
        kit.current_code("alice")
    authenticator_id = kit.verifier.enroll("alice").id
    kit.verifier.revoke("alice", authenticator_id)
    with pytest.raises(NoCode, match="`enroll` adds one"):
        kit.current_code("alice")


def test_a_passkey_that_is_refused_is_told(kit: Kit) -> None:
    class Stolen(SoftwareAuthenticator):
        def client_data(self, ceremony: str, challenge: str, origin: str) -> bytes:
            return super().client_data(ceremony, challenge, "https://example.com.evil")

    example = RelyingParty("example.com", ("https://example.com",))
    with pytest.raises(AssertionError, match=r"the enrollment was refused: .*wrong_origin"):
        kit.enroll_passkey("alice", Stolen(), example)
    assert kit.enroll_passkey("alice", SoftwareAuthenticator(), example).factor == "webauthn"


def test_recovery_codes_let_in(kit: Kit) -> None:
    codes = kit.enroll("alice").recovery_codes
    verified = kit.verifier.verify("alice", code=codes[0])
    assert isinstance(verified, Verified)
    assert verified.recovery_codes_left == 9


def test_the_hashes_are_cheap(kit: Kit) -> None:
    kit.enroll("alice")

    async def read() -> object:
        async with asyncio.timeout(5):
            account = await kit._deployment.store.load("alice")
        assert account is not None
        return RecoveryCodes().read_credential(account.authenticators[-1].credential).argon2

    assert asyncio.run(read()) == ONLY_FOR_TESTING


def test_what_happens_is_told_to_its_person(kit: Kit) -> None:
    codes = kit.enroll("alice").recovery_codes
    assert kit.outbox.latest("alice").kind == "authenticator.added"
    kit.verifier.verify("alice", code=codes[0], ip="203.0.113.7")
    kit.enroll("bob")
    told = kit.outbox.latest("alice")
    assert (told.kind, told.payload["left"], told.payload["ip"]) == ("recovery_code.used", 9, "203.0.113.7")
    assert [notice.kind for notice in kit.outbox.to("alice")] == ["authenticator.added", "recovery_code.used"]
    assert len(kit.outbox) == 3
    kit.outbox.clear()
    with pytest.raises(LookupError, match="nothing was sent to 'alice'"):
        kit.outbox.latest("alice")


def test_what_is_not_done_is_not_told(kit: Kit) -> None:
    kit.enroll("alice")
    kit.outbox.clear()
    with pytest.raises(Refused, match="step"):
        kit.verifier.enroll("alice", label="another")
    assert list(kit.outbox) == []


def test_reset_forgets_everybody_while_the_application_goes_on(kit: Kit) -> None:
    with BlockingVerifier.open() as twofold:
        kit.enroll("alice")
        kit.clock.advance(400 * 86_400)
        assert isinstance(twofold.verify("alice", code=kit.current_code("alice")), Verified)
        kit.reset()
        assert (kit.clock.now_s, list(kit.outbox)) == (START_S, [])
        with pytest.raises(Refused, match="no account"):
            twofold.account("alice")
        kit.enroll("alice")
        assert isinstance(twofold.verify("alice", code=kit.current_code("alice")), Verified)


def test_without_a_time_the_clock_stands_at_the_last_change_of_codes() -> None:
    with open_kit() as kit:
        assert kit.clock.now_s % 30 == 0
        kit.clock.set(1_000.5)
        assert (kit.clock.now_s, kit.clock.now()) == (1_000.5, 1_000_500_000)


PUBLIC = "https://login.example.com"


@pytest.mark.parametrize("url", ["http://localhost:8000", "http://127.0.0.1", "https://[::1]:8443"])
def test_it_works_where_the_public_url_is_loopback(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", url)
    with open_kit() as kit:
        kit.enroll("alice")


def test_it_refuses_to_open_where_the_environment_names_a_public_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", PUBLIC)
    with pytest.raises(ConfigurationError, match=f"for tests only: PUBLIC_URL is {PUBLIC}"), open_kit():
        pass


def test_it_refuses_where_the_settings_of_the_data_folder_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "twofold.toml").write_text(f'public_url = "{PUBLIC}"\n')
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match="for tests only"), open_kit():
        pass
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(tmp_path / "other"))
    with open_kit():
        pass


def test_it_refuses_an_application_that_has_a_public_url(kit: Kit) -> None:
    opened = asyncio.run(the_bootstrap.open_deployment(Settings(public_url="http://localhost:5000")))
    assert opened.public_url == "http://localhost:5000"
    with pytest.raises(ConfigurationError, match="for tests only"):
        asyncio.run(the_bootstrap.open_deployment(Settings(public_url=PUBLIC)))


def test_it_refuses_once_a_public_url_was_named(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    with BlockingVerifier.open():
        pass
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", PUBLIC)
    with pytest.raises(ConfigurationError, match="for tests only"):
        BlockingVerifier.open()
