"""An application that sends people to hosted prompts, and the browsers in which they answer them."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from tests.lying_authenticator import LyingAuthenticator
from tests.pages import Element, Page
from tests.server.conftest import SECRET, URL, Server
from tests.server.visitors import Person

Json = dict[str, Any]

BACK = "https://shop.example/2fa/back"
VERIFIER = "the-verifier-of-one-session-of-one-browser-0"
BINDING = "c2Vzc2lvbi0x"


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class Asker:
    """An application with a key of its own."""

    server: Server
    key: str

    @classmethod
    async def open(cls, server: Server, *scopes: str, return_to: tuple[str, ...] = (BACK,)) -> "Asker":
        return cls(server, await server.new_key(*(scopes or ("verify", "enroll")), return_to=return_to))

    @property
    def id(self) -> str:
        return self.key.split("_")[1]

    async def begin(self, account: str = "alice", *, headers: Any = None, **said: Any) -> httpx.Response:
        """The answer to a call for a prompt, which says something else than usual."""
        usual = {"return_to": BACK, "binding": BINDING, "code_challenge": challenge_of(VERIFIER), "state": "s1"}
        body = {"account": account, **usual, **said}
        given = {name: value for name, value in body.items() if value is not None}
        return await self.server.post("prompts", given, key=self.key, headers=headers)

    async def ask(self, account: str = "alice", **said: Any) -> str:
        """The link of a prompt."""
        begun = await self.begin(account, **said)
        assert begun.status_code == 201, begun.text
        return str(begun.json()["url"])

    async def redeem(self, code: str, *, headers: Any = None, **said: Any) -> httpx.Response:
        body = {"code": code, "code_verifier": VERIFIER, "binding": BINDING, **said}
        return await self.server.post("prompts/redeem", body, key=self.key, headers=headers)


class Answerer(Person):
    """Somebody at a browser, who has nothing here but a second factor, if that."""

    def __init__(self, server: Server, name: str = "alice", *, secret: str = SECRET, **more: str) -> None:
        super().__init__(server, name, secret=secret, **more)
        self.authenticator = LyingAuthenticator()

    @property
    def token(self) -> str:
        """What the cookie of the prompt holds."""
        return self.http.cookies.get("twofold-prompt", "")

    @property
    def back(self) -> str:
        """Where the page sends the browser by itself."""
        return self.page.headers.get("refresh", "").removeprefix("0;url=")

    @property
    def told(self) -> dict[str, str]:
        """What the application is told by that address."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.back).query).items()}

    async def answer(self, link: str) -> str:
        """Open the link, type a fresh code; the code that the application gets."""
        page = await self.open(link)
        assert page.path.endswith("/sign-in/code"), page
        await self.send(code=self.fresh_code())
        return self.told["code"]

    async def enroll(self, link: str) -> str:
        """Open the link, set up an app, keep the recovery codes; the code that the application gets."""
        await self.open(link)
        await self.send(press="factor=totp")
        self.secret = self.page.secret
        await self.send(code=self.code())
        assert len(self.page.recovery_codes) == 10
        await self.send(saved=True)
        return self.told["code"]

    async def show_passkey(self) -> Page:
        """Press the page's button for a passkey."""
        form = next(form for form in self.page.forms if form.element.all("div", class_="passkey"))
        place = form.element.only("div", class_="passkey")
        ceremony = self.authenticator.register if place["data-passkey"] == "create" else self.authenticator.answer
        credential = json.dumps(ceremony(json.loads(place["data-options"]), URL))
        return await self.post(form.action, form.filled({"credential": credential}, Element("button")))


async def asked(server: Server, **said: Any) -> tuple[Asker, Answerer, str]:
    """An application, alice with an app at her browser, and the link of a prompt for her."""
    await server.add()
    shop = await Asker.open(server)
    return shop, Answerer(server), await shop.ask(**said)
