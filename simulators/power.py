"""Power and current of many EVSEs over time, exactly: sums of piecewise constant segments."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from simulators.station import EvseSpec, Segment

# Sums of floats differ in the last digits; a milliwatt is nobody's violation.
SLACK_W = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The whole site draws `power_w` over [start_at, until)."""

    start_at: datetime
    until: datetime
    power_w: float

    @property
    def seconds(self) -> float:
        """How long the step lasts."""
        return (self.until - self.start_at).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentStep:
    """A phase carries `current_a` over [start_at, until)."""

    start_at: datetime
    until: datetime
    current_a: float


def steps(segments: Iterable[Segment]) -> list[Step]:
    """Return the sum of all segments as steps in order of time."""
    return [
        Step(start_at=start, until=end, power_w=value)
        for start, end, value in _sums((s.start_at, s.until, s.power_w) for s in segments)
    ]


def currents(drawn: Iterable[tuple[EvseSpec, Segment]], phase: str) -> list[CurrentStep]:
    """Return what EVSEs draw from one of the site's phases, R, S or T, in order of time.

    A vehicle on fewer phases than its EVSE has draws from the first ones. The harmonics and the
    angles between vehicles are left out: all count as resistive.
    """
    on_it = (
        (s.start_at, s.until, s.current_a)
        for spec, s in drawn
        if phase in spec.rotation[: s.phases]
    )
    return [CurrentStep(start_at=a, until=b, current_a=value) for a, b, value in _sums(on_it)]


def _sums(
    pieces: Iterable[tuple[datetime, datetime, float]],
) -> Iterator[tuple[datetime, datetime, float]]:
    deltas: dict[datetime, list[float]] = defaultdict(list)
    for start, until, value in pieces:
        deltas[start].append(value)
        deltas[until].append(-value)
    total, last = 0.0, None
    for at in sorted(deltas):
        if last is not None:
            yield last, at, max(total, 0.0)
        total += sum(deltas[at])
        last = at


def peak_w(course: Sequence[Step]) -> float:
    """Return the highest power, 0 without any."""
    return max((s.power_w for s in course), default=0.0)


def energy_wh(course: Sequence[Step]) -> float:
    """Return the energy under the course."""
    return sum(s.power_w * s.seconds for s in course) / 3600


def seconds_above(course: Sequence[Step], limit_w: float) -> float:
    """Return for how long the power was above `limit_w`."""
    return sum(s.seconds for s in course if s.power_w > limit_w + SLACK_W)


def times_above(course: Sequence[Step], limit_w: float) -> list[Step]:
    """Return when the power was above `limit_w`, adjoining steps joined at their highest."""
    found: list[Step] = []
    for step in course:
        if step.power_w <= limit_w + SLACK_W:
            continue
        if found and found[-1].until == step.start_at:
            last = found.pop()
            step = Step(
                start_at=last.start_at, until=step.until, power_w=max(last.power_w, step.power_w)
            )
        found.append(step)
    return found
