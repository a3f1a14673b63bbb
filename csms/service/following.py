"""What the cars really take, learned from their meters sample by sample.

A car that takes less than it is given (tail of the battery, a smaller charger on board, cold) is
bounded at a little above what it takes, so that the rest goes to others; it is let up again as
soon as it touches that bound. A car that takes more than its station should allow is counted at
what it takes and reported: an accepted profile is no proof (stations.md 1).
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from csms.core.model import Session, SessionState
from csms.core.plan import Plan
from csms.core.session import allowed_kw, has_left_plan
from csms.service.cases import Observed

SETTLING = timedelta(seconds=60)
"""After a change a car needs this long; nothing is learned meanwhile."""

_SAMPLES = 2
_MARGIN = 1.1
_MARGIN_KW = 0.3


class Follower:
    """Remembers what was observed of each open session."""

    def __init__(self, *, tolerance_kw: float, ignoring: Callable[[Session, float], None]) -> None:
        """`ignoring` is called once for a session that is found to exceed its schedule."""
        self.observed: dict[str, Observed] = {}
        self._tolerance_kw = tolerance_kw
        self._ignoring = ignoring
        self._changed_at: dict[str, datetime] = {}

    def schedule_changed(self, session_id: str, at: datetime) -> None:
        """Take note that the station accepted a new schedule."""
        self._changed_at[session_id] = at

    def forget(self, session_id: str) -> None:
        """Drop what was learned of a session that ended."""
        self.observed.pop(session_id, None)
        self._changed_at.pop(session_id, None)

    def sampled(self, session: Session, plan: Plan | None, *, now: datetime) -> str:
        """Learn from a session's newest sample; return why to plan again, "" if it follows."""
        if session.state is SessionState.ENDED:
            self.forget(session.session_id)
            return ""
        changed_at = self._changed_at.get(session.session_id)
        if plan is None or session.power_w is None or session.sample_at is None:
            return ""
        if changed_at is None or session.sample_at - changed_at < SETTLING:
            return ""
        if now - session.sample_at > timedelta(minutes=10):
            return ""
        if self._just_switched(session, plan):
            return ""
        return self._learn(session, plan)

    def _just_switched(self, session: Session, plan: Plan) -> bool:
        """Return whether the plan itself changed this car's power in the last minute."""
        at = session.sample_at
        assert at is not None
        return allowed_kw(plan, session.session_id, at) != allowed_kw(
            plan, session.session_id, at - SETTLING
        )

    def _learn(self, session: Session, plan: Plan) -> str:
        assert session.power_w is not None
        assert session.sample_at is not None
        power_kw = session.power_w / 1000.0
        seen = self.observed.setdefault(session.session_id, Observed())
        seen.power_kw = power_kw
        left = has_left_plan(session, plan, now=session.sample_at, tolerance_kw=self._tolerance_kw)
        seen.above = seen.above + 1 if left == "above" else 0
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
            seen.cap_kw = power_kw * _MARGIN + _MARGIN_KW
            return "a car takes less than it was given"
        if seen.cap_kw is not None and power_kw > seen.cap_kw * 0.97 - 0.1:
            seen.cap_kw = None
            return "a car takes all it was given again"
        return ""
