"""The fixtures of `conftest.py` themselves."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests import conftest


@pytest.mark.parametrize(("ci", "ending"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_missing_program_skips_a_test_at_home_and_fails_it_in_ci(
    ci: str,
    ending: type[BaseException],
    require_program: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", ci)
    with pytest.raises(ending, match="oathtool is missing; this installs it: "):
        require_program("oathtool")


def test_present_program_is_found_by_its_path(
    require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "oathtool"
    program.touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert require_program("oathtool") == str(program)


def test_a_browser_is_found_under_each_of_its_names(
    require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "google-chrome"
    program.touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert require_program("chromium") == str(program)


def test_of_several_versions_outside_the_path_the_newest_is_found(
    require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for version in ("9.6", "14", "17", "9.1"):
        program = tmp_path / version / "bin" / "postgres"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(conftest.OTHER_NAMES, "postgres", (f"{tmp_path}/*/bin/postgres",))
    assert require_program("postgres") == str(tmp_path / "17" / "bin" / "postgres")
