"""The planning problem as one linear program over blocks of slots, solved by HiGHS.

Every kWh that could be missed has a price far above any energy or peak cost (`weights`), so one
solve keeps the order of what matters. Each limit of the site that can bind is a row per block.
Minimum currents are left to `rounding`: as hard rows they make the problem infeasible.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import highspy
import numpy as np
from numpy.typing import NDArray

from csms.core.plan import Start
from csms.planning.blocks import Blocks, Draws
from csms.planning.grid import Flags, Floats, Grid
from csms.planning.screened import screened
from csms.planning.simplex import LinearProgram
from csms.planning.uncontested import uncontested
from csms.planning.warm import Layout
from csms.planning.weights import Weights, weights_of

ITERATION_LIMIT = 200_000
"""Simplex iterations before a solve counts as failed: a bound on time that is the same every run
(1 000 cars take about 6 000)."""
FEW_CELLS = 1_000
"""Up to so many pairs under many limits, the primal simplex is faster than the dual one."""
MANY_CARS = 2_000
"""From so many cars on, most of what they do is settled before the program is solved."""
SUMMED_LIMITS = 8
"""From so many limits on, they bound sums over cars that take the same from all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """What the solver found: `power_kw` (N, B), `limit_value` (R, B) EUR per unit and hour.

    `reserve_kw` (B,) is what it takes of the headroom, `objective` what all of it weighs, EUR.
    `is_solved` is False when it gave up; the arrays are then empty. `weights` are those it counted
    with, `worth` (N,) is what a kWh more of each car is to it, EUR; None where they are not told.
    `start` is where the next program of the site may begin.
    """

    is_solved: bool
    power_kw: Floats
    limit_value: Floats
    reserve_kw: Floats
    peak_kw: float
    objective: float = np.nan
    weights: Weights | None = None
    worth: Floats | None = None
    start: Start | None = None


class Solver(Protocol):
    """Anything that solves a grid over given blocks."""

    def __call__(self, grid: Grid, blocks: Blocks, *, iteration_limit: int) -> Solution:
        """Return the block powers; never raise for a problem that is merely hard."""


def solve(grid: Grid, blocks: Blocks, *, iteration_limit: int = ITERATION_LIMIT) -> Solution:
    """Return the optimal block powers of `grid`."""
    draws = Draws.of(grid, blocks)
    weights = weights_of(grid, float(draws.block_h.min()))
    alone = uncontested(grid, blocks, draws, weights)
    if alone is None:
        return by_simplex(grid, blocks, draws, weights, iteration_limit=iteration_limit)
    b = len(draws.block_h)
    return Solution(
        is_solved=True,
        power_kw=alone[0],
        limit_value=np.zeros((len(grid.use), b)),
        reserve_kw=np.zeros(b),
        peak_kw=grid.first_peak_kw,
        objective=alone[1],
        weights=weights,
    )


def by_simplex(
    grid: Grid,
    blocks: Blocks,
    draws: Draws,
    weights: Weights,
    *,
    iteration_limit: int = ITERATION_LIMIT,
) -> Solution:
    """Return the optimal block powers of `grid` by HiGHS, whether or not cars compete."""
    program = _Program.of(grid, blocks, draws, weights)
    result = program.run(grid, blocks, iteration_limit)
    if result is None:
        nothing = np.zeros(0)
        return Solution(
            is_solved=False,
            power_kw=np.zeros((0, 0)),
            limit_value=np.zeros((0, 0)),
            reserve_kw=nothing,
            peak_kw=0.0,
        )
    values, duals, start = result
    n, b, limits = grid.shape[0], len(draws.block_h), len(grid.use)
    # A car has up to two columns in a block: one below its knee, one above it.
    layout = program.layout
    cell = layout.car * b + layout.block
    power = np.bincount(cell, weights=values[: len(cell)], minlength=n * b).reshape(n, b)
    used = values[layout.reserve_at : layout.reserve_at + b]
    return Solution(
        is_solved=True,
        power_kw=np.asarray(power, dtype=np.float64),
        limit_value=np.maximum(-duals[: limits * b].reshape(limits, b), 0.0) / draws.block_h,
        reserve_kw=used,
        peak_kw=grid.first_peak_kw + (values[layout.peak_at] if layout.peak_at >= 0 else 0.0),
        objective=float(program.linear.cost @ values),
        weights=weights,
        worth=duals[layout.energy_rows.start : layout.energy_rows.stop],
        start=start,
    )


@dataclass(slots=True, kw_only=True)
class _Program:
    """Columns and rows of the program.

    Rows: B for each of R limits, N energies, then B peaks and B surpluses where they matter.
    Columns: one per (car, block) above the guard, one below it, headroom used, unmet energy, peak,
    import. Where kinds of cars are summed up first, a column and a row each per kind and block.
    """

    layout: Layout
    has_start: bool
    """Whether it can begin where another one ended."""
    is_small: bool
    linear: LinearProgram

    @classmethod
    def of(cls, grid: Grid, blocks: Blocks, draws: Draws, weights: Weights) -> "_Program":
        """Lay out the program of `grid`."""
        n, b, limits = grid.shape[0], len(blocks.lengths), len(grid.use)
        block_h = draws.block_h
        cells = _cells(draws)
        has_peak, has_sun = grid.demand_weight > 0, bool((grid.surplus_kw > 0).any())
        energy_row = limits * b
        peak_row = energy_row + n
        sun_row = peak_row + (b if has_peak else 0)
        columns = _Columns()
        kinds = _kinds(grid)
        sum_row = sun_row + (b if has_sun else 0) if kinds.is_summed else None
        order = _add_power(
            columns,
            grid,
            draws,
            cells,
            kinds,
            energy_row=energy_row,
            sum_row=sum_row,
            shared_rows=[*([peak_row] if has_peak else []), *([sun_row] if has_sun else [])],
        )
        lower = cells.lower[order]
        if sum_row is not None:
            _add_sums(columns, grid, kinds, sum_row, b)
        reserve_at = columns.count
        every = np.arange(b)
        reserved = blocks.sums(grid.reserved_kw * grid.hours) / block_h
        columns.add(weights.reserve * block_h, reserved, [(every, np.full(b, -1.0))])
        unmet_at = columns.count
        unmet_step, unmet_car = _add_unmet(columns, grid, weights, energy_row)
        peak_at = columns.count if has_peak else -1
        if has_peak:
            columns.add_peak(grid.demand_weight, peak_row + every)
        if has_sun:
            _add_import(columns, grid, blocks, block_h, sun_row + every)
        room = blocks.sums(grid.room * grid.hours) / block_h
        room[0] -= reserved
        asked = grid.due_kwh + grid.later_kwh + grid.extra_kwh
        asked = np.where(grid.is_fixed, 0.0, asked)
        free = np.full(b, -np.inf)
        peak_room = grid.first_peak_kw - blocks.sums(grid.base_kw * grid.hours) / block_h
        surplus = blocks.sums(grid.surplus_kw * grid.hours) / block_h
        upper = [room.ravel(), asked, *([peak_room] if has_peak else [])]
        upper += [surplus] if has_sun else []
        least = [*([free] * limits), asked, *([free] * (int(has_peak) + int(has_sun)))]
        if sum_row is not None:
            none = np.zeros(len(kinds.first) * b)
            upper, least = [*upper, none], [*least, none]
        starts = np.concatenate([[0], np.cumsum(np.concatenate(columns.sizes))])
        return cls(
            layout=Layout(
                cars=n,
                blocks=b,
                limits=limits,
                car=cells.car[order],
                block=cells.block[order],
                is_low=cells.is_low[order],
                reserve_at=reserve_at,
                unmet_at=unmet_at,
                unmet_car=unmet_car,
                unmet_step=unmet_step,
                peak_at=peak_at,
            ),
            has_start=not kinds.is_summed and not has_sun and n < MANY_CARS,
            is_small=kinds.is_summed and n * b <= FEW_CELLS,
            linear=LinearProgram(
                cost=np.concatenate(columns.cost),
                lower=np.concatenate([lower, np.zeros(columns.count - len(lower))]),
                upper=np.concatenate(columns.upper),
                row_lower=np.concatenate(least),
                row_upper=np.concatenate(upper),
                starts=starts.astype(np.int32),
                index=np.concatenate(columns.index).astype(np.int32),
                value=np.concatenate(columns.value),
            ),
        )

    def run(
        self, grid: Grid, blocks: Blocks, iteration_limit: int
    ) -> tuple[Floats, Floats, Start | None] | None:
        """Return column values, row duals and where it ended, None without a proven optimum."""
        layout = self.layout
        if layout.cars >= MANY_CARS:
            settled = screened(self.linear, layout.energy_rows, iteration_limit=iteration_limit)
            if settled is not None:
                return *settled, None
        options: Mapping[str, float] | None = _GENTLE if layout.peak_at < 0 else None
        basis = None
        if self.is_small:
            options, basis = _PRIMAL, self._nothing_met()
        elif self.has_start and grid.case.start is not None:
            basis = layout.begun(grid, blocks, self.linear, grid.case.start)
        found = self.linear.solved(iteration_limit, options=options, basis=basis)
        if found is None and basis is not None:
            found = self.linear.solved(iteration_limit, options=options)
        if found is None:
            return None
        start = layout.ended(grid, blocks, self.linear, found) if self.has_start else None
        return found.values, found.duals, start

    def _nothing_met(self) -> highspy.HighsBasis:
        """Return the vertex at which nobody charges: it keeps all limits, as a start."""
        status, basis = highspy.HighsBasisStatus, highspy.HighsBasis()
        columns = [status.kLower] * len(self.linear.cost)
        at, count = self.layout.unmet_at, len(self.layout.unmet_car)
        columns[at : at + count] = [status.kUpper] * count
        basis.col_status = columns
        basis.row_status = [status.kBasic] * len(self.linear.row_upper)
        basis.valid = True
        return basis


_PRIMAL: dict[str, int] = {"simplex_strategy": 4, "simplex_primal_edge_weight_strategy": 0}
"""For a few cars and blocks under many limits: a third less time than the dual simplex."""
_GENTLE = {"dual_simplex_cost_perturbation_multiplier": 0.01}
"""Up to a thousand cars at one price take a thirtieth of the time with so little perturbation; a
peak, or many thousand cars, take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """One entry per column of power: its car and block, and how much of the room a kW takes."""

    car: NDArray[np.int64]
    block: NDArray[np.int64]
    is_low: Flags
    of_room: Floats
    lower: Floats
    upper: Floats
    cost: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kinds:
    """Cars that take the same from every limit: the kind `of_car` (N,), a car of each in `first`.

    With `is_summed` there are so many limits that a kind's power is summed up first, and the
    limits bound those sums: the program has a fraction of the entries then.
    """

    of_car: NDArray[np.int64]
    first: list[int]
    is_summed: bool


def _kinds(grid: Grid) -> _Kinds:
    """Return the kinds of cars of `grid`: equal use where sums pay, else equal limits."""
    is_summed = len(grid.use) >= SUMMED_LIMITS and 2 * len(grid.kind_first) <= grid.shape[0]
    if is_summed or len(grid.use) == 1:
        return _Kinds(of_car=grid.kind, first=grid.kind_first.tolist(), is_summed=is_summed)
    number: dict[bytes, int] = {}
    patterns = np.ascontiguousarray(grid.use.T > 0)
    of_car = np.array([number.setdefault(p.tobytes(), len(number)) for p in patterns])
    first = np.unique(of_car, return_index=True)[1]
    return _Kinds(of_car=of_car, first=first.tolist(), is_summed=False)


def _add_sums(columns: "_Columns", grid: Grid, kinds: _Kinds, sum_row: int, b: int) -> None:
    """Add the power of each kind of cars in each block, which is what the limits bound."""
    every = np.arange(b)
    for kind, car in enumerate(kinds.first):
        use = grid.use[:, car]
        limits = np.flatnonzero(use > 0)
        rows = np.append(limits * b, sum_row + kind * b) + every[:, None]
        values = np.broadcast_to(np.append(use[limits], -1.0), rows.shape)
        columns.add_table(np.zeros(b), np.full(b, np.inf), rows, values)


def _add_power(
    columns: "_Columns",
    grid: Grid,
    draws: Draws,
    cells: _Cells,
    kinds: _Kinds,
    *,
    energy_row: int,
    sum_row: int | None,
    shared_rows: list[int],
) -> NDArray[np.int64]:
    """Add the columns of power, cars that take from the same limits together; return their order.

    `shared_rows` are the first rows of what all cars' power counts in besides the limits.
    """
    b = len(draws.block_h)
    share, inside = draws.share[cells.car, cells.block], draws.inside_h[cells.car, cells.block]
    # Power below a guard takes from no limit.
    count = len(kinds.first)
    kind = np.where(cells.of_room > 0, kinds.of_car[cells.car], count)
    order = np.argsort(kind, kind="stable")
    ends = [0, *np.cumsum(np.bincount(kind, minlength=count + 1)).tolist()]
    for first, end in pairwise(ends):
        if first == end:
            continue
        at = order[first:end]
        car, block = cells.car[at], cells.block[at]
        own: list[tuple[NDArray[np.int64], Floats]] = []
        if cells.of_room[at[0]] > 0 and sum_row is not None:
            row = sum_row + int(kind[at[0]]) * b
            own.append((row + block, share[at] * cells.of_room[at]))
        elif cells.of_room[at[0]] > 0:
            for r in np.flatnonzero(grid.use[:, car[0]] > 0).tolist():
                own.append((r * b + block, share[at] * cells.of_room[at] * grid.use[r, car]))
        own.append((energy_row + car, inside[at]))
        own += [(row + block, share[at]) for row in shared_rows]
        columns.add(cells.cost[at], cells.upper[at], own)
    return order


def _cells(draws: Draws) -> _Cells:
    """Return a car's power in a block as a piece below its knee and one above it."""
    cap, knee, held = draws.cap_kw, draws.knee_kw, draws.held_kw
    high, low = np.nonzero(cap - knee > 1e-9), np.nonzero(knee > 1e-9)
    car = np.concatenate([high[0], low[0]])
    block = np.concatenate([high[1], low[1]])
    return _Cells(
        car=car,
        block=block,
        is_low=np.arange(len(car)) >= len(high[0]),
        of_room=np.concatenate([np.ones(len(high[0])), draws.below[low[0]]]),
        lower=np.concatenate([np.maximum(held - knee, 0.0)[high], np.minimum(held, knee)[low]]),
        upper=np.concatenate([(cap - knee)[high], knee[low]]),
        cost=draws.cost[car, block],
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
        index = np.empty((len(cost), len(entries)), dtype=np.int64)
        value = np.empty(index.shape)
        for at, (rows, values) in enumerate(entries):
            index[:, at], value[:, at] = rows, values
        self.add_table(cost, upper, index, value)

    def add_table(
        self, cost: Floats, upper: Floats, index: NDArray[np.int64], value: Floats
    ) -> None:
        """Add one column per row of `index` and `value`: the rows it touches, and by how much."""
        self.cost.append(cost)
        self.upper.append(upper)
        self.sizes.append(np.full(len(cost), index.shape[1], dtype=np.int64))
        self.index.append(index.ravel())
        self.value.append(value.ravel())
        self.count += len(cost)

    def add_peak(self, charge: float, rows: NDArray[np.int64]) -> None:
        """Add the one column that raises the peak in all blocks."""
        self.cost.append(np.array([charge]))
        self.upper.append(np.array([np.inf]))
        self.sizes.append(np.array([len(rows)], dtype=np.int64))
        self.index.append(rows)
        self.value.append(np.full(len(rows), -1.0))
        self.count += 1


def _add_unmet(
    columns: _Columns, grid: Grid, weights: Weights, energy_row: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add what may stay unmet: the quarters of what is due, then later and extra energy.

    Return which of those each column is, and whose.
    """
    later = np.full(grid.shape[0], weights.later)
    worth = np.vstack([weights.due, later, weights.extra])
    energy = np.vstack([weights.due_kwh, grid.later_kwh, grid.extra_kwh])
    step, car = np.nonzero(~grid.is_fixed & (energy > 0))
    columns.add(worth[step, car], energy[step, car], [(energy_row + car, np.ones(len(car)))])
    return step, car


def _add_import(
    columns: _Columns, grid: Grid, blocks: Blocks, block_h: Floats, rows: NDArray[np.int64]
) -> None:
    """Add what is bought beyond the site's own surplus, at the price's distance to the export."""
    is_sunny = blocks.sums(grid.surplus_kw) > 0
    dearer = np.where(grid.surplus_kw > 0, grid.price - grid.export_price, 0.0)
    cost = np.where(is_sunny, blocks.sums(dearer * grid.hours), 0.0)
    columns.add(cost, np.full(len(rows), np.inf), [(rows, np.full(len(rows), -1.0))])
