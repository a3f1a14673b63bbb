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
        self.power, self.room, self.cars = power, room, cars
        self.rows, self.cap, self.hours = power[cars], grid.cap_kw[cars], grid.inside_h[cars]
        self.least: list[float] = grid.least_kw[cars].tolist()
        self.from_kw = np.maximum(self.rows, grid.guard_kw[cars, None])
        # Less than that is no use to a car in a slot, and so is any power while it is away.
        enough = np.where(self.hours > 0, grid.least_kw[cars, None] - EPSILON_KW, np.inf)
        self.enough, self.more = enough, self.rows + EPSILON_KW
        self.order = grid.cost[cars].argsort(axis=1, kind="stable")
        self.cost = grid.cost[cars]

    def place(
        self, at: int, energy_kwh: float, *, dearest: float = np.inf, may_overshoot: bool = False
    ) -> None:
        """Give the car at `at` of the cars so much more, no dearer than `dearest`, in place.

        The cheapest slots are raised within their room or switched on at the minimum or more; where
        too little is left for that, other slots above their minimum give some away. If the rest of
        a need is less than one slot at minimum power, it `may_overshoot` by that.
        """
        was, order = self.rows[at], self.order[at]
        upper = self._upper(at)
        is_open = (upper >= self.enough[at]) & (upper > self.more[at])
        slots = order[is_open[order]]
        if dearest < np.inf:
            slots = slots[self.cost[at][slots] <= dearest]
        row, left = was, energy_kwh
        if len(slots):
            row, left = self._raised(at, slots, upper, energy_kwh)
        if may_overshoot and left > ENERGY_KWH:
            row = self._overshot(at, row, upper, left)
        if row is not was:
            car = int(self.cars[at])
            self.room.book(car, was, row)
            self.power[car] = row

    def _upper(self, at: int) -> Floats:
        """Return the most the car may have in each slot, (K,)."""
        most = self.from_kw[at] + self.room.spare(int(self.cars[at]))
        if self.room.has_peak:
            most = np.minimum(most, self.rows[at] + np.maximum(self.room.below_peak_kw, 0.0))
        return np.asarray(np.minimum(most, self.cap[at]), dtype=np.float64)

    def _raised(
        self, at: int, slots: NDArray[np.int64], upper: Floats, energy_kwh: float
    ) -> tuple[Floats, float]:
        """Return the row with `energy_kwh` more in `slots`, and what did not fit."""
        hours, least = self.hours[at], self.least[at]
        row, left = self.rows[at].copy(), energy_kwh
        for k, most, length_h in zip(
            slots.tolist(), upper[slots].tolist(), hours[slots].tolist(), strict=True
        ):
            if left <= ENERGY_KWH:
                break
            now = float(row[k])
            level = min(most, now + left / length_h)
            if level < least - EPSILON_KW:
                missing = (least - now) * length_h - left
                if not _borrow(row, hours, least, missing, keep=k):
                    continue
                level, left = least, left + missing
            left -= (level - now) * length_h
            row[k] = level
        return row, max(left, 0.0)

    def _overshot(self, at: int, row: Floats, upper: Floats, left_kwh: float) -> Floats:
        """Return `row` with one more slot at minimum power if the rest of a need is less."""
        least, hours = self.least[at], self.hours[at]
        is_off = (row == 0) & (self.rows[at] == 0) & (upper >= self.enough[at])
        fits = np.flatnonzero(is_off & (least * hours >= left_kwh))
        if not len(fits):
            return row
        row = row.copy()
        row[fits[np.argmin(self.cost[at][fits])]] = least
        return row


def _borrow(row: Floats, hours: Floats, least: float, energy_kwh: float, *, keep: int) -> bool:
    """Take `energy_kwh` from slots above the minimum, the last first; False if there is too little.

    Changes `row` only when it succeeds.
    """
    spare = np.maximum(row - least, 0.0) * hours
    spare[keep] = 0.0
    if float(spare.sum()) < energy_kwh:
        return False
    for k in spare.nonzero()[0][::-1].tolist():
        taken = min(float(spare[k]), energy_kwh)
        row[k] = max(row[k] - taken / hours[k], least)
        energy_kwh -= taken
        if energy_kwh <= 0:
            break
    return True
