"""Where to go after signing in: a page of ours, whatever somebody wrote into the link.

Browsers read more into an address than its first character tells: `//host`, `/\\host`, tabs and line ends that vanish.
So nothing is cleaned and nothing is resolved: only what is plainly a path of ours is taken.
"""

from __future__ import annotations

import re

from twofold.server.host import OUTSIDE

NEXT_MAX = 512
#: Where somebody can want to go by signing in; all else leads to the start page.
_AIMS = ("enroll", "security", "admin")
_SEGMENT = r"[A-Za-z0-9_.~@+-]+"
_OWN_PATH = re.compile(rf"/(?:{'|'.join(_AIMS)})(?:/{_SEGMENT})*(?:\?[A-Za-z0-9_.~%=&+-]*)?")
#: A path of the application around the pages. Only the last segment may be empty: two slashes lead to another host.
_OUTSIDE_PATH = re.compile(rf"{OUTSIDE}(?:/[A-Za-z0-9_.~@+%:,;=!$'()*-]+)*/?(?:\?[A-Za-z0-9_.~%=&+:,;@/!$'()*?-]*)?")


def read_next(value: str | None, *, is_inside: bool = False) -> str:
    """The path, or "" for anything else than a plain path of ours; where the pages are inside an application, also than
    one of its own."""
    if value is None or len(value) > NEXT_MAX:
        return ""
    if not (_OWN_PATH.fullmatch(value) or (is_inside and _OUTSIDE_PATH.fullmatch(value))):
        return ""
    is_climbing = any(part in (".", "..") for part in value.partition("?")[0].split("/"))
    return "" if is_climbing else value
