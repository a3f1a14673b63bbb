"""The planning problem as one linear program over blocks of slots, solved by HiGHS.

Every kWh that could be missed has a price far above any energy or peak cost, in an order that
needs no second solve: a kWh of capacity serves exactly one kWh of need, so only the order of the
prices counts. From dear to cheap: needs that are due (priority class, then the quarter of each
car's need, then its urgency), headroom kept for arrivals, cost, energy wanted if cheap.
Minimum currents are left to `rounding`: as hard rows they make the problem infeasible.
"""

from dataclasses import dataclass
from typing import Protocol

import highspy
import numpy as np
from numpy.typing import NDArray

from csms.planning.grid import Floats, Grid

Ints = NDArray[np.int32]

SEGMENTS = (1.15, 1.05, 0.95, 0.85)
"""Weights of the quarters of a need: everybody's first quarter comes before anyone's last."""
ITERATION_LIMIT = 200_000
"""Simplex iterations before a solve counts as failed: a bound on time that is the same every run
(1 000 cars take about 6 000)."""
EXACT_CELLS = 2_000
"""Up to so many (car, slot) pairs every slot is a block of its own."""
MOST_CELLS = 16_000
"""From so many pairs on, slots of different prices share a block."""
NEAR_SLOTS = 8
BLOCK_SLOTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """What the solver found: `power_kw` (N, B) above guard or not, `limit_value` (B,) EUR/kWh.

    `is_solved` is False when it gave up; the arrays are then empty.
    """

    is_solved: bool
    power_kw: Floats
    limit_value: Floats
    reserve_kw: Floats
    peak_kw: float


class Solver(Protocol):
    """Anything that solves a grid over given blocks."""

    def __call__(self, grid: Grid, blocks: "Blocks", *, iteration_limit: int) -> Solution:
        """Return the block powers; never raise for a problem that is merely hard."""


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
        return np.diff(self.first)


def blocks_of(grid: Grid) -> Blocks:
    """Group slots: alone for two hours, then up to four of equal price together.

    Small cases keep every slot; in large ones prices inside a block may differ as well.
    """
    n, k = grid.shape
    if n * k <= EXACT_CELLS:
        return Blocks(first=np.arange(k + 1))
    for by_price in (True, False):
        first = [0]
        for slot in range(1, k):
            is_near = slot <= NEAR_SLOTS
            is_full = slot - first[-1] >= BLOCK_SLOTS
            differs = by_price and _differ(grid, first[-1], slot)
            # A block never mixes slots in which nobody may charge with others.
            differs = differs or grid.is_blocked[first[-1]] != grid.is_blocked[slot]
            if is_near or is_full or differs:
                first.append(slot)
        if n * len(first) <= MOST_CELLS:
            break
    return Blocks(first=np.array([*first, k], dtype=np.int64))


def _differ(grid: Grid, a: int, b: int) -> bool:
    return bool(
        abs(grid.price[a] - grid.price[b]) > 1e-9
        or (grid.surplus_kw[a] > 0) != (grid.surplus_kw[b] > 0)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """Prices of what may be given up, EUR per kWh."""

    need: float
    reserve: float
    later: float


def _weights(grid: Grid, block_h: Floats) -> _Weights:
    cost = grid.cost[grid.inside_h > 0]
    low = float(cost.min(initial=0.0))
    high = float(cost.max(initial=0.0))
    peak = grid.demand_charge / float(block_h.min())
    spread = high - low + float((grid.price - grid.export_price).max(initial=0.0))
    reserve = max(high, 0.0) + spread + peak + 1.0
    return _Weights(need=4.0 * (reserve + spread + 1.0), reserve=reserve, later=high + 0.5)


def solve(grid: Grid, blocks: Blocks, *, iteration_limit: int = ITERATION_LIMIT) -> Solution:
    """Return the optimal block powers of `grid`."""
    program = _Program.of(grid, blocks)
    result = program.run(iteration_limit)
    if result is None:
        nothing = np.zeros(0)
        return Solution(
            is_solved=False,
            power_kw=np.zeros((0, 0)),
            limit_value=nothing,
            reserve_kw=nothing,
            peak_kw=0.0,
        )
    values, duals = result
    n, b = program.rows_of_energy, program.blocks
    power = np.zeros((n, b))
    np.add.at(power, (program.car, program.block), values[: len(program.car)])
    used = values[program.reserve_at : program.reserve_at + b]
    return Solution(
        is_solved=True,
        power_kw=power,
        limit_value=np.maximum(-duals[:b], 0.0) / program.block_h,
        reserve_kw=used,
        peak_kw=grid.first_peak_kw + (values[program.peak_at] if program.peak_at >= 0 else 0.0),
    )


@dataclass(slots=True, kw_only=True)
class _Program:
    """Columns and rows of the program.

    Rows: B limits, N energies, then B peaks and B surpluses where they matter. Columns: one per
    (car, block) above the guard, one below it, headroom used, unmet energy, peak, import.
    """

    car: NDArray[np.int64]
    block: NDArray[np.int64]
    block_h: Floats
    rows_of_energy: int
    blocks: int
    reserve_at: int
    peak_at: int
    cost: Floats
    upper: Floats
    row_lower: Floats
    row_upper: Floats
    starts: Ints
    index: Ints
    value: Floats

    @classmethod
    def of(cls, grid: Grid, blocks: Blocks) -> "_Program":
        """Lay out the program of `grid`."""
        n, b = grid.shape[0], len(blocks.lengths)
        block_h = blocks.sums(grid.hours)
        inside = blocks.sums(grid.inside_h)
        weights = _weights(grid, block_h)
        cells = _cells(grid, blocks, inside)
        has_peak, has_sun = grid.demand_charge > 0, bool((grid.surplus_kw > 0).any())
        energy_row, peak_row = b, b + n
        sun_row = peak_row + (b if has_peak else 0)
        columns = _Columns()
        share = np.where(
            blocks.lengths[cells.block] == 1,
            1.0,
            inside[cells.car, cells.block] / block_h[cells.block],
        )
        entries: list[tuple[NDArray[np.int64], Floats]] = [
            (energy_row + cells.car, inside[cells.car, cells.block])
        ]
        if has_peak:
            entries.append((peak_row + cells.block, share))
        if has_sun:
            entries.append((sun_row + cells.block, share))
        order = np.argsort(cells.of_room == 0, kind="stable")
        for at in (order[cells.of_room[order] > 0], order[cells.of_room[order] == 0]):
            own = [(rows[at], values[at]) for rows, values in entries]
            if len(at) and cells.of_room[at[0]] > 0:
                own.insert(0, (cells.block[at], share[at] * cells.of_room[at]))
            columns.add(cells.cost[at], cells.upper[at], own)
        reserve_at = columns.count
        every = np.arange(b)
        reserved = blocks.sums(grid.reserved_kw * grid.hours) / block_h
        columns.add(weights.reserve * block_h, reserved, [(every, np.full(b, -1.0))])
        _add_unmet(columns, grid, weights, energy_row)
        peak_at = columns.count if has_peak else -1
        if has_peak:
            columns.add_peak(grid.demand_charge, peak_row + every)
        if has_sun:
            _add_import(columns, grid, blocks, block_h, sun_row + every)
        room = blocks.sums(grid.room_kw * grid.hours) / block_h
        asked = grid.due_kwh + grid.later_kwh + grid.extra_kwh
        asked = np.where(grid.is_fixed, 0.0, asked)
        free = np.full(b, -np.inf)
        peak_room = grid.first_peak_kw - blocks.sums(grid.base_kw * grid.hours) / block_h
        surplus = blocks.sums(grid.surplus_kw * grid.hours) / block_h
        upper = [room - reserved, asked, *([peak_room] if has_peak else [])]
        upper += [surplus] if has_sun else []
        lower = [free, asked, *([free] * (int(has_peak) + int(has_sun)))]
        return cls(
            car=cells.car[order],
            block=cells.block[order],
            block_h=block_h,
            rows_of_energy=n,
            blocks=b,
            reserve_at=reserve_at,
            peak_at=peak_at,
            cost=np.concatenate(columns.cost),
            upper=np.concatenate(columns.upper),
            row_lower=np.concatenate(lower),
            row_upper=np.concatenate(upper),
            starts=np.concatenate([[0], np.cumsum(np.concatenate(columns.sizes))]).astype(np.int32),
            index=np.concatenate(columns.index).astype(np.int32),
            value=np.concatenate(columns.value),
        )

    def run(self, iteration_limit: int) -> tuple[Floats, Floats] | None:
        """Return column values and row duals, None if HiGHS did not prove an optimum."""
        # The bare class: the wrapper around it prints a banner on standard output.
        highs = highspy._core._Highs()
        for name, value in _OPTIONS.items():
            highs.setOptionValue(name, value)
        highs.setOptionValue("simplex_iteration_limit", int(iteration_limit))
        columns, rows = len(self.cost), len(self.row_upper)
        passed = highs.passModel(
            columns,
            rows,
            len(self.value),
            int(highspy.MatrixFormat.kColwise),
            int(highspy.ObjSense.kMinimize),
            0.0,
            self.cost,
            np.zeros(columns),
            self.upper,
            self.row_lower,
            self.row_upper,
            self.starts,
            self.index,
            self.value,
            np.zeros(columns, dtype=np.int32),
        )
        if passed == highspy.HighsStatus.kError or highs.run() == highspy.HighsStatus.kError:
            return None
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = highs.getSolution()
        return np.asarray(solution.col_value), np.asarray(solution.row_dual)


_OPTIONS: dict[str, bool | float | str] = {
    "output_flag": False,
    "presolve": "off",
    "solver": "simplex",
    "simplex_strategy": 1,
    "threads": 1,
    "random_seed": 0,
    # The front-load that breaks ties is worth about 1e-6 EUR per kWh and slot.
    "dual_feasibility_tolerance": 1e-9,
    "primal_feasibility_tolerance": 1e-9,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """One entry per column of power: its car and block, and how much of the room a kW takes."""

    car: NDArray[np.int64]
    block: NDArray[np.int64]
    of_room: Floats
    upper: Floats
    cost: Floats


def _cells(grid: Grid, blocks: Blocks, inside: Floats) -> _Cells:
    """Return a car's power in a block as a lower and an upper piece.

    A car takes nothing or at least its minimum, so its guard is free to it only in proportion:
    the lower piece reaches to the minimum and takes the share of it that lies above the guard.
    """
    cap = blocks.sums(grid.cap_kw * grid.inside_h) / np.maximum(inside, 1e-12)
    least, guard = grid.least_kw, grid.guard_kw
    knee = np.minimum(np.where(guard > 0, np.maximum(least, guard), 0.0)[:, None], cap)
    taken = np.where(least > guard, 1.0 - guard / np.maximum(least, 1e-12), 0.0)
    price = blocks.sums(grid.cost * grid.inside_h)
    high, low = np.nonzero(cap - knee > 1e-9), np.nonzero(knee > 1e-9)
    car = np.concatenate([high[0], low[0]])
    block = np.concatenate([high[1], low[1]])
    return _Cells(
        car=car,
        block=block,
        of_room=np.concatenate([np.ones(len(high[0])), taken[low[0]]]),
        upper=np.concatenate([(cap - knee)[high], knee[low]]),
        cost=price[car, block],
    )


class _Columns:
    """Columns as they are added; each holds the rows it touches, in order."""

    def __init__(self) -> None:
        self.cost: list[Floats] = []
        self.upper: list[Floats] = []
        self.sizes: list[NDArray[np.int64]] = []
        self.index: list[NDArray[np.int64]] = []
        self.value: list[Floats] = []
        self.count = 0

    def add(
        self, cost: Floats, upper: Floats, entries: list[tuple[NDArray[np.int64], Floats]]
    ) -> None:
        """Add one column per entry of `cost`, each touching one row of every pair."""
        self.cost.append(cost)
        self.upper.append(upper)
        self.sizes.append(np.full(len(cost), len(entries), dtype=np.int64))
        self.index.append(np.stack([rows for rows, _ in entries], axis=1).ravel())
        self.value.append(np.stack([values for _, values in entries], axis=1).ravel())
        self.count += len(cost)

    def add_peak(self, charge: float, rows: NDArray[np.int64]) -> None:
        """Add the one column that raises the peak in all blocks."""
        self.cost.append(np.array([charge]))
        self.upper.append(np.array([np.inf]))
        self.sizes.append(np.array([len(rows)], dtype=np.int64))
        self.index.append(rows)
        self.value.append(np.full(len(rows), -1.0))
        self.count += 1


def _add_unmet(columns: _Columns, grid: Grid, weights: _Weights, energy_row: int) -> None:
    """Add what may stay unmet: four quarters of what is due, then later and extra energy."""
    cars = np.arange(grid.shape[0])
    # Slots are the control periods; a car without slack weighs up to 1.3 times.
    slot_h = float(grid.hours.max(initial=1.0))
    urgency = 1.0 + 0.3 / (1.0 + np.maximum(grid.laxity_h, 0.0) / slot_h)
    is_asking = ~grid.is_fixed
    for quarter in SEGMENTS:
        at = np.flatnonzero(is_asking & (grid.due_kwh > 0))
        weight = weights.need * (1.0 + 2.0 * grid.rank[at] + quarter * urgency[at])
        if len(at):
            columns.add(
                weight, grid.due_kwh[at] / len(SEGMENTS), [(energy_row + at, np.ones(len(at)))]
            )
    for energy, value in (
        (grid.later_kwh, np.full(len(cars), weights.later)),
        (grid.extra_kwh, np.where(np.isfinite(grid.extra_value), grid.extra_value, -1e3)),
    ):
        at = np.flatnonzero(is_asking & (energy > 0))
        if len(at):
            columns.add(value[at], energy[at], [(energy_row + at, np.ones(len(at)))])


def _add_import(
    columns: _Columns, grid: Grid, blocks: Blocks, block_h: Floats, rows: NDArray[np.int64]
) -> None:
    """Add what is bought beyond the site's own surplus, at the price's distance to the export."""
    is_sunny = blocks.sums(grid.surplus_kw) > 0
    dearer = np.where(grid.surplus_kw > 0, grid.price - grid.export_price, 0.0)
    cost = np.where(is_sunny, blocks.sums(dearer * grid.hours), 0.0)
    columns.add(cost, np.full(len(rows), np.inf), [(rows, np.full(len(rows), -1.0))])
