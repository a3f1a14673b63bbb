"""The `tasco` command. Exit codes: 0 done, 1 the answer is no, 2 wrong use or configuration."""

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from csms import cli_devices
from csms.cli_credentials import credential_app
from csms.cli_metering import meter_app
from csms.cli_parts import ConfigOption, JsonOption, run, settings_from, show, with_store
from csms.cli_replay import challenger, replay_day
from csms.cli_security import ca_app, station_password
from csms.core.errors import ConfigError, TascoError
from csms.settings import Settings, effective
from csms.telemetry import set_up_logging

app = typer.Typer(
    name="tasco",
    help="Trip-Aware Smart Charging Orchestrator: an OCPP central system.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
station_app = typer.Typer(help="Stations: register, list, approve, remove.", no_args_is_help=True)
dialect_app = typer.Typer(
    help="Dialects: what stations take of charging profiles.", no_args_is_help=True
)
token_app = typer.Typer(help="Id tokens: what a station may present.", no_args_is_help=True)
api_token_app = typer.Typer(help="Tokens for the HTTP API and the pages.", no_args_is_help=True)
db_app = typer.Typer(help="The database.", no_args_is_help=True)
app.add_typer(station_app, name="station")
app.add_typer(dialect_app, name="dialect")
app.add_typer(token_app, name="token")
app.add_typer(api_token_app, name="api-token")
app.add_typer(db_app, name="db")
for _name, _command in (
    ("command", cli_devices.command),
    ("firmware", cli_devices.firmware),
    ("logs", cli_devices.logs),
    ("variables", cli_devices.variables),
):
    station_app.command(_name)(_command)
app.add_typer(credential_app, name="credential")
app.add_typer(meter_app, name="meter")
app.add_typer(ca_app, name="ca")
station_app.command("password")(station_password)


def main() -> None:
    """Run the command; known errors are one line on stderr and exit code 2."""
    set_up_logging(level="warning", format_="console")
    try:
        app(standalone_mode=True)
    except TascoError as error:
        typer.echo(f"tasco: {error}", err=True)
        sys.exit(2)


# --- run -----------------------------------------------------------------------------------------


class Role(StrEnum):
    """What one process is of the whole."""

    ALL = "all"
    GATEWAY = "gateway"
    CENTRAL = "central"


@app.command()
def serve(
    config: ConfigOption = None,
    role: Annotated[
        Role, typer.Option(help="gateway and central are nodes that meet on NATS.")
    ] = Role.ALL,
) -> None:
    """Run the central system until SIGTERM."""
    settings = settings_from(config)
    if role is Role.GATEWAY:
        # It loads neither store nor planner: that is what makes it small.
        from csms.gateway_node import serve as serve_gateway

        run(serve_gateway(settings))
        return
    from csms.opening import check_parts

    # What `check` would refuse must not come up only when it is needed first.
    check_parts(settings)
    if role is Role.CENTRAL:
        from csms.central_node import serve as serve_centre

        run(serve_centre(settings))
        return
    if settings.bus.type != "local":
        raise ConfigError(
            f"bus.type is {settings.bus.type!r}; say which node this is: --role gateway or central"
        )
    from csms.app import serve as serve_

    run(serve_(settings))


@app.command()
def check(config: ConfigOption = None) -> None:
    """Print the effective configuration, secrets masked; fail if it cannot be used."""
    from csms.opening import check_parts
    from csms.service.circuits import tree_lines

    settings = settings_from(config)
    check_parts(settings)
    for key, value in effective(settings):
        typer.echo(f"{key} = {value}")
    for site_id, setups in settings.circuits().items():
        if setups:
            head = f"site {site_id}: {settings.site[site_id].limit_kw:g} kW"
            limit_kw = settings.site[site_id].limit_kw
            for line in tree_lines(setups, head=head, limit_kw=limit_kw):
                typer.echo(line)


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Live through one day without a pause, then stop.")
    ] = False,
    as_json: JsonOption = False,
    speed: Annotated[
        float | None, typer.Option(help="How many times faster than real time the day runs.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the page and the API; 0 takes any.")] = 8080,
    ocpp_port: Annotated[int, typer.Option(help="Port of the stations; 0 takes any.")] = 9000,
    limit_kw: Annotated[float | None, typer.Option(help="The depot's limit.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where to keep the database; a temporary one if not given.")
    ] = None,
) -> None:
    """Run a depot: simulated stations and cars on a real day, with real prices."""
    from csms.demo import run_demo

    outcome = run(
        run_demo(
            once=once,
            speed=speed,
            port=port,
            ocpp_port=ocpp_port,
            limit_kw=limit_kw,
            folder=folder,
            is_quiet=as_json,
        )
    )
    if outcome is not None:
        show(outcome, as_json=as_json)


@app.command()
def plan(
    case: Annotated[Path | None, typer.Option(help="A planning case as JSON.")] = None,
    site: Annotated[str | None, typer.Option(help="Plan this site as it is now.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Compute and print a plan; nothing is sent."""
    from csms.planning.planner import plan as plan_
    from csms.tools import case_from_file, describe_plan, planned_site

    if (case is None) == (site is None):
        raise typer.BadParameter("give either --case FILE or --site ID")
    if case is not None:
        given = case_from_file(case)
        made = plan_(given)
    else:
        given, made = with_store(
            config, lambda store, settings: planned_site(store, settings, site)
        )
    typer.echo(made.to_json() if as_json else describe_plan(given, made))


@app.command()
def replay(
    frames: Annotated[Path, typer.Argument(help="Recorded frames, one JSON object a line.")],
    as_json: JsonOption = False,
) -> None:
    """Feed recorded station frames through the gateway into a scratch store."""
    from csms.tools import replay_frames

    show(run(replay_frames(frames)), as_json=as_json)


app.command(name="replay-day")(replay_day)
app.command()(challenger)


@app.command(name="import")
def import_(
    kind: Annotated[str, typer.Argument(help="holders, vehicles, trips, tokens or concept")],
    file: Annotated[Path, typer.Argument(help="A CSV file; JSON for concept.")],
    config: ConfigOption = None,
) -> None:
    """Import holders, vehicles, trips or tokens from CSV, or the first concept's JSON."""
    from csms.tools import import_file

    done = with_store(config, lambda store, settings: import_file(store, settings, kind, file))
    typer.echo(f"{kind}: {done} imported")


# --- stations ------------------------------------------------------------------------------------


@station_app.command("add")
def station_add(
    station_ids: Annotated[list[str], typer.Argument(help="Identities, up to 48 characters each.")],
    site: Annotated[str, typer.Option(help="Site of the stations.")] = "main",
    evses: Annotated[int, typer.Option(min=1, max=64, help="EVSEs of each.")] = 1,
    max_kw: Annotated[float, typer.Option(min=0.1, help="Power of an EVSE.")] = 22.0,
    phases: Annotated[int, typer.Option(min=1, max=3)] = 3,
    current_type: Annotated[str, typer.Option(help="AC or DC.")] = "AC",
    password: Annotated[
        bool, typer.Option("--password/--no-password", help="Read a password from standard input.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Register stations; without a password they may connect from this machine only."""
    from csms.tools import add_stations

    secret = sys.stdin.readline().rstrip("\n") if password else ""
    if password and len(secret) < 8:
        raise typer.BadParameter("the password on standard input has under 8 characters")
    count = with_store(
        config,
        lambda store, settings: add_stations(
            store,
            settings,
            station_ids,
            site_id=site,
            evses=evses,
            max_kw=max_kw,
            phases=phases,
            current_type=current_type,
            password=secret,
        ),
    )
    typer.echo(f"{count} registered at {site}")


@station_app.command("list")
def station_list(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List stations, and below them the identities that tried to connect unregistered."""
    from csms.tools import list_stations

    show(with_store(config, list_stations), as_json=as_json)


@station_app.command("remove")
def station_remove(station_id: str, config: ConfigOption = None) -> None:
    """Remove a station; its records stay."""
    from csms.tools import remove_station

    with_store(config, lambda store, settings: remove_station(store, station_id))
    typer.echo(f"{station_id} removed")


# --- dialects ------------------------------------------------------------------------------------


def _book(store: Any) -> Any:
    from csms.clock import Clock
    from csms.service.dialects import DialectBook

    return DialectBook(store=store, clock=Clock())


def _items(pairs: list[str]) -> dict[str, Any]:
    """Return `item=value` arguments; a value of nothing takes an overruling back."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise typer.BadParameter(f"{pair!r} must be item=value")
        if name == "units":
            found[name] = [unit for unit in text.split(",") if unit] or None
            continue
        try:
            found[name] = json.loads(text) if text else None
        except ValueError:
            found[name] = text
    return found


@dialect_app.command("list")
def dialect_list(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List what is known of each model, item by item."""
    found = with_store(config, lambda store, settings: _book(store).models())
    lines = [
        {
            **item,
            "of": f"{m['vendor']} {m['model']}",
            "firmware": item["firmware"] or "any firmware",
        }
        for m in found
        for item in m["items"]
    ]
    show(found if as_json else lines, as_json=as_json)


@dialect_app.command("show")
def dialect_show(station_id: str, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show a station's dialect: each item with its value, who said so, and why."""
    from csms.api.views import plain

    items = with_store(config, lambda store, settings: _book(store).of_station(station_id))
    if as_json:
        show([plain(item) for item in items], as_json=True)
        return
    for item in items:
        typer.echo(f"{item.name:20} {item.value!s:14} {item.source:9} {item.why}".rstrip())


@dialect_app.command("set")
def dialect_set(
    station_id: str,
    items: Annotated[list[str], typer.Argument(help="item=value; item= takes it back.")],
    config: ConfigOption = None,
) -> None:
    """Overrule items of a station's dialect."""
    values = _items(items)
    with_store(
        config,
        lambda store, settings: _book(store).set_station(station_id, values, by="command line"),
    )
    typer.echo(f"{station_id}: {len(values)} overruled")


@dialect_app.command("set-model")
def dialect_set_model(
    vendor: str,
    model: str,
    items: Annotated[list[str], typer.Argument(help="item=value; item= takes it back.")],
    firmware: Annotated[str, typer.Option(help="Only this firmware; every one if empty.")] = "",
    config: ConfigOption = None,
) -> None:
    """Overrule items for every station of a model."""
    values = _items(items)
    with_store(
        config,
        lambda store, settings: _book(store).set_model(
            vendor, model, firmware, values, by="command line"
        ),
    )
    typer.echo(f"{vendor} {model}: {len(values)} overruled")


# --- id tokens -----------------------------------------------------------------------------------


@token_app.command("add")
def token_add(
    values: Annotated[list[str], typer.Argument(help="Token values as stations present them.")],
    did: Annotated[
        str, typer.Option(help="Whom they stand for; made up per token if missing.")
    ] = "",
    kind: Annotated[
        str, typer.Option(help="ISO14443, Central, ...; told by the form if empty.")
    ] = "",
    sites: Annotated[
        str, typer.Option(help="Comma-separated sites of a new holder; * is every.")
    ] = "*",
    config: ConfigOption = None,
) -> None:
    """Enrol tokens for a holder, who is enrolled with them if new."""
    from csms.tools import add_tokens

    count = with_store(
        config,
        lambda store, settings: add_tokens(
            store, settings, values, did=did, kind=kind, sites=sites
        ),
    )
    typer.echo(f"{count} enrolled")


@token_app.command("list")
def token_list(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List enrolled tokens."""
    from csms.tools import list_tokens

    show(with_store(config, list_tokens), as_json=as_json)


@token_app.command("block")
def token_block(value: str, config: ConfigOption = None) -> None:
    """Block a token: it is answered Blocked from now on."""
    from csms.tools import set_token_state

    with_store(config, lambda store, settings: set_token_state(store, settings, value, "blocked"))
    typer.echo("blocked")


@token_app.command("unblock")
def token_unblock(value: str, config: ConfigOption = None) -> None:
    """Lift a block."""
    from csms.tools import set_token_state

    with_store(config, lambda store, settings: set_token_state(store, settings, value, "active"))
    typer.echo("active")


@token_app.command("fingerprint")
def token_fingerprint(did: str, config: ConfigOption = None) -> None:
    """Print the 20-character name that stands for a DID at this operator's stations."""
    from csms.identity.did import parse
    from csms.opening import tenant_keys

    settings = settings_from(config)
    parse(did)
    typer.echo(tenant_keys(settings.identity, settings.store.url).fingerprint(did))


# --- API tokens ----------------------------------------------------------------------------------


@api_token_app.command("add")
def api_token_add(
    label: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[str, typer.Option(help="viewer or operator")] = "viewer",
    config: ConfigOption = None,
) -> None:
    """Make a token for the API and print it; it is kept as a hash and never shown again."""
    from csms.tools import add_api_token

    typer.echo(
        with_store(
            config,
            lambda store, settings: add_api_token(
                store, label=label, role=role, at=datetime.now(UTC)
            ),
        )
    )


@api_token_app.command("list")
def api_token_list(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List API tokens."""
    from csms.tools import list_api_tokens

    show(with_store(config, list_api_tokens), as_json=as_json)


@api_token_app.command("revoke")
def api_token_revoke(prefix: str, config: ConfigOption = None) -> None:
    """Revoke the token that begins with `prefix`."""
    from csms.tools import revoke_api_token

    with_store(
        config, lambda store, settings: revoke_api_token(store, prefix, at=datetime.now(UTC))
    )
    typer.echo(f"{prefix} revoked")


# --- database ------------------------------------------------------------------------------------


@db_app.command("upgrade")
def db_upgrade(config: ConfigOption = None) -> None:
    """Bring the database's schema up to date (serve does so by itself)."""

    async def nothing(store: Any, settings: Settings) -> None:
        """Opening the store is what upgrades it."""

    with_store(config, nothing)
    typer.echo("up to date")
