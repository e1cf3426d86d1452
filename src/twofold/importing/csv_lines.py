"""Lines of comma-separated values, as the tools of others write them: which line, and its cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from twofold.errors import InvalidInput

FILE_BYTES_MAX = 10_000_000
LINES_MAX = 100_000


def read_cells(raw: bytes, *, field: str) -> Iterator[tuple[int, list[str]]]:
    """Each line's number, from 1 on, and its cells without outer spaces; empty lines and comments (#) are left out.

    A line that is no CSV has no cells. Raises `InvalidInput` that names `field` for what is too much, or no text.
    """
    if len(raw) > FILE_BYTES_MAX:
        raise InvalidInput(field, f"at most {FILE_BYTES_MAX:,} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(field, "text in UTF-8") from None
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if number > LINES_MAX:
            raise InvalidInput(field, f"at most {LINES_MAX:,} lines")
        if line.strip() and not line.startswith("#"):
            yield number, _split(line)


def _split(line: str) -> list[str]:
    # By the line: an open quotation mark swallows none of those that follow.
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except csv.Error:
        return []
