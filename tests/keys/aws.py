"""AWS on this machine: moto's own server as a process, clients of it, and credentials where programs look for them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import boto3.session
import pytest

from twofold.clocks import SystemEntropy
from twofold.keys.aws_kms import AwsKmsProvider
from twofold.keys.uri import read_uri

REGION = "eu-central-1"
# It ends when its standard input does: with the test run, however that ends.
_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


class Credentials(NamedTuple):
    """What signs a request. moto takes any, until it is told to enforce."""

    access_key: str = "AKIAIOSFODNN7EXAMPLE"
    secret_key: str = "wJalrXUtnFEMI-secret-EXAMPLEKEY"
    token: str | None = None


ANYBODY = Credentials()


@contextmanager
def running_moto() -> Iterator[str]:
    """The address of a fresh moto."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.communicate(timeout=30)


def client(endpoint: str, service: str, credentials: Credentials = ANYBODY) -> Any:
    """A client of boto3's own, for what the provider under test does not do."""
    access_key, secret_key, token = credentials
    session = boto3.session.Session(access_key, secret_key, token, region_name=REGION)
    return session.client(service, endpoint_url=endpoint)


def use_credentials(monkeypatch: pytest.MonkeyPatch, folder: Path, profiles: Mapping[str, Credentials]) -> None:
    """Let AWS programs find these profiles in `folder`, and nothing of this machine's."""
    lines = []
    for name, (access_key, secret_key, token) in profiles.items():
        lines += [f"[{name}]", f"aws_access_key_id = {access_key}", f"aws_secret_access_key = {secret_key}"]
        lines += [f"aws_session_token = {token}"] if token else []
    (folder / "credentials").write_text("\n".join(lines))
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def open_provider(place: str, **options: str) -> AwsKmsProvider:
    """The provider at an address as an administrator writes it; `region` is there unless it is given as nothing."""
    options = {name: text for name, text in ({"region": REGION} | options).items() if text}
    query = "&".join(f"{name}={quote(text, safe='')}" for name, text in options.items())
    return AwsKmsProvider.open(read_uri(f"aws-kms:{place}?{query}"), SystemEntropy(), {})
