"""How every provider that asks a service over HTTPS takes what goes wrong. Each one's test file has a class that
inherits these and brings its fixtures: `provider` and `service`, the local server behind it."""

import pytest
from tests.keys.local_service import Plan, Service, half_an_answer, no_end, padding, saying, silence

from twofold.errors import KeyRefused, ProviderAway
from twofold.key_ports import KeyProvider
from twofold.keys import https_json

KEY = bytes(range(32))
BROKEN = [
    b"",
    b"<html>Please sign in to the guest network</html>",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b'{"data": 1, "kid": 1, "name": 1}',
    b'{"data": {"ciphertext": "vault:v1"}, "request_id": 7}',
    b"\xff\xfe",
    b"[" * 50_000,
]


class JsonServiceContract:
    """After each failure the next call is answered, so one that passes leaves nothing behind."""

    @pytest.mark.parametrize("status", [204, 301, 307, 408, 412, 425, 429, 472, 473, 500, 502, 503, 504, 599])
    async def test_what_may_pass_is_told_as_such(self, provider: KeyProvider, service: Service, status: int) -> None:
        wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
        elsewhere = {"Location": f"{service.origin}/elsewhere"}
        service.plan(*[saying(status, b"" if status == 204 else b"{}", **elsewhere)] * 2)
        with pytest.raises(ProviderAway, match=str(status)):
            await provider.wrap(KEY, key_id="data-1")
        with pytest.raises(ProviderAway, match=str(status)):
            await provider.unwrap(wrapped, key_id="data-1")
        assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
        assert not service.asked("elsewhere"), "a redirect is not followed"

    @pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 410, 421, 451])
    async def test_a_refusal_is_told_as_such(self, provider: KeyProvider, service: Service, status: int) -> None:
        wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
        service.plan(*[saying(status, b"{}")] * 2)
        with pytest.raises(KeyRefused, match=str(status)):
            await provider.wrap(KEY, key_id="data-1")
        with pytest.raises(KeyRefused, match=str(status)):
            await provider.unwrap(wrapped, key_id="data-1")
        assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_right_that_is_missing_is_named(self, provider: KeyProvider, service: Service, status: int) -> None:
        await provider.wrap(KEY, key_id="data-1")
        service.plan(*[saying(status, b"{}")] * 2)
        with pytest.raises(KeyRefused, match=f"{status}; this takes "):
            await provider.wrap(KEY, key_id="data-1")

    @pytest.mark.parametrize("body", BROKEN)
    async def test_what_no_such_service_says_is_no_answer(
        self, provider: KeyProvider, service: Service, body: bytes
    ) -> None:
        wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
        service.plan(*[saying(200, body)] * 2)
        with pytest.raises(ProviderAway, match="not one of such a service"):
            await provider.wrap(KEY, key_id="data-1")
        with pytest.raises(ProviderAway, match="not one of such a service"):
            await provider.unwrap(wrapped, key_id="data-1")
        assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY

    @pytest.mark.parametrize(
        ("plan", "said"),
        [(silence, "no answer in time"), (half_an_answer, "broke off"), (no_end, "not one of such a service")],
    )
    async def test_an_answer_that_is_late_or_half_or_without_end_is_not_waited_for(
        self, provider: KeyProvider, service: Service, monkeypatch: pytest.MonkeyPatch, plan: Plan, said: str
    ) -> None:
        monkeypatch.setattr(https_json, "READ_S", 0.3)
        service.plan(plan)
        with pytest.raises(ProviderAway, match=said):
            await provider.wrap(KEY, key_id="data-1")
        assert (await provider.wrap(KEY, key_id="data-1")).wrapped

    async def test_a_right_answer_counts_up_to_a_size_only(self, provider: KeyProvider, service: Service) -> None:
        service.plan(padding(60_000), padding(66_000))
        assert (await provider.wrap(KEY, key_id="data-1")).wrapped
        with pytest.raises(ProviderAway, match="not one of such a service"):
            await provider.wrap(KEY, key_id="data-1")

    async def test_nothing_of_a_refusal_is_repeated_but_known_words(
        self, provider: KeyProvider, service: Service
    ) -> None:
        await provider.wrap(KEY, key_id="data-1")
        sent = service.calls[-1]
        echo = " ".join((*sent.headers.values(), sent.body.decode(), "\n\x1b[2Jsecond line"))
        service.plan(saying(400, {"errors": [echo], "error": {"code": echo, "status": echo, "message": echo}}))
        with pytest.raises(KeyRefused) as refused:
            await provider.wrap(KEY, key_id="data-1")
        assert str(refused.value) == f"{provider.describe()}: it answered 400"

    async def test_a_proxy_of_the_environment_is_passed_by(
        self, provider: KeyProvider, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, service.origin)
        wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
        assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
        ours = [call.path for call in service.calls if service.unplanned not in call.path]
        assert ours
        assert not any(path.startswith("http") for path in ours)
