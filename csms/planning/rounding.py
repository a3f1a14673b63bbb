"""Block powers -> rows a station can follow: slots, minimum currents, left-over room used.

Rounding never takes from the guards and never passes a limit: every step moves energy of one car
into room that is free at that moment. What the solver put below a car's minimum is gathered in
fewer slots; a need may be overshot by less than one slot at minimum power, since a need is a least.
"""

import numpy as np
from numpy.typing import NDArray

from csms.planning.grid import Floats, Grid
from csms.planning.rules import missed_kwh
from csms.planning.solver import Blocks, Solution

EPSILON_KW = 1e-9
ENERGY_KWH = 1e-7


def rows_of(grid: Grid, blocks: Blocks, solution: Solution) -> Floats:
    """Return rows (N, K) that deliver what `solution` asks for, kW."""
    power = _split(grid, blocks, solution.power_kw)
    trim(grid, power)
    kept = np.clip(
        grid.reserved_kw - np.repeat(solution.reserve_kw, blocks.lengths), 0.0, grid.reserved_kw
    )
    peak = solution.peak_kw if grid.demand_charge > 0 else np.inf
    room = _Room(grid, power, limit_kw=grid.room_kw - kept, peak_kw=peak)
    _lift(grid, power, room)
    if missed_kwh(grid, power).any():
        _serve(grid, power, room)
    # Headroom, then the peak, is given up only as far as somebody would miss a need for it.
    step = float(grid.least_kw.max(initial=0.0)) or 1.0
    for above in (0.0, step, 2 * step, 4 * step, np.inf) if grid.demand_charge > 0 else (np.inf,):
        if not missed_kwh(grid, power).any():
            break
        _serve(grid, power, _Room(grid, power, limit_kw=grid.room_kw, peak_kw=peak + above))
    return power


def trim(grid: Grid, power: Floats) -> None:
    """Scale rows down, in place, where a tolerance let them pass a bound or the limit."""
    np.clip(power, 0.0, grid.cap_kw, out=power)
    power[power < ENERGY_KWH] = 0.0
    shared = grid.shared_kw(power)
    total = shared.sum(axis=0)
    over = total > grid.room_kw
    if over.any():
        scale = np.where(over, grid.room_kw / np.maximum(total, EPSILON_KW), 1.0)
        np.copyto(power, power - shared * (1.0 - scale))


def _split(grid: Grid, blocks: Blocks, block_kw: Floats) -> Floats:
    """Spread each block's energy over its slots, cars that leave first being served first."""
    n, slots = grid.shape
    power = np.zeros((n, slots))
    lengths, first = blocks.lengths, blocks.first
    single = lengths == 1
    power[:, first[:-1][single]] = block_kw[:, single]
    departs = np.array([s.departs_at.timestamp() for s in grid.case.sessions])
    order = np.argsort(departs, kind="stable")
    price = grid.price.tolist()
    for b in np.flatnonzero(~single):
        span = range(int(first[b]), int(first[b + 1]))
        left = block_kw[:, b] * grid.inside_h[:, span.start : span.stop].sum(axis=1)
        if not left.any():
            continue
        for k in sorted(span, key=price.__getitem__):
            hours = grid.inside_h[:, k]
            want = np.minimum(grid.cap_kw[:, k], left / np.where(hours > 0, hours, np.inf))
            free = np.minimum(want, grid.guard_kw)
            above = (want - free)[order]
            before = np.cumsum(above) - above
            given = np.clip(grid.room_kw[k] - before, 0.0, above)
            row = free.copy()
            row[order] += given
            power[:, k] = row
            left = np.maximum(left - row * hours, 0.0)
    return power


class _Room:
    """What is free per slot: of the limit, and of a peak that shall not be passed, kW."""

    def __init__(self, grid: Grid, power: Floats, *, limit_kw: Floats, peak_kw: float) -> None:
        self.grid = grid
        self.free_kw = limit_kw - grid.shared_kw(power).sum(axis=0)
        self.below_peak_kw = peak_kw - grid.base_kw - power.sum(axis=0)

    def upper(self, car: int, row: Floats) -> Floats:
        """Return the most `car` may have per slot if its row is `row` now, (K,)."""
        guard = self.grid.guard_kw[car]
        most = np.maximum(row, guard) + np.maximum(self.free_kw, 0.0)
        most = np.minimum(most, row + np.maximum(self.below_peak_kw, 0.0))
        return np.asarray(np.minimum(most, self.grid.cap_kw[car]), dtype=np.float64)

    def upper_all(self, power: Floats) -> Floats:
        """Return the most each car may have per slot if all others stay as they are, (N, K)."""
        most = np.maximum(power, self.grid.guard_kw[:, None]) + np.maximum(self.free_kw, 0.0)
        most = np.minimum(most, power + np.maximum(self.below_peak_kw, 0.0))
        return np.asarray(np.minimum(most, self.grid.cap_kw), dtype=np.float64)

    def book(self, car: int, old: Floats, new: Floats) -> None:
        """Account for the row of `car` changing from `old` to `new`."""
        guard = self.grid.guard_kw[car]
        self.free_kw -= np.maximum(new, guard) - np.maximum(old, guard)
        self.below_peak_kw -= new - old


def _lift(grid: Grid, power: Floats, room: _Room) -> None:
    """Gather what lies below minimum currents in fewer slots, in place."""
    is_low = (power > 0) & (power < grid.least_kw[:, None] - EPSILON_KW)
    cars = np.flatnonzero(is_low.any(axis=1))
    for car in cars[np.argsort(grid.laxity_h[cars], kind="stable")]:
        old = power[car].copy()
        hours = grid.inside_h[car]
        # No dearer than what the solver chose: wishes must not end up in dear hours.
        dearest = float(grid.cost[car][old > 0].max()) + EPSILON_KW
        row = np.where(is_low[car], 0.0, old)
        room.book(car, old, row)
        energy = float(((old - row) * hours).sum())
        slots = np.flatnonzero(grid.cost[car] <= dearest)
        new, _ = _placed(grid, room, car, row=row, energy_kwh=energy, slots=slots)
        room.book(car, row, new)
        power[car] = new


def _serve(grid: Grid, power: Floats, room: _Room) -> None:
    """Give cars that miss a need whatever `room` is left, most important first, in place."""
    short = missed_kwh(grid, power)
    could = (room.upper_all(power) > np.maximum(power, grid.least_kw[:, None] - 2e-9)) & (
        grid.inside_h > 0
    )
    cars = np.flatnonzero((short > 0) & could.any(axis=1))
    every = np.arange(grid.shape[1])
    for car in cars[np.lexsort((grid.laxity_h[cars], -grid.rank[cars]))]:
        old = power[car].copy()
        new, left = _placed(grid, room, car, row=old, energy_kwh=float(short[car]), slots=every)
        if left > ENERGY_KWH:
            new = _overshot(grid, room, car, row=new, was=old, left_kwh=left)
        if (new != old).any():
            room.book(car, old, new)
            power[car] = new


def _placed(
    grid: Grid, room: _Room, car: int, *, row: Floats, energy_kwh: float, slots: NDArray[np.int64]
) -> tuple[Floats, float]:
    """Return `row` with `energy_kwh` more in the cheapest of `slots`, and what did not fit.

    A slot is raised within its room or switched on at the minimum or more; where too little is
    left for that, other slots above their minimum give some away.
    """
    hours, least = grid.inside_h[car], grid.least_kw[car]
    upper = room.upper(car, row)
    is_open = (upper >= least - EPSILON_KW) & (upper > row + EPSILON_KW) & (hours > 0)
    slots = slots[is_open[slots]]
    row, left = row.copy(), energy_kwh
    for k in slots[np.argsort(grid.cost[car][slots], kind="stable")]:
        if left <= ENERGY_KWH:
            break
        level = min(float(upper[k]), float(row[k]) + left / float(hours[k]))
        if level < least:
            missing = (least * float(hours[k])) - left
            if not _borrow(row, hours, least, missing, keep=int(k)):
                continue
            level, left = float(least), left + missing
        left -= (level - float(row[k])) * float(hours[k])
        row[k] = level
    return row, max(left, 0.0)


def _borrow(row: Floats, hours: Floats, least: float, energy_kwh: float, *, keep: int) -> bool:
    """Take `energy_kwh` from slots above the minimum, the last first; False if there is too little.

    Changes `row` only when it succeeds.
    """
    spare = np.maximum(row - least, 0.0) * hours
    spare[keep] = 0.0
    if float(spare.sum()) < energy_kwh:
        return False
    for k in np.flatnonzero(spare > 0)[::-1]:
        taken = min(float(spare[k]), energy_kwh)
        row[k] = max(row[k] - taken / hours[k], least)
        energy_kwh -= taken
        if energy_kwh <= 0:
            break
    return True


def _overshot(
    grid: Grid, room: _Room, car: int, *, row: Floats, was: Floats, left_kwh: float
) -> Floats:
    """Return `row` with one more slot at minimum power if the rest of a need is less than that."""
    least, hours = grid.least_kw[car], grid.inside_h[car]
    upper = np.where(was > 0, 0.0, room.upper(car, was))
    open_slots = np.flatnonzero((row == 0) & (upper >= least - EPSILON_KW) & (hours > 0))
    fits = open_slots[least * hours[open_slots] >= left_kwh]
    if not len(fits):
        return row
    row = row.copy()
    row[fits[np.argmin(grid.cost[car][fits])]] = least
    return row
