"""Probes and metrics: whether the server can work, what it counted, and that it names nobody."""

import re

from prometheus_client.parser import text_string_to_metric_families
from tests.server.conftest import Server, assert_problem


async def metrics(server: Server) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus reads them."""
    answer = await server.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        sample.name + "".join(f",{name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_a_server_that_works_is_live_and_ready(server: Server) -> None:
    assert (await server.get("/health/live")).json() == {"status": "live"}
    assert (await server.get("/health/ready")).json() == {"status": "ready"}


async def test_without_its_store_it_is_live_and_not_ready_and_lets_nobody_in(server: Server) -> None:
    await server.add()
    await server.deployment.store.close()
    assert (await server.get("/health/live")).status_code == 200
    problem = assert_problem(await server.get("/health/ready"), 503, "unavailable")
    assert problem["detail"] == "the store is closed"
    refused = await server.post("accounts/alice/verify", {"code": server.code()})
    assert_problem(refused, 503, "unavailable")
    assert refused.headers["retry-after"] == "1"
    assert_problem(await server.get("accounts/alice"), 503, "unavailable")


async def test_without_its_master_key_it_is_not_ready_and_lets_nobody_in_until_the_key_is_back(server: Server) -> None:
    await server.add()
    key_file = server.deployment.settings.key_file
    aside = key_file.rename(key_file.with_suffix(".aside"))
    problem = assert_problem(await server.get("/health/ready"), 503, "unavailable")
    # Anybody may ask, so where the keys are is for the log.
    assert problem["detail"] == "the key provider does not open the keys; the log says more"
    assert_problem(await server.post("accounts/alice/verify", {"code": server.code()}), 503, "unavailable")
    aside.rename(key_file)
    assert (await server.get("/health/ready")).status_code == 200
    assert (await server.post("accounts/alice/verify", {"code": server.code()})).json()["verified"] is True


async def test_a_page_that_cannot_be_shown_says_so(server: Server) -> None:
    await server.deployment.store.close()
    page = await server.get("/setup?token=x")
    assert (page.status_code, "Try again" in page.text) == (503, True)
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_everything_that_is_promised_is_counted(server: Server) -> None:
    await server.add()
    await server.post("accounts/alice/verify", {"code": server.code()})
    recovery_codes = (await server.post("accounts/alice/recovery-codes", {})).json()["recovery_codes"]
    await server.post("accounts/alice/verify", {"code": recovery_codes[0]})
    for _ in range(4):
        await server.post("accounts/alice/verify", {"code": "000000", "factor": "totp"})
    counted = await metrics(server)
    assert counted["twofold_verifications_total,factor=totp,outcome=verified"] == 1
    assert counted["twofold_verifications_total,factor=recovery_codes,outcome=verified"] == 1
    assert counted["twofold_verifications_total,factor=totp,outcome=wrong_code"] == 3
    assert counted["twofold_verifications_total,factor=totp,outcome=throttled"] == 1
    assert counted["twofold_enrollments_total"] == 1
    assert counted["twofold_throttled_total"] == 1
    assert counted["twofold_recoveries_total"] == 1
    assert counted["twofold_key_unwraps_total"] == 11
    assert counted["twofold_call_seconds_count,call=verify"] == 6
    assert counted["twofold_call_seconds_bucket,call=verify,le=+Inf"] == 6
    assert counted["twofold_call_seconds_sum,call=verify"] > 0


async def test_a_confirmed_enrollment_counts_and_a_pending_one_does_not(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    pending = (await server.post("accounts/alice/authenticators", {"factor": "totp"})).json()
    assert (await metrics(server))["twofold_enrollments_total"] == 0
    confirm = f"accounts/alice/authenticators/{pending['id']}/confirm"
    await server.post(confirm, {"code": server.code(pending["totp"]["secret"])})
    assert (await metrics(server))["twofold_enrollments_total"] == 1


async def test_counters_are_there_before_anything_happened(server: Server) -> None:
    counted = await metrics(server)
    assert counted["twofold_throttled_total"] == 0
    assert counted["twofold_clock_offset_seconds"] == 0


async def test_a_clock_that_was_moved_is_seen(server: Server) -> None:
    started = server.clock.now_s
    server.clock.monotonic = lambda: started  # type: ignore[method-assign]
    app_clock = server.deployment.clock
    assert app_clock is server.clock
    from twofold.server.app import create_app  # noqa: PLC0415 - a second one, whose stop watch stands still

    server.app = create_app(server.deployment, clock=lambda: started)
    server.clock.pass_s(-600)
    assert (await metrics(server))["twofold_clock_offset_seconds"] == -600


async def test_nobody_is_named_and_no_path_is_told(server: Server) -> None:
    await server.add("alice-in-metrics")
    await server.post("accounts/alice-in-metrics/verify", {"code": server.code()})
    await server.get("accounts/bob-in-metrics")
    await server.get("nothing/bob-in-metrics")
    text = (await server.get("/metrics")).text
    assert "in-metrics" not in text
    assert "au_" not in text
    assert server.key.split("_")[1] not in text
    assert re.search(r"^twofold_call_seconds_count\{call=\"none\"\} 1\.0$", text, re.MULTILINE)


async def test_no_get_shows_a_secret(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    pending = (await server.post("accounts/alice/authenticators", {"factor": "totp"})).json()
    secret = pending["totp"]["secret"]
    confirm = f"accounts/alice/authenticators/{pending['id']}/confirm"
    recovery_codes = (await server.post(confirm, {"code": server.code(secret)})).json()["recovery_codes"]
    await server.post("accounts/alice/authenticators", {"factor": "hotp"})
    paths = ["accounts", "accounts/alice", "/metrics", "/health/ready", "/openapi.json", "/.well-known/jwks.json", "/"]
    for path in paths:
        text = (await server.get(path)).text
        assert secret not in text
        assert "otpauth" not in text or path == "/openapi.json"
        assert not any(code in text for code in recovery_codes)
