"""docs/howto/browser-module.md in a real browser: one of today, and one from before browsers had JSON for passkeys."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from tests.browsers import OpenWindow
from tests.node import PACKAGE, build_package
from tests.servers import Server, running
from tests.stories.test_passkeys_in_an_application import Application, add_authenticator, served

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "browser-module.md").read_text()
SCRIPT = re.findall(r"^```js\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
DOCUMENT = """<!doctype html><html lang="en"><title>Shop</title><link rel="icon" href="data:,">
<script type="importmap">{"imports": {"@twofold/client/browser": "/browser.mjs"}}</script>
<script type="module">import * as passkeys from "/passkeys.js"; globalThis.passkeys = passkeys;</script>
"""
#: What browsers had at first.
OLDER = """delete PublicKeyCredential.parseCreationOptionsFromJSON;
delete PublicKeyCredential.parseRequestOptionsFromJSON;
delete PublicKeyCredential.prototype.toJSON;"""


class Shop(Application):
    """The application of the other page, with the script of this one."""

    def get(self, path: str) -> tuple[str, str]:
        texts = {"/passkeys.js": SCRIPT, "/browser.mjs": (PACKAGE / "dist" / "browser.mjs").read_text()}
        return ("text/javascript", texts[path]) if path in texts else ("text/html", DOCUMENT)


@pytest.fixture(scope="module")
def twofold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    build_package()
    with running(tmp_path_factory.mktemp("module") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def shop(twofold: Server) -> Iterator[tuple[Application, str]]:
    opening: list[Application] = []
    with served(opening) as url:
        key = twofold.command("apikey", "create", "shop", "--origin", url).stdout.strip()
        opening.append(Shop(f"http://localhost:{twofold.port}/api/v1", key))
        yield opening[0], url


@pytest.fixture(params=["today", "older"])
def tab(request: pytest.FixtureRequest, shop: tuple[Application, str], new_window: OpenWindow) -> Page:
    page = new_window(shop[1]).new_tab()
    if request.param == "older":
        page.add_init_script(OLDER)
    return page


def test_somebody_adds_a_passkey_shows_it_and_hears_what_goes_wrong(
    twofold: Server, shop: tuple[Application, str], tab: Page, request: pytest.FixtureRequest
) -> None:
    application, url = shop
    person = request.node.callspec.id
    application.session = {"id": "session-1", "person": person}
    with twofold.client(application._views["KEY"]) as api:
        api.add_account(person)
    held = add_authenticator(tab)
    tab.goto(url)
    added = tab.evaluate("passkeys.tell(passkeys.add)")
    assert added["state"] == "active"
    assert [credential["rpId"] for credential in held()] == ["localhost"]

    application.session = {"id": "session-2", "pending": person}
    shown = tab.evaluate("passkeys.tell(passkeys.show)")
    assert (shown["verified"], shown["factor"], shown["user_verified"]) == (True, "webauthn", True)

    # Another device would take it; this one has it already.
    code = {"id": "session-3", "person": person, "step_up": step_up(application, tab, person)}
    application.session = code
    assert tab.evaluate("passkeys.tell(passkeys.add)") == {"sentence": "already_registered"}


def step_up(application: Application, tab: Page, person: str) -> str:
    """A receipt for adding another one."""
    call = application._views["call"]
    _, challenge = call(f"/accounts/{person}/challenges", {"factor": "webauthn", "purpose": "manage"})
    options = challenge["prompt"]["public_key"]
    module = 'import("/browser.mjs")'
    credential = tab.evaluate(f"async options => (await {module}).showPasskey(options)", options)
    _, judged = call("/challenges/answer", {"challenge": challenge["id"], "credential": credential})
    return str(judged["receipt"])
