"""One visitor for each level that a session can have, and the documented table of who reaches what."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.pages import Page
from tests.server.conftest import SECRET, Server
from tests.server.visitors import PASSWORD, Person, Visitor, add_person

from twofold.engine import Caller

DOCUMENT = Path(__file__).parents[2] / "docs" / "pages.md"
LEVELS = ("nobody", "pending", "enrolling", "full", "administrator")
#: What stands for the parts of a path that differ.
EXAMPLES = {"id": "au_nothing", "act": "reset", "name": "twofold.css", "link": "nothing"}


class Row(NamedTuple):
    """A documented address: how it is asked for, and by whom."""

    method: str
    path: str
    who: frozenset[str]

    @property
    def example(self) -> str:
        return re.sub(r"\{(\w+)\}", lambda part: EXAMPLES[part[1]], self.path)

    def is_reached_by(self, level: str) -> bool:
        """An administrator's session is a full one."""
        levels = {level, "full"} if level == "administrator" else {level}
        return bool(self.who & ({"anybody"} | levels))


def read_rows() -> list[Row]:
    """All rows of `docs/pages.md`."""
    found = re.findall(r"^\| `(GET|POST) (/\S*)` \| ([a-z, ]+) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return [Row(method, path, frozenset(who.split(", "))) for method, path, who in found]


ROWS = read_rows()


async def make_visitor(server: Server, level: str, name: str = "") -> Visitor:
    """Somebody who is just there, called after it."""
    if level == "nobody":
        return Visitor(server)
    accounts = server.deployment.verifier.accounts
    name = name or f"the-{level}"
    if level == "enrolling":
        await accounts.put(name)
        await accounts.set_password(name, PASSWORD)
    else:
        await add_person(server, name, SECRET)
    if level == "administrator":
        caller = Caller("test", is_admin=True)
        await server.deployment.administration.set_role(name, "administrator", caller=caller)
    person = Person(server, name)
    if level in ("pending", "enrolling"):
        await person.give_password()
    else:
        await person.sign_in()
    return person


async def csrf_of(visitor: Visitor) -> str:
    """The token of forms for this visitor's session."""
    page = await visitor.open("/sign-out" if visitor.token else "/sign-in")
    return token_on(page)


def token_on(page: Page) -> str:
    return page.forms[0].control("csrf")["value"]
