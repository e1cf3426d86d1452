"""An application built as the page says: its own server and pages, Twofold behind them, a real browser before them.

All code of the application is taken from `docs/howto/passkeys-in-your-application.md`. Of `@simplewebauthn/browser`,
which is not here, the two functions that the page uses are stood in for.
"""

import inspect
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from tests.browsers import OpenWindow
from tests.servers import Server, running

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "passkeys-in-your-application.md"
SIMPLEWEBAUTHN = """
export async function startRegistration({ optionsJSON }) {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(optionsJSON);
  return (await navigator.credentials.create({ publicKey })).toJSON();
}
export async function startAuthentication({ optionsJSON }) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(optionsJSON);
  return (await navigator.credentials.get({ publicKey })).toJSON();
}
"""
ANSWER = """async (options) => {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  return (await navigator.credentials.get({ publicKey })).toJSON();
}"""
DOCUMENT = """<!doctype html><html lang="en"><title>Shop</title><link rel="icon" href="data:,">
<script type="importmap">{"imports": {"@simplewebauthn/browser": "/simplewebauthn.js"}}</script>
<script type="module">import * as passkeys from "/passkeys.js"; globalThis.passkeys = passkeys;</script>
"""


def blocks(language: str) -> list[str]:
    """The examples of the page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def scripts() -> dict[str, str]:
    """What the browser gets, by the way of doing it."""
    plain, with_library = blocks("js")
    post = plain[: plain.index("export ")]
    first, rest = with_library.split("\n", 1)
    return {"plain": plain, "simplewebauthn": f"{first}\n{post}{rest}"}


class Application:
    """The application: one person at one browser, so one session."""

    def __init__(self, api: str, key: str) -> None:
        self.session: dict[str, Any] = {}
        self.script = ""
        self._views: dict[str, Any] = {}
        server_side = next(block for block in blocks("python") if "urllib" in block)
        exec(server_side, self._views)  # noqa: S102 - a page of ours
        self._views.update(API=api, KEY=key)

    def get(self, path: str) -> tuple[str, str]:
        """The media type and the text at a path."""
        texts = {"/passkeys.js": self.script, "/simplewebauthn.js": SIMPLEWEBAUTHN}
        return ("text/javascript", texts[path]) if path in texts else ("text/html", DOCUMENT)

    def post(self, path: str, body: Any) -> Any:
        """What a view answers."""
        view = self._views[path.removeprefix("/passkeys/")]
        given = {"session": self.session, "credential": body, "ip": "127.0.0.1"}
        return view(**{name: given[name] for name in inspect.signature(view).parameters})


@contextmanager
def served(application: list[Application]) -> Iterator[str]:
    """The address of the application, which comes into the list later: its API key needs the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*application[0].get(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send("application/json", json.dumps(application[0].post(self.path, body)))

        def _send(self, media_type: str, text: str) -> None:
            raw = text.encode()
            self.send_response(200)
            self.send_header("content-type", media_type)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def twofold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("shop") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def shop(twofold: Server) -> Iterator[tuple[Application, str]]:
    opening: list[Application] = []
    with served(opening) as url:
        key = twofold.command("apikey", "create", "shop", "--origin", url).stdout.strip()
        opening.append(Application(f"http://localhost:{twofold.port}/api/v1", key))
        yield opening[0], url


def add_authenticator(tab: Page) -> Any:
    """A virtual authenticator that always agrees; how to see what it holds."""
    devtools = tab.context.new_cdp_session(tab)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return lambda: devtools.send("WebAuthn.getCredentials", made)["credentials"]


@pytest.mark.parametrize("way", ["plain", "simplewebauthn"])
def test_somebody_adds_a_passkey_and_signs_in_with_it(
    twofold: Server, shop: tuple[Application, str], new_window: OpenWindow, way: str
) -> None:
    application, url = shop
    application.script = scripts()[way]
    application.session = {"id": "session-1", "person": way}
    with twofold.client(application._views["KEY"]) as api:
        api.add_account(way)
    tab = new_window(url).new_tab()
    held = add_authenticator(tab)
    tab.goto(url)

    added = tab.evaluate("passkeys.addPasskey()")
    assert added["state"] == "active"
    assert len(added["recovery_codes"]) == 10
    assert [credential["rpId"] for credential in held()] == ["localhost"]

    application.session = {"id": "session-2", "pending": way}
    shown = tab.evaluate("passkeys.showPasskey()")
    assert (shown["verified"], shown["factor"], shown["user_verified"]) == (True, "webauthn", True)
    assert application.session == {"id": "session-2", "person": way}

    # A genuine answer, but asked for in another session.
    application.session = {"id": "session-3", "pending": way}
    credential = tab.evaluate(ANSWER, application.post("/passkeys/ask", {}))
    application.session = {**application.session, "id": "session-4"}
    refused = application.post("/passkeys/answer", credential)
    assert (refused["verified"], refused["reason"]) == (False, "challenge_mismatch")
    assert "person" not in application.session
