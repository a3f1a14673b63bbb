"""Linear programs as plain arrays, and HiGHS to solve them."""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import local
from typing import NamedTuple

import highspy
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int32]

_OPTIONS: dict[str, bool | float | str] = {
    "output_flag": False,
    "presolve": "off",
    "solver": "simplex",
    "simplex_strategy": 1,
    # The entries are ones, shares of blocks and amperes per kW: of one size as they are.
    "simplex_scale_strategy": 0,
    # Row by row: programs as sparse as these never gain by going column by column.
    "simplex_price_strategy": 1,
    "threads": 1,
    "random_seed": 0,
    # Where prices are flat, costs differ by little more than the front-load: perturbed as much as
    # HiGHS would, they make a vertex optimal from which the true one is far.
    "dual_simplex_cost_perturbation_multiplier": 0.1,
    # The front-load that breaks ties is worth about 1e-6 EUR per kWh and slot.
    "dual_feasibility_tolerance": 1e-9,
    "primal_feasibility_tolerance": 1e-9,
}


MOST_KEPT = 100_000
"""A program of more entries gets a HiGHS of its own, whose memory is given back with it."""


class _Kept(local):
    """The HiGHS of this thread, one for each choice of options."""

    def __init__(self) -> None:
        self.by_options: dict[str, highspy._core._Highs] = {}


_kept = _Kept()


def _made(options: Mapping[str, bool | float | str]) -> highspy._core._Highs:
    # The bare class: the wrapper around it prints a banner on standard output.
    highs = highspy._core._Highs()
    for name, value in {**_OPTIONS, **options}.items():
        highs.setOptionValue(name, value)
    return highs


def _cleared(options: Mapping[str, bool | float | str]) -> highspy._core._Highs:
    """Return this thread's HiGHS of `options` without anything of what it solved before.

    A new one finds the same, but to make it takes as long as ten pivots.
    """
    name = repr(options)
    if name not in _kept.by_options:
        _kept.by_options[name] = _made(options)
    highs = _kept.by_options[name]
    highs.clearModel()
    return highs


def _run(highs: highspy._core._Highs) -> highspy.HighsStatus:
    """Run `highs`, on as many threads as there are where one is refused.

    All of a process share HiGHS's threads: who used it before us, as other planners and cvxpy do,
    has settled their number, and asking for another is an error. The simplex is serial anyway.
    """
    status = highs.run()
    if status == highspy.HighsStatus.kError:
        highs.setOptionValue("threads", 0)
        status = highs.run()
    return status


class Optimum(NamedTuple):
    """Column values, row duals, and which columns are basic, -1 - row for a row."""

    values: Floats
    duals: Floats
    basic: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProgram:
    """Minimise `cost @ x` with `lower <= x <= upper` and `row_lower <= A @ x <= row_upper`.

    Column j of A holds `value[starts[j]:starts[j + 1]]` in the rows `index` of the same entries.
    """

    cost: Floats
    lower: Floats
    upper: Floats
    row_lower: Floats
    row_upper: Floats
    starts: Ints
    index: Ints
    value: Floats

    def solved(
        self,
        iteration_limit: int,
        *,
        options: Mapping[str, bool | float | str] | None = None,
        basis: highspy.HighsBasis | None = None,
    ) -> Optimum | None:
        """Return the optimum, None if HiGHS did not prove one. `basis` is where to begin."""
        wanted = {"simplex_iteration_limit": int(iteration_limit), **(options or {})}
        highs = _cleared(wanted) if len(self.value) <= MOST_KEPT else _made(wanted)
        columns = len(self.cost)
        passed = highs.passModel(
            columns,
            len(self.row_upper),
            len(self.value),
            int(highspy.MatrixFormat.kColwise),
            int(highspy.ObjSense.kMinimize),
            0.0,
            self.cost,
            self.lower,
            self.upper,
            self.row_lower,
            self.row_upper,
            self.starts,
            self.index,
            self.value,
            np.zeros(columns, dtype=np.int32),
        )
        if basis is not None:
            highs.setBasis(basis)
        if passed == highspy.HighsStatus.kError or _run(highs) == highspy.HighsStatus.kError:
            return None
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = highs.getSolution()
        # They are lists of as many numbers as the program has columns and rows.
        values = np.fromiter(solution.col_value, np.float64, columns)
        duals = np.fromiter(solution.row_dual, np.float64, len(self.row_upper))
        # The package's stubs do not know it.
        basic = highs.getBasicVariables()[1]  # type: ignore[attr-defined]
        return Optimum(values, duals, np.asarray(basic, dtype=np.int64))
