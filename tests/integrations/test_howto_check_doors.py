"""docs/howto/check-doors.md followed in a new folder: the command prints what the page shows."""

import re
import subprocess
from pathlib import Path

from tests.readers import Reader

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "check-doors.md"
_CONSOLE = re.compile(r"^```console\n\$ ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_command_prints_what_the_page_shows(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = _CONSOLE.search(text)
    assert shown is not None
    reader = Reader(tmp_path)
    reader.follow(text[: shown.start()])
    told = subprocess.run(
        shown[1].split(), cwd=tmp_path, env=reader.environment, capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout) == (1, shown[2]), told.stderr
    assert told.stderr == "1 gated, 1 open on purpose, 1 not gated\n"
