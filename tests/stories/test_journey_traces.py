"""What a journey leaves behind in a browser: no secret in an address, and nothing that a script could read."""

from urllib.parse import unquote_plus

import pytest
from tests.browsers import BrowserVisitor, OpenBrowser
from tests.people import Person, new_name
from tests.servers import Server

KEPT = """async () => ({
    cookies: document.cookie,
    local: Object.keys(localStorage), session: Object.keys(sessionStorage),
    databases: (await indexedDB.databases()).length, caches: (await caches.keys()).length,
    workers: (await navigator.serviceWorker.getRegistrations()).length,
})"""
NOTHING = {"cookies": "", "local": [], "session": [], "databases": 0, "caches": 0, "workers": 0}


@pytest.fixture
def visitor(server: Server, open_browser: OpenBrowser) -> BrowserVisitor:
    return open_browser(f"http://localhost:{server.port}")


def test_asvs_14_2_1_no_secret_ever_stands_in_an_address(ada: Person, visitor: BrowserVisitor) -> None:
    asked: list[str] = []
    visitor.window.context.on("request", lambda request: asked.append(request.url + str(request.headers)))
    bo = Person(new_name(), visitor, ada.clock)
    bo.accept(ada.invite(bo.name))
    bo.enroll()
    cookies = [bo.visitor.cookies["twofold-session"]]
    bo.sign_out()
    bo.give_password()
    cookies.append(bo.visitor.cookies["twofold-session"])
    codes = [bo.wrong_code()]
    bo.give_code(codes[0])
    codes.append(bo.fresh_code())
    bo.give_code(codes[1])
    bo.visitor.open("/security/recovery-codes")
    codes.append(bo.fresh_code())
    bo.visitor.send(code=codes[2])
    new_codes = bo.page.recovery_codes
    bo.visitor.open("/security")

    assert len(asked) > 20
    assert len(new_codes) == 10
    assert bo.phone is not None
    secrets = [bo.password, bo.phone.secret, *codes, *bo.recovery_codes, *new_codes, *cookies, "otpauth"]
    # Cookies go in a header of their own, which the browser does not show here.
    assert [secret for secret in secrets if any(secret in unquote_plus(line) for line in asked)] == []


def test_asvs_14_3_3_the_browser_keeps_nothing_that_a_script_could_read(ada: Person, visitor: BrowserVisitor) -> None:
    bo = Person(new_name(), visitor, ada.clock)
    bo.accept(ada.invite(bo.name))
    bo.begin_app()
    assert visitor.tab.evaluate(KEPT) == NOTHING
    bo.prove_app()
    assert visitor.tab.evaluate(KEPT) == NOTHING
    bo.keep_codes()
    for cookie in visitor.window.context.cookies():
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
        # Only a browser that was here before is remembered when the browser is closed.
        assert (cookie["expires"] == -1) == (cookie["name"] != "twofold-known")
    bo.sign_out()
    assert visitor.tab.evaluate(KEPT) == NOTHING
