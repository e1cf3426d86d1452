"""People with passkeys at the pages of a server in this process: their authenticator is in software."""

import json
from typing import Any

from tests.lying_authenticator import LyingAuthenticator
from tests.pages import Element, Form, Page, Value
from tests.server.conftest import SECRET, URL, Server
from tests.server.visitors import ADMIN, Person, add_person

from twofold.core.attempt import PAGES
from twofold.core.decision import Confirmed
from twofold.engine import Caller
from twofold.factors.webauthn_json import RelyingParty

RP = RelyingParty("localhost", (URL,))


async def add_passkey(
    server: Server,
    name: str,
    authenticator: LyingAuthenticator,
    label: str = "Key",
    rp: RelyingParty = RP,
    *,
    application: str = PAGES,
) -> str:
    """A passkey of this authenticator for the account, and its id."""
    passkeys, caller = server.deployment.verifier.passkeys, Caller(application, is_admin=True)
    begun = await passkeys.enroll(name, rp, caller=caller)
    credential = authenticator.register(dict(begun.public_key), rp.origins[0])
    confirmed = await passkeys.confirm(name, begun.id, credential, rp, label=label, caller=caller)
    assert isinstance(confirmed, Confirmed)
    return confirmed.id


class Holder(Person):
    """Somebody with an authenticator at hand; `ids` are those of her passkeys, `recovery_codes` her ten."""

    def __init__(self, server: Server, name: str = "bo", *, secret: str = SECRET, **more: str) -> None:
        super().__init__(server, name, secret=secret, **more)
        self.authenticator = LyingAuthenticator()
        self.ids: list[str] = []
        self.recovery_codes: list[str] = []

    def passkey_form(self, page: Page | None = None) -> Form:
        """The form that asks for a passkey."""
        return next(form for form in (page or self.page).forms if form.element.all("div", class_="passkey"))

    def answer(self, page: Page | None = None, **said: Any) -> str:
        """What the authenticator gives to what the page asks."""
        place = self.passkey_form(page).element.only("div", class_="passkey")
        ceremony = self.authenticator.register if place["data-passkey"] == "create" else self.authenticator.answer
        return json.dumps(ceremony(json.loads(place["data-options"]), URL, **said))

    async def show_passkey(
        self, page: Page | None = None, *, says: dict[str, Any] | None = None, **fields: Value
    ) -> Page:
        """Press the page's button for a passkey, having filled the fields in."""
        form = self.passkey_form(page)
        credential = self.answer(page, **(says or {}))
        return await self.post(form.action, form.filled({**fields, "credential": credential}, Element("button")))

    async def refused(self, says: dict[str, Any]) -> str:
        """What comes back for an answer that is not taken, as it is: also in a language without the word "Error"."""
        form = self.passkey_form()
        pairs = form.filled({"credential": self.answer(**says)}, Element("button"))
        return (await self.http.post(form.action, data=dict(pairs), headers={"origin": URL})).text

    async def lose_app(self) -> None:
        """From now on there are only passkeys and recovery codes."""
        verifier = self.server.deployment.verifier
        view = await verifier.accounts.get(self.name)
        for app in (a.id for a in view.authenticators if a.factor == "totp"):
            await verifier.revoke(self.name, app, caller=ADMIN)


async def add_holder(server: Server, name: str = "bo", *, is_administrator: bool = False) -> Holder:
    """Somebody with a password, an app, recovery codes and one passkey, signed in with a code of the app."""
    holder = Holder(server, name)
    holder.recovery_codes = await add_person(server, name)
    if is_administrator:
        await server.deployment.administration.set_role(name, "administrator", caller=ADMIN)
    await holder.sign_in()
    holder.ids.append(await add_passkey(server, name, holder.authenticator))
    return holder
