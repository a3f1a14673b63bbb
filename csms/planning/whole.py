"""Rows on the levels a station can be told, without gaps for cars that must not pause.

Every value goes down to a level first; what that loses is given back one level at a time, where it
costs least and the limits leave room. A need may be overshot by less than one level for one slot.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from csms.planning.grid import Floats, Grid
from csms.planning.room import ENERGY_KWH, EPSILON_KW, Room
from csms.planning.rules import missed_kwh

MOST_RISES = 40
"""How many levels a slot can rise while what was lost is given back."""


def made_whole(
    grid: Grid, power: Floats, *, limit: Floats, peak_kw: float, is_on_levels: bool = False
) -> Floats:
    """Return `power` (N, K) as stations can follow it, within `limit` (R, K) and the peak.

    With `is_on_levels` the rows are on levels already, and leave no room for more.
    """
    sessions = grid.case.sessions
    never = [i for i, s in enumerate(sessions) if s.never_pause and not grid.is_fixed[i]]
    few = [i for i, s in enumerate(sessions) if s.max_periods > 0 and not grid.is_fixed[i]]
    is_coarse = grid.levels.is_coarse & ~grid.is_fixed & (not is_on_levels)
    if not never and not few and not is_coarse.any():
        return power
    power = power.copy()
    room = Room(grid, power, limit=limit, peak_kw=peak_kw)
    for i in never:
        row = _without_gaps(grid, room, i, power[i])
        # What was spread over the gaps need not have left a level at the end.
        _replace(room, power, i, grid.levels.floor(i, row) if is_on_levels else row)
    if is_coarse.any():
        _put_on_levels(grid, power, room, np.flatnonzero(is_coarse))
    if missed_kwh(grid, power).any() and is_coarse.any():
        # A need comes before headroom and peak.
        room = Room(grid, power, limit=grid.room, peak_kw=np.inf)
        cars = np.flatnonzero((missed_kwh(grid, power) > 0) & grid.levels.is_coarse)
        order = np.lexsort((grid.laxity_h[cars], -grid.rank[cars]))
        serve_whole(grid, power, room, cars[order])
    for i in few:
        _replace(room, power, i, _in_few_periods(grid, room, i, power[i]))
    return power


def _replace(room: Room, power: Floats, car: int, row: Floats) -> None:
    room.book(car, power[car], row)
    power[car] = row


def _put_on_levels(grid: Grid, power: Floats, room: Room, cars: NDArray[np.int64]) -> None:
    """Lower rows to levels, in place, and give back what that lost, urgent cars first."""
    before, rows = power[cars], grid.levels.floor_each(power.T).T[cars]
    rows[rows < grid.least_kw[cars, None] - EPSILON_KW] = 0.0
    room.book_all(cars, before, rows)
    power[cars] = rows
    lost = np.zeros(len(power))
    lost[cars] = ((before - rows) * grid.inside_h[cars]).sum(axis=1)
    short = np.minimum(missed_kwh(grid, power), lost)
    for i in cars[np.lexsort((grid.laxity_h[cars], -grid.rank[cars]))].tolist():
        if lost[i] <= ENERGY_KWH:
            continue
        missed = float(short[i])
        is_on = power[i] > 0
        row, left = _risen(grid, room, i, power[i], missed, is_on, is_least=True)
        given = missed - left
        row, _ = _risen(grid, room, i, row, lost[i] - given, is_on, is_least=False, was=power[i])
        _replace(room, power, i, row)


def serve_whole(grid: Grid, power: Floats, room: Room, cars: NDArray[np.int64]) -> None:
    """Give `cars` that still miss a need more levels, in any slot of their stay, in place."""
    missed = missed_kwh(grid, power)
    for i in cars.tolist():
        is_there = grid.inside_h[i] > 0
        row, left = _risen(
            grid, room, i, power[i], float(missed[i]), is_there & (power[i] > 0), is_least=True
        )
        if left > ENERGY_KWH:
            row, _ = _risen(grid, room, i, row, left, is_there, is_least=True, was=power[i])
        _replace(room, power, i, row)


def _risen(
    grid: Grid,
    room: Room,
    car: int,
    row: Floats,
    energy_kwh: float,
    slots: NDArray[np.bool_],
    *,
    is_least: bool,
    was: Floats | None = None,
) -> tuple[Floats, float]:
    """Return `row` raised by levels in the cheapest of `slots`, and what is left of the energy.

    With `is_least` the last level may give more than is asked for, else it is not taken. `was` is
    the row that `room` has booked, if not `row`.
    """
    if energy_kwh <= ENERGY_KWH:
        return row, max(energy_kwh, 0.0)
    hours, least = grid.inside_h[car], float(grid.least_kw[car])
    upper = room.upper(car, row if was is None else was)
    order = np.argsort(grid.cost[car], kind="stable")
    row, left = row.copy(), energy_kwh
    for _ in range(MOST_RISES):
        if left <= ENERGY_KWH:
            break
        above = np.where(row > 0, grid.levels.above(car, row), least)
        more = (above - row) * hours
        can = slots & (more > ENERGY_KWH) & (above <= upper + EPSILON_KW)
        at = order[can[order]]
        if is_least:
            taken = at[np.cumsum(more[at]) - more[at] < left - ENERGY_KWH]
        else:
            taken = at[np.cumsum(more[at]) <= left + ENERGY_KWH]
        if not len(taken):
            break
        row[taken] = above[taken]
        left -= float(more[taken].sum())
    return row, max(left, 0.0)


def _without_gaps(grid: Grid, room: Room, car: int, row: Floats) -> Floats:
    """Return `row` with its pauses at minimum power, and as much less at its end."""
    on = np.flatnonzero(row > 0)
    if not len(on):
        return row
    inside = np.arange(len(row))
    is_gap = (row == 0) & (inside > on[0]) & (inside < on[-1]) & (grid.inside_h[car] > 0)
    least = float(grid.least_kw[car])
    is_gap &= room.upper(car, row) >= least - EPSILON_KW
    if not is_gap.any() or least <= 0:
        return row
    row, hours = row.copy(), grid.inside_h[car]
    row[is_gap] = least
    surplus = least * float(hours[is_gap].sum())
    for k in on[::-1].tolist():
        keep = least if k != int(np.flatnonzero(row)[-1]) else 0.0
        less = min(surplus, (float(row[k]) - keep) * float(hours[k]))
        level = float(row[k]) - less / float(hours[k])
        if 0 < level < least:
            less, level = (float(row[k]) - least) * float(hours[k]), least
        row[k] = level if level > EPSILON_KW else 0.0
        surplus -= less
        if surplus <= ENERGY_KWH:
            break
    return row


def _in_few_periods(grid: Grid, room: Room, car: int, row: Floats) -> Floats:
    """Return `row` in no more runs than the station takes, where that costs no need anything."""
    most = grid.case.sessions[car].max_periods
    # Where a station takes more than two, one period is the tail at the guard (profile.py).
    most -= int(most >= 3)
    upper, hours = room.upper(car, row), grid.inside_h[car]
    due = float(grid.due_kwh[car])
    while True:
        starts = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
        if len(starts) - 1 <= most:
            return row
        best: tuple[float, Floats] | None = None
        for (a, b), (_, c) in zip(pairwise(starts), pairwise(starts[1:]), strict=False):
            energy = float((row[a:c] * hours[a:c]).sum())
            length = float(hours[a:c].sum())
            level = energy / length if length > 0 else 0.0
            if row[a] == 0 or row[b] == 0 or level > float(upper[a:c].min()):
                level = float(min(row[a], row[b]))
            level = float(grid.levels.floor(car, np.array([level]))[0])
            joined = row.copy()
            joined[a:c] = np.where(hours[a:c] > 0, level, 0.0) if length > 0 else level
            change = float((np.abs(joined - row) * hours).sum())
            if float((joined * hours).sum()) >= min(due, float((row * hours).sum())) - ENERGY_KWH:
                best = min(best or (np.inf, row), (change, joined), key=lambda x: x[0])
        if best is None:
            return row
        row = best[1]
