"""The server's own certificate: what can be served, what is refused and why, and that new files are followed."""

import ssl
from pathlib import Path

import pytest
from tests.certificates import NOW, Files, make_certificate

from twofold.certificate import Certificate, ServedCertificate, read_certificate
from twofold.errors import ConfigurationError


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_certificate(tmp_path, "login.example.com")


def another(tmp_path: Path, *names: str, is_rsa: bool = False) -> Files:
    (tmp_path / "another").mkdir(exist_ok=True)
    return make_certificate(tmp_path / "another", *(names or ("other.example.com",)), is_rsa=is_rsa)


def refusal(cert_file: Path, key_file: Path | None) -> str:
    with pytest.raises(ConfigurationError) as refused:
        ServedCertificate(cert_file, key_file)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_certificate_and_key_in_two_files_or_in_one_can_be_served(files: Files, tmp_path: Path) -> None:
    assert read_certificate(*files).names == ("login.example.com",)
    for order in ((files.cert, files.key), (files.key, files.cert)):
        both = tmp_path / "both.pem"
        both.write_bytes(b"".join(file.read_bytes() for file in order))
        assert ServedCertificate(both, None).context


def test_files_that_are_not_there_or_of_something_else_are_named(files: Files, tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    text = tmp_path / "text"
    text.write_text("no certificate")
    assert refusal(gone, files.key) == f"TLS_CERT {gone}: cannot be read (No such file or directory)"
    assert refusal(files.cert, gone) == f"TLS_KEY {gone}: cannot be read (No such file or directory)"
    assert refusal(tmp_path, files.key) == f"TLS_CERT {tmp_path}: cannot be read (Is a directory)"
    assert refusal(text, files.key).startswith(f"TLS_CERT {text}: holds no certificate")
    assert refusal(files.key, files.key).startswith(f"TLS_CERT {files.key}: holds no certificate")
    assert refusal(files.cert, text) == f"TLS_KEY {text}: holds no private key (PEM)"
    assert refusal(files.cert, files.cert) == f"TLS_KEY {files.cert}: holds no private key (PEM)"
    assert refusal(files.cert, None) == f"TLS_CERT {files.cert}: holds no private key (PEM); set TLS_KEY"


def test_a_damaged_certificate_or_key_is_named(files: Files) -> None:
    good = files.cert.read_text()
    files.cert.write_text(good.replace("MI", "MA", 1))
    assert refusal(*files).startswith(f"TLS_CERT {files.cert}: holds no certificate that can be read")
    files.cert.write_text(good)
    files.key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert refusal(*files) == f"TLS_KEY {files.key}: holds no private key that can be read"


def test_a_key_of_another_certificate_is_refused(files: Files, tmp_path: Path) -> None:
    for is_rsa in (False, True):
        other = another(tmp_path, is_rsa=is_rsa)
        assert refusal(files.cert, other.key).endswith(f"this key is not that of the certificate {files.cert}")


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    files = make_certificate(tmp_path, "login.example.com", passphrase=b"secret")
    assert refusal(*files).startswith(f"TLS_KEY {files.key}: the key has a passphrase")


def test_a_key_too_short_for_tls_is_refused_before_anybody_connects(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ssl.SSLError(1, "ee key too small")

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", refuse)
    assert refusal(*files) == f"TLS_CERT {files.cert}: cannot be served (ee key too small)"


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        (["login.example.com"], "login.example.com", True),
        (["LOGIN.example.com"], "login.EXAMPLE.com", True),
        (["a.example.com", "login.example.com"], "login.example.com", True),
        (["*.example.com"], "login.example.com", True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "a.login.example.com", False),
        (["*.com"], "example.org", False),
        (["login.example.com"], "example.com", False),
        (["192.168.1.5"], "192.168.1.5", True),
        (["2001:db8::1"], "2001:db8::1", True),
        (["192.168.1.5"], "192.168.1.6", False),
        ([], "login.example.com", False),
    ],
)
def test_names_fit_as_browsers_see_it(tmp_path: Path, names: list[str], host: str, expected: bool) -> None:
    assert read_certificate(*make_certificate(tmp_path, *names)).fits(host) == expected


def test_the_day_it_ends_is_told(tmp_path: Path) -> None:
    expires_at = read_certificate(*make_certificate(tmp_path, "a.example.com", days=7)).expires_at
    assert (expires_at - NOW).days == 7


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "login.example.com") -> ssl.SSLObject:
    """The client's end of a connection, made without a network; raises `ssl.SSLError`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    return ends[0]


def is_served(served: ServedCertificate, files: Files, name: str) -> bool:
    try:
        shake_hands(served.context, files.trusting(), name)
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_a_new_certificate_goes_to_new_connections_also_one_of_another_kind_of_key(
    files: Files, tmp_path: Path
) -> None:
    served = ServedCertificate(*files)
    old = Files(tmp_path / "old.pem", tmp_path / "old.key")
    old.cert.write_bytes(files.cert.read_bytes())
    assert is_served(served, old, "login.example.com")
    for is_rsa in (True, False):
        new = another(tmp_path, "login.example.com", is_rsa=is_rsa)
        new.key.replace(files.key)
        new.cert.replace(files.cert)
        assert not is_served(served, files, "login.example.com"), "nobody has looked yet"
        served.check()
        assert is_served(served, files, "login.example.com")
        assert not is_served(served, old, "login.example.com")


def test_new_files_that_cannot_be_served_leave_the_old_certificate_and_one_line(
    files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = ServedCertificate(*files)
    old = Files(tmp_path / "old.pem", tmp_path / "old.key")
    old.cert.write_bytes(files.cert.read_bytes())
    new = another(tmp_path, "login.example.com")
    new.cert.replace(files.cert)
    for _ in range(3):
        served.check()
        assert is_served(served, old, "login.example.com")
    assert caplog.text.count("the new certificate is not served") == 1
    assert caplog.text.count("\n") == 1
    files.key.unlink()
    served.check()
    assert is_served(served, old, "login.example.com")
    new.key.replace(files.key)
    served.check()
    assert is_served(served, files, "login.example.com")


def test_files_that_did_not_change_are_not_read_again(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    served = ServedCertificate(*files)
    monkeypatch.setattr("twofold.certificate.read_certificate", lambda *_: pytest.fail("read again"))
    served.check()


def test_asvs_12_connections_older_than_tls_1_2_are_refused(files: Files) -> None:
    served = ServedCertificate(*files)
    for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        client = files.trusting()
        client.minimum_version = client.maximum_version = version
        connection = shake_hands(served.context, client)
        assert connection.version() == name
        assert connection.selected_alpn_protocol() is None
    assert served.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_asvs_12_every_cipher_is_forward_secret_and_authenticated(files: Files) -> None:
    ciphers = [cipher["name"] for cipher in ServedCertificate(*files).context.get_ciphers()]
    assert ciphers
    for cipher in ciphers:
        assert cipher.startswith(("TLS_", "ECDHE-"))
        assert any(mode in cipher for mode in ("GCM", "POLY1305", "CCM"))


def test_a_client_that_names_no_host_gets_the_newest_certificate_too(files: Files, tmp_path: Path) -> None:
    served = ServedCertificate(*files)
    new = another(tmp_path, "192.168.1.5")
    new.key.replace(files.key)
    new.cert.replace(files.cert)
    served.check()
    # An address is never sent as the name.
    assert is_served(served, files, "192.168.1.5")


def test_a_certificate_without_names_fits_nothing() -> None:
    assert not Certificate((), NOW).fits("")
