"""Rows for a site where cars compete: each slot on levels, what is lost carried on to the next.

Where a limit is full, what one car has another one lacks. So each slot is rounded by itself, in
order: down to levels, who runs keeps its minimum, then up again while the limits leave room. What
a car lost or gained by that is added to what the solver gave it in the next slot, so it ends up
with the solver's energy, in few runs.
"""

from bisect import bisect_right
from math import floor

import numpy as np
from numpy.typing import NDArray

from csms.planning.exchange import Worths, exchanged
from csms.planning.grid import Flags, Floats, Grid
from csms.planning.room import ENERGY_KWH, EPSILON_KW

NOTHING_KW = 1e-6
LEVEL_KW = 1e-7
HELD_SHARE = 0.5
"""A car that runs goes on while it is to have at least this share of a slot at its least power."""
NEAR_H = 1.0
KEPT_SHARE = 0.95
"""Where cars that do not pause leave less than this of the energy of an hour to be had, they do: a
need comes before comfort. With one limit none is lost, since any car may have what another lacks.
"""
FEW = 64
"""Up to so many cars that may not all fit are looked at one by one: that takes less time than
arrays of so few."""


def carried(
    grid: Grid,
    aimed_kw: Floats,
    is_bound: Flags,
    *,
    limit: Floats,
    peak_kw: float = np.inf,
    may_hold: bool = True,
    worths: Worths | None = None,
) -> Floats:
    """Return rows (N, K) on levels within `limit` (R, K) that follow the solver's `aimed_kw`.

    All of them with the building stay below `peak_kw`. `is_bound` (N, K) says where a limit of a
    car binds, `worths` what the first slot is worth, so that cars may trade levels there. Where
    pauses are avoided, and with `may_hold`, who runs goes on at its least power before others have
    more, unless that loses part of the hour to come.
    """
    power = np.zeros(grid.shape[::-1])
    wanted = np.where(grid.is_fixed, 0.0, grid.due_kwh + grid.later_kwh + grid.extra_kwh)
    running = np.array([bool(s.current_kw) for s in grid.case.sessions], dtype=np.bool_)
    # Where no slot is dearer than another, whoever runs may as well have its energy sooner.
    is_flat = bool(np.ptp(grid.price) < 1e-9) and grid.demand_weight <= 0
    # Slot after slot lies together in memory: one is read from end to end, then the next.
    cap, floors = np.ascontiguousarray(grid.cap_kw.T), np.ascontiguousarray(grid.floor_kw.T)
    free, is_bound = np.ascontiguousarray(limit.T), np.ascontiguousarray(is_bound.T)
    inside = np.ascontiguousarray(grid.inside_h.T)
    is_there = (cap > 0) & (inside > 0)
    hours = np.where(is_there, inside, 0.0)
    per_h = np.where(is_there, 1.0 / np.where(is_there, hours, 1.0), 0.0)
    asked = np.cumsum(np.ascontiguousarray(aimed_kw.T) * hours, axis=0)
    total = asked[-1]
    full_kwh = cap * hours
    ahead_kwh = np.cumsum(full_kwh[::-1], axis=0)[::-1] - full_kwh
    must_from = np.where(is_there, ahead_kwh + ENERGY_KWH, np.inf)
    may_hold = may_hold and grid.case.avoids_pauses
    may_lose = may_hold and len(limit) > 1
    near, last = int(np.cumsum(grid.hours).searchsorted(NEAR_H)), len(grid.hours) - 1
    hold_kwh = HELD_SHARE * grid.least_kw * hours + ENERGY_KWH
    held_from = np.where(is_there & may_hold, hold_kwh, np.inf)
    tiny = np.where(is_there, ENERGY_KWH * per_h, np.inf)
    least, cars, given = grid.least_kw, _Cars(grid), np.zeros(len(wanted))
    peak = (peak_kw - grid.base_kw).tolist()
    is_empty: list[bool] = (~np.any(is_there, axis=1)).tolist()
    binds: list[bool] = np.any(is_bound, axis=1).tolist()
    nobody = np.zeros(len(wanted), dtype=np.bool_)
    for k in range(len(hours)):
        if is_empty[k]:
            running = nobody
            continue
        most = np.minimum(cap[k], (wanted - given) * per_h[k])
        left = total - given
        # Who runs has later energy now rather than a pause. Products with flags take a third of
        # the time of a choice by them.
        goes_on = least * (running & (left > held_from[k]))
        want = np.minimum(np.maximum((asked[k] - given) * per_h[k], goes_on), most)
        if not (cars.has_floor or is_flat or np.maximum.reduce(want) > EPSILON_KW):
            running = nobody
            continue
        is_worth_it = most > tiny[k]
        slot = _Slot(cars, free[k], peak[k], floors[k] * is_worth_it if cars.has_floor else None)
        must = left > must_from[k]
        keeps = nobody
        if may_hold and k <= near:
            # Who is to have nothing for an hour does not go on at the cost of who cannot wait.
            is_due = asked[min(k + near, last)] - given > ENERGY_KWH
            keeps = running & ~must & is_due
            if is_flat and not ((left > held_from[k]) & ~running).any():
                # Nobody waits: where all fit beside who has to have more, and no hour is dearer,
                # nobody has to begin to.
                shared = np.maximum(np.where(must, want, goes_on) - grid.guard_kw, 0.0)
                if (grid.use @ shared <= free[k] + EPSILON_KW).all():
                    keeps = goes_on * ~must > 0
        slot.lower(want, running, must, keeps)
        if slot.may_any_rise(is_worth_it):
            most = np.maximum(most, least) * is_worth_it
            has_room = not slot.raise_to_next(want, most) or slot.may_any_rise(is_worth_it)
            if has_room and is_flat:
                slot.fill(most, running)
            elif has_room and binds[k]:
                # What is left over where a limit binds is lost: energy of later slots goes there.
                later = np.minimum(most, np.maximum(left * per_h[k], slot.row))
                slot.fill(later * is_bound[k], running)
        if not k and worths is not None and len(limit) > 1 and peak_kw == np.inf:
            traders = np.flatnonzero((slot.row > 0) | (asked[0] > ENERGY_KWH))
            kept = np.where(running & may_hold, least, 0.0)
            slot.exchange(traders, worths, wants=wanted * per_h[0], least=kept, most=most)
        power[k] = slot.row
        given += slot.row * hours[k]
        running = slot.row > 0
        if may_lose and k == near and given.sum() < KEPT_SHARE * asked[k].sum():
            return carried(
                grid,
                aimed_kw,
                is_bound.T,
                limit=limit,
                peak_kw=peak_kw,
                may_hold=False,
                worths=worths,
            )
    return np.ascontiguousarray(power.T)


class _Cars:
    """What does not change from slot to slot.

    Lists of plain numbers beside the arrays: one car at a time, they are read ten times faster.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.has_floor = bool(grid.floor_kw.any())
        self.is_coarse = bool(grid.levels.is_coarse.any())
        self.has_guard = bool(grid.guard_kw.any())
        self.has_classes = bool(grid.rank.any())
        self.enough_kw = np.maximum(grid.least_kw, NOTHING_KW) - EPSILON_KW
        self.smallest_kw = grid.levels.smallest_kw
        self.half_step_kw = 0.5 * self.smallest_kw
        # Below its guard a car takes nothing from anybody: where nothing is left it may still rise.
        self.by_guard = grid.guard_kw >= self.enough_kw
        self.below_guard_kw = grid.guard_kw - self.half_step_kw
        self.guard_level_kw = grid.guard_kw
        if self.is_coarse:
            self.guard_level_kw = grid.levels.floor_each(grid.guard_kw)
        count = len(grid.laxity_h)
        self.by_urgency = np.empty(count, dtype=np.int64)
        self.by_urgency[np.argsort(grid.laxity_h, kind="stable")] = np.arange(count)
        # Higher classes of priority come first, and within one there is room to put some last.
        self.turn = self.by_urgency - 2 * count * grid.rank
        self.first = self.by_urgency - 4.0 * count * grid.rank
        # By so much sooner comes who runs, and who can wait no more. They are arrays since a number
        # beside an array takes as long again as the sum itself.
        self.if_runs, self.if_must = np.full(count, 1.0 * count), np.full(count, 2.0 * count)
        self.coarse = grid.levels.is_coarse
        self.epsilon_kw = np.full(count, EPSILON_KW)
        self.steps: list[float] = grid.levels.step_kw.tolist()
        # A list that holds nothing but 0 says that any power, or a multiple of a step, will do.
        self.lists: list[list[float]] = grid.levels.listed.tolist()
        self.least: list[float] = self.enough_kw.tolist()
        self.guard: list[float] = grid.guard_kw.tolist()
        self.kinds: list[int] = grid.kind.tolist()
        # What a kW of each kind of car takes of which limits.
        use = grid.use[:, grid.kind_first]
        self.parts = [
            [(limit, part) for limit, part in enumerate(own) if part] for own in use.T.tolist()
        ]
        self.per_kw = np.where(use > 0, use, 1.0)
        self.if_free = np.where(use > 0, 0.0, np.inf)
        # Nothing but the site's limit, of which a kW of any car takes as much.
        self.is_single = self.parts == [[(0, 1.0)]]

    def in_turn(self, at: NDArray[np.int64], *, is_last: Flags) -> NDArray[np.int64]:
        """Return cars `at` by class, those that come last in their class after the others."""
        return np.asarray(at[(self.turn[at] + len(self.turn) * is_last).argsort()])

    def by_need(self, at: NDArray[np.int64], running: Flags, must: Flags) -> NDArray[np.int64]:
        """Return cars `at` by class, who can wait no more first, then who runs."""
        later = self.first - self.if_runs * running - self.if_must * must
        return np.asarray(at[later[at].argsort()])

    def by_class(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return cars that are in an order by class as one part per class."""
        if not self.has_classes:
            return [order]
        is_next = np.diff(self.grid.rank[order]) != 0
        return np.split(order, np.flatnonzero(is_next) + 1)

    def floor(self, car: int, kw: float) -> float:
        """Return the highest level of `car` that is at most `kw`."""
        listed, step = self.lists[car], self.steps[car]
        if listed[-1] > 0:
            return listed[bisect_right(listed, kw + LEVEL_KW) - 1]
        return floor(kw / step + LEVEL_KW) * step if step > 0 else kw


class _Slot:
    """One slot: the cars' powers `row` (N,) and what they leave of each limit and of the peak."""

    def __init__(
        self, cars: _Cars, limit: Floats, below_peak_kw: float, floor: Floats | None
    ) -> None:
        self.cars, self.grid, self.limit, self.floor = cars, cars.grid, limit, floor
        self.row = np.zeros(len(cars.least))
        self.may_rise = cars.by_guard
        self.free: list[float] = []
        self.changes = 0
        self.spares, self.seen = [np.inf] * len(cars.parts), [-1] * len(cars.parts)
        self.below_peak_kw = below_peak_kw

    def lower(self, want: Floats, running: Flags, must: Flags, keeps: Flags) -> None:
        """Give cars the level below what they want, who runs or can wait no more the minimum.

        Who `keeps` on running has its minimum before anyone of its class who can wait has more.
        """
        grid, cars = self.grid, self.cars
        low = grid.levels.floor_each(want) if cars.is_coarse else want
        is_on = want >= np.where(running | must, cars.epsilon_kw, cars.enough_kw)
        low = np.maximum(low, grid.least_kw) * is_on
        if self.floor is not None:
            low = np.maximum(low, self.floor)
        shared = np.maximum(low, grid.guard_kw) - grid.guard_kw if cars.has_guard else low
        free = (self.limit - grid.use @ shared).tolist()
        has_peak = self.below_peak_kw < np.inf
        total_kw = float(low.sum()) if has_peak else 0.0
        if min(free) >= -EPSILON_KW and total_kw <= self.below_peak_kw:
            self.row, self.free = low, free
            self.below_peak_kw -= total_kw
            return
        self.free = self.limit.tolist()
        if self.floor is not None:
            self._set_all(self.floor.nonzero()[0], self.floor)
        at = (low > self.row + cars.epsilon_kw).nonzero()[0]
        order = cars.by_need(at, running, must)
        may_begin = cars.is_single and self.floor is None and not has_peak
        holds = bool(keeps.any())
        least = np.where(must, low, np.minimum(low, grid.least_kw)) if holds else low
        for rest in cars.by_class(order) if holds else (order,):
            if holds:
                self._hold(rest[(keeps | must)[rest]], least)
                shared = low - np.maximum(self.row, grid.guard_kw) if may_begin else shared
            rest = self._begin(rest, low, np.maximum(shared, 0.0)) if may_begin else rest
            self._set_all(rest, low)

    def may_any_rise(self, is_worth_it: Flags) -> bool:
        """Find out whether the limits leave anybody enough for a level above theirs.

        Cars to whom power is not `is_worth_it` (N,) do not count.
        """
        if self.below_peak_kw <= EPSILON_KW:
            return False
        cars = self.cars
        if self.free[0] <= EPSILON_KW:
            self.may_rise = cars.by_guard & is_worth_it & (self.row < cars.below_guard_kw)
        else:
            spare = self.free[0] if cars.is_single else self._spare_kw()[self.grid.kind]
            most = np.maximum(self.row, self.grid.guard_kw) + spare
            self.may_rise = (most > self.row + cars.half_step_kw) & (most >= cars.enough_kw)
            self.may_rise &= is_worth_it
        return bool(np.count_nonzero(self.may_rise))

    def raise_to_next(self, want: Floats, most: Floats) -> bool:
        """Give cars that lost most by going down the next level up, as far as there is room.

        Return whether any may have got it. Only cars that `may_any_rise` found do.
        """
        grid, cars = self.grid, self.cars
        lost = want - self.row
        at = (self.may_rise & (lost > cars.epsilon_kw)).nonzero()[0]
        if not len(at):
            return False
        # Cars that take any power have no next level: they go up to what they want.
        above = np.maximum(want, grid.least_kw)
        if cars.is_coarse:
            next_up = np.maximum(grid.levels.above_each(self.row), grid.least_kw)
            above = np.where(cars.coarse, next_up, above)
        at = at[above[at] <= most[at] + EPSILON_KW]
        if len(at) > 1:
            at = at[np.lexsort((cars.by_urgency[at], -lost[at], -grid.rank[at]))]
        self._set_all(at, above)
        return True

    def fill(self, most: Floats, running: Flags) -> None:
        """Give what is left to cars that charge, then to others, the most urgent first.

        Only cars that `may_any_rise` found get any.
        """
        cars = self.cars
        most = self.grid.levels.floor_each(most) if cars.is_coarse else most
        wants = self.may_rise & (most > self.row + cars.epsilon_kw) & (most >= cars.enough_kw)
        at = wants.nonzero()[0]
        if not len(at):
            return
        if self.free[0] <= EPSILON_KW and self.below_peak_kw == np.inf:
            # Nobody stands in another's way below the guards.
            level = np.minimum(most[at], cars.guard_level_kw[at])
            self.row[at] = np.maximum(self.row[at], level * (level >= cars.enough_kw[at]))
            return
        is_off = (self.row[at] == 0) & ~running[at]
        self._set_all(cars.in_turn(at, is_last=is_off), most)

    def exchange(
        self,
        traders: NDArray[np.int64],
        worths: Worths,
        *,
        wants: Floats,
        least: Floats,
        most: Floats,
    ) -> None:
        """Let cars trade levels where it pays; who runs keeps what is `least` (N,) for it."""
        self.row = exchanged(
            self.grid,
            self.row,
            traders,
            free=np.array(self.free),
            worths=worths,
            wants=wants,
            least=least if self.floor is None else np.maximum(least, self.floor),
            most=most,
        )

    def _spare_kw(self) -> Floats:
        """Return what the limits leave to a car of each kind, (M,)."""
        left = np.array(self.free)[:, None] / self.cars.per_kw + self.cars.if_free
        return np.asarray(np.maximum(np.minimum.reduce(left), 0.0), dtype=np.float64)

    def _set_all(self, order: NDArray[np.int64], kw: Floats) -> None:
        """Raise cars to `kw` in this order, or to the highest level for which there is room."""
        if len(order) > FEW:
            order = self._set_first(order, kw)
        row, free, below_peak_kw = self.row, self.free, self.below_peak_kw
        cars, spares, seen, changes = self.cars, self.spares, self.seen, self.changes
        guards, leasts, kinds, parts = cars.guard, cars.least, cars.kinds, cars.parts
        is_single = cars.is_single
        at = order.tolist()
        each = zip(at, kw[order].tolist(), row[order].tolist(), strict=True)
        # Plain comparisons, and no calls: this is the innermost loop, which they would slow down
        # to half.
        for car, level, now in each:
            guard = guards[car]
            base = guard if guard > now else now
            most = level
            if level > base:
                # Room only gets less: what was too little for a kind of car is so still.
                kind = kinds[car]
                most = base + spares[kind]
                if most <= now or most < leasts[car]:
                    continue
                if seen[kind] != changes:
                    spare = np.inf
                    for limit, use in parts[kind]:
                        rest = free[limit] / use
                        if rest < spare:
                            spare = rest
                    spares[kind], seen[kind] = spare if spare > 0.0 else 0.0, changes
                    most = base + spares[kind]
                if most > level:
                    most = level
            if most - now > below_peak_kw:
                most = now + max(below_peak_kw, 0.0)
            if most <= now or most < leasts[car]:
                continue
            if most < level:
                most = cars.floor(car, most)
                if most <= now or most < leasts[car]:
                    continue
            if most > base:
                if is_single:
                    free[0] -= most - base
                    spares[0] = free[0] if free[0] > 0.0 else 0.0
                else:
                    changes += 1
                    for limit, use in parts[kinds[car]]:
                        free[limit] -= use * (most - base)
            below_peak_kw -= most - now
            row[car] = most
        self.below_peak_kw, self.changes = below_peak_kw, changes

    def _hold(self, at: NDArray[np.int64], kw: Floats) -> None:
        """Give `kw` to cars `at`, in this order where not all of them fit."""
        more = np.maximum(kw[at] - np.maximum(self.row[at], self.grid.guard_kw[at]), 0.0)
        left = np.array(self.free) - self.grid.use[:, at] @ more
        if (left < 0).any() or self.below_peak_kw < np.inf:
            self._set_all(at, kw)
            return
        self.row[at] = np.maximum(self.row[at], kw[at])
        self.free, self.changes = left.tolist(), self.changes + 1

    def _begin(self, order: NDArray[np.int64], kw: Floats, more: Floats) -> NDArray[np.int64]:
        """Give `kw` to the first cars, as far as all of them fit; return the others.

        They take `more` (N,) of the only limit than they do now.
        """
        taken = np.cumsum(more[order])
        count = np.count_nonzero(taken <= self.free[0])
        if count:
            first = order[:count]
            self.row[first] = kw[first]
            self.free, self.changes = [float(self.free[0] - taken[count - 1])], self.changes + 1
        return order[count:]

    def _set_first(self, order: NDArray[np.int64], kw: Floats) -> NDArray[np.int64]:
        """Raise the first cars that all fit at once; return those after them that still may."""
        grid, now, to = self.grid, self.row[order], kw[order]
        guard, use = grid.guard_kw[order], grid.use[:, order]
        from_kw = np.maximum(now, guard)
        taken = np.cumsum(use * (np.maximum(to, guard) - from_kw), axis=1)
        free = np.array(self.free)
        fits = (taken <= free[:, None]).all(axis=0)
        if self.below_peak_kw < np.inf:
            fits &= np.cumsum(to - now) <= self.below_peak_kw
        count = len(order) if fits.all() else int(np.argmin(fits))
        if count:
            self.row[order[:count]] = to[:count]
            free = free - taken[:, count - 1]
            self.free = free.tolist()
            self.changes += 1
            self.below_peak_kw -= float((to - now)[:count].sum())
        # Room only gets less: who finds too little for its least power now never will.
        least = np.maximum(self.cars.enough_kw[order], now + self.cars.smallest_kw[order])
        least = np.maximum(least - EPSILON_KW - from_kw, 0.0)[count:]
        may = (use[:, count:] * least <= np.maximum(free, 0.0)[:, None]).all(axis=0)
        return np.asarray(order[count:][may])
