"""The script that asks for passkeys: small, hand-written, and on the pages that need it alone."""

import json
import re
from importlib.resources import files

from tests.server.conftest import Server
from tests.server.passkey_holders import add_holder
from tests.server.visitors import Visitor

BYTES_MAX = 4096
SCRIPT = (files("twofold.server") / "static" / "passkeys.js").read_text(encoding="utf-8")


def test_it_is_small_enough_to_be_read() -> None:
    assert len(SCRIPT.encode()) < BYTES_MAX
    assert max(map(len, SCRIPT.splitlines())) <= 120


def test_it_says_nothing_by_itself() -> None:
    """Words come from the page: in the script no string holds a space and a letter beside it but for selectors."""
    without_comments = re.sub(r"^\s*//.*$|\s//.*$", "", SCRIPT, flags=re.MULTILINE)
    for text in re.findall(r'"([^"\n]*)"', without_comments):
        assert " " not in text, text


def test_it_makes_no_markup_and_runs_no_text() -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bFunction\(|setTimeout", SCRIPT
    )


async def test_it_is_loaded_where_it_is_needed_and_nowhere_else(server: Server) -> None:
    bo = await add_holder(server)
    for path, is_needed in (("/enroll", True), ("/security/activity", False), ("/sign-in/help", False)):
        assert ("passkeys.js" in (await bo.open(path)).html) == is_needed, path
    assert "passkeys.js" in (await Visitor(server).open("/sign-in")).html


async def test_every_error_that_a_browser_gives_has_a_sentence(server: Server) -> None:
    page = await Visitor(server).open("/sign-in")
    texts = json.loads(page.root.only("div", class_="passkey")["data-texts"])
    for name in ("NotAllowedError", "AbortError", "InvalidStateError", "SecurityError", "NotSupportedError", "failed"):
        assert texts[name].endswith("."), name
    assert "{here}" in texts["SecurityError"]
    assert "{there}" in texts["SecurityError"]
