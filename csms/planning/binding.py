"""Which limits can bind: those that cars could pass and that no other limit keeps as well."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

TOLERANCE_KW = 1e-9
MOST_COMPARED = 100_000
"""Limits are compared with each other up to so many pairs and slots."""
DIGITS = 12
"""To so many, cars that take the same parts of all rows are of one kind."""
SMALLEST = 1e-4
"""A row of which every car takes a smaller part than this is known to too few digits then."""
MANY_LIMITS = 8
"""From so many on, it is worth knowing what two of them imply together."""
RAYS = 256
MOST_WEIGHED = 2_000_000
"""Up to so many rows, pairs and kinds of cars are looked at for that."""


def that_bind(use: Floats, room: Floats, most_kw: Floats) -> NDArray[np.int64]:
    """Return the rows of `use` (R, N) that bind, each once, the site's first.

    They are those that cars could pass, beyond `room` (R, K), if each drew `most_kw` (N, K).
    """
    if len(room) == 1:
        return np.zeros(1, dtype=np.int64)
    if (room == room[:, :1]).all():
        room = room[:, :1]
    reached = np.any(use @ most_kw > room + TOLERANCE_KW, axis=1)
    can = np.any(use > 0, axis=1) & reached
    can[0] = True
    rows = np.flatnonzero(can)
    # Three-phase cars alone make the rows of three phases the same.
    rows = rows[_firsts(np.hstack([use[rows], room[rows]]))[1]]
    # A limit of the site that cars cannot reach has a row, but keeps no other.
    rest = rows if reached[0] else rows[1:]
    rest = rest[_binds(use[rest], np.maximum(room[rest], 0.0))]
    return np.concatenate([rows[:1], rest[rest > 0]])


def _binds(use: Floats, room: Floats) -> Flags:
    """Return which rows of `use` (R, N) and `room` (R, K or 1) no others keep as well, (R,).

    Sides of a polygon often lie outside those of another network's, and a fuse behind a smaller
    one never blows. Of equal ones the first is kept.
    """
    count, slots = room.shape
    if count < 2 or count * count * slots > MOST_COMPARED:
        return np.ones(count, dtype=np.bool_)
    # How much more of every row one car takes than another does not matter for what they imply.
    scale = use.max(axis=0)
    alike = np.round(use / np.where(scale > 0, scale, 1.0), DIGITS)
    if alike.max(axis=1).min() < SMALLEST:
        return np.ones(count, dtype=np.bool_)
    of_kinds = alike[:, kinds_of(alike)[1]]
    # In whichever order the cars are, the same limits are remembered.
    of_kinds = np.ascontiguousarray(of_kinds[:, np.lexsort(of_kinds)])
    return _binding_of(of_kinds.tobytes(), room.tobytes(), count)


@lru_cache(maxsize=64)
def _binding_of(use_bytes: bytes, room_bytes: bytes, count: int) -> Flags:
    """Return the same for arrays as bytes: limits seldom change between two plans of a network."""
    use = np.frombuffer(use_bytes).reshape(count, -1)
    room = np.frombuffer(room_bytes).reshape(count, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # How many times what it takes of the other row a car takes of the one.
        times = np.where(use[:, None] > 0, use[:, None] / use[None], 0.0).max(axis=2)
        is_within = (times[:, :, None] * room[None] <= room[:, None] * (1 + 1e-12)).all(axis=2)
    earlier = np.tri(count, k=-1, dtype=np.bool_)
    binds = ~np.any(is_within & (earlier | ~is_within.T), axis=1)
    if room.shape[1] == 1 and np.count_nonzero(binds) >= MANY_LIMITS:
        binds[binds] = ~_kept_by_two(use[binds], room[binds, 0])
    binds.flags.writeable = False
    return np.asarray(binds, dtype=np.bool_)


def _kept_by_two(use: Floats, room: Floats) -> Flags:
    """Return which rows of `use` (R, M) and `room` (R,) two others together keep, (R,).

    Of two circles drawn as polygons seldom one lies in the other, but many of their sides do: no
    more than a weighted mean of two other sides allows. Those two are sought among rows that are
    met first in one of RAYS directions, so all that are left out are kept by rows that are not.
    """
    can = np.flatnonzero(room > TOLERANCE_KW)
    parts = use[can] / room[can, None]
    rays = np.random.default_rng(0).random((RAYS, use.shape[1])) ** 3
    is_met = np.zeros(len(can), dtype=np.bool_)
    is_met[np.argmax(rays @ parts.T, axis=1)] = True
    met, others = parts[is_met], parts[~is_met]
    one, two = np.triu_indices(len(met), 1)
    found = np.zeros(len(room), dtype=np.bool_)
    if len(others) * len(one) * use.shape[1] > MOST_WEIGHED:
        return found
    # With which weight of the one, 0 to 1, is each part of the mean as large as the row's?
    apart, lacks = met[one] - met[two], others[:, None] - met[two]
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = lacks / apart
    least = np.where(apart > 0, weight, 0.0).max(axis=2, initial=0.0)
    most = np.where(apart < 0, weight, 1.0).min(axis=2, initial=1.0)
    is_kept = (least <= most + 1e-9) & ((apart != 0) | (lacks <= 0)).all(axis=2)
    found[can[~is_met]] = is_kept.any(axis=1)
    return found


def kinds_of(use: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each car's kind by its column of `use` (R, N), and a car of each kind."""
    if len(use) == 1:
        return np.zeros(use.shape[1], dtype=np.int64), np.zeros(1, dtype=np.int64)
    return _firsts(use.T)


def _firsts(rows: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which of the different ones of `rows` (R, M) each is, (R,), and the first of each."""
    whole = np.dtype((np.void, rows.itemsize * rows.shape[1]))
    keys = np.ascontiguousarray(rows).view(whole).ravel().tolist()
    # Of equal keys the last one said stays, so they are said from the end on.
    first = sorted(dict(zip(keys[::-1], range(len(keys) - 1, -1, -1), strict=True)).values())
    number = {keys[at]: kind for kind, at in enumerate(first)}
    kinds = np.array(list(map(number.__getitem__, keys)), dtype=np.int64)
    return kinds, np.array(first, dtype=np.int64)
