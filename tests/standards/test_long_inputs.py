"""Nothing that strangers send makes an expression search without end (ASVS 1.3.12)."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from twofold.core.factor import read_answer
from twofold.core.user_agent import describe_browser
from twofold.errors import InvalidInput
from twofold.factors import otpauth
from twofold.server.next_path import read_next
from twofold.server.words import inert

LENGTH = 60_000
#: Of the processor, so that a busy machine counts for nothing; a search without end takes minutes.
MOST_S = 0.5


@pytest.mark.parametrize("piece", ["1", " ", "-", "/", "%2f", "\\", "(", "a=", "A1 -", "a;q=0.", "é", "\n"])
@pytest.mark.parametrize(
    "read",
    [
        lambda text: read_answer([text]),
        describe_browser,
        lambda text: read_next("/" + text),
        lambda text: otpauth.load("otpauth://totp/" + text),
        inert,
    ],
    ids=["answer", "user agent", "next", "otpauth", "inert"],
)
def test_asvs_1_3_12_sixty_thousand_characters_are_read_or_refused_at_once(
    read: Callable[[str], object], piece: str
) -> None:
    began = time.process_time()
    with suppress(InvalidInput):
        read((piece * LENGTH)[:LENGTH] + "!")
    assert time.process_time() - began < MOST_S
