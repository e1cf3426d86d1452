"""The `log` sender: notices as one line each in the program's log. Other channels come beside it."""

from __future__ import annotations

import logging

from twofold.core.decision import Message
from twofold.ports import Sender

log: logging.Logger = logging.getLogger("twofold.notice")


class LogSender:
    """Writes notices to the log, where an operator sees them."""

    async def send(self, message: Message, account_id: str) -> None:
        """One line; names are quoted, so that no account id can forge another line."""
        details = "".join(f" {name}={value!r}" for name, value in message.payload.items() if value is not None)
        log.info("notice %s account=%r%s", message.kind, account_id, details)


_: Sender = LogSender()
