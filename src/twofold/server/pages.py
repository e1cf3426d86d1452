"""The pages for people. So far each is one sentence and the commands that do the same in a terminal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

SIGN_IN = "Signing in here comes with the next release; until then codes are checked in a terminal or over the API."
SET_UP = "This link is good. Until the set-up pages come with the next release, set up Twofold in a terminal."
NO_SET_UP = "This set-up link is not good: it is incomplete, older than a day, or a newer one was made."

ACCOUNT_COMMANDS = ("twofold account add NAME", "twofold account enroll NAME", "twofold account verify NAME")
SET_UP_COMMANDS = (*ACCOUNT_COMMANDS, "twofold apikey create APPLICATION")
LINK_COMMANDS = ("twofold setup-link",)


def page_routes(is_setup_link: Callable[[str], Awaitable[bool]]) -> list[Route]:
    """The pages; `is_setup_link` tells whether a token is that of the newest set-up link."""

    async def show_setup(request: Request) -> Response:
        if not await is_setup_link(request.query_params.get("token", "")):
            return show(NO_SET_UP, LINK_COMMANDS, status=403)
        return show(SET_UP, SET_UP_COMMANDS)

    async def show_sign_in(_: Request) -> Response:
        return show(SIGN_IN, ACCOUNT_COMMANDS)

    async def redirect_home(_: Request) -> Response:
        return RedirectResponse("/sign-in", 303)

    return [Route("/", redirect_home), Route("/sign-in", show_sign_in), Route("/setup", show_setup)]


def show(sentence: str, commands: tuple[str, ...] = (), *, status: int = 200) -> Response:
    """A page of one sentence, and the commands to type."""
    lines = escape("\n".join(commands))
    typed = f"\n<pre><code>{lines}</code></pre>" if commands else ""
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Twofold</title>
</head>
<body>
<main>
<h1>Twofold</h1>
<p>{escape(sentence)}</p>{typed}
</main>
</body>
</html>
""",
        status,
    )
