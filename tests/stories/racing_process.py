"""A client process of the races: sends one request on each of its connections at once, and prints the answers.

Started as `racing_process.py PORT CONNECTIONS`. Each line of standard input is a volley, `[[method, path, headers,
body], ...]` with a request for each connection; each line of standard output its answers, `[[status, body], ...]`.
All requests are written before any answer is read.
"""

import http.client
import json
import socket
import sys
import time
from io import BufferedReader
from typing import Any

#: The server lets go of a connection that is quiet for 5 s, perhaps just when something is sent over it.
KEPT_S_MAX = 2


def main(port: int, connections: int) -> None:
    print("ready", flush=True)
    kept: list[tuple[socket.socket, BufferedReader]] = []
    used_at = 0.0
    for line in sys.stdin:
        requests = [_spell(port, *request) for request in json.loads(line)]
        if time.monotonic() - used_at > KEPT_S_MAX:
            _close(kept)
            kept = [_connect(port) for _ in range(connections)]
        for (connection, _), request in zip(kept, requests, strict=True):
            connection.sendall(request)
        print(json.dumps([_read_answer(reader) for _, reader in kept]), flush=True)
        used_at = time.monotonic()
    _close(kept)


def _connect(port: int) -> tuple[socket.socket, BufferedReader]:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    return connection, connection.makefile("rb")


def _close(kept: list[tuple[socket.socket, BufferedReader]]) -> None:
    for connection, reader in kept:
        reader.close()
        connection.close()


def _spell(port: int, method: str, path: str, headers: dict[str, str], body: object) -> bytes:
    raw = b"" if body is None else json.dumps(body).encode()
    fields = {"Host": f"localhost:{port}", **headers, "Content-Length": str(len(raw))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + raw


def _read_answer(reader: BufferedReader) -> tuple[int, Any]:
    status = int(reader.readline().split(b" ", 2)[1])
    headers = http.client.parse_headers(reader)
    text = reader.read(int(headers["content-length"])) if "content-length" in headers else b""
    return status, json.loads(text) if text else None


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
