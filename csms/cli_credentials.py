"""Commands of the command line on claims about holders."""

from typing import TYPE_CHECKING, Annotated

import typer

from csms.cli_parts import BY, ConfigOption, JsonOption, show, with_store
from csms.settings import Settings

if TYPE_CHECKING:
    from csms.store.database import Store

credential_app = typer.Typer(
    help="Credentials: claims about who may charge, and their allowances.", no_args_is_help=True
)
IdArgument = Annotated[str, typer.Argument(help="The credential's id, as `list` shows it.")]


@credential_app.command("list")
def list_(
    did: Annotated[str, typer.Option(help="Only those about this holder.")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List credentials with their status and what was used of their allowances."""
    from csms.tools import list_credentials

    show(
        with_store(config, lambda store, settings: list_credentials(store, did=did)),
        as_json=as_json,
    )


@credential_app.command()
def revoke(credential_id: IdArgument, config: ConfigOption = None) -> None:
    """Revoke a credential for good."""
    _set_status(credential_id, "revoked", config)


@credential_app.command()
def suspend(credential_id: IdArgument, config: ConfigOption = None) -> None:
    """Let a credential count for nothing until it is resumed."""
    _set_status(credential_id, "suspended", config)


@credential_app.command()
def resume(credential_id: IdArgument, config: ConfigOption = None) -> None:
    """Make a credential valid again."""
    _set_status(credential_id, "valid", config)


@credential_app.command()
def remove(credential_id: IdArgument, config: ConfigOption = None) -> None:
    """Forget a credential."""
    from csms.tools import claim_desk

    async def work(store: "Store", settings: Settings) -> None:
        await claim_desk(store).remove(credential_id, by=BY)

    with_store(config, work)
    typer.echo("removed")


def _set_status(credential_id: str, status: str, config: ConfigOption) -> None:
    from csms.tools import claim_desk

    async def work(store: "Store", settings: Settings) -> None:
        await claim_desk(store).set_status(credential_id, status, by=BY)

    with_store(config, work)
    typer.echo(status)
