"""Levels traded between cars: what one gives up makes room for more of another.

Car after car, levels are chosen by who comes first. Where limits overlap, as those of three phases
do, that may leave much of one limit unused beside another that is full. A step down of one car
for more of another, as long as it pays, finds most of what a choice of all levels at once would.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from csms.planning.grid import Floats, Grid

LEAST_KWH = 0.05
"""No trades are sought where what is unused is worth less than so much of the dearest need."""
MOST_TRADERS = 64
"""Of more cars than this, none trade: all pairs of them are looked at."""
TOLERANCE_KW = 1e-9
BELOW_KW = 1e-6
"""By so much less than its level a car is on the one below."""
LEAST_EUR = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Worths:
    """What the first slot is worth by the solver's prices, EUR: a kW to each car (N,), and a unit
    of each limit (R,)."""

    car: Floats
    limit: Floats


def exchanged(
    grid: Grid,
    row: Floats,
    traders: NDArray[np.int64],
    *,
    free: Floats,
    worths: Worths,
    wants: Floats,
    least: Floats,
    most: Floats,
) -> Floats:
    """Return the powers `row` (N,) of the first slot after all trades of `traders` that pay, kW.

    `free` (R,) is left of the limits. A kW of a car is worth something up to what it `wants` (N,).
    Cars keep what is `least` (N,) for them and have at `most` (N,). Who takes any power keeps its
    own.
    """
    value, levels, guard = worths.car, grid.levels, grid.guard_kw
    enough = LEAST_KWH / float(grid.hours[0]) * float(value.max(initial=0.0))
    traders = traders[levels.is_coarse[traders]]
    unused = float(worths.limit @ np.maximum(free, 0.0))
    if not 1 < len(traders) <= MOST_TRADERS or unused <= enough:
        return row
    row = row.copy()
    per_kw = np.where(grid.use > 0, grid.use, 1.0)[:, None]
    is_free = (grid.use <= 0)[:, None]
    for _ in range(2 * len(traders)):
        down = levels.floor_each(np.maximum(row - BELOW_KW, 0.0))
        down = np.where(down < grid.least_kw - TOLERANCE_KW, 0.0, down)
        gives = (row > 0) & (down >= least - TOLERANCE_KW)
        by = traders[gives[traders]]
        back = grid.use[:, by] * (np.maximum(row, guard) - np.maximum(down, guard))[by]
        # The first one gives nothing: where there is room nobody has to.
        left = free[:, None] + np.column_stack([np.zeros(len(free)), back])
        spare = np.where(is_free, np.inf, np.maximum(left, 0.0)[:, :, None] / per_kw).min(axis=0)
        up = levels.floor_each(np.minimum(np.maximum(row, guard) + spare, most))
        up = np.where(up < np.maximum(grid.least_kw, row) - TOLERANCE_KW, row, up)
        useful = np.minimum(row, wants)
        gains = (np.minimum(up, wants) - useful) * value
        gains[1:] -= ((useful - np.minimum(down, wants)) * value)[by, None]
        gains[np.arange(1, len(gains)), by] = 0.0
        best = traders[np.argmax(gains[:, traders], axis=1)]
        giver = int(np.argmax(gains[np.arange(len(gains)), best]))
        riser = int(best[giver])
        if gains[giver, riser] <= LEAST_EUR:
            break
        to = float(up[giver, riser])
        takes = max(to, guard[riser]) - max(row[riser], guard[riser])
        free, row[riser] = left[:, giver] - grid.use[:, riser] * takes, to
        if giver:
            row[by[giver - 1]] = down[by[giver - 1]]
    return row
