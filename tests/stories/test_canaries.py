"""Every secret of every flow is a canary: none is found in logs, messages, metrics, error pages or files (ASVS 16.2.5).

The memory of the process is out of reach: what is searched is all that leaves it.
"""

import base64
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from tests.forms import FormVisitor
from tests.people import Person
from tests.servers import Answer, Client, Clock, Phone, Server, running
from tests.stories.test_thief import folder_contents, forms_of

from twofold.crypto.seal import read_own_key
from twofold.keys.local import unwrap_locally
from twofold.keys.protected import open_protected

PASSWORD = "quiet marmalade 5802"
WRONG_PASSWORD = "quiet marmalade 5803"
PASSPHRASE = "nine cormorants under the pier"
BACKUP_PASSPHRASE = "eleven herons on the mill pond"
MOST_VERBOSE = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}


class Canaries:
    """The secrets seen so far: texts, bytes, and codes of a few digits."""

    def __init__(self) -> None:
        self.secrets: set[bytes] = set()
        self.codes: set[str] = set()

    def text(self, secret: str) -> str:
        self.secrets.add(secret.encode())
        return secret

    def seed(self, secret: str) -> None:
        """A seed as people type it."""
        self.text(secret)
        self.key(base64.b32decode(secret))

    def recovery_code(self, code: str) -> None:
        """Its locator is kept in clear; the secret is what stands behind."""
        for spelled in (code[5:], code[5:].replace("-", ""), code[5:].lower()):
            self.text(spelled)

    def key(self, secret: bytes) -> None:
        self.secrets.add(secret)

    def code(self, code: str) -> str:
        self.codes.add(code)
        return code

    def found_in(self, contents: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
        """Where which of them is, in any of its spellings."""
        forms = [form for secret in self.secrets for form in forms_of(secret)]
        found = [(name, form) for name, data in contents.items() for form in forms if form in data]
        # A code as a number of its own; inside a longer one it would be chance.
        codes = re.compile(rb"(?<![0-9])(?:%b)(?![0-9])" % "|".join(sorted(self.codes)).encode())
        return found + [(name, code) for name, data in contents.items() for code in codes.findall(data)]


class Listener(Client):
    """A client that keeps what it is told when something goes wrong."""

    def __init__(self, port: int, key: str) -> None:
        super().__init__(port, key)
        self.problems: list[str] = []

    def call(self, *arguments: object, **more: object) -> Answer:
        answer = super().call(*arguments, **more)  # type: ignore[arg-type]
        if answer.status >= 400:
            self.problems.append(str(answer.body))
        return answer


def sing(server: Server, client: Listener, clock: Clock, canaries: Canaries) -> Phone:
    """Enroll, confirm, sign in, fail, recover, step up, redeem, replace, remove, test; rightly and wrongly."""
    path = "/api/v1/accounts/singer"
    phone, recovery_codes = client.enroll_phone("singer", clock.now_s)
    canaries.code(phone.code(clock.now_s))
    canaries.seed(phone.secret)
    for recovery_code in recovery_codes:
        canaries.recovery_code(recovery_code)
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
    wrong = recovery_codes[1][:-4] + ("0000" if recovery_codes[1][-1] != "0" else "1111")
    canaries.recovery_code(wrong)
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
    bodies = ({"code": {"value": stray}}, {"codes": [stray]}, stray, {"code": stray, "factor": stray})
    for body in bodies:
        assert client.call("POST", f"{path}/verify", body).status == 422
    # A field that nobody knows is named to whoever sent it, and nowhere else.
    assert client.call("POST", f"{path}/verify", {stray: stray}).status == 422
    assert stray in client.problems.pop()
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
    canaries.seed(begun.body["totp"]["secret"])
    confirmation = f"{path}/authenticators/{begun.body['id']}/confirm"
    assert client.call("POST", confirmation, {"code": canaries.code("111222")}).status == 422
    assert client.call("DELETE", f"{path}/authenticators/{begun.body['id']}").status == 204
    renewed = client.call("POST", f"{path}/recovery-codes", {})
    assert renewed.status == 201
    for recovery_code in renewed.body["recovery_codes"]:
        canaries.recovery_code(recovery_code)

    imported = client.import_phone("imported", factor="hotp")
    canaries.seed(imported.secret)
    assert client.verify("imported", canaries.code(imported.next_code(0))).is_verified
    for name in ("imported", "singer"):
        with server.command_process("account", "add", name, "--password") as shell:
            shell.communicate(canaries.text(PASSWORD) + "\n", timeout=30)
            assert shell.returncode == 0
    with server.command_process("account", "test", "imported") as shell:
        shell.communicate(canaries.code(imported.code(0)) + "\n", timeout=30)
        assert shell.returncode in (0, 1)
    canaries.seed(client.import_phone("reset-one").secret)
    for event in ("password_changed", "compromised", "disabled", "enabled"):
        assert client.call("POST", f"{path}/events", {"type": event}).status == 204
    return phone


def browse(server: Server, phone: Phone, clock: Clock, canaries: Canaries) -> list[str]:
    """Sign in on the pages, wrongly and rightly; the pages that told of something wrong."""
    with closing(FormVisitor(f"http://localhost:{server.port}")) as visitor:
        person = Person("singer", visitor, clock, PASSWORD, phone)
        person.give_password(canaries.text(WRONG_PASSWORD))
        assert person.give_password().path == "/sign-in/code"
        assert person.give_code(canaries.code(person.wrong_code())).path == "/sign-in/code"
        assert person.give_code(canaries.code(person.fresh_code())).path == "/security"
        for value in visitor.cookies.values():
            canaries.text(value)
        visitor.open(f"/no-such-page?code={phone.code(clock.now_s)}", expect=(404,))
        return [page.html for page in visitor.history if page.status >= 400]


def administer(server: Server, folder: Path, canaries: Canaries) -> list[str]:
    """What operators do about keys; what the commands say."""
    said = []
    for command in (
        "keys rotate --data",
        "keys rotate",
        "keys status --all",
        "keys status --all --json",
        "keys check",
        "keys trace --json",
        "account list --json",
        "account show singer --json",
        "audit verify --json",
        "apikey list",
        "doctor",
    ):
        ended = server.command(*command.split())
        said += [ended.stdout, ended.stderr]
    # It prints a link, which is meant to be read there; all the rest of what is written may not hold it.
    reset = server.command("account", "reset", "reset-one")
    (link,) = re.findall(r"token=(\S+)", reset.stdout)
    canaries.text(link)
    passphrase_file = folder / "backup.passphrase"
    passphrase_file.write_text(canaries.text(BACKUP_PASSPHRASE))
    backup = ("backup", str(folder / "data.backup"), "--passphrase-file", str(passphrase_file))
    ended = server.command(*backup)
    assert ended.returncode == 0, ended.stderr
    passphrase_file.unlink()
    return [*said, ended.stdout, ended.stderr]


def find_keys(server: Server, canaries: Canaries) -> int:
    """Every key of the deployment, opened with the master key as its provider does; how many were those of seeds."""
    line = server.key_file.read_text().strip()
    master_key = open_protected(line, canaries.text(PASSPHRASE))
    assert master_key is not None
    canaries.key(master_key)
    canaries.text(line.rpartition(" ")[2])
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as database:
        wrapped = database.execute("SELECT id, wrapped FROM keyring WHERE purpose != 'master' AND wrapped != ''")
        for key_id, value in wrapped.fetchall():
            canaries.key(unwrap_locally(master_key, value, key_id=key_id))
        own = [key for (document,) in database.execute("SELECT document FROM accounts") for key in _own_keys(document)]
    for key_id, value in own:
        canaries.key(unwrap_locally(master_key, value, key_id=key_id))
    return len(own)


def _own_keys(document: bytes) -> Iterator[tuple[str, bytes]]:
    """The wrapped keys of the seeds in a stored account, found by how a sealed value begins."""
    for match in re.finditer(rb"\x01\x02\x15seed-", document):
        own = read_own_key(document[match.start() :])
        assert own is not None
        yield own.key_id, own.wrapped


def break_things(server: Server, client: Client) -> None:
    """What is worth an error in the log: a document that was changed."""
    with closing(sqlite3.connect(server.database, timeout=10)) as database, database:
        database.execute("UPDATE accounts SET version = version + 1 WHERE id = 'imported'")
    assert client.verify("imported", "000000").status == 503


@pytest.mark.parametrize(("log_format", "data_keys"), [("json", "shared"), ("text", "per-seed")])
def test_no_secret_of_any_flow_is_found_in_anything_that_is_written(
    tmp_path: Path, log_format: str, data_keys: str
) -> None:
    clock, canaries = Clock(tmp_path / "clock"), Canaries()
    settings = {"test_clock": str(clock.path), "log_format": log_format, "data_keys": data_keys}
    settings["key_passphrase"] = PASSPHRASE
    with running(tmp_path / "data", surroundings=MOST_VERBOSE, **settings) as server:
        key = canaries.text(server.create_key("verify", "enroll", "admin"))
        canaries.text(key.split("_", 2)[2])
        with Listener(server.port, key) as client:
            phone = sing(server, client, clock, canaries)
            pages = browse(server, phone, clock, canaries)
            said = administer(server, tmp_path, canaries)
            break_things(server, client)
            metrics = client.call("GET", "/metrics").body
        # With the write-ahead log, which is gone once the server has ended.
        contents = folder_contents(server)
        assert server.stop() == 0
        seeds = find_keys(server, canaries)
        contents |= {f"{name} at the end": data for name, data in folder_contents(server).items()}
        contents["backup"] = (tmp_path / "data.backup").read_bytes()
        log = server.log.read_text()
        written = {"log": log, "metrics": metrics, "problems": str(client.problems), "pages": str(pages)}
        contents |= {name: text.encode() for name, text in (written | {"commands": str(said)}).items()}
        with closing(sqlite3.connect(server.database)) as database:
            kinds = {kind for (kind,) in database.execute("SELECT kind FROM events")}

    # There is something to find them in, and it would be found.
    assert "ALARM" in log
    assert "notice recovery_code.used" in log
    assert "twofold.db-wal" in contents
    assert kinds >= {"code.refused", "code.accepted", "receipt.redeemed", "code.tested", "key.rotated", "key.unwrapped"}
    assert len(canaries.secrets) > 60
    assert (seeds > 0) == (data_keys == "per-seed")
    seed = base64.b32decode(phone.secret)
    planted = {"hex": seed.hex().encode(), "base64": base64.b64encode(b"+" + seed), "code": b"code=731946;"}
    assert {name for name, _ in canaries.found_in(planted)} == set(planted)

    assert canaries.found_in(contents) == []
    # Standard output has the greeting and the set-up link, which is meant to be read there, and nothing else.
    greeting, link, rest = server.said.decode().split("\n", 2)
    assert (greeting, rest) == (f"listening on http://localhost:{server.port}", "")
    token = link.partition("token=")[2]
    assert token
    assert not [name for name, data in contents.items() if token.encode() in data]
