"""YubiKeys as Yubico's tools write them down, line by line. Which account a key is for is in none of these files.

- "Yubico" (the personalization tool, `ykman --config-output`) and the provisioning files of YK-KSM:
  `serial,public id,private id,AES key,access code,time,`
- "traditional" (the personalization tool): `Yubico OTP,time,slot,public id,private id,AES key,` and more
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import msgspec

from twofold.errors import InvalidInput
from twofold.factors.yubico_otp import YubicoKey, read_key
from twofold.importing.csv_lines import read_cells

_TRADITIONAL = "Yubico OTP"
_LOG_BEGINS = "LOGGING START"
_SERIAL = re.compile("[0-9]{0,20}", re.ASCII)


class Row(msgspec.Struct, frozen=True):
    """A line that holds a key. `serial` is empty where the tool wrote none."""

    line: int
    serial: str
    key: YubicoKey


class Fault(msgspec.Struct, frozen=True):
    """A line that does not, and why; nothing of what it says is repeated, for it may be a secret in the wrong place."""

    line: int
    problem: str


def read_rows(raw: bytes, *, field: str) -> Sequence[Row | Fault]:
    """The rows in order. A key that stands in several lines is in none of them: only one can be what it holds now.

    Raises `InvalidInput` that names `field` for a file that cannot be read at all.
    """
    rows = [_read_row(line, cells) for line, cells in read_cells(raw, field=field) if cells[:1] != [_LOG_BEGINS]]
    lines = Counter(row.key.public_id for row in rows if isinstance(row, Row))
    twice = "public_id: expected a key that is in one line only: keep the one that was written last"
    return [Fault(row.line, twice) if isinstance(row, Row) and lines[row.key.public_id] > 1 else row for row in rows]


def _read_row(line: int, cells: Sequence[str]) -> Row | Fault:
    serial, *rest = ("", *cells[3:]) if cells[:1] == [_TRADITIONAL] else cells or [""]
    public_id, private_id, aes_key = (*rest, "", "", "")[:3]
    try:
        if not _SERIAL.fullmatch(serial):
            raise InvalidInput("serial", "digits, or nothing")
        return Row(line, serial, read_key(public_id, private_id, aes_key))
    except InvalidInput as problem:
        return Fault(line, str(problem))
