"""What is free of every limit while rows are being changed one car at a time."""

import numpy as np
from numpy.typing import NDArray

from csms.planning.grid import Floats, Grid

EPSILON_KW = 1e-9
ENERGY_KWH = 1e-7


class Room:
    """What is free per slot: of each limit, and of a peak that shall not be passed, kW."""

    def __init__(
        self,
        grid: Grid,
        power: Floats,
        *,
        limit: Floats,
        peak_kw: float,
        may_stay: bool = False,
    ) -> None:
        """`limit` (R, K) is the room that may be used, `power` (N, K) the rows that use it.

        With `may_stay` the limit is raised to what they use where that is more.
        """
        self.grid = grid
        self.taken = grid.taken(power)
        """What `power` took of each limit to begin with, (R, K)."""
        self.free = limit - self.taken
        if may_stay:
            self.free = np.maximum(self.free, 0.0)
        self.below_peak_kw = peak_kw - grid.base_kw - power.sum(axis=0)
        self._is_single = len(limit) == 1
        self._parts: dict[int, tuple[NDArray[np.int64], Floats]] = {}
        self.has_peak = peak_kw < np.inf

    def spare(self, car: int) -> Floats:
        """Return how much more than its guard or its row `car` may take per slot, kW (K,)."""
        if self._is_single:
            return np.asarray(np.maximum(self.free[0], 0.0), dtype=np.float64)
        kind = int(self.grid.kind[car])
        if kind not in self._parts:
            use = self.grid.use[:, car]
            rows = np.flatnonzero(use > 0)
            self._parts[kind] = rows, use[rows, None]
        rows, use = self._parts[kind]
        least = (self.free[rows] / use).min(axis=0)
        return np.asarray(np.maximum(least, 0.0), dtype=np.float64)

    def spare_all(self, cars: NDArray[np.int64]) -> Floats:
        """Return the same for each of `cars` (M,), (M, K); (K,) where it is the same for all."""
        if self._is_single:
            return np.asarray(np.maximum(self.free[0], 0.0), dtype=np.float64)
        kinds, at = np.unique(self.grid.kind[cars], return_inverse=True)
        first = self.grid.kind_first[kinds].tolist()
        return np.array([self.spare(car) for car in first])[at]

    def upper(self, car: int, row: Floats) -> Floats:
        """Return the most `car` may have per slot if its row is `row` now, (K,)."""
        guard = self.grid.guard_kw[car]
        most = np.maximum(row, guard) + self.spare(car)
        if self.has_peak:
            most = np.minimum(most, row + np.maximum(self.below_peak_kw, 0.0))
        return np.asarray(np.minimum(most, self.grid.cap_kw[car]), dtype=np.float64)

    def upper_now(self, car: int, kw: float) -> float:
        """Return the most `car` may have in the first slot if its row begins with `kw`."""
        most = max(kw, float(self.grid.guard_kw[car])) + self._spare_now(car)
        if self.has_peak:
            most = min(most, kw + max(float(self.below_peak_kw[0]), 0.0))
        return min(most, float(self.grid.cap_kw[car, 0]))

    def _spare_now(self, car: int) -> float:
        if self._is_single:
            return max(float(self.free[0, 0]), 0.0)
        free: list[float] = self.free[:, 0].tolist()
        uses: list[float] = self.grid.use[:, car].tolist()
        return max(min(kw / use for kw, use in zip(free, uses, strict=True) if use > 0), 0.0)

    def upper_all(self, power: Floats, cars: NDArray[np.int64]) -> Floats:
        """Return the most each of `cars` (M,) may have per slot if the others stay, (M, K)."""
        grid, row = self.grid, power[cars]
        most = np.maximum(row, grid.guard_kw[cars, None]) + self.spare_all(cars)
        if self.has_peak:
            most = np.minimum(most, row + np.maximum(self.below_peak_kw, 0.0))
        return np.asarray(np.minimum(most, grid.cap_kw[cars]), dtype=np.float64)

    def book(self, car: int, old: Floats, new: Floats) -> None:
        """Account for the row of `car` changing from `old` to `new`."""
        guard = self.grid.guard_kw[car]
        more = np.maximum(new, guard) - np.maximum(old, guard)
        self.free -= more if self._is_single else self.grid.use[:, car, None] * more
        if self.has_peak:
            self.below_peak_kw -= new - old

    def book_all(self, cars: NDArray[np.int64], old: Floats, new: Floats) -> None:
        """Account for the rows of `cars` (M,) changing from `old` (M, K) to `new`."""
        guard = self.grid.guard_kw[cars][:, None]
        self.free -= self.grid.use[:, cars] @ (np.maximum(new, guard) - np.maximum(old, guard))
        if self.has_peak:
            self.below_peak_kw -= (new - old).sum(axis=0)
