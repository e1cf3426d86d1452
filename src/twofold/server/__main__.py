"""`python -m twofold.server` is one of several workers; `twofold serve --workers` starts them, and nobody else does."""

from __future__ import annotations

import sys

from twofold.server.run import work

work(sys.stdin.buffer.readline())
