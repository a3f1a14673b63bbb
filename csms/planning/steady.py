"""Rows that stations follow already are kept where a new plan is hardly better.

An optimum has many equals: each new plan would swap cars between slots of one price, and each
swap is a message to a station and a step in current for a car. A row in force stays if it gives
the same energy at the same cost and fits beside the new rows of the others.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from csms.planning.grid import Floats, Grid

SLACK_KWH_PER_H = 0.25
MOST_SLACK_KWH = 0.4
"""Energy a kept row may miss for now: the sooner a car leaves, the less; none in the last quarter
of an hour. The plans to come make it up."""
EXTRA_KWH = 0.15
RESERVE_KWH = 1.0
"""Headroom for arrivals that kept rows may take beyond what new ones would."""
COST_EUR = 0.01
COST_SHARE = 0.01
SAME_EUR = 0.01
"""Plans whose weights differ by less are the same plan to everybody but the stations."""
_TOLERANCE_KW = 1e-6

Flags = NDArray[np.bool_]


def steadied(grid: Grid, power_kw: Floats) -> Floats:
    """Return `power_kw` (N, K) with rows in force instead of new ones where that costs nothing.

    As many are kept as fit beside the other cars' new ones.
    """
    if not any(session.in_force_kw for session in grid.case.sessions):
        return power_kw
    old = _in_force(grid, power_kw)
    kept = _may_stay(grid, old) & _as_good(grid, old, power_kw)
    if not kept.any():
        return power_kw
    both = np.where(kept[:, None], old, power_kw)
    return both if _is_within(grid, both, power_kw) else _fewer(grid, old, power_kw, kept)


def unless_in_force(grid: Grid, new: Floats, *, weighs: Callable[[Floats], float]) -> Floats:
    """Return the rows in force (N, K) if all of them may stay and weigh no more, else `new`.

    What is given up by keeping cars one by one shows only in the whole.
    """
    if not any(session.in_force_kw for session in grid.case.sessions):
        return new
    old = _in_force(grid, new)
    if (old == new).all() or not (_may_stay(grid, old) | grid.is_fixed).all():
        return new
    is_as_good = _is_within(grid, old, new) and weighs(old) <= weighs(new) + SAME_EUR
    return old if is_as_good else new


def _in_force(grid: Grid, new: Floats) -> Floats:
    """Return the rows that stations follow, those of `new` where there are none, (N, K)."""
    old = new.copy()
    for i, session in enumerate(grid.case.sessions):
        known = session.in_force_kw[: grid.shape[1]]
        old[i, : len(known)] = known
    return old


def _sums(grid: Grid, power_kw: Floats) -> Floats:
    """Return what rows take of what all share: of the limits, and of the peak where that counts.

    One column per limit and slot, (N, R * K) or with the peak (N, R * K + K).
    """
    shared = grid.shared_kw(power_kw)
    taken = np.hstack([use[:, None] * shared for use in grid.use])
    return np.hstack([taken, power_kw]) if grid.demand_weight > 0 else taken


def _most(grid: Grid, power_kw: Floats) -> Floats:
    """Return what all rows together may take: what is free in a slot, or what `power_kw` takes."""
    most = np.maximum(grid.careful_room(), grid.taken(power_kw)).ravel()
    if not grid.demand_weight > 0:
        return most
    return np.concatenate([most, _peak(grid, power_kw) - grid.base_kw])


def _peak(grid: Grid, power_kw: Floats) -> float:
    return max(grid.first_peak_kw, float((power_kw.sum(axis=0) + grid.base_kw).max()))


def _is_within(grid: Grid, power_kw: Floats, new: Floats) -> bool:
    """Return whether rows keep the limits, and of headroom and peak what `new` keeps of them."""
    total, instead = grid.taken(power_kw), grid.taken(new)
    if float((total - grid.room).max()) > _TOLERANCE_KW:
        return False
    free = grid.room[0] - grid.reserved_kw
    used = float((np.maximum(total[0] - free, 0.0) * grid.hours).sum())
    if used > float((np.maximum(instead[0] - free, 0.0) * grid.hours).sum()) + RESERVE_KWH:
        return False
    if not grid.demand_weight > 0:
        return True
    load = power_kw.sum(axis=0) + grid.base_kw
    return bool((load <= _peak(grid, new) + _TOLERANCE_KW).all())


def _fewer(grid: Grid, old: Floats, new: Floats, kept: Flags) -> Floats:
    """Return rows of which as many are old as fit beside the others' new ones."""
    kept, has = kept.copy(), _sums(grid, new)
    more = _sums(grid, old) - has
    over = has.sum(axis=0) + more[kept].sum(axis=0) - _most(grid, new)
    dropped = []
    while float(over.max()) > _TOLERANCE_KW:
        k = int(np.argmax(over))
        i = int(np.argmax(np.where(kept, more[:, k], -np.inf)))
        if not kept[i] or more[i, k] <= 0:
            return new
        kept[i] = False
        over -= more[i]
        dropped.append(i)
    for i in dropped:
        if float((over + more[i]).max()) <= _TOLERANCE_KW:
            kept[i] = True
            over += more[i]
    return np.where(kept[:, None], old, new)


def _may_stay(grid: Grid, old: Floats) -> Flags:
    """Return which cars have a row in force that a plan may hold, (N,)."""
    has_row = np.array([bool(s.in_force_kw) for s in grid.case.sessions], dtype=np.bool_)
    is_legal = np.isfinite(old) & (old >= 0) & (old <= grid.cap_kw + _TOLERANCE_KW)
    is_legal &= (old == 0) | (old >= grid.least_kw[:, None] - _TOLERANCE_KW)
    is_legal &= old >= grid.floor_kw - _TOLERANCE_KW
    return np.asarray(has_row & ~grid.is_fixed & is_legal.all(axis=1), dtype=np.bool_)


def _as_good(grid: Grid, old: Floats, new: Floats) -> Flags:
    """Return which cars are served by their `old` row as well as by their `new` one, (N,)."""
    gives, wants = (old * grid.inside_h).sum(axis=1), (new * grid.inside_h).sum(axis=1)
    left_h = grid.inside_h.sum(axis=1)
    slack = np.clip(SLACK_KWH_PER_H * (left_h - 0.25), 0.0, MOST_SLACK_KWH) + 1e-6
    costs = (old * grid.inside_h * grid.cost).sum(axis=1)
    would = (new * grid.inside_h * grid.cost).sum(axis=1)
    dearer = costs - would - (gives - wants) * would / np.maximum(wants, 1e-9)
    return np.asarray(
        (gives >= wants - slack)
        & (gives <= wants + EXTRA_KWH)
        & (dearer <= COST_EUR + COST_SHARE * np.abs(would)),
        dtype=np.bool_,
    )
