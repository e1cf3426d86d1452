"""Notices in the program's log."""

import asyncio
import logging

import pytest

from twofold.core.decision import Message
from twofold.senders.log import LogSender


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        ({}, "notice account.unlocked account='bo'"),
        ({"by": None}, "notice account.unlocked account='bo'"),
        ({"by": "ada\nx", "ip": None}, r"notice account.unlocked account='bo' by='ada\nx'"),
    ],
)
def test_a_notice_is_one_line_without_a_blank_at_its_end(
    caplog: pytest.LogCaptureFixture, payload: dict[str, str | None], line: str
) -> None:
    caplog.set_level(logging.INFO, "twofold.notice")
    asyncio.run(LogSender().send(Message("ms_1", "account.unlocked", payload), "bo"))
    assert caplog.messages == [line]
