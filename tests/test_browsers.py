"""The visitors themselves: what they do on a small site, and that they notice what is wrong with one."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests.browsers import BrowserVisitor, OpenBrowser, OpenWindow, assert_accessible, find_violations
from tests.forms import FormVisitor, OpenForms

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src 'self'; "
    "script-src 'self'; img-src 'self'"
)
FORM = """
<form method="post" action="/answer">
<input type="hidden" name="csrf" value="token">
<label for="code">Code</label> <input id="code" name="code" autocomplete="one-time-code">
<label><input type="checkbox" name="saved"> I saved them</label>
<details><summary>More</summary><label>Color <select name="color"><option value="r">Red</option>
<option value="b" selected>Blue</option></select></label></details>
<button>Go</button> <button name="factor" value="totp">App</button>
</form>
<p><a href="/faults">Faults</a></p>
"""
FAULTS = {
    "/foreign": '<img src="https://example.invalid/pixel.png" alt="">',
    "/inline": "<p style=color:red>red</p>",
    "/lost": '<img src="/nothing.png" alt="">',
}


class Site(BaseHTTPRequestHandler):
    """One form, an answer that says what was sent, and pages with one fault each."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/nothing.png":
            self.send_error(404)
        elif path == "/large.css":
            self._answer(b"* { min-height: 24px; min-width: 24px }", "text/css")
        elif path == "/answer":
            self._show(f"<p>{self.path}</p>")
        else:
            self._show(FAULTS.get(path, FORM))

    def do_POST(self) -> None:
        sent = parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode())
        said = " ".join(f"{name}={value}" for name, value in sent)
        self._show(f'<p role="alert">{said}</p>{FORM}', status=422)

    def log_message(self, *_: object) -> None:
        pass

    def _show(self, body: str, status: int = 200) -> None:
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Site</title>'
            f'<link rel="stylesheet" href="/large.css"></head><body><main><h1>Site</h1>{body}</main></body></html>'
        ).encode()
        self._answer(page, "text/html", status)

    def _answer(self, body: bytes, content_type: str, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {
            "content-type": content_type,
            "content-length": str(len(body)),
            "content-security-policy": POLICY,
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["forms", "mouse", "keyboard", "without a script"])
def visitor(
    request: pytest.FixtureRequest, site: str, open_forms: OpenForms, open_browser: OpenBrowser
) -> FormVisitor | BrowserVisitor:
    if request.param == "forms":
        return open_forms(site)
    return open_browser(site, keyboard=request.param == "keyboard", javascript=request.param != "without a script")


def test_a_form_is_sent_as_it_is_filled(visitor: FormVisitor | BrowserVisitor) -> None:
    visitor.open("/")
    assert visitor.page.fields == {"code", "saved", "color"}
    assert visitor.send(code="12 3", press="factor=totp").alert == "csrf=token code=12 3 color=b factor=totp"
    assert visitor.page.status == 422
    assert visitor.send(saved=True, color="r").alert == "csrf=token saved=on color=r"


def test_a_link_is_followed_and_a_missing_one_is_noticed(visitor: FormVisitor | BrowserVisitor) -> None:
    visitor.open("/")
    with pytest.raises(AssertionError, match="no link to /nowhere"):
        visitor.follow("/nowhere")
    assert visitor.follow("/faults").path == "/faults"
    assert visitor.back().path == "/"
    assert visitor.follow("/faults").fields == {"code", "saved", "color"}
    with pytest.raises(AssertionError, match="no form with"):
        visitor.send(name="alice")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [("/foreign", "asks another host"), ("/inline", "inline style"), ("/lost", "404 for ")],
)
def test_a_fault_of_a_page_is_complained_of(site: str, new_window: OpenWindow, path: str, complaint: str) -> None:
    window = new_window(site)
    window.new_tab().goto(f"{site}{path}")
    assert any(complaint in said for said in window.complaints), window.complaints
    window.complaints.clear()


def test_axe_sees_a_missing_label_and_nothing_else(site: str, new_window: OpenWindow) -> None:
    tab = new_window(site).new_tab()
    tab.goto(site)
    assert_accessible(tab)
    tab.locator("label[for=code]").evaluate("element => element.remove()")
    (found,) = find_violations(tab)
    assert "label" in found
