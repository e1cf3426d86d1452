"""What somebody gets who copies the data folder without the key file: nothing that can be read or used."""

import base64
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.servers import Client, Clock, Server, running

PASSWORD = "violet harbour 1926"
DISPLAY_NAME = "Zdenka Hvězdová"
EMAIL = "zdenka.hvezdova@example.org"
PHONE_NUMBER = "+420601987654"
USER_AGENT = "Lighthouse/7.31"
CLOSED_S_MAX = 30


def folder_contents(server: Server) -> dict[str, bytes]:
    """Every byte of the data folder but those of the key file."""
    return {
        path.name: path.read_bytes()
        for path in server.data_dir.rglob("*")
        if path.is_file() and path != server.key_file
    }


def forms_of(secret: bytes) -> Iterator[bytes]:
    """A secret as it is, and in every spelling that would give it away."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield base64.b32encode(secret).rstrip(b"=")
    # Base64 of something longer shows its parts in one of three alignments.
    for padding in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * padding + secret).rstrip(b"=")[padding and 4 :][:-1]


def forms_of_text(text: str) -> Iterator[bytes]:
    for spelled in (text, text.lower(), text.upper(), text[::-1]):
        for encoding in ("utf-8", "utf-16-le"):
            yield from forms_of(spelled.encode(encoding))


def find_leaks(contents: dict[str, bytes], forms: Iterator[bytes]) -> list[tuple[str, bytes]]:
    wanted = [form for form in forms if len(form) >= 4]
    return [(name, form) for name, data in contents.items() for form in wanted if form in data]


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return server.create_key("verify", "enroll", "admin")


def test_the_data_folder_without_its_key_tells_no_secret_and_no_personal_data(
    server: Server, api: Client, key: str, clock: Clock
) -> None:
    phone, recovery_codes = api.enroll_phone("person-17", clock.now_s)
    api.add_account("person-17", display_name=DISPLAY_NAME, email=EMAIL, phone=PHONE_NUMBER)
    with server.command_process("account", "add", "person-17", "--password") as shell:
        shell.communicate(f"{PASSWORD}\n", timeout=30)
        assert shell.returncode == 0
    codes = [phone.code(clock.now_s)]
    clock.advance()
    codes.append(phone.code(clock.now_s))
    signed_in = api.verify("person-17", codes[-1], purpose="pay", context={"user_agent": USER_AGENT})
    assert api.verify("person-17", recovery_codes[0]).is_verified
    begun = api.call("POST", "/api/v1/accounts/person-17/authenticators", {"factor": "hotp"})
    assert begun.status == 201

    contents = folder_contents(server)
    # The search finds what is really there.
    assert find_leaks(contents, forms_of_text(USER_AGENT))
    assert {"twofold.db", "twofold.db-wal"} <= set(contents)

    for seed in (phone.secret, begun.body["hotp"]["secret"]):
        assert not find_leaks(contents, forms_of(base64.b32decode(seed)))
    for text in (key, key.split("_", 2)[2], PASSWORD, signed_in.body["browser"], signed_in.body["receipt"]):
        assert not find_leaks(contents, forms_of_text(text))
    for text in (DISPLAY_NAME, *DISPLAY_NAME.split(), EMAIL, EMAIL.partition("@")[0], PHONE_NUMBER, PHONE_NUMBER[1:]):
        assert not find_leaks(contents, forms_of_text(text))
    for code in recovery_codes:
        # The locator is kept in clear, the sixteen characters behind it are the secret.
        for spelled in (code, code.replace("-", ""), code[5:], code[5:].replace("-", "")):
            assert not find_leaks(contents, forms_of_text(spelled))
    for code in codes:
        # Six digits of their own: part of a longer number they would be chance.
        assert not [n for n, data in contents.items() if re.search(rb"(?<!\d)%b(?!\d)" % code.encode(), data)]


def test_a_deleted_account_leaves_none_of_its_bytes_behind(server: Server, api: Client, clock: Clock) -> None:
    phone, _ = api.enroll_phone("leaving", clock.now_s)
    api.add_account("leaving", email="leaving@example.org")
    clock.advance()
    assert api.verify("leaving", phone.code(clock.now_s), context={"user_agent": "Farewell/1.0"}).is_verified
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as database:
        (document,) = database.execute("SELECT document FROM accounts WHERE id = 'leaving'").fetchone()
    ciphertext = document[len(document) // 2 :][:32]
    traces = (b"Farewell/1.0", ciphertext)
    assert all(find_leaks(folder_contents(server), iter([trace])) for trace in traces)

    assert api.call("DELETE", "/api/v1/accounts/leaving").status == 204
    # The write-ahead log is emptied as soon as nobody writes for a second.
    deadline = time.monotonic() + CLOSED_S_MAX
    while find_leaks(folder_contents(server), iter(traces)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not find_leaks(folder_contents(server), iter(traces))
    assert api.call("GET", "/api/v1/accounts/leaving").status == 404


@pytest.mark.parametrize("setting", ["missing", "foreign"])
def test_a_server_does_not_start_without_the_key_of_its_database(tmp_path: Path, setting: str) -> None:
    with running(tmp_path / "data") as server:
        assert server.stop() == 0
        kept = server.key_file.read_bytes()
        with running(tmp_path / "other") as other:
            foreign = other.key_file.read_bytes()

        server.key_file.unlink()
        if setting == "foreign":
            server.key_file.write_bytes(foreign)
        refused = server.command("serve", "--port", "0")
        assert refused.returncode == 1
        assert (refused.stdout, refused.stderr.count("\n")) == ("", 1)
        assert str(server.key_file) in refused.stderr
        assert server.key_file.exists() == (setting == "foreign"), "no key is ever made over an existing database"

        server.key_file.write_bytes(kept)
        server.start()


@pytest.mark.parametrize("setting", ["missing", "foreign"])
def test_a_key_that_is_taken_away_while_serving_stops_every_sign_in_until_it_is_back(
    tmp_path: Path, setting: str
) -> None:
    clock = Clock(tmp_path / "clock")
    with (
        running(tmp_path / "data", test_clock=str(clock.path)) as server,
        server.client(server.create_key("verify", "enroll", "admin")) as client,
    ):
        phone = client.import_phone("keyless")
        assert client.call("GET", "/health/ready").status == 200
        assert client.verify("keyless", phone.code(clock.now_s)).is_verified
        clock.advance()

        kept = server.key_file.read_bytes()
        server.key_file.unlink()
        if setting == "foreign":
            server.key_file.write_bytes(kept[:-10] + b"AAAAAAAA=\n")
        assert client.call("GET", "/health/ready").status == 503
        assert client.call("GET", "/health/live").status == 200
        refused = client.verify("keyless", phone.code(clock.now_s))
        assert (refused.status, refused.body["code"]) == (503, "unavailable")
        assert client.call("POST", "/api/v1/accounts/keyless/authenticators", {"factor": "totp"}).status == 503

        server.key_file.write_bytes(kept)
        assert client.call("GET", "/health/ready").status == 200
        # What was refused unjudged is still good.
        assert client.verify("keyless", phone.code(clock.now_s)).is_verified
