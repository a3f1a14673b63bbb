"""Which limits can bind: those that cars could pass and that no other limit keeps as well."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

TOLERANCE_KW = 1e-9
MOST_COMPARED = 100_000
"""Limits are compared with each other up to so many pairs and slots."""


def that_bind(use: Floats, room: Floats, most_kw: Floats) -> NDArray[np.int64]:
    """Return the rows of `use` (R, N) that bind, each once, the site's first.

    They are those that cars could pass, beyond `room` (R, K), if each drew `most_kw` (N, K).
    """
    if len(room) == 1:
        return np.zeros(1, dtype=np.int64)
    reached = np.any(use @ most_kw > room + TOLERANCE_KW, axis=1)
    can = np.any(use > 0, axis=1) & reached
    found: dict[bytes, int] = {}
    for row in [0, *(np.flatnonzero(can[1:]) + 1).tolist()]:
        # Three-phase cars alone make the rows of three phases the same.
        found.setdefault(use[row].tobytes() + room[row].tobytes(), row)
    rows = np.array(sorted(found.values()), dtype=np.int64)
    return rows[~_implied(use[rows], np.maximum(room[rows], 0.0))]


def _implied(use: Floats, room: Floats) -> Flags:
    """Return which rows of `use` (R, N) and `room` (R, K) another one keeps as well, (R,).

    Sides of a polygon often lie outside those of another network's, and a fuse behind a smaller
    one never blows. The first row, the site's, is never one of them.
    """
    if (room == room[:, :1]).all():
        room = room[:, :1]
    count, slots = room.shape
    if count < 2 or count * count * slots > MOST_COMPARED:
        return np.zeros(count, dtype=np.bool_)
    return _implied_of(use[:, kinds_of(use)[1]].tobytes(), room.tobytes(), count)


@lru_cache(maxsize=64)
def _implied_of(use_bytes: bytes, room_bytes: bytes, count: int) -> Flags:
    """Return the same for arrays as bytes: limits seldom change between two plans of a network."""
    use = np.frombuffer(use_bytes).reshape(count, -1)
    room = np.frombuffer(room_bytes).reshape(count, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # How many times what it takes of the other row a car takes of the one.
        times = np.where(use[:, None] > 0, use[:, None] / use[None], 0.0).max(axis=2)
        is_within = (times[:, :, None] * room[None] <= room[:, None] * (1 + 1e-12)).all(axis=2)
    earlier = np.tri(count, k=-1, dtype=np.bool_)
    implied = np.any(is_within & (earlier | ~is_within.T), axis=1)
    implied[0] = False
    implied.flags.writeable = False
    return np.asarray(implied, dtype=np.bool_)


def kinds_of(use: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each car's kind by its column of `use` (R, N), and a car of each kind."""
    number: dict[bytes, int] = {}
    columns = np.ascontiguousarray(use.T)
    if len(use) == 1:
        return np.zeros(len(columns), dtype=np.int64), np.zeros(1, dtype=np.int64)
    kind = [number.setdefault(column.tobytes(), len(number)) for column in columns]
    found = np.array(kind, dtype=np.int64)
    return found, np.unique(found, return_index=True)[1]
