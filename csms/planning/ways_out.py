"""What a need that cannot be met fails by, and what would help: the cheapest way first."""

from bisect import bisect_right
from datetime import datetime, timedelta
from math import ceil

import numpy as np

from csms.planning.grid import Flags, Floats, Grid
from csms.planning.room import Room

MOST_CARS = 20
"""For so many cars of a plan ways are worked out, the largest shortfalls first."""
LATER = timedelta(hours=12)
STEP = timedelta(minutes=5)
_LATER_S, _STEP_S = LATER.total_seconds(), STEP.total_seconds()


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
        self.edges_s = list(map(datetime.timestamp, grid.case.edges_at))

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
        sums: list[float] = (self._worth[kind] @ could.astype(np.float64)).tolist()
        most = max(sums)
        return sums.index(most) if most else None


def ways_out(scarcity: Scarcity, i: int, *, missing_kwh: float, row: int | None) -> tuple[str, ...]:
    """Return what would let car `i` have `missing_kwh` more; `row` is the limit that binds."""
    grid, power = scarcity.grid, scarcity.power
    session = grid.case.sessions[i]
    if grid.is_fixed[i] or session.max_kw <= 0 or session.max_kw < session.min_kw:
        return (f"need {missing_kwh:.1f} kWh less",)
    found = []
    later_s = _later_s(scarcity, i, missing_kwh)
    if later_s is not None:
        minutes, is_late = _minutes(later_s), session.departs_at <= grid.case.now_at
        found.append(f"stay another {minutes}" if is_late else f"leave {minutes} later")
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


def _minutes(later_s: int) -> str:
    minutes = later_s // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.3g} h"


def _later_s(scarcity: Scarcity, i: int, missing_kwh: float) -> int | None:
    """Return how much longer the car would have to stay, None if too long.

    It has then what its row gives it already and what is free; who should have left stays from now.
    """
    grid, edges_s = scarcity.grid, scarcity.edges_s
    session, case = grid.case.sessions[i], grid.case
    departs_s = max(session.departs_at, case.now_at).timestamp()
    first = max(bisect_right(edges_s, departs_s) - 1, 0)
    # It stands at the EVSE until it leaves: its own row is not taken from it.
    own = np.maximum(scarcity.power[i], grid.guard_kw[i]) + scarcity.spare(i)
    free: list[float] = np.minimum(own[first:], session.max_kw).tolist()
    left, enough = missing_kwh, max(float(grid.least_kw[i]), 1e-6)
    for start_s, end_s, kw in zip(edges_s[first:], edges_s[first + 1 :], free, strict=False):
        start_s = max(start_s, departs_s)
        if start_s - departs_s > _LATER_S:
            return None
        if kw < enough:
            continue
        kwh = kw * (end_s - start_s) / 3600.0
        if kwh >= left - 1e-9:
            until_s = start_s + left / kw * 3600.0
            later_s = ceil((until_s - departs_s) / _STEP_S - 1e-6) * int(_STEP_S)
            return later_s if later_s <= _LATER_S else None
        left -= kwh
    return None


def _more(grid: Grid, i: int, row: Floats, missing_kwh: float) -> float | None:
    """Return how much more power at a time the car would need within its stay, None if that fails.

    In slots where it charges less than it could it would take so much more, or all it can take.
    """
    stay = zip(grid.cap_kw[i].tolist(), row.tolist(), grid.inside_h[i].tolist(), strict=True)
    headroom: list[tuple[float, float]] = sorted(
        (most - kw, hours) for most, kw, hours in stay if most > kw
    )
    below, rest_h = 0.0, sum(hours for _, hours in headroom)
    for kw, hours in headroom:
        if below + kw * rest_h >= missing_kwh - 1e-9:
            return (missing_kwh - below) / rest_h
        below += kw * hours
        rest_h -= hours
    return headroom[-1][0] if headroom and below >= missing_kwh - 1e-6 else None
