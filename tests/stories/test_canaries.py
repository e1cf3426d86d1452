"""Every secret and code of every flow is a canary: none may be found in logs, events or messages (ASVS 16.2.5)."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.servers import Client, Clock, Server, running

PASSWORD = "quiet marmalade 5802"
MOST_VERBOSE = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}


class Canaries:
    """The secrets seen so far."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self.codes: set[str] = set()

    def text(self, secret: str) -> str:
        self.texts.add(secret)
        return secret

    def code(self, code: str) -> str:
        self.codes.add(code)
        return code

    def found_in(self, written: str) -> list[str]:
        found = [text for text in self.texts if text in written]
        # A code as a number of its own; inside a longer one it would be chance.
        return found + [code for code in self.codes if re.search(rf"(?<!\d){code}(?!\d)", written)]


def sing(server: Server, client: Client, clock: Clock, canaries: Canaries) -> None:
    """Enroll, confirm, sign in, fail, recover, step up, redeem, replace, remove, test; rightly and wrongly."""
    path = "/api/v1/accounts/singer"
    phone, recovery_codes = client.enroll_phone("singer", clock.now_s)
    canaries.code(phone.code(clock.now_s))
    canaries.text(phone.secret)
    for recovery_code in recovery_codes:
        canaries.text(recovery_code)
        canaries.text(recovery_code.replace("-", ""))
    client.add_account("singer", display_name="Singer", email="singer@example.org", phone="+420601222333")

    assert client.verify("singer", phone.code(clock.now_s)).body["reason"] == "code_already_used"
    clock.advance()
    signed_in = client.verify("singer", canaries.code(phone.code(clock.now_s)), purpose="pay", binding="order 9")
    receipt, browser = canaries.text(signed_in.body["receipt"]), canaries.text(signed_in.body["browser"])
    redemption = {"receipt": receipt, "purpose": "pay", "binding": "order 9"}
    assert client.call("POST", "/api/v1/receipts/redeem", {**redemption, "binding": "order 8"}).status == 403
    assert client.call("POST", "/api/v1/receipts/redeem", redemption).status == 200
    assert client.call("POST", "/api/v1/receipts/redeem", redemption).status == 409
    recovered = client.verify("singer", recovery_codes[0], context={"browser": browser})
    assert recovered.is_verified
    canaries.text(recovered.body["browser"])
    wrong = canaries.text(recovery_codes[1][:-4] + ("0000" if recovery_codes[1][-1] != "0" else "1111"))
    assert client.verify("singer", wrong).body["reason"] == "wrong_code"

    for refused in ("731946", "8274016", "no code at all"):
        client.verify("singer", canaries.code(refused))
    key = canaries.text("idempotent-canary-1")
    clock.advance(90)
    right = {"code": canaries.code(phone.code(clock.now_s))}
    for _ in range(2):
        assert client.call("POST", f"{path}/verify", right, {"Idempotency-Key": key}).is_verified
    # Sent at the wrong place, as programs do.
    stray = canaries.text("KVKFKRCPNZQUYMLXOVYDSQKJKZDTSRLD")
    bodies = ({"code": {"value": stray}}, {"codes": [stray]}, {stray: stray}, stray, {"code": stray, "factor": stray})
    for body in bodies:
        assert client.call("POST", f"{path}/verify", body).status == 422
    for place in (f"api/v1/accounts/nobody/verify?code={stray}", f"api/v1/{stray}", stray, f"setup?token={stray}"):
        assert client.call("POST", f"/{place}", {"code": stray}).status >= 300
    with server.client(canaries.text("tf_abcdefgh_" + "Q7" * 21 + "Q")) as stranger:
        assert stranger.verify("singer", stray).status == 401

    clock.advance(90)
    manage = client.verify("singer", canaries.code(phone.code(clock.now_s)), purpose="manage").body["receipt"]
    canaries.text(manage)
    body = {"factor": "totp", "replaces": phone.id, "step_up": manage}
    begun = client.call("POST", f"{path}/authenticators", body)
    assert begun.status == 201
    canaries.text(begun.body["totp"]["secret"])
    confirmation = f"{path}/authenticators/{begun.body['id']}/confirm"
    assert client.call("POST", confirmation, {"code": canaries.code("111222")}).status == 422
    assert client.call("DELETE", f"{path}/authenticators/{begun.body['id']}").status == 204
    renewed = client.call("POST", f"{path}/recovery-codes", {})
    assert renewed.status == 201
    for recovery_code in renewed.body["recovery_codes"]:
        canaries.text(recovery_code)

    imported = client.import_phone("imported", factor="hotp")
    canaries.text(imported.secret)
    assert client.verify("imported", canaries.code(imported.next_code(0))).is_verified
    with server.command_process("account", "add", "imported", "--password") as shell:
        shell.communicate(canaries.text(PASSWORD) + "\n", timeout=30)
        assert shell.returncode == 0
    with server.command_process("account", "test", "imported") as shell:
        shell.communicate(canaries.code(imported.code(0)) + "\n", timeout=30)
        assert shell.returncode in (0, 1)
    for event in ("password_changed", "compromised", "disabled", "enabled"):
        assert client.call("POST", f"{path}/events", {"type": event}).status == 204


def break_things(server: Server, client: Client) -> None:
    """What is worth an error in the log: a document that was changed."""
    with closing(sqlite3.connect(server.database, timeout=10)) as database, database:
        database.execute("UPDATE accounts SET version = version + 1 WHERE id = 'imported'")
    assert client.verify("imported", "000000").status == 503


def test_no_secret_of_any_flow_is_found_in_logs_events_or_messages(tmp_path: Path) -> None:
    clock, canaries = Clock(tmp_path / "clock"), Canaries()
    with running(tmp_path / "data", surroundings=MOST_VERBOSE, test_clock=str(clock.path), log_format="json") as server:
        key = canaries.text(server.create_key("verify", "enroll", "admin"))
        canaries.text(key.rpartition("_")[2])
        with server.client(key) as client:
            sing(server, client, clock, canaries)
            break_things(server, client)
            metrics = client.call("GET", "/metrics").body
        assert server.stop() == 0

        log = server.log.read_text()
        with closing(sqlite3.connect(server.database)) as database:
            stored = database.execute("SELECT kind, CAST(payload AS TEXT) FROM events").fetchall()
            stored += database.execute("SELECT kind, CAST(payload AS TEXT) FROM outbox").fetchall()
        written = [log, metrics, json.dumps(stored)]

    # There is something to find them in.
    assert "ALARM" in log
    assert "notice recovery_code.used" in log
    assert {kind for kind, _ in stored} >= {"code.refused", "code.accepted", "receipt.redeemed", "code.tested"}
    assert len(canaries.texts) > 30
    assert [canaries.found_in(text) for text in written] == [[], [], []]
    # Standard output has the greeting and the set-up link, which is meant to be read there, and nothing else.
    greeting, link, rest = server.said.decode().split("\n", 2)
    assert (greeting, rest) == (f"listening on http://localhost:{server.port}", "")
    token = link.partition("token=")[2]
    assert token
    assert token not in "".join(written)
