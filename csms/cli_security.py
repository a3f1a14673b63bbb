"""`tasco ca` and `tasco station password`: certificates and passwords from the command line."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from csms.cli_parts import BY, ConfigOption, ask_api, settings_from, with_store
from csms.core.errors import ConfigError, InvalidInput
from csms.settings import Settings

if TYPE_CHECKING:
    from csms.service.authority import LocalAuthority
    from csms.store.database import Store

ca_app = typer.Typer(help="Our own certificate authority.", no_args_is_help=True)


def _authority(settings: Settings) -> "LocalAuthority":
    from csms.security import local_authority

    authority = local_authority(settings)
    if authority is None:
        raise ConfigError("security.ca_folder is not set; it must name the authority's folder")
    if not settings.security.operator:
        raise ConfigError("security.operator is empty; it must be your organisation's name")
    return authority


@ca_app.command("init")
def ca_init(
    days: Annotated[int, typer.Option(min=30, max=36500, help="How long the roots last.")] = 3650,
    config: ConfigOption = None,
) -> None:
    """Make the three roots, once; their keys can be read by their owner only."""
    authority = _authority(settings_from(config))
    for file in authority.create(now=datetime.now(UTC), days=days):
        typer.echo(str(file))


@ca_app.command("server")
def ca_server(
    hosts: Annotated[list[str], typer.Argument(help="Names and addresses of the station port.")],
    days: Annotated[int, typer.Option(min=1, max=3650)] = 398,
    config: ConfigOption = None,
) -> None:
    """Make the station port's certificates, one with an EC key and one with an RSA key."""
    from csms.service.authority import write_secret

    authority = _authority(settings_from(config))
    for kind in ("ec", "rsa"):
        chain, key = authority.issue_server(hosts, kind=kind, now=datetime.now(UTC), days=days)
        file = authority.folder / f"server-{kind}.pem"
        file.with_suffix(".key").unlink(missing_ok=True)
        write_secret(file.with_suffix(".key"), key)
        file.write_text(chain, encoding="ascii")
        typer.echo(str(file))


@ca_app.command("sign")
def ca_sign(
    request: Annotated[Path, typer.Argument(help="A PKCS#10 request in PEM.")],
    station: Annotated[str, typer.Option(help="Identity or serial number it is for.")],
    config: ConfigOption = None,
) -> None:
    """Sign a station's first request, taken from it by hand, and print the chain."""
    import asyncio

    from csms.store.certificates import STATION

    authority = _authority(settings_from(config))
    try:
        text = request.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{request}: cannot be read: {error}") from error
    chain = asyncio.run(authority.sign(text, kind=STATION, names=(station,), now=datetime.now(UTC)))
    typer.echo(chain, nl=False)


def station_password(
    station_id: Annotated[str, typer.Argument(help="The station's identity.")],
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Send the connected station a fresh random one.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Set a station's password from standard input, or have the running system rotate it."""
    if rotate:
        path = f"/stations/{quote(station_id, safe='')}/password/rotate"
        done = with_store(config, lambda store, settings: ask_api(store, settings, path, {}))
        typer.echo(f"{station_id}: {done['outcome']} {done.get('status') or ''}".rstrip())
        if done["outcome"] != "accepted":
            raise typer.Exit(1)
        return
    secret = sys.stdin.readline().rstrip("\n")
    if not 16 <= len(secret) <= 40:
        raise typer.BadParameter("the password on standard input must have 16 to 40 characters")

    async def change(store: "Store", settings: Settings) -> None:
        from csms.tools import enrolment_of

        enrolment = enrolment_of(store, settings)
        await enrolment.change_station(station_id, {"password": secret}, by=BY)

    with_store(config, change)
    typer.echo(f"{station_id}: password set")
