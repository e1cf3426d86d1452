"""Test clients of frameworks, as far as the second step goes: Flask's, Django's, and Starlette's, which is httpx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

MISDIRECTED = 421


class Client(Protocol):
    """What sends requests to an application in the same process."""

    def post(self, *args: Any, **kwargs: Any) -> Any:
        """The answer to a POST."""
        ...


def ask(
    client: Client, path: str, body: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What comes back for this JSON; raises AssertionError for a refusal, with what is said there."""
    is_of_django = hasattr(client, "force_login")
    sent = {"data": body, "content_type": "application/json"} if is_of_django else {"json": body}
    answer = client.post(path, headers=headers, **sent)
    status: int = answer.status_code
    if status == MISDIRECTED:
        raise AssertionError(
            "the application was called by another name than localhost: with Starlette and FastAPI say"
            ' TestClient(app, base_url="http://localhost"), with Django Client(headers={"host": "localhost"})'
        )
    told: dict[str, Any] = answer.json() if callable(answer.json) else answer.json
    if status >= 400:
        raise AssertionError(f"POST {path}: {status} {told}")
    return told
