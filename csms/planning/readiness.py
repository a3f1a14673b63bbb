"""How likely each need is met: the share of scenarios in which the plan, and those after it, do.

A scenario draws when each driver really leaves (from the site's own past errors between what was
said and what was done), how much the cars yet to arrive take (from the forecast's quantiles, one
draw for the day: sites have good and bad days), and how far the building's load is off. In each
the rows of the plan are lived through: where room is short all give way alike, and what was put
off is made up as soon as there is room again, as the plans to come would do. Pure and seeded.

Shares of scenarios are surer of themselves than what then happens; CALIBRATION draws them in, but
for a need that its car could meet in none, had it all limits for itself: that has 0. CALIBRATION
was fitted on replayed days and checked on others (benchmarks/readiness.py, docs/planning.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from csms.core.plan import Plan, PlanningCase
from csms.planning.grid import Grid, grid_of

Floats = NDArray[np.float64]

SCENARIOS = 64
QUANTILES = (0.1, 0.5, 0.9)
MET_WITHIN_KWH = 0.1
"""A need that lacks no more than this is met: half a kilometre."""
LEAST_HISTORY = 20
"""Fewer past departures than this say nothing about the next one."""
USUAL_ERRORS_MIN = (
    *(-240.0, -150.0, -90.0, -50.0, -25.0),
    *(-8.0, 0.0, 8.0),
    *(20.0, 30.0, 45.0, 60.0, 75.0, 90.0, 120.0, 150.0, 180.0, 240.0, 300.0, 360.0),
)
"""Minutes from the stated to the real departure, equally likely each, where a site has no history.

A quarter leaves more than 15 minutes early and six in ten later, as drivers did at two workplaces
whose statements were published (ACN-Data, 2019)."""
CALIBRATION = (0.13, 0.80)
"""Least readiness of a car that still lacks something, and how much its share squared adds."""
_LEAST_STAY_H = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """What is not known, as of a case.

    `errors_min` are past differences between real and stated departures, minutes (negative: early);
    none says that all leave as stated. `arrivals_kw` are P10, P50 and P90 of what cars yet to
    arrive draw in each slot, (3, slots) or empty; `base_error_kw` are past differences between the
    building's real and expected load.
    """

    errors_min: tuple[float, ...] = USUAL_ERRORS_MIN
    arrivals_kw: tuple[tuple[float, ...], ...] = ()
    base_error_kw: tuple[float, ...] = ()
    scenarios: int = SCENARIOS
    seed: int = 1


def met_shares(
    case: PlanningCase,
    plan: Plan,
    *,
    departs_at: Sequence[datetime],
    uncertain: Uncertainty,
    calibration: tuple[float, float] = CALIBRATION,
) -> tuple[float, ...]:
    """Return for each session of `case` in which share of the scenarios its need is met, 0..1.

    `departs_at` are the departures as stated, in the order of the sessions: those of the case are
    when cars are to be ready, which is earlier. A need that is met already has 1.0.
    """
    count = len(case.sessions)
    if not count:
        return ()
    rng = np.random.default_rng(uncertain.seed)
    grid = grid_of(case)
    hours, due, fixed = grid.hours, grid.required_kwh, grid.is_fixed
    rows = np.array([s.power_kw for s in plan.sessions], dtype=np.float64)
    stays_h = _stays_h(case.now_at, departs_at, uncertain, rng)
    other_kw = _arrivals(case, uncertain, rng)
    off_kw = np.zeros(uncertain.scenarios)
    if uncertain.base_error_kw:
        off_kw = rng.choice(np.array(uncertain.base_error_kw), uncertain.scenarios)
    room = _Room(grid, off_kw)
    most = np.array([s.max_kw if s.max_kw >= s.min_kw else 0.0 for s in case.sessions])
    alone_kw, alone_kwh = np.minimum(most[:, None], room.alone_kw()), np.zeros(count)
    missing = np.tile(due, (uncertain.scenarios, 1))
    # What the plan itself does not give is taken wherever a scenario has room for it.
    behind = np.tile(np.maximum(due - rows @ hours, 0.0), (uncertain.scenarios, 1))
    begins_h = (case.edges_at[0] - case.now_at).total_seconds() / 3600.0
    last_h = float(stays_h.max())
    for k, length in enumerate(hours.tolist()):
        if begins_h >= last_h:
            break
        here_h = np.clip(stays_h - begins_h, 0.0, length)
        planned = rows[:, k] * here_h
        most_kwh = np.minimum(most * here_h, missing)
        wanted = np.minimum(planned + behind, most_kwh)
        fits = room.share(k, wanted / length, other_kw[:, k])
        given = np.where(fixed, np.minimum(planned, most_kwh), wanted * fits)
        alone_kwh += alone_kw[:, k] * here_h.max(axis=0)
        behind = np.maximum(behind + planned - given, 0.0)
        missing -= given
        begins_h += length
    shares = (missing <= MET_WITHIN_KWH).mean(axis=0)
    calibrated = calibration[0] + calibration[1] * shares**2
    is_hopeless = (alone_kwh < due - MET_WITHIN_KWH) & ~fixed
    calibrated = np.where(is_hopeless, 0.0, calibrated)
    return tuple(np.where(due <= MET_WITHIN_KWH, 1.0, calibrated).tolist())


class _Room:
    """What the limits of a site leave to its cars.

    `off_kw` (scenarios,) is by how much the building draws more than expected in each scenario.
    """

    def __init__(self, grid: Grid, off_kw: Floats) -> None:
        limits = grid.limits
        rows = np.flatnonzero(limits.use.any(axis=1))
        self._use, self._left = limits.use[rows], (limits.limit - limits.load)[rows]
        self._cars = [np.flatnonzero(use) for use in self._use]
        self._off_kw, self._is_blocked = off_kw, grid.is_blocked

    def share(self, k: int, wanted_kw: Floats, others_kw: Floats) -> Floats:
        """Return which share of `wanted_kw` (scenarios, N) fits in slot `k`, (scenarios, N).

        All who take from a limit give way alike. `others_kw` (scenarios,) are known of for the site
        alone, which is the first limit.
        """
        found = np.where(self._is_blocked[:, k], 0.0, np.ones(wanted_kw.shape))
        asked = wanted_kw @ self._use.T
        for r, cars in enumerate(self._cars):
            left, all_asked = self._left[r, k], asked[:, r]
            if not r:
                left, all_asked = left - self._off_kw, all_asked + others_kw
            fits = np.minimum(np.maximum(left, 0.0) / np.maximum(all_asked, 1e-9), 1.0)
            found[:, cars] = np.minimum(found[:, cars], fits[:, None])
        return found

    def alone_kw(self) -> Floats:
        """Return the most each car could have, were it alone and the building at its least."""
        found = np.where(self._is_blocked, 0.0, np.inf)
        for r, cars in enumerate(self._cars):
            left = self._left[r] - (0.0 if r else float(self._off_kw.min()))
            most = np.maximum(left, 0.0) / self._use[r, cars, None]
            found[cars] = np.minimum(found[cars], most)
        return found


def departure_errors(
    stays: Sequence[tuple[datetime, datetime]], *, most: int = 500
) -> tuple[float, ...]:
    """Return the errors of (stated, real) departures, minutes; the usual ones if few."""
    if len(stays) < LEAST_HISTORY:
        return USUAL_ERRORS_MIN
    return tuple((real - stated).total_seconds() / 60.0 for stated, real in stays[-most:])


def _stays_h(
    now: datetime,
    departs_at: Sequence[datetime],
    uncertain: Uncertainty,
    rng: np.random.Generator,
) -> Floats:
    """Return how long from now each car stays in each scenario, (scenarios, sessions) hours.

    A car that is still there has not left before now: only errors that agree with that count.
    """
    stated_h = np.array([(at - now).total_seconds() / 3600.0 for at in departs_at])
    shape = (uncertain.scenarios, len(stated_h))
    if not uncertain.errors_min:
        return np.broadcast_to(np.maximum(stated_h, _LEAST_STAY_H), shape)
    errors_h = np.sort(np.array(uncertain.errors_min)) / 60.0
    first = np.searchsorted(errors_h, _LEAST_STAY_H - stated_h)
    draws = (rng.random(shape) * (len(errors_h) - first)).astype(np.int64)
    chosen = np.minimum(first + draws, len(errors_h) - 1)
    return np.asarray(np.maximum(stated_h + errors_h[chosen], _LEAST_STAY_H), dtype=np.float64)


def _arrivals(case: PlanningCase, uncertain: Uncertainty, rng: np.random.Generator) -> Floats:
    """Return what cars yet to arrive ask for, (scenarios, slots) kW."""
    draws = rng.random(uncertain.scenarios)
    if not uncertain.arrivals_kw:
        return np.zeros((uncertain.scenarios, case.slots))
    table = np.array(uncertain.arrivals_kw, dtype=np.float64)
    # Beyond the outer quantiles it goes on as between them and the median.
    marks = np.array([0.0, *QUANTILES, 1.0])
    low = np.maximum(table[0] - (table[1] - table[0]) * 0.25, 0.0)
    high = table[2] + (table[2] - table[1]) * 0.25
    full = np.vstack([low, table, high])
    place = np.clip(np.searchsorted(marks, draws, side="right") - 1, 0, 3)
    part = ((draws - marks[place]) / (marks[place + 1] - marks[place]))[:, None]
    return np.asarray(full[place] * (1.0 - part) + full[place + 1] * part, dtype=np.float64)
