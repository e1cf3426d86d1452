"""`twofold keys status` and `check`: the data keys, and the accounts that they do not open."""

from __future__ import annotations

from collections import Counter

import click

from twofold.bootstrap import Deployment
from twofold.commands.shell import EXIT_FAILED, json_option, opened, print_json, print_table, with_settings, working
from twofold.config import Settings
from twofold.core.clock import rfc3339
from twofold.core.codec import Codec, Tombstone
from twofold.credentials import find_seed
from twofold.crypto.seal import read_key_id
from twofold.errors import TamperedRecord


@click.group()
def keys() -> None:
    """Data keys, under which seeds are sealed."""


@keys.command()
@json_option
@with_settings
def status(settings: Settings, *, as_json: bool) -> None:
    """List the data keys and how many seeds each has sealed."""
    with opened(settings) as (deployment, runner), working("counting the seeds"):
        seeds = runner.run(count_seeds(deployment))
        data_keys = [key for key in deployment.keyring.rows() if key.purpose == "data"]
    if as_json:
        print_json(
            [
                {"id": k.id, "state": k.state, "seeds": seeds[k.id], "created_at": rfc3339(k.created_at)}
                for k in data_keys
            ]
        )
    else:
        rows = [(k.id, k.state, str(seeds[k.id]), rfc3339(k.created_at)) for k in data_keys]
        print_table(("key", "state", "seeds", "created"), rows)


@keys.command()
@json_option
@with_settings
def check(settings: Settings, *, as_json: bool) -> None:
    """Name the accounts that cannot be opened; exit status 1 if there are any."""
    with opened(settings) as (deployment, runner), working("opening every account"):
        found = runner.run(_find_unopenable(deployment))
    if as_json:
        print_json([{"account": account_id, "problem": problem} for account_id, problem in found])
    else:
        click.echo("\n".join(f"{account_id}: {problem}" for account_id, problem in found) or "every account opens")
    if found:
        raise click.exceptions.Exit(EXIT_FAILED)


async def count_seeds(deployment: Deployment) -> Counter[str]:
    """How many seeds each data key has sealed. Accounts that were tampered with count for none."""
    codec = Codec(deployment.keyring.mac_keys())
    seeds: Counter[str] = Counter()
    async for row in deployment.store.scan():
        try:
            account = codec.load(row)
        except TamperedRecord:
            continue
        if isinstance(account, Tombstone):
            continue
        for authenticator in account.authenticators:
            if (sealed := find_seed(authenticator)) is not None:
                seeds[read_key_id(sealed)] += 1
    return seeds


async def _find_unopenable(deployment: Deployment) -> list[tuple[str, str]]:
    return [found async for found in deployment.inspection.unopenable()]
