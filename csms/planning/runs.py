"""Few pauses: each car's energy of the next hour in one run, and no room idle that is scarce.

A pause costs a message and a stroke of a contactor, and some cars do not wake up from one. What the
solver, or rows kept for steadiness, leave in pieces is joined where that costs next to nothing, and
what fits into the running slot does not wait for hours that are wanted for arrivals. Every step
moves energy of one car into room that is free: no other car's row changes.
"""

from operator import mul

import numpy as np

from csms.planning.grid import Flags, Floats, Grid
from csms.planning.room import ENERGY_KWH, EPSILON_KW, Room

NEAR_SLOTS = 4
"""Pauses that begin later are left: all is planned anew before they come."""
PAUSE_EUR = 0.002
"""What it may cost to do without a pause."""
HEADROOM_KWH = 0.02
LOST_KWH = 0.01
MATERIAL_KW = 0.5
"""Less room than this in the running slot is not worth a new schedule."""


def in_few_runs(grid: Grid, power: Floats) -> Floats:
    """Return rows (N, K) with the same energy whose next hour has fewer pauses; `power` stays."""
    is_running = np.array([bool(s.current_kw) for s in grid.case.sessions], dtype=np.bool_)
    cars = _that_pause(grid, power, is_running)
    if not cars and not grid.reserved_kw.any():
        return power
    rows = _Rows(grid, power)
    for car in cars:
        rows.join(car, is_running=bool(is_running[car]))
    if grid.reserved_kw.any() and rows.room.free[0, 0] >= MATERIAL_KW:
        rows.fill_running()
    return rows.power


def _that_pause(grid: Grid, power: Floats, is_running: Flags) -> list[int]:
    """Return the cars that go on after a pause that begins soon, the urgent ones first."""
    near = power[:, :NEAR_SLOTS] > 0
    before = np.empty(near.shape, dtype=np.bool_)
    before[:, 0], before[:, 1:] = is_running, near[:, :-1]
    has_run = np.logical_or.accumulate(before, axis=1)
    stops = (has_run & ~near & (grid.inside_h[:, :NEAR_SLOTS] > 0)).any(axis=1)
    cars = np.flatnonzero(stops & ~grid.is_fixed)
    if not len(cars):
        return []
    on = power[cars] > 0
    has_run = np.logical_or.accumulate(on, axis=1) | is_running[cars, None]
    has_paused = np.logical_or.accumulate(has_run & ~on, axis=1)
    cars = cars[(on & has_paused).any(axis=1)]
    return [int(i) for i in cars[np.argsort(grid.laxity_h[cars], kind="stable")]]


class _Rows:
    """Rows being changed, and what they leave of every limit and of the peak."""

    def __init__(self, grid: Grid, power: Floats) -> None:
        self.grid, self.power, self._given = grid, power, power
        peak_kw = np.inf
        if grid.demand_weight > 0:
            peak_kw = max(grid.first_peak_kw, float((power.sum(axis=0) + grid.base_kw).max()))
        self.room = Room(grid, power, limit=grid.room, peak_kw=peak_kw, may_stay=True)
        self._taken = self.room.taken[0]

    def join(self, car: int, *, is_running: bool) -> None:
        """Put the runs of `car` together between which it would pause soon."""
        hours = self.grid.inside_h[car].tolist()
        for _ in range(NEAR_SLOTS):
            row = self.power[car].tolist()
            gap = _first_gap(row, is_running)
            if gap is None or gap.start >= NEAR_SLOTS:
                return
            upper = self.room.upper(car, self.power[car])
            least = float(self.grid.least_kw[car])
            moved = _moved_up(row, gap, hours, least, upper.tolist())
            if moved is not None and self._take(car, moved, upper):
                continue
            cost = self.grid.cost[car].tolist()
            bridged = _bridged(row, gap, hours, least, upper.tolist(), cost)
            if bridged is None or not self._take(car, bridged, upper):
                return

    def fill_running(self) -> None:
        """Let cars that run have what is free now instead of headroom later, the urgent first."""
        grid = self.grid
        is_used = self._used(self._taken) > EPSILON_KW
        is_used[0] = False
        uses = (self.power[:, is_used] > 0).any(axis=1)
        cars = np.flatnonzero((self.power[:, 0] > 0) & uses & ~grid.is_fixed)
        for car in cars[np.argsort(grid.laxity_h[cars], kind="stable")].tolist():
            old, hours = self.power[car], grid.inside_h[car]
            upper = self.room.upper_now(car, float(old[0]))
            least = np.maximum(grid.least_kw[car], grid.floor_kw[car])
            new, free = old.copy(), (upper - float(old[0])) * float(hours[0])
            if free < ENERGY_KWH:
                continue
            for k in np.flatnonzero((old > 0) & is_used)[::-1].tolist():
                energy = float(old[k] * hours[k])
                if energy <= free + ENERGY_KWH and grid.floor_kw[car, k] <= 0:
                    new[k], free = 0.0, free - energy
                    continue
                new[k] = min(old[k], max(old[k] - free / hours[k], least[k]))
                break
            new[0] = old[0] + float(((old - new) * hours).sum()) / float(hours[0])
            if grid.levels.is_coarse[car]:
                new = grid.levels.floor(car, new)
            if float(((new - old) * hours).sum()) >= -LOST_KWH:
                self._replace(car, new)

    def _take(self, car: int, new: list[float], upper: Floats) -> bool:
        """Make `new` the row of `car` if it costs no more than a pause may, nor more headroom."""
        grid, old = self.grid, self.power[car]
        row, hours = np.array(new), grid.inside_h[car]
        if grid.levels.is_coarse[car]:
            row = self._on_levels(car, row, upper)
        more = row - old
        if float((more * hours * grid.cost[car]).sum()) > PAUSE_EUR:
            return False
        given = float((more * hours).sum())
        most = float(grid.least_kw[car] * grid.hours.max())
        if not -LOST_KWH <= given <= most or (row > upper + EPSILON_KW).any():
            return False
        if (row < np.minimum(grid.floor_kw[car], old) - EPSILON_KW).any():
            return False
        after = self._taken + self._more(car, row)
        if float(((self._used(after) - self._used(self._taken)) * grid.hours).sum()) > HEADROOM_KWH:
            return False
        self._replace(car, row)
        return True

    def _on_levels(self, car: int, row: Floats, upper: Floats) -> Floats:
        """Return `row` on levels: down, and up again in the first slots for what that lost."""
        levels, hours = self.grid.levels, self.grid.inside_h[car]
        low = levels.floor(car, row)
        lost = float(((row - low) * hours).sum())
        above = levels.above(car, low)
        for k in np.flatnonzero((row > 0) & (above > low) & (above <= upper + EPSILON_KW)).tolist():
            if lost <= ENERGY_KWH:
                break
            lost -= float((above[k] - low[k]) * hours[k])
            low[k] = above[k]
        return low

    def _replace(self, car: int, row: Floats) -> None:
        if self.power is self._given:
            self.power = self.power.copy()
        self.room.book(car, self.power[car], row)
        self._taken = self._taken + self._more(car, row)
        self.power[car] = row

    def _more(self, car: int, row: Floats) -> Floats:
        """Return how much more of the site's limit `car` takes with `row`, (K,)."""
        guard = float(self.grid.guard_kw[car])
        more = np.maximum(row, guard) - np.maximum(self.power[car], guard)
        return np.asarray(self.grid.use[0, car] * more, dtype=np.float64)

    def _used(self, taken: Floats) -> Floats:
        """Return what is used of the headroom, (K,) kW."""
        free = self.grid.room[0] - self.grid.reserved_kw
        return np.asarray(np.maximum(taken - free, 0.0), dtype=np.float64)


def _first_gap(row: list[float], is_running: bool) -> range | None:
    """Return the first pause between now, or the first run, and the next one."""
    start = 0 if is_running else next((k for k, kw in enumerate(row) if kw > 0), len(row))
    first = next((k for k in range(start, len(row)) if row[k] <= 0), len(row))
    after = next((k for k in range(first, len(row)) if row[k] > 0), None)
    return range(first, after) if after is not None else None


def _moved_up(
    row: list[float], gap: range, hours: list[float], least: float, upper: list[float]
) -> list[float] | None:
    """Return `row` with all that comes after `gap` from its start on, None if it does not fit."""
    if hours[gap.start] <= 0 or upper[gap.start] < least - EPSILON_KW:
        return None
    left = sum(map(mul, row[gap.stop :], hours[gap.stop :]))
    new = [*row[: gap.start], *([0.0] * (len(row) - gap.start))]
    for k in range(gap.start, len(row)):
        if left <= ENERGY_KWH:
            break
        if hours[k] <= 0 or upper[k] < least - EPSILON_KW:
            return None
        new[k] = max(min(upper[k], left / hours[k]), least)
        left -= new[k] * hours[k]
    return new if left <= ENERGY_KWH else None


def _bridged(
    row: list[float],
    gap: range,
    hours: list[float],
    least: float,
    upper: list[float],
    cost: list[float],
) -> list[float] | None:
    """Return `row` with its least power in `gap`, and as much less where it is dearest."""
    if least <= 0 or any(hours[k] <= 0 or upper[k] < least - EPSILON_KW for k in gap):
        return None
    new, more = list(row), 0.0
    for k in gap:
        new[k] = least
        more += least * hours[k]
    can = [k for k in range(len(row) - 1, -1, -1) if row[k] > least and hours[k] > 0]
    # The dearest first, and of equally dear ones the last.
    can.sort(key=cost.__getitem__, reverse=True)
    for k in can:
        if more <= 0:
            break
        less = min((new[k] - least) * hours[k], more)
        new[k] -= less / hours[k]
        more -= less
    for k in range(len(row) - 1, gap.stop - 1, -1):
        if new[k] > 0 and new[k] * hours[k] > more + ENERGY_KWH:
            break
        more -= new[k] * hours[k]
        new[k] = 0.0
    return new
