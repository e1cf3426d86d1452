from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.yubikeys import Yubikey

from twofold.errors import InvalidInput
from twofold.importing.csv_lines import FILE_BYTES_MAX
from twofold.importing.yubico_csv import Fault, Row, read_rows

KEY = Yubikey("cccccccfvtrl")
OTHER = Yubikey("cccccccfvtru", bytes(range(6)), bytes(range(16)))
#: The personalization tool's own words, both ways, after what it writes when it begins.
TRADITIONAL = f"""\
LOGGING START,12/11/2013 11:09
Yubico OTP,12/11/2013 11:10,1,{KEY.public_id},{KEY.private_id.hex()},{KEY.aes_key.hex()},,,0,0,0,0,0,0,0,0,0,0
"""


def read(text: str) -> list[Row | Fault]:
    return list(read_rows(text.encode(), field="FILE"))


def the_row(text: str) -> Row:
    (row,) = read(text)
    assert isinstance(row, Row), row
    return row


def the_fault(text: str) -> tuple[int, str]:
    (fault,) = read(text)
    assert isinstance(fault, Fault), fault
    return fault.line, fault.problem.partition(":")[0]


@pytest.mark.parametrize(
    "text",
    [
        KEY.csv,
        KEY.csv.removesuffix(",,2026-03-01T12:00:00,\n"),
        KEY.csv.replace("\n", "\r\n"),
        KEY.csv.replace(",", " , "),
        KEY.csv.upper(),
        f"\ufeff{KEY.csv}",
        ",".join(f'"{cell}"' for cell in KEY.csv.strip().split(",")),
        # the provisioning format of YK-KSM, which says so in its first line
        f"# ykksm 1\n\n{KEY.csv}".replace("508326,", "508326,", 1),
    ],
    ids=["ykman", "short", "windows", "spaced", "capitals", "byte order mark", "quoted", "ykksm"],
)
def test_a_line_of_the_yubico_format_is_a_key_and_its_serial(text: str) -> None:
    row = the_row(text)
    assert (row.serial, row.key) == ("508326", KEY.key)


def test_a_line_of_the_traditional_format_is_a_key_without_a_serial() -> None:
    assert the_row(TRADITIONAL) == Row(2, "", KEY.key)


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    rows = read(f"# made on Monday\n\n{KEY.csv}\n{TRADITIONAL.replace(KEY.public_id, OTHER.public_id)}")
    assert [row.line for row in rows] == [3, 6]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("508326\n", "public_id"),
        (",,,\n", "public_id"),
        ("Yubico OTP\n", "public_id"),
        (f"x{KEY.csv}", "serial"),
        ("1" * 21 + KEY.csv.removeprefix("508326"), "serial"),
        ("\u0661" + KEY.csv.removeprefix("508326"), "serial"),
        # what else the tool can program: HOTP, a static password
        ("508326,,0,69cfb9202438ca68964ec3244bfa4843d073a43b,,2013-12-12T08:41:07,\n", "public_id"),
        ("508326,,,9e2fd386224a7f77e9b5aee775464033,,2013-12-12T08:44:34,\n", "public_id"),
        ("OATH-HOTP,11.12.13 18:55,1,cccccccccccc,,916821d3a138bf855e70069605559a206ba854cd,,,0\n", "serial"),
        (KEY.csv.replace(KEY.private_id.hex(), ""), "private_id"),
        (KEY.csv.replace(KEY.aes_key.hex(), KEY.aes_key.hex()[:-1]), "aes_key"),
        (KEY.csv.replace(KEY.aes_key.hex(), f'"{KEY.aes_key.hex()}'), "public_id"),
        (KEY.csv.replace(",", ";"), "serial"),
        (KEY.csv.replace("508326", "5" * 140_000), "public_id"),
    ],
)
def test_a_line_that_is_wrong_is_named_with_its_field_and_repeats_nothing(text: str, field: str) -> None:
    assert the_fault(text) == (1, field)
    (fault,) = read(text)
    assert isinstance(fault, Fault)
    assert not [cell for cell in text.strip().split(",") if len(cell) > 5 and cell in fault.problem]


def test_a_line_that_is_wrong_spoils_no_other_one() -> None:
    rows = read(f'508326,"\n{KEY.csv}nonsense\n{OTHER.csv}')
    assert [(row.line, type(row)) for row in rows] == [(1, Fault), (2, Row), (3, Fault), (4, Row)]


def test_a_key_in_two_lines_is_in_none() -> None:
    again = Yubikey(KEY.public_id, aes_key=bytes(16))
    rows = read(f"{KEY.csv}{OTHER.csv}{again.csv}")
    assert [(row.line, type(row)) for row in rows] == [(1, Fault), (2, Row), (3, Fault)]
    assert [row.problem.partition(":")[0] for row in rows if isinstance(row, Fault)] == ["public_id", "public_id"]


def test_a_file_that_is_too_large_or_no_text_is_refused_as_a_whole() -> None:
    comment = b"#" * (FILE_BYTES_MAX - len(KEY.csv) - 1) + b"\n"
    assert len(read_rows(comment + KEY.csv.encode(), field="FILE")) == 1
    for raw in (comment + b"#" + KEY.csv.encode(), KEY.csv.encode("utf-16"), b"\xff\xfe", b"508326,\x80"):
        with pytest.raises(InvalidInput) as refused:
            read_rows(raw, field="FILE")
        assert refused.value.field == "FILE"


def test_an_empty_file_has_no_rows() -> None:
    assert read("") == read("\n \n# nothing\n") == []


@given(st.binary(max_size=200) | st.text('0123456789abcdefcu,"\n\r\0#; ', max_size=200).map(str.encode))
def test_whatever_a_file_holds_there_is_a_row_a_fault_or_one_refusal(raw: bytes) -> None:
    with suppress(InvalidInput):
        assert all(isinstance(row, Row | Fault) for row in read_rows(raw, field="FILE"))
