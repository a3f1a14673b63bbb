"""PlanningCase -> Plan: the limit first, then needs by departure, then cost, then comfort.

`plan` is pure: same case, same plan, bit for bit. Whatever made the rows, they pass an
independent check against the case before they leave; rows that fail it, or a solver that does,
are replaced by least-laxity filling, and the plan says so ("fallback").
"""

from collections.abc import Sequence

import numpy as np

from csms.core.model import Strategy
from csms.core.plan import Plan, PlanningCase
from csms.planning.explain import MISSED_EUR_PER_KWH, explained
from csms.planning.grid import Floats, Grid, grid_of
from csms.planning.rounding import rows_of
from csms.planning.rules import by_rule
from csms.planning.solver import ITERATION_LIMIT, Solver, blocks_of, solve

LIMIT_TOLERANCE_KW = 1e-6


def plan(
    case: PlanningCase, *, solver: Solver = solve, iteration_limit: int = ITERATION_LIMIT
) -> Plan:
    """Return the plan of `case` by its strategy.

    Never raises for a case that cannot be met: what is missing is each session's shortfall, and
    faults in the data are in the plan's notes. Raises InvalidInput for a case whose series and
    slots do not fit together. `iteration_limit` bounds the solver's work.
    """
    grid = grid_of(case)
    value = np.zeros(grid.shape[1])
    if case.strategy is not Strategy.OPTIMAL:
        return explained(grid, _checked(grid, by_rule(grid, case.strategy)), value, status="rule")
    optimal = _optimal(grid, solver, iteration_limit)
    if optimal is None:
        power = _checked(grid, by_rule(grid, Strategy.LEAST_LAXITY))
        return explained(grid, power, value, status="fallback")
    return explained(grid, optimal[0], optimal[1], status="optimal")


def uncontrolled(case: PlanningCase, *, energy_kwh: Sequence[float] | None = None) -> Plan:
    """Return what the cars would draw with no control at all: full power from plug-in on.

    The limit is ignored; this is what savings are measured against. Each car takes
    `energy_kwh` (its preferred energy if not given) and stops.
    """
    grid = grid_of(case)
    wanted = grid.required_kwh + grid.extra_kwh if energy_kwh is None else np.array(energy_kwh)
    most = np.array([s.max_kw for s in case.sessions], dtype=np.float64)
    most = np.where(np.isfinite(most), np.maximum(most, 0.0), 0.0)[:, None]
    full_kwh = most * grid.inside_h
    before = np.cumsum(full_kwh, axis=1) - full_kwh
    given = np.clip(wanted[:, None] - before, 0.0, full_kwh)
    inside = np.where(grid.inside_h > 0, grid.inside_h, 1.0)
    power = np.where(grid.is_fixed[:, None], 0.0, given / inside)
    return explained(grid, power, np.zeros(grid.shape[1]), status="uncontrolled")


def faults(grid: Grid, power_kw: Floats) -> str:
    """Return which law of a plan `power_kw` (N, K) breaks, "" if none.

    The limit and the departures are checked anew, not by what the planner derived from them.
    """
    if power_kw.shape != grid.shape or not np.isfinite(power_kw).all():
        return "rows are not numbers"
    if ((power_kw < 0) | (power_kw > grid.cap_kw + LIMIT_TOLERANCE_KW)).any():
        return "a row is outside what its car may draw"
    if ((power_kw > 0) & (power_kw < grid.least_kw[:, None] - LIMIT_TOLERANCE_KW)).any():
        return "a row is below its least current"
    case = grid.case
    rows = power_kw + grid.fixed_kw
    departs = np.array([s.departs_at.timestamp() for s in case.sessions])
    starts = np.array([at.timestamp() for at in case.edges_at[:-1]])
    is_gone = (starts >= departs[:, None]) & ~grid.is_overdue[:, None]
    if power_kw[is_gone].any():
        return "a row goes on after the departure"
    load = grid.base_kw - grid.fixed_kw.sum(axis=0) + grid.idle_kw
    load = load + np.maximum(rows, grid.guard_kw[:, None]).sum(axis=0)
    over = (load > grid.limit_kw + LIMIT_TOLERANCE_KW) & power_kw.any(axis=0)
    return "the limit is passed" if over.any() else ""


def _optimal(grid: Grid, solver: Solver, iteration_limit: int) -> tuple[Floats, Floats] | None:
    """Return rows and the value of the limit per slot, None if the solver cannot be trusted."""
    blocks = blocks_of(grid)
    if not grid.shape[0]:
        return np.zeros(grid.shape), np.zeros(grid.shape[1])
    solution = solver(grid, blocks, iteration_limit=iteration_limit)
    shape = (grid.shape[0], len(blocks.lengths))
    if not solution.is_solved or solution.power_kw.shape != shape:
        return None
    if not np.isfinite(solution.power_kw).all():
        return None
    power = rows_of(grid, blocks, solution)
    if faults(grid, power):
        return None
    value = np.minimum(np.repeat(solution.limit_value, blocks.lengths), MISSED_EUR_PER_KWH)
    return power, value


def _checked(grid: Grid, power: Floats) -> Floats:
    """Return `power`, or nothing at all for anyone if even the rule broke a law."""
    return np.zeros(grid.shape) if faults(grid, power) else power
