"""privacyIDEA, as its manual installs it: from PyPI with the versions that its makers tested, on PostgreSQL, its
defaults left as they are, under gunicorn.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import servers
from bench.population import account_id, seed_of
from bench.servers import Server

VERSION = "3.14"
WORKERS = 2
THREADS = 8
_CONFIG = """
SUPERUSER_REALM = ["super"]
SQLALCHEMY_DATABASE_URI = {url!r}
SECRET_KEY = "a key for a benchmark"
PI_PEPPER = "a pepper for a benchmark"
PI_ENCFILE = "{folder}/enckey"
PI_AUDIT_KEY_PRIVATE = "{folder}/private.pem"
PI_AUDIT_KEY_PUBLIC = "{folder}/public.pem"
PI_LOGLEVEL = 40
"""


def install(folder: Path) -> Path:
    """An environment with privacyIDEA in that folder; done once."""
    environment = folder / "venv"
    is_complete = folder / "installed"
    if not is_complete.exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "--quiet", "--no-input", "install"]
        subprocess.run([*pip, f"privacyidea=={VERSION}", "psycopg2-binary", "gunicorn"], check=True)
        tested = str(environment / "lib" / "privacyidea" / "requirements.txt")
        subprocess.run([*pip, "--requirement", tested], check=True)
        is_complete.touch()
    return environment


@contextmanager
def serving(environment: Path, folder: Path, url: str, tokens: int) -> Iterator[Server]:
    """It over an empty database, with that many TOTP tokens; `folder` is for its keys."""
    config = folder / "pi.cfg"
    config.write_text(_CONFIG.format(url=url.replace("postgresql:", "postgresql+psycopg2:"), folder=folder))
    variables = {**os.environ, "PRIVACYIDEA_CONFIGFILE": str(config)}
    for step in ("create_enckey", "create_audit_keys", "create_tables"):
        manage = [str(environment / "bin" / "pi-manage"), "setup", step]
        subprocess.run(manage, env=variables, capture_output=True, check=True)
    program = Path(__file__).with_name("fill_privacyidea.py")
    # -P: a module of ours beside the program has the name of theirs.
    fill = [str(environment / "bin" / "python"), "-P", str(program), str(config)]
    seeds = "".join(f"{account_id(number)} {seed_of(number).hex()}\n" for number in range(tokens))
    subprocess.run(fill, input=seeds, env=variables, capture_output=True, text=True, check=True)
    port = servers.free_port()
    app = f"privacyidea.app:create_app(config_name='production', config_file='{config}', silent=True)"
    command = [str(environment / "bin" / "gunicorn"), "--workers", str(WORKERS), "--threads", str(THREADS)]
    command += ["--keep-alive", "30", "--log-level", "error", "--bind", f"127.0.0.1:{port}", app]
    with servers.other(command, port) as server:
        yield server
