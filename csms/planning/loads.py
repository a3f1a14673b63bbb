"""What every limit of a case carries under given rows, in plain numbers for people to see."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csms.core.plan import PlanningCase
from csms.planning.limits import limits_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLoad:
    """One limit, "kW" or a phase of `circuit_id` ("": the site); series are (slots,).

    `source` says whose limit it is, `most` is the limit, `load` what nobody controls, `taken` what
    the cars take of it.
    """

    circuit_id: str
    limit: str
    source: tuple[str, ...]
    most: tuple[float, ...]
    load: tuple[float, ...]
    taken: tuple[float, ...]

    @property
    def unit(self) -> str:
        """The unit of its numbers."""
        return "kW" if self.limit == "kW" else "A"

    @property
    def worst_slot(self) -> int:
        """The slot in which least is left, or most is missing."""
        left = [m - a - b for m, a, b in zip(self.most, self.load, self.taken, strict=True)]
        return left.index(min(left))


def loads_of(case: PlanningCase, power_kw: Sequence[Sequence[float]]) -> tuple[LimitLoad, ...]:
    """Return every limit of `case` with its cars at `power_kw`, a row of (slots,) per session."""
    limits = limits_of(case, np.array(case.limit_kw), np.array(case.base_load_kw), [])
    rows = np.array(power_kw, dtype=np.float64).reshape(len(case.sessions), case.slots)
    taken = limits.use @ rows
    return tuple(
        LimitLoad(
            circuit_id=limits.circuit[r],
            limit=limits.name[r],
            source=tuple(limits.source_at(r, k) for k in range(case.slots)),
            most=tuple(limits.limit[r].tolist()),
            load=tuple(limits.load[r].tolist()),
            taken=tuple(taken[r].tolist()),
        )
        for r in range(len(limits.name))
    )
