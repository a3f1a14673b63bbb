"""Which powers a station can be told: any, multiples of a step, or a short list of currents."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from csms.core.plan import PlanningSession

Floats = NDArray[np.float64]
_EPSILON = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """The powers of each car: `step_kw` (N,) with 0 for any, or a row of `listed` (N, most).

    `listed` holds the kW of a car's own list, ascending from 0 and filled up with its highest; rows
    of cars without a list (`has_list`) are 0.
    """

    step_kw: Floats
    listed: Floats
    has_list: NDArray[np.bool_]
    is_coarse: NDArray[np.bool_]
    """Which cars cannot be told just any power, (N,)."""
    smallest_kw: Floats
    """How far at least two levels of each car are apart, (N,); 0 where it takes any power."""
    highest: NDArray[np.int64]
    """Where each car's highest level is in all of `listed`, (N,)."""
    most_kw: Floats
    """Each car's highest listed level, (N,)."""
    shift_kw: Floats
    """What is added to each car's powers, (N,), so that one search finds the levels of all."""
    shifted: Floats
    """All of `listed` with that added, (N * most,), ascending, and lowered by the tolerance."""
    has_steps: bool
    """Whether some car takes multiples of a step."""
    is_listed: bool
    """Whether all cars have a list."""

    @classmethod
    def of(cls, sessions: Sequence[PlanningSession]) -> "Levels":
        """Return the levels of `sessions`; a list without any usable current is none."""
        if not any(s.step_a or s.step_w or s.levels_a for s in sessions):
            nothing = np.zeros(len(sessions))
            return cls._of(nothing, nothing[:, None], nothing > 0)
        per_a = np.array([s.voltage_v * s.phases / 1000.0 for s in sessions], dtype=np.float64)
        step_a = np.array([s.step_a for s in sessions], dtype=np.float64)
        step_w = np.array([s.step_w for s in sessions], dtype=np.float64)
        step = np.where(step_a > 0, step_a * per_a, np.where(step_w > 0, step_w / 1000.0, 0.0))
        # Stations of one kind know the same currents.
        kinds: dict[tuple[float, ...], list[int]] = {}
        for i, session in enumerate(sessions):
            kinds.setdefault(session.levels_a, []).append(i)
        lists = [(sorted({v for v in a if 0 < v < np.inf}), cars) for a, cars in kinds.items()]
        most = max((len(currents) for currents, _ in lists), default=0)
        listed, has_list = np.zeros((len(sessions), 1 + most)), np.zeros(len(sessions), np.bool_)
        for currents, cars in lists:
            if currents:
                has_list[cars] = True
                rest = most - len(currents)
                listed[cars, 1:] = per_a[cars, None] * np.array(currents + currents[-1:] * rest)
        return cls._of(np.where(has_list | ~np.isfinite(step), 0.0, step), listed, has_list)

    @classmethod
    def _of(cls, step_kw: Floats, listed: Floats, has_list: NDArray[np.bool_]) -> "Levels":
        cars, most = listed.shape
        shift_kw = np.arange(cars, dtype=np.float64) * (listed.max(initial=0.0) + 1.0)
        gaps = listed[:, 1:] - listed[:, :-1]
        gaps = np.where(gaps > _EPSILON, gaps, np.inf).min(axis=1, initial=np.inf)
        return cls(
            step_kw=step_kw,
            listed=listed,
            has_list=has_list,
            is_coarse=has_list | (step_kw > 0),
            smallest_kw=np.where(has_list, gaps, step_kw),
            highest=np.arange(most - 1, cars * most, most),
            most_kw=listed[:, -1].copy(),
            shift_kw=shift_kw,
            shifted=(listed + shift_kw[:, None] - _EPSILON).ravel(),
            has_steps=bool(step_kw.any()),
            is_listed=bool(has_list.all()) and listed.shape[1] > 1,
        )

    def floor(self, car: int, kw: Floats) -> Floats:
        """Return the highest levels of `car` that are at most `kw`."""
        if self.has_list[car]:
            row = self.listed[car]
            return np.asarray(row[np.searchsorted(row, kw + _EPSILON, side="right") - 1])
        step = float(self.step_kw[car])
        return np.floor(kw / step + _EPSILON) * step if step > 0 else kw

    def above(self, car: int, kw: Floats) -> Floats:
        """Return the next level of `car` above each of `kw`; the highest stays."""
        if self.has_list[car]:
            row = self.listed[car]
            at = np.searchsorted(row, kw + _EPSILON, side="right")
            return np.asarray(row[np.minimum(at, len(row) - 1)])
        return self.floor(car, kw) + float(self.step_kw[car])

    def floor_each(self, kw: Floats) -> Floats:
        """Return for each car the highest of its levels within its `kw`, (N,) or (K, N)."""
        if self.is_listed:
            return np.asarray(self.listed.ravel()[self._at_most(kw)])
        found = kw
        if self.has_steps:
            step = np.where(self.step_kw > 0, self.step_kw, 1.0)
            found = np.where(self.step_kw > 0, np.floor(kw / step + _EPSILON) * step, kw)
        if self.listed.shape[1] > 1:
            found = np.where(self.has_list, self.listed.ravel()[self._at_most(kw)], found)
        return np.asarray(found, dtype=np.float64)

    def above_each(self, kw: Floats) -> Floats:
        """Return for each car the next of its levels above its `kw`, (N,); the highest stays."""
        if self.listed.shape[1] == 1:
            return np.asarray(self.floor_each(kw) + self.step_kw, dtype=np.float64)
        found = self.listed.ravel()[np.minimum(self._at_most(kw) + 1, self.highest)]
        if not self.is_listed:
            found = np.where(self.has_list, found, self.floor_each(kw) + self.step_kw)
        return np.asarray(found, dtype=np.float64)

    def _at_most(self, kw: Floats) -> NDArray[np.int64]:
        """Return the place in `shifted` of each car's highest listed level within its `kw`.

        `kw` (N,) or (K, N) is at least 0.
        """
        shifted = np.minimum(kw, self.most_kw) + self.shift_kw
        return self.shifted.searchsorted(shifted, side="right") - 1

    def bounds(self, least: Floats, most: Floats) -> tuple[Floats, Floats]:
        """Return the lowest level that is at least `least` and the highest within `most`, (N,)."""
        if not self.is_coarse.any():
            return least, most
        low = self.floor_each(least)
        is_below = self.is_coarse & ((low < least - _EPSILON) | (low == 0))
        return np.where(is_below, self.above_each(low), low), self.floor_each(most)
