"""Guards: the limits stations keep by themselves, chosen so that all of them together fit.

A guard is installed at boot as the default for transactions without a schedule of their own. In
the worst case every station is cut off from the centre and a car stands at every EVSE: the guards
then add up to at most `guard_share` of what the building leaves of the site's limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from csms.core.model import Evse, Site
from csms.core.units import MIN_CURRENT_A


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What one EVSE allows without us: `current_a` per phase in whole amperes, and its power."""

    station_id: str
    evse_id: int
    current_a: int
    power_kw: float


def guards(site: Site, evses: Sequence[Evse]) -> tuple[Guard, ...]:
    """Return one guard per EVSE, in the order given.

    Each gets the least current a car can charge with (6 A, IEC 61851-1) while the share lasts:
    the first EVSE of every station before any second one. What is left raises all that have
    one, ampere by ampere. An EVSE for which nothing is left is guarded with 0 A.
    """
    order = sorted(range(len(evses)), key=lambda i: (evses[i].evse_id, evses[i].station_id))
    budget_kw = max(site.limit_kw - site.base_load_kw, 0.0) * site.guard_share
    currents_a = [0] * len(evses)
    least_a = int(MIN_CURRENT_A)
    for i in order:
        least_kw = _power_kw(evses[i], least_a, site)
        if least_kw <= min(budget_kw, evses[i].max_kw) + 1e-9:
            currents_a[i] = least_a
            budget_kw -= least_kw
    raised = True
    while raised:
        raised = False
        for i in order:
            step_kw = _power_kw(evses[i], 1, site)
            next_kw = _power_kw(evses[i], currents_a[i] + 1, site)
            if currents_a[i] and step_kw <= budget_kw and next_kw <= evses[i].max_kw + 1e-9:
                currents_a[i] += 1
                budget_kw -= step_kw
                raised = True
    return tuple(
        Guard(
            station_id=evse.station_id,
            evse_id=evse.evse_id,
            current_a=current_a,
            power_kw=_power_kw(evse, current_a, site),
        )
        for evse, current_a in zip(evses, currents_a, strict=True)
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
