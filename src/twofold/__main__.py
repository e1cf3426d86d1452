"""`python -m twofold` is the command `twofold`."""

from __future__ import annotations

from twofold.cli import main

main(prog_name="twofold")
