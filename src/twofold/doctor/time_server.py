"""Asking a time server how far this machine's clock is off (SNTP client, RFC 5905 section 14). It sets no clock."""

from __future__ import annotations

import secrets
import socket
import struct
import time

NTP_TIMEOUT_S = 2.0
_SECONDS_1900_TO_1970 = 2_208_988_800
_MODE_CLIENT, _MODE_SERVER, _VERSION = 3, 4, 4


def measure_offset_s(host: str, port: int) -> float:
    """Seconds to add to this machine's clock; positive: we are behind.

    Raises `OSError` when nobody answers within 2 s, `ValueError` for a server that does not know the time either.
    """
    # A random number in place of our own time: it tells nobody our clock, and no forged answer can know it.
    cookie = secrets.token_bytes(8)
    address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(*address[:3]) as connection:
        connection.settimeout(NTP_TIMEOUT_S)
        connection.connect(address[4])
        began, sent_at = time.monotonic(), time.time()
        connection.send(bytes((_VERSION << 3 | _MODE_CLIENT,)) + bytes(39) + cookie)
        reply = connection.recv(512)
        received_at = sent_at + (time.monotonic() - began)
    if len(reply) < 48 or reply[0] & 7 != _MODE_SERVER or reply[24:32] != cookie:
        raise ValueError("its answer is not one to our question")
    if reply[0] >> 6 == 3 or not 1 <= reply[1] <= 15:
        raise ValueError("its own clock is not synchronized")
    arrived_at, left_at = (read_timestamp(reply[place : place + 8]) for place in (32, 40))
    return ((arrived_at - sent_at) + (left_at - received_at)) / 2


def read_timestamp(data: bytes) -> float:
    """Unix time of an NTP timestamp (RFC 4330 section 3)."""
    seconds: int
    seconds, fraction = struct.unpack(">II", data)
    # The counter began in 1900 and starts again in 2036: a cleared top bit means the second round.
    seconds += 0 if seconds >> 31 else 1 << 32
    return float(seconds - _SECONDS_1900_TO_1970 + fraction / (1 << 32))
