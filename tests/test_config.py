from pathlib import Path
from typing import Any

import pytest

from twofold.config import Settings, check_public_url, environment, is_loopback, load_settings
from twofold.errors import ConfigurationError


def load(tmp_path: Path, *, file: str | None = None, flags: dict[str, Any] | None = None, **variables: str) -> Settings:
    if file is not None:
        (tmp_path / "twofold.toml").write_text(file)
    given = {f"TWOFOLD_{name}": value for name, value in variables.items()}
    return load_settings({"TWOFOLD_DATA_DIR": str(tmp_path), **given}, **(flags or {}))[0]


def test_no_setting_is_mandatory() -> None:
    settings, warnings = load_settings({})
    assert settings == Settings()
    assert warnings == []
    assert settings.sqlite_path == Path("twofold-data/twofold.db")
    assert settings.key_file == Path("twofold-data/twofold.key")


def test_flags_come_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = 'issuer = "file"\nlog_format = "json"\nprofile = "strict"\n'
    settings = load(tmp_path, file=file, ISSUER="environment", PROFILE="default", flags={"issuer": "flag"})
    assert (settings.issuer, settings.profile, settings.log_format) == ("flag", "default", "json")
    assert load(tmp_path, flags={"issuer": None}).issuer == "file", "a flag that was not given says nothing"


def test_the_file_is_read_in_any_case_and_the_folder_comes_from_elsewhere(tmp_path: Path) -> None:
    settings = load(tmp_path, file='ISSUER = "Acme"\n')
    assert (settings.issuer, settings.data_dir) == ("Acme", tmp_path)


def test_a_value_can_be_read_from_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("https://login.example.com\n")
    assert load(tmp_path, PUBLIC_URL_FILE=str(tmp_path / "secret")).public_url == "https://login.example.com"
    with pytest.raises(ConfigurationError, match="TWOFOLD_PUBLIC_URL_FILE"):
        load(tmp_path, PUBLIC_URL_FILE=str(tmp_path / "nothing"))


def test_an_unknown_setting_is_warned_about_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "twofold.toml").write_text('isuer = "x"\nzzz = 1\n')
    _, warnings = load_settings(
        {"TWOFOLD_DATA_DIR": str(tmp_path), "TWOFOLD_PUBLIC_ULR": "x", "TWOFOLD_QQQ": "1", "PATH": "/bin"}
    )
    assert warnings == [
        "unknown setting TWOFOLD_PUBLIC_ULR is ignored; did you mean TWOFOLD_PUBLIC_URL?",
        "unknown setting TWOFOLD_QQQ is ignored",
        "unknown setting isuer is ignored; did you mean issuer?",
        "unknown setting zzz is ignored",
    ]


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PROFILE": "paranoid"}, "PROFILE"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT"),
        ({"BATCH": "sometimes"}, "BATCH"),
        ({"PUBLIC_URL": "login.example.com"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "http://["}, "PUBLIC_URL"),
        ({"TEST_CLOCK": "clock", "PUBLIC_URL": "https://login.example.com"}, "TEST_CLOCK"),
        ({"TLS_KEY": "key.pem"}, "TLS_KEY"),
        ({"TLS_CERT": ""}, "TLS_CERT"),
        ({"TLS_CERT": "cert.pem", "PUBLIC_URL": "http://localhost:8000"}, "PUBLIC_URL"),
        ({"TRUSTED_PROXIES": "caddy"}, "TRUSTED_PROXIES 'caddy'"),
        ({"TRUSTED_PROXIES": "127.0.0.1;10.0.0.1"}, "TRUSTED_PROXIES"),
        ({"TRUSTED_PROXIES": "127.0.0.1, 10.0.0.1/8"}, "TRUSTED_PROXIES '10.0.0.1/8'"),
        ({"TRUSTED_PROXIES": "none, 10.0.0.1"}, "TRUSTED_PROXIES 'none'"),
        ({"TRUSTED_PROXIES": "0.0.0.0/0"}, "TRUSTED_PROXIES"),
        ({"TRUSTED_PROXIES": "::/0"}, "TRUSTED_PROXIES"),
        ({"TRUSTED_PROXIES": "::ffff:0:0/96"}, "TRUSTED_PROXIES"),
        ({"SUPPORT": "javascript:alert(1)"}, "SUPPORT"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_one_line_that_names_the_setting(
    tmp_path: Path, variables: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, **variables)
    assert str(error.value).startswith(named)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("written", "networks"),
    [
        (None, None),
        ("", None),
        ("none", []),
        ("127.0.0.1", ["127.0.0.1/32"]),
        ("127.0.0.1,172.17.0.0/16", ["127.0.0.1/32", "172.17.0.0/16"]),
        (" 127.0.0.1 ,\n ::1  fd00::/8 ", ["127.0.0.1/32", "::1/128", "fd00::/8"]),
        ("::ffff:10.0.0.1", ["10.0.0.1/32"]),
        ("::ffff:10.0.0.0/104", ["10.0.0.0/8"]),
    ],
)
def test_trusted_proxies_are_addresses_and_networks(
    tmp_path: Path, written: str | None, networks: list[str] | None
) -> None:
    settings = load(tmp_path) if written is None else load(tmp_path, TRUSTED_PROXIES=written)
    given = settings.proxy_networks
    assert (None if given is None else [str(network) for network in given]) == networks


@pytest.mark.parametrize(
    ("support", "link"),
    [
        ("https://help.example.com/sign-in?from=twofold", "https://help.example.com/sign-in?from=twofold"),
        ("http://help.example.com", "http://help.example.com"),
        ("mailto:help@example.com?subject=Sign-in", "mailto:help@example.com?subject=Sign-in"),
        ("help@example.com", "mailto:help@example.com"),
        ("a+b?cc=c@example.com", "mailto:a+b%3Fcc%3Dc@example.com"),
        ("Ask Anna in room 12", None),
        ("Helpdesk: 030 123456", None),
        ("javascript: alert(1)", None),
    ],
)
def test_support_is_a_link_a_mail_address_or_a_few_words(tmp_path: Path, support: str, link: str | None) -> None:
    settings = load(tmp_path, SUPPORT=f" {support} ")
    assert (settings.support, settings.support_link) == (support, link)
    assert Settings().support_link is None


@pytest.mark.parametrize(
    "support",
    [
        *("", " ", "x" * 201, "two\nlines", "turned \u202e round"),
        *("JavaScript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "java\tscript:alert(1)"),
        *(
            "https://",
            "https:///path",
            "https://[",
            "https://a b",
            "mailto:",
            "mailto:help",
            "mailto:a@b.example?subject=a b",
            "tel:+4930123456",
        ),
    ],
)
def test_support_that_would_be_no_harmless_link_is_refused(tmp_path: Path, support: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^SUPPORT .*expected https"):
        load(tmp_path, SUPPORT=support)
    assert Settings(support=support).support_link is None, "and never a link, even where it is not checked"


def test_tls_takes_two_files_or_one_and_an_address_that_goes_with_it(tmp_path: Path) -> None:
    both = load(tmp_path, TLS_CERT="cert.pem", TLS_KEY="key.pem", PUBLIC_URL="https://login.example.com")
    assert (both.tls_cert, both.tls_key) == (Path("cert.pem"), Path("key.pem"))
    assert load(tmp_path, TLS_CERT="both.pem").tls_key is None


def test_a_key_given_in_place_of_its_path_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigurationError, match=r"^TLS_KEY: expected the path of a PEM file$"):
        load(tmp_path, TLS_CERT="cert.pem", TLS_KEY_FILE=str(tmp_path / "key"))


@pytest.mark.parametrize("file", ["issuer = ", "issuer = 5", "\x00"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path: Path, file: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, file=file)
    assert "\n" not in str(error.value)


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "twofold.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"twofold\.toml"):
        load(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example.com",
        "https://login.example.com:8443",
        "http://localhost:8000",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
        "http://192.168.1.20:8000",
        "http://10.0.0.5",
    ],
)
def test_an_origin_is_taken_with_or_without_a_slash_at_its_end(url: str) -> None:
    assert check_public_url(url) == url
    assert check_public_url(url + "/") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "login.example.com",
        "ftp://login.example.com",
        "https://",
        "https://login.example.com/path",
        "https://login.example.com?x",
        "https://user@login.example.com",
        "https://user:secret@login.example.com",
        "http://login.example.com",
        "http://192.0.2.7.example.com",
        "http://8.8.8.8",
        "javascript:alert(1)",
        "http://[",
        "https://login.example.com:99999",
        "https://login.example.com:port",
        "https://bücher.example",
        "https://login example.com",
        "https://login.example.com?",
        "https://login.example.com#x",
        "https://@login.example.com",
        "https://evil%2eexample",
    ],
)
def test_what_is_no_origin_or_would_send_codes_in_clear_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        check_public_url(url)


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ("https://Login.Example.COM", "https://login.example.com"),
        ("HTTPS://login.example.com", "https://login.example.com"),
        ("https://login.example.com:443", "https://login.example.com"),
        ("https://login.example.com:8443/", "https://login.example.com:8443"),
        ("http://localhost:80", "http://localhost"),
        ("https://localhost:80", "https://localhost:80"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_an_origin_is_spelled_as_browsers_send_it_or_every_form_would_seem_to_come_from_elsewhere(
    given: str, spelled: str
) -> None:
    assert check_public_url(given) == spelled


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("192.168.1.1", False),
        ("localhost.example.com", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_is_this_machine_alone(host: str | None, expected: bool) -> None:
    assert is_loopback(host) == expected


def test_the_database_is_a_file_where_nothing_else_is_said() -> None:
    for url, path in ((None, "twofold-data/twofold.db"), ("sqlite:///a.db", "a.db"), ("sqlite:////b/a.db", "/b/a.db")):
        settings = Settings(database_url=url)
        assert (settings.sqlite_path, settings.postgres_url) == (Path(path), None)


@pytest.mark.parametrize(
    "rest",
    [
        "twofold:hunter2@db.example.com/twofold",
        "twofold:hunter2@a:5432,b:5433/twofold?target_session_attrs=read-write",
        "twofold:hunter%2F2@[::1]:5432/twofold?sslmode=verify-full",
        "twofold@/twofold?host=/var/run/postgresql",
    ],
)
def test_the_database_is_postgresql_under_either_name(tmp_path: Path, rest: str) -> None:
    for scheme in ("postgres", "postgresql"):
        assert load(tmp_path, DATABASE_URL=f"{scheme}://{rest}").postgres_url == f"postgresql://{rest}"
    (tmp_path / "url").write_text(f"postgres://{rest}\n")
    assert load(tmp_path, DATABASE_URL_FILE=str(tmp_path / "url")).postgres_url == f"postgresql://{rest}"


@pytest.mark.parametrize(
    "url",
    [
        *("", "sqlite://", "sqlite:///", "twofold.db", "sqlite:twofold.db", "mysql://u:hunter2@db/twofold"),
        *("postgresql:twofold", "postgresql://u:hunter2@db", "postgresql://u:hunter2@db/", "postgres://[hunter2/t"),
        *("postgres://u:hunter2@@db/t", "postgres://u:hunter2@db:99999/t", "postgres://u:hunter2@db,other:0/t"),
        *("postgres://u:hunter2/@db/t", "postgres://u:hunter2#@db/t", "postgres://u:hunter2?@db/t"),
    ],
)
def test_a_database_that_cannot_be_meant_is_refused_and_its_password_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL: .*(expected|written as)") as error:
        load(tmp_path, DATABASE_URL=url)
    assert "hunter2" not in str(error.value)


def test_settings_that_are_shown_show_no_password() -> None:
    assert "hunter2" not in repr(Settings(database_url="postgresql://twofold:hunter2@db/twofold"))


def test_attempts_are_committed_together_unless_the_database_is_spread(tmp_path: Path) -> None:
    assert load(tmp_path).batch == "on"
    assert load(tmp_path, BATCH="off").batch == "off"


def test_the_key_is_in_a_file_or_somewhere_else(tmp_path: Path) -> None:
    assert load(tmp_path, KEY_PROVIDER="file:/etc/twofold.key").key_file == Path("/etc/twofold.key")
    assert load(tmp_path, KEY_PROVIDER="aws-kms:alias/twofold").key_file is None
    for provider in ("file:", "/etc/twofold.key", "c2VjcmV0"):
        with pytest.raises(ConfigurationError, match="KEY_PROVIDER") as refused:
            load(tmp_path, KEY_PROVIDER=provider)
        assert provider == "file:" or provider not in str(refused.value), "it may be the key itself"


def test_a_test_clock_goes_with_a_loopback_address(tmp_path: Path) -> None:
    assert load(tmp_path, TEST_CLOCK="clock").test_clock == Path("clock")
    assert load(tmp_path, TEST_CLOCK="clock", PUBLIC_URL="http://localhost:9").test_clock


def test_the_environment_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_ISSUER", "Acme")
    assert load_settings(environment())[0].issuer == "Acme"
