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
    "guards fill the limit",
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


def reasons(grid: Grid, power_kw: Floats, held: Flags) -> tuple[tuple[Why, ...], ...]:
    """Return for every car from which slot on its power in `power_kw` (N, K) has which reason.

    `held` (R, K) says in which slots each limit holds a car back.
    """
    code = _codes(grid, power_kw, held)
    words = [
        *WORDS,
        *(f"shares {grid.limits.label(row)}" for row in grid.rows.tolist()),
        *(f"waits for {grid.limits.label(row)}" for row in grid.rows.tolist()),
    ]
    changes = np.ones(code.shape, dtype=np.bool_)
    changes[:, 1:] = code[:, 1:] != code[:, :-1]
    cars, slots = np.nonzero(changes)
    found = list(map(_why, slots.tolist(), [words[c] for c in code[cars, slots].tolist()]))
    ends = np.cumsum(changes.sum(axis=1)).tolist()
    return tuple(tuple(found[a:b]) for a, b in zip([0, *ends], ends, strict=False))


@lru_cache(maxsize=16_384)
def _why(first: int, reason: str) -> Why:
    """Return one of the few reasons that most rows of most plans are made of."""
    return Why(first=first, reason=reason)


def _codes(grid: Grid, power: Floats, held: Flags) -> NDArray[np.int64]:
    """Return the number of the word for every car and slot; later ones overrule earlier ones."""
    on = power > NEAR_KW
    here = grid.inside_h > 0
    energy = power * grid.inside_h
    given = np.cumsum(energy, axis=1)
    wanted = (grid.required_kwh + grid.extra_kwh)[:, None]
    met = (given >= np.minimum(given[:, -1:], wanted) - ENERGY_KWH) & ~on
    paid = np.where(on, grid.cost, -np.inf).max(axis=1, initial=-np.inf)[:, None]
    code = np.where(on, ENOUGH, LATER)
    is_dearer = np.asarray((grid.cost > paid + 1e-9) & (paid > -np.inf))
    code[~on & is_dearer] = DEAR
    code[met] = DONE
    # Of several limits that hold a car back the last row is the nearest to it.
    short = (given[:, -1:] < wanted - ENERGY_KWH) | ~met
    room = here & short & (grid.cap_kw - power > NEAR_KW)
    for r, use in enumerate(grid.use):
        at = room & held[r] & (use > 0)[:, None]
        code[at & on] = len(WORDS) + r
        code[at & ~on] = len(WORDS) + len(grid.use) + r
    code[on & (grid.floor_kw > 0) & (power <= grid.floor_kw + NEAR_KW)] = KEPT
    code[on & (power >= grid.cap_kw - NEAR_KW)] = FULL
    no_cap = np.asarray(here & (grid.cap_kw <= 0))
    code[no_cap] = DWELLS
    is_small = np.array([s.max_kw < max(s.min_kw, 1e-9) for s in grid.case.sessions], dtype=bool)
    code[np.asarray(no_cap & is_small[:, None])] = SMALL
    code[here & grid.is_blocked] = BLOCKED
    code[grid.is_fixed] = WILD
    code[~here] = AWAY
    return code
