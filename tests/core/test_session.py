import msgspec
import pytest
from tests.browser_session import PASSWORD, Browser
from tests.ledger import Ledger

from twofold.core.clock import CLOCK_SKEW_S
from twofold.core.codec import Codec
from twofold.core.session import PENDING_TTL_S, SESSION_IDLE_TTL_S, SESSION_TTL_S, Session, digest_token, find_ending
from twofold.errors import TamperedRecord


def a_browser() -> Browser:
    ledger, _ = Ledger.with_totp()
    ledger.set_password(PASSWORD)
    browser = Browser(ledger)
    browser.give_password()
    return browser


def session_of(browser: Browser) -> Session:
    assert browser.session is not None
    return browser.session


def test_a_pending_session_lives_ten_minutes_whatever_is_done_in_it() -> None:
    browser = a_browser()
    account, session = browser.ledger.account, session_of(browser)
    begun = session.begun_at
    assert find_ending(session, account, begun) is None
    assert find_ending(session, account, begun + PENDING_TTL_S * 1_000_000 - 1) is None
    assert find_ending(session, account, begun + PENDING_TTL_S * 1_000_000) == "expired"
    seen = msgspec.structs.replace(session, seen_at=begun + PENDING_TTL_S * 1_000_000)
    assert find_ending(seen, account, begun + PENDING_TTL_S * 1_000_000) == "expired"


def test_a_session_from_the_future_counts_as_none_unless_it_is_the_near_one_of_another_node() -> None:
    browser = a_browser()
    session = session_of(browser)
    earliest = session.begun_at - CLOCK_SKEW_S * 1_000_000
    assert find_ending(session, browser.ledger.account, earliest) is None
    assert find_ending(session, browser.ledger.account, earliest - 1) == "expired"


def test_a_full_session_ends_when_it_is_idle_and_at_its_absolute_limit() -> None:
    browser = a_browser()
    session = msgspec.structs.replace(
        session_of(browser),
        level="full",
        expires_at=session_of(browser).begun_at + SESSION_TTL_S * 1_000_000,
        idle_ttl_s=SESSION_IDLE_TTL_S,
    )
    account, idle = browser.ledger.account, SESSION_IDLE_TTL_S * 1_000_000
    assert find_ending(session, account, session.seen_at + idle - 1) is None
    assert find_ending(session, account, session.seen_at + idle) == "idle"
    used = msgspec.structs.replace(session, seen_at=session.expires_at - 1)
    assert find_ending(used, account, session.expires_at - 1) is None
    assert find_ending(used, account, session.expires_at) == "expired"


def test_a_session_ends_with_its_epoch_its_account_and_when_the_account_is_disabled() -> None:
    browser = a_browser()
    account, session = browser.ledger.account, session_of(browser)
    now = session.begun_at
    assert find_ending(session, None, now) == "ended"
    assert find_ending(session, msgspec.structs.replace(account, is_disabled=True), now) == "ended"
    assert find_ending(session, msgspec.structs.replace(account, epoch=b"anothers"), now) == "ended"


def test_the_digest_of_a_token_is_its_own_and_any_text_has_one() -> None:
    assert digest_token("a") != digest_token("b")
    assert len(digest_token("\ud800")) == 32


# The row.


def test_a_session_is_read_back_from_its_row() -> None:
    browser = a_browser()
    codec, session = browser.ledger.codec, session_of(browser)
    row = codec.dump_session(session, digest_token(browser.token))
    assert (row.account_id, row.level, row.expires_at) == ("alice", "pending", session.expires_at)
    assert codec.load_session(row) == session


@pytest.mark.parametrize(
    "forged",
    [
        {"token_digest": digest_token("another")},
        {"document": b"\x90"},
        {"mac": b"mac-1" + b"\0" * 32},
        {"mac": "text"},
        {"mac": None},
        {"id": "se_another"},
        {"account_id": "mallory"},
    ],
)
def test_a_row_that_was_forged_moved_or_widened_is_no_session(forged: dict[str, object]) -> None:
    browser = a_browser()
    codec: Codec = browser.ledger.codec
    row = codec.dump_session(session_of(browser), digest_token(browser.token))
    with pytest.raises(TamperedRecord):
        codec.load_session(msgspec.structs.replace(row, **forged))
