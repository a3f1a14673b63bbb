"""Guards: the limits stations keep by themselves, chosen so that all of them together fit.

A guard is installed at boot as the default for transactions without a schedule of their own. In
the worst case every station is cut off from the centre and a car stands at every EVSE: the guards
then add up to at most `guard_share` of what loads leave of the site's limit, and of every fuse of
its tree, per phase. Plans count every car with the larger of its row and its guard, so whichever
stations are cut off, and whenever, no limit is passed (docs/how-it-works.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from csms.core.circuit import Circuit, Series, Wiring
from csms.core.model import Evse, Site
from csms.core.plan import PlanningCase, PlanningSession
from csms.core.units import MIN_CURRENT_A
from csms.planning.limits import Floats, Limits, limits_of

Flags = NDArray[np.bool_]

_START = datetime(2000, 1, 1, tzinfo=UTC)
_EDGES = (_START, _START + timedelta(hours=1))
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What one EVSE allows without us: `current_a` per phase in whole amperes, and its power."""

    station_id: str
    evse_id: int
    current_a: int
    power_kw: float


def guards(site: Site, evses: Sequence[Evse], *, wiring: Wiring | None = None) -> tuple[Guard, ...]:
    """Return one guard per EVSE, in the order given.

    Each gets the least current a car can charge with (6 A, IEC 61851-1) while the share lasts:
    the first EVSE of every station before any second one. What is left raises all that have
    one, ampere by ampere. An EVSE for which nothing is left is guarded with 0 A.
    """
    order = sorted(range(len(evses)), key=lambda i: (evses[i].evse_id, evses[i].station_id))
    rising = np.array(order, dtype=np.intp)
    use, budget = _shares(site, evses, wiring or Wiring())
    per_a_kw = np.array([_power_kw(evse, 1, site) for evse in evses])
    max_kw = np.array([evse.max_kw for evse in evses])
    currents_a = np.zeros(len(evses), dtype=np.int64)
    by_a = int(MIN_CURRENT_A)
    while len(rising):
        most_kw = (currents_a[rising] + by_a) * per_a_kw[rising]
        rising = rising[most_kw <= max_kw[rising] + _ROUNDING]
        takes = use[:, rising] * (by_a * per_a_kw[rising])
        does_fit, budget = _fits_in_turn(takes, budget)
        rising = rising[does_fit]
        currents_a[rising] += by_a
        by_a = 1
    return tuple(
        Guard(
            station_id=evse.station_id,
            evse_id=evse.evse_id,
            current_a=current_a,
            power_kw=_power_kw(evse, current_a, site),
        )
        for evse, current_a in zip(evses, currents_a.tolist(), strict=True)
    )


def _fits_in_turn(takes: Floats, budget: Floats) -> tuple[Flags, Floats]:
    """Give each column of `takes` (R, N), in turn, what it takes of all limits, or nothing.

    Return who got it, (N,), and what is left of `budget`, (R,). A site's guards are worked out
    whenever it is planned, so many columns are given at once: up to the first that does not fit.
    """
    does_fit = np.zeros(takes.shape[1], dtype=np.bool_)
    waiting = np.arange(takes.shape[1])
    while True:
        # What does not fit by itself will not later either: the budget only falls.
        waiting = waiting[(takes[:, waiting] <= budget[:, None] + _ROUNDING).all(axis=0)]
        if not len(waiting):
            return does_fit, budget
        asked = takes[:, waiting]
        left = np.subtract.accumulate(np.hstack([budget[:, None], asked]), axis=1)
        is_over = (asked > left[:, :-1] + _ROUNDING).any(axis=0)
        until = int(is_over.argmax()) if is_over.any() else len(waiting)
        does_fit[waiting[:until]] = True
        budget = left[:, until]
        waiting = waiting[until:]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLoad:
    """One limit of a site with every station cut off and a car at every EVSE.

    `limit` is "kW" or "L1".."L3" of `circuit_id`, "" being the site. `most` is the limit itself,
    `load` what nobody controls, `guards` what stations allow by themselves; kW or A.
    """

    circuit_id: str
    limit: str
    most: float
    load: float
    guards: float


def guard_loads(
    site: Site, evses: Sequence[Evse], allowed_kw: Sequence[float], *, wiring: Wiring
) -> tuple[GuardLoad, ...]:
    """Return every limit of a site with its EVSEs at `allowed_kw`, what each lets a car have."""
    limits = _limits(site, evses, wiring)
    taken = limits.use @ np.array(allowed_kw, dtype=np.float64)
    return tuple(
        GuardLoad(
            circuit_id=limits.circuit[r],
            limit=limits.name[r],
            most=float(limits.limit[r, 0]),
            load=float(limits.load[r, 0]),
            guards=float(taken[r]),
        )
        for r in range(len(limits.name))
    )


def _shares(site: Site, evses: Sequence[Evse], wiring: Wiring) -> tuple[Floats, Floats]:
    """Return what a kW of each EVSE takes of each limit, (R, N), and the guards' share of it, (R,).

    Guards hold at any time, so each limit counts with its least and each load with its largest.
    """
    limits = _limits(site, evses, wiring)
    left = np.maximum(limits.limit[:, 0] - limits.load[:, 0], 0.0)
    return limits.use, left * site.guard_share


def _limits(site: Site, evses: Sequence[Evse], wiring: Wiring) -> Limits:
    """Return the limits of a site over its EVSEs instead of cars, in one slot."""
    sessions = tuple(
        PlanningSession(
            session_id=str(i),
            station_id=evse.station_id,
            evse_id=evse.evse_id,
            available_at=_START,
            departs_at=_EDGES[1],
            required_kwh=0.0,
            preferred_kwh=0.0,
            max_kw=evse.max_kw,
            min_kw=0.0,
            phases=evse.phases,
            voltage_v=site.voltage_v,
            circuit_id=wiring.of(evse.station_id, evse.evse_id).circuit_id,
            phases_used=wiring.phases(evse.station_id, evse.evse_id, used=evse.phases),
        )
        for i, evse in enumerate(evses)
    )
    case = PlanningCase(
        site_id=site.site_id,
        now_at=_START,
        edges_at=_EDGES,
        limit_kw=(site.limit_kw,),
        base_load_kw=(site.base_load_kw,),
        reserved_kw=(0.0,),
        price_eur_per_kwh=(0.0,),
        co2_kg_per_kwh=(0.0,),
        sessions=sessions,
        circuits=tuple(_at_worst(circuit) for circuit in wiring.circuits),
    )
    return limits_of(case, np.array([site.limit_kw]), np.array([site.base_load_kw]), [])


def _at_worst(circuit: Circuit) -> Circuit:
    def least(series: Series) -> Series:
        return (min(series),) if series else ()

    def most(series: Series) -> Series:
        return (max(series),) if series else ()

    return replace(
        circuit,
        limit_a=tuple(least(s) for s in circuit.limit_a),
        limit_kw=least(circuit.limit_kw),
        load_a=tuple(most(s) for s in circuit.load_a),
        load_kw=most(circuit.load_kw),
        # The guards of all EVSEs are what is being shared out.
        idle_guard_a=(),
        idle_guard_kw=0.0,
    )


def worst_case_kw(site: Site, evses: Sequence[Evse]) -> float:
    """Return the site's load with every station cut off and a car at every EVSE.

    An EVSE whose guard was never accepted is counted with all it can deliver.
    """
    return site.base_load_kw + sum(
        evse.max_kw if evse.guard_kw is None else evse.guard_kw for evse in evses
    )


def _power_kw(evse: Evse, current_a: int, site: Site) -> float:
    return current_a * evse.phases * site.voltage_v / 1000.0
