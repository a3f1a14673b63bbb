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
LEAST_LAXITY_H = 0.5
"""With less slack than two quarter hours a car does not wait for its dwell to be over."""


def with_dwell(grid: Grid) -> Grid:
    """Return `grid` with floors for cars that must go on and without slots for those that wait."""
    sessions = grid.case.sessions
    if not any(_is_bound(s) for s in sessions):
        return grid
    cap, notes = grid.cap_kw.copy(), list(grid.notes)
    for i, session in enumerate(sessions):
        if session.since_off_at is not None and grid.laxity_h[i] >= LEAST_LAXITY_H:
            cap[i, _before(grid, session.since_off_at + MIN_DWELL)] = 0.0
    return replace(grid, cap_kw=cap, floor_kw=_floors(grid, cap, notes), notes=tuple(notes))


def _is_bound(session: PlanningSession) -> bool:
    return bool(
        session.never_pause
        or session.guaranteed_slots > 0
        or session.since_on_at is not None
        or session.since_off_at is not None
    )


def _before(grid: Grid, until: datetime) -> Flags:
    """Return which slots begin well before `until`, (K,)."""
    starts = grid.case.edges_at[:-1]
    return np.array([max(at, grid.case.now_at) < until - SETTLING for at in starts], dtype=np.bool_)


def _floors(grid: Grid, cap: Floats, notes: list[str]) -> Floats:
    """Return what cars must have, (N, K): never more than they want or than fits the limits."""
    floor = np.zeros(grid.shape)
    left = grid.room.copy()
    for i in np.lexsort((grid.laxity_h, -grid.rank)).tolist():
        session, least = grid.case.sessions[i], float(grid.least_kw[i])
        must, may_miss = _must(grid, i)
        must &= (cap[i] >= least) & (grid.inside_h[i] > 0)
        if grid.is_fixed[i] or least <= 0 or not must.any():
            continue
        wants = grid.due_kwh[i] + grid.later_kwh[i] + (grid.extra_kwh[i] if may_miss else 0.0)
        used = np.cumsum(np.where(must, least * grid.inside_h[i], 0.0))
        must &= used <= wants + 1e-9
        takes = grid.use[:, i, None] * max(least - float(grid.guard_kw[i]), 0.0)
        fits = must & (takes <= left + 1e-9).all(axis=0)
        floor[i, fits] = least
        left -= np.where(fits, takes, 0.0)
        if (must & ~fits).any():
            notes.append(
                f"{session.session_id} cannot keep its minimum in {int((must & ~fits).sum())} "
                "slots: the limits leave too little"
            )
    return floor


def _must(grid: Grid, i: int) -> tuple[Flags, bool]:
    """Return in which slots car `i` must charge, and whether that goes for mere wishes as well."""
    session = grid.case.sessions[i]
    must = np.zeros(grid.shape[1], dtype=np.bool_)
    if session.guaranteed_slots > 0:
        present = np.flatnonzero(grid.inside_h[i] > 0)
        must[present[: session.guaranteed_slots]] = True
    has_begun = bool(session.current_kw) or session.since_on_at is not None
    if session.never_pause and has_begun:
        must[:] = True
    elif session.since_on_at is not None and not session.guaranteed_slots:
        must = _before(grid, session.since_on_at + MIN_DWELL)
    return must, session.guaranteed_slots > 0
