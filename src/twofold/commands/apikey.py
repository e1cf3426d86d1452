"""`twofold apikey create`, `list` and `revoke`: the applications that may call the HTTP API."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import click
import msgspec

from twofold.applications import DEFAULT_SCOPES
from twofold.commands.shell import find_url, json_option, opened, print_json, print_table, with_settings
from twofold.config import Settings
from twofold.core.clock import rfc3339
from twofold.errors import Refused
from twofold.ports import Application
from twofold.relying_party import RELATED_LABELS_READ, count_labels, find_for, find_related, list_related


@click.group()
def apikey() -> None:
    """Keys of applications that call the HTTP API."""


@apikey.command()
@click.argument("name")
@click.option("--scope", default=",".join(DEFAULT_SCOPES), show_default=True, help="Out of verify,enroll,admin.")
@click.option("--origin", "origins", multiple=True, metavar="URL", help="An origin of its own pages, for passkeys.")
@click.option("--rp-id", metavar="D", help="The domain of its passkeys; the host of the origins without it.")
@click.option("--return-to", multiple=True, metavar="URL", help="Where people come back to from a hosted prompt.")
@click.option("--rate", type=int, metavar="N", help="Calls a second; no limit without it.")
@click.option("--cidr", "networks", multiple=True, metavar="C", help="A network it calls from; any without it.")
@with_settings
def create(
    settings: Settings,
    name: str,
    *,
    scope: str,
    origins: tuple[str, ...],
    rp_id: str | None,
    return_to: tuple[str, ...],
    rate: int | None,
    networks: tuple[str, ...],
) -> None:
    """Make a key for the application NAME and print it, this once."""
    scopes = tuple(word.strip() for word in scope.split(","))
    with opened(settings, may_create=True) as (deployment, runner):
        made = deployment.applications.create(
            name,
            scopes=scopes,
            origins=origins,
            rp_id=rp_id,
            rate_per_s=rate,
            networks=networks,
            return_to=return_to,
        )
        application, key = runner.run(made)
        told = list(
            _tell_passkeys(application, runner.run(deployment.applications.list()), runner.run(find_url(deployment)))
        )
    click.echo(f"application {application.id} ({name}): {', '.join(application.scopes)}", err=True)
    for line in told:
        click.echo(line, err=True)
    for url in application.return_to:
        click.echo(f"prompts lead back to {url}", err=True)
    if sys.stdout.isatty():
        click.echo("Its key, shown only now:", err=True)
    click.echo(key)


@apikey.command(name="list")
@json_option
@with_settings
def list_applications(settings: Settings, *, as_json: bool) -> None:
    """List the applications whose keys are good."""
    with opened(settings) as (deployment, runner):
        applications = runner.run(deployment.applications.list())
    if as_json:
        print_json([_as_json(application) for application in applications])
    else:
        print_table(("id", "name", "scopes", "created"), [_as_row(application) for application in applications])
        for application in applications:
            for url in application.return_to:
                click.echo(f"{application.id}: prompts lead back to {url}")


@apikey.command()
@click.argument("application_id", metavar="ID")
@with_settings
def revoke(settings: Settings, application_id: str) -> None:
    """Revoke the key of the application ID; running servers obey within a second."""
    with opened(settings) as (deployment, runner):
        if not runner.run(deployment.applications.revoke(application_id)):
            raise Refused("not_found", f"there is no application {application_id}; `twofold apikey list` names them")
    click.echo(f"revoked {application_id}")


def _tell_passkeys(application: Application, applications: Sequence[Application], public_url: str) -> Iterator[str]:
    """What an application's own relying party means for whoever runs its pages."""
    party = find_for(application, None)
    if party is None:
        return
    yield f"passkeys for {party.id}, on {' '.join(party.origins)}"
    if not (related := find_related(party)):
        return
    asked = f"https://{party.id}"
    listed = list_related(applications, party.id)
    here = "which is served here" if public_url == asked else f"which must answer {_spell_related(listed)}"
    yield f"related origins: {' '.join(related)}; browsers ask {asked}/.well-known/webauthn, {here}"
    if (labels := count_labels(listed)) > RELATED_LABELS_READ:
        yield f"warning: {labels} different names are listed there; browsers may stop after {RELATED_LABELS_READ}"


def _spell_related(origins: Sequence[str]) -> str:
    return msgspec.json.encode({"origins": origins}).decode()


def _as_row(application: Application) -> tuple[str, str, str, str]:
    return application.id, application.name, ",".join(application.scopes), rfc3339(application.created_at)


def _as_json(application: Application) -> dict[str, object]:
    return {
        "id": application.id,
        "name": application.name,
        "scopes": application.scopes,
        "created_at": rfc3339(application.created_at),
        "origins": application.origins,
        "rp_id": application.rp_id,
        "rate_per_s": application.rate_per_s,
        "networks": application.networks,
        "return_to": application.return_to,
    }
