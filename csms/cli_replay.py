"""`tasco replay-day` and `tasco challenger`: strategies compared on the past and on the present."""

import sys
from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file; config.toml here if there is one."),
]


def replay_day(
    starts_on: Annotated[str, typer.Option("--from", help="First day, such as 2024-09-23.")],
    site: Annotated[str, typer.Option(help="Replay the sessions of this site.")] = "",
    sessions: Annotated[
        str, typer.Option(help="Replay a CSV file of sessions instead, or workplace_us.")
    ] = "",
    days: Annotated[int, typer.Option(help="How many days.")] = 1,
    strategy: Annotated[
        str, typer.Option(help="Strategies, comma-separated, or all.")
    ] = "optimal,least_laxity,equal_share,at_once",
    limit_kw: Annotated[
        str, typer.Option(help="Site limits, comma-separated; the site's own if not given.")
    ] = "",
    tariff: Annotated[
        str, typer.Option(help="CSV file of prices, a configured tariff, or dk1_prices_2024.")
    ] = "",
    carbon: Annotated[
        str, typer.Option(help="The same for CO2: a file, a configured one, or dk1_co2_2024.")
    ] = "",
    chargers: Annotated[str, typer.Option(help="Numbers of chargers; no bound if empty.")] = "",
    charger_kw: Annotated[float, typer.Option(help="Power of a charger.")] = 22.0,
    demand_charge: Annotated[
        float | None, typer.Option(help="EUR per kW of the highest quarter hour.")
    ] = None,
    base_load_kw: Annotated[
        float | None, typer.Option(help="The building's load; what is stored if not given.")
    ] = None,
    reserve: Annotated[
        str, typer.Option(help="Room kept for forecast arrivals: p50, p90 or none.")
    ] = "p90",
    as_from: Annotated[
        str, typer.Option(help="Live through a file's days as these: --from becomes this day.")
    ] = "",
    shift_h: Annotated[float, typer.Option(help="Move a file's clock by so many hours.")] = 0.0,
    time_zone: Annotated[str, typer.Option(help="Whose days; the site's, or UTC.")] = "",
    seed: Annotated[int, typer.Option(help="Chooses the cars of a file's drivers.")] = 0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Live through recorded days again with other strategies, limits, prices or chargers."""
    from csms import replay_day as replays
    from csms.cli_parts import run, settings_from, show, with_store
    from csms.replay_past import Asked

    asked = Asked(
        site=site,
        file=sessions,
        starts_on=replays.day_of(starts_on, option="--from"),
        days=days,
        as_from=replays.day_of(as_from, option="--as-from") if as_from else None,
        shift_h=shift_h,
        seed=seed,
        strategies=replays.strategies_of(strategy),
        limits_kw=replays.numbers_of(limit_kw, option="--limit-kw"),
        chargers=replays.whole_numbers_of(chargers, option="--chargers"),
        charger_kw=charger_kw,
        tariff=tariff,
        carbon=carbon,
        demand_charge_eur_per_kw=demand_charge,
        base_load_kw=base_load_kw,
        time_zone=time_zone,
        reserve=reserve,
    )
    is_terminal = sys.stderr.isatty()

    def tell(how_far: str) -> None:
        # One line that is written over on a terminal; a line a day in a log.
        typer.echo(f"\r\033[K{how_far}" if is_terminal else how_far, err=True, nl=not is_terminal)

    if sessions:
        runs = run(replays.replay(None, settings_from(config), asked, tell=tell))
    else:
        runs = with_store(
            config, lambda store, settings: replays.replay(store, settings, asked, tell=tell)
        )
    if is_terminal:
        typer.echo("\r\033[K", err=True, nl=False)
    if as_json:
        show([r.plain() for r in runs], as_json=True)
    else:
        typer.echo(replays.described(runs))


def challenger(
    site: Annotated[str, typer.Option(help="The site.")] = "main",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show how a site's strategy and its challenger planned the same cases."""
    from csms.cli_parts import show, with_store
    from csms.tools import compared

    found = with_store(config, lambda store, settings: compared(store, site))
    if as_json:
        show(found, as_json=True)
        return
    ours, theirs = found.pop("champion_mean"), found.pop("challenger_mean")
    show(found, as_json=False)
    typer.echo(f"{'mean of a plan':32} {'champion':>14} {'challenger':>14}")
    for name, value in ours.items():
        typer.echo(f"{name:32} {value!s:>14} {theirs[name]!s:>14}")
