"""Copies of one assertion at once, over real HTTP: one of them wins, and the others change nothing."""

from collections import Counter
from pathlib import Path

from tests.servers import Client, running
from tests.stories.racers import Racers

from twofold.testing import SoftwareAuthenticator

ORIGIN = "https://shop.example"
ROUNDS = 10


def test_of_twenty_copies_of_one_assertion_one_is_verified(tmp_path: Path) -> None:
    authenticator = SoftwareAuthenticator()
    with running(tmp_path / "data") as server:
        key = server.command("apikey", "create", "shop", "--origin", ORIGIN).stdout.strip()
        with server.client(key) as api:
            _add_passkey(api, authenticator)
            racers = Racers(server, api, connections=10)
            for _ in range(ROUNDS):
                opened = api.call("POST", "/api/v1/accounts/alice/challenges", {"factor": "webauthn"})
                assert opened.status == 201, opened
                assertion = authenticator.answer(opened.body["prompt"]["public_key"], ORIGIN)
                answers = racers.post(
                    "/api/v1/challenges/answer", {"challenge": opened.body["id"], "credential": assertion}
                )
                ends = Counter((a.status, a.body.get("reason") or a.body.get("code")) for a in answers)
                assert len(answers) == 20
                assert ends.pop((200, None)) == 1
                # Of many for one account at once, those that would wait too long are turned away unjudged.
                assert set(ends) <= {(200, "challenge_used"), (429, "throttled")}
            racers.close()


def _add_passkey(api: Client, authenticator: SoftwareAuthenticator) -> None:
    api.add_account("alice")
    path = "/api/v1/accounts/alice/authenticators"
    begun = api.call("POST", path, {"factor": "webauthn"})
    assert begun.status == 201, begun
    made = authenticator.register(begun.body["public_key"], ORIGIN)
    assert api.call("POST", f"{path}/{begun.body['id']}/confirm", {"credential": made}).status == 200
