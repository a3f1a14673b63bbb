"""Where the solver ended, kept so that the next plan of a site begins there.

From one plan to the next a slot passes, a car comes, a need changes a little: the simplex needs a
third of its steps when it begins where it ended. The start is part of the case, so a case gives the
same plan wherever and whenever it is planned; a start that does not fit costs time, nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

from csms.core.plan import Start
from csms.planning.blocks import Blocks
from csms.planning.grid import Flags, Grid
from csms.planning.simplex import LinearProgram, Optimum

STEPS = 6
"""The quarters of what is due, what is due later, what is wanted if it is cheap."""
KNOWN_SHARE = 0.75
"""With fewer cars of the last plan than this the program is begun anew."""
AT_BOUND = 1e-9
RESERVE, PEAK = "reserve", "peak"
_LETTERS = np.frombuffer(b"-lbu", dtype=np.uint8)
NONE, LOWER, BASIC, UPPER = range(len(_LETTERS))
_CODES = np.zeros(256, dtype=np.uint8)
_CODES[_LETTERS] = np.arange(len(_LETTERS))
_STATUS = [getattr(highspy.HighsBasisStatus, f"k{s}") for s in ("Lower", "Lower", "Basic", "Upper")]

Codes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which columns and rows of a program stand for what.

    Columns: power of `car` (M,) in `block` (M,), below its guard where `is_low` (M,); what is used
    of the headroom from `reserve_at` on, one per block; from `unmet_at` on what `unmet_car` (U,)
    lacks of which `unmet_step` (U,); the peak in `peak_at`, -1 without one. Rows: one per limit and
    block, then one per car, then one per block for the peak.
    """

    cars: int
    blocks: int
    limits: int
    car: Numbers
    block: Numbers
    is_low: Flags
    reserve_at: int
    unmet_at: int
    unmet_car: Numbers
    unmet_step: Numbers
    peak_at: int

    @property
    def energy_rows(self) -> range:
        """The rows of what each car is to have."""
        first = self.limits * self.blocks
        return range(first, first + self.cars)

    def ended(self, grid: Grid, blocks: Blocks, linear: LinearProgram, found: Optimum) -> Start:
        """Return where the solver ended."""
        is_high = found.values >= linear.upper - AT_BOUND
        column = np.where(is_high & np.isfinite(linear.upper), UPPER, LOWER).astype(np.uint8)
        row = np.full(len(linear.row_upper), UPPER, dtype=np.uint8)
        column[found.basic[found.basic >= 0]] = BASIC
        row[-1 - found.basic[found.basic < 0]] = BASIC
        n, b, r = self.cars, self.blocks, self.limits
        table = np.zeros((n, 2 * b + STEPS + 1), dtype=np.uint8)
        table[self.car, self.block + b * self.is_low] = column[: len(self.car)]
        table[self.unmet_car, 2 * b + self.unmet_step] = column[self.unmet_at :][
            : len(self.unmet_car)
        ]
        table[:, -1] = row[r * b : r * b + n]
        shared = [*row[: r * b].reshape(r, b), column[self.reserve_at : self.reserve_at + b]]
        names = [*(s.session_id for s in grid.case.sessions), *_limit_names(grid), RESERVE]
        if self.peak_at >= 0:
            peak = row[r * b + n : r * b + n + b]
            shared.append(np.append(peak, column[self.peak_at]))
            names.append(PEAK)
        starts = [grid.case.edges_at[k] for k in blocks.first[:-1].tolist()]
        states = [_LETTERS[codes].tobytes().decode() for codes in (*table, *shared)]
        return Start(edges_at=tuple(starts), names=tuple(names), states=tuple(states))

    def begun(
        self, grid: Grid, blocks: Blocks, linear: LinearProgram, start: Start
    ) -> highspy.HighsBasis | None:
        """Return the basis with which to begin at `start`, None where too little of it fits."""
        n, b, r = self.cars, self.blocks, self.limits
        had = len(start.edges_at)
        known = dict(zip(start.names, start.states, strict=False))
        ids = [s.session_id for s in grid.case.sessions]
        width = 2 * had + STEPS + 1
        is_known = np.array([len(known.get(i, "")) == width for i in ids], dtype=np.bool_)
        if not had or np.count_nonzero(is_known) < KNOWN_SHARE * n:
            return None
        at = _same_times(grid, blocks, start)
        # Who has come since lacks all, as at the vertex at which nobody charges.
        new = "l" * (2 * had) + "u" * STEPS + "b"
        texts = [known[i] if ok else new for i, ok in zip(ids, is_known.tolist(), strict=True)]
        table = _codes(texts, width)
        column = np.full(len(linear.cost), LOWER, dtype=np.uint8)
        row = np.full(len(linear.row_upper), BASIC, dtype=np.uint8)
        column[: len(self.car)] = table[self.car, at[self.block] + had * self.is_low]
        column[self.unmet_at : self.unmet_at + len(self.unmet_car)] = table[
            self.unmet_car, 2 * had + self.unmet_step
        ]
        row[r * b : r * b + n] = table[:, -1]
        for limit, name in enumerate(_limit_names(grid)):
            if len(known.get(name, "")) == had:
                row[limit * b : limit * b + b] = _codes([known[name]], had)[0, at]
        if len(known.get(RESERVE, "")) == had:
            reserve = _codes([known[RESERVE]], had)[0, at]
            column[self.reserve_at : self.reserve_at + b] = reserve
        if self.peak_at >= 0 and len(known.get(PEAK, "")) == had + 1:
            peak = _codes([known[PEAK]], had + 1)[0]
            row[r * b + n : r * b + n + b], column[self.peak_at] = peak[at], peak[-1]
        column[(column == UPPER) & ~np.isfinite(linear.upper)] = LOWER
        basis = highspy.HighsBasis()
        basis.col_status = [_STATUS[code] for code in column.tolist()]
        basis.row_status = [_STATUS[code] for code in row.tolist()]
        basis.valid = True
        return basis


def _limit_names(grid: Grid) -> list[str]:
    """Return the names of the limits, told apart where several sides have one."""
    found: list[str] = []
    seen: dict[str, int] = {}
    for row in grid.rows.tolist():
        label = grid.limits.label(row)
        seen[label] = seen.get(label, 0) + 1
        found.append(f"{label} #{seen[label]}")
    return found


def _same_times(grid: Grid, blocks: Blocks, start: Start) -> Numbers:
    """Return for each block the one of `start` in which it begins, (B,)."""
    then = np.array([at.timestamp() for at in start.edges_at])
    now = np.array([grid.case.edges_at[k].timestamp() for k in blocks.first[:-1].tolist()])
    return np.maximum(np.searchsorted(then, now, side="right") - 1, 0)


def _codes(texts: Sequence[str], width: int) -> Codes:
    letters = np.frombuffer("".join(texts).encode("ascii", "replace"), dtype=np.uint8)
    return _CODES[letters].reshape(len(texts), width)
