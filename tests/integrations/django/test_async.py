"""The same gate under ASGI, before views of both kinds."""

from __future__ import annotations

import asyncio

import httpx
from django.core.handlers.asgi import ASGIHandler
from tests.integrations.django.acme import views
from tests.integrations.django.conftest import PREFIX, URL, Site

HTML = {"accept": "text/html", "origin": URL}


async def test_no_view_opens_with_the_first_factor_alone_and_each_opens_with_both(site: Site) -> None:
    await asyncio.to_thread(site.add)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(ASGIHandler()), base_url=URL, headers=HTML) as http:
        assert (await http.get("/async")).text == "async home"
        await http.get("/magic/alice")
        for path in ("/async", "/account", "/async/act", "/async/whole", "/part"):
            answer = await http.get(path)
            assert answer.headers["location"].startswith(f"{PREFIX}/sign-in/code?"), path
        code = await asyncio.to_thread(site.next_code)
        program = {"accept": "application/json"}
        assert (await http.post(f"{PREFIX}/verify", json={"code": code}, headers=program)).json()["verified"] is True
        assert (await http.get("/async")).text == "async home"
        assert "account of alice" in (await http.get("/account")).text
        for path in ("/async/act", "/async/whole"):
            assert (await http.get(path)).headers["location"].startswith(f"{PREFIX}/fresh?")
            proof = {"code": await asyncio.to_thread(site.next_code), "act": path}
            assert (await http.post(f"{PREFIX}/verify", json=proof, headers=program)).status_code == 200
            assert "<form" in (await http.get(path)).text
            form = {"amount": "7", "csrfmiddlewaretoken": http.cookies["csrftoken"]}
            assert (await http.post(path, data=form)).text == f"done {path}"
            assert (await http.post(path, data=form)).status_code == 403
    assert views.DONE == ["async 7", "async whole 7"]
