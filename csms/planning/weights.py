"""What a plan weighs, in EUR: the order of everything that may be given up, and a plan's total.

From dear to cheap: needs that are due (priority class, then the quarter of each car's whole need,
then its urgency), headroom kept for arrivals, cost with carbon and peak, energy wanted if cheap.
A kWh of capacity serves one kWh of need, so only the order of these prices counts.
"""

from dataclasses import dataclass

import numpy as np

from csms.planning.grid import Floats, Grid

SEGMENTS = (1.15, 1.05, 0.95, 0.85)
"""Weights of the quarters of a need: everybody's first quarter comes before anyone's last."""
UNWANTED_EUR = -1e3
"""What extra energy is worth to a car that is never offered any slot it would take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Prices per kWh of what is given up: `due` (4, N) by quarter, and the others.

    `due_kwh` (4, N) is what is left of each quarter of a car's need, `extra` (N,) what its wishes
    are worth to it.
    """

    due: Floats
    due_kwh: Floats
    reserve: float
    later: float
    extra: Floats


def weights_of(grid: Grid, least_h: float) -> Weights:
    """Return the weights of `grid`; a peak is caused by as little as one block of `least_h`."""
    cost = grid.cost[grid.inside_h > 0]
    low = float(cost.min(initial=0.0))
    high = float(cost.max(initial=0.0))
    peak = grid.demand_weight / least_h
    spread = high - low + float((grid.price - grid.export_price).max(initial=0.0))
    reserve = max(high, 0.0) + spread + peak + 1.0
    need = 4.0 * (reserve + spread + 1.0)
    # Slots are the control periods; a car without slack weighs up to 1.3 times. The slack is that
    # of the whole visit: if a car weighed more for having waited, plans to come would give it what
    # this one says that others get.
    slot_h = float(grid.hours.max(initial=1.0))
    urgency = 1.0 + 0.3 / (1.0 + np.maximum(grid.visit_laxity_h, 0.0) / slot_h)
    quarters = np.array(SEGMENTS)[:, None]
    return Weights(
        due=need * (1.0 + 2.0 * grid.rank + quarters * urgency),
        due_kwh=_quarters(grid),
        reserve=reserve,
        later=high + 0.5,
        extra=np.where(np.isfinite(grid.extra_value), grid.extra_value, UNWANTED_EUR),
    )


def _quarters(grid: Grid) -> Floats:
    """Return how much of each quarter of the whole needs is still due, (4, N) kWh."""
    had = np.where(grid.due_kwh > 0, grid.delivered_kwh, 0.0)
    whole = had + grid.due_kwh
    edges = np.arange(len(SEGMENTS) + 1)[:, None] * whole / len(SEGMENTS)
    edges[-1] = whole
    reached = np.maximum(edges, had)
    return np.asarray(reached[1:] - reached[:-1], dtype=np.float64)


def objective(grid: Grid, weights: Weights, power_kw: Floats, *, reserve_kw: Floats) -> float:
    """Return what rows (N, K) weigh, EUR, `reserve_kw` (K,) being what they take of the headroom.

    It is the solver's own objective, slot by slot, so that what rounding loses can be told.
    """
    energy = power_kw * grid.inside_h
    total = float((energy * grid.cost).sum())
    total += weights.reserve * float((reserve_kw * grid.hours).sum())
    load = (energy / grid.hours).sum(axis=0)
    peak = float((grid.base_kw + load).max(initial=0.0))
    total += grid.demand_weight * max(peak - grid.first_peak_kw, 0.0)
    bought = np.maximum(load - grid.surplus_kw, 0.0) * (grid.price - grid.export_price)
    total += float((np.where(grid.surplus_kw > 0, bought, 0.0) * grid.hours).sum())
    unmet = grid.due_kwh + grid.later_kwh + grid.extra_kwh - energy.sum(axis=1)
    unmet = np.where(grid.is_fixed, 0.0, np.maximum(unmet, 0.0))
    steps = ((grid.extra_kwh, weights.extra), (grid.later_kwh, np.full(len(unmet), weights.later)))
    for kwh, worth in (*steps, *zip(weights.due_kwh[::-1], weights.due[::-1], strict=True)):
        given_up = np.minimum(unmet, kwh)
        total += float((given_up * worth).sum())
        unmet = unmet - given_up
    return total
