"""From what the store holds to one PlanningCase per site; every fallback is marked in its notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from csms.core.errors import NotFound
from csms.core.model import (
    CarbonIntensity,
    Evse,
    Holder,
    LinkState,
    Need,
    Price,
    Session,
    Site,
    Station,
    Trip,
    Vehicle,
)
from csms.core.plan import PlanningCase, PlanningSession
from csms.core.units import slot_start
from csms.planning.demand import held_kwh, need
from csms.planning.taper import charging_time
from csms.store import identities, plans, series, sessions, stations, trips
from csms.store.plans import InstalledSchedule
from csms.store.statements import Tx

CARBON_EUR_PER_KG = 0.10
"""What a carbon-conscious driver's plan pays for a kilogram of CO2 not emitted."""

FLAT_EUR_PER_KWH = 0.30

READY_BEFORE = timedelta(minutes=15)
READY_SHARE = 0.25
"""A car is planned to be ready this long before it leaves, or this share of its slack."""


@dataclass(slots=True)
class Observed:
    """What one car was seen to take, learned from its meter.

    `cap_kw` is what it takes at most now (None: whatever it is given). `is_ignoring` says that it
    draws more than its schedule allows, `power_kw` being what it draws.
    """

    cap_kw: float | None = None
    is_ignoring: bool = False
    power_kw: float = 0.0
    below: int = 0
    above: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is not in the store: the service's own knowledge at the moment of planning.

    `reserved_kw` maps slot starts to headroom for forecast arrivals. `held` are sessions whose
    station did not take its last schedule: they are counted at what is in force.
    """

    observed: Mapping[str, Observed] = field(default_factory=dict)
    reserved_kw: Mapping[datetime, float] = field(default_factory=dict)
    held: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Car:
    """One open session with everything known about it."""

    session: Session
    station: Station
    evse: Evse
    vehicle: Vehicle | None
    holder: Holder | None
    trip: Trip | None
    installed: InstalledSchedule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One site as it is now."""

    site: Site
    evses: tuple[Evse, ...]
    stations: Mapping[str, Station]
    cars: tuple[Car, ...]
    prices: Sequence[Price]
    carbon: Sequence[CarbonIntensity]
    base_load_kw: Mapping[datetime, float]
    demand_charge_eur_per_kw: float = 0.0
    billed_peak_kw: float = 0.0


def snapshot(tx: Tx, site_id: str, *, now: datetime, horizon_h: float, carbon_id: str) -> Snapshot:
    """Load one site; raise UnknownSite."""
    site = stations.get_site(tx, site_id)
    known = {s.station_id: s for s in stations.list_stations(tx, site_id=site_id)}
    evses = stations.evses_of_site(tx, site_id)
    by_place = {(e.station_id, e.evse_id): e for e in evses}
    present = sessions.open_sessions_of_site(tx, site_id)
    installed = plans.accepted_schedules(tx, [s.session_id for s in present])
    cars = []
    for session in present:
        evse = by_place.get((session.station_id, session.evse_id))
        station = known.get(session.station_id)
        if evse is None or station is None or not session.is_authorized:
            continue
        in_force = installed.get(session.session_id)
        if in_force is not None and station.booted_at and in_force.sent_at < station.booted_at:
            # What a station kept of its schedules over a restart is unknown: they are sent again.
            in_force = None
        cars.append(
            Car(
                session=session,
                station=station,
                evse=evse,
                vehicle=identities.find_vehicle(tx, session.vehicle_id),
                holder=identities.holder_of_did(tx, session.holder_did),
                trip=_trip(tx, session.trip_id),
                installed=in_force,
            )
        )
    start, until = slot_start(now), now + timedelta(hours=horizon_h + 2)
    return Snapshot(
        site=site,
        evses=tuple(evses),
        stations=known,
        cars=tuple(cars),
        prices=series.prices(tx, site.tariff_id, start, until),
        carbon=series.carbon(tx, carbon_id, start, until),
        base_load_kw=dict(series.loads(tx, site_id, start, until)),
    )


def _trip(tx: Tx, trip_id: str) -> Trip | None:
    """Return a trip, None where there is none any more: the need is then the session's own."""
    if not trip_id:
        return None
    try:
        return trips.get_trip(tx, trip_id)
    except NotFound:
        return None


def edges(now: datetime, *, horizon_h: float, slot_s: int) -> tuple[datetime, ...]:
    """Return `now`, then the slot boundaries up to the horizon.

    A first slot of under a minute is joined to the next: no station follows that finely.
    """
    step = timedelta(seconds=slot_s)
    first = slot_start(now, slot_s=slot_s) + step
    if first - now < timedelta(seconds=60):
        first += step
    count = round(horizon_h * 3600 / slot_s)
    return (now, *(first + step * i for i in range(count)))


def planning_case(
    known: Snapshot,
    surroundings: Surroundings,
    *,
    now: datetime,
    horizon_h: float,
    slot_s: int,
) -> PlanningCase:
    """Return the whole input of the planner for one site."""
    edges_at = edges(now, horizon_h=horizon_h, slot_s=slot_s)
    starts = edges_at[:-1]
    notes: list[str] = []
    prices = _prices(known.prices, edges_at, notes)
    carbon = _carbon(known.carbon, edges_at)
    base_kw = tuple(
        max(known.base_load_kw.get(slot_start(at, slot_s=slot_s), known.site.base_load_kw), 0.0)
        for at in starts
    )
    cars = tuple(
        _planning_session(car, known.site, surroundings, edges_at=edges_at, now=now)
        for car in known.cars
    )
    return PlanningCase(
        site_id=known.site.site_id,
        now_at=now,
        strategy=known.site.strategy,
        edges_at=edges_at,
        limit_kw=(known.site.limit_kw,) * len(starts),
        base_load_kw=base_kw,
        reserved_kw=tuple(
            surroundings.reserved_kw.get(slot_start(at, slot_s=slot_s), 0.0) for at in starts
        ),
        idle_guard_kw=idle_guard_kw(known),
        price_eur_per_kwh=prices,
        co2_kg_per_kwh=carbon,
        demand_charge_eur_per_kw=known.demand_charge_eur_per_kw,
        billed_peak_kw=known.billed_peak_kw,
        sessions=cars,
        notes=tuple(notes),
    )


def idle_guard_kw(known: Snapshot) -> float:
    """Return what EVSEs without a planned session may draw by themselves, kW.

    An EVSE whose station was here and never took its guard counts with all it can deliver; a
    station that never booted is not there yet.
    """
    planned = {(c.session.station_id, c.session.evse_id) for c in known.cars}
    return sum(
        guard_kw(evse, known.stations[evse.station_id])
        for evse in known.evses
        if (evse.station_id, evse.evse_id) not in planned
    )


def guard_kw(evse: Evse, station: Station) -> float:
    """Return the power an EVSE may draw without a schedule of ours, kW."""
    if evse.guard_kw is not None:
        return min(evse.guard_kw, evse.max_kw)
    return evse.max_kw if station.booted_at is not None else 0.0


def in_force_kw(car: Car, site: Site, edges_at: tuple[datetime, ...]) -> tuple[float, ...]:
    """Return what a car's station lets it draw if we say nothing more, (slots,) kW."""
    without = guard_kw(car.evse, car.station)
    if car.installed is None:
        return (without,) * (len(edges_at) - 1)
    known = car.installed
    rows = list(zip(known.edges_at, known.edges_at[1:], known.row_kw, strict=False))
    found = []
    for start, end in pairwise(edges_at):
        during = [kw for begins, ends, kw in rows if begins < end and start < ends]
        if not rows or end > known.edges_at[-1]:
            # The schedule runs out within the slot: then the guard holds.
            during.append(without)
        found.append(min(max(during, default=without), car.evse.max_kw))
    return tuple(found)


def usable_phases(car: Car) -> int:
    """Return how many phases charge: the least of EVSE and vehicle."""
    if car.vehicle is None or car.evse.current_type == "DC":
        return car.evse.phases
    return min(car.evse.phases, car.vehicle.phases)


def max_kw(car: Car) -> float:
    """Return the most a car can take at its EVSE, kW."""
    if car.vehicle is None:
        return car.evse.max_kw
    if car.evse.current_type == "DC":
        return min(car.evse.max_kw, car.vehicle.max_dc_kw)
    # An AC EVSE limits the current of each phase: a car on one phase of three gets a third.
    share = usable_phases(car) / car.evse.phases
    return min(car.evse.max_kw * share, car.vehicle.max_kw)


def _planning_session(
    car: Car,
    site: Site,
    surroundings: Surroundings,
    *,
    edges_at: tuple[datetime, ...],
    now: datetime,
) -> PlanningSession:
    session, vehicle, holder = car.session, car.vehicle, car.holder
    most_kw = max_kw(car)
    wanted = need(session, car.trip, vehicle, now=now, max_kw=most_kw)
    departs_at = wanted.departs_at
    held = held_kwh(session, vehicle) if vehicle is not None else None
    if vehicle is not None and car.evse.current_type == "AC":
        soc = 0.0 if held is None else held / vehicle.battery_kwh
        departs_at = _ready_by(wanted, vehicle, soc=soc, max_kw=most_kw, now=now)
    least_a = vehicle.min_current_a if vehicle else 6.0
    least_kw = min(least_a * usable_phases(car) * site.voltage_v / 1000.0, most_kw)
    seen = surroundings.observed.get(session.session_id)
    if seen is not None and seen.cap_kw is not None:
        most_kw = max(min(most_kw, seen.cap_kw), least_kw)
    in_force = in_force_kw(car, site, edges_at)
    fixed = _fixed_kw(car, surroundings, in_force)
    return PlanningSession(
        session_id=session.session_id,
        station_id=session.station_id,
        evse_id=session.evse_id,
        available_at=now,
        departs_at=departs_at,
        required_kwh=wanted.required_kwh,
        preferred_kwh=wanted.preferred_kwh,
        max_kw=most_kw,
        min_kw=least_kw,
        guard_kw=guard_kw(car.evse, car.station),
        phases=usable_phases(car),
        priority=session.priority,
        max_price_per_kwh=holder.max_price_per_kwh if holder else None,
        carbon_weight_eur_per_kg=(
            CARBON_EUR_PER_KG if holder is not None and holder.carbon_conscious else 0.0
        ),
        current_kw=in_force[0] if car.installed is not None else None,
        fixed_kw=fixed,
        is_assumed=wanted.is_assumed,
    )


def _ready_by(
    wanted: Need, vehicle: Vehicle, *, soc: float, max_kw: float, now: datetime
) -> datetime:
    """Return when the planned energy has to be through: somewhat before the car leaves.

    The plan counts in full power; the tail of the battery takes longer, and limits rounded down,
    late answers and slow cars each cost a little. So a part of the slack is kept, most of it while
    there is much: near the departure the plan is made of what is left, and the margin shrinks.
    """
    if max_kw <= 0 or wanted.departs_at <= now:
        return wanted.departs_at
    took = charging_time(
        wanted.required_kwh,
        soc=soc,
        battery_kwh=vehicle.battery_kwh,
        efficiency=vehicle.efficiency,
        max_kw=max_kw,
    )
    at_full_power = timedelta(hours=wanted.required_kwh / max_kw)
    slack = max(wanted.departs_at - now - took, timedelta(0))
    margin = min(READY_BEFORE, slack * READY_SHARE)
    earliest = min(now + took, wanted.departs_at)
    return max(wanted.departs_at - (took - at_full_power) - margin, earliest)


def _fixed_kw(
    car: Car, surroundings: Surroundings, in_force: tuple[float, ...]
) -> tuple[float, ...] | None:
    """Return the row of a car we cannot control now, None for one we can."""
    seen = surroundings.observed.get(car.session.session_id)
    if not car.station.limits.supports_profiles:
        return (car.evse.max_kw,) * len(in_force)
    if seen is not None and seen.is_ignoring:
        drawn_kw = max(seen.power_kw, 0.0)
        return tuple(max(kw, drawn_kw) for kw in in_force)
    is_away = car.station.link_state is not LinkState.ONLINE
    if is_away or not car.station.automation or car.session.session_id in surroundings.held:
        return in_force
    return None


def _prices(
    known: Sequence[Price], edges_at: tuple[datetime, ...], notes: list[str]
) -> tuple[float, ...]:
    values = _series([(p.starts_at, p.until, p.eur_per_kwh) for p in known], edges_at)
    given = [v for v in values if v is not None]
    flat = sum(given) / len(given) if given else FLAT_EUR_PER_KWH
    missing = next((k for k, v in enumerate(values) if v is None), None)
    if missing is not None:
        at = edges_at[missing]
        notes.append(f"prices missing from {at:%Y-%m-%dT%H:%MZ}: {flat:.4f} EUR/kWh assumed")
    return tuple(flat if v is None else v for v in values)


def _carbon(known: Sequence[CarbonIntensity], edges_at: tuple[datetime, ...]) -> tuple[float, ...]:
    values = _series([(c.starts_at, c.until, c.kg_per_kwh) for c in known], edges_at)
    given = [v for v in values if v is not None]
    flat = sum(given) / len(given) if given else 0.0
    return tuple(flat if v is None else v for v in values)


def _series(
    rows: Sequence[tuple[datetime, datetime, float]], edges_at: tuple[datetime, ...]
) -> list[float | None]:
    """Return the time-weighted mean of `rows` in each slot, None where nothing covers it."""
    values: list[float | None] = []
    k = 0
    for start, end in pairwise(edges_at):
        while k < len(rows) and rows[k][1] <= start:
            k += 1
        covered_s, total = 0.0, 0.0
        j = k
        while j < len(rows) and rows[j][0] < end:
            overlap_s = (min(end, rows[j][1]) - max(start, rows[j][0])).total_seconds()
            if overlap_s > 0:
                covered_s += overlap_s
                total += overlap_s * rows[j][2]
            j += 1
        values.append(total / covered_s if covered_s > 0 else None)
    return values
