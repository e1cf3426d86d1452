"""The application around the pages, where they are not alone: what its addresses are, and which ones are ours.

Inside the pages a path of the application is written with `/-` before it: `/-/orders` is its `/orders`, while
`/security` is ours, wherever the pages are mounted. One place turns the one into the other: here.
"""

from __future__ import annotations

import re

import msgspec

OUTSIDE = "/-"

#: Only our own templates write these, and they escape what they fill in: a quote ends the attribute and nothing else.
_ADDRESS = re.compile(r'(?<=\s)(href|action|src)="(/[^"]*)"')


class Host(msgspec.Struct, frozen=True):
    """The application: `root` is where all of it is, `prefix` where the pages are in it, without a slash at the end;
    `login_url` is where people sign in, and `sign_out_url` where they sign out, if a link does that."""

    root: str
    prefix: str
    login_url: str
    sign_out_url: str | None = None

    def at(self, path: str) -> str:
        """The address of a path as the pages write it."""
        if path == OUTSIDE or path.startswith(OUTSIDE + "/"):
            return self.root + (path.removeprefix(OUTSIDE) or "/")
        return self.root + self.prefix + path

    def place(self, html: str) -> str:
        """The page with its addresses as browsers know them."""
        return _ADDRESS.sub(lambda found: f'{found[1]}="{self.at(found[2])}"', html)


def outside(path: str) -> str:
    """A path of the application, as the pages write it."""
    return OUTSIDE + path
