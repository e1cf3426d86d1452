"""People at the pages of a server in this process: a browser without scripts, and somebody signed in at it."""

import base64
from urllib.parse import urljoin

import httpx
from tests.pages import Page, Value
from tests.server.conftest import SECRET, URL, Server

from twofold.credentials import OtpParameters
from twofold.engine import Caller

PASSWORD = "violet harbour 1926"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile Safari/604.1"
STEP_S = 30
ADMIN = Caller(is_admin=True)


class Visitor:
    """A browser without scripts: keeps cookies, follows redirects, sends forms. `page` is what it shows."""

    def __init__(self, server: Server, *, user_agent: str = FIREFOX, address: str = "203.0.113.9") -> None:
        self.server = server
        transport = httpx.ASGITransport(server.app, client=(address, 4000))
        self.http = httpx.AsyncClient(
            transport=transport, base_url=URL, headers={"user-agent": user_agent}, trust_env=False
        )
        self.page: Page

    @property
    def cookies(self) -> dict[str, str]:
        return dict(self.http.cookies)

    @property
    def token(self) -> str:
        """What the cookie of the session holds."""
        return self.http.cookies.get("twofold-session", "")

    async def open(self, path: str) -> Page:
        return await self._take("GET", path)

    async def send(
        self, page: Page | None = None, *, press: str | None = None, to: str | None = None, **fields: Value
    ) -> Page:
        """Fill in the first form that fits, of the page that is shown or of an earlier one, and send it."""
        page = page or self.page
        form = page.form(press=press, to=to, fields=fields)
        button = form.find_button(press)
        assert button is not None
        return await self.post(form.action, form.filled(fields, button))

    async def post(self, path: str, pairs: list[tuple[str, str]]) -> Page:
        """A form as it is, whatever page it came from."""
        headers = {"origin": URL, "content-type": "application/x-www-form-urlencoded"}
        return await self._take("POST", path, content=str(httpx.QueryParams(pairs)), headers=headers)

    async def _take(self, method: str, path: str, **more: object) -> Page:
        url = urljoin(URL, path)
        answer = await self.http.request(method, url, **more)  # type: ignore[arg-type]
        while answer.is_redirect:
            url = urljoin(url, answer.headers["location"])
            answer = await self.http.get(url)
        self.page = Page(url, answer.status_code, answer.headers, answer.text)
        self.page.check()
        return self.page


class Person(Visitor):
    """Somebody with an account, at one browser; her phones are those of `Server.code`."""

    def __init__(self, server: Server, name: str = "bo", *, secret: str = SECRET, **more: str) -> None:
        super().__init__(server, **more)
        self.name = name
        self.secret = secret
        self.password = PASSWORD

    def code(self, steps: int = 0) -> str:
        """What the phone shows."""
        return self.server.code(self.secret, steps=steps)

    def fresh_code(self) -> str:
        """The code of the next step, which nobody has used."""
        self.server.clock.pass_s(STEP_S)
        return self.code()

    def wrong_code(self) -> str:
        """A code that the phone shows at no time within an hour."""
        near = {self.code(steps) for steps in range(-120, 121)}
        return next(code for number in range(10**6) if (code := f"{number:06d}") not in near)

    async def give_password(self) -> Page:
        await self.open("/sign-in")
        return await self.send(name=self.name, password=self.password)

    async def sign_in(self) -> Page:
        """Both steps; the session is full."""
        assert (await self.give_password()).path == "/sign-in/code", self.page
        page = await self.send(code=self.fresh_code())
        assert page.path == "/security", page
        return page

    async def sign_out(self) -> Page:
        await self.open("/sign-out")
        return await self.send(to="/sign-out")

    async def is_signed_in(self) -> bool:
        page = await self.open("/security")
        return (page.path, page.status) == ("/security", 200)


async def add_person(server: Server, name: str = "bo", secret: str = SECRET) -> list[str]:
    """An account with a password, an app and recovery codes, which it gives."""
    verifier = server.deployment.verifier
    await verifier.accounts.put(name)
    await verifier.accounts.set_password(name, PASSWORD)
    await add_app(server, name, secret, label="")
    return list((await verifier.renew_recovery_codes(name, caller=ADMIN)).recovery_codes)


async def add_app(server: Server, name: str, secret: str, label: str) -> str:
    """An app more, and its id."""
    otp = OtpParameters(base64.b32decode(secret))
    accounts = server.deployment.verifier.accounts
    return (await accounts.import_authenticator(name, "totp", otp, label=label, caller=ADMIN)).id
