"""A network between a node and its database that fails when it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

#: What becomes of one message of the node. It never arrives, or it does and its answer does not; and the connection is
#: reset, or stays open and silent.
Fault = Literal["cut before", "cut after", "silent before", "silent after"]


class Proxy:
    """Hands everything on until a fault was ordered; an order meets one connection, once."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._links: set[_Link] = set()
        self._ordered: Fault | None = None
        self._messages_left = 0
        self.port = 0

    def order(self, fault: Fault, *, at_message: int) -> None:
        """Have that message fail of those that the node sends from now on; the next one is number 1."""
        self._ordered, self._messages_left = fault, at_message

    def cancel(self) -> bool:
        """Take back the order; whether it was still open."""
        was_open, self._ordered = self._ordered is not None, None
        return was_open

    def cut(self) -> None:
        """Reset all connections there are."""
        for link in self._links:
            link.cut()

    def next_fault(self) -> Fault | None:
        """The fault of the message that comes now."""
        self._messages_left -= 1
        if self._ordered is None or self._messages_left > 0:
            return None
        fault, self._ordered = self._ordered, None
        return fault

    async def serve(self, near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        try:
            far, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            near_writer.transport.abort()
            return
        link = _Link(self, near_writer, far_writer)
        self._links.add(link)
        with suppress(OSError):
            await asyncio.gather(link.forward(near), link.answer(far))
        link.cut()
        self._links.discard(link)


class _Link:
    """One connection."""

    def __init__(self, proxy: Proxy, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._near = near
        self._far = far
        self._fault: Fault | None = None

    async def forward(self, near: asyncio.StreamReader) -> None:
        while message := await near.read(1 << 20):
            self._fault = self._fault or self._proxy.next_fault()
            if self._fault == "cut before":
                break
            if self._fault != "silent before":
                self._far.write(message)
        self.cut()

    async def answer(self, far: asyncio.StreamReader) -> None:
        while message := await far.read(1 << 20):
            if self._fault == "cut after":
                break
            if self._fault != "silent after":
                self._near.write(message)
        self.cut()

    def cut(self) -> None:
        self._near.transport.abort()
        self._far.transport.abort()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy for the server at this port of this machine."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
