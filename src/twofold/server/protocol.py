"""HTTP on the wire, with limits: a request whose head grows or dawdles ends its connection.

uvicorn's own protocol takes as many header bytes as somebody sends, for as long as he likes; a stranger without any
key could fill the memory. Bodies are bounded where they are read (`reading.py`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: More than any head needs, because one read of the socket may bring a body behind it.
HEAD_BYTES_MAX = 320 * 1024
HEAD_S = 10
#: Time for the other side to answer the end of a TLS connection, when the server wants to end too.
FAREWELL_S = 1


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a size and a time for each head."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def shutdown(self) -> None:
        """End the connection after the answer under way, at once if there is none."""
        super().shutdown()
        self.loop.call_later(FAREWELL_S, self._leave)

    def _leave(self) -> None:
        # TLS waits half a minute for a farewell; who is idle may not be reading. What is still being sent has its time.
        if self.transport.is_closing() and self.transport.get_write_buffer_size() == 0:
            self.transport.abort()

    def _begin_head(self) -> None:
        self._end_head()
        self._head_bytes = 0
        self._deadline = self.loop.call_later(HEAD_S, self.transport.close)

    def _end_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
