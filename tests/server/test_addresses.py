"""Whose address counts. `192.0.2.…`, `198.51.100.…` and `2001:db8:…` are people anywhere, `10.…` are our proxies."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.config import Settings
from twofold.server.addresses import FORWARDED_BYTES_MAX, WARNED_PEERS_MAX, Addresses, Sender

PROXY = "10.0.0.1"
PERSON = "192.0.2.7"


def request(peer: str | None, *lines: str, header: str = "x-forwarded-for") -> dict[str, Any]:
    headers = [(header.encode(), line.encode("latin-1")) for line in lines]
    return {"type": "http", "client": None if peer is None else (peer, 4000), "headers": headers}


def told(trusted_proxies: str | None) -> Addresses:
    return Addresses(Settings(trusted_proxies=trusted_proxies).proxy_networks)


def address(peer: str, *lines: str, trusted: str = "10.0.0.0/24") -> str | None:
    return told(trusted).find(request(peer, *lines)).address


def test_without_a_proxy_the_address_is_that_of_the_connection() -> None:
    assert told(None).find(request(PERSON)) == Sender(PERSON)
    assert told(PROXY).find(request(PERSON)) == Sender(PERSON)


def test_asvs_4_1_3_a_header_of_somebody_who_is_not_trusted_is_ignored() -> None:
    assert address(PROXY, PERSON) == PERSON
    assert address("198.51.100.1", PERSON) == "198.51.100.1"


def test_asvs_15_3_4_a_guesser_gets_no_new_address_by_writing_one_into_the_header() -> None:
    """The proxy adds the true one at the right; what the guesser wrote stands left of it."""
    for forged in ("203.0.113.1", "203.0.113.2, 203.0.113.3", "10.0.0.9", "x", "", ", ,", "2001:db8::1"):
        assert address(PROXY, f"{forged}, {PERSON}") == PERSON
        assert address(PROXY, forged, PERSON) == PERSON, "as a line of its own"


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("192.0.2.7, 10.0.0.2", "192.0.2.7"),
        ("203.0.113.1, 192.0.2.7, 10.0.0.3, 10.0.0.2", "192.0.2.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.1.0.1, 10.0.0.2", "10.1.0.1"),
    ],
)
def test_trusted_proxies_are_passed_from_the_right_up_to_the_first_other_address(forwarded: str, expected: str) -> None:
    assert address(PROXY, forwarded) == expected


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        ("192.0.2.7:51234", "192.0.2.7"),
        ("  192.0.2.7\t", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:0DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:c000:207]:443", "192.0.2.7"),
        ("2001:db8::1%eth0", "2001:db8::1"),
    ],
)
def test_one_address_is_one_however_it_is_spelled(spelled: str, meant: str) -> None:
    assert address(PROXY, spelled) == meant


@pytest.mark.parametrize(
    "hop",
    [
        "unknown",
        "",
        "_hidden",
        "192.0.2.7.9",
        "192.0.2",
        "192.0.2.07",
        "300.0.2.7",
        "for=192.0.2.7",
        '"192.0.2.7"',
        "é",
    ],
)
def test_what_is_no_address_ends_the_way_at_the_last_one_that_is(hop: str) -> None:
    assert address(PROXY, f"192.0.2.7, {hop}, 10.0.0.2") == "10.0.0.2"
    assert address(PROXY, hop) == PROXY
    assert address(PROXY, "192.0.2.7, 10.0.0.2") == "192.0.2.7"


def test_ipv4_inside_ipv6_is_the_same_proxy_and_the_same_person() -> None:
    """A socket for both kinds of addresses shows them so."""
    assert address(f"::ffff:{PROXY}", PERSON) == PERSON
    assert address(PROXY, PERSON, trusted=f"::ffff:{PROXY}") == PERSON
    assert told(None).find(request(f"::ffff:{PERSON}")).address == PERSON


def test_a_header_without_end_leaves_the_right_end_that_the_proxy_wrote() -> None:
    forged = "203.0.113.1, " * 20_000
    assert address(PROXY, f"{forged}{PERSON}") == PERSON
    passed = ", ".join(["10.0.0.2"] * 1_000)
    assert address(PROXY, f"{PERSON}, {passed}") == "10.0.0.2", "too far left to be read"


def test_an_address_that_the_limit_cuts_is_not_taken_for_another_one() -> None:
    for shift in range(20):
        passed = "," * shift + "10.0.0.2, " * (FORWARDED_BYTES_MAX // 10) + "10.0.0.2"
        assert address(PROXY, f"192.0.2.7{passed}") in ("10.0.0.2", PROXY)


def test_a_connection_without_an_address_has_none() -> None:
    assert told(None).find(request(None, PERSON)) == Sender(None)
    assert told(PROXY).find(request("testclient", PERSON)) == Sender(None)


@pytest.mark.parametrize("peer", ["127.0.0.1", "172.17.0.2", "192.168.1.5", "100.64.0.1", "::1", "fd00::5", "fe80::1"])
@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
def test_a_proxy_that_nobody_named_is_noticed_and_the_line_that_names_it_told_once(
    peer: str, header: str, caplog: pytest.LogCaptureFixture
) -> None:
    addresses = told(None)
    line = f"TWOFOLD_TRUSTED_PROXIES={peer}/{128 if ':' in peer else 32}"
    assert addresses.suggestion is None
    for _ in range(3):
        sender = addresses.find(request(peer, "192.0.2.7", header=header))
        assert sender == Sender(peer, is_behind_unknown_proxy=True, suggestion=line)
    assert addresses.suggestion == line
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert line in caplog.text
    assert Settings(trusted_proxies=line.partition("=")[2]).proxy_networks, "the line can be used as it is"
    assert told(line.partition("=")[2]).find(request(peer, "192.0.2.7")) == Sender("192.0.2.7")


def test_a_neighbor_without_such_a_header_is_no_proxy(caplog: pytest.LogCaptureFixture) -> None:
    for peer in ("127.0.0.1", "192.168.1.5"):
        assert told(None).find(request(peer)) == Sender(peer)
    assert told(None).find(request("198.51.100.1", PERSON)) == Sender("198.51.100.1"), "a stranger is no proxy either"
    assert caplog.text == ""


def test_once_the_proxies_are_named_a_header_gets_nobody_around_a_limit() -> None:
    addresses = told(PROXY)
    line = "TWOFOLD_TRUSTED_PROXIES=10.0.0.1/32,192.168.1.5/32"
    assert addresses.find(request("192.168.1.5", PERSON)) == Sender("192.168.1.5", suggestion=line)
    assert not told("none").find(request("192.168.1.5", PERSON)).is_behind_unknown_proxy
    assert told(None).find(request("192.168.1.5", PERSON)).is_behind_unknown_proxy


def test_a_trusted_proxy_that_names_nobody_stands_for_everybody() -> None:
    assert told(PROXY).find(request(PROXY)) == Sender(PROXY, is_behind_unknown_proxy=True)
    assert told(PROXY).find(request(PROXY, "unknown")) == Sender(PROXY, is_behind_unknown_proxy=True)
    assert told(PROXY).find(request(PROXY, PERSON)) == Sender(PERSON)
    assert told("10.0.0.0/24").find(request(PROXY, "10.0.0.2")) == Sender("10.0.0.2", is_behind_unknown_proxy=True)


def test_many_proxies_do_not_fill_the_log_nor_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    addresses = told(None)
    for number in range(WARNED_PEERS_MAX * 3):
        addresses.find(request(f"10.0.{number // 250}.{number % 250 + 1}", PERSON))
    assert len(caplog.records) == WARNED_PEERS_MAX
    assert addresses.suggestion == "TWOFOLD_TRUSTED_PROXIES=10.0.1.50/32"


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=4))
def test_whatever_the_header_holds_there_is_an_address_and_no_error(lines: list[str]) -> None:
    sender = told(PROXY).find(request(PROXY, *lines))
    assert sender.address is not None
    assert told(PROXY).find(request(PROXY, *lines, PERSON)) == Sender(PERSON)
