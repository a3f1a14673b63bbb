"""From what the store holds to one PlanningCase per site; every fallback is marked in its notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from csms.core.circuit import Cap, Wiring
from csms.core.errors import NotFound
from csms.core.model import (
    CarbonIntensity,
    Evse,
    LinkState,
    Price,
    Session,
    Site,
    Station,
    Trip,
)
from csms.core.plan import PlanningCase, PlanningSession
from csms.core.units import MIN_CURRENT_A, slot_start
from csms.planning.demand import held_kwh, need
from csms.planning.dwell import MIN_DWELL
from csms.planning.in_flight import TOLERANCE_KW
from csms.planning.learning import Observed
from csms.planning.loads import loads_of
from csms.planning.slots import (
    carbon_series,
    days_left,
    edges,
    price_series,
    reserve_series,
)
from csms.planning.taper import ready_by
from csms.service.batches import counted_rows
from csms.service.cars import (
    Car,
    drawn_kw,
    followed_kw,
    guard_kw,
    in_force_kw,
    is_seen,
    is_stale,
    last_turn,
    max_kw,
    on_phases_kw,
    own_guard_kw,
    sound,
    usable_phases,
)
from csms.service.following import car_of
from csms.service.outages import for_arrivals, outages
from csms.service.outside import cap_kw, caps_of
from csms.service.states import UNKNOWN_EVSE_KW
from csms.service.unmanaged import Flows, billed_peak_kw, counted, flows_of, with_loads
from csms.service.wiring import idle_guards, step_a, step_w
from csms.store import (
    identities,
    plans,
    reported,
    series,
    sessions,
    stations,
    terms,
    trips,
)
from csms.store import wiring as wires
from csms.store.statements import Tx

CARBON_EUR_PER_KG = 0.10
"""What a carbon-conscious driver's plan pays for a kilogram of CO2 not emitted."""


_DRAWS_A = 1.0
"""More than what a meter shows of a phase that nothing draws from."""
_JUST_NOW = timedelta(seconds=1)
"""A limit that ends this very moment is still the one with which a car runs."""


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
class SiteTerms:
    """What only the configuration says of planning a site.

    `demand_charge_eur_per_kw` is the price of the month's highest quarter hour, `peak_hint_kw` a
    peak that the month reaches anyhow. For `guaranteed` after its arrival a car gets its least
    current, whatever energy costs.
    """

    demand_charge_eur_per_kw: float = 0.0
    peak_hint_kw: float = 0.0
    guaranteed: timedelta = timedelta()


NO_TERMS = SiteTerms()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One site as it is now; `others` are open sessions that nobody may charge in."""

    site: Site
    evses: tuple[Evse, ...]
    stations: Mapping[str, Station]
    cars: tuple[Car, ...]
    others: tuple[Session, ...] = ()
    prices: Sequence[Price]
    carbon: Sequence[CarbonIntensity]
    flows: Flows
    terms: SiteTerms
    billed_peak_kw: float = 0.0
    wiring: Wiring = field(default_factory=Wiring)
    caps: tuple[Cap, ...] = ()
    out: frozenset[tuple[str, int]] = frozenset()
    """EVSEs that take nobody for now."""
    notes: tuple[str, ...] = ()


def snapshot(
    tx: Tx,
    site_id: str,
    *,
    now: datetime,
    horizon_h: float,
    carbon_id: str,
    site_terms: SiteTerms = SiteTerms(),
) -> Snapshot:
    """Load one site; raise UnknownSite."""
    site = stations.get_site(tx, site_id)
    known = {s.station_id: s for s in stations.list_stations(tx, site_id=site_id)}
    notes: list[str] = []
    evses = _reported(stations.evses_of_site(tx, site_id), notes)
    by_place = {(e.station_id, e.evse_id): e for e in evses}
    present = sessions.open_sessions_of_site(tx, site_id)
    ids = [s.session_id for s in present]
    taken, doubtful = (
        plans.schedules_since(tx, ids, now - MIN_DWELL),
        plans.doubtful_schedules(tx, ids),
    )
    prioritised = terms.prioritised(tx, ids)
    refused, wishes = plans.refused_schedules(tx, ids), reported.needs_of(tx, ids)
    habits = reported.habits_of(tx, [car_of(s) for s in present])
    caps = caps_of(tx, sorted({s.station_id for s in present}))
    setups = wires.circuits_of(tx, site_id)
    counts_phases = bool(setups)
    cars, others = [], []
    for session in present:
        station = known.get(session.station_id)
        if station is None or not session.is_authorized or not session.evse_id:
            others.append(session)
            continue
        followed = taken.get(session.session_id, ())
        in_force = followed[-1] if followed else None
        unsure = doubtful.get(session.session_id, ())
        if in_force is not None and station.booted_at and in_force.sent_at < station.booted_at:
            # What a station kept of its schedules over a restart is unknown: they are sent again,
            # and until then count as kept.
            unsure = (in_force, *unsure)
            in_force = None
        car = Car(
            session=session,
            station=station,
            evse=by_place.get((session.station_id, session.evse_id))
            or _undescribed(session, evses),
            vehicle=identities.find_vehicle(tx, session.vehicle_id),
            holder=identities.holder_of_did(tx, session.holder_did),
            trip=_trip(tx, session.trip_id),
            installed=in_force,
            turn=last_turn(followed, now) if in_force is not None else None,
            is_prioritised=session.session_id in prioritised,
            doubtful=unsure,
            refused=refused.get(session.session_id, ()),
            wish=wishes.get(session.session_id),
            habit=habits.get(car_of(session)),
            counts_phases=counts_phases,
        )
        car = replace(car, cap_kw=cap_kw(car, caps, site, now=now, cars=present))
        cars.append(sound(car, notes))
    start, until = slot_start(now), now + timedelta(hours=horizon_h + 2)
    return Snapshot(
        site=site,
        evses=tuple(evses),
        stations=known,
        cars=tuple(cars),
        others=tuple(others),
        prices=series.prices(tx, site.tariff_id, start, until),
        carbon=series.carbon(tx, carbon_id, start, until),
        flows=flows_of(tx, site, setups, now=now, horizon_h=horizon_h),
        terms=site_terms,
        billed_peak_kw=(
            billed_peak_kw(tx, site, setups, now)
            if site_terms.demand_charge_eur_per_kw > 0
            else 0.0
        ),
        wiring=wires.wiring_of(tx, site_id, also=[c.evse for c in cars]),
        caps=tuple(kept.cap for kept in wires.caps_of(tx, site_id, now, until)),
        out=outages(tx, evses, notes),
        notes=tuple(notes),
    )


def _reported(evses: Sequence[Evse], notes: list[str]) -> list[Evse]:
    """Return the EVSEs that are there: a station reports the state of each one it has.

    One that was registered and never reported, while others of its station were, would hold room
    for a guard that it cannot take. If it does exist, its first message brings it back.
    """
    reporting = {e.station_id for e in evses if e.status_at is not None}
    found = []
    for evse in evses:
        if evse.status_at is None and evse.guard_kw is None and evse.station_id in reporting:
            notes.append(f"EVSE {evse.evse_id} of {evse.station_id} never reported: not counted")
        else:
            found.append(evse)
    return found


def _undescribed(session: Session, evses: Sequence[Evse]) -> Evse:
    """Return the EVSE of a session whose station never described it: like its others, unguarded."""
    like = next(
        (e for e in evses if e.station_id == session.station_id),
        Evse(station_id=session.station_id, evse_id=session.evse_id, max_kw=UNKNOWN_EVSE_KW),
    )
    return replace(like, evse_id=session.evse_id, guard_kw=None)


def _trip(tx: Tx, trip_id: str) -> Trip | None:
    """Return a trip, None where there is none any more: the need is then the session's own."""
    if not trip_id:
        return None
    try:
        return trips.get_trip(tx, trip_id)
    except NotFound:
        return None


def planning_case(
    known: Snapshot,
    surroundings: Surroundings,
    *,
    now: datetime,
    horizon_h: float,
    slot_s: int,
) -> PlanningCase:
    """Return the whole input of the planner for one site.

    In the last minute of a slot it begins with the next one, unless a limit is passed as it is.
    """
    edges_at = edges(now, horizon_h=horizon_h, slot_s=slot_s)
    if edges_at[0] > now:
        # What is left of the slot is looked at alone: that costs a fraction of a whole case.
        rest = _case_over((now, edges_at[0]), known, surroundings, now=now)
        if _is_passed(rest, known):
            edges_at = (now, *edges_at[:-1])
    return _case_over(edges_at, known, surroundings, now=now)


def _is_passed(case: PlanningCase, known: Snapshot) -> bool:
    """Return whether the first slot passes a limit with all cars at what they may draw in it."""
    return any(
        row.taken[0] > 0 and row.load[0] + row.taken[0] > row.most[0] + TOLERANCE_KW
        for row in loads_of(case, counted_rows(known.cars, known.site, case))
    )


def _case_over(
    edges_at: tuple[datetime, ...], known: Snapshot, surroundings: Surroundings, *, now: datetime
) -> PlanningCase:
    starts = edges_at[:-1]
    notes = list(known.notes)
    prices = price_series(known.prices, edges_at, notes)
    carbon = carbon_series(known.carbon, edges_at)
    loads = counted(known.flows, known.site, edges_at, now=now, notes=notes)
    cars = tuple(
        _planning_session(car, known, surroundings, edges_at=edges_at, now=now)
        for car in known.cars
    )
    idle_kw = _idle_kw(known, now=now)
    idle = idle_guards(
        known.wiring,
        known.evses,
        idle_kw,
        drawing=frozenset((s.station_id, s.evse_id) for s in known.others),
        voltage_v=known.site.voltage_v,
    )
    return PlanningCase(
        site_id=known.site.site_id,
        now_at=now,
        strategy=known.site.strategy,
        edges_at=edges_at,
        limit_kw=(known.site.limit_kw,) * len(starts),
        base_load_kw=loads.site.power_kw,
        base_load_a=loads.site.current_a,
        reserved_kw=reserve_series(_for_arrivals(known, surroundings, now), edges_at),
        idle_guard_kw=sum(idle_kw.values()),
        idle_guard_a=idle.of_site_a,
        price_eur_per_kwh=prices,
        co2_kg_per_kwh=carbon,
        demand_charge_eur_per_kw=known.terms.demand_charge_eur_per_kw,
        billed_peak_kw=known.billed_peak_kw,
        peak_hint_kw=known.terms.peak_hint_kw,
        days_left=days_left(now, known.site.time_zone),
        solar_kw=loads.solar_kw,
        export_eur_per_kwh=(
            (known.site.export_eur_per_kwh,) * len(starts) if loads.solar_kw else ()
        ),
        sessions=cars,
        circuits=with_loads(idle.on(known.wiring.circuits), loads.circuits),
        caps=known.caps,
        notes=tuple(notes),
    )


def _for_arrivals(
    known: Snapshot, surroundings: Surroundings, now: datetime
) -> Mapping[datetime, float]:
    sessions_here = (*(c.session for c in known.cars), *known.others)
    return for_arrivals(
        surroundings.reserved_kw,
        known.evses,
        out=known.out,
        taken=frozenset((s.station_id, s.evse_id) for s in sessions_here),
        now=now,
    )


def _idle_kw(known: Snapshot, *, now: datetime) -> dict[tuple[str, int], float]:
    """Return what each EVSE without a planned session may draw by itself, kW.

    An EVSE whose station was here and never took its guard counts with all it can deliver; a
    station that never linked is not there yet. What is drawn beyond that counts as drawn.
    """
    planned = {(c.session.station_id, c.session.evse_id) for c in known.cars}
    most = {(e.station_id, e.evse_id): e.max_kw for e in known.evses}
    idle = {
        (evse.station_id, evse.evse_id): guard_kw(evse, known.stations[evse.station_id])
        for evse in known.evses
        if (evse.station_id, evse.evse_id) not in planned
    }
    for session in known.others:
        place = (session.station_id, session.evse_id)
        if place not in planned:
            draws_kw = drawn_kw(session)
            if is_stale(session, now):
                # Nobody knows what it draws: all that its EVSE lets it have.
                draws_kw = max(draws_kw, most.get(place, 0.0))
            idle[place] = max(idle.get(place, 0.0), draws_kw)
    return idle


def _planning_session(
    car: Car,
    known: Snapshot,
    surroundings: Surroundings,
    *,
    edges_at: tuple[datetime, ...],
    now: datetime,
) -> PlanningSession:
    site, wiring = known.site, known.wiring
    session, vehicle, holder = car.session, car.vehicle, car.holder
    most_kw = max_kw(car, site.voltage_v)
    if car.cap_kw is not None:
        most_kw = min(most_kw, car.cap_kw)
    seen = surroundings.observed.get(session.session_id) or Observed()
    wanted = need(session, car.trip, vehicle, now=now, max_kw=most_kw)
    departs_at = wanted.departs_at
    held = held_kwh(session, vehicle) if vehicle is not None else None
    if vehicle is not None and not car.is_dc:
        soc = 0.0 if held is None else held / vehicle.battery_kwh
        departs_at = ready_by(
            wanted,
            soc=soc,
            battery_kwh=vehicle.battery_kwh,
            efficiency=vehicle.efficiency,
            max_kw=most_kw,
            now=now,
        )
    least_a = max(
        vehicle.min_current_a if vehicle else MIN_CURRENT_A,
        (car.wish.min_current_a if car.wish else None) or 0.0,
        seen.min_current_a or 0.0,
    )
    least_kw = least_a * usable_phases(car) * site.voltage_v / 1000.0
    least_kw = min(max(least_kw, car.station.limits.least_w / 1000.0), most_kw)
    if seen.cap_kw is not None:
        most_kw = max(min(most_kw, seen.cap_kw), least_kw)
    in_force = in_force_kw(car, site, edges_at)
    fixed = _fixed_kw(car, site, surroundings, in_force)
    current_kw, turn = None, car.turn
    if _counts_as_begun(car):
        current_kw = in_force_kw(car, site, (now - _JUST_NOW, now))[0]
    return PlanningSession(
        session_id=session.session_id,
        station_id=session.station_id,
        evse_id=session.evse_id,
        available_at=min(session.started_at, now),
        departs_at=departs_at,
        required_kwh=wanted.required_kwh,
        preferred_kwh=wanted.preferred_kwh,
        max_kw=most_kw,
        min_kw=least_kw,
        guard_kw=own_guard_kw(car),
        phases=usable_phases(car),
        priority=session.priority,
        max_price_per_kwh=holder.max_price_per_kwh if holder else None,
        carbon_weight_eur_per_kg=(
            CARBON_EUR_PER_KG if holder is not None and holder.carbon_conscious else 0.0
        ),
        current_kw=current_kw,
        # Where it was paused and may run still, by the edge of a slot that has just passed or by a
        # schedule that may have come, it is bound to neither.
        since_on_at=turn.at if turn and turn.is_on and current_kw else None,
        since_off_at=turn.at if turn and not turn.is_on and not current_kw else None,
        fixed_kw=fixed,
        is_assumed=wanted.is_assumed,
        in_force_kw=() if fixed is not None else followed_kw(car, site, edges_at),
        circuit_id=wiring.of(session.station_id, session.evse_id).circuit_id,
        phases_used=_phases_used(car, wiring),
        voltage_v=site.voltage_v,
        step_a=step_a(car.station, car.evse),
        step_w=step_w(car.station, car.evse),
        delivered_kwh=max(session.energy_wh, 0.0) / 1000.0,
        guaranteed_slots=sum(
            at < session.started_at + known.terms.guaranteed for at in edges_at[:-1]
        ),
        never_pause=seen.never_pause or car.station.limits.zero != "ok",
        max_periods=_max_periods(car),
    )


def _counts_as_begun(car: Car) -> bool:
    """Return whether a car charges by what it has now; where 0 A ends it, its guard is enough."""
    return car.installed is not None or car.station.limits.zero == "ends_session"


def _phases_used(car: Car, wiring: Wiring) -> tuple[int, ...]:
    """Return the site's phases that a car draws from; empty while they are not known for sure."""
    if not is_seen(car):
        return ()
    session, used = car.session, usable_phases(car)
    found = wiring.phases(session.station_id, session.evse_id, used=used)
    draws = tuple(i for i, a in enumerate(session.current_a) if a > _DRAWS_A)
    wired = wiring.of(session.station_id, session.evse_id).phases
    if len(session.current_a) == 3 == len(wired) and len(draws) == used:
        # Its own meter knows better which conductors it uses.
        return tuple(wired[i] for i in draws)
    return found


def _max_periods(car: Car) -> int:
    told = car.wish.max_periods if car.wish is not None else None
    return min(car.station.limits.max_periods, told or car.station.limits.max_periods)


def priority_kw(evse: Evse, site: Site) -> float:
    """Return what an EVSE may draw while its driver charges with priority, kW.

    All that it can, as far as the site alone allows: the others are planned around it.
    """
    return max(min(evse.max_kw, site.limit_kw - site.base_load_kw), 0.0)


def _fixed_kw(
    car: Car, site: Site, surroundings: Surroundings, in_force: tuple[float, ...]
) -> tuple[float, ...] | None:
    """Return the row of a car we cannot control now, None for one we can."""
    seen = surroundings.observed.get(car.session.session_id)
    if not car.station.limits.supports_profiles:
        return (on_phases_kw(car, car.evse.max_kw),) * len(in_force)
    if car.is_prioritised:
        full_kw = min(priority_kw(car.evse, site), max_kw(car))
        return tuple(max(kw, full_kw) for kw in in_force)
    if seen is not None and seen.is_ignoring:
        # What it draws now it may exceed in a minute: nothing holds it but EVSE and car.
        worst_kw = max(seen.power_kw, max_kw(car))
        return tuple(max(kw, worst_kw) for kw in in_force)
    is_away = car.station.link_state is not LinkState.ONLINE
    if is_away or not car.station.automation or car.session.session_id in surroundings.held:
        return in_force
    return None
