"""docs/howto/express.md, followed by somebody who has an application: with its four lines, and without them."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.node import link_packages, serving
from tests.servers import STEP_S, Clock, Phone, Server

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "express.md").read_text()
APPLICATION = re.findall(r"^```js\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
ADDED = "// +"
WITHOUT = "".join(line for line in APPLICATION.splitlines(keepends=True) if not line.rstrip().endswith(ADDED))
ALICE = {"name": "alice", "password": "correct horse"}


@pytest.fixture(params=["express4", "express5"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    link_packages(tmp_path, request.param)
    (tmp_path / "with.mjs").write_text(APPLICATION)
    (tmp_path / "without.mjs").write_text(WITHOUT)
    return tmp_path


@pytest.fixture
def visitor() -> Iterator[httpx.Client]:
    with httpx.Client(follow_redirects=True, headers={"Accept": "text/html"}) as client:
        yield client


def test_it_takes_at_most_five_lines() -> None:
    assert 1 <= APPLICATION.count(ADDED) <= 5


def test_the_key_is_made_as_the_page_says(server: Server) -> None:
    command = re.search(r"^\$ twofold (apikey create .+)$", PAGE, re.MULTILINE)
    assert command is not None
    made = server.command(*command[1].split())
    assert re.fullmatch(
        r"application .+\npasskeys for localhost, on http://localhost:3000\ntf_\S+\n", made.stderr + made.stdout
    )


def test_without_the_lines_the_password_is_enough(place: Path, server: Server, visitor: httpx.Client) -> None:
    with serving(place / "without.mjs", server, SESSION_SECRET="kept for tests") as url:
        assert visitor.post(f"{url}/login", data=ALICE).text == "Hello alice."


def test_with_them_somebody_enrolls_and_is_asked_from_then_on(
    place: Path, server: Server, clock: Clock, visitor: httpx.Client
) -> None:
    with serving(place / "with.mjs", server, SESSION_SECRET="kept for tests") as url:
        name = f"alice of {place.name}"
        choice = visitor.post(f"{url}/login", data=ALICE | {"name": name})
        assert "Set up your second step" in choice.text
        shown = visitor.post(f"{url}/2fa/enroll", data={"factor": "totp", "next": "/account"})
        phone = Phone(name, only(r'<code id="secret">([^<]+)<', shown.text).replace(" ", ""))
        pending = only(r'name="authenticator" value="([^"]+)"', shown.text)
        kept = visitor.post(
            f"{url}/2fa/enroll", data={"authenticator": pending, "code": phone.code(clock.now_s), "next": "/account"}
        )
        assert kept.text.count('class="recovery-code"') == 10
        assert visitor.get(f"{url}/account").text.startswith("Hello alice")

        visitor.cookies.clear()
        assert "Show that it is you" in visitor.post(f"{url}/login", data=ALICE | {"name": name}).text
        clock.advance(STEP_S)
        proof = {"twofold-code": phone.code(clock.now_s), "next": "/account"}
        assert visitor.post(f"{url}/2fa/challenge", data=proof).text.startswith("Hello alice")


def only(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    assert len(found) == 1, text
    return str(found[0])
