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

from csms.core.circuit import Circuit, Series, Wiring
from csms.core.model import Evse, Site
from csms.core.plan import PlanningCase, PlanningSession
from csms.core.units import MIN_CURRENT_A
from csms.planning.limits import Floats, Limits, limits_of

_START = datetime(2000, 1, 1, tzinfo=UTC)
_EDGES = (_START, _START + timedelta(hours=1))


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
    use, budget = _shares(site, evses, wiring or Wiring())
    currents_a = [0] * len(evses)

    def rise(i: int, by_a: int) -> bool:
        """Raise a guard if all limits and the EVSE itself allow it."""
        takes = use[:, i] * _power_kw(evses[i], by_a, site)
        most_kw = _power_kw(evses[i], currents_a[i] + by_a, site)
        if most_kw > evses[i].max_kw + 1e-9 or (takes > budget + 1e-9).any():
            return False
        np.subtract(budget, takes, out=budget)
        currents_a[i] += by_a
        return True

    rising = [i for i in order if rise(i, int(MIN_CURRENT_A))]
    while rising:
        rising = [i for i in rising if rise(i, 1)]
    return tuple(
        Guard(
            station_id=evse.station_id,
            evse_id=evse.evse_id,
            current_a=current_a,
            power_kw=_power_kw(evse, current_a, site),
        )
        for evse, current_a in zip(evses, currents_a, strict=True)
    )


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

    @property
    def is_kept(self) -> bool:
        """Whether guards and loads stay under the limit."""
        return self.load + self.guards <= self.most + 1e-6


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
