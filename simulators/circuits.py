"""What each phase of each fuse of a site carried: the judge of trees, as exact as the meters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from simulators.power import CurrentStep, currents
from simulators.station import EvseSpec, Segment

PHASES = {"R": "L1", "S": "L2", "T": "L3"}
SLACK_A = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCircuit:
    """A fuse as the judge knows it: a limit per phase (L1, L2, L3), and which EVSEs hang on it."""

    circuit_id: str
    parent: str = ""
    limit_a: tuple[float, ...] = ()
    evses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.limit_a) != 3 or not all(a >= 0 for a in self.limit_a):
            raise ValueError(
                f"limit_a of {self.circuit_id} must be one number, or three, from 0 on"
            )

    def carries(self, station_id: str, evse_id: int) -> bool:
        """Return whether an EVSE hangs on this very circuit."""
        names = (station_id, f"{station_id}/{evse_id}")
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.evses)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitCourse:
    """One phase of a circuit over time."""

    circuit_id: str
    phase: str
    limit_a: float
    steps: tuple[CurrentStep, ...]

    @property
    def peak_a(self) -> float:
        """The highest current."""
        return max((s.current_a for s in self.steps), default=0.0)

    @property
    def seconds_above(self) -> float:
        """For how long the current was above the limit."""
        return sum(
            (s.until - s.start_at).total_seconds()
            for s in self.steps
            if s.current_a > self.limit_a + SLACK_A
        )


def courses(
    circuits: Sequence[JudgedCircuit], drawn: Iterable[tuple[str, EvseSpec, Segment]]
) -> list[CircuitCourse]:
    """Return what each phase of each circuit carried, cars below it included.

    `drawn` are the segments of EVSEs with their stations. Raises ValueError for a circuit whose
    parent is not there.
    """
    by_id = {c.circuit_id: c for c in circuits}
    pieces = list(drawn)
    found = []
    for circuit in circuits:
        below = [c for c in circuits if circuit.circuit_id in _path(c, by_id)]
        own = [
            (spec, segment)
            for station_id, spec, segment in pieces
            if any(c.carries(station_id, spec.evse_id) for c in below)
        ]
        found += [
            CircuitCourse(
                circuit_id=circuit.circuit_id,
                phase=PHASES[letter],
                limit_a=limit_a,
                steps=tuple(currents(own, letter)),
            )
            for letter, limit_a in zip(PHASES, circuit.limit_a, strict=True)
        ]
    return found


def _path(circuit: JudgedCircuit, by_id: dict[str, JudgedCircuit]) -> list[str]:
    path = [circuit.circuit_id]
    while circuit.parent and circuit.parent not in path:
        if circuit.parent not in by_id:
            raise ValueError(f"circuit {circuit.circuit_id} hangs on {circuit.parent}, not there")
        circuit = by_id[circuit.parent]
        path.append(circuit.circuit_id)
    return path
