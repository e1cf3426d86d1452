"""Both faces of the Python client against a server that runs: every call, every ending, and lines that are cut."""

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pyotp
import pytest
from tests.clients.faces import FACES, cutting
from tests.servers import Clock, Server, running, secret_of

from twofold.client import ApiError, Confirmed, NoAnswer, PendingEnrollment, Rejected, Throttled, Verified
from twofold.errors import InvalidInput
from twofold.testing import SoftwareAuthenticator

ORIGIN = "https://shop.example"
IP = "203.0.113.7"


class Shop:
    """An application with a face of the client, and what a person of it holds."""

    def __init__(self, server: Server, clock: Clock, key: str, open_face: Callable[..., Any]) -> None:
        self.server = server
        self.clock = clock
        self.key = key
        self.open_face = open_face
        self.client = open_face(f"http://127.0.0.1:{server.port}", key)

    def at(self, port: int, **more: Any) -> Any:
        """Another client with the same key, of a server at another place."""
        return self.open_face(f"http://127.0.0.1:{port}", self.key, **more)

    def add(self, name: str) -> tuple[pyotp.TOTP, tuple[str, ...]]:
        """A person with a phone, and her recovery codes. Her next code comes after half a minute."""
        self.client.put_account(name)
        pending = self.client.enroll(name)
        phone = pyotp.TOTP(pending.secret)
        confirmed = self.client.confirm(name, pending.id, code=phone.at(self.clock.now_s))
        assert isinstance(confirmed, Confirmed)
        self.clock.advance()
        return phone, confirmed.recovery_codes

    def code(self, phone: pyotp.TOTP) -> str:
        return phone.at(self.clock.now_s)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "clock")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server") / "data", test_clock=str(clock.path)) as started:
        yield started


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    created = server.command("apikey", "create", "shop", "--scope", "verify,enroll,admin", "--origin", ORIGIN)
    assert created.returncode == 0, created.stderr
    return created.stdout.strip().splitlines()[-1]


@pytest.fixture(params=FACES)
def shop(request: pytest.FixtureRequest, server: Server, clock: Clock, key: str) -> Iterator[Shop]:
    opened = Shop(server, clock, key, FACES[request.param])
    with opened.client:
        yield opened


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A person whom no other test knows."""
    return request.node.name


def test_a_person_enrolls_and_signs_in_with_each_code_once(shop: Shop, name: str) -> None:
    account = shop.client.put_account(name, display_name="Alice", groups=["staff"])
    assert (account.id, account.display_name, account.state) == (name, "Alice", "empty")

    pending = shop.client.enroll(name, label="phone")
    assert isinstance(pending, PendingEnrollment)
    assert pending.factor == "totp"
    assert pending.qr_svg.startswith("<svg")
    assert pending.qr_png.startswith("data:image/png")
    assert (pending.expires_at - datetime.fromtimestamp(shop.clock.now_s, UTC)).total_seconds() == 900
    phone = pyotp.parse_uri(pending.uri)
    assert phone.secret == pending.secret

    assert shop.client.confirm(name, pending.id, code="not it") == Rejected("wrong_code")
    confirmed = shop.client.confirm(name, pending.id, code=shop.code(phone))
    assert len(confirmed.recovery_codes) == 10

    shop.clock.advance()
    code = shop.code(phone)
    match shop.client.verify(name, code=code, ip=IP, user_agent="Firefox"):
        case Verified() as ok:
            assert (ok.factor, ok.authenticator_id, ok.receipt) == ("totp", pending.id, None)
        case other:
            pytest.fail(str(other))
    match shop.client.verify(name, code=code, browser=ok.browser, ip=IP):
        case Rejected(reason, retry_after_s):
            assert (reason, retry_after_s) == ("code_already_used", 30)
        case other:
            pytest.fail(str(other))

    recovered = shop.client.verify(name, code=confirmed.recovery_codes[0], factor="recovery_codes")
    assert (recovered.factor, recovered.recovery_codes_left) == ("recovery_codes", 9)


def test_a_passkey_is_registered_and_used(shop: Shop, name: str) -> None:
    passkey = SoftwareAuthenticator()
    shop.client.put_account(name)
    pending = shop.client.enroll_passkey(name, label="laptop")
    elsewhere = passkey.register(pending.public_key, "https://shop.example.evil")
    assert shop.client.confirm(name, pending.id, credential=elsewhere) == Rejected("wrong_origin")
    pending = shop.client.enroll_passkey(name, label="laptop")
    credential = passkey.register({**pending.public_key, "excludeCredentials": []}, ORIGIN)
    assert shop.client.confirm(name, pending.id, credential=credential).recovery_codes

    challenge = shop.client.challenge(name, purpose="pay", binding="4711", user_verification="required", ip=IP)
    credential = passkey.answer(challenge.public_key, ORIGIN)
    assert shop.client.answer(challenge.id, credential, binding="else") == Rejected("challenge_mismatch")
    match shop.client.answer(challenge.id, credential, binding="4711", ip=IP):
        case Verified(factor="webauthn", is_user_verified=True, account_id=account_id) as ok:
            assert account_id == name
        case other:
            pytest.fail(str(other))
    redeemed = shop.client.redeem(ok.receipt, purpose="pay", binding="4711")
    assert redeemed.account_id == name
    with pytest.raises(ApiError) as caught:
        shop.client.redeem(ok.receipt, purpose="pay", binding="4711")
    assert (caught.value.status, caught.value.code) == (409, "receipt_used")

    (shown,) = shop.client.account(name).authenticators
    assert shown.label == "laptop"
    assert shown.passkey is not None
    assert not shown.passkey.is_synced


def test_what_a_browser_sent_as_text_brings_no_members_of_its_own(shop: Shop, name: str) -> None:
    shop.client.put_account(name)
    pending = shop.client.enroll_passkey(name)
    for text in ('{"id": "x"}, "step_up": "y"', "[]", "not JSON", "\ud800"):
        with pytest.raises(InvalidInput, match="credential"):
            shop.client.confirm(name, pending.id, credential=text)


def test_guesses_are_throttled_and_the_ways_that_stay_open_are_told(shop: Shop, name: str) -> None:
    _, recovery_codes = shop.add(name)
    for _ in range(3):
        assert shop.client.verify(name, code="000000", factor="totp").reason == "wrong_code"
    match shop.client.verify(name, code="000000", factor="totp"):
        case Throttled(retry_after_s, ways):
            assert retry_after_s >= 1
            assert "recovery_codes" in ways
        case other:
            pytest.fail(str(other))
    assert shop.client.account(name).throttle.state == "delayed"
    assert isinstance(shop.client.verify(name, code=recovery_codes[0]), Verified)


def test_managing_needs_a_receipt_and_goes_with_one(shop: Shop, server: Server, clock: Clock, name: str) -> None:
    phone, _ = shop.add(name)
    key = server.create_key("verify", "enroll")
    with shop.open_face(f"http://127.0.0.1:{server.port}", key) as client:

        def prove() -> str:
            ok = client.verify(name, code=shop.code(phone), purpose="manage")
            clock.advance()
            return str(ok.receipt)

        for refused in (
            lambda: client.enroll(name),
            lambda: client.renew_recovery_codes(name),
            lambda: client.revoke(name, client.account(name).authenticators[0].id),
        ):
            with pytest.raises(ApiError) as caught:
                refused()
            assert (caught.value.status, caught.value.code) == (403, "step_up_required")

        assert len(client.renew_recovery_codes(name, step_up=prove()).recovery_codes) == 10
        token = client.enroll(name, "hotp", label="token", step_up=prove())
        assert isinstance(client.confirm(name, token.id, code=pyotp.HOTP(token.secret).at(0)), Confirmed)
        assert client.rename(name, token.id, "old token").label == "old token"
        client.revoke(name, token.id, step_up=prove())
        assert [authenticator.factor for authenticator in client.account(name).authenticators] == ["totp"]


def test_accounts_are_imported_listed_told_of_and_deleted(shop: Shop, name: str) -> None:
    secret = secret_of(name)
    shop.client.put_account(name, display_name="Bob", email="bob@example.com", phone="+4915112345678")
    imported = shop.client.import_authenticator(name, "totp", secret, digits=8, period=60, algorithm="SHA256")
    phone = pyotp.TOTP(secret, digits=8, interval=60, digest="sha256")
    assert shop.client.verify(name, code=shop.code(phone)).authenticator_id == imported.id
    other_secret = secret_of(f"{name}, the token")
    token = shop.client.import_authenticator(name, "hotp", other_secret, counter=7, label="token")
    assert token.recovery_codes == ()
    codes = [pyotp.HOTP(other_secret).at(counter) for counter in (20, 21)]
    assert isinstance(shop.client.verify(name, codes=codes, authenticator_id=token.id), Verified)

    found, cursor = [], None
    while True:
        page = shop.client.accounts(cursor=cursor, factor="totp", state="active")
        found += page.accounts
        if (cursor := page.next_cursor) is None:
            break
    assert name in {account.id for account in found}

    shop.client.record_event(name, "disabled")
    with pytest.raises(ApiError) as caught:
        shop.client.verify(name, code="123456")
    assert caught.value.code == "disabled"
    shop.client.delete_account(name)
    with pytest.raises(ApiError) as caught:
        shop.client.account(name)
    assert (caught.value.status, caught.value.code) == (404, "not_found")


@pytest.mark.parametrize("odd", ["..", ".", "a b", "ä", "100%", "a%2Fb", "?x=1", "#x", "a;b", "{aid}"])
def test_an_odd_name_means_that_account_and_no_other(shop: Shop, odd: str) -> None:
    assert shop.client.put_account(odd, display_name=odd).id == odd
    assert shop.client.account(odd).display_name == odd
    shop.client.delete_account(odd)


def test_what_cannot_be_an_account_is_refused_and_nothing_else_is_called(shop: Shop) -> None:
    with pytest.raises(ApiError) as caught:
        shop.client.account("a/b")
    assert (caught.value.status, caught.value.code, caught.value.field) == (422, "invalid", "id")
    with pytest.raises(InvalidInput):
        shop.client.account("\ud800")
    with pytest.raises(InvalidInput):
        shop.client.verify("alice", code="\ud800")


def test_the_open_calls_tell_of_the_server(shop: Shop) -> None:
    shop.client.alive()
    shop.client.ready()
    assert shop.client.openapi()["openapi"].startswith("3.1")
    assert shop.client.receipt_keys()["keys"]
    assert "twofold_verifications_total" in shop.client.metrics()
    with pytest.raises(ApiError) as caught:
        shop.client.related_origins()
    assert (caught.value.status, caught.value.code) == (404, "not_found")


def test_a_wrong_key_and_one_that_may_less_are_told_apart(shop: Shop, server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}"
    with shop.open_face(url, "tf_wrong") as client, pytest.raises(ApiError) as caught:
        client.account("alice")
    assert (caught.value.status, caught.value.code) == (401, "unauthorized")
    with shop.open_face(url, server.create_key("enroll")) as client, pytest.raises(ApiError) as caught:
        client.verify("alice", code="123456")
    assert (caught.value.status, caught.value.code) == (403, "forbidden")


def test_a_server_that_is_not_there_gives_no_answer(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with shop.at(port) as client, pytest.raises(NoAnswer, match=f"127.0.0.1:{port}"):
        client.verify("alice", code="123456")


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_the_call_may_take(shop: Shop) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        shop.at(silent.getsockname()[1], timeout_s=0.2) as client,
        pytest.raises(NoAnswer),
    ):
        client.verify("alice", code="123456")


def test_an_answer_that_got_lost_is_asked_for_again_and_nothing_happens_twice(shop: Shop, name: str) -> None:
    phone, _ = shop.add(name)
    with cutting(shop.server.port, cuts=2) as line, shop.at(line.port) as client:
        ok = client.verify(name, code=shop.code(phone), purpose="pay")
    assert isinstance(ok, Verified)
    assert ok.receipt
    assert len(line.keys) == 3
    assert len(set(line.keys)) == 1
    # Somebody else who sends the same code does a second thing, and that is refused.
    assert shop.client.verify(name, code=shop.code(phone)).reason == "code_already_used"


def test_after_three_attempts_it_is_not_known_what_happened(shop: Shop, name: str) -> None:
    phone, _ = shop.add(name)
    with cutting(shop.server.port, cuts=3) as line, shop.at(line.port) as client, pytest.raises(NoAnswer):
        client.verify(name, code=shop.code(phone))
    assert len(line.keys) == 3
    assert shop.client.verify(name, code=shop.code(phone)).reason == "code_already_used"


def test_what_has_no_key_is_not_sent_twice_once_it_may_have_happened(shop: Shop, name: str) -> None:
    shop.add(name)
    with cutting(shop.server.port, cuts=1) as line, shop.at(line.port) as client:
        with pytest.raises(NoAnswer):
            client.delete_account(name)
        with pytest.raises(ApiError) as caught:
            client.account(name)
    assert caught.value.code == "not_found"
