"""The program on `clients/js/README.md`, run over a real server; a few lines of Node stand in for the phone."""

import re
from pathlib import Path

from tests.node import PACKAGE, link_packages, run_node
from tests.servers import running

README = (PACKAGE / "README.md").read_text(encoding="utf-8")
PHONE = """\
import { createHmac } from "node:crypto";

function code(secret, steps) {
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret].map((letter) => digits.indexOf(letter).toString(2).padStart(5, "0"));
  const key = Buffer.from(bits.join("").match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30000) + steps));
  const mac = createHmac("sha1", key).update(step).digest();
  return String((mac.readUInt32BE(mac[19] & 15) & 0x7fffffff) % 1e6).padStart(6, "0");
}
"""


def test_the_program_of_the_page_enrolls_a_phone_and_lets_it_in(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```js\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    link_packages(tmp_path, "express5")
    with running(tmp_path / "data") as server:
        for there, here in {
            '"https://twofold.example.com"': f'"http://localhost:{server.port}"',
            '"492039"': "code(pending.totp.secret, 0)",
            '"287082"': "code(pending.totp.secret, 1)",
        }.items():
            assert program.count(there) == 1
            program = program.replace(there, here)
        (tmp_path / "readme.mjs").write_text(f"{PHONE}{program}\nconsole.log(recovery_codes.length);\n")
        key = server.create_key("verify", "enroll")
        said = run_node("node", "readme.mjs", folder=tmp_path, TWOFOLD_KEY=key)
    assert said == "in, by totp\n10\n"
