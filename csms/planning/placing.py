"""Energy put into single slots of rows, one car after another, while what is free shrinks."""

import numpy as np
from numpy.typing import NDArray

from csms.planning.grid import Floats, Grid
from csms.planning.room import ENERGY_KWH, EPSILON_KW, Room


class Places:
    """Where each of `cars` (M,) may have more, of what its row in `power` (N, K) is now.

    What holds whatever the others do is worked out for all cars at once.
    """

    def __init__(self, grid: Grid, power: Floats, room: Room, cars: NDArray[np.int64]) -> None:
        self.power, self.room = power, room
        self.cars: list[int] = cars.tolist()
        self.rows, self.cap, self.hours = power[cars], grid.cap_kw[cars], grid.inside_h[cars]
        self.least: list[float] = grid.least_kw[cars].tolist()
        self.guard: list[float] = grid.guard_kw[cars].tolist()
        self.from_kw = np.maximum(self.rows, grid.guard_kw[cars, None])
        is_there = self.hours > 0
        # Less than that is no use to a car in a slot, and so is any power while it is away.
        self.enough = np.where(is_there, grid.least_kw[cars, None] - EPSILON_KW, np.inf)
        useful = np.maximum(self.enough, self.rows + EPSILON_KW)
        # What has to be free before a car can have that.
        self.needs = np.where(self.cap > useful, useful - self.from_kw, np.inf)
        self.cost = grid.cost[cars]
        # No two slots of a car cost the same (`front_load`).
        self.order = self.cost.argsort(axis=1)
        # Under one limit what is free is the same for every car.
        self.spare: Floats | None = None
        if len(room.free) == 1 and not room.has_peak:
            self.spare = np.maximum(room.free[0], 0.0)

    def place(
        self, at: int, energy_kwh: float, *, dearest: float = np.inf, may_overshoot: bool = False
    ) -> None:
        """Give the car at `at` of the cars so much more, no dearer than `dearest`, in place.

        The cheapest slots are raised within their room or switched on at the minimum or more; where
        too little is left for that, other slots above their minimum give some away. If the rest of
        a need is less than one slot at minimum power, it `may_overshoot` by that.
        """
        row = self.rows[at].copy()
        spare = self._spare(at) if self.spare is None else self.spare
        changed, left = self._raised(at, row, spare, energy_kwh, dearest)
        if may_overshoot and left > ENERGY_KWH:
            changed += self._overshot(at, row, spare, left)
        if changed:
            self._book(at, row, changed)

    def _spare(self, at: int) -> Floats:
        """Return how much more than its guard or its row the car may have in each slot, (K,)."""
        spare = self.room.spare(self.cars[at])
        if self.room.has_peak:
            below_kw = self.rows[at] + np.maximum(self.room.below_peak_kw, 0.0)
            spare = np.minimum(spare, below_kw - self.from_kw[at])
        return spare

    def _book(self, at: int, row: Floats, changed: list[int]) -> None:
        """Make `row` that of the car at `at`, which had other power in the slots `changed`."""
        car, was = self.cars[at], self.rows[at]
        self.power[car] = row
        if self.spare is None:
            self.room.book(car, was, row)
            return
        free, spare, guard = self.room.free[0], self.spare, self.guard[at]
        for k in set(changed):
            more = max(float(row[k]), guard) - max(float(was[k]), guard)
            rest = float(free[k]) - more
            free[k], spare[k] = rest, max(rest, 0.0)

    def _raised(
        self, at: int, row: Floats, spare: Floats, energy_kwh: float, dearest: float
    ) -> tuple[list[int], float]:
        """Put `energy_kwh` more into the cheapest slots of `row`, in place.

        Return which slots changed, and what did not fit.
        """
        least, order, cost = self.least[at], self.order[at], self.cost[at]
        hours, cap, from_kw = self.hours[at], self.cap[at], self.from_kw[at]
        changed: list[int] = []
        left = energy_kwh
        for k in order[(spare > self.needs[at])[order]].tolist():
            if left <= ENERGY_KWH or cost[k] > dearest:
                break
            now, length_h = float(row[k]), float(hours[k])
            most = float(from_kw[k]) + float(spare[k])
            level = min(float(cap[k]), most, now + left / length_h)
            if level < least - EPSILON_KW:
                missing = (least - now) * length_h - left
                given = _borrowed(row, hours, least, missing, keep=k)
                if not given:
                    continue
                changed += given
                level, left = least, left + missing
            left -= (level - now) * length_h
            row[k] = level
            changed.append(k)
        return changed, max(left, 0.0)

    def _overshot(self, at: int, row: Floats, spare: Floats, left_kwh: float) -> list[int]:
        """Switch one more slot of `row` on at minimum power if the rest of a need is less.

        Return the slot.
        """
        least, hours = self.least[at], self.hours[at]
        upper = np.minimum(self.from_kw[at] + spare, self.cap[at])
        is_off = (row == 0) & (self.rows[at] == 0) & (upper >= self.enough[at])
        fits = np.flatnonzero(is_off & (least * hours >= left_kwh))
        if not len(fits):
            return []
        k = int(fits[np.argmin(self.cost[at][fits])])
        row[k] = least
        return [k]


def _borrowed(
    row: Floats, hours: Floats, least: float, energy_kwh: float, *, keep: int
) -> list[int]:
    """Take `energy_kwh` from slots above the minimum, in place, the last first; return which.

    None is changed if there is too little.
    """
    spare = np.maximum(row - least, 0.0) * hours
    spare[keep] = 0.0
    if float(spare.sum()) < energy_kwh:
        return []
    changed = []
    for k in spare.nonzero()[0][::-1].tolist():
        taken = min(float(spare[k]), energy_kwh)
        row[k] = max(row[k] - taken / hours[k], least)
        changed.append(k)
        energy_kwh -= taken
        if energy_kwh <= 0:
            break
    return changed
