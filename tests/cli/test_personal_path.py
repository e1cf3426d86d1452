"""The whole system in a terminal, without a server and without a browser; `oathtool` is the phone."""

import re
from collections.abc import Callable

import pexpect
import pytest
from tests.cli.conftest import RECOVERY_CODE, STEP_S, Clock, Phone

Spawn = Callable[..., "pexpect.spawn[str]"]


def finish(child: "pexpect.spawn[str]") -> tuple[str, int]:
    """What the program printed until its end, and its exit status."""
    child.expect(pexpect.EOF)
    return child.before.replace("\r\n", "\n"), child.wait()


@pytest.fixture
def verify(terminal: Spawn) -> Callable[[str], tuple[str, int]]:
    """Answer `account verify me` in a terminal: its line, and its exit status."""

    def answer(typed: str) -> tuple[str, int]:
        child = terminal("account", "verify", "me")
        child.expect_exact("Code: ")
        child.sendline(typed)
        printed, status = finish(child)
        assert typed not in printed
        assert printed.startswith("\n")
        assert printed.count("\n") == 2
        return printed.strip(), status

    return answer


def test_somebody_adds_an_account_enrolls_a_phone_and_is_let_in_by_each_code_once(
    terminal: Spawn,
    new_phone: Callable[[str], Phone],
    clock: Clock,
    verify: Callable[[str], tuple[str, int]],
) -> None:
    assert finish(terminal("account", "add", "me")) == ("added me; next: twofold account enroll me\n", 0)

    child = terminal("account", "enroll", "me")
    child.expect_exact("Code: ")
    shown = child.before
    phone = new_phone(shown)
    assert "▀" in shown
    assert re.search(r"^((?:[A-Z2-7]{4} ){7}[A-Z2-7]{4})\r$", shown, re.MULTILINE)[1].replace(" ", "") == phone.key
    child.sendline("000000" if phone.code() != "000000" else "000001")
    child.expect_exact("The key stays the same.")
    child.expect_exact("Code: ")
    child.sendline(phone.code())
    printed, status = finish(child)
    assert status == 0
    assert "confirmed: totp is active for me" in printed
    recovery_codes = RECOVERY_CODE.findall(printed)
    assert len(set(recovery_codes)) == 10

    assert verify(phone.code()) == (
        "refused (code_already_used): that code was already used; the next one comes in 30 s",
        1,
    )
    clock.advance(STEP_S)
    right = phone.code()
    assert verify(right) == ("verified (totp)", 0)
    assert verify(right)[1] == 1
    clock.advance(STEP_S)
    assert verify(f"{phone.code()[:3]} {phone.code()[3:]}") == ("verified (totp)", 0)

    clock.advance(20 * STEP_S)
    expired = phone.code(ahead_s=-3 * STEP_S)
    assert verify(expired) == ("refused (wrong_code): that code is wrong, or not valid any more", 1)
    wrong = next(code for code in ("111111", "222222") if code != phone.code())
    assert verify(wrong) == ("refused (wrong_code): that code is wrong, or not valid any more", 1)

    assert verify(recovery_codes[0].lower().replace("-", " ")) == ("verified (recovery_codes, 9 left)", 0)
    assert verify(recovery_codes[0])[1] == 1

    clock.advance(10 * STEP_S)
    three = " ".join(phone.code(ahead_s=-back * STEP_S) for back in (2, 1, 0))
    assert verify(three) == ("verified (totp)", 0)
    assert verify(three)[1] == 1


def test_an_enrollment_that_was_given_up_goes_on_with_the_same_key(
    terminal: Spawn, new_phone: Callable[[str], Phone]
) -> None:
    finish(terminal("account", "add", "me"))
    keys = []
    for give_up in ("\x03", "\x04"):
        child = terminal("account", "enroll", "me")
        child.expect_exact("Code: ")
        keys.append(new_phone(child.before).key)
        child.send(give_up)
        printed, status = finish(child)
        assert status == 1
        assert "not confirmed yet: within 15 minutes `twofold account enroll me` goes on" in printed
    assert keys[0] == keys[1]

    child = terminal("account", "enroll", "me")
    child.expect_exact("Code: ")
    child.sendline(new_phone(child.before).code())
    assert finish(child)[1] == 0


@pytest.mark.parametrize("give_up", ["\x03", "\x04"])
def test_verify_that_is_given_up_judges_nothing(
    give_up: str, enrolled: tuple[Phone, list[str]], terminal: Spawn, verify: Callable[[str], tuple[str, int]]
) -> None:
    child = terminal("account", "verify", "me")
    child.expect_exact("Code: ")
    child.send(give_up)
    printed, status = finish(child)
    assert printed.strip().endswith("not judged: no code was given")
    assert status == 2
    assert verify(enrolled[0].code()) == ("verified (totp)", 0)


def test_a_password_is_asked_for_twice_without_echo_until_it_is_a_good_one(terminal: Spawn) -> None:
    child = terminal("account", "add", "me", "--password")
    for typed in ("short", "correct horse battery"):
        child.expect_exact("Password: ")
        child.sendline(typed)
    child.expect_exact("The same again: ")
    child.sendline("correct horse buttery")
    child.expect_exact("They differ.")
    for prompt in ("Password: ", "The same again: "):
        child.expect_exact(prompt)
        child.sendline("correct horse battery")
    printed, status = finish(child)
    assert (printed.strip(), status) == ("added me; next: twofold account enroll me", 0)


def test_lists_have_heads_on_a_terminal_and_long_work_says_what_it_does(
    enrolled: tuple[Phone, list[str]], terminal: Spawn
) -> None:
    listed, status = finish(terminal("account", "list"))
    assert status == 0
    assert "reading the accounts" in listed
    assert re.search(r"account  state   factors  recovery codes.*\n.*me       active  totp     10\n", listed)
    checked, status = finish(terminal("audit", "verify"))
    assert status == 0
    assert "checking every chain" in checked
    assert " events of 1 accounts\n" in checked
