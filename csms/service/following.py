"""What the cars really take, learned from their meters sample by sample.

A car that takes less than it is given (tail of the battery, a smaller charger on board, cold) is
bounded at a little above what it takes, so that the rest goes to others; it is let up again as
soon as it touches that bound. A car that takes more than its station should allow is counted at
what it takes and reported: an accepted profile is no proof (stations.md 1).
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from csms.core.model import Session, SessionState
from csms.core.session import InForce, has_left_plan
from csms.service.cases import Observed

SETTLING = timedelta(seconds=60)
"""After a change a car needs this long; nothing is learned meanwhile."""

STALE = timedelta(minutes=10)
_SAMPLES = 2
_MARGIN = 1.1
_MARGIN_KW = 0.3
_STANDBY_KW = 0.1
_LOWER = 0.9
"""A bound that falls by less than this is not worth a new plan."""


class Follower:
    """Remembers what each open session was given and what it was seen to take."""

    def __init__(self, *, tolerance_kw: float, ignoring: Callable[[Session, float], None]) -> None:
        """`ignoring` is called once for a session that is found to exceed its schedule."""
        self.observed: dict[str, Observed] = {}
        self._in_force: dict[str, InForce] = {}
        self._tolerance_kw = tolerance_kw
        self._ignoring = ignoring

    def accepted(self, session_id: str, row: InForce) -> None:
        """Take note that the station accepted a new schedule."""
        self._in_force[session_id] = row

    def remembered(self, session_id: str, row: InForce) -> None:
        """Take up a schedule that was accepted before this process began."""
        self._in_force.setdefault(session_id, row)

    def forget(self, session_id: str) -> None:
        """Drop what was learned of a session that ended."""
        self.observed.pop(session_id, None)
        self._in_force.pop(session_id, None)

    def sampled(self, session: Session, *, now: datetime) -> str:
        """Learn from a session's newest sample; return why to plan again, "" if it follows."""
        if session.state is SessionState.ENDED:
            self.forget(session.session_id)
            return ""
        row, at = self._in_force.get(session.session_id), session.sample_at
        if row is None or at is None or session.power_w is None or now - at > STALE:
            return ""
        is_settling = at - row.accepted_at < SETTLING or row.at(at) != row.at(at - SETTLING)
        return "" if is_settling else self._learn(session, row)

    def _learn(self, session: Session, row: InForce) -> str:
        assert session.power_w is not None
        power_kw = session.power_w / 1000.0
        seen = self.observed.setdefault(session.session_id, Observed())
        seen.power_kw = power_kw
        left = has_left_plan(session, row, tolerance_kw=self._tolerance_kw)
        # What a paused station takes for itself is no sign of a car that charges.
        is_above = left == "above" and power_kw > _STANDBY_KW
        seen.above = seen.above + 1 if is_above else 0
        seen.below = seen.below + 1 if left == "below" else 0
        if seen.above >= _SAMPLES and not seen.is_ignoring:
            seen.is_ignoring = True
            self._ignoring(session, power_kw)
            return "a car draws more than its schedule allows"
        if seen.is_ignoring and not seen.above:
            seen.is_ignoring = False
            return "a car keeps to its schedule again"
        if seen.below >= _SAMPLES:
            seen.below = 0
            cap_kw = power_kw * _MARGIN + _MARGIN_KW
            if seen.cap_kw is None or cap_kw < seen.cap_kw * _LOWER:
                # The least current may keep a row above the cap: that is no news each time.
                seen.cap_kw = cap_kw
                return "a car takes less than it was given"
        if seen.cap_kw is not None and power_kw > seen.cap_kw * 0.97 - 0.1:
            seen.cap_kw = None
            return "a car takes all it was given again"
        return ""
