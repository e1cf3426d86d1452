"""Whose passkeys: Twofold's own address, and what an application may say its own is."""

from typing import Any

import pytest
from tests.deployments import open_in_memory

from twofold.errors import ConfigurationError, InvalidInput
from twofold.factors.webauthn_json import RelyingParty
from twofold.ports import Application
from twofold.relying_party import (
    check_own,
    check_party,
    count_labels,
    explain_none,
    find_for,
    find_own,
    find_related,
    is_public_suffix,
    list_related,
    read_relying_party,
)

OWN = RelyingParty("login.example.com", ("https://login.example.com",))
SHOP = "https://shop.example.com"


class TestOwn:
    @pytest.mark.parametrize(
        ("public_url", "rp_id"),
        [
            ("https://login.example.com", "login.example.com"),
            ("https://login.example.com:8443", "login.example.com"),
            ("https://intranet", "intranet"),
            ("https://xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
            ("http://localhost:8000", "localhost"),
            ("https://localhost", "localhost"),
            ("http://login.localhost:8000", "login.localhost"),
        ],
    )
    def test_it_is_the_host_of_the_public_url_and_the_one_origin_is_that_url(self, public_url: str, rp_id: str) -> None:
        assert find_own(public_url) == RelyingParty(rp_id, (public_url,))

    @pytest.mark.parametrize(
        ("public_url", "why"),
        [
            ("https://192.0.2.1", "address such as 192.0.2.1"),
            ("http://127.0.0.1:8000", "address such as 127.0.0.1"),
            ("https://[2001:db8::1]:8443", "address such as 2001:db8::1"),
            ("https://[::1]", "address such as ::1"),
            # Browsers read these as addresses, too.
            ("https://127.1", "address such as 127.1"),
            ("https://0x7f000001", "address such as 0x7f000001"),
            ("http://login.example.com", "need https"),
            ("http://notlocalhost", "need https"),
            ("http://localhost.example.com", "need https"),
        ],
    )
    def test_there_is_none_where_browsers_make_no_passkeys_and_a_line_says_why(self, public_url: str, why: str) -> None:
        assert find_own(public_url) is None
        assert why in explain_none(public_url)
        assert "\n" not in explain_none(public_url)
        check_own(public_url)

    @pytest.mark.parametrize("host", ["co.uk", "github.io", "com", "anything.ck", "xn--55qx5d.xn--j6w193g"])
    def test_trap_57_a_public_suffix_is_refused_and_a_name_below_it_is_not(self, host: str) -> None:
        with pytest.raises(ConfigurationError, match=rf"^PUBLIC_URL 'https://{host}': anybody can [^\n]+$"):
            check_own(f"https://{host}")
        check_own(f"https://mine.{host}")

    def test_what_the_list_says_nothing_about_is_no_public_suffix(self) -> None:
        assert not any(is_public_suffix(host) for host in ("intranet", "localhost", "www.ck", "xn--", "example.co.uk"))


class TestOfAnApplication:
    def test_without_anything_it_is_twofolds_own(self) -> None:
        assert read_relying_party((), None) is None
        application = Application("a", "shop", ("verify",), 0)
        assert find_for(application, OWN) == OWN
        assert find_for(application, None) is None

    def test_what_its_key_was_made_with_is_its_own(self) -> None:
        application = Application("a", "shop", ("verify",), 0, (SHOP,), "example.com")
        assert find_for(application, OWN) == find_for(application, None) == RelyingParty("example.com", (SHOP,))

    @pytest.mark.parametrize(
        ("origins", "rp_id", "found"),
        [
            ([SHOP], None, "shop.example.com"),
            ([SHOP, f"{SHOP}:8443"], None, "shop.example.com"),
            ([SHOP], "shop.example.com", "shop.example.com"),
            ([SHOP, "https://www.example.com"], "example.com", "example.com"),
            ([SHOP], "EXAMPLE.com", "example.com"),
            (["https://me.github.io"], "me.github.io", "me.github.io"),
            (["https://intranet"], None, "intranet"),
            (["http://localhost:3000"], None, "localhost"),
            (["https://münchen.example"], "MÜNCHEN.example", "xn--mnchen-3ya.example"),
        ],
    )
    def test_the_rp_id_is_what_was_said_else_the_one_host_of_the_origins(
        self, origins: list[str], rp_id: str | None, found: str
    ) -> None:
        party = read_relying_party(origins, rp_id)
        assert party is not None
        assert party.id == found
        assert len(party.origins) == len(origins)

    @pytest.mark.parametrize(
        ("origin", "spelled"),
        [
            ("https://shop.example.com", SHOP),
            ("HTTPS://Shop.Example.COM", SHOP),
            ("https://shop.example.com:443", SHOP),
            ("https://shop.example.com:0443", SHOP),
            ("https://shop.example.com:", SHOP),
            ("https://shop.example.com:8443", f"{SHOP}:8443"),
            ("http://localhost:80", "http://localhost"),
            ("http://app.localhost:3000", "http://app.localhost:3000"),
            ("https://münchen.example", "https://xn--mnchen-3ya.example"),
            ("https://MÜNCHEN.example", "https://xn--mnchen-3ya.example"),
        ],
    )
    def test_origins_are_kept_as_browsers_spell_them(self, origin: str, spelled: str) -> None:
        party = read_relying_party([origin, origin], None)
        assert party is not None
        assert party.origins == (spelled,)

    @pytest.mark.parametrize(
        "origin",
        [
            *("", "shop.example.com", "https://", "https:///x", "ftp://shop.example.com", "javascript:alert(1)"),
            *("https://shop.example.com/", "https://shop.example.com/path", "https://shop.example.com?x"),
            *("https://shop.example.com#", "https://ann@shop.example.com", " https://shop.example.com"),
            *("https://shop.example.com\n", "https://shop.example.com:x", "https://shop.example.com:65536"),
            *("http://[", "https://*.example.com", "https://shop..example.com", "https://shop.example.com."),
            *("https://-shop.example.com", f"https://{'a' * 64}.example.com", f"https://{'a.' * 127}com"),
            # Which of two spellings browsers take depends on the age of their rules.
            *("https://straße.example", "https://\u200dshop.example.com", "null"),
            # No passkeys there, in any browser.
            *("https://192.0.2.1", "https://[::1]", "https://127.1", "http://shop.example.com", "http://127.0.0.1"),
        ],
    )
    def test_what_is_no_origin_of_passkeys_is_refused(self, origin: str) -> None:
        with pytest.raises(InvalidInput) as invalid:
            read_relying_party([origin], None)
        assert invalid.value.field == "origin"
        assert "\n" not in str(invalid.value)

    @pytest.mark.parametrize(
        ("rp_id", "expected"),
        [
            ("192.0.2.1", "no passkeys for the address 192.0.2.1"),
            ("::1", "no passkeys for the address ::1"),
            ("0x7f.1", "no passkeys for the address"),
            ("com", "anybody can have a name under com"),
            ("co.uk", "anybody can have a name under co.uk"),
            ("github.io", "anybody can have a name under github.io"),
            ("", "a domain such as example.com"),
            (".example.com", "a domain such as example.com"),
            ("example.com.", "a domain such as example.com"),
            ("https://example.com", "a domain such as example.com"),
            ("example.com:443", "a domain such as example.com"),
            ("*.example.com", "a domain such as example.com"),
            ("exa mple.com", "a domain such as example.com"),
            ("example.org", "example.org is that of none"),
            ("ample.com", "ample.com is that of none"),
            ("www.shop.example.com", "www.shop.example.com is that of none"),
        ],
    )
    def test_trap_57_an_rp_id_that_browsers_refuse_is_refused(self, rp_id: str, expected: str) -> None:
        with pytest.raises(InvalidInput) as invalid:
            read_relying_party([SHOP], rp_id)
        assert invalid.value.field == "rp_id"
        assert expected in invalid.value.expected
        assert read_relying_party([SHOP], "example.com") == RelyingParty("example.com", (SHOP,))

    def test_an_origin_on_a_public_suffix_makes_no_rp_id(self) -> None:
        with pytest.raises(InvalidInput, match=r"anybody can have a name under github\.io"):
            read_relying_party(["https://github.io"], None)
        assert read_relying_party(["https://me.github.io"], None) is not None

    def test_origins_on_several_hosts_need_an_rp_id_and_an_rp_id_needs_an_origin(self) -> None:
        two = [SHOP, "https://shop.example.org"]
        with pytest.raises(InvalidInput, match=r"^rp_id: .* several hosts$"):
            read_relying_party(two, None)
        with pytest.raises(InvalidInput, match=r"^origin: .* at least one"):
            read_relying_party([], "example.com")
        assert read_relying_party(two, "example.com") == RelyingParty("example.com", tuple(two))

    async def test_a_key_carries_it_as_browsers_spell_it(self) -> None:
        deployment = await open_in_memory()
        application, key = await deployment.applications.create("shop", origins=["HTTPS://Shop.Example.com:443"])
        assert (application.origins, application.rp_id) == ((SHOP,), "shop.example.com")
        assert await deployment.applications.authenticate(key) == application
        wrong: list[dict[str, Any]] = [
            {"rp_id": "github.io"},
            {"rp_id": "example.org"},
            {"origins": ["http://x.example"]},
        ]
        for options in wrong:
            with pytest.raises(InvalidInput):
                await deployment.applications.create("other", **{"origins": [SHOP], **options})
        assert await deployment.applications.list() == [application]
        await deployment.close()


class TestRelatedOrigins:
    def test_they_are_those_outside_the_rp_id(self) -> None:
        inside = ("https://example.com", SHOP, "https://a.b.example.com:8443")
        outside = ("https://example.org", "https://notexample.com", "https://example.com.evil.example")
        assert find_related(RelyingParty("example.com", inside)) == ()
        assert find_related(RelyingParty("example.com", (*inside, *outside))) == outside

    def test_those_of_all_applications_with_the_rp_id_are_listed_once(self) -> None:
        one, two, other, plain = (
            Application("a", "one", ("verify",), 0, (SHOP, "https://a.example.org"), "example.com"),
            Application("b", "two", ("verify",), 0, (SHOP, "https://b.org", "https://a.example.org"), "example.com"),
            Application("c", "other", ("verify",), 0, (SHOP, "https://c.org"), "shop.example.com"),
            Application("d", "plain", ("verify",), 0),
        )
        assert list_related([one, two, other, plain], "example.com") == ["https://a.example.org", "https://b.org"]
        assert list_related([other, plain], "example.com") == []

    def test_labels_are_counted_as_browsers_do(self) -> None:
        same = [f"https://{host}" for host in ("example.com", "www.example.co.uk", "example.github.io", "a.example.ck")]
        assert count_labels(same[:3]) == 1
        # Under `*.ck` even the name before it is a public suffix.
        assert count_labels(same) == 2
        assert count_labels([*same[:3], "https://intranet", "https://login.intranet"]) == 3


@pytest.mark.parametrize(
    ("rp_id", "origins", "field"),
    [
        ("example.com", "https://login.example.com.evil.org", "origins"),
        ("example.com", ["https://example.com"], "origins"),
        ("example.com", (), "origin"),
        ("example.com", ("https://example.com/",), "origin"),
        ("example.com", ("https://EXAMPLE.com",), "origins"),
        ("example.com", ("https://example.org",), "rp_id"),
        ("co.uk", ("https://shop.co.uk",), "rp_id"),
    ],
)
def test_what_a_program_makes_by_itself_has_to_be_one(rp_id: str, origins: Any, field: str) -> None:
    check_party(RelyingParty("example.com", ("https://login.example.com",)))
    check_party(RelyingParty("localhost", ("http://localhost:8000",)))
    with pytest.raises(InvalidInput) as invalid:
        check_party(RelyingParty(rp_id, origins))
    assert invalid.value.field == field
