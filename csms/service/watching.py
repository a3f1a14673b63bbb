"""What stations show of their dialect by what they do, where they answered nothing amiss.

Each function runs in the transaction of the loop that saw it happen (csms.service.replanner), and
what it finds counts for the next plan.
"""

from datetime import datetime, timedelta

from csms.core.commands import TX_PROFILE, ClearSchedule, Outcome
from csms.core.dialect import OPERATOR, Lesson, winners
from csms.core.model import Session
from csms.planning.cascade import following, purpose
from csms.service.dialects import learn, settle
from csms.service.outside import limit_at
from csms.store import dialects, plans, sessions, stations
from csms.store.plans import InstalledSchedule
from csms.store.statements import Tx

_BY_ITSELF = ("", "Other")
"""Stop reasons that name neither a person nor a command."""
_WATCHED = "watched since "
"""What the meter has still to confirm starts its reason with this."""
_AT_ONCE = timedelta(seconds=60)
_CLOCKS = timedelta(seconds=5)
_MAY_BE_IN_FORCE = (Outcome.ACCEPTED, Outcome.SENT)


def ignored(tx: Tx, session: Session, *, at: datetime) -> str:
    """Try the next purpose where a station accepted a profile and let its car exceed it.

    Once none is left what was tried is dropped: such a station obeys nothing. Return the station
    whose guards are to go out anew, "" for none.
    """
    station = stations.find_station(tx, session.station_id)
    newest = _newest(tx, session)
    if station is None or newest is None or newest.outcome is not Outcome.ACCEPTED:
        return ""
    item = winners(dialects.items_for(tx, station), station).get("cascade")
    evses = len(stations.evses_of_station(tx, station.station_id))
    is_judged = newest.schedule.purpose == purpose(station.limits.cascade, evses=evses)
    if not is_judged or (item is not None and item.source == OPERATOR):
        return ""
    after = following(station.limits.cascade, evses=evses)
    if after:
        why = f"{_WATCHED}{newest.schedule.purpose} was accepted and not obeyed"
        lesson = Lesson(name="cascade", value=after, why=why, is_of_model=False)
        learn(tx, station.station_id, [lesson], at=at)
        return station.station_id
    if item is not None and item.why.startswith(_WATCHED):
        dialects.drop_item(
            tx, item.name, item.source, station_id=item.station_id, firmware=item.firmware
        )
        dialects.resolve(tx, station)
        return station.station_id
    return ""


def obeyed(tx: Tx, session: Session, *, at: datetime) -> None:
    """Keep the purpose under which a car came down to its schedule, for all of the model."""
    station, newest = stations.find_station(tx, session.station_id), _newest(tx, session)
    if station is None or newest is None:
        return
    item = winners(dialects.items_for(tx, station), station).get("cascade")
    if item is None or not item.why.startswith(_WATCHED):
        return
    why = f"a car keeps to its schedule as {newest.schedule.purpose}"
    settle(tx, station, Lesson(name="cascade", value=item.value, why=why), at=at)


def left_behind(tx: Tx, session: Session) -> ClearSchedule | None:
    """Return what takes a plan away that outlives its session, None where nothing does.

    A TxProfile ends with its transaction; under another purpose it would bind the next car.
    """
    newest = _newest(tx, session)
    if newest is None or newest.schedule.purpose == TX_PROFILE:
        return None
    after = sessions.open_session_on_evse(tx, session.station_id, session.evse_id)
    if after is not None and _newest(tx, after) is not None:
        # Its own plan has taken the place of this one.
        return None
    return ClearSchedule(
        station_id=session.station_id, profile_id=newest.profile_id, evse_id=session.evse_id
    )


def _newest(tx: Tx, session: Session) -> InstalledSchedule | None:
    return next(iter(plans.list_installed(tx, session.session_id, limit=1)), None)


def ended(tx: Tx, session: Session, *, at: datetime) -> bool:
    """Learn that a station ends a session at a limit of 0; return whether that is new.

    It did if the session ended by itself within a minute of such a limit.
    """
    if session.ended_at is None or session.stop_reason not in _BY_ITSELF:
        return False
    newest = _newest(tx, session)
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
