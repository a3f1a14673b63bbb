"""Thousands of cars: only what is not settled beforehand is left to the solver.

What room under a limit is worth is nearly the same for a few hundred of the cars, with as much less
room. At any worth close to that, most columns of most cars are at one of their bounds. So a program
without those columns, and without the cars that have nothing left to decide, has the optimum of the
whole one. That is not taken on trust: only values at which no column of the whole would pay, which
proves them, are given back.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from csms.planning.simplex import Flags, Floats, LinearProgram

PARTS = 4
"""A round takes so many times the cars of the one before, the last one all of them."""
FEWEST_CARS = 400
"""The first round takes no fewer."""
ROUNDS = 3
"""How often worths are sought near others before the program is solved as it is."""
CLOSE = 1e-3
"""Worths that are no further apart may be the same by chance, EUR per kWh."""
NOTHING = 1e-8

Numbers = NDArray[np.int64]


def screened(
    program: LinearProgram, cars: range, *, iteration_limit: int
) -> tuple[Floats, Floats] | None:
    """Return column values and row duals of `program`, None if it has to be solved as it is.

    The rows `cars` hold what each car is to have in all; no column is in more than one of them. All
    other rows are shared.
    """
    screen = _Screen(program, cars, iteration_limit)
    step = PARTS
    while len(cars) // (step * PARTS) >= FEWEST_CARS:
        step *= PARTS
    first = [screen.part(step, at) for at in (0, step // 2)]
    if first[0] is None or first[1] is None:
        return None
    worth = (first[0].worth + first[1].worth) / 2
    apart = screen.distance(first[0].worth, first[1].worth)
    left = ROUNDS
    while left:
        step = max(step // PARTS, 1)
        found = screen.part(step, step // 2, near=worth, apart=apart)
        if found is None:
            return None
        if step == 1:
            if found.is_inside and screen.is_optimal(found):
                return found.values, screen.duals(found)
            left -= 1
        apart = screen.distance(found.worth, worth) * (1.0 if found.is_inside else 2.0)
        worth = found.worth
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Values of all columns, what a unit of each shared row is worth, EUR (0 in the cars' rows).

    `is_inside` says that all worths are where they were sought.
    """

    values: Floats
    worth: Floats
    is_inside: bool


class _Screen:
    """The columns of a program car by car."""

    def __init__(self, program: LinearProgram, cars: range, iteration_limit: int) -> None:
        self.program, self.cars, self.iteration_limit = program, cars, iteration_limit
        sizes = np.diff(program.starts)
        self.column = np.repeat(np.arange(len(sizes)), sizes)
        is_own = (program.index >= cars.start) & (program.index < cars.stop)
        own = self.column[is_own]
        self.car = np.full(len(sizes), -1)
        self.car[own] = program.index[is_own] - cars.start
        self.has_car = self.car >= 0
        self.per_unit = np.ones(len(sizes))
        self.per_unit[own] = program.value[is_own]
        self.is_shared = np.ones(len(program.row_upper), dtype=np.bool_)
        self.is_shared[cars.start : cars.stop] = False
        self._weigh_rows(is_own)

    def _weigh_rows(self, is_own: Flags) -> None:
        """Say how much of each shared row a kWh takes, and by how many rows a column's varies."""
        program, rows = self.program, len(self.is_shared)
        counts = ~is_own & self.has_car[self.column]
        column, row = self.column[counts], program.index[counts]
        use = np.abs(program.value[counts]) / self.per_unit[column]
        entries = np.bincount(row, minlength=rows)
        self.use = np.bincount(row, weights=use, minlength=rows) / np.maximum(entries, 1)
        self.use[entries == 0] = 1.0
        self.reach = np.bincount(column, weights=use / self.use[row], minlength=len(self.car))

    def distance(self, one: Floats, other: Floats) -> float:
        """Return how far worths are apart, EUR per kWh of a car, or CLOSE if that is less."""
        return float((np.abs(one - other) * self.use).max(initial=CLOSE))

    def part(
        self, step: int, at: int, *, near: Floats | None = None, apart: float = 0.0
    ) -> _Found | None:
        """Solve for every `step`th car from `at` on, with as much less of everything shared.

        What is settled by worths no further than `apart` from those `near` is left out, and they
        stay that close.
        """
        program, n = self.program, len(self.cars)
        is_in = np.zeros(n, dtype=np.bool_)
        is_in[at::step] = True
        share = np.count_nonzero(is_in) / n
        values = np.zeros(len(self.car))
        is_open = is_in[self.car] | ~self.has_car
        if near is not None:
            is_settled, values = self._settled(near, apart, is_in)
            is_open &= ~is_settled
            is_in = np.bincount(self.car[is_open & self.has_car], minlength=n) > 0
        has_row = self.is_shared.copy()
        has_row[self.cars.start : self.cars.stop] = is_in
        values[is_open] = 0.0
        taken = np.bincount(
            program.index, weights=program.value * values[self.column], minlength=len(has_row)
        )
        size = np.where(self.is_shared, share, 1.0)
        row_lower, row_upper = (
            (bound * size - taken)[has_row] for bound in (program.row_lower, program.row_upper)
        )
        width = np.where(self.has_car, 1.0, share)[is_open]
        entry = is_open[self.column]
        row_at = np.cumsum(has_row) - 1
        blocks = [
            (
                program.cost[is_open],
                program.lower[is_open] * width,
                program.upper[is_open] * width,
                np.diff(program.starts)[is_open],
                row_at[program.index[entry]],
                program.value[entry],
            )
        ]
        if near is not None:
            blocks += self._fences(near, apart, row_at)
        cost, lower, upper, sizes, index, value = map(np.concatenate, zip(*blocks, strict=True))
        solved = LinearProgram(
            cost=cost,
            lower=lower,
            upper=upper,
            row_lower=row_lower,
            row_upper=row_upper,
            starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
            index=index.astype(np.int32),
            value=value,
        ).solved(self.iteration_limit)
        if solved is None:
            return None
        count = int(np.count_nonzero(is_open))
        values[is_open] = solved.values[:count]
        worth = np.zeros(len(has_row))
        worth[has_row] = -solved.duals
        worth[~self.is_shared] = 0.0
        is_inside = float(solved.values[count:].max(initial=0.0)) <= NOTHING
        return _Found(values=values, worth=worth, is_inside=is_inside)

    def _fences(
        self, near: Floats, apart: float, row_at: Numbers
    ) -> list[tuple[Floats, Floats, Floats, Numbers, Numbers, Floats]]:
        """Return columns that sell and buy room where its worth would be too far from `near`."""
        found = []
        for sign in (1.0, -1.0):
            limit = near + sign * apart / self.use
            # A row that is bounded on one side only is never worth less than nothing.
            rows = self.is_shared & ((limit > 0) | np.isfinite(self.program.row_lower))
            count = int(np.count_nonzero(rows))
            found.append(
                (
                    sign * limit[rows],
                    np.zeros(count),
                    np.full(count, np.inf),
                    np.ones(count, dtype=np.int64),
                    row_at[rows],
                    np.full(count, -sign),
                )
            )
        return found

    def _prices(self, worth: Floats) -> Floats:
        """Return what each column costs its car with what it takes of shared rows, per kWh."""
        program = self.program
        taken = np.bincount(
            self.column, weights=worth[program.index] * program.value, minlength=len(self.car)
        )
        return np.asarray((program.cost + taken) / self.per_unit, dtype=np.float64)

    def _settled(self, worth: Floats, apart: float, is_in: Flags) -> tuple[Flags, Floats]:
        """Return which columns of the cars `is_in` are settled near `worth`, and at which values.

        Each of those cars takes the columns that cost it least until it has what it is to have.
        """
        program = self.program
        price = self._prices(worth)
        own = np.flatnonzero(self.has_car & is_in[self.car])
        own = own[np.lexsort((price[own], self.car[own]))]
        car, per_unit, low = self.car[own], self.per_unit[own], program.lower[own]
        room = (program.upper[own] - low) * per_unit
        asked = program.row_upper[self.cars.start : self.cars.stop]
        asked = asked - np.bincount(car, weights=low * per_unit, minlength=len(asked))
        starts = np.flatnonzero(np.diff(car, prepend=-1))
        before = np.cumsum(room) - room
        before -= np.repeat(before[starts], np.diff(np.append(starts, len(car))))
        given = np.clip(asked[car] - before, 0.0, room)
        # The last column of which a car takes anything sets what energy is worth to it.
        last = np.zeros(len(asked))
        takes = (given > 0) | (before == 0)
        last[car[takes]] = price[own][takes]
        spread = np.zeros(len(asked))
        np.maximum.at(spread, car, self.reach[own])
        distance = np.abs(price[own] - last[car])
        is_near = distance <= apart * (self.reach[own] + spread[car]) + NOTHING
        # A car with one column left to decide has nothing to decide.
        is_near &= (np.bincount(car[is_near], minlength=len(asked)) > 1)[car]
        is_settled = np.zeros(len(self.car), dtype=np.bool_)
        is_settled[own[~is_near]] = True
        values = np.zeros(len(self.car))
        values[own] = low + given / per_unit
        return is_settled, values

    def _bounds(self, found: _Found) -> tuple[Floats, Floats]:
        """Return between which worths of its energy each car's columns are as it wants them."""
        program, n = self.program, len(self.cars)
        price, has_car, car = self._prices(found.worth), self.has_car, self.car
        unsure = NOTHING / self.per_unit
        least, most = np.full(n, -np.inf), np.full(n, np.inf)
        takes = has_car & (found.values > program.lower + NOTHING)
        np.maximum.at(least, car[takes], (price - unsure)[takes])
        could = has_car & (found.values < program.upper - NOTHING)
        np.minimum.at(most, car[could], (price + unsure)[could])
        return least, most

    def is_optimal(self, found: _Found) -> bool:
        """Return whether no column of any car would pay."""
        least, most = self._bounds(found)
        return bool((least <= most).all())

    def duals(self, found: _Found) -> Floats:
        """Return the duals of all rows."""
        least, most = self._bounds(found)
        duals = -found.worth
        worth = np.where(np.isfinite(least), least, most)
        duals[self.cars.start : self.cars.stop] = np.where(np.isfinite(worth), worth, 0.0)
        return np.asarray(duals, dtype=np.float64)
