"""What a site may draw at the worst moment with its stations cut off, limit by limit.

Two questions. With a car at every EVSE and nobody to tell them anything, what do the guards come
to? And with every station cut off right now, each doing the most that its schedules may still
allow, what is the highest sum at any moment of the horizon?
"""

from dataclasses import dataclass, replace
from datetime import datetime

from csms.core.plan import PlanningCase
from csms.planning.guard import GuardLoad, guard_loads, guards
from csms.planning.loads import LimitLoad, loads_of
from csms.service.batches import counted_rows
from csms.service.cars import guard_kw
from csms.service.cases import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeLimit:
    """A limit and its worst cases, in `unit` ("kW", "A").

    `load` is what nobody controls. `guards` is with it the sum of all guards, `worst` the highest
    sum of what stations may still do by themselves, at `worst_at`. `highest` is the larger of both,
    `left` what that leaves of the limit; negative: a cut-off may pass it.
    """

    circuit_id: str
    limit: str
    unit: str
    most: float
    load: float
    guards: float
    worst: float
    worst_at: datetime
    highest: float
    left: float
    is_kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeEvse:
    """An EVSE's guard: what it allows by itself, and what it should.

    `guard_a` is per phase; `is_accepted` says whether its station ever took a guard: until then it
    counts with all it can deliver.
    """

    station_id: str
    evse_id: int
    circuit_id: str
    phases: tuple[int, ...]
    guard_kw: float
    guard_a: float
    wanted_a: float
    is_accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FailSafe:
    """A site cut off: whether every limit is kept, and what each of them comes to."""

    site_id: str
    at: datetime
    is_kept: bool
    limits: tuple[SafeLimit, ...]
    evses: tuple[SafeEvse, ...]
    without_guard: tuple[str, ...]
    """EVSEs that give nothing while they are cut off: the guards' share does not reach them."""


def fail_safe(known: Snapshot, case: PlanningCase) -> FailSafe:
    """Return what a site comes to when its stations are cut off at their worst moment."""
    limits = _limits(known, case)
    evses = _evses(known)
    return FailSafe(
        site_id=case.site_id,
        at=case.now_at,
        is_kept=all(limit.is_kept for limit in limits),
        limits=limits,
        evses=evses,
        without_guard=tuple(f"{e.station_id}/{e.evse_id}" for e in evses if e.wanted_a == 0),
    )


def _limits(known: Snapshot, case: PlanningCase) -> tuple[SafeLimit, ...]:
    site = known.site
    allowed = [guard_kw(e, known.stations[e.station_id]) for e in known.evses]
    cut = {
        (g.circuit_id, g.limit): g
        for g in guard_loads(site, known.evses, allowed, wiring=known.wiring)
    }
    # A cap for a time is not kept by stations that nobody can tell.
    case = replace(case, caps=())
    rows = loads_of(case, counted_rows(known.cars, site, case))
    return tuple(_limit(row, cut.get((row.circuit_id, row.limit)), case) for row in rows)


def _limit(row: LimitLoad, cut: GuardLoad | None, case: PlanningCase) -> SafeLimit:
    k = row.worst_slot
    worst = row.load[k] + row.taken[k]
    guarded = cut.load + cut.guards if cut is not None else 0.0
    highest = max(guarded, worst)
    return SafeLimit(
        circuit_id=row.circuit_id,
        limit=row.limit,
        unit=row.unit,
        most=row.most[k],
        load=row.load[k],
        guards=guarded,
        worst=worst,
        worst_at=case.edges_at[k],
        highest=highest,
        left=row.most[k] - highest,
        is_kept=highest <= row.most[k] + 1e-6,
    )


def _evses(known: Snapshot) -> tuple[SafeEvse, ...]:
    wanted = guards(known.site, known.evses, wiring=known.wiring)
    found = []
    for evse, guard in zip(known.evses, wanted, strict=True):
        allowed_kw = guard_kw(evse, known.stations[evse.station_id])
        place = known.wiring.of(evse.station_id, evse.evse_id)
        found.append(
            SafeEvse(
                station_id=evse.station_id,
                evse_id=evse.evse_id,
                circuit_id=place.circuit_id,
                phases=place.phases,
                guard_kw=allowed_kw,
                guard_a=allowed_kw * 1000.0 / (evse.phases * known.site.voltage_v),
                wanted_a=float(guard.current_a),
                is_accepted=evse.guard_kw is not None,
            )
        )
    return tuple(found)
