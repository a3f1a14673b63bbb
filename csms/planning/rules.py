"""Strategies without a solver: walk through the slots and serve cars in an order.

In each slot what is due is served first, then, from what is left, what is merely wanted. With
minimum currents a car that runs keeps its minimum before another one starts, unless that other
car has no slack left: pauses wear contactors, and some cars never wake up again.
"""

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
    careful = filled_in_turn(grid, strategy, grid.careful_room())
    if not grid.reserved_kw.any() or not missed_kwh(grid, careful).any():
        return careful
    return filled_in_turn(grid, strategy, grid.room)


def missed_kwh(grid: Grid, power_kw: Floats) -> Floats:
    """Return what is due and not given by `power_kw`, (N,) kWh."""
    given = (power_kw * grid.inside_h).sum(axis=1)
    missed = np.maximum(grid.due_kwh - given, 0.0)
    return np.where(grid.is_fixed | (missed < 1e-6), 0.0, missed)


def filled_in_turn(grid: Grid, strategy: Strategy, room: Floats) -> Floats:
    """Return rows (N, K) that use up to `room` (R, K) of the limits, slot after slot."""
    n, slots = grid.shape
    power = np.zeros((n, slots))
    due = np.where(grid.is_fixed, 0.0, grid.due_kwh)
    rest = np.where(grid.is_fixed, 0.0, grid.later_kwh + grid.extra_kwh)
    left_h = np.cumsum(grid.inside_h[:, ::-1], axis=1)[:, ::-1]
    most = grid.cap_kw.max(axis=1, initial=0.0)
    running = np.array([bool(s.current_kw) for s in grid.case.sessions], dtype=np.bool_)
    share = _equal if strategy is Strategy.EQUAL_SHARE else _in_turn
    held = grid.floor_kw > 0
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
        # What is guaranteed is wanted until a car is full, and comes first.
        want = np.maximum(want, np.where(due + rest > EPSILON_KW, grid.floor_kw[:, k], 0.0))
        order = np.concatenate([order[held[order, k]], order[~held[order, k]]])
        keeps = running | urgent | held[:, k]
        row = share(grid, order, want, np.zeros(n), room[:, k], keeps)
        wanted = np.where(_accepts(grid, strategy, k), rest, 0.0)
        more = np.minimum(cap, (np.maximum(due - row * hours, 0.0) + wanted) / per_kw)
        # Whoever is still short of its due energy got all there was; the rest is for extras.
        row = share(grid, order, np.where(wanted > 0, more, row), row, room[:, k], running)
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
    room: Floats,
    keeps: NDArray[np.bool_],
) -> Floats:
    """Serve cars one after the other, on top of `have`; `keeps` get their minimum before others."""
    # Plain floats: indexing arrays one by one takes three times as long.
    least, guard = grid.least_kw.tolist(), grid.guard_kw.tolist()
    row, wish = have.tolist(), want.tolist()
    left = (room - grid.use @ np.maximum(have - grid.guard_kw, 0.0)).tolist()
    uses = grid.use.T.tolist()
    asking = order[want[order] > have[order] + EPSILON_KW].tolist()

    def free(i: int) -> float:
        return float(min(kw / use for kw, use in zip(left, uses[i], strict=True) if use > 0))

    def take(i: int, kw: float) -> None:
        for r, use in enumerate(uses[i]):
            left[r] -= use * kw

    for i in order[keeps[order] & (have[order] == 0) & (want[order] > EPSILON_KW)].tolist():
        if 0 < least[i] <= guard[i] + free(i) + EPSILON_KW:
            row[i] = least[i]
            take(i, max(least[i] - guard[i], 0.0))
    for i in asking:
        own = max(row[i] - guard[i], 0.0)
        level = min(max(wish[i], least[i]), guard[i] + max(own + free(i), 0.0))
        if level >= least[i] - EPSILON_KW and level > row[i]:
            take(i, max(level - guard[i], 0.0) - own)
            row[i] = level
    return np.array(row, dtype=np.float64)


def _equal(
    grid: Grid,
    order: Order,
    want: Floats,
    have: Floats,
    room: Floats,
    keeps: NDArray[np.bool_],
) -> Floats:
    """Give all cars of a priority class the same power, pausing the least urgent ones if need be.

    `keeps` does not matter here: who pauses is decided by slack alone, so turns rotate.
    """
    row, guard = have.copy(), grid.guard_kw
    left = room - grid.use @ np.maximum(row - guard, 0.0)
    for rank in sorted(set(grid.rank[order].tolist()), reverse=True):
        cars = order[(grid.rank[order] == rank) & (want[order] > have[order] + EPSILON_KW)]
        floor = np.maximum(grid.least_kw, have)
        cost = grid.use * (np.maximum(floor - guard, 0.0) - np.maximum(have - guard, 0.0))
        while len(cars):
            over = cost[:, cars].sum(axis=1) > left + EPSILON_KW
            if not over.any():
                break
            # Out of those who take from a limit that is passed, the last in order waits.
            is_in = (grid.use[over][:, cars] > 0).any(axis=0)
            cars = np.delete(cars, np.flatnonzero(is_in)[-1])
        if not len(cars):
            continue
        use = grid.use[:, cars]
        left = left + use @ np.maximum(have[cars] - guard[cars], 0.0)
        upper = np.maximum(np.maximum(want[cars], grid.least_kw[cars]), floor[cars])
        row[cars] = levelled(floor[cars], upper, guard[cars], use, left)
        left = np.maximum(left - use @ np.maximum(row[cars] - guard[cars], 0.0), 0.0)
    return row


def levelled(lower: Floats, upper: Floats, free: Floats, use: Floats, room: Floats) -> Floats:
    """Return clip(level, lower, upper) with the highest level whose use above `free` fits `room`.

    The cars (n,) of the limit that is full first keep its level, and the others go on rising.
    """
    row, room = lower.copy(), room.copy()
    rising = np.ones(len(lower), dtype=np.bool_)
    while rising.any():
        low, up, own = lower[rising], upper[rising], free[rising]
        levels = [
            _level(low, up, own, u[rising], float(most)) if u[rising].any() else np.inf
            for u, most in zip(use, room, strict=True)
        ]
        level = min(levels)
        full = use[int(np.argmin(levels))] > 0
        row[rising] = np.clip(level, low, up)
        stays = rising & (full | (upper <= level))
        room -= use[:, stays] @ np.maximum(row[stays] - free[stays], 0.0)
        rising &= ~stays
    return row


def _level(lower: Floats, upper: Floats, free: Floats, use: Floats, room: float) -> float:
    """Return the highest level that fits one limit."""

    def used(level: float) -> float:
        return float(use @ np.maximum(np.clip(level, lower, upper) - free, 0.0))

    marks = np.unique(np.concatenate([lower, upper, free]))
    below = float(marks[0])
    for mark in marks[1:]:
        if used(float(mark)) > room:
            # Between two marks the sum is a straight line.
            span = used(float(mark)) - used(below)
            return below + ((room - used(below)) / span * (float(mark) - below) if span > 0 else 0)
        below = float(mark)
    return below
