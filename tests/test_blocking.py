import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.deployments import phone_of

from twofold import BlockingVerifier, Rejected, Verified
from twofold.core.decision import Confirmed
from twofold.errors import ConfigurationError, InvalidInput, Refused


@pytest.fixture
def verifier(tmp_path: Path) -> Iterator[BlockingVerifier]:
    with BlockingVerifier.open(f"sqlite:///{tmp_path}/twofold.db", issuer="Acme") as opened:
        yield opened


def test_every_verb_works_without_an_event_loop(verifier: BlockingVerifier) -> None:
    pending = verifier.enroll("alice", "hotp", label="token")
    token = phone_of(pending)
    confirmed = verifier.confirm("alice", pending.id, code=token.press())
    assert isinstance(confirmed, Confirmed)
    assert verifier.account("alice").state == "active"
    signed_in = verifier.verify("alice", code=token.press(), purpose="manage")
    assert isinstance(signed_in, Verified)
    assert len(verifier.renew_recovery_codes("alice", step_up=signed_in.receipt).recovery_codes) == 10
    paying = verifier.verify("alice", code=token.press(), purpose="pay", browser=signed_in.browser)
    assert isinstance(paying, Verified)
    assert paying.receipt is not None
    assert verifier.redeem(paying.receipt, purpose="pay").claims.sub == "alice"
    verifier.rename("alice", pending.id, "old token")
    verifier.record_event("alice", "signed_out_everywhere")
    removing = verifier.verify("alice", code=token.press(), purpose="manage")
    assert isinstance(removing, Verified)
    verifier.revoke("alice", pending.id, step_up=removing.receipt)
    with pytest.raises(Refused):
        verifier.verify("alice", code=token.press())
    verifier.delete_account("alice")
    with pytest.raises(Refused):
        verifier.account("alice")


def test_many_threads_may_use_it_at_once_and_one_code_lets_in_one(verifier: BlockingVerifier) -> None:
    token = phone_of(verifier.enroll("alice", "hotp"))
    verifier.confirm("alice", token.id, code=token.press())
    code, line = token.press(), threading.Barrier(6)

    def attempt() -> object:
        line.wait()
        return verifier.verify("alice", code=code)

    with ThreadPoolExecutor(6) as threads:
        ends = [task.result() for task in [threads.submit(attempt) for _ in range(6)]]
    assert sum(isinstance(end, Verified) for end in ends) == 1
    assert sum(isinstance(end, Rejected) for end in ends) == 5


@pytest.mark.parametrize("code", [123456, None, True, ["123456"], {"$ne": ""}, b"123456"])
def test_a_code_that_is_no_text_is_refused_in_a_line(verifier: BlockingVerifier, code: object) -> None:
    token = phone_of(verifier.enroll("alice", "hotp"))
    verifier.confirm("alice", token.id, code=token.press())
    with pytest.raises(InvalidInput, match="code: expected"):
        verifier.verify("alice", code=code)  # type: ignore[arg-type]
    assert isinstance(verifier.verify("alice", code=token.press()), Verified)


def test_opened_again_it_knows_what_was_used(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/twofold.db"
    first = BlockingVerifier.open(url)
    token = phone_of(first.enroll("alice", "hotp"))
    first.confirm("alice", token.id, code=token.press())
    first.close()
    first.close()
    with BlockingVerifier.open(url) as second:
        assert second.verify("alice", code=token.code_of(0)) == Rejected("code_already_used")
        assert isinstance(second.verify("alice", code=token.press()), Verified)


def test_what_cannot_be_opened_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(ConfigurationError):
        BlockingVerifier.open("mysql://nowhere/db")
    (tmp_path / "twofold.db").write_bytes(b"this is no database, but it is long enough to be taken for one" * 20)
    with pytest.raises(ConfigurationError):
        BlockingVerifier.open(f"sqlite:///{tmp_path}/twofold.db")
    assert threading.active_count() == before


def test_without_its_key_file_a_database_is_not_opened(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/twofold.db"
    BlockingVerifier.open(url).close()
    (tmp_path / "twofold.key").unlink()
    with pytest.raises(ConfigurationError, match="put back the file"):
        BlockingVerifier.open(url)
    assert not (tmp_path / "twofold.key").exists()
