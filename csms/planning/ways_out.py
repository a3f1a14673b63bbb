"""What a need that cannot be met fails by, and what would help: the cheapest way first."""

from bisect import bisect_right
from datetime import timedelta
from math import ceil

import numpy as np

from csms.planning.grid import Flags, Floats, Grid
from csms.planning.room import Room

MOST_CARS = 20
"""For so many cars of a plan ways are worked out, the largest shortfalls first."""
LATER = timedelta(hours=12)
STEP = timedelta(minutes=5)


class Scarcity:
    """What held cars back under rows `power` (N, K), and what those leave free.

    `held` (R, K) says where each limit does, `value` (R, K) what it is worth there. It is worked
    out once for all cars of a kind.
    """

    def __init__(self, grid: Grid, power: Floats, held: Flags, value: Floats) -> None:
        self.grid, self.power, self._held, self._value = grid, power, held, value
        self._room = Room(grid, power, limit=grid.room, peak_kw=np.inf)
        self._worth: dict[int, Floats] = {}
        self._spare: dict[int, Floats] = {}

    def spare(self, i: int) -> Floats:
        """Return what the limits leave to car `i`, (K,)."""
        kind = int(self.grid.kind[i])
        if kind not in self._spare:
            self._spare[kind] = self._room.spare(i)
        return self._spare[kind]

    def binding_row(self, i: int) -> int | None:
        """Return which row of the limits holds car `i` back most, None if none does."""
        grid, kind = self.grid, int(self.grid.kind[i])
        if kind not in self._worth:
            use = grid.use[:, i, None]
            # An ampere of one limit and a kW of another compare by what they are worth to a car.
            worth = (self._value * use + 1e-6) * grid.hours
            self._worth[kind] = np.where((use > 0) & self._held, worth, 0.0)
        could = (grid.inside_h[i] > 0) & (grid.cap_kw[i] - self.power[i] > 1e-6)
        worth = self._worth[kind] @ could
        return int(np.argmax(worth)) if worth.any() else None


def ways_out(scarcity: Scarcity, i: int, *, missing_kwh: float, row: int | None) -> tuple[str, ...]:
    """Return what would let car `i` have `missing_kwh` more; `row` is the limit that binds."""
    grid, power = scarcity.grid, scarcity.power
    session = grid.case.sessions[i]
    if grid.is_fixed[i] or session.max_kw <= 0 or session.max_kw < session.min_kw:
        return (f"need {missing_kwh:.1f} kWh less",)
    found = []
    later = _later(grid, i, missing_kwh, scarcity.spare(i))
    if later is not None:
        found.append(f"leave {_minutes(later)} later")
    if row is not None:
        more_kw = _more(grid, i, power[i], missing_kwh)
        if more_kw is not None:
            at = int(grid.rows[row])
            unit = "kW" if grid.limits.name[at] == "kW" else "A"
            found.append(
                f"{_up(more_kw * float(grid.use[row, i]))} {unit} more on {grid.limits.label(at)}"
            )
    return (*found, f"need {missing_kwh:.1f} kWh less")


def _up(value: float) -> str:
    return f"{ceil(value * 10 - 1e-9) / 10:g}"


def _minutes(later: timedelta) -> str:
    minutes = int(later / timedelta(minutes=1))
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.3g} h"


def _later(grid: Grid, i: int, missing_kwh: float, spare: Floats) -> timedelta | None:
    """Return how much longer the car would have to stay for what is free then, None if too long.

    `spare` (K,) is what the limits leave to it.
    """
    session, case = grid.case.sessions[i], grid.case
    departs = max(session.departs_at, case.now_at)
    guard, least = float(grid.guard_kw[i]), float(grid.least_kw[i])
    free: list[float] = np.minimum(spare + guard, session.max_kw).tolist()
    edges, left, enough = case.edges_at, missing_kwh, max(least, 1e-6)
    for k in range(max(bisect_right(edges, departs) - 1, 0), case.slots):
        start = max(edges[k], departs)
        if start - departs > LATER:
            return None
        if free[k] < enough:
            continue
        hours = (edges[k + 1] - start) / timedelta(hours=1)
        if free[k] * hours >= left - 1e-9:
            until = start + timedelta(hours=left / free[k])
            later = ceil((until - departs) / STEP - 1e-6) * STEP
            return later if later <= LATER else None
        left -= free[k] * hours
    return None


def _more(grid: Grid, i: int, row: Floats, missing_kwh: float) -> float | None:
    """Return how much more power at a time the car would need within its stay, None if that fails.

    In slots where it charges less than it could it would take so much more, or all it can take.
    """
    hours = grid.inside_h[i]
    headroom = np.where(hours > 0, np.maximum(grid.cap_kw[i] - row, 0.0), 0.0)
    if float((headroom * hours).sum()) < missing_kwh - 1e-6:
        return None
    order = np.argsort(headroom)
    below, rest_h = 0.0, float(hours[headroom > 0].sum())
    for k in order.tolist():
        if headroom[k] <= 0:
            continue
        if below + float(headroom[k]) * rest_h >= missing_kwh - 1e-9:
            return (missing_kwh - below) / rest_h
        below += float(headroom[k] * hours[k])
        rest_h -= float(hours[k])
    return float(headroom.max())
