"""Which limits can bind: those that cars could pass and that no other limit keeps as well."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from csms.planning.simplex import needed

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

TOLERANCE_KW = 1e-9
MOST_COMPARED = 100_000
"""Limits are compared with each other up to so many pairs and slots."""
DIGITS = 12
"""To so many, cars that take the same parts of all rows are of one kind."""
MANY_LIMITS = 8
"""From so many on, it is worth knowing what several of them imply together."""


def that_bind(
    use: Floats, room: Floats, most_kw: Floats, *, is_lasting: bool = False
) -> NDArray[np.int64]:
    """Return the rows of `use` (R, N) that bind, each once, the site's first.

    They are those that cars could pass, beyond `room` (R, K), if each drew `most_kw` (N, K). With
    `is_lasting` the room is the same at the next plan, so that it pays to look more closely.
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
    rest = rest[_binds(use[rest], np.maximum(room[rest], 0.0), is_lasting=is_lasting)]
    return np.concatenate([rows[:1], rest[rest > 0]])


def _binds(use: Floats, room: Floats, *, is_lasting: bool) -> Flags:
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
    of_kinds = alike[:, kinds_of(alike)[1]]
    # In whichever order the cars are, the same limits are remembered.
    of_kinds = np.ascontiguousarray(of_kinds[:, np.lexsort(of_kinds)])
    is_close = is_lasting and slots == 1 and count >= MANY_LIMITS
    return _binding_of(of_kinds.tobytes(), room.tobytes(), count, is_close)


@lru_cache(maxsize=64)
def _binding_of(use_bytes: bytes, room_bytes: bytes, count: int, is_close: bool) -> Flags:
    """Return the same for arrays as bytes: limits seldom change between two plans of a network.

    With `is_close` what several rows imply together is found as well, by some 10 ms of a solver:
    of two circles drawn as polygons seldom one lies in the other, but many of their sides do.
    """
    use = np.frombuffer(use_bytes).reshape(count, -1)
    room = np.frombuffer(room_bytes).reshape(count, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # How many times what it takes of the other row a car takes of the one.
        times = np.where(use[:, None] > 0, use[:, None] / use[None], 0.0).max(axis=2)
        is_within = (times[:, :, None] * room[None] <= room[:, None] * (1 + 1e-12)).all(axis=2)
    earlier = np.tri(count, k=-1, dtype=np.bool_)
    binds = ~np.any(is_within & (earlier | ~is_within.T), axis=1)
    if is_close:
        binds[binds] = needed(use[binds], room[binds, 0])
    binds.flags.writeable = False
    return np.asarray(binds, dtype=np.bool_)


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
