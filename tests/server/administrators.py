"""An administrator at the pages of a server in this process, and others on whom she acts."""

import base64
import hashlib

from tests.pages import Page
from tests.server.conftest import Server
from tests.server.visitors import ADMIN, Person, add_person


def secret_of(name: str) -> str:
    """The secret of somebody's phone, in Base32."""
    return base64.b32encode(hashlib.sha256(name.encode()).digest()[:20]).decode()


async def add_somebody(server: Server, name: str = "bo") -> Person:
    """Somebody with a password, an app and recovery codes, at a browser of her own and not signed in."""
    await add_person(server, name, secret_of(name))
    return Person(server, name, secret=secret_of(name))


async def add_administrator(server: Server, name: str = "ada") -> Person:
    """The same as an administrator who is signed in."""
    ada = await add_somebody(server, name)
    await server.deployment.administration.set_role(name, "administrator", caller=ADMIN)
    await ada.sign_in()
    return ada


async def act_on(ada: Person, name: str, act: str, *, code: str | None = None, **fields: str) -> Page:
    """Open the page of the act and send its form, with a fresh code unless told."""
    path = f"/admin/people/{name}/{act}"
    await ada.open(path)
    return await ada.send(to=path, code=ada.fresh_code() if code is None else code, **fields)
