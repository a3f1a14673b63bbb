"""The optimum where cars do not compete: each takes its cheapest blocks, as if it were alone."""

import numpy as np

from csms.planning.blocks import Blocks, Draws
from csms.planning.grid import Floats, Grid
from csms.planning.weights import Weights

FITS_KW = 1e-9


def uncontested(
    grid: Grid, blocks: Blocks, draws: Draws, weights: Weights
) -> tuple[Floats, float] | None:
    """Return the block powers (N, B) each car would choose alone, and what they weigh, EUR.

    None where together they pass a limit, need headroom, raise the peak or share the sun. Where
    they do none of that, the linear program falls apart into one per car, and taking what costs
    least until the need is met solves those.
    """
    if (grid.surplus_kw > 0).any():
        return None
    there = np.maximum(draws.inside_h, 1e-12)
    held_kwh = draws.held_kw * draws.inside_h
    room_kwh = draws.cap_kw * draws.inside_h - held_kwh
    cell_price = draws.cost / there
    due = np.where(grid.is_fixed, 0.0, np.maximum(grid.due_kwh - held_kwh.sum(axis=1), 0.0))
    # Most cars that compete do so for the first block each would choose.
    every = np.arange(len(due))
    first = np.where(room_kwh > 0, cell_price, np.inf).argmin(axis=1)
    power = draws.held_kw.copy()
    power[every, first] += np.minimum(room_kwh[every, first], due) / there[every, first]
    if not _fits(grid, blocks, draws, power):
        return None
    # To give up energy is a choice like any other, with its own price.
    given_up = [*weights.due_kwh, grid.later_kwh, grid.extra_kwh]
    later = np.full(len(grid.later_kwh), weights.later)
    prices = [*weights.due, later, weights.extra]
    most = np.column_stack([room_kwh, *given_up])
    per_kwh = np.column_stack([cell_price, *prices])
    asked = grid.due_kwh + grid.later_kwh + grid.extra_kwh - held_kwh.sum(axis=1)
    asked = np.where(grid.is_fixed, 0.0, np.maximum(asked, 0.0))[:, None]
    order = np.argsort(per_kwh, axis=1, kind="stable")
    sorted_kwh = np.take_along_axis(most, order, axis=1)
    before = np.cumsum(sorted_kwh, axis=1) - sorted_kwh
    chosen = np.empty(most.shape)
    np.put_along_axis(chosen, order, np.clip(asked - before, 0.0, sorted_kwh), axis=1)
    energy = chosen[:, : room_kwh.shape[1]]
    power = draws.held_kw + energy / there
    if not _fits(grid, blocks, draws, power):
        return None
    return power, float((chosen * per_kwh).sum() + (draws.cost * draws.held_kw).sum())


def _fits(grid: Grid, blocks: Blocks, draws: Draws, power: Floats) -> bool:
    """Return whether nobody stands in another's way."""
    room = blocks.sums(grid.room * grid.hours)
    room[0] -= blocks.sums(grid.reserved_kw * grid.hours)
    if (grid.use @ draws.taken_kw(power) > room / draws.block_h + FITS_KW).any():
        return False
    if not grid.demand_weight > 0:
        return True
    load = (power * draws.share).sum(axis=0) + blocks.sums(
        grid.base_kw * grid.hours
    ) / draws.block_h
    return bool((load <= grid.first_peak_kw + FITS_KW).all())
