"""Why a car has the power it has, slot by slot, in words for people."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from csms.core.plan import Why
from csms.planning.grid import Flags, Floats, Grid

NEAR_KW = 1e-6
ENERGY_KWH = 1e-6

WORDS = (
    "away",
    "not controlled",
    "nothing is left of the limit",
    "waits after a pause",
    "full power",
    "as much as it needs",
    "kept going",
    "has all it needs",
    "dearer than its other slots",
    "not needed yet",
    "less than its least power",
)
(
    AWAY,
    WILD,
    BLOCKED,
    DWELLS,
    FULL,
    ENOUGH,
    KEPT,
    DONE,
    DEAR,
    LATER,
    SMALL,
) = range(len(WORDS))


def reasons(
    grid: Grid, power_kw: Floats, held: Flags, *, given_kwh: Floats
) -> tuple[tuple[Why, ...], ...]:
    """Return for every car from which slot on its power in `power_kw` (N, K) has which reason.

    `held` (R, K) says in which slots each limit holds a car back, `given_kwh` (N, K) what each car
    has at the end of each slot.
    """
    code = _codes(grid, power_kw, held, given_kwh)
    changes = np.ones(code.shape, dtype=np.bool_)
    changes[:, 1:] = code[:, 1:] != code[:, :-1]
    at = np.flatnonzero(changes)
    slots = (at % code.shape[1]).tolist()
    codes = code.ravel()[at].tolist()
    words = {c: _word(grid, c) for c in set(codes)}
    found = list(map(_why, slots, map(words.__getitem__, codes)))
    ends = np.cumsum(changes.sum(axis=1)).tolist()
    return tuple(tuple(found[a:b]) for a, b in zip([0, *ends], ends, strict=False))


def _word(grid: Grid, code: int) -> str:
    """Return the word of a number: of WORDS, or for each limit that it is shared or waited for."""
    if code < len(WORDS):
        return WORDS[code]
    is_waited_for, at = divmod(code - len(WORDS), len(grid.rows))
    label = grid.limits.label(int(grid.rows[at]))
    return f"waits for {label}" if is_waited_for else f"shares {label}"


@lru_cache(maxsize=16_384)
def _why(first: int, reason: str) -> Why:
    """Return one of the few reasons that most rows of most plans are made of."""
    return Why(first=first, reason=reason)


def _codes(grid: Grid, power: Floats, held: Flags, given: Floats) -> NDArray[np.int64]:
    """Return the number of the word for every car and slot; later ones overrule earlier ones."""
    on = power > NEAR_KW
    off = ~on
    away = grid.inside_h <= 0
    wanted = (grid.required_kwh + grid.extra_kwh)[:, None]
    total = given[:, -1:]
    met = (given >= np.minimum(total, wanted) - ENERGY_KWH) & off
    paid = np.where(on, grid.cost, -np.inf).max(axis=1, initial=-np.inf)[:, None]
    # No slot is dearer than those of a car that has none.
    paid[paid == -np.inf] = np.inf
    code = np.where(on, ENOUGH, LATER)
    np.putmask(code, off & (grid.cost > paid + 1e-9), DEAR)
    np.putmask(code, met, DONE)
    # Of several limits that hold a car back the last row is the nearest to it.
    if held.any():
        short = (total < wanted - ENERGY_KWH) | ~met
        room = short & (grid.cap_kw - power > NEAR_KW)
        numbers = np.arange(len(grid.use))[:, None]
        last = np.full((len(grid.kind_first), held.shape[1]), -1)
        for kind, car in enumerate(grid.kind_first.tolist()):
            np.where(held & (grid.use[:, car, None] > 0), numbers, -1).max(axis=0, out=last[kind])
        row = last[grid.kind]
        held_by = row + len(WORDS) + off * len(grid.use)
        np.copyto(code, held_by, where=room & (row >= 0))
    if grid.floor_kw.any():
        np.putmask(code, on & (grid.floor_kw > 0) & (power <= grid.floor_kw + NEAR_KW), KEPT)
    np.putmask(code, on & (power >= grid.cap_kw - NEAR_KW), FULL)
    no_cap = grid.cap_kw <= 0
    np.putmask(code, no_cap, DWELLS)
    is_small = [s.max_kw < max(s.min_kw, 1e-9) for s in grid.case.sessions]
    if any(is_small):
        np.putmask(code, no_cap & np.array(is_small)[:, None], SMALL)
    if grid.is_blocked.any():
        np.putmask(code, grid.is_blocked, BLOCKED)
    code[grid.is_fixed] = WILD
    np.putmask(code, away, AWAY)
    return code
