"""Slots grouped for the solver, and what cars may draw in such blocks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from csms.planning.grid import Floats, Grid

EXACT_CELLS = 2_000
"""Up to so many (car, slot) pairs every slot is a block of its own."""
MOST_CELLS = 16_000
"""From so many pairs on, slots of different prices share a block."""
SECOND_H = 1 / 3600
REACH_H = ((0.5, 0.0), (2.0, 0.25), (np.inf, 1.0))
"""Until how many hours from now blocks are how long at most, and one slot at least: what is near is
decided now, what is far is planned again before it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Slots grouped for the solver: block b holds slots [first[b], first[b + 1])."""

    first: NDArray[np.int64]

    def sums(self, series: Floats) -> Floats:
        """Return the sum over each block, along the last axis."""
        return np.asarray(np.add.reduceat(series, self.first[:-1], axis=-1), dtype=np.float64)

    def of(self, finer: "Blocks", sums: Floats) -> Floats:
        """Return sums per block of `finer`, which this joins, as sums per block of this."""
        at = np.searchsorted(finer.first, self.first[:-1])
        return np.asarray(np.add.reduceat(sums, at, axis=-1), dtype=np.float64)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Slots in each block."""
        return self.first[1:] - self.first[:-1]


def blocks_of(grid: Grid) -> Blocks:
    """Group slots of equal price, near ones alone and far ones up to an hour.

    Small cases keep every slot; in large ones prices inside a block may differ as well.
    """
    n, k = grid.shape
    if n * k <= EXACT_CELLS:
        return Blocks(first=np.arange(k + 1))
    is_sunny = grid.surplus_kw > 0
    # A block never mixes slots in which somebody may not charge with others.
    must_part = grid.is_turn.copy()
    may_part = must_part.copy()
    price = grid.price
    may_part[1:] |= (np.abs(price[1:] - price[:-1]) > 1e-9) | (is_sunny[1:] != is_sunny[:-1])
    ends_h = np.cumsum(grid.hours)
    starts_h = ends_h - grid.hours
    until_reach_h, longest_h = np.array(REACH_H).T
    longest = longest_h[until_reach_h.searchsorted(starts_h, side="right")]
    # Slots are a whole number of seconds, and a sum of them is so to the last digits.
    until_h = (starts_h + longest + SECOND_H).tolist()
    ends = ends_h.tolist()
    for parts in (may_part.tolist(), must_part.tolist()):
        first = [0]
        for slot in range(1, k):
            if parts[slot] or ends[slot] > until_h[first[-1]]:
                first.append(slot)
        if n * len(first) <= MOST_CELLS:
            break
    return Blocks(first=np.array([*first, k], dtype=np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """What cars may draw in blocks; arrays are (N, B) if nothing else is said.

    A car is there for `inside_h` of a block, and a kW of it then is `share` of a kW of the block's
    mean. It may draw `cap_kw` and must have `held_kw`. A kW above `knee_kw` takes of the limits
    what a kW of the car does, one below it `below` (N,) of that. `cost` is EUR per kW all the
    while.
    """

    block_h: Floats
    inside_h: Floats
    share: Floats
    cap_kw: Floats
    held_kw: Floats
    knee_kw: Floats
    below: Floats
    cost: Floats

    @classmethod
    def of(cls, grid: Grid, blocks: Blocks) -> "Draws":
        """Return what the cars of `grid` may draw in `blocks`.

        A car takes nothing or at least its minimum, so its guard is free to it only in proportion:
        up to its minimum it takes the share of it that lies above the guard.
        """
        block_h, inside = blocks.sums(grid.hours), blocks.sums(grid.inside_h)
        there = np.maximum(inside, 1e-12)
        cap = blocks.sums(grid.usable_kw() * grid.inside_h) / there
        held = np.zeros(cap.shape)
        if grid.floor_kw.any():
            held = np.minimum(blocks.sums(grid.floor_kw * grid.inside_h) / there, cap)
        least, guard = grid.least_kw, grid.guard_kw
        knee = np.where(guard > 0, np.maximum(least, guard), 0.0)
        return cls(
            block_h=block_h,
            inside_h=inside,
            # In a slot of its own a power holds as long as the car is there.
            share=np.where(blocks.lengths == 1, 1.0, inside / block_h),
            cap_kw=cap,
            held_kw=held,
            knee_kw=np.minimum(knee[:, None], cap),
            below=np.where(least > guard, 1.0 - guard / np.maximum(least, 1e-12), 0.0),
            cost=blocks.sums(grid.cost * grid.inside_h),
        )

    def taken_kw(self, power_kw: Floats) -> Floats:
        """Return what `power_kw` (N, B) takes of a limit in which a kW counts as one, (N, B)."""
        low = np.minimum(power_kw, self.knee_kw)
        return (power_kw - low + low * self.below[:, None]) * self.share
