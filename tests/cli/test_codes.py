"""`account enroll`, `verify` and `test` without a terminal: as scripts and containers run them."""

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import RECOVERY_CODE, STEP_S, Clock, Invoke, Phone

from twofold import qr
from twofold.commands.codes import split_codes

Enrolled = tuple[Phone, list[str]]
FULL_WIDTH = "123456".translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"})


def wrong_for(phone: Phone) -> str:
    """Six digits that fit nothing near now."""
    near = {phone.code(ahead_s=steps * STEP_S) for steps in range(-25, 26)}
    return next(code for code in map("{:06}".format, range(100)) if code not in near)


def verdict(invoke: Invoke, typed: str, *arguments: str) -> tuple[str, int]:
    """The one line of `account verify me` and its exit status."""
    result = invoke("account", "verify", "me", *arguments, typed=f"{typed}\n")
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    return result.stdout[:-1], result.exit_code


def test_enroll_shows_uri_key_and_prompt_then_codes_one_a_line(
    invoke: Invoke, new_phone: Callable[[str], Phone]
) -> None:
    invoke("account", "add", "me")
    phone = new_phone(invoke("account", "enroll", "me").stdout)
    lines = invoke("account", "enroll", "me", typed=f"{phone.code()}\n").stdout.splitlines()
    assert lines[0].startswith("otpauth://totp/Twofold:me?secret=")
    assert lines[2].replace(" ", "") == phone.key
    assert set(map(len, lines[2].split(" "))) == {4}
    assert lines[3:5] == ["Code: ", "confirmed: totp is active for me"]
    assert all(RECOVERY_CODE.fullmatch(line) for line in lines[6:])
    assert len(lines[6:]) == 10


def test_second_phone_brings_no_second_set_of_recovery_codes(
    invoke: Invoke, enrolled: Enrolled, new_phone: Callable[[str], Phone]
) -> None:
    second = new_phone(invoke("account", "enroll", "me").stdout)
    assert second.key != enrolled[0].key
    confirmed = invoke("account", "enroll", "me", typed=f"{second.code()}\n")
    assert confirmed.exit_code == 0
    assert RECOVERY_CODE.findall(confirmed.stdout) == []


def test_wrong_codes_are_asked_again_for_the_same_key_and_slowed(
    invoke: Invoke, new_phone: Callable[[str], Phone], clock: Clock
) -> None:
    invoke("account", "add", "me")
    phone = new_phone(invoke("account", "enroll", "me").stdout)
    wrong = wrong_for(phone)
    slowed = invoke("account", "enroll", "me", typed=f"{wrong}\n\n{wrong}\n{wrong}\n{phone.code()}\n")
    assert slowed.exit_code == 1
    assert slowed.stdout.count("That code is wrong, or not valid any more. The key stays the same.") == 3
    assert "Not judged: too many wrong codes. Wait 1 s." in slowed.stdout
    assert "within 15 minutes `twofold account enroll me` goes on with the same key" in slowed.stderr
    clock.advance(2)
    assert invoke("account", "enroll", "me", typed=f"{phone.code()}\n").exit_code == 0


def test_enroll_for_nobody_names_the_command_that_adds_the_account(invoke: Invoke) -> None:
    invoke("account", "add", "me")
    nobody = invoke("account", "enroll", "you")
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert nobody.stderr == "twofold: there is no account you; `twofold account add you` makes it\n"


def test_enrolling_from_the_shell_needs_no_step_up_and_is_in_the_audit_log(
    invoke: Invoke, enrolled: Enrolled, data_dir: Path
) -> None:
    assert "otpauth://" in invoke("account", "enroll", "me").stdout
    assert invoke("audit", "verify").exit_code == 0


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_qr_code_goes_into_a_new_file_of_the_owner_alone(invoke: Invoke, tmp_path: Path, kind: str) -> None:
    invoke("account", "add", "me")
    file = tmp_path / f"code.{kind}"
    shown = invoke("account", "enroll", "me", f"--{kind}", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"{file} holds the key too: remove it once it is scanned." in shown.stderr
    uri = shown.stdout.splitlines()[0]
    assert file.read_bytes() == (qr.png_bytes(uri) if kind == "png" else qr.svg(uri).encode())


def test_file_that_exists_is_never_written_over(invoke: Invoke, tmp_path: Path) -> None:
    invoke("account", "add", "me")
    file, link = tmp_path / "precious", tmp_path / "link"
    file.write_text("precious")
    link.symlink_to(tmp_path / "target")
    for path in (file, link):
        refused = invoke("account", "enroll", "me", "--png", str(path))
        assert refused.exit_code == 1
        assert refused.stderr == f"twofold: {path} exists already; remove it or name another file\n"
    assert file.read_text() == "precious"
    assert not (tmp_path / "target").exists()


def test_code_is_verified_once(invoke: Invoke, enrolled: Enrolled) -> None:
    phone, _ = enrolled
    assert verdict(invoke, phone.code()) == ("verified (totp)", 0)
    line, status = verdict(invoke, phone.code())
    assert (line, status) == ("refused (code_already_used): that code was already used; the next one comes in 30 s", 1)


@pytest.mark.parametrize("how", ["{} {}", "{}-{}", " {}{}\t"])
def test_spaces_and_hyphens_in_a_code_do_not_matter(invoke: Invoke, enrolled: Enrolled, how: str) -> None:
    code = enrolled[0].code()
    assert verdict(invoke, how.format(code[:3], code[3:])) == ("verified (totp)", 0)


@pytest.mark.parametrize(
    "typed",
    [
        "12345",
        FULL_WIDTH,
        "12\u200b3456",
        "9" * 5000,
        "9" * 20_000,
        "a" * 20,
        "1 2 3",
        "-",
        "\x00",
        "\x1b[A",
    ],
)
def test_what_is_no_code_is_refused_like_a_wrong_one(invoke: Invoke, enrolled: Enrolled, typed: str) -> None:
    assert verdict(invoke, typed)[1] == 1
    assert verdict(invoke, enrolled[0].code()) == ("verified (totp)", 0)


@pytest.mark.parametrize("typed", ["", "   "], ids=["empty", "blank"])
def test_an_empty_line_is_nobody_s_guess(invoke: Invoke, enrolled: Enrolled, typed: str) -> None:
    for _ in range(5):
        assert verdict(invoke, typed) == ("not judged: no code was given", 2)
    assert verdict(invoke, enrolled[0].code()) == ("verified (totp)", 0)


def test_bytes_that_are_no_text_are_a_usage_error(invoke: Invoke, enrolled: Enrolled) -> None:
    result = invoke("account", "verify", "me", typed=b"\xff\xfe\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "twofold: standard input: expected text in UTF-8\n"
    assert verdict(invoke, enrolled[0].code()) == ("verified (totp)", 0)


def test_recovery_code_is_verified_once_and_the_rest_counted(invoke: Invoke, enrolled: Enrolled) -> None:
    code = enrolled[1][3]
    assert verdict(invoke, code) == ("verified (recovery_codes, 9 left)", 0)
    assert verdict(invoke, code) == ("refused (code_already_used): that code was already used", 1)


def test_third_wrong_code_slows_and_three_consecutive_ones_pass_at_once(
    invoke: Invoke, enrolled: Enrolled, clock: Clock
) -> None:
    phone, _ = enrolled
    clock.advance(3 * STEP_S)
    for _ in range(3):
        assert verdict(invoke, wrong_for(phone))[1] == 1
    assert verdict(invoke, phone.code()) == (
        "throttled: not judged, try again in 1 s; at once with a recovery code or three consecutive codes on one line",
        75,
    )
    three = [phone.code(ahead_s=-back * STEP_S) for back in (2, 1, 0)]
    assert verdict(invoke, " ".join(reversed(three)))[1] == 1
    clock.advance(1)
    assert verdict(invoke, " ".join(three)) == ("verified (totp)", 0)


def test_hotp_token_is_verified_and_found_again_with_two_codes(
    invoke: Invoke, new_phone: Callable[[str], Phone]
) -> None:
    invoke("account", "add", "me")
    token = new_phone(invoke("account", "enroll", "me", "--factor", "hotp").stdout)
    first = token.run("--counter", "0")
    assert invoke("account", "enroll", "me", "--factor", "hotp", typed=f"{first}\n").exit_code == 0
    assert verdict(invoke, token.run("--counter", "1")) == ("verified (hotp)", 0)
    assert verdict(invoke, token.run("--counter", "60"))[1] == 1
    assert verdict(invoke, f"{token.run('--counter', '60')} {token.run('--counter', '61')}") == ("verified (hotp)", 0)


def test_receipt_is_the_last_word_when_a_purpose_is_given(invoke: Invoke, enrolled: Enrolled) -> None:
    line, status = verdict(invoke, enrolled[0].code(), "--purpose", "deploy")
    assert status == 0
    assert re.fullmatch(r"verified \(totp\) receipt [\w-]+\.[\w-]+\.[\w-]+", line)


def test_nothing_to_judge_is_said_in_one_line_too(invoke: Invoke, enrolled: Enrolled, data_dir: Path) -> None:
    invoke("account", "add", "you")
    empty = invoke("account", "verify", "you", typed="123456\n")
    assert empty.stdout.startswith("not judged (no_factor): this account has no active second factor")
    assert (empty.stdout.count("\n"), empty.exit_code) == (1, 69)
    nobody = invoke("account", "verify", "nobody", typed="123456\n")
    assert (nobody.stdout, nobody.exit_code) == ("not judged (not_found): there is no account of that id\n", 69)
    silent = invoke("account", "verify", "me")
    assert (silent.stdout, silent.exit_code) == ("not judged: no code was given\n", 2)
    (data_dir / "twofold.key").unlink()
    line, status = verdict(invoke, enrolled[0].code())
    assert status == 69
    assert line.startswith("not judged (unavailable): the master key")


def test_wrong_setting_leaves_a_code_not_judged(
    invoke: Invoke, enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOFOLD_PROFILE", "lax")
    line, status = verdict(invoke, enrolled[0].code())
    assert (line[:24], status) == ("not judged (unavailable)", 69)
    monkeypatch.setenv("TWOFOLD_PROFILE", "default")
    assert verdict(invoke, enrolled[0].code()) == ("verified (totp)", 0)


def test_phone_whose_clock_is_off_is_told_after_two_codes(invoke: Invoke, enrolled: Enrolled, clock: Clock) -> None:
    phone, _ = enrolled
    assert verdict(invoke, phone.code(ahead_s=240))[1] == 1
    clock.advance(STEP_S)
    line, status = verdict(invoke, phone.code(ahead_s=240))
    assert status == 1
    assert line == (
        "refused (clock_off): that code is of another time; the phone's clock is 240 s ahead: "
        "let it set its time automatically"
    )


def test_test_says_what_a_code_fits_and_lets_nobody_in(invoke: Invoke, enrolled: Enrolled) -> None:
    phone, _ = enrolled

    def tested(code: str) -> str:
        result = invoke("account", "test", "me", typed=f"{code}\n")
        assert result.exit_code == 0
        return result.stdout.strip()

    assert tested(phone.code()) == "fits"
    assert tested(phone.code(ahead_s=-300)).startswith("fits 10 steps away: the phone's clock is behind")
    assert tested(phone.run("--totp=sha256", "--now", "@1772366430")).startswith("fits with other parameters: the app")
    assert tested(wrong_for(phone)) == "fits nothing: it belongs to another key or account"
    assert tested(phone.code()) == "fits"
    sixth = invoke("account", "test", "me", typed=f"{phone.code()}\n")
    assert (sixth.exit_code, sixth.stderr) == (1, "twofold: a code can be tested 5 times a day\n")
    assert verdict(invoke, phone.code()) == ("verified (totp)", 0)


def test_no_code_and_no_key_is_ever_printed_by_verify_or_test(invoke: Invoke, enrolled: Enrolled) -> None:
    phone, recovery_codes = enrolled
    for typed in (phone.code(), wrong_for(phone), recovery_codes[0]):
        for command in ("verify", "test"):
            result = invoke("account", command, "me", typed=f"{typed}\n")
            assert typed not in result.output
            assert phone.key not in result.output
    assert json.loads(invoke("account", "show", "me", "--json").stdout)["recovery_codes_left"] == 9


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("123456", ["123456"]),
        ("123 456", ["123 456"]),
        ("123456 234567", ["123456", "234567"]),
        ("123456,234567, 345678", ["123456", "234567", "345678"]),
        ("123 456 234 567 345 678", ["123456", "234567", "345678"]),
        ("1234567 2345678", ["1234567", "2345678"]),
        ("12345678 23456789 34567890", ["12345678", "23456789", "34567890"]),
        ("0000-0000-0000-0000-0000", ["0000-0000-0000-0000-0000"]),
        ("ABCDEF GHJKMN", ["ABCDEF GHJKMN"]),
        (
            f"{FULL_WIDTH} {FULL_WIDTH}",
            [f"{FULL_WIDTH} {FULL_WIDTH}"],
        ),
        ("", [""]),
    ],
)
def test_line_is_as_many_codes_as_it_has_digits_for(line: str, codes: list[str]) -> None:
    assert split_codes(line) == codes
