"""The past that `tasco replay-day` lives through again: what was asked for, and where it is found.

Stays come from the store or from a file of sessions; prices and CO2 from the store, a data set, a
configured provider or a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from math import inf, isfinite
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from csms.core.errors import ConfigError, InvalidInput
from csms.core.model import CarbonIntensity, Price, Session, Strategy, Vehicle
from csms.planning.forecast_series import Stay as PastStay
from csms.planning.visits import Visit, World
from csms.providers.fetch import Fetcher
from csms.providers.registry import carbon_source, tariff_source
from csms.providers.tables import DATASETS
from csms.service.reports import max_power_kw
from csms.settings import Settings
from csms.store import identities, metering, series, sessions, stations
from csms.store.database import Store
from csms.store.statements import Tx
from simulators.realday import Stay, real_day, recorded

MOST_DAYS = 400
MOST_SHIFT_H = 24
QUANTILES = {"p50": 0.5, "p90": 0.9}
_HISTORY = timedelta(days=400)
_LOOK_BACK = timedelta(hours=2)
"""Prices reach a little beyond the days, for what is planned at their ends."""
_LOOK_AHEAD = timedelta(days=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to replay. Empty `limits_kw` and `chargers` are the site's own, or no bound."""

    site: str = ""
    file: str = ""
    starts_on: date
    days: int = 1
    as_from: date | None = None
    shift_h: float = 0.0
    seed: int = 0
    strategies: tuple[Strategy, ...] = (Strategy.OPTIMAL,)
    limits_kw: tuple[float, ...] = ()
    chargers: tuple[int, ...] = ()
    charger_kw: float = 22.0
    tariff: str = ""
    carbon: str = ""
    demand_charge_eur_per_kw: float | None = None
    base_load_kw: float | None = None
    time_zone: str = ""
    reserve: str = "p90"


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is replayed: the visits, the site, and the stays before them, to forecast from."""

    visits: tuple[Visit, ...]
    world: World
    history: tuple[PastStay, ...] = ()
    notes: tuple[str, ...] = ()


async def past_of(store: Store | None, settings: Settings, asked: Asked) -> Past:
    """Return what is replayed, as asked for. Raises InvalidInput, ConfigError or NotFound
    naming what cannot be used."""
    _check(asked)
    if asked.file:
        past = await _of_file(settings, asked)
    else:
        assert store is not None
        past = await _of_store(store, settings, asked)
    world = past.world
    if asked.demand_charge_eur_per_kw is not None:
        world = replace(world, demand_charge_eur_per_kw=asked.demand_charge_eur_per_kw)
    if asked.base_load_kw is not None:
        world = replace(world, base_load_kw=asked.base_load_kw, base_kw={})
    return replace(past, world=world)


def _check(asked: Asked) -> None:
    if bool(asked.site) == bool(asked.file):
        raise InvalidInput("give either --site ID or --sessions FILE")
    if not 1 <= asked.days <= MOST_DAYS:
        raise InvalidInput(f"--days is {asked.days}; it must be between 1 and {MOST_DAYS}")
    if any(not isfinite(kw) or kw < 0 for kw in asked.limits_kw):
        raise InvalidInput(f"--limit-kw is {list(asked.limits_kw)}; limits must be 0 kW or more")
    if any(n < 1 for n in asked.chargers):
        raise InvalidInput(f"--chargers is {list(asked.chargers)}; at least 1 is needed")
    if not isfinite(asked.charger_kw) or asked.charger_kw <= 0:
        raise InvalidInput(f"--charger-kw is {asked.charger_kw}; it must be above 0")
    for option, value in (
        ("--demand-charge", asked.demand_charge_eur_per_kw),
        ("--base-load-kw", asked.base_load_kw),
    ):
        if value is not None and not 0 <= value < inf:
            raise InvalidInput(f"{option} is {value:g}; it must be 0 or more")
    if not abs(asked.shift_h) <= MOST_SHIFT_H:
        raise InvalidInput(f"--shift-h is {asked.shift_h:g}; it must be within {MOST_SHIFT_H} h")
    if asked.reserve not in (*QUANTILES, "none"):
        raise InvalidInput(f"--reserve is {asked.reserve!r}; permitted: p50, p90, none")
    if asked.file and not asked.limits_kw:
        raise InvalidInput("--limit-kw is needed with --sessions: a file knows no site")


# --- stays of a file -----------------------------------------------------------------------------


async def _of_file(settings: Settings, asked: Asked) -> Past:
    zone = asked.time_zone or "UTC"
    stays = _stays(asked)
    visits = tuple(_visit_of_stay(stay, asked) for stay in stays)
    first = asked.as_from or asked.starts_on
    starts_at, until = _range(first, asked.days, zone)
    until = max(until, *(v.departs_at for v in visits))
    prices, carbon = await _market(settings, asked, min(starts_at, visits[0].arrives_at), until)
    world = World(
        limit_kw=0.0,
        time_zone=zone,
        charger_kw=asked.charger_kw,
        prices=prices,
        carbon=carbon,
        until=until,
    )
    return Past(visits=visits, world=world, history=_before(asked))


def _before(asked: Asked) -> tuple[PastStay, ...]:
    """Return the stays of a file before the days asked for, moved like those."""
    moved = (asked.as_from or asked.starts_on) - asked.starts_on + timedelta(hours=asked.shift_h)
    return tuple(
        PastStay(
            site_id=s.site_id,
            started_at=s.start_at + moved,
            ended_at=s.end_at + moved,
            energy_kwh=s.energy_kwh,
        )
        for s in recorded(asked.file)
        if s.start_at.date() < asked.starts_on and s.end_at > s.start_at and s.energy_kwh > 0
    )


def _stays(asked: Asked) -> list[Stay]:
    """Return the stays of a file in the days asked for, one day after the other."""
    try:
        held = {s.start_at.date() for s in recorded(asked.file)}
        stays: list[Stay] = []
        for k in range(asked.days):
            day = asked.starts_on + timedelta(days=k)
            if day in held:
                as_date = asked.as_from + timedelta(days=k) if asked.as_from else None
                stays += real_day(
                    asked.file, day, as_date=as_date, shift_h=asked.shift_h, seed=asked.seed
                )
    except OSError as error:
        raise InvalidInput(f"{asked.file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise InvalidInput(str(error)) from error
    if not stays:
        span = f"{min(held)} to {max(held)}" if held else "nothing"
        raise InvalidInput(
            f"no session begins on {asked.starts_on} or the {asked.days - 1} days after; "
            f"{asked.file} holds {span}"
        )
    return sorted(stays, key=lambda s: (s.arrives_at, s.stay_id))


def _visit_of_stay(stay: Stay, asked: Asked) -> Visit:
    if not isfinite(stay.need_kwh) or stay.need_kwh < 0:
        raise InvalidInput(f"{asked.file}: session {stay.stay_id} has {stay.need_kwh} kWh")
    if stay.departs_at <= stay.arrives_at:
        raise InvalidInput(f"{asked.file}: session {stay.stay_id} ends before it begins")
    return Visit(
        visit_id=stay.stay_id,
        arrives_at=stay.arrives_at,
        departs_at=stay.departs_at,
        stated_departs_at=stay.departs_at,
        need_kwh=stay.need_kwh,
        soc=stay.soc,
        battery_kwh=stay.vehicle.battery_kwh,
        max_kw=min(stay.vehicle.max_ac_kw, asked.charger_kw),
        phases=stay.vehicle.phases,
        efficiency=stay.vehicle.efficiency,
        max_soc=stay.vehicle.max_soc,
    )


# --- stays of the store --------------------------------------------------------------------------


async def _of_store(store: Store, settings: Settings, asked: Asked) -> Past:
    site = await store.read(lambda tx: stations.get_site(tx, asked.site))
    zone = asked.time_zone or site.time_zone
    starts_at, until = _range(asked.as_from or asked.starts_on, asked.days, zone)

    def work(tx: Tx) -> tuple[list[Visit], int, dict[datetime, float], list[PastStay]]:
        found = [
            s
            for s in sessions.overlapping_sessions(tx, asked.site, starts_at, until)
            if starts_at <= s.started_at < until
        ]
        evses = {(e.station_id, e.evse_id): e for e in stations.evses_of_site(tx, asked.site)}
        visits = []
        for session in found:
            vehicle = identities.find_vehicle(tx, session.vehicle_id)
            evse = evses.get((session.station_id, session.evse_id))
            visit = _visit_of_session(session, vehicle, max_power_kw(evse, vehicle))
            if visit is not None:
                visits.append(visit)
        span = ((starts_at, until + _LOOK_AHEAD),)
        building = metering.quarters(tx, asked.site, site.meter, span) if site.meter else []
        base = {quarter.starts_at: quarter.most_kw for quarter in building}
        before = [
            PastStay(
                site_id=asked.site,
                started_at=s.started_at,
                ended_at=s.ended_at,
                energy_kwh=s.energy_kwh,
            )
            for s in sessions.finished_sessions(tx, asked.site, starts_at - _HISTORY, starts_at)
            if s.ended_at is not None and s.ended_at > s.started_at and s.energy_wh > 0
        ]
        return visits, len(found) - len(visits), base, before

    visits, left_out, base_kw, before = await store.read(work)
    if not visits:
        raise InvalidInput(
            f"no session at {asked.site} began and ended between {starts_at:%Y-%m-%dT%H:%MZ} and "
            f"{until:%Y-%m-%dT%H:%MZ}"
        )
    until = max(until, *(v.departs_at for v in visits))
    if asked.tariff or asked.carbon:
        prices, carbon = await _market(settings, asked, starts_at, until)
    if not asked.tariff:
        prices = await _stored_prices(store, site.tariff_id, starts_at, until)
    if not asked.carbon:
        carbon_id = settings.site[asked.site].carbon if asked.site in settings.site else "default"
        carbon = await _stored_carbon(store, carbon_id, starts_at, until)
    configured = settings.site.get(asked.site)
    world = World(
        site_id=asked.site,
        limit_kw=site.limit_kw,
        charger_kw=asked.charger_kw,
        voltage_v=site.voltage_v,
        time_zone=zone,
        prices=prices,
        carbon=carbon,
        base_load_kw=site.base_load_kw,
        base_kw=base_kw,
        demand_charge_eur_per_kw=configured.demand_charge_eur_per_kw if configured else 0.0,
        slot_s=settings.planner.slot_s,
        horizon_h=settings.planner.horizon_h,
        until=until,
    )
    notes = (f"{left_out} sessions left out: still open, or without energy",) if left_out else ()
    return Past(visits=tuple(visits), world=world, history=tuple(before), notes=notes)


def _visit_of_session(session: Session, vehicle: Vehicle | None, max_kw: float) -> Visit | None:
    """Return a stored stay with its car as far as it is known, None where it says nothing.

    The car is taken to have been full with what it needed, so that it takes no more; a need that
    was stated and not delivered still counts (forecast.md 7).
    """
    needed = max(session.energy_wh, session.need_wh or 0.0) / 1000.0
    if session.ended_at is None or session.ended_at <= session.started_at:
        return None
    if not isfinite(needed) or needed <= 0 or max_kw <= 0:
        return None
    car = vehicle or Vehicle(vehicle_id="")
    phases = min(max(car.phases, 1), 3)
    battery_kwh = max(car.battery_kwh, needed * car.efficiency / max(car.max_soc, 0.1))
    return Visit(
        visit_id=session.session_id,
        arrives_at=session.started_at,
        departs_at=session.ended_at,
        stated_departs_at=session.departs_at or session.ended_at,
        need_kwh=needed,
        soc=max(car.max_soc - needed * car.efficiency / battery_kwh, 0.0),
        battery_kwh=battery_kwh,
        max_kw=max_kw,
        phases=phases,
        efficiency=car.efficiency,
        max_soc=car.max_soc,
        priority=session.priority,
    )


async def _stored_prices(
    store: Store, tariff_id: str, starts_at: datetime, until: datetime
) -> tuple[Price, ...]:
    found = await store.read(
        lambda tx: series.prices(tx, tariff_id, starts_at - _LOOK_BACK, until + _LOOK_AHEAD)
    )
    if not found:
        raise InvalidInput(
            f"no prices of tariff {tariff_id!r} are stored from {starts_at:%Y-%m-%d} on; "
            "name some with --tariff"
        )
    return tuple(found)


async def _stored_carbon(
    store: Store, carbon_id: str, starts_at: datetime, until: datetime
) -> tuple[CarbonIntensity, ...]:
    return tuple(
        await store.read(
            lambda tx: series.carbon(tx, carbon_id, starts_at - _LOOK_BACK, until + _LOOK_AHEAD)
        )
    )


# --- prices --------------------------------------------------------------------------------------


async def _market(
    settings: Settings, asked: Asked, starts_at: datetime, until: datetime
) -> tuple[tuple[Price, ...], tuple[CarbonIntensity, ...]]:
    """Return prices and carbon intensities of the days; they have to reach over all of them."""
    start, end = starts_at - _LOOK_BACK, until + _LOOK_AHEAD
    fetcher = Fetcher()
    prices: tuple[Price, ...] = ()
    carbon: tuple[CarbonIntensity, ...] = ()
    options = _source(settings.tariff, asked.tariff or "default", option="--tariff", kind="eur")
    source = tariff_source(options, name="--tariff", fetcher=fetcher)
    prices = tuple(await source.prices(start, end))
    _check_reach([(p.starts_at, p.until) for p in prices], starts_at, until, option="--tariff")
    options = _source(settings.carbon, asked.carbon or "default", option="--carbon", kind="kg")
    emitted = carbon_source(options, name="--carbon", fetcher=fetcher)
    carbon = tuple(await emitted.intensity(start, end))
    if asked.carbon:
        _check_reach([(c.starts_at, c.until) for c in carbon], starts_at, until, option="--carbon")
    return prices, carbon


def _source(
    configured: dict[str, dict[str, Any]], name: str, *, option: str, kind: str
) -> dict[str, Any]:
    """Return the provider that `name` stands for: a data set, one configured, or a CSV file."""
    if name in DATASETS:
        return {"type": "file", "dataset": name}
    if name in configured:
        return configured[name]
    path = Path(name)
    if path.is_file():
        with path.open("rb") as file:
            header = file.readline(1000).decode("utf-8", "replace") if path.suffix != ".gz" else ""
        unit = {"unit": f"{kind}_per_kwh"} if f"{kind}_per_kwh" in header else {}
        return {"type": "file", "path": name, **unit}
    known = ", ".join(sorted({*configured, *DATASETS}))
    raise ConfigError(f"{option} is {name!r}; it must be a file, or one of {known}")


def _check_reach(
    spans: Sequence[tuple[datetime, datetime]],
    starts_at: datetime,
    until: datetime,
    *,
    option: str,
) -> None:
    if not spans or spans[0][0] > starts_at or spans[-1][1] < until:
        has = f"{spans[0][0]:%Y-%m-%dT%H:%MZ} to {spans[-1][1]:%Y-%m-%dT%H:%MZ}" if spans else ""
        raise InvalidInput(
            f"{option} knows {has or 'nothing'} of {starts_at:%Y-%m-%dT%H:%MZ} to "
            f"{until:%Y-%m-%dT%H:%MZ}"
        )


def _range(first: date, days: int, zone: str) -> tuple[datetime, datetime]:
    """Return the local days [first, first + days) in UTC."""
    try:
        local = ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidInput(f"--time-zone is {zone!r}; one is Europe/Paris") from error

    def midnight(day: date) -> datetime:
        return datetime(day.year, day.month, day.day, tzinfo=local).astimezone(UTC)

    return midnight(first), midnight(first + timedelta(days=days))
