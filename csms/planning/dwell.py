"""What a car must have or must not have yet, whatever it costs: guarantees, and no short pauses.

A contactor that opens and closes every few minutes wears out, and some cars do not wake up from a
pause: what charges goes on for MIN_DWELL, what was paused stays so for as long, and a car marked
`never_pause` keeps its minimum from when it began. All of it yields to the limits, and the wait to
a departure that is near.
"""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from csms.core.plan import PlanningSession
from csms.planning.grid import Flags, Floats, Grid

MIN_DWELL = timedelta(minutes=15)
SETTLING = timedelta(minutes=1)
"""A command takes effect some seconds late: a slot that begins so long before the end is free."""
_BOUND_S = (MIN_DWELL - SETTLING).total_seconds()
LEAST_LAXITY_H = 0.5
"""With less slack than two quarter hours a car does not wait for its dwell to be over."""


def with_dwell(grid: Grid) -> Grid:
    """Return `grid` with floors for cars that must go on and without slots for those that wait."""
    sessions = grid.case.sessions
    if not any(_is_bound(s) for s in sessions):
        return grid
    cap, notes = grid.cap_kw.copy(), list(grid.notes)
    starts_s = _starts_s(grid)
    for i, session in enumerate(sessions):
        if session.since_off_at is not None and grid.laxity_h[i] >= LEAST_LAXITY_H:
            cap[i, starts_s < _dwells_until_s(session.since_off_at)] = 0.0
    floor = _floors(grid, cap, starts_s, notes)
    if not floor.any() and len(notes) == len(grid.notes) and (cap == grid.cap_kw).all():
        return grid
    return replace(grid, cap_kw=cap, floor_kw=floor, notes=tuple(notes))


def _is_bound(session: PlanningSession) -> bool:
    return bool(
        session.never_pause
        or session.guaranteed_slots > 0
        or session.since_on_at is not None
        or session.since_off_at is not None
    )


def _starts_s(grid: Grid) -> Floats:
    """Return when each slot begins, or now if that is later, seconds of the epoch (K,)."""
    starts = np.array([at.timestamp() for at in grid.case.edges_at[:-1]])
    return np.asarray(np.maximum(starts, grid.case.now_at.timestamp()), dtype=np.float64)


def _dwells_until_s(since: datetime) -> float:
    """Return before when a slot has to begin to be bound by what began at `since`."""
    return since.timestamp() + _BOUND_S


def _floors(grid: Grid, cap: Floats, starts_s: Floats, notes: list[str]) -> Floats:
    """Return what cars must have, (N, K): never more than they want or than fits the limits."""
    floor = np.zeros(grid.shape)
    must = _must(grid, starts_s)
    must &= (cap >= grid.least_kw[:, None]) & (grid.inside_h > 0)
    must &= (~grid.is_fixed & (grid.least_kw > 0))[:, None]
    cars = np.flatnonzero(must.any(axis=1))
    if not len(cars):
        return floor
    wants = grid.due_kwh + grid.later_kwh
    # What is guaranteed goes for mere wishes as well.
    is_guaranteed = np.array([s.guaranteed_slots > 0 for s in grid.case.sessions], dtype=np.bool_)
    wants = wants + grid.extra_kwh * is_guaranteed
    used = np.cumsum(must * grid.least_kw[:, None] * grid.inside_h, axis=1)
    asked = must & (used <= wants[:, None] + 1e-9)
    takes_kw = np.maximum(grid.least_kw - grid.guard_kw, 0.0)
    left = grid.room.copy()
    if (grid.use @ (asked * takes_kw[:, None]) <= left).all():
        return asked * grid.least_kw[:, None]
    for i in cars[np.lexsort((grid.laxity_h[cars], -grid.rank[cars]))].tolist():
        takes = grid.use[:, i, None] * takes_kw[i]
        fits = asked[i] & (takes <= left + 1e-9).all(axis=0)
        floor[i, fits] = grid.least_kw[i]
        left -= np.where(fits, takes, 0.0)
        lacks = int(np.count_nonzero(asked[i] & ~fits))
        if lacks:
            notes.append(
                f"{grid.case.sessions[i].session_id} cannot keep its minimum in {lacks} "
                "slots: the limits leave too little"
            )
    return floor


def _must(grid: Grid, starts_s: Floats) -> Flags:
    """Return in which slots each car must charge as far as it can, (N, K)."""
    sessions = grid.case.sessions
    until_s = [
        -np.inf
        if s.since_on_at is None or s.guaranteed_slots > 0
        else _dwells_until_s(s.since_on_at)
        for s in sessions
    ]
    must = starts_s < np.array(until_s)[:, None]
    for i, session in enumerate(sessions):
        if session.never_pause and (bool(session.current_kw) or session.since_on_at is not None):
            must[i] = True
        elif session.guaranteed_slots > 0:
            must[i, np.flatnonzero(grid.inside_h[i] > 0)[: session.guaranteed_slots]] = True
    return np.asarray(must, dtype=np.bool_)
