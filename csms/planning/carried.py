"""Rows for a site that cannot meet every need: each slot on levels, what is lost carried on.

Where the solver itself leaves needs unmet, every limit is full whatever is done, and moving energy
between slots gains little. So each slot is rounded by itself, in order: down to levels, who runs
keeps its minimum, then up again while the limits leave room. What a car lost or gained by that is
added to what the solver gave it in the next slot.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from csms.planning.grid import Flags, Floats, Grid
from csms.planning.room import ENERGY_KWH, EPSILON_KW

NOTHING_KW = 1e-6


def carried(grid: Grid, aimed_kw: Floats, *, limit: Floats) -> Floats:
    """Return rows (N, K) on levels within `limit` (R, K) that follow the solver's `aimed_kw`."""
    power = np.zeros(grid.shape)
    left = np.where(grid.is_fixed, 0.0, grid.due_kwh + grid.later_kwh + grid.extra_kwh)
    carry = np.zeros(len(left))
    rows = [np.flatnonzero(use > 0) for use in grid.use.T]
    running = np.array([bool(s.current_kw) for s in grid.case.sessions], dtype=np.bool_)
    # Where no slot is dearer than another, whoever runs may as well have its energy sooner.
    is_flat = bool(np.ptp(grid.price) < 1e-9) and grid.demand_weight <= 0
    for k in range(grid.shape[1]):
        hours = grid.inside_h[:, k]
        is_here = (grid.cap_kw[:, k] > 0) & (hours > 0) & (left > ENERGY_KWH)
        hours = np.where(is_here, hours, 1.0)
        most = np.maximum(np.minimum(grid.cap_kw[:, k], left / hours), grid.least_kw)
        most = np.where(is_here, most, 0.0)
        want = np.clip(aimed_kw[:, k] + carry / hours, 0.0, most)
        slot = _Slot(grid, k, limit[:, k].copy(), rows)
        slot.lower(want, most, running)
        slot.raise_to_next(want, most)
        if is_flat:
            slot.fill(most, running)
        power[:, k] = slot.row
        given = np.where(is_here, slot.row * hours, 0.0)
        carry = np.where(is_here, carry + aimed_kw[:, k] * hours - given, carry)
        left = np.maximum(left - given, 0.0)
        running = slot.row > 0
    return power


class _Slot:
    """One slot: the cars' powers `row` (N,) and what they leave of each limit, `free` (R,)."""

    def __init__(self, grid: Grid, k: int, free: Floats, rows: Sequence[NDArray[np.int64]]) -> None:
        """`rows` are the limits in which each car counts."""
        self.grid, self.free, self.rows = grid, free, rows
        self.row = np.zeros(len(grid.least_kw))
        self.floor = grid.floor_kw[:, k]

    def lower(self, want: Floats, most: Floats, running: Flags) -> None:
        """Give every car the level below what it wants, and its minimum if it runs."""
        grid = self.grid
        low = grid.levels.floor_each(np.minimum(want, most))
        low = np.where(low < np.maximum(grid.least_kw, NOTHING_KW) - EPSILON_KW, 0.0, low)
        stays = running & (want > EPSILON_KW) & (low == 0)
        low = np.maximum(np.where(stays, grid.least_kw, low), np.minimum(self.floor, most))
        taken = grid.use @ np.maximum(low - grid.guard_kw, 0.0)
        if (taken <= self.free + EPSILON_KW).all():
            self.row, self.free = low, self.free - taken
            return
        for i in np.flatnonzero(self.floor > 0).tolist():
            self._set(i, float(min(self.floor[i], most[i])))
        cars = np.flatnonzero(low > self.row + EPSILON_KW)
        order = np.lexsort((grid.laxity_h[cars], ~running[cars], -grid.rank[cars]))
        for i in cars[order].tolist():
            self._set(i, float(low[i]))

    def raise_to_next(self, want: Floats, most: Floats) -> None:
        """Give cars that lost most by going down the next level up, as far as there is room."""
        lost = want - self.row
        cars = np.flatnonzero((lost > EPSILON_KW) & (most > self.row + EPSILON_KW))
        if not len(cars):
            return
        above = np.maximum(self.grid.levels.above_each(self.row), self.grid.least_kw)
        # Cars that take any power have no next level: they go up to what they want.
        above = np.where(self.grid.levels.is_coarse, above, np.maximum(want, self.grid.least_kw))
        order = np.lexsort((self.grid.laxity_h[cars], -lost[cars], -self.grid.rank[cars]))
        for i in cars[order].tolist():
            if above[i] <= most[i] + EPSILON_KW:
                self._set(i, float(above[i]))

    def fill(self, most: Floats, running: Flags) -> None:
        """Give what is left to cars that charge, then to others, the most urgent first."""
        cars = self._could(most)
        is_off = (self.row[cars] == 0) & ~running[cars]
        order = np.lexsort((self.grid.laxity_h[cars], is_off, -self.grid.rank[cars]))
        for i in cars[order].tolist():
            self._set(i, float(most[i]))

    def _could(self, most: Floats) -> NDArray[np.int64]:
        """Return the cars that have room for more."""
        grid = self.grid
        with np.errstate(divide="ignore", invalid="ignore"):
            spare = np.where(grid.use > 0, self.free[:, None] / grid.use, np.inf).min(axis=0)
        step = np.where(self.row > 0, grid.levels.above_each(self.row) - self.row, grid.least_kw)
        return np.flatnonzero(
            (most > self.row + EPSILON_KW) & (spare >= np.maximum(step, EPSILON_KW) - EPSILON_KW)
        )

    def _set(self, car: int, kw: float) -> None:
        """Raise `car` to `kw`, or to the highest level below it for which there is room."""
        grid = self.grid
        use, guard, now = grid.use[:, car], float(grid.guard_kw[car]), float(self.row[car])
        rows = self.rows[car]
        spare = max(float((self.free[rows] / use[rows]).min()), 0.0)
        most = min(kw, max(now, guard) + spare)
        if most < kw:
            most = float(grid.levels.floor(car, np.array([most]))[0])
        if most < max(float(grid.least_kw[car]), NOTHING_KW) - EPSILON_KW or most <= now:
            return
        self.free -= use * (max(most, guard) - max(now, guard))
        self.row[car] = most
