"""Runs with privacyIDEA's own Python: makes a TOTP token for each line `SERIAL SEED_IN_HEX` of standard input."""

import sys

from privacyidea.app import create_app  # type: ignore[import-not-found]  # it has an environment of its own

with create_app(config_name="production", config_file=sys.argv[1], silent=True).app_context():
    from privacyidea.lib.token import init_token  # type: ignore[import-not-found]

    for line in sys.stdin:
        serial, seed = line.split()
        init_token({"type": "totp", "serial": serial, "otpkey": seed})
