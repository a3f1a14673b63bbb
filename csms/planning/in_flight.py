"""What every limit of a site carries while schedules are on their way to the stations.

Until a station has answered, the old or the new schedule may be in force, so a car counts with the
larger of both. What is raised must fit beside what all others may still draw, on every limit.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from csms.core.plan import PlanningCase
from csms.planning.grid import Flags, Floats
from csms.planning.limits import limits_of

TOLERANCE_KW = 1e-6

Row = tuple[float, ...]


class InFlight:
    """The loads of one case's limits, by what each car may draw."""

    def __init__(self, case: PlanningCase, in_force_kw: Mapping[str, Row]) -> None:
        """`in_force_kw` holds the most each session of `case` may draw per slot, (slots,)."""
        limit, base = np.array(case.limit_kw), np.array(case.base_load_kw)
        limits = limits_of(case, limit, base, [])
        self._use = limits.use
        self._index = {s.session_id: i for i, s in enumerate(case.sessions)}
        rows = np.array([in_force_kw[s.session_id] for s in case.sessions]).reshape(
            len(case.sessions), case.slots
        )
        left = limits.left(rows)
        # A load that is no number leaves nothing that can be counted on.
        self._free = np.where(np.isnan(left), 0.0, left)

    def fits(self, session_id: str, more_kw: Sequence[float], rises: Sequence[bool]) -> bool:
        """Return whether a car may draw `more_kw` than is counted for it, per slot.

        Where it draws no more and does not rise, a limit that is passed already is no reason.
        """
        more = np.array(more_kw)
        counts = (more > TOLERANCE_KW) | np.array(rises, dtype=np.bool_)
        return bool((self._left(session_id, more) | ~counts).all())

    def is_within(self, session_id: str) -> tuple[bool, ...]:
        """Return in which slots the limits of a car are kept as it is."""
        return tuple(self._left(session_id, np.zeros(self._free.shape[1])).tolist())

    def free_kw(self, session_id: str) -> Row:
        """Return how much more a car may draw per slot, at least 0."""
        use = self._use[:, self._index[session_id]]
        rows = use > 0
        free = (self._free[rows] / use[rows, None]).min(axis=0)
        return tuple(np.maximum(free, 0.0).tolist())

    def add(self, session_id: str, more_kw: Sequence[float]) -> None:
        """Count `more_kw` for a car."""
        use = self._use[:, self._index[session_id]]
        self._free -= use[:, None] * np.maximum(np.array(more_kw), 0.0)

    def _left(self, session_id: str, more: Floats) -> Flags:
        """Return in which slots all limits of a car hold with `more` of it, (K,)."""
        use = self._use[:, self._index[session_id], None]
        holds = (self._free - use * more >= -TOLERANCE_KW * np.maximum(use, 1.0)) | (use <= 0)
        return np.asarray(holds.all(axis=0), dtype=np.bool_)
