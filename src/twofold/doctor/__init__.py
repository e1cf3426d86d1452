"""What can be wrong around a deployment, each finding with the line that mends it: reads everything, changes nothing.

`surroundings` looks at the machine and the settings, `sqlite` and `postgres` at the database. Printing is the command's
business (`twofold.commands.doctor`).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec

from twofold.config import Settings
from twofold.doctor.finding import Finding, Look
from twofold.doctor.sqlite import look_at_sqlite
from twofold.doctor.surroundings import (
    check_attestation,
    check_certificate,
    check_clock,
    check_key,
    check_modes,
    check_passkeys,
    check_proxies,
    check_public_url,
    check_senders,
)

__all__ = ["Finding", "check_certificate", "check_modes", "check_proxies", "examine"]


def examine(settings: Settings, *, ntp_server: str) -> list[Finding]:
    """Every finding, in the order in which they are worth reading."""
    look = _look_at_database(settings)
    if settings.public_url is None:
        # Chosen on the set-up page. Only looked at: the server believes it after checking its signature.
        settings = msgspec.structs.replace(settings, public_url=look.public_url)
    return [
        check_clock(settings, ntp_server),
        check_public_url(settings),
        check_passkeys(settings),
        check_attestation(settings),
        check_certificate(settings, now=datetime.now(UTC)),
        check_proxies(settings),
        *check_modes(settings),
        check_key(settings, look),
        *look.findings,
        check_senders(look),
    ]


def _look_at_database(settings: Settings) -> Look:
    if settings.postgres_url is None:
        return look_at_sqlite(settings.sqlite_path)
    try:
        from twofold.doctor.postgres import look_at_postgres  # noqa: PLC0415 - asyncpg is an extra
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        finding = Finding("database", "problem", "asyncpg is not installed", "pip install 'twofold[postgres]'")
        return Look((finding,), is_shared=True, fault=finding.finding)
    return asyncio.run(look_at_postgres(settings.postgres_url, batch=settings.batch))
