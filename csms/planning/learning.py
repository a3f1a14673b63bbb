"""What a car is learned to do from its meter, sample by sample; no I/O, no clock.

A car that takes less than it is given is bounded at a little above what it takes, so that the
rest goes to others; it is let up again as soon as it touches that bound. A car that takes more
than its station should allow is counted at its worst: an accepted profile is no proof
(stations.md 1). A car that stays asleep after a pause is woken, and remembered.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from csms.core.session import agrees

SETTLING = timedelta(seconds=60)
"""After a change a car needs this long; nothing is learned meanwhile."""
STALE = timedelta(minutes=10)
"""A sample older than this says nothing about now."""

SAMPLES = 2
"""So many samples in a row make a fact."""
MARGIN_SHARE = 0.1
MARGIN_A = 1.0
STANDBY_KW = 0.1
"""What a paused station takes for itself is no sign of a car that charges."""
LOWER = 0.8
"""A bound that falls by less than this is not worth a new plan."""
MOST_ATTEMPTS = 6
ATTEMPTS_AT_LEAST = 3
"""So many attempts to wake a car are made at its least current; the others at what is planned."""
IGNORES = "a car draws more than its schedule allows"
STILL_IGNORES = "a car draws more than its newest schedule allows, too"
KEEPS_AGAIN = "a car keeps to its schedule again"
_ACTIVE_A = 1.0
_LEAST_KW = 1.0


@dataclass(slots=True)
class Observed:
    """What one car was seen to do.

    `cap_kw` is what it takes at most now (None: whatever it is given). `is_ignoring` says that it
    draws more than its schedule allows, `power_kw` being what it draws. `phases` is how many it
    charges on, None while unseen; `min_current_a` the least it was seen to need where that is more
    than 6 A; `never_pause` marks one that did not wake up by itself. `wake_due` asks for the
    schedule to be sent again, to wake it.
    """

    cap_kw: float | None = None
    is_ignoring: bool = False
    power_kw: float = 0.0
    below: int = 0
    above: int = 0
    phases: int | None = None
    phases_alike: int = 0
    min_current_a: float | None = None
    max_current_a: float = 0.0
    never_pause: bool = False
    wake_attempts: int = 0
    wake_due: bool = False
    is_asleep: bool = False
    has_drawn: bool = False
    was_paused: bool = False
    dead_a: float = 0.0
    resumed_at: datetime | None = None
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One sample: total power, and per phase the currents that the meter told."""

    at: datetime
    power_kw: float
    current_a: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a car was allowed when it was read: `power_kw` over `phases`, settled or not.

    `left` is how the reading differs from it: "above", "below" or "". `is_whole` says that it held
    for the whole time since the reading before: a meter may tell what was drawn before a change.
    """

    power_kw: float
    phases: int
    voltage_v: float
    is_settled: bool
    left: str
    is_whole: bool = True

    @property
    def current_a(self) -> float:
        """The current per phase."""
        return self.power_kw * 1000.0 / (self.phases * self.voltage_v)


def learn(seen: Observed, read: Reading, given: Given) -> str:
    """Take a reading into `seen`; return why the site should be planned again, "" if it need not.

    Nothing is learned within a minute of a change, nor while the pilot is off.
    """
    seen.seen_at = read.at
    seen.power_kw = read.power_kw
    draws = read.power_kw > STANDBY_KW
    if draws:
        seen.max_current_a = max(seen.max_current_a, current_of(read, given))
    if given.power_kw <= 0.0:
        return _paused(seen, read, given)
    if not given.is_settled:
        return ""
    if draws:
        why = _awake(seen, read, given) or _phases(seen, read, given)
        seen.has_drawn = True
        if why:
            return why
    elif _sleeps(seen, given):
        _above(seen, given)
        return _to_wake(seen, read, given)
    return _bounds(seen, read, given)


def current_of(read: Reading, given: Given) -> float:
    """Return the current per phase of a reading: the largest that was told, else from power."""
    if agrees(read.current_a, read.power_kw, voltage_v=given.voltage_v):
        return max(read.current_a)
    phases = given.phases
    return read.power_kw * 1000.0 / (phases * given.voltage_v)


def phases_of(read: Reading, voltage_v: float) -> int | None:
    """Return how many phases a reading shows a car to charge on, None where it does not show."""
    if read.power_kw < _LEAST_KW or not read.current_a:
        return None
    if len(read.current_a) > 1:
        if not agrees(read.current_a, read.power_kw, voltage_v=voltage_v):
            return None
        return min(sum(1 for a in read.current_a if a > _ACTIVE_A), 3) or None
    if read.current_a[0] <= _ACTIVE_A:
        return None
    # One current alone may be that of each of three phases: power tells.
    return min(max(round(read.power_kw * 1000.0 / (read.current_a[0] * voltage_v)), 1), 3)


def bound_kw(read: Reading, given: Given, *, phases: int) -> float:
    """Return what a car is bounded at: its current, and an ampere or a tenth of it more, whole."""
    current_a = read.power_kw * 1000.0 / (phases * given.voltage_v)
    bound_a = ceil(current_a + max(MARGIN_A, MARGIN_SHARE * current_a) - 1e-6)
    return bound_a * phases * given.voltage_v / 1000.0


def touches(seen: Observed, read: Reading, given: Given, *, phases: int) -> bool:
    """Return whether a car that is bounded has come up to its bound."""
    if seen.cap_kw is None:
        return False
    per_a = phases * given.voltage_v / 1000.0
    margin_kw = max(MARGIN_A * per_a, MARGIN_SHARE * seen.cap_kw)
    return read.power_kw >= seen.cap_kw - 0.3 * margin_kw


def _paused(seen: Observed, read: Reading, given: Given) -> str:
    seen.below = 0
    if seen.has_drawn:
        seen.was_paused, seen.resumed_at = True, None
    if read.power_kw > STANDBY_KW and given.is_settled:
        return _above(seen, given)
    if seen.is_ignoring and given.is_settled:
        seen.is_ignoring, seen.above = False, 0
        return KEEPS_AGAIN
    return ""


def _above(seen: Observed, given: Given) -> str:
    is_above = given.left == "above"
    if seen.is_ignoring and not is_above:
        seen.is_ignoring, seen.above = False, 0
        return KEEPS_AGAIN
    seen.above = seen.above + 1 if is_above and given.is_whole else 0
    if seen.above >= SAMPLES and not seen.is_ignoring:
        seen.is_ignoring = True
        return IGNORES
    if seen.above == SAMPLES:
        return STILL_IGNORES
    return ""


def _bounds(seen: Observed, read: Reading, given: Given) -> str:
    why = _above(seen, given)
    if why:
        return why
    phases = seen.phases or given.phases
    seen.below = seen.below + 1 if given.left == "below" else 0
    if seen.below >= SAMPLES:
        seen.below = 0
        cap_kw = bound_kw(read, given, phases=phases)
        if seen.cap_kw is None or cap_kw < seen.cap_kw * LOWER:
            # The least current may keep a row above the cap: that is no news each time.
            seen.cap_kw = cap_kw
            return "a car takes less than it was given"
    if touches(seen, read, given, phases=phases):
        seen.cap_kw = None
        return "a car takes all it was given again"
    return ""


def _phases(seen: Observed, read: Reading, given: Given) -> str:
    found = phases_of(read, given.voltage_v)
    if found is None or found == seen.phases:
        seen.phases_alike = 0
        return ""
    seen.phases_alike += 1
    if seen.phases_alike < SAMPLES:
        return ""
    seen.phases, seen.phases_alike = found, 0
    return f"a car charges on {found} of its phases" if found != given.phases else ""


def _sleeps(seen: Observed, given: Given) -> bool:
    """Return whether a car that was paused, and charged before, takes nothing now."""
    seen.dead_a = max(seen.dead_a, given.current_a)
    return seen.was_paused and seen.wake_attempts < MOST_ATTEMPTS


def _to_wake(seen: Observed, read: Reading, given: Given) -> str:
    seen.is_asleep = True
    seen.resumed_at = seen.resumed_at or read.at
    seen.wake_attempts += 1
    seen.wake_due = True
    phases = seen.phases or given.phases
    # What it does not take goes to others meanwhile.
    is_at_least = seen.wake_attempts <= ATTEMPTS_AT_LEAST
    seen.cap_kw = 6.0 * phases * given.voltage_v / 1000.0 if is_at_least else None
    return "a car stays asleep after a pause"


def _awake(seen: Observed, read: Reading, given: Given) -> str:
    """Take note that a car draws; one that had to be woken is not paused again."""
    seen.was_paused = False
    if not seen.is_asleep:
        seen.dead_a = 0.0
        return ""
    if given.current_a > seen.dead_a + 0.5 and seen.dead_a >= 6.0:
        # It did not sleep: what it was offered was less than it can charge with.
        seen.min_current_a = min(given.current_a, 32.0)
    else:
        seen.never_pause = True
    seen.is_asleep, seen.wake_due, seen.wake_attempts = False, False, 0
    seen.cap_kw, seen.dead_a = None, 0.0
    return "a car woke up"
