"""What stations show of their dialect by what they do, where they answered nothing amiss.

Each function runs in the transaction of the loop that saw it happen (csms.service.replanner), and
what it finds counts for the next plan.
"""

from datetime import datetime, timedelta

from csms.core.commands import Outcome
from csms.core.dialect import Lesson
from csms.core.model import Session
from csms.service.dialects import learn
from csms.service.outside import limit_at
from csms.store import plans
from csms.store.statements import Tx

_BY_ITSELF = ("", "Other")
"""Stop reasons that name neither a person nor a command."""
_AT_ONCE = timedelta(seconds=60)
_CLOCKS = timedelta(seconds=5)
_MAY_BE_IN_FORCE = (Outcome.ACCEPTED, Outcome.SENT)


def ended(tx: Tx, session: Session, *, at: datetime) -> bool:
    """Learn that a station ends a session at a limit of 0; return whether that is new.

    It did if the session ended by itself within a minute of such a limit.
    """
    if session.ended_at is None or session.stop_reason not in _BY_ITSELF:
        return False
    newest = next(iter(plans.list_installed(tx, session.session_id, limit=1)), None)
    if newest is None or newest.outcome not in _MAY_BE_IN_FORCE:
        return False
    schedule, ended_at = newest.schedule, session.ended_at
    # Its clock may be a little behind ours.
    period = limit_at(schedule, max(ended_at, newest.sent_at) + _CLOCKS)
    if period is None or period.limit > 0:
        return False
    began_at = max(schedule.starts_at + timedelta(seconds=period.start_s), newest.sent_at)
    if not began_at - _CLOCKS <= ended_at <= began_at + _AT_ONCE:
        return False
    why = (
        f"a session ended {max((ended_at - began_at).total_seconds(), 0):.0f} s after a limit of 0"
    )
    lesson = Lesson(name="zero", value="ends_session", why=why)
    return learn(tx, session.station_id, [lesson], at=at)
