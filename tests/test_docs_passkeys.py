"""The Python on the page about passkeys in an application, run with an authenticator in software."""

import re
from pathlib import Path
from typing import Any

import pytest

from twofold.testing import SoftwareAuthenticator

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "passkeys-in-your-application.md"
ORIGIN = "https://acme.example"


def test_the_example_with_twofold_inside_adds_a_passkey_and_lets_it_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = (
        block
        for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        if "import Blocking" in block
    )
    example: dict[str, Any] = {}
    exec(program, example)  # noqa: S102 - a page of ours
    try:
        passkey = SoftwareAuthenticator()
        session = {"id": "session-1", "person": "bob"}
        elsewhere = passkey.register(example["begin"](session), "https://acme.example.evil")
        with pytest.raises(ValueError, match="wrong_origin"):
            example["confirm"](session, elsewhere)
        assert len(example["confirm"](session, passkey.register(example["begin"](session), ORIGIN))) == 10

        signing_in = {"id": "session-2", "pending": "bob"}
        stolen = passkey.answer(example["ask"](signing_in), "https://evil.example")
        assert example["answer"](signing_in, stolen, "203.0.113.7") == "wrong_origin"
        shown = passkey.answer(example["ask"](signing_in), "https://www.acme.example")
        elsewhere_session = {**signing_in, "id": "session-3"}
        assert example["answer"](elsewhere_session, shown, "203.0.113.7") == "challenge_mismatch"
        assert example["answer"](signing_in, shown, "203.0.113.7") == "two factors"
        assert signing_in == {"id": "session-2", "person": "bob"}
    finally:
        example["twofold"].close()
