"""Where the processor time of one verification over HTTP and PostgreSQL goes: `python -m bench.profile`.

The server runs in this process, the client and the database in others, with many requests in flight, so that nothing is
counted that only waits.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import asyncpg
import uvicorn
import uvloop
from tests.postgres import PostgresServer
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from bench import cluster, crowd
from bench.crowd import Crowd
from bench.figures import Figure, as_text
from bench.load import Load
from bench.servers import processor_s
from bench.stopwatch import OUTSIDE, Stopwatch
from twofold.bootstrap import open_deployment
from twofold.core import settlement
from twofold.core.codec import Codec
from twofold.factors.totp import Totp
from twofold.keys.keyring import Keyring
from twofold.server import api
from twofold.server.access import Access
from twofold.server.api import Api
from twofold.server.app import Gate, create_app
from twofold.server.protocol import BoundedProtocol
from twofold.server.reading import BodyReader
from twofold.stores import _postgres_writer
from twofold.stores.postgres import PostgresStore
from twofold.verifier import Verifier

IN_FLIGHT = 64
COUNT = 6_000
#: Who spends it, and where he can be watched.
PARTS: dict[str, tuple[tuple[object, str], ...]] = {
    "uvicorn: reading and writing HTTP": (
        (BoundedProtocol, "data_received"),
        (RequestResponseCycle, "run_asgi"),
        (RequestResponseCycle, "send"),
    ),
    "host, path, headers, JSON of the answer": ((Gate, "__call__"), (Api, "__call__")),
    "API key": ((Access, "admit"),),
    "body": ((api, "read_body"), (BodyReader, "read")),
    "verifier and engine": ((Verifier, "verify"),),
    "store: gathering and answering": (
        (PostgresStore, "transact"),
        (_postgres_writer.Writer, "_settle"),
        (_postgres_writer.Writer, "_commit"),
    ),
    "store: values for asyncpg": ((asyncpg.Connection, "fetch"),),
    "row: its authentication code, decoding": ((Codec, "load"),),
    "row: encoding, its authentication code": ((Codec, "dump"),),
    "rules, throttle, browsers, events": ((_postgres_writer, "fold"),),
    "audit chain": ((settlement, "link"),),
    "opening the seed": ((Keyring, "open_seal"),),
    "the code against three steps": ((Totp, "check_answer"),),
}
REST = "event loop, sockets, asyncpg's reading"


def measure(*, accounts: int, rounds: int) -> list[Figure]:
    """Medians over rounds, in microseconds of processor time for each verification."""
    if not cluster.is_installed():
        return []
    with cluster.running() as server, tempfile.TemporaryDirectory() as folder:
        everybody = crowd.gather(server, Path(folder), accounts=accounts)
        return uvloop.run(_measure(everybody, server, rounds))


async def _measure(everybody: Crowd, server: PostgresServer, rounds: int) -> list[Figure]:
    node, database, parts = list[float](), list[float](), list[dict[str, float]]()
    async with _serving(everybody) as port:
        with everybody.load(port) as load:
            await _run(load)
            for _ in range(rounds):
                node_began, database_began = time.process_time(), processor_s(server.pid)
                await _run(load)
                node.append((time.process_time() - node_began) * 1e6 / COUNT)
                database.append((processor_s(server.pid) - database_began) * 1e6 / COUNT)
            stopwatch = Stopwatch()
            for part, places in PARTS.items():
                for owner, name in places:
                    stopwatch.watch(part, owner, name)
            for _ in range(rounds):
                stopwatch.reset()
                await _run(load)
                parts.append(stopwatch.spent_us(median(node) * COUNT))
    return [
        *(
            Figure(name, median(each[part] for each in parts) / COUNT, "µs")
            for part, name in ({part: part for part in PARTS} | {OUTSIDE: REST}).items()
        ),
        Figure("the node in all", median(node), "µs"),
        Figure("PostgreSQL, all of its processes", median(database), "µs"),
    ]


async def _run(load: Load) -> None:
    await asyncio.to_thread(load.run, count=COUNT, in_flight=IN_FLIGHT)


@asynccontextmanager
async def _serving(everybody: Crowd) -> AsyncIterator[int]:
    """The port of a server in this process, put together as `twofold serve` does it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        deployment = await open_deployment(everybody.settings, default_url=f"http://localhost:{port}")
        config = uvicorn.Config(
            create_app(deployment),
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield port
        finally:
            server.should_exit = True
            await serving
            await deployment.close()


if __name__ == "__main__":
    print(as_text(measure(accounts=100_000, rounds=5)))
