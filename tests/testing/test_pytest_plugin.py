"""The plugin in test runs of strangers: each test here is a project with an application and tests of its own."""

import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

APPLICATION = """
from twofold import BlockingVerifier, Rejected, Throttled, Verified

twofold = BlockingVerifier.open("sqlite:///twofold.db", issuer="Acme")


def let_in(person, code):
    return isinstance(twofold.verify(person, code=code), Verified)
"""
TESTS = """
import application

def test_a_code_lets_in(twofold_kit):
    twofold_kit.enroll("alice")
    assert application.let_in("alice", twofold_kit.current_code("alice"))

def test_nobody_is_left_from_another_test(twofold_kit):
    assert len(twofold_kit.enroll("alice").recovery_codes) == 10

def test_the_time_and_what_was_sent(twofold_kit, twofold_clock, twofold_outbox):
    twofold_kit.enroll("alice")
    code = twofold_kit.current_code("alice")
    twofold_clock.advance(120)
    assert not application.let_in("alice", code)
    assert twofold_outbox.latest("alice").kind == "authenticator.added"

def test_a_passkey(twofold_kit, twofold_authenticator, twofold_verifier):
    from twofold.testing import LOCALHOST
    twofold_kit.enroll_passkey("alice", twofold_authenticator)
    asked = application.twofold.passkeys.challenge("alice", LOCALHOST)
    shown = twofold_authenticator.answer(asked.public_key, "http://localhost")
    assert application.twofold.passkeys.answer(asked.id, shown, LOCALHOST).is_user_verified
    assert twofold_verifier.account("alice").authenticators[0].factor == "webauthn"
"""
NAMED = 'pytest_plugins = ["twofold.testing.pytest_plugin"]\n'
BEHIND_P = "[pytest]\naddopts = -p twofold.testing.pytest_plugin\npythonpath = .\nfilterwarnings = error\n"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("TWOFOLD_PUBLIC_URL", raising=False)
    pytester.makepyfile(application=APPLICATION, test_application=TESTS)
    return pytester


def run(project: pytest.Pytester) -> pytest.RunResult:
    return project.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "-q")


@pytest.mark.parametrize("conftest", ["", "import application\n"])
def test_behind_p_it_holds_for_whatever_imports_the_application(project: pytest.Pytester, conftest: str) -> None:
    project.makeini(BEHIND_P)
    project.makeconftest(conftest)
    run(project).assert_outcomes(passed=4)
    assert not (project.path / "twofold.db").exists()


def test_named_in_a_conftest_it_holds_for_an_application_that_tests_import(project: pytest.Pytester) -> None:
    project.makeconftest(NAMED)
    run(project).assert_outcomes(passed=4)
    assert not (project.path / "twofold.db").exists()


def test_named_in_a_conftest_that_imports_the_application_it_comes_too_late_and_says_so(
    project: pytest.Pytester,
) -> None:
    project.makeconftest(NAMED + "import application\n")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*opened before the tests began*"])


def test_without_being_named_it_is_not_there(project: pytest.Pytester) -> None:
    run(project).assert_outcomes(errors=4)


def test_a_run_with_a_public_url_does_not_begin(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    project.makeini(BEHIND_P)
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", "https://login.example.com")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*twofold.testing is for tests only*"])


def test_an_application_that_calls_a_server_has_one(pytester: pytest.Pytester) -> None:
    pytester.makeini(BEHIND_P)
    pytester.makepyfile(
        """
        import json, urllib.request
        import pytest

        def call(server, path, body, key=None):
            headers = {"Authorization": "Bearer " + (key or server.api_key), "Content-Type": "application/json"}
            request = urllib.request.Request(server.url + "/api/v1" + path, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)

        @pytest.mark.parametrize("round", [1, 2])
        def test_a_code_lets_in(twofold_server, twofold_kit, round):
            twofold_kit.enroll("alice")
            body = {"code": twofold_kit.current_code("alice")}
            assert call(twofold_server, "/accounts/alice/verify", body)["verified"]
            assert call(twofold_server, "/accounts/alice/verify", body)["reason"] == "code_already_used"
            twofold_kit.clock.advance(365 * 86_400)
            body = {"code": twofold_kit.current_code("alice")}
            assert call(twofold_server, "/accounts/alice/verify", body)["verified"]

        def test_an_enrollment(twofold_server, twofold_kit):
            twofold_kit.enroll("bob")
            with pytest.raises(urllib.error.HTTPError, match="403"):
                call(twofold_server, "/accounts/bob/authenticators", {"factor": "totp"})
            key = twofold_server.new_key("enroll", "admin")
            assert call(twofold_server, "/accounts/bob/authenticators", {"factor": "totp"}, key)["state"] == "pending"
        """
    )
    run(pytester).assert_outcomes(passed=3)


def test_nothing_of_it_is_in_a_program_that_serves() -> None:
    """No setting leads to it: nothing outside of it imports it, and no entry point names it."""
    source = Path(__file__).parents[2] / "src" / "twofold"
    outside = (path for path in source.rglob("*.py") if source / "testing" not in path.parents)
    assert [path for path in outside if "twofold.testing" in path.read_text(encoding="utf-8")] == []
    assert "twofold.testing" not in (source.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
