"""Each limit of a site now: what nobody controls there, what is planned, what meters show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from csms.core.circuit import Wiring
from csms.core.model import Session, Site
from csms.core.plan import Plan, PlanningCase
from csms.core.session import allowed_kw
from csms.core.wiring import path_of
from csms.planning.limits import PHASES
from csms.planning.loads import loads_of
from csms.store.wiring import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitNow:
    """A limit ("kW", or a phase in A) and what fills it; None where nothing is known.

    `load` is unmanaged, guards of EVSEs without a car included. `planned` is what the plan gives
    the cars, `measured` what their meters show. `source` says whose limit it is at the moment.
    """

    limit: str
    most: float
    load: float
    planned: float | None
    measured: float | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitNow:
    """A circuit of a site's tree; id "" is the site's connection."""

    circuit_id: str
    name: str
    parent_id: str
    limits: tuple[LimitNow, ...]


def circuits_now(
    site: Site,
    tree: Tree,
    opened: Sequence[Session],
    planned: tuple[PlanningCase, Plan] | None,
    *,
    now: datetime,
) -> tuple[CircuitNow, ...]:
    """Return the site's connection and its circuits with what each limit carries now."""
    wiring = tree.wiring
    case, plan = planned if planned is not None else (_empty(site, wiring, now), None)
    pairs = pairwise(case.edges_at)
    k = next((k for k, (start, end) in enumerate(pairs) if start <= now < end), 0)
    gives = [(allowed_kw(plan, s.session_id, now) or 0.0) if plan else 0.0 for s in case.sessions]
    measured = _measured(site, tree, wiring, opened, case)
    by_circuit: dict[str, list[LimitNow]] = {"": []}
    for row in loads_of(case, [(kw,) * case.slots for kw in gives]):
        by_circuit.setdefault(row.circuit_id, []).append(
            LimitNow(
                limit=row.limit,
                most=row.most[k],
                load=row.load[k],
                planned=None if plan is None else row.taken[k],
                measured=measured.get((row.circuit_id, row.limit), 0.0),
                source=row.source,
            )
        )
    named = {s.circuit_id: s for s in tree.setups}
    return tuple(
        CircuitNow(
            circuit_id=circuit_id,
            name=named[circuit_id].name if circuit_id in named else site.name,
            parent_id=named[circuit_id].parent_id if circuit_id in named else "",
            limits=tuple(limits),
        )
        for circuit_id, limits in by_circuit.items()
    )


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
    `count` how many there are. Where nobody knows which, it counts on all three.
    """
    if session.power_w is None:
        return None, None, None
    if len(session.current_a) == 3:
        at = wired if len(wired) == 3 else (1, 2, 3)
        by_phase = dict(zip(at, session.current_a, strict=True))
        return by_phase[1], by_phase[2], by_phase[3]
    each_a = session.power_w / (max(count, 1) * voltage_v)
    one, two, three = (each_a if p in (used or (1, 2, 3)) else 0.0 for p in (1, 2, 3))
    return one, two, three
