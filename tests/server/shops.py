"""An application that uses passkeys over the API, and the people who hold them."""

from dataclasses import dataclass, field
from typing import Any

import httpx
from tests.lying_authenticator import LyingAuthenticator
from tests.server.conftest import URL, Server

Json = dict[str, Any]


@dataclass
class Shop:
    """An application with a key of its own. `origin` is where its pages are: by default Twofold's own address."""

    server: Server
    key: str
    origin: str = URL
    authenticators: dict[str, LyingAuthenticator] = field(default_factory=dict)

    @classmethod
    async def open(cls, server: Server, origin: str = "https://shop.example", **limits: Any) -> "Shop":
        """A shop with an origin, and so with passkeys, of its own."""
        return cls(server, await server.new_key("verify", "enroll", origins=[origin], **limits), origin)

    async def post(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return await self.server.post(path, json, key=self.key, **more)

    async def enroll(self, account_id: str = "alice", **more: Any) -> Json:
        """A pending passkey."""
        await self.server.call("PUT", f"accounts/{account_id}", {"display_name": account_id.title()})
        begun = await self.post(f"accounts/{account_id}/authenticators", {"factor": "webauthn", **more})
        assert begun.status_code == 201, begun.text
        pending: Json = begun.json()
        return pending

    def register(self, pending: Json, account_id: str = "alice", **said: Any) -> Json:
        """What the browser of this person makes of a pending passkey."""
        authenticator = self.authenticators.setdefault(account_id, LyingAuthenticator())
        return authenticator.register(pending["public_key"], said.pop("origin", self.origin), **said)

    async def confirm(
        self, pending: Json, credential: Json, account_id: str = "alice", *, headers: Any = None, **more: Any
    ) -> httpx.Response:
        path = f"accounts/{account_id}/authenticators/{pending['id']}/confirm"
        return await self.post(path, {"credential": credential, **more}, headers=headers)

    async def add(self, account_id: str = "alice", **more: Any) -> str:
        """A passkey from beginning to end; its id."""
        pending = await self.enroll(account_id, **more)
        confirmed = await self.confirm(pending, self.register(pending, account_id), account_id)
        assert confirmed.status_code == 200, confirmed.text
        return str(pending["id"])

    async def ask(self, account_id: str = "alice", **more: Any) -> Json:
        """A challenge."""
        opened = await self.post(f"accounts/{account_id}/challenges", {"factor": "webauthn", **more})
        assert opened.status_code == 201, opened.text
        challenge: Json = opened.json()
        return challenge

    def touch(self, challenge: Json, account_id: str = "alice", **said: Any) -> Json:
        """What the browser of this person gives in answer to a challenge."""
        options = challenge["prompt"]["public_key"]
        return self.authenticators[account_id].answer(options, said.pop("origin", self.origin), **said)

    async def send(self, challenge: Json, credential: Json, *, headers: Any = None, **more: Any) -> httpx.Response:
        body = {"challenge": challenge["id"], "credential": credential, **more}
        return await self.post("challenges/answer", body, headers=headers)

    async def answer(self, challenge: Json, credential: Json, **more: Any) -> Json:
        """How an answer was judged."""
        answered = await self.send(challenge, credential, **more)
        assert answered.status_code == 200, answered.text
        judged: Json = answered.json()
        return judged

    async def sign_in(self, account_id: str = "alice", **more: Any) -> Json:
        """From the challenge to the verdict."""
        challenge = await self.ask(account_id, **more)
        return await self.answer(challenge, self.touch(challenge, account_id), binding=more.get("binding"))
