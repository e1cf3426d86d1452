"""No example on a page is there only to be read: each is run by a test, or a note before it says why not.

Which test, is told by the page (`<!-- run by: tests/… -->` before the block, or below the title for all of them), by
`test_docs.py`, which runs the Python that has no note, and by `test_docs_console.py`, which follows whole pages.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.test_docs import PAGES, ROOT, RUN_AS_A_WHOLE
from tests.test_docs_console import FOLLOWED

#: All that the site shows; these are linked to.
SHOWN = [
    *PAGES,
    *sorted((ROOT / "deploy").rglob("*.md")),
    ROOT / "clients" / "js" / "README.md",
    ROOT / "src" / "twofold" / "server" / "languages" / "README.md",
]
#: What a reader would type, save or send. Other blocks show what comes of it, or how another program is set up.
EXAMPLES = {"bash", "console", "diff", "django", "html+django", "html+jinja", "http", "javascript", "jinja", "js",
            "jsx", "mjs", "powershell", "py", "python", "sh", "shell", "sql", "ts", "tsx", "typescript"}  # fmt: skip
OTHERS = {"caddyfile", "csv", "html", "ini", "json", "nginx", "text", "toml", "yaml"}

_NOTE = r"<!-- (?P<kind>run by|not run|keep): (?P<what>[^\n]+?) -->\n"
_BLOCK = re.compile(rf"^(?:{_NOTE})?```+(?P<language>[^\n`]*)\n(?P<text>.*?)^```+$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block, with the note that stands before it."""

    line: int
    language: str
    kind: str
    what: str
    text: str


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page in order."""
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + (2 if block["kind"] else 1)
        yield Block(line, block["language"].strip(), block["kind"] or "", block["what"] or "", block["text"])


def find_fault(page: str, text: str, block: Block) -> str | None:
    """What is wrong with a block: nothing, where a test runs it or its note tells why none does."""
    if block.language not in EXAMPLES:
        if re.search(r"^\$ \w", block.text, re.MULTILINE):
            return "what is typed belongs into a block of console"
        return None if block.language in OTHERS else f"is it an example? {block.language!r} is not listed here"
    if block.kind == "not run":
        return None
    whole = RUN_AS_A_WHOLE.search(text)
    if test := block.what if block.kind == "run by" else whole and whole[1]:
        return None if names_page(test, page) else f"{test} says nothing of {page}"
    is_run = block.language == "python" or (block.language == "console" and page in FOLLOWED)
    return None if is_run else "no test runs it, and no note says why"


def names_page(test: str, page: str) -> bool:
    """Whether that file is there, and has the name of the page in it."""
    file = ROOT / test
    return file.is_file() and Path(page).name in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_example_is_run_or_says_why_not(page: Path) -> None:
    name, text = page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
    found = [(f"{name}:{block.line}", find_fault(name, text, block)) for block in blocks(text)]
    assert [(place, fault) for place, fault in found if fault] == []


@pytest.mark.parametrize(
    ("before", "language", "fault"),
    [
        ("", "python", None),
        ("", "text", None),
        ("", "console", "no test runs it, and no note says why"),
        ("", "js", "no test runs it, and no note says why"),
        ("", "cobol", "is it an example? 'cobol' is not listed here"),
        ("", "", "is it an example? '' is not listed here"),
        ("<!-- not run: it needs a phone -->\n", "js", None),
        ("<!-- run by: tests/test_docs_https.py -->\n", "console", None),
        ("<!-- run by: tests/test_qr.py -->\n", "console", "tests/test_qr.py says nothing of docs/https.md"),
        ("<!-- run by: tests/gone.py -->\n", "console", "tests/gone.py says nothing of docs/https.md"),
        ("<!-- keep: CODE=code -->\n", "console", "no test runs it, and no note says why"),
    ],
)  # fmt: skip
def test_a_block_without_a_test_is_found(before: str, language: str, fault: str | None) -> None:
    text = f"# A page\n\nSee:\n\n{before}```{language}\nthis\n```\n"
    (block,) = blocks(text)
    assert block.line == (6 if before else 5)
    assert find_fault("docs/https.md", text, block) == fault


def test_a_command_does_not_hide_in_a_block_of_text() -> None:
    (told, typed) = blocks("```text\ncosts $ 3\n```\n\n```text\n$ rm -r /\n```\n")
    assert find_fault("docs/https.md", "", told) is None
    assert find_fault("docs/https.md", "", typed) == "what is typed belongs into a block of console"


def test_a_note_below_the_title_counts_for_the_whole_page() -> None:
    text = "# A page\n\n<!-- run by: tests/test_docs_https.py -->\n\n```console\n$ a\n```\n\n````sql\nb\n````\n"
    assert [find_fault("docs/https.md", text, block) for block in blocks(text)] == [None, None]
    assert [find_fault("docs/gone.md", text, block) for block in blocks(text)] != [None, None]
