"""PlanningCase -> Plan: the limit first, then needs by departure, then cost, then comfort.

`plan` is pure: same case, same plan, bit for bit. Whatever made the rows, they pass an
independent check against the case before they leave; rows that fail it, or a solver that does,
are replaced by least-laxity filling, and the plan says so ("fallback").
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from csms.core.model import Strategy
from csms.core.plan import Plan, PlanningCase, Start
from csms.planning.blocks import blocks_of
from csms.planning.dwell import with_dwell
from csms.planning.explain import MISSED_EUR_PER_KWH, explained
from csms.planning.grid import Flags, Floats, Grid, grid_of
from csms.planning.room import ENERGY_KWH
from csms.planning.rounding import rows_of
from csms.planning.rules import by_rule, missed_kwh
from csms.planning.runs import in_few_runs
from csms.planning.solver import ITERATION_LIMIT, Solver, solve
from csms.planning.steady import steadied, unless_in_force
from csms.planning.weights import Weights, objective, weights_of
from csms.planning.whole import made_whole

LIMIT_TOLERANCE_KW = 1e-6
NO_OPTIMUM = "the solver found no sound optimum"
NEAR_H = 1.0
"""Slots so near are planned one by one, and show what levels take of the optimum."""
SMALLEST_EUR = 0.01
"""A loss is told as a share of the optimum, or of this where the optimum is next to nothing."""


def plan(
    case: PlanningCase,
    *,
    solver: Solver = solve,
    iteration_limit: int = ITERATION_LIMIT,
    with_reasons: bool = True,
) -> Plan:
    """Return the plan of `case` by its strategy.

    Never raises for a case that cannot be met: what is missing is each session's shortfall, and
    faults in the data are in the plan's notes. Raises InvalidInput for a case whose series and
    slots do not fit together. `iteration_limit` bounds the solver's work. Without `with_reasons`
    the plan does not say why each slot is as it is, which limits bind, nor what would help against
    a shortfall: a third of the work, for callers that only want the rows.
    """
    told = partial(explained, with_reasons=with_reasons)
    grid = with_dwell(grid_of(case))
    value = np.zeros(grid.room.shape)
    if case.strategy is not Strategy.OPTIMAL:
        return told(grid, _by_rule(grid, case.strategy), value, status="rule")
    why = ""
    try:
        optimal = _optimal(grid, solver, iteration_limit)
    except Exception as error:
        # A solver is a part that may be exchanged; what it does must not leave cars without plan.
        optimal, why = None, f"the solver failed: {error!r}"[:200]
    if optimal is None:
        found = told(grid, _fallen_back(grid), value, status="fallback")
        return replace(found, notes=(*found.notes, why or NO_OPTIMUM))
    rows, best = optimal
    made = told(grid, rows, best.value, status="optimal", reached_kwh=best.reached_kwh)
    return replace(
        made,
        relaxed_objective=best.relaxed_eur,
        rounding_loss_share=best.rounding_loss_share,
        start=best.start,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Best:
    """The best rows (N, K), what the limits are worth (R, K), and what rounding cost.

    `reached_kwh` (N,) is what cars get in the end if all goes on like this: plans to come make up
    what rounding of their slots loses here. `weights` are those the rows were found with."""

    power_kw: Floats
    value: Floats
    reached_kwh: Floats
    weights: Weights
    relaxed_eur: float | None = None
    rounding_loss_share: float | None = None
    start: Start | None = None


def fallback(case: PlanningCase, *, why: str) -> Plan:
    """Return the plan of `case` by least laxity, where another planner failed: `why` is its note.

    Raises InvalidInput like `plan`.
    """
    grid = with_dwell(grid_of(case))
    made = explained(grid, _fallen_back(grid), np.zeros(grid.room.shape), status="fallback")
    return replace(made, notes=(*made.notes, why[:200]))


def faults_of(case: PlanningCase, made: Plan) -> str:
    """Return what makes `made` no plan of `case` that may leave, "" if nothing does.

    A planner may be a plug-in: its rows are checked against the case alone.
    """
    if made.edges_at != case.edges_at or made.site_id != case.site_id:
        return "the plan is of another case"
    if [s.session_id for s in made.sessions] != [s.session_id for s in case.sessions]:
        return "the sessions are not those of the case"
    if any(len(s.power_kw) != case.slots for s in made.sessions):
        return "rows and slots differ in number"
    try:
        made.to_json()
    except ValueError as error:
        return f"figures are not numbers: {error}"
    # Levels and pauses are ours to choose: a row between them is rounded down when it is sent.
    sessions = tuple(replace(s, step_a=0.0, step_w=0.0, levels_a=()) for s in case.sessions)
    grid = grid_of(replace(case, sessions=sessions))
    power = np.array([s.power_kw for s in made.sessions], dtype=np.float64).reshape(grid.shape)
    # A car that cannot be controlled draws what it draws, whatever its row says.
    return faults(grid, np.where(grid.is_fixed[:, None], 0.0, power))


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
    return explained(grid, power, np.zeros(grid.room.shape), status="uncontrolled")


def faults(grid: Grid, power_kw: Floats, *, gone: Flags | None = None) -> str:
    """Return which law of a plan `power_kw` (N, K) breaks, "" if none.

    The limit and the departures are checked anew, not by what the planner derived from them. `gone`
    is `gone_of(grid)` where that is known already.
    """
    if power_kw.shape != grid.shape or not np.isfinite(power_kw).all():
        return "rows are not numbers"
    if ((power_kw < 0) | (power_kw > grid.cap_kw + LIMIT_TOLERANCE_KW)).any():
        return "a row is outside what its car may draw"
    is_on = power_kw > 0
    if (is_on & (power_kw < grid.least_kw[:, None] - LIMIT_TOLERANCE_KW)).any():
        return "a row is below its least current"
    if (is_on & (gone_of(grid) if gone is None else gone)).any():
        return "a row goes on after the departure"
    rows = power_kw + grid.fixed_kw
    left = grid.limits.left(np.maximum(rows, grid.guard_kw[:, None]))
    over = left < -LIMIT_TOLERANCE_KW
    if over.any():
        # A limit that guards and loads pass by themselves is nobody's fault who charges elsewhere.
        over &= (grid.limits.use > 0) @ power_kw > 0
    if not over.any():
        return ""
    return f"{grid.limits.label(int(np.argmax(over.any(axis=1))))} is passed"


def gone_of(grid: Grid) -> Flags:
    """Return which cars have left before which slots, by the case alone, (N, K)."""
    departs = np.array([s.departs_at.timestamp() for s in grid.case.sessions])
    starts = np.array([at.timestamp() for at in grid.case.edges_at[:-1]])
    is_gone = (starts >= departs[:, None]) & ~grid.is_overdue[:, None]
    return np.asarray(is_gone, dtype=np.bool_)


def _optimal(grid: Grid, solver: Solver, iteration_limit: int) -> tuple[Floats, _Best] | None:
    """Return rows and the best rows; None without a sound solution.

    The rows differ from the best ones where a row in force is kept for steadiness.
    """
    if not grid.shape[0]:
        none, weights = np.zeros(grid.shape), weights_of(grid, float(grid.hours.min()))
        nothing, value = np.zeros(0), np.zeros(grid.room.shape)
        return none, _Best(power_kw=none, weights=weights, value=value, reached_kwh=nothing)
    gone = gone_of(grid)
    solved = _solved(grid, solver, iteration_limit, gone=gone)
    if solved is None:
        return None

    power = solved.power_kw
    steady = steadied(grid, power)
    rows = in_few_runs(grid, steady)
    tried = (rows, steady, power)
    rows = next(r for r in tried if r is power or not faults(grid, r, gone=gone))
    held = unless_in_force(grid, rows, weighs=partial(_weighs, grid, solved.weights))
    is_sound = held is rows or not faults(grid, held, gone=gone)
    return (held if is_sound else rows), solved


def _solved(grid: Grid, solver: Solver, iteration_limit: int, *, gone: Flags) -> _Best | None:
    blocks = blocks_of(grid)
    solution = solver(grid, blocks, iteration_limit=iteration_limit)
    shape = (grid.shape[0], len(blocks.lengths))
    if not solution.is_solved or solution.power_kw.shape != shape:
        return None
    if not np.isfinite(solution.power_kw).all() or np.isnan(solution.limit_value).any():
        return None
    power = rows_of(grid, blocks, solution)
    if faults(grid, power, gone=gone):
        return None
    value = np.repeat(solution.limit_value, blocks.lengths, axis=1)
    weights = solution.weights or weights_of(grid, float(blocks.sums(grid.hours).min()))
    best = _Best(
        power_kw=power,
        weights=weights,
        value=np.minimum(value, MISSED_EUR_PER_KWH),
        reached_kwh=_reached_kwh(grid, power, np.repeat(solution.power_kw, blocks.lengths, axis=1)),
        start=solution.start,
    )
    if not np.isfinite(solution.objective):
        return best
    return replace(
        best,
        relaxed_eur=solution.objective,
        rounding_loss_share=_loss_share(grid, weights, power, solution.objective),
    )


def _reached_kwh(grid: Grid, power: Floats, solved_kw: Floats) -> Floats:
    """Return what cars will have had of `power` (N, K) and of the plans that come after it, (N,).

    Those give what the solver found, `solved_kw` (N, K), less what is lost of it in the hour to
    come, and what is above the highest level for which a car alone has room: levels may be too
    coarse for good. Who leaves before the next plan has what it is given.
    """
    own = power * grid.inside_h
    solved = np.minimum(solved_kw, grid.alone_kw()) * grid.inside_h
    near = slice(0, int(np.cumsum(grid.hours).searchsorted(NEAR_H - ENERGY_KWH)) + 1)
    share = float(own[:, near].sum()) / max(float(solved[:, near].sum()), ENERGY_KWH)
    given = own.sum(axis=1)
    stays = grid.inside_h[:, 1:].any(axis=1)
    reached = np.maximum(given, solved.sum(axis=1) * stays * min(share, 1.0))
    return np.asarray(reached, dtype=np.float64)


def _loss_share(grid: Grid, weights: Weights, power: Floats, relaxed_eur: float) -> float:
    """Return by which share rows weigh more than the relaxed optimum."""
    weighs = _weighs(grid, weights, power)
    return (weighs - relaxed_eur) / max(abs(relaxed_eur), SMALLEST_EUR)


def _weighs(grid: Grid, weights: Weights, power: Floats) -> float:
    """Return what rows weigh by the solver's own objective, EUR."""
    used = np.maximum(grid.taken(power)[0] - (grid.room[0] - grid.reserved_kw), 0.0)
    return objective(grid, weights, power, reserve_kw=used)


def _fallen_back(grid: Grid) -> Floats:
    """Return rows by least laxity, below the peak that is reached anyhow where that suffices.

    A demand charge is for the month's highest quarter hour: one plan that does not know of it could
    cost more than all that were good.
    """
    power = _by_rule(grid, Strategy.LEAST_LAXITY)
    if grid.demand_weight <= 0:
        return power
    limit_kw = tuple(min(most, grid.first_peak_kw) for most in grid.case.limit_kw)
    careful = with_dwell(grid_of(replace(grid.case, limit_kw=limit_kw)))
    below = _by_rule(careful, Strategy.LEAST_LAXITY)
    misses = missed_kwh(grid, below).sum() > missed_kwh(grid, power).sum() + ENERGY_KWH
    return power if misses or faults(grid, below) else below


def _by_rule(grid: Grid, strategy: Strategy) -> Floats:
    """Return a strategy's rows, or nothing at all for anyone if even the rule broke a law."""
    power = by_rule(grid, strategy)
    most = np.maximum(grid.careful_room(), grid.taken(power))
    power = made_whole(grid, power, limit=np.minimum(most, grid.room), peak_kw=np.inf)
    return np.zeros(grid.shape) if faults(grid, power) else power
