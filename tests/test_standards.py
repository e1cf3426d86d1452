"""The page of the standards: every requirement has its row, and every test that a row names exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "standards.md"

ASVS = """
6.1.1 6.1.3 6.2.1 6.2.3 6.2.4 6.2.5 6.2.6 6.2.7 6.2.8 6.2.9 6.2.10 6.2.12 6.3.1 6.3.2 6.3.3 6.3.4 6.3.5 6.3.6 6.3.7
6.3.8 6.4.1 6.4.2 6.4.3 6.4.4 6.4.5 6.4.6 6.5.1 6.5.2 6.5.3 6.5.4 6.5.5 6.5.6 6.5.7 6.5.8 6.6.1 6.6.2 6.6.3 6.6.4
6.7.1 6.7.2 6.8.2 6.8.4
7.1.1 7.1.2 7.1.3 7.2.1 7.2.2 7.2.3 7.2.4 7.3.1 7.3.2 7.4.1 7.4.2 7.4.3 7.4.5 7.5.1 7.5.2 7.5.3 7.6.1 7.6.2
9.1.1 9.1.2 9.1.3 9.2.1 9.2.2 9.2.3 9.2.4 11.1.1 11.1.2 11.2.2 11.2.3 11.2.4 11.3.1 11.3.2 11.3.3 11.3.4 11.4.1
11.4.2 11.5.1 12 13.2.4 13.2.5 13.3.1 13.3.4 13.4.2 13.4.5 13.4.6 14.2.1 14.3.1 14.3.2 14.3.3
1.2.1 1.3.6 1.3.11 1.3.12 1.4.2 1.5.1 1.5.3 2.2.1 2.2.2 2.3.1 2.3.3 2.3.4 2.4.1 3.3.1 3.3.2 3.3.3 3.3.4 3.4.1 3.4.2
3.4.3 3.4.4 3.4.5 3.4.6 3.4.8 3.5.1 3.5.3 3.5.8 3.7.2 4.1.3 4.1.4 4.4.2 8.2.1 8.2.2 8.2.3 8.3.2 8.4.1 8.4.2
10.3.4 10.4.1 10.4.2 10.4.3 10.4.6 15.1.2 15.3.3 15.3.4 15.3.5 15.3.7 15.4.1 15.4.2 15.4.3 16.2.1 16.2.2 16.2.5
16.3.1 16.3.2 16.3.3 16.4.1 16.4.2 16.4.3 16.5.1 16.5.2 16.5.3 16.5.4
"""
NIST = """
2.1.3 2.2.1 2.2.2 2.2.3 2.3.2 2.3.3 2.4.5 5.1 5.1.1 5.1.2 5.2 3.1.1.2 3.1.2.1 3.1.2.2 4.2.1.1 4.2.1.2 4.2.1.3 4.2.2.2
4.2.3 3.1.4.1 3.1.4.2 3.2.2 3.2.7 3.2.8 3.1.6.2 3.1.7.2 B.3 3.2.4 3.2.5 3.2.5.2 4.1.2.1
"""
SECTIONS = {
    "OWASP ASVS 5.0.0": frozenset(ASVS.split()),
    "NIST SP 800-63B-4": frozenset(NIST.split()),
    "WebAuthn Level 3": frozenset(f"D{number}" for number in range(1, 22)),
    "RFC 4226": frozenset(("4", "7.2", "7.3", "7.4", "7.5")),
    "Traps": frozenset(map(str, (*range(1, 68), 73, 74, 79, 83))),
}

_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n)*)", re.MULTILINE)
_ROW = re.compile(r"^\| ([BD]?[\d.]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
_WITHOUT = re.compile(r"not (?:here|met): \w")


class Row(NamedTuple):
    """A requirement, and what is said of it."""

    section: str
    id: str
    asked: str
    shown: str


def read_rows(text: str) -> Iterator[Row]:
    """The rows of all tables, each with the section in which it stands."""
    for section in _SECTION.finditer(text):
        yield from (Row(section[1], *row.groups()) for row in _ROW.finditer(section[2]))


def read_tests(path: Path) -> set[str]:
    """The names of all tests of a file; none where there is no file."""
    if not path.is_file():
        return set()
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def faults_of(row: Row) -> list[str]:
    """What a row names and is not there, or that it names nothing and does not say why."""
    named = _TEST.findall(row.shown)
    missing = [f"{file}::{name}" for file, name in named if name not in read_tests(TESTS / file)]
    is_explained = bool(named) or _WITHOUT.match(row.shown) is not None
    return missing if is_explained else ["no test, and no reason why"]


ROWS = list(read_rows(PAGE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("section", SECTIONS)
def test_every_requirement_has_its_row_and_no_other_does(section: str) -> None:
    assert {row.id for row in ROWS if row.section == section} == SECTIONS[section]
    assert {row.section for row in ROWS} == set(SECTIONS)


def test_every_test_that_a_row_names_exists() -> None:
    faults = [f"{row.section} {row.id}: {fault}" for row in ROWS for fault in faults_of(row)]
    assert faults == []


def test_every_line_of_the_tables_is_read() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    heads = [line for line in lines if line.startswith(("| id |", "|---"))]
    assert len(lines) - len(heads) == len(ROWS)


def test_a_row_without_a_test_says_why_and_one_with_a_wrong_name_is_found() -> None:
    here = "`test_standards.py::test_every_line_of_the_tables_is_read`"
    text = f"## A\n\n| 1.1 | this | {here} |\n| 1.2 | that | not here: no mail |\n## B\n| 2 | more | soon |\n"
    rows = list(read_rows(text))
    assert [(row.section, row.id) for row in rows] == [("A", "1.1"), ("A", "1.2"), ("B", "2")]
    assert [faults_of(row) for row in rows] == [[], [], ["no test, and no reason why"]]
    wrong = Row("A", "1", "this", here + ", `test_standards.py::test_gone`, `gone.py::test_gone`")
    assert faults_of(wrong) == ["test_standards.py::test_gone", "gone.py::test_gone"]
