"""What a fresh checkout is installed from: the lock files hold what `pyproject.toml` asks for, and no address."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME: list[str] = PROJECT["project"]["dependencies"]
GROUPS: dict[str, list[str]] = PROJECT["dependency-groups"]

_PINNED = re.compile(r"([a-z0-9-]+)==[\w.]+(?: ; [^\\]+)?(?: \\\n {4}--hash=sha256:[0-9a-f]{64})+\n")


def pins(lock: str) -> list[str]:
    """The names that a lock file pins; the file must hold nothing but pins with hashes, no address and no path."""
    head, _, body = (ROOT / lock).read_text(encoding="utf-8").partition("\n\n")
    assert head == "--only-binary :all:"
    assert _PINNED.sub("", body) == ""
    return _PINNED.findall(body)


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^a-z0-9-]", requirement, maxsplit=1)[0] for requirement in requirements}


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", RUNTIME + GROUPS["build"]),
        ("requirements-dev.lock", RUNTIME + GROUPS["build"] + GROUPS["dev"]),
    ],
)
def test_lock_pins_every_dependency_by_hash_and_names_no_registry(lock: str, wanted: list[str]) -> None:
    assert names(wanted) <= set(pins(lock))


def test_both_locks_pin_the_same_versions() -> None:
    running, testing = (
        set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE))
        for lock in ("requirements.lock", "requirements-dev.lock")
    )
    assert running <= testing


def test_the_build_group_is_what_the_build_needs() -> None:
    assert GROUPS["build"] == PROJECT["build-system"]["requires"]
