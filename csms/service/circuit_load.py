"""Each limit of a site now: what nobody controls there, what is planned, what meters show.

Two kinds of numbers: what draws at this moment, as meters tell it, and what a plan has to count,
which adds the meters' margins and the guards of whoever may be cut off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from csms.core.circuit import Circuit, Wiring
from csms.core.metering import LOAD, Reading
from csms.core.model import Session, Site
from csms.core.plan import Plan, PlanningCase
from csms.core.session import InForce, agrees, allowed_kw
from csms.core.wiring import path_of
from csms.planning.limits import PHASES
from csms.planning.loads import loads_of
from csms.service.metering import MeterNow
from csms.store.wiring import Tree

_SHOWN = 0.05
"""What a page with one decimal does not show is not passed: meters round, and so do stations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitNow:
    """A limit ("kW", or a phase in A) and what fills it; None where nothing is known.

    `load` is unmanaged, guards of EVSEs without a car included. `planned` is what the plan gives
    the cars, `measured` what their meters show. `source` says whose limit it is at the moment.
    `unmanaged` is what draws beside the cars by its meters, or what is counted where none tells.
    `drawn` is that and the cars, each with no more than its station has allowed it since its last
    sample; `is_passed` says whether that is above the limit. `reserved` is what is kept beside
    `unmanaged` and `planned` for guards and for the meters' margins, `left` what that leaves of the
    limit for plans; negative: too much.
    """

    limit: str
    most: float
    load: float
    planned: float | None
    measured: float | None
    source: str
    unmanaged: float
    drawn: float | None
    reserved: float
    left: float
    is_passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitNow:
    """A circuit of a site's tree; id "" is the site's connection. `limits` may be none."""

    circuit_id: str
    name: str
    parent_id: str
    limits: tuple[LimitNow, ...]


def circuits_now(
    site: Site,
    tree: Tree,
    opened: Sequence[Session],
    planned: tuple[PlanningCase, Plan] | None,
    meters: Sequence[MeterNow],
    *,
    followed: Mapping[str, InForce],
    now: datetime,
) -> tuple[CircuitNow, ...]:
    """Return the site's connection and all its circuits with what each limit carries now.

    `followed` holds, by session, what stations have accepted that may be less than was measured.
    """
    wiring = tree.wiring
    case, plan = planned if planned is not None else (_empty(site, wiring, now), None)
    pairs = pairwise(case.edges_at)
    k = next((k for k, (start, end) in enumerate(pairs) if start <= now < end), 0)
    gives = [(allowed_kw(plan, s.session_id, now) or 0.0) if plan else 0.0 for s in case.sessions]
    keeps = [max(kw, s.guard_kw) for kw, s in zip(gives, case.sessions, strict=True)]
    kept = {
        (row.circuit_id, row.limit): row.taken[k]
        for row in loads_of(case, [(kw,) * case.slots for kw in keeps])
    }
    beside = {
        (row.circuit_id, row.limit): row.load[k]
        for row in loads_of(_without_cars(case, meters), [])
    }
    measured = _measured(site, tree, wiring, opened, case)
    still = [_still(s, followed.get(s.session_id), now) for s in opened]
    cars = _measured(site, tree, wiring, still, case)
    limits: dict[str, list[LimitNow]] = {}
    for row in loads_of(case, [(kw,) * case.slots for kw in gives]):
        key = row.circuit_id, row.limit
        draw = cars.get(key, 0.0)
        drawn = None if draw is None else beside[key] + draw
        limits.setdefault(row.circuit_id, []).append(
            LimitNow(
                limit=row.limit,
                most=row.most[k],
                load=row.load[k],
                planned=None if plan is None else row.taken[k],
                measured=measured.get(key, 0.0),
                source=row.source[k],
                unmanaged=beside[key],
                drawn=drawn,
                reserved=row.load[k] - beside[key] + kept[key] - row.taken[k],
                left=row.most[k] - row.load[k] - kept[key],
                is_passed=drawn is not None and drawn > row.most[k] + _SHOWN,
            )
        )
    named = [("", site.name, ""), *((s.circuit_id, s.name, s.parent_id) for s in tree.setups)]
    return tuple(
        CircuitNow(
            circuit_id=circuit_id,
            name=name,
            parent_id=parent_id,
            limits=tuple(limits.get(circuit_id, ())),
        )
        for circuit_id, name, parent_id in named
    )


def _without_cars(case: PlanningCase, meters: Sequence[MeterNow]) -> PlanningCase:
    """Return a case with only what draws beside the cars, as the meters that are heard tell it."""
    told = {
        m.circuit_id: m.reading
        for m in meters
        if m.kind == LOAD and m.reading is not None and not m.is_silent
    }
    bare = replace(
        case,
        sessions=(),
        limit_rows=(),
        idle_guard_kw=0.0,
        idle_guard_a=(),
        circuits=tuple(_metered(c, told.get(c.circuit_id)) for c in case.circuits),
    )
    if "" not in told:
        return bare
    return replace(
        bare,
        base_load_kw=(told[""].power_kw,) * case.slots,
        base_load_a=tuple((a,) for a in told[""].current_a),
    )


def _metered(circuit: Circuit, told: Reading | None) -> Circuit:
    circuit = replace(circuit, idle_guard_kw=0.0, idle_guard_a=())
    if told is None:
        return circuit
    currents_a = tuple((a,) for a in told.current_a)
    return replace(circuit, load_kw=(told.power_kw,), load_a=currents_a)


def _empty(site: Site, wiring: Wiring, now: datetime) -> PlanningCase:
    """Return a case without cars: what limits and loads come to before the first plan."""
    return PlanningCase(
        site_id=site.site_id,
        now_at=now,
        edges_at=(now, now + timedelta(hours=1)),
        limit_kw=(site.limit_kw,),
        base_load_kw=(site.base_load_kw,),
        reserved_kw=(0.0,),
        price_eur_per_kwh=(0.0,),
        co2_kg_per_kwh=(0.0,),
        sessions=(),
        circuits=wiring.circuits,
    )


def _still(session: Session, row: InForce | None, now: datetime) -> Session:
    """Return a session with what it can still draw of what its last sample showed.

    Where cars take turns, the samples of those that were lowered are older than those of others
    that were raised for it; together they would seem to pass a limit that was kept.
    """
    allowed = None if row is None else row.at(now)
    if row is None or allowed is None or session.power_w is None or session.sample_at is None:
        return session
    if row.since(now) <= session.sample_at or session.power_w <= allowed * 1000.0:
        return session
    share = allowed * 1000.0 / session.power_w
    return replace(
        session,
        power_w=session.power_w * share,
        current_a=tuple(a * share for a in session.current_a),
    )


def _measured(
    site: Site, tree: Tree, wiring: Wiring, opened: Sequence[Session], case: PlanningCase
) -> Mapping[tuple[str, str], float | None]:
    """Return by circuit and limit what the cars' meters show; None where one says nothing."""
    phases = {s.session_id: (s.phases_used, s.phases) for s in case.sessions}
    found: dict[tuple[str, str], float | None] = {}

    def add(circuit_id: str, name: str, value: float | None) -> None:
        key = circuit_id, name
        had = found.get(key, 0.0)
        found[key] = None if value is None or had is None else had + value

    for session in opened:
        place = wiring.of(session.station_id, session.evse_id)
        used, count = phases.get(session.session_id, ((), 3))
        kw = None if session.power_w is None else session.power_w / 1000.0
        currents = currents_of(session, place.phases, used, count=count, voltage_v=site.voltage_v)
        for circuit_id in ("", *path_of(place.circuit_id, tree.setups)):
            add(circuit_id, "kW", kw)
            for name, current_a in zip(PHASES, currents, strict=True):
                add(circuit_id, name, current_a)
    return found


def currents_of(
    session: Session,
    wired: tuple[int, ...],
    used: tuple[int, ...],
    *,
    count: int,
    voltage_v: float,
) -> tuple[float | None, float | None, float | None]:
    """Return what a session draws from L1, L2 and L3 of its site, as its meter shows it.

    `wired` are the site's phases behind its EVSE's own, `used` those that it is known to draw from,
    `count` how many there are. Where nobody knows which, it counts on all three. Currents that do
    not belong to the power are of an earlier sample: stations may tell one without the other.
    """
    if session.power_w is None:
        return None, None, None
    kw = session.power_w / 1000.0
    if len(session.current_a) == 3 and agrees(session.current_a, kw, voltage_v=voltage_v):
        at = wired if len(wired) == 3 else (1, 2, 3)
        by_phase = dict(zip(at, session.current_a, strict=True))
        return by_phase[1], by_phase[2], by_phase[3]
    each_a = session.power_w / (max(count, 1) * voltage_v)
    one, two, three = (each_a if p in (used or (1, 2, 3)) else 0.0 for p in (1, 2, 3))
    return one, two, three
