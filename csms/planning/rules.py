"""Strategies without a solver: walk through the slots and serve cars in an order.

In each slot what is due is served first, then, from what is left, what is merely wanted. With
minimum currents a car that runs keeps its minimum before another one starts, unless that other
car has no slack left: pauses wear contactors, and some cars never wake up again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from csms.core.model import Strategy
from csms.planning.grid import Floats, Grid

Order = NDArray[np.int64]
EPSILON_KW = 1e-9


def by_rule(grid: Grid, strategy: Strategy) -> Floats:
    """Return rows (N, K) for a strategy that serves cars in an order, kW.

    The headroom kept for arrivals is given up as soon as a need would be missed without it.
    """
    careful = filled_in_turn(grid, strategy, grid.room_kw - grid.reserved_kw)
    if not grid.reserved_kw.any() or not missed_kwh(grid, careful).any():
        return careful
    return filled_in_turn(grid, strategy, grid.room_kw)


def missed_kwh(grid: Grid, power_kw: Floats) -> Floats:
    """Return what is due and not given by `power_kw`, (N,) kWh."""
    given = (power_kw * grid.inside_h).sum(axis=1)
    missed = np.maximum(grid.due_kwh - given, 0.0)
    return np.where(grid.is_fixed | (missed < 1e-6), 0.0, missed)


def filled_in_turn(grid: Grid, strategy: Strategy, room_kw: Floats) -> Floats:
    """Return rows (N, K) that use up to `room_kw` (K,), slot after slot, by `strategy`."""
    n, slots = grid.shape
    power = np.zeros((n, slots))
    due = np.where(grid.is_fixed, 0.0, grid.due_kwh)
    rest = np.where(grid.is_fixed, 0.0, grid.later_kwh + grid.extra_kwh)
    left_h = np.cumsum(grid.inside_h[:, ::-1], axis=1)[:, ::-1]
    most = grid.cap_kw.max(axis=1, initial=0.0)
    running = np.array([bool(s.current_kw) for s in grid.case.sessions], dtype=np.bool_)
    share = _equal if strategy is Strategy.EQUAL_SHARE else _in_turn
    for k in range(slots):
        hours, cap = grid.inside_h[:, k], grid.cap_kw[:, k]
        is_here = (cap > 0) & (hours > 0)
        if not is_here.any():
            running = np.zeros(n, dtype=np.bool_)
            continue
        per_kw = np.where(is_here, hours, np.inf)
        laxity = left_h[:, k] - due / np.maximum(most, EPSILON_KW)
        urgent = laxity <= grid.hours[k]
        order = _order(grid, strategy, laxity)
        want = np.minimum(cap, due / per_kw)
        row = share(grid, order, want, np.zeros(n), room_kw[k], running | urgent)
        wanted = np.where(_accepts(grid, strategy, k), rest, 0.0)
        more = np.minimum(cap, (np.maximum(due - row * hours, 0.0) + wanted) / per_kw)
        # Whoever is still short of its due energy got all there was; the rest is for extras.
        row = share(grid, order, np.where(wanted > 0, more, row), row, room_kw[k], running)
        given = row * np.where(is_here, hours, 0.0)
        rest = np.maximum(rest - np.maximum(given - due, 0.0), 0.0)
        due = np.maximum(due - given, 0.0)
        due[due < 1e-9] = 0.0
        power[:, k] = row
        running = row > EPSILON_KW
    return power


def _accepts(grid: Grid, strategy: Strategy, k: int) -> NDArray[np.bool_]:
    """Return which cars want extra energy at the price of slot `k`."""
    if strategy is Strategy.AT_ONCE:
        return np.ones(grid.shape[0], dtype=np.bool_)
    asked = [s.max_price_per_kwh for s in grid.case.sessions]
    price = float(grid.price[k])
    return np.array([a is None or not price > a for a in asked], dtype=np.bool_)


def _order(grid: Grid, strategy: Strategy, laxity: Floats) -> Order:
    """Return the cars in the order in which they are served; ties go by place in the case."""
    first: Floats
    if strategy is Strategy.EARLIEST_DEADLINE:
        first = np.array([s.departs_at.timestamp() for s in grid.case.sessions])
    elif strategy is Strategy.AT_ONCE:
        first = np.array([s.available_at.timestamp() for s in grid.case.sessions])
    else:
        # Equal slack to the nanosecond is a tie, whatever the order of additions made of it.
        first = np.round(laxity, 9)
    return np.lexsort((first, -grid.rank))


def _in_turn(
    grid: Grid,
    order: Order,
    want: Floats,
    have: Floats,
    room_kw: float,
    keeps: NDArray[np.bool_],
) -> Floats:
    """Serve cars one after the other, on top of `have`; `keeps` get their minimum before others."""
    # Plain floats: indexing arrays one by one takes three times as long.
    least, guard = grid.least_kw.tolist(), grid.guard_kw.tolist()
    row, wish = have.tolist(), want.tolist()
    left = room_kw - float(np.maximum(have - grid.guard_kw, 0.0).sum())
    asking = order[want[order] > have[order] + EPSILON_KW].tolist()
    for i in order[keeps[order] & (have[order] == 0) & (want[order] > EPSILON_KW)].tolist():
        if 0 < least[i] <= guard[i] + left + EPSILON_KW:
            row[i] = least[i]
            left -= max(least[i] - guard[i], 0.0)
    for i in asking:
        own = max(row[i] - guard[i], 0.0)
        level = min(max(wish[i], least[i]), guard[i] + max(own + left, 0.0))
        if level >= least[i] - EPSILON_KW and level > row[i]:
            left -= max(level - guard[i], 0.0) - own
            row[i] = level
    return np.array(row, dtype=np.float64)


def _equal(
    grid: Grid,
    order: Order,
    want: Floats,
    have: Floats,
    room_kw: float,
    keeps: NDArray[np.bool_],
) -> Floats:
    """Give all cars of a priority class the same power, pausing the least urgent ones if need be.

    `keeps` does not matter here: who pauses is decided by slack alone, so turns rotate.
    """
    row = have.copy()
    left = room_kw - float(grid.shared_kw(row[:, None]).sum())
    for rank in sorted(set(grid.rank[order].tolist()), reverse=True):
        group = [i for i in order if grid.rank[i] == rank and want[i] > have[i] + EPSILON_KW]
        floor = {i: max(grid.least_kw[i], have[i]) for i in group}
        cost = {
            i: max(floor[i] - grid.guard_kw[i], 0.0) - max(have[i] - grid.guard_kw[i], 0.0)
            for i in group
        }
        while group and sum(cost[i] for i in group) > left + EPSILON_KW:
            group.pop()
        if not group:
            continue
        left += sum(max(have[i] - grid.guard_kw[i], 0.0) for i in group)
        cars = np.array(group)
        lower = np.array([floor[i] for i in group])
        upper = np.maximum(np.maximum(want[cars], grid.least_kw[cars]), lower)
        row[cars] = levelled(lower, upper, grid.guard_kw[cars], left)
        left -= float(np.maximum(row[cars] - grid.guard_kw[cars], 0.0).sum())
        left = max(left, 0.0)
    return row


def levelled(
    lower: Sequence[float] | Floats,
    upper: Sequence[float] | Floats,
    free: Sequence[float] | Floats,
    room: float,
) -> Floats:
    """Return clip(level, lower, upper) for the highest level whose sum above `free` fits `room`."""
    low, up, own = np.asarray(lower), np.asarray(upper), np.asarray(free)

    def used(level: float) -> float:
        return float(np.maximum(np.clip(level, low, up) - own, 0.0).sum())

    marks = np.unique(np.concatenate([low, up, own]))
    below = float(marks[0])
    for mark in marks[1:]:
        if used(float(mark)) > room:
            # Between two marks the sum is a straight line.
            span = used(float(mark)) - used(below)
            below += (room - used(below)) / span * (float(mark) - below) if span > 0 else 0.0
            break
        below = float(mark)
    return np.asarray(np.clip(below, low, up), dtype=np.float64)
