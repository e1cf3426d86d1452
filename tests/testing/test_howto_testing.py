"""`docs/howto/testing.md` followed word by word: the files of each section in a fresh folder, and pytest in it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "testing.md"
_SECTION = re.compile(r"^## ", re.MULTILINE)
_FILE = re.compile(r"^```\w+\n(?=# (\S+)\n)(.*?)^```$", re.MULTILINE | re.DOTALL)
_PRINTED = re.compile(r"^\$ python -m pytest -q\n(.+?)^```$", re.MULTILINE | re.DOTALL)
_TIME = re.compile(r"in [\d.]+s")

TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = {section.partition("\n")[0]: section for section in _SECTION.split(TEXT) if _FILE.search(section)}
SETTINGS = dict(_FILE.findall(SECTIONS["The first green test"]))["pyproject.toml"]


@pytest.mark.parametrize("title", SECTIONS)
def test_the_tests_of_the_section_are_green(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWOFOLD_PUBLIC_URL", raising=False)
    files = {"pyproject.toml": SETTINGS, **dict(_FILE.findall(SECTIONS[title]))}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    tests = sum(text.count("\ndef test_") + text.count("    def test_") for text in files.values())
    assert f"{tests} passed" in run.stdout, run.stdout + run.stderr
    for shown in _PRINTED.findall(SECTIONS[title]):
        assert _TIME.sub("", run.stdout.strip()) == _TIME.sub("", shown.strip())
    assert not (tmp_path / "twofold.db").exists()
