"""Type checkers accept the public API: programs that use all of it; and nothing in the package is left to infer."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted((ROOT / "tests" / "typed").glob("*.py"))
PYRIGHT = ROOT / "tests" / "npm" / "node_modules" / ".bin" / "pyright"
#: What an application imports from, and the program that uses all of its names.
PUBLIC = {
    "twofold": "embedding",
    "twofold.client": "calling",
    "twofold.integrations.django": "frameworks",
    "twofold.integrations.flask": "frameworks",
    "twofold.integrations.starlette": "frameworks",
    "twofold.testing": "testing",
}


def run(*command: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A type checker, with this environment's Python first on its way, and no settings of this project."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def pyright() -> Path:
    if not PYRIGHT.exists():
        missing = "pyright is missing; this installs it: npm ci --prefix tests/npm"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    return PYRIGHT


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """The command; what one run has found out of the package, the next one knows."""
    kept = tmp_path_factory.mktemp("mypy")
    return [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", kept]


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_used(module: str) -> None:
    program = (ROOT / "tests" / "typed" / f"{PUBLIC[module]}.py").read_text(encoding="utf-8")
    names = importlib.import_module(module).__all__
    assert [name for name in names if not re.search(rf"\b{name}\b", program)] == []


def test_mypy_accepts_the_programs(mypy: list[str | Path], tmp_path: Path) -> None:
    ended = run(*mypy, *PROGRAMS, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, f"Success: no issues found in {len(PROGRAMS)} source files\n")


def test_mypy_refuses_what_the_types_exclude(mypy: list[str | Path], tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text(
        "from twofold.client import Client\n"
        "twofold = Client('https://2fa.example', 'tf_key')\n"
        "twofold.verify('alice', kode='123456')\n"
        "twofold.enroll('alice', 'sms')\n"
        "receipt: str = twofold.verify('alice', code='123456').receipt\n"
    )
    ended = run(*mypy, program, cwd=tmp_path)
    assert sorted(set(re.findall(r"wrong.py:(\d)", ended.stdout))) == ["3", "4", "5"]


def test_pyright_accepts_the_programs(pyright: Path, tmp_path: Path) -> None:
    for program in PROGRAMS:
        shutil.copy(program, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    ended = run(pyright, "--outputjson", cwd=tmp_path)
    told = json.loads(ended.stdout)
    assert told["summary"]["filesAnalyzed"] == len(PROGRAMS)
    assert [f"{found['file']}: {found['message']}" for found in told["generalDiagnostics"]] == []


def test_pyright_finds_a_type_on_everything_in_the_package(pyright: Path, tmp_path: Path) -> None:
    ended = run(pyright, "--verifytypes", "twofold", "--ignoreexternal", "--outputjson", cwd=tmp_path)
    told = json.loads(ended.stdout)["typeCompleteness"]
    unknown = [symbol["name"] for symbol in told["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    assert unknown == []
    assert told["completenessScore"] == 1
