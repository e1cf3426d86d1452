"""Pages that repeat what the code says are compared with it, and the programs on them are run on real databases."""

import ast
import importlib
import inspect
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyotp
import pytest

import twofold.core.throttle
from twofold import BlockingVerifier, Rejected
from twofold.server.problems import STATUS_OF_REFUSAL

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "twofold"
DOCS = ROOT / "docs"

_LIMIT = re.compile(r"^\| [^|]+ \| ([\d,]+)[^|]* \| `([\w.]+)\.([A-Z_]+)` \|$", re.MULTILINE)
_IS_LIMIT = re.compile(r"[A-Z].*(_MAX|_MIN|_MAX_S|_PPM|_PER_DAY|_PER_MINUTE)|(.+_)?(TTL|KEPT)_S")
_NO_LIMITS = {"core.throttle.GRAINS_PER_PPM"}  # a unit


def limits_in_code() -> Iterator[str]:
    """The module constants whose names say that they limit something."""
    for path in SOURCE.rglob("*.py"):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign):
                names = [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
                yield from (f"{module}.{name}" for name in names if _IS_LIMIT.fullmatch(name))


def test_asvs_6_1_1_every_documented_limit_is_the_one_in_the_code() -> None:
    rows = _LIMIT.findall((DOCS / "limits.md").read_text(encoding="utf-8"))
    documented = {f"{module}.{name}": int(value.replace(",", "")) for value, module, name in rows}
    in_code = {
        key: getattr(importlib.import_module(f"twofold.{key.rpartition('.')[0]}"), key.rpartition(".")[2])
        for key in documented
    }
    assert documented == in_code


def test_asvs_6_1_1_every_limit_in_the_code_is_documented() -> None:
    rows = _LIMIT.findall((DOCS / "limits.md").read_text(encoding="utf-8"))
    assert set(limits_in_code()) - _NO_LIMITS - {f"{module}.{name}" for _, module, name in rows} == set()


def test_every_problem_of_the_api_is_documented_with_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d[\d, ]+) \|", (DOCS / "reasons.md").read_text(encoding="utf-8"), re.MULTILINE)
    answered = {code: {str(status)} for code, status in STATUS_OF_REFUSAL.items()}
    for path in (SOURCE / "server").glob("*.py"):
        for status, code in re.findall(r"\bProblem\(\s*(\d{3}), \"(\w+)\"", path.read_text(encoding="utf-8")):
            answered.setdefault(code, set()).add(status)
    assert {code: set(statuses.split(", ")) for code, statuses in rows} == answered


def test_the_page_on_the_doctor_explains_every_check_and_no_other() -> None:
    page = (DOCS / "howto" / "doctor.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (SOURCE / "doctor").glob("*.py"))
    checks = set(re.findall(r"\bFinding\(\s*\"([a-z ]+)\"", code))
    states = {"ok", "unknown", "warning", "problem"}
    assert set(re.findall(r"^\| `([a-z ]+)` \|", page, re.MULTILINE)) == checks | states


def test_the_page_on_decisions_lists_each_of_them_with_its_title() -> None:
    rows = re.findall(
        r"^\| (\d+) \| \[(.+)\]\((\S+)\) \|$", (DOCS / "decisions" / "README.md").read_text(), re.MULTILINE
    )
    pages = sorted((DOCS / "decisions").glob("0*.md"))
    assert [f"# {number}. {title}" for number, title, _ in rows] == [
        page.read_text().partition("\n")[0] for page in pages
    ]
    assert [file for _, _, file in rows] == [page.name for page in pages]


def test_the_page_on_the_throttle_shows_the_rules_of_the_module() -> None:
    page = (DOCS / "throttle.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)
    assert blocks == [inspect.getdoc(twofold.core.throttle)]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database in which things have happened, a deletion too."""
    path = tmp_path / "twofold.db"
    with BlockingVerifier.open(f"sqlite:///{path}") as verifier:
        for account_id in ("alice", "bob"):
            pending = verifier.enroll(account_id, "totp")
            verifier.confirm(account_id, pending.id, code=pyotp.TOTP(pending.secret).now())
            assert isinstance(verifier.verify(account_id, code="no code"), Rejected)
        verifier.delete_account("bob")
        verifier.enroll("bob", "hotp")
    return path


def program_on(page: str) -> str:
    """The one Python block of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(program)


def run_documented_verifier(database: Path) -> list[str]:
    """What the program on the page says of a database."""
    arguments = [sys.executable, "-W", "error", "-c", program_on("events.md"), str(database)]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    return run.stdout.splitlines()


def test_the_documented_audit_verifier_confirms_an_untouched_database(database: Path) -> None:
    assert run_documented_verifier(database) == ["holds  keys", "holds alice", "holds bob"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE events SET payload = replace(payload, 'wrong_code', 'whatever') WHERE seq = 5",
        "UPDATE events SET at = at + 1 WHERE seq = 2",
        "UPDATE events SET kind = 'code.accepted' WHERE seq = 5",
        "UPDATE events SET salt = NULL, payload = NULL WHERE seq = 3",
        "UPDATE events SET seq = 9 WHERE seq = 5",
        "DELETE FROM events WHERE seq = 1",
        "DELETE FROM events WHERE seq = 5",
        "DELETE FROM events WHERE seq > 0",
    ],
)
def test_the_documented_audit_verifier_finds_damage(database: Path, damage: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(f"{damage} AND account_id = 'alice'").rowcount > 0
        connection.commit()
    assert run_documented_verifier(database) == ["holds  keys", "BROKEN alice", "holds bob"]
