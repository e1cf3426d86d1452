"""What an audit chain tells the owner of the account."""

from typing import Any

from twofold.core.activity import (
    Activity,
    RefusedCodes,
    find_refused_codes,
    find_reset,
    is_sign_in_before,
    leave_out_first_steps,
    read_activity,
)
from twofold.core.audit import EventRow
from twofold.core.session import Session

BEGUN_AT = 1000
SESSION = Session("se_own", "bo", "e", "full", BEGUN_AT, BEGUN_AT, 10_000, 3600)


def event(kind: str, at: int = 0, **fields: Any) -> Activity:
    """One event."""
    return Activity(at, at, kind, fields)


def sign_in(at: int, application: str = "pages:se_before") -> Activity:
    return event("code.accepted", at, application=application, factor="totp")


def refused(at: int, application: str = "pages:se_thief", ip: str = "192.0.2.66") -> Activity:
    return event("code.refused", at, application=application, ip=ip)


def row(payload: bytes | None) -> EventRow:
    return EventRow("bo", 7, 1000, "code.refused", b"salt", payload, b"digest")


def test_an_event_is_read_with_its_fields() -> None:
    read = read_activity(row(b'{"reason":"wrong_code","codes":3,"admin":true,"groups":["a"]}'))
    assert (read.seq, read.at, read.kind) == (7, 1000, "code.refused")
    assert (read.text("reason"), read.text("codes"), read.text("gone")) == ("wrong_code", "", "")
    assert (read.number("codes"), read.number("reason"), read.number("gone")) == (3, 0, 0)
    assert read.fields["groups"] == ["a"]


def test_an_event_whose_contents_were_erased_has_no_fields() -> None:
    assert not read_activity(row(None)).fields


def test_a_code_that_was_given_for_one_act_is_no_sign_in() -> None:
    assert sign_in(1).is_sign_in
    assert not event("code.accepted", 1, purpose="change_password").is_sign_in
    assert not event("code.refused", 1).is_sign_in


def test_codes_refused_since_the_sign_in_before_are_found_newest_first() -> None:
    found = [
        refused(1200, ip="192.0.2.1"),
        sign_in(BEGUN_AT, "pages:se_own"),
        refused(900),
        refused(800),
        sign_in(700),
        refused(600, ip="192.0.2.9"),
    ]
    assert find_refused_codes(found, SESSION) == RefusedCodes(3, ("192.0.2.1", "192.0.2.66"), 700)


def test_what_happened_is_looked_through_back_to_a_sign_in_before_this_session() -> None:
    assert is_sign_in_before(sign_in(700), SESSION)
    assert not is_sign_in_before(sign_in(1300), SESSION)
    assert not is_sign_in_before(sign_in(999, "pages:se_own"), SESSION)
    assert not is_sign_in_before(event("password.accepted", 700), SESSION)


def test_what_was_typed_wrongly_in_this_session_is_its_own_affair() -> None:
    found = [refused(1100, "pages:se_own"), sign_in(BEGUN_AT, "pages:se_own"), refused(990, "pages:se_own")]
    assert find_refused_codes([*found, sign_in(700)], SESSION) is None


def test_a_passkey_shown_without_a_password_tells_nothing_of_the_password() -> None:
    assert find_refused_codes([refused(900, "pages"), sign_in(700)], SESSION) is None
    assert find_refused_codes([refused(900, "pages:se_x"), sign_in(700)], SESSION) is not None


def test_a_sign_in_elsewhere_since_then_does_not_hide_what_was_refused() -> None:
    found = [sign_in(1300), refused(1200), sign_in(BEGUN_AT, "pages:se_own"), sign_in(700)]
    assert find_refused_codes(found, SESSION) == RefusedCodes(1, ("192.0.2.66",), 700)


def test_without_a_sign_in_before_they_are_told_since_the_oldest_event() -> None:
    assert find_refused_codes([refused(900, ip=""), event("account.added", 100)], SESSION) == RefusedCodes(1, (), 100)
    assert find_refused_codes([], SESSION) is None


def test_a_right_password_and_the_sign_in_that_followed_it_are_one() -> None:
    password = event("password.accepted", 1, ip="192.0.2.1")
    here = event("code.accepted", 2, ip="192.0.2.1")
    elsewhere = event("code.accepted", 2, ip="192.0.2.2")
    refusal = event("code.refused", 2, ip="192.0.2.1")
    assert leave_out_first_steps([here, password]) == [here]
    assert leave_out_first_steps([elsewhere, password]) == [elsewhere, password]
    assert leave_out_first_steps([refusal, password]) == [refusal, password]
    assert leave_out_first_steps([password, here]) == [password, here]
    assert not leave_out_first_steps([])


def test_a_reset_is_found_until_an_authenticator_is_added() -> None:
    reset = event("account.reset", 2)
    before = event("authenticator.added", 1)
    assert find_reset([event("enrollment.begun", 3), reset, before]) == reset
    for kind in ("authenticator.added", "authenticator.imported"):
        assert find_reset([event(kind, 4), reset, before]) is None
    assert find_reset([before]) is None
    assert find_reset([]) is None
