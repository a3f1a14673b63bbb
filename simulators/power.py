"""The power of many EVSEs over time, exactly: sums of piecewise constant segments."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from simulators.station import Segment

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


def steps(segments: Iterable[Segment]) -> list[Step]:
    """Return the sum of all segments as steps in order of time."""
    deltas: dict[datetime, list[float]] = defaultdict(list)
    for segment in segments:
        deltas[segment.start_at].append(segment.power_w)
        deltas[segment.until].append(-segment.power_w)
    found: list[Step] = []
    power_w, last = 0.0, None
    for at in sorted(deltas):
        if last is not None:
            found.append(Step(start_at=last, until=at, power_w=max(power_w, 0.0)))
        power_w += sum(deltas[at])
        last = at
    return found


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
