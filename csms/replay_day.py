"""`tasco replay-day`: recorded days lived through again under other rules, side by side.

Stays come from the store or from a file of sessions; each combination of strategy, limit and
number of chargers is a run of `csms.planning.replayed_day`. This module is what is not pure about
it: files, the store, prices, the processor's clock.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import product
from math import isfinite
from pathlib import Path
from statistics import quantiles
from typing import Any
from zoneinfo import ZoneInfo

from csms.core.errors import ConfigError, InvalidInput
from csms.core.model import CarbonIntensity, Price, Session, Strategy, Vehicle
from csms.core.plan import Plan, PlanningCase
from csms.core.units import slot_start
from csms.planning.forecast_series import Stay as PastStay
from csms.planning.planner import plan
from csms.planning.replayed_day import ReplayedDay, Reserve, Visit, World, replay_days
from csms.planning.replayed_forecast import PastForecast
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
QUANTILES = {"p50": 0.5, "p90": 0.9}
_HISTORY = timedelta(days=400)
_LOOK_BACK = timedelta(hours=2)
"""Prices reach a little beyond the days, for what is planned at their ends."""
_LOOK_AHEAD = timedelta(days=3)

Tell = Callable[[str], None]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One combination and what it came to; `cpu_s` is each plan's, `notes` what was left out."""

    chargers: int | None
    day: ReplayedDay
    cpu_s: tuple[float, ...]
    notes: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return the run as JSON-ready figures."""
        day = self.day
        return {
            "strategy": str(day.strategy),
            "limit_kw": day.limit_kw,
            "chargers": self.chargers,
            "sessions": len(day.visits),
            "turned_away": day.turned_away,
            "needs_met": day.met,
            "needs_possible": day.possible,
            "need_kwh": round(day.need_kwh, 3),
            "energy_kwh": round(day.energy_kwh, 3),
            "delivered_share": round(day.delivered_share, 6),
            "cost_eur": round(day.cost_eur, 4),
            "eur_per_kwh": round(day.cost_eur / day.energy_kwh, 5) if day.energy_kwh else None,
            "co2_kg": round(day.co2_kg, 3),
            "peak_kw": round(day.peak_kw, 3),
            "demand_charge_eur": round(day.demand_charge_eur, 2),
            "plans": day.plans,
            "fallback_plans": day.fallbacks,
            "profiles_sent": day.profiles_sent,
            "pauses": day.pauses,
            "limit_violations": day.violations,
            "plan_cpu_p50_ms": _percentile_ms(self.cpu_s, 50),
            "plan_cpu_p99_ms": _percentile_ms(self.cpu_s, 99),
            "notes": list(self.notes),
        }


async def replay(store: Store | None, settings: Settings, asked: Asked, *, tell: Tell) -> list[Run]:
    """Return a run for each combination of strategy, limit and number of chargers.

    Raises InvalidInput, ConfigError or NotFound naming what cannot be used. `tell` hears how far
    it is.
    """
    past = await past_of(store, settings, asked)
    reserve = _reserve(past, asked, tell)
    runs = []
    for limit_kw, strategy, chargers in product(
        asked.limits_kw or (past.world.limit_kw,), asked.strategies, asked.chargers or (None,)
    ):
        here = replace(past.world, limit_kw=limit_kw, strategy=strategy, chargers=chargers)
        runs.append(_run(past, here, reserve, tell))
    return runs


async def past_of(store: Store | None, settings: Settings, asked: Asked) -> Past:
    """Return what is replayed, as asked for. Raises like `replay`."""
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


def forecast_of(past: Past, *, seed: int) -> PastForecast:
    """Return the forecast that would have been trained just before the first visit."""
    first = min(v.arrives_at for v in past.visits)
    return PastForecast(
        past.history,
        past.visits,
        trained_at=slot_start(first, slot_s=3600),
        time_zone=past.world.time_zone,
        seed=seed,
    )


def _reserve(past: Past, asked: Asked, tell: Tell) -> Reserve:
    if asked.reserve == "none":
        return lambda _: {}
    tell(f"training the forecast on {len(past.history)} stays before")
    forecast = forecast_of(past, seed=asked.seed)
    quantile = QUANTILES[asked.reserve]
    return cache(lambda now: forecast.reserve(now, quantile=quantile))


def _run(past: Past, world: World, reserve: Reserve, tell: Tell) -> Run:
    cpu_s: list[float] = []
    name = f"{world.strategy} at {world.limit_kw:g} kW"

    def timed(case: PlanningCase) -> Plan:
        began = time.thread_time()
        made = plan(case)
        cpu_s.append(time.thread_time() - began)
        return made

    def progress(at: datetime) -> None:
        tell(f"{name}: {at:%Y-%m-%d}, {len(cpu_s)} plans")

    day = replay_days(past.visits, world, planner=timed, reserve=reserve, progress=progress)
    return Run(chargers=world.chargers, day=day, cpu_s=tuple(cpu_s), notes=past.notes)


def _percentile_ms(cpu_s: Sequence[float], percent: int) -> float | None:
    if not cpu_s:
        return None
    if len(cpu_s) == 1:
        return round(cpu_s[0] * 1000, 3)
    return round(quantiles(cpu_s, n=100, method="inclusive")[percent - 1] * 1000, 3)


# --- what was asked for --------------------------------------------------------------------------


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
    if asked.reserve not in (*QUANTILES, "none"):
        raise InvalidInput(f"--reserve is {asked.reserve!r}; permitted: p50, p90, none")
    if asked.file and not asked.limits_kw:
        raise InvalidInput("--limit-kw is needed with --sessions: a file knows no site")


def strategies_of(text: str) -> tuple[Strategy, ...]:
    """Return the strategies of a comma-separated list; "all" is every one."""
    if text.strip() == "all":
        return tuple(Strategy)
    try:
        return tuple(Strategy(name.strip()) for name in text.split(","))
    except ValueError:
        permitted = ", ".join(Strategy)
        raise InvalidInput(f"--strategy is {text!r}; permitted: {permitted}, or all") from None


def numbers_of(text: str, *, option: str) -> tuple[float, ...]:
    """Return the numbers of a comma-separated list, none for an empty one."""
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise InvalidInput(f"{option} is {text!r}; it must be numbers such as 40,60") from None


def whole_numbers_of(text: str, *, option: str) -> tuple[int, ...]:
    """Return the whole numbers of a comma-separated list, none for an empty one."""
    found = numbers_of(text, option=option)
    if any(n != int(n) for n in found if isfinite(n)) or not all(map(isfinite, found)):
        raise InvalidInput(f"{option} is {text!r}; it must be whole numbers")
    return tuple(int(n) for n in found)


def day_of(text: str, *, option: str) -> date:
    """Return a date."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{option} is {text!r}; it must be a date such as 2024-09-23") from None


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


# --- shown ---------------------------------------------------------------------------------------

_COLUMNS = (
    ("limit kW", 8, "limit_kw", "{:g}"),
    ("strategy", 17, "strategy", "{}"),
    ("met", 9, "needs_met", "{}"),
    ("kWh %", 6, "delivered_share", "{:.1f}"),
    ("EUR", 8, "cost_eur", "{:.2f}"),
    ("kg CO2", 7, "co2_kg", "{:.1f}"),
    ("peak kW", 7, "peak_kw", "{:.1f}"),
    ("plans", 5, "plans", "{}"),
    ("sent", 5, "profiles_sent", "{}"),
    ("pauses", 6, "pauses", "{}"),
    ("over", 4, "limit_violations", "{}"),
    ("p50 ms", 6, "plan_cpu_p50_ms", "{:.1f}"),
    ("p99 ms", 6, "plan_cpu_p99_ms", "{:.1f}"),
)


def described(runs: Sequence[Run]) -> str:
    """Return runs as a table for people."""
    lines = ["  ".join(f"{title:>{width}}" for title, width, _, _ in _COLUMNS)]
    for run in runs:
        values = run.plain()
        values["delivered_share"] *= 100
        values["needs_met"] = f"{values['needs_met']}/{values['sessions']}"
        cells = [
            "-" if values[key] is None else form.format(values[key]) for _, _, key, form in _COLUMNS
        ]
        lines.append(
            "  ".join(f"{c:>{w}}" for c, (_, w, _, _) in zip(cells, _COLUMNS, strict=True))
        )
    day = runs[0].day
    lines.append(
        f"{day.need_kwh:.0f} kWh needed by {len(day.visits)} cars; full power from plug-in on, "
        f"with no limit, meets {day.possible} of them"
    )
    return "\n".join([*lines, *runs[0].notes])
