"""Somebody who does what a page of docs/howto says, word by word, in a new folder, and then opens what came of it."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx
from tests.pages import Form, Page

COMMANDS = Path(sys.executable).parent
START_S_MAX = 30
_BLOCK = re.compile(r"^(?:[^\n]*?`([\w./]+\.py)`[^\n]*|```(console|diff|python)\n(.*?)^```)$", re.MULTILINE | re.DOTALL)


class Reader:
    """Follows a page: saves its Python once under the name that was given before, makes the changes, runs the commands.
    That the application is served is left to `serve`. `changed` counts the lines that came into a file."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.changed = 0
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "TWOFOLD_"))}
        self.environment = own | {"PATH": f"{COMMANDS}:{os.environ['PATH']}"} | environment

    def follow(self, text: str) -> None:
        place = ""
        for file, kind, block in _BLOCK.findall(text):
            if file:
                place = file
            elif kind == "python":
                if place and not (self.folder / place).exists():
                    (self.folder / place).write_text(block, encoding="utf-8")
            elif kind == "diff":
                self.edit(self.folder / place, block)
            else:
                for command in block.splitlines():
                    self.run(command.removeprefix("$ "))

    def edit(self, file: Path, diff: str) -> None:
        before = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] in " -")
        after = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] in " +")
        self.changed += sum(line.startswith("+") for line in diff.splitlines())
        text = file.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{file} does not have what the page shows:\n{before}"
        file.write_text(text.replace(before, after), encoding="utf-8")

    def run(self, command: str) -> None:
        if command.startswith("pip install "):  # into the environment of these tests, where it is
            return
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
        elif not command.startswith(("flask ", "uvicorn ")) and not command.endswith(" runserver"):
            if command.endswith(" createsuperuser"):
                command += " --noinput"
            subprocess.run(
                command.split(), cwd=self.folder, env=self.environment, check=True, stdout=subprocess.DEVNULL
            )

    @contextmanager
    def serve(self, *command: str) -> Iterator["Visitor"]:
        """Somebody at the server that this command starts; `PORT` in it is a free one."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        spelled = [part.replace("PORT", str(port)) for part in command]
        with subprocess.Popen(
            spelled, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            visitor = Visitor(f"http://localhost:{port}")
            try:
                wait_until_open(port, server)
                yield visitor
            finally:
                visitor.http.close()
                server.terminate()


class Visitor:
    """A browser without scripts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, headers={"accept": "text/html"}, timeout=30)

    def open(self, path: str) -> Page:
        return self._take(self.http.get(path))

    def send(self, **fields: str) -> Page:
        """Fill in the first form that has these fields, and send it."""
        forms = [Form(element, self.page.url) for element in self.page.root.all("form")]
        form = next((form for form in forms if {control["name"] for control in form.controls} >= fields.keys()), None)
        assert form is not None, f"no form with {list(fields)} on {self.page!r}"
        pairs = dict(form.filled(fields, form.buttons[0]))
        return self._take(self.http.post(form.action, data=pairs, headers={"origin": self.url}))

    def _take(self, answer: httpx.Response) -> Page:
        while answer.is_redirect:
            answer = self.http.get(urljoin(str(answer.url), answer.headers["location"]))
        self.page = Page(str(answer.url), answer.status_code, answer.headers, answer.text)
        return self.page


def wait_until_open(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Until somebody listens."""
    for _ in range(START_S_MAX * 20):
        assert server.poll() is None, "the server ended"
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server does not listen")
