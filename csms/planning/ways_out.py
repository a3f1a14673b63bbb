"""What a need that cannot be met fails by, and what would help: the cheapest way first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

import numpy as np
from numpy.typing import NDArray

from csms.planning.grid import Flags, Floats, Grid
from csms.planning.room import Room

MOST_CARS = 20
"""For so many cars of a plan ways are worked out, the largest shortfalls first."""
LATER = timedelta(hours=12)
STEP = timedelta(minutes=5)
NOBODY = -1
_LATER_S, _STEP_S = LATER.total_seconds(), STEP.total_seconds()

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Helps:
    """What would help `cars` (C,) that miss something.

    `later_s` (C,) is how much longer each would have to stay, `more_kw` (C,) how much more power it
    would need at a time, NaN where that would not do.
    """

    cars: Numbers
    later_s: Floats
    more_kw: Floats

    @classmethod
    def of(cls, grid: Grid, power: Floats, cars: Numbers, missing_kwh: Floats) -> "Helps":
        """Look at `cars` under rows `power` (N, K), `missing_kwh` (C,) being what they lack."""
        return cls(
            cars=cars,
            later_s=_later_s(grid, power, cars, missing_kwh),
            more_kw=_more_kw(grid, power, cars, missing_kwh),
        )


def ways_out(
    grid: Grid, helps: Helps, at: int, *, missing_kwh: float, holder: int
) -> tuple[str, ...]:
    """Return what would let car `at` of `helps` have `missing_kwh` more.

    Row `holder` of the limits keeps it from that, NOBODY if none does.
    """
    i = int(helps.cars[at])
    session = grid.case.sessions[i]
    less = f"need {_tenths(missing_kwh):.1f} kWh less"
    if grid.is_fixed[i] or session.max_kw <= 0 or session.max_kw < session.min_kw:
        return (less,)
    found = []
    later_s, more_kw = float(helps.later_s[at]), float(helps.more_kw[at])
    if later_s <= _LATER_S:
        minutes, is_late = _minutes(int(later_s)), session.departs_at <= grid.case.now_at
        found.append(f"stay another {minutes}" if is_late else f"leave {minutes} later")
    if holder != NOBODY and more_kw > 0:
        number = int(grid.rows[holder])
        unit = "kW" if grid.limits.name[number] == "kW" else "A"
        more = _up(more_kw * float(grid.use[holder, i]))
        found.append(f"{more} {unit} more on {grid.limits.label(number)}")
    return (*found, less)


def _up(value: float) -> str:
    return f"{_tenths(value):g}"


def _tenths(value: float) -> float:
    """Return whole tenths that are enough: of a little less, some would still be missing."""
    return ceil(value * 10 - 1e-6) / 10


def _minutes(later_s: int) -> str:
    minutes = later_s // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.3g} h"


def binding_rows(grid: Grid, power: Floats, held: Flags, value: Floats, cars: Numbers) -> Numbers:
    """Return which row of the limits holds each of `cars` back most, (C,), NOBODY if none does.

    `held` (R, K) says where each limit held cars back, `value` (R, K) what it is worth there.
    """
    could = (grid.inside_h[cars] > 0) & (grid.cap_kw[cars] - power[cars] > 1e-6)
    slots, kinds = could.astype(np.float64), grid.kind[cars]
    found = np.full(len(cars), NOBODY)
    for kind in set(kinds.tolist()):
        at = np.flatnonzero(kinds == kind)
        use = grid.use[:, grid.kind_first[kind], None]
        # An ampere of one limit and a kW of another compare by what they are worth to a car.
        worth = np.where((use > 0) & held, (value * use + 1e-6) * grid.hours, 0.0)
        sums = slots[at] @ worth.T
        found[at] = np.where(sums.max(axis=1) > 0, np.argmax(sums, axis=1), NOBODY)
    return found


def _later_s(grid: Grid, power: Floats, cars: Numbers, missing_kwh: Floats) -> Floats:
    """Return how much longer each of `cars` would have to stay, (C,), NaN if too long.

    It has then what its row gives it already and what is free; who should have left stays from now.
    """
    case = grid.case
    edges_s = np.array(list(map(datetime.timestamp, case.edges_at)))
    sessions = [case.sessions[i] for i in cars.tolist()]
    departs_s = np.array([max(s.departs_at, case.now_at).timestamp() for s in sessions])[:, None]
    most_kw = np.array([s.max_kw for s in sessions])[:, None]
    room = Room(grid, power, limit=grid.room, peak_kw=np.inf)
    starts_s = np.maximum(edges_s[:-1], departs_s)
    hours = (edges_s[1:] - starts_s) / 3600.0
    # It stands at the EVSE until it leaves: its own row is not taken from it.
    own = np.maximum(power[cars], grid.guard_kw[cars, None])
    kw = np.minimum(own + room.spare_all(cars), most_kw)
    counts = (kw >= np.maximum(grid.least_kw[cars, None], 1e-6)) & (hours > 0)
    counts &= starts_s - departs_s <= _LATER_S
    kwh = np.where(counts, kw * hours, 0.0)
    total = np.cumsum(kwh, axis=1)
    is_enough = counts & (total >= missing_kwh[:, None] - 1e-9)
    at, every = np.argmax(is_enough, axis=1), np.arange(len(cars))
    left = missing_kwh - (total[every, at] - kwh[every, at])
    until_s = starts_s[every, at] + left / np.maximum(kw[every, at], 1e-6) * 3600.0
    later_s = np.ceil((until_s - departs_s[:, 0]) / _STEP_S - 1e-6) * _STEP_S
    return np.where(is_enough[every, at] & (later_s <= _LATER_S), later_s, np.nan)


def _more_kw(grid: Grid, power: Floats, cars: Numbers, missing_kwh: Floats) -> Floats:
    """Return how much more power at a time each of `cars` would need within its stay, (C,).

    In slots where it charges less than it could it would take so much more, or all it can take;
    NaN where that is too little.
    """
    above = np.maximum(grid.cap_kw[cars] - power[cars], 0.0)
    order, every = np.argsort(above, axis=1, kind="stable"), np.arange(len(cars))
    above = np.take_along_axis(above, order, axis=1)
    hours = np.take_along_axis(grid.inside_h[cars], order, axis=1) * (above > 0)
    kwh = above * hours
    before = np.cumsum(kwh, axis=1) - kwh
    # From here on all slots have as much headroom or more.
    rest_h = np.cumsum(hours[:, ::-1], axis=1)[:, ::-1]
    is_enough = (hours > 0) & (before + above * rest_h >= missing_kwh[:, None] - 1e-9)
    at = np.argmax(is_enough, axis=1)
    needs = (missing_kwh - before[every, at]) / np.maximum(rest_h[every, at], 1e-12)
    is_all = kwh.sum(axis=1) >= missing_kwh - 1e-6
    most = np.where(is_all, above[:, -1], np.nan)
    return np.where(is_enough[every, at], needs, most)
