"""The client processes of a race, from the side of the test that starts them."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.servers import Answer, Client, Server
from tests.stories.nodes import Nodes

PROGRAM = Path(__file__).with_name("racing_process.py")
PROCESSES = 2
#: Method, path, further headers, body.
Request = tuple[str, str, dict[str, str], object]


class Racers:
    """Two processes with some connections each, kept from volley to volley."""

    def __init__(self, server: Server | Nodes, client: Client, *, connections: int = 8) -> None:
        self.size = PROCESSES * connections
        self._headers = client.headers
        command = [sys.executable, str(PROGRAM), str(server.port), str(connections)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(PROCESSES)
        ]
        for process in self._processes:
            assert _read_line(process) == "ready\n"

    def post(self, path: str, body: object) -> list[Answer]:
        """The answers to as many copies of one request as there are connections."""
        return self.send([("POST", path, {}, body)] * self.size)

    def send(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers to these requests, one on each connection."""
        spelled = [(method, path, {**self._headers, **headers}, body) for method, path, headers, body in requests]
        share = self.size // PROCESSES
        volleys = [json.dumps(spelled[start : start + share]) + "\n" for start in range(0, self.size, share)]
        for process, volley in zip(self._processes, volleys, strict=True):
            assert process.stdin is not None
            process.stdin.write(volley)
            process.stdin.flush()
        return [Answer(*answer) for process in self._processes for answer in json.loads(_read_line(process))]

    def close(self) -> None:
        for process in self._processes:
            process.communicate(timeout=30)
            assert process.returncode == 0


def _read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()
