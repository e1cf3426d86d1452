"""The two commands of `docs/index.md`, and what somebody does between them, in Chromium."""

import re
import subprocess
from pathlib import Path

from tests.browsers import OpenBrowser
from tests.people import Person, setup_link
from tests.servers import PROGRAM, Clock, Server

INDEX = (Path(__file__).parents[2] / "docs" / "index.md").read_text(encoding="utf-8")


def test_two_commands_lead_to_a_verified_code(open_browser: OpenBrowser, server: Server, clock: Clock) -> None:
    serve, verify = re.findall(r"^```console\n\$ (.+)\n((?:.*\n)*?)```$", INDEX, re.MULTILINE)
    assert serve == ("make run", "")  # what make starts is `server`
    ada = Person("ada", open_browser(f"http://localhost:{server.port}"), clock)
    ada.set_up(setup_link(server))
    ada.enroll()
    ada.assert_signed_in()

    program, *arguments = verify[0].split()
    assert program == ".venv/bin/twofold"
    told = subprocess.run(
        [*PROGRAM, *arguments, "--data-dir", str(server.data_dir)],
        env={"TWOFOLD_TEST_CLOCK": str(clock.path)},
        input=ada.fresh_code(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0
    assert f"Code:\n{told.stdout}" == verify[1]
