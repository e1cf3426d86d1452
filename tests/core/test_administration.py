import base64
from typing import Any

import msgspec
import pytest
from tests.browser_session import PASSWORD, Browser
from tests.kit import Phone, reason_of
from tests.ledger import Ledger, exhaust, sign_in

from twofold.core.activity import Activity
from twofold.core.administration import (
    ALARMS_OF_A_KIND,
    INVITATION_TTL_S,
    LINK_TTL_S,
    check_administrator,
    find_link,
    invite,
    invite_again,
    make_first_administrator,
    pick_alarms,
    read_link_owner,
    reset,
    set_role,
    unlock,
    use_link,
)
from twofold.core.decision import Done, EndSessions, Verified
from twofold.core.enrollment import NewCredential
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.errors import InvalidInput, Refused
from twofold.factors.password import Password, prepare_password

ANOTHER_PASSWORD = "another horse battery"


def new_password(ledger: Ledger, password: str = ANOTHER_PASSWORD) -> NewCredential:
    salt = ledger.entropy.bytes(16)
    digest = ONLY_FOR_TESTING.digest(prepare_password(password), salt)
    return NewCredential(ledger.new_id(), "password", Password().new_credential(salt, digest, argon2=ONLY_FOR_TESTING))


def a_person() -> tuple[Ledger, Phone]:
    ledger, phone = Ledger.with_totp()
    ledger.set_password(PASSWORD)
    return ledger, phone


def link_of(outcome: Any) -> str:
    assert isinstance(outcome, Done)
    assert outcome.link is not None
    return outcome.link


def use(ledger: Ledger, token: str, fresh: NewCredential | None = None) -> Browser:
    browser = Browser(ledger)
    browser.follow(ledger.commit(lambda account, call: use_link(account, token, fresh, call)))
    return browser


def refusal(ledger: Ledger, token: str) -> str:
    before = ledger.standing
    with pytest.raises(Refused) as refused:
        use(ledger, token, new_password(ledger))
    assert ledger.standing == before
    return refused.value.code


# Invitations.


def test_an_invited_person_chooses_a_password_and_is_led_to_enroll() -> None:
    ledger = Ledger("ada")
    token = link_of(ledger.commit(lambda account, call: invite(account, "ada", "", call)))
    assert ledger.kinds == ["account.added", "link.made"]
    with pytest.raises(InvalidInput, match="new_password"):
        use(ledger, token)
    browser = use(ledger, token, new_password(ledger))
    assert browser.session is not None
    assert (browser.session.level, browser.session.is_by_link) == ("enrolling", True)
    assert ledger.kinds[-2:] == ["link.used", "password.set"]
    assert refusal(ledger, token) == "not_found", "a link works once"


def test_asvs_6_4_1_an_invitation_ends_after_three_days() -> None:
    ledger = Ledger("ada")
    token = link_of(ledger.commit(lambda account, call: invite(account, "ada", "", call)))
    ledger.clock.advance(INVITATION_TTL_S - 1)
    assert find_link(ledger.account, token, ledger.clock.now()).purpose == "invitation"
    ledger.clock.advance(1)
    assert refusal(ledger, token) == "not_found"


def test_whoever_never_came_is_invited_again_and_the_first_link_is_void() -> None:
    ledger = Ledger("ada")
    first = link_of(ledger.commit(lambda account, call: invite(account, "ada", "administrator", call)))
    second = link_of(ledger.commit(invite_again))
    assert ledger.kinds[-1] == "link.made"
    assert refusal(ledger, first) == "not_found"
    use(ledger, second, new_password(ledger))
    assert ledger.account.role == "administrator"


def test_a_name_is_given_once() -> None:
    ledger = Ledger("ada")
    first = link_of(ledger.commit(lambda account, call: invite(account, "ada", "", call)))
    before = ledger.standing
    with pytest.raises(Refused) as refused:
        ledger.commit(lambda account, call: invite(account, "ada", "administrator", call))
    assert (refused.value.code, ledger.standing) == ("conflict", before)
    assert find_link(ledger.account, first, ledger.clock.now()).purpose == "invitation"


@pytest.mark.parametrize("has_password", [True, False])
def test_somebody_who_has_a_way_in_is_not_invited_again(has_password: bool) -> None:
    ledger, _ = a_person() if has_password else Ledger.with_totp()
    with pytest.raises(Refused) as refused:
        ledger.commit(invite_again)
    assert refused.value.code == "conflict"


def test_nobody_is_invited_again_who_is_not_here_or_disabled() -> None:
    with pytest.raises(Refused) as refused:
        invite_again(None, Ledger("ada").call())
    assert refused.value.code == "not_found"
    disabled = msgspec.structs.replace(Ledger.with_account().account, is_disabled=True)
    with pytest.raises(Refused) as refused:
        invite_again(disabled, Ledger("ada").call())
    assert refused.value.code == "disabled"


# Unlocking.


def test_unlocking_refills_the_budget_and_enables_what_failures_disabled() -> None:
    ledger, phone = a_person()
    exhaust(ledger, phone)
    broken = tuple(
        msgspec.structs.replace(a, state="disabled", failures=100) if a.id == phone.id else a
        for a in ledger.account.authenticators
    )
    changed = msgspec.structs.replace(ledger.account, authenticators=broken)
    ledger.write(lambda account: unlock(changed, ledger.call(), has_link=False))
    assert (ledger.account.find(phone.id).state, ledger.account.find(phone.id).failures) == ("active", 0)
    assert isinstance(ledger.verify(ledger.next_code(phone)), Verified)
    assert ledger.account.link is None
    assert ledger.notices[-1] == "account.unlocked"


def test_the_link_of_an_unlocking_signs_in_to_enroll_beside_what_there_is() -> None:
    ledger, phone = a_person()
    token = link_of(ledger.commit(lambda account, call: unlock(account, call, has_link=True), is_admin=True))
    browser = use(ledger, token)
    assert browser.session is not None
    assert browser.session.level == "enrolling"
    assert ledger.account.find(phone.id).state == "active"
    assert ledger.account.link is None


# Resetting.


def test_a_reset_takes_every_authenticator_but_the_password_and_ends_what_was_in_force() -> None:
    ledger, phone = a_person()
    sign_in(ledger, phone)
    epoch = ledger.account.epoch
    ledger.commit(lambda account, call: reset(account, call, has_link=False, reason="lost phone"), is_admin=True)
    assert [a.factor for a in ledger.account.authenticators] == ["password"]
    assert ledger.account.epoch != epoch
    assert ledger.account.known_browsers == ()
    assert (ledger.kinds[-1], ledger.notices[-1]) == ("account.reset", "account.reset")
    browser = Browser(ledger)
    browser.give_password()
    assert browser.session is not None
    assert browser.session.level == "enrolling"


def test_who_has_no_password_to_sign_in_with_is_invited_again_by_a_reset() -> None:
    ledger, _ = Ledger.with_totp()
    token = link_of(ledger.commit(lambda account, call: reset(account, call, has_link=False), is_admin=True))
    assert (ledger.account.authenticators, ledger.kinds[-2:]) == ((), ["account.reset", "link.made"])
    assert find_link(ledger.account, token, ledger.clock.now()).purpose == "invitation"
    use(ledger, token, new_password(ledger))


def test_a_reset_tells_why_and_by_whom() -> None:
    ledger, _ = a_person()
    call = msgspec.structs.replace(ledger.call(), by="root")
    ledger.write(lambda account: reset(account, call, has_link=False, reason="lost phone"))
    payload = msgspec.json.decode(ledger.rows[-1].payload or b"")
    assert (payload["reason"], payload["by"]) == ("lost phone", "root")


def test_asvs_6_4_1_the_link_of_a_reset_works_once_within_a_quarter_of_an_hour() -> None:
    ledger, _ = a_person()
    token = link_of(ledger.commit(lambda account, call: reset(account, call, has_link=True), is_admin=True))
    ledger.clock.advance(LINK_TTL_S - 1)
    keeps_password = use(ledger, token)
    assert keeps_password.session is not None
    late = link_of(ledger.commit(lambda account, call: reset(account, call, has_link=True), is_admin=True))
    ledger.clock.advance(LINK_TTL_S)
    assert refusal(ledger, token) == "not_found"
    assert refusal(ledger, late) == "not_found"


def test_whoever_forgot_the_password_as_well_chooses_another_one_with_the_link() -> None:
    ledger, _ = a_person()
    token = link_of(ledger.commit(lambda account, call: reset(account, call, has_link=True), is_admin=True))
    browser = use(ledger, token, new_password(ledger))
    assert browser.session is not None
    assert ledger.kinds[-2:] == ["link.used", "password.changed"]
    assert reason_of(Browser(ledger).give_password(PASSWORD)) == "wrong_password"
    assert isinstance(Browser(ledger).give_password(ANOTHER_PASSWORD), Verified)


def test_a_link_is_void_after_a_new_epoch() -> None:
    ledger, _ = a_person()
    token = link_of(ledger.commit(lambda account, call: unlock(account, call, has_link=True), is_admin=True))
    ledger.record("compromised")
    assert refusal(ledger, token) == "not_found"


def test_nobody_comes_in_with_the_link_of_a_disabled_account() -> None:
    ledger, _ = a_person()
    token = link_of(ledger.commit(lambda account, call: unlock(account, call, has_link=True), is_admin=True))
    disabled = msgspec.structs.replace(ledger.account, is_disabled=True)
    with pytest.raises(Refused) as refused:
        use_link(disabled, token, None, ledger.call())
    assert refused.value.code == "disabled"


# Roles and the first administrator.


def test_a_role_is_given_and_taken_and_ends_the_sessions_of_the_one_before() -> None:
    ledger, _ = a_person()
    ledger.commit(lambda account, call: set_role(account, "administrator", call))
    assert ledger.account.role == "administrator"
    assert EndSessions() in ledger.effects
    assert ledger.kinds[-1] == "account.role_changed"
    before = ledger.standing
    ledger.commit(lambda account, call: set_role(account, "administrator", call))
    assert ledger.standing == before
    ledger.commit(lambda account, call: set_role(account, "", call))
    assert ledger.account.role == ""


def test_whoever_acts_on_others_is_still_an_administrator() -> None:
    ledger, _ = a_person()
    for account in (ledger.account, None):
        with pytest.raises(Refused) as refused:
            check_administrator(account, ledger.call())
        assert refused.value.code == "forbidden"
    ledger.commit(lambda account, call: set_role(account, "administrator", call))
    before = ledger.standing
    assert ledger.commit(check_administrator) == Done()
    assert ledger.standing == before


def test_the_first_administrator_is_made_and_led_to_enroll() -> None:
    ledger, browser = Ledger("root"), None
    fresh = new_password(ledger)
    browser = Browser(ledger)
    browser.follow(ledger.commit(lambda account, call: make_first_administrator(account, "root", fresh, call)))
    assert browser.session is not None
    assert (browser.session.level, ledger.account.role) == ("enrolling", "administrator")
    assert ledger.kinds == ["account.added", "password.set"]


def test_set_up_goes_on_where_it_was_left_with_a_new_password() -> None:
    ledger = Ledger("root")
    for password in ("first horse battery", "second horse battery"):
        fresh = new_password(ledger, password)
        ledger.commit(lambda account, call, fresh=fresh: make_first_administrator(account, "root", fresh, call))
    Browser(ledger).give_password("second horse battery")
    assert ledger.kinds[:3] == ["account.added", "password.set", "password.changed"]


def test_set_up_never_takes_over_an_account_that_has_a_second_factor() -> None:
    ledger, _ = a_person()
    with pytest.raises(Refused) as refused:
        ledger.commit(lambda a, call: make_first_administrator(a, "alice", new_password(ledger), call))
    assert refused.value.code == "conflict"


# Alarms.


def an_alarm(kind: str, at: int = 10, **fields: str) -> Activity:
    return Activity(at, at, kind, fields)


def test_alarms_are_what_nobody_did_on_purpose_and_not_long_ago() -> None:
    tampered = an_alarm("account.tampered", account="bo")
    told = [
        an_alarm("setup.completed"),
        an_alarm("network.blocked", network="192.0.2.0/24", by="root"),
        tampered,
        an_alarm("network.blocked", at=9, network="192.0.2.0/24"),
    ]
    assert pick_alarms(told, since=10) == [tampered]
    assert pick_alarms(told, since=9) == [tampered, told[-1]]


def test_many_alarms_of_a_kind_bury_no_other() -> None:
    refused = [an_alarm("network.blocked", network=f"192.0.2.{n}/32") for n in range(50)]
    tampered = an_alarm("account.tampered", account="bo")
    assert pick_alarms([*refused, tampered], since=0) == [*refused[:ALARMS_OF_A_KIND], tampered]


# What a token names.


@pytest.mark.parametrize("name", ["ada", "jürgen@example.com", "李"])
def test_a_token_names_its_owner_and_proves_nothing_by_that(name: str) -> None:
    ledger = Ledger(name)
    token = link_of(ledger.commit(lambda account, call: invite(account, name, "", call)))
    assert read_link_owner(token) == name
    assert token.isascii()
    assert refusal(ledger, token.partition(".")[0] + ".guess") == "not_found"


@pytest.mark.parametrize(
    "token",
    ["", ".", "abc", "YWRh", "YWRh.", "=.x", "é.x", "*.x", base64.urlsafe_b64encode(b"\xff").decode() + ".x"],
)
def test_what_is_no_token_names_nobody(token: str) -> None:
    assert read_link_owner(token) is None or token == ".x"


def test_nobody_has_a_link_where_there_is_no_account() -> None:
    with pytest.raises(Refused):
        find_link(None, "YWRh.guess", 0)
