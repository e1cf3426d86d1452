"""The documentation is tested: nothing goes undocumented, nothing documented is gone, links lead on, examples run."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args
from urllib.parse import unquote

import msgspec
import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN_HERE = re.compile(r"<!-- (?:not run|run by): .+? -->\s*\Z", re.DOTALL)
RUN_AS_A_WHOLE = re.compile(r"\A# .+\n\n<!-- run by: (\S+) -->\n")
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
# An entry of a reference page opens a table row, a heading or a list item.
_ENTRY = re.compile(r"^(?:\| *|#+ |[-*] )`([\w.]+)`", re.MULTILINE)


class Example(NamedTuple):
    """One Python block of a page."""

    page: Path
    line: int
    code: str


def examples(page: Path, text: str) -> Iterator[Example]:
    """The Python blocks of a page that run by themselves: all without a note (`test_docs_examples.py`)."""
    for fence in _FENCE.finditer("" if RUN_AS_A_WHOLE.search(text) else text):
        if fence[1] == "python" and not _NOT_RUN_HERE.search(text, 0, fence.start()):
            yield Example(page, text.count("\n", 0, fence.start()) + 1, fence[2])


def links(text: str) -> Iterator[str]:
    """The targets of a page's links that lie in this project."""
    for link in _LINK.finditer(_FENCE.sub("", text)):
        if not re.match(r"[a-z]+:", link[1]):
            yield unquote(link[1])


def anchors(text: str) -> set[str]:
    """What a page's headings are called in links to them (as GitHub does it)."""
    titles = (re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(_FENCE.sub("", text)))
    return {title.replace(" ", "-") for title in titles}


def leads_somewhere(page: Path, link: str) -> bool:
    """Whether the file is there and, where the link names a heading of a page, the heading too."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target.read_text(encoding="utf-8"))


def entries(page: Path) -> set[str]:
    """The names that a reference page explains."""
    return set(_ENTRY.findall(page.read_text(encoding="utf-8")))


def from_module(module: str, name: str) -> Any:
    """One name of the program, imported only by the test that compares it."""
    return getattr(importlib.import_module(f"twofold.{module}"), name)


def test_every_setting_is_documented_and_no_other() -> None:
    settings = {"TWOFOLD_" + field.name.upper() for field in msgspec.structs.fields(from_module("config", "Settings"))}
    assert {entry for entry in entries(DOCS / "settings.md") if entry.startswith("TWOFOLD_")} == settings


def test_every_reason_is_documented() -> None:
    reasons = {*get_args(from_module("core.decision", "Reason")), *get_args(from_module("errors", "RefusalCode"))}
    assert reasons - entries(DOCS / "reasons.md") == set()


def test_every_kind_of_event_is_documented_and_no_other() -> None:
    kinds = set(get_args(from_module("core.audit", "EventKind")))
    assert {entry for entry in entries(DOCS / "events.md") if "." in entry} == kinds


def test_every_factor_has_its_page_and_its_tests() -> None:
    for factor in from_module("factors", "FACTORS"):
        assert (DOCS / "factors" / f"{factor}.md").is_file()
        assert (ROOT / "tests" / "factors" / f"test_{factor}.py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    dead = [link for link in links(page.read_text(encoding="utf-8")) if not leads_somewhere(page, link)]
    assert dead == []


@pytest.mark.parametrize(
    "example",
    [example for page in PAGES for example in examples(page, page.read_text(encoding="utf-8"))],
    ids=lambda example: f"{example.page.relative_to(ROOT)}:{example.line}",
)
def test_example_runs(example: Example, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWOFOLD_")}
    script = tmp_path / "example.py"
    script.write_text(example.code, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


SAMPLE = """\
# A title, `quoted`

See [this](#a-title-quoted), [that](docs/), [gone](gone.md), [outside](https://example.com/x), [lost](#nowhere).

```python
print("runs")
```

<!-- not run: needs a phone -->
```python
raise SystemExit("does not")
```

```console
$ twofold [no](link.md)
```

| `a.name` | explained |
- `another`: explained, see `mentioned`
"""


def test_only_python_blocks_without_an_excuse_are_run() -> None:
    assert [(example.line, example.code) for example in examples(ROOT / "x.md", SAMPLE)] == [(5, 'print("runs")\n')]


def test_links_are_followed_to_files_and_headings_but_not_to_other_hosts(tmp_path: Path) -> None:
    page = ROOT / "README.md"
    assert list(links(SAMPLE)) == ["#a-title-quoted", "docs/", "gone.md", "#nowhere"]
    assert anchors(SAMPLE) == {"a-title-quoted"}
    assert leads_somewhere(page, "LICENSE")
    assert not leads_somewhere(page, "gone.md")
    assert not leads_somewhere(page, "CONTRIBUTING.md#nowhere")
    assert not leads_somewhere(page, str(tmp_path))


def test_an_entry_opens_a_row_a_heading_or_an_item(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(SAMPLE, encoding="utf-8")
    assert entries(page) == {"a.name", "another"}
