"""What stations show of their dialect by what they do, where they answered nothing amiss.

Each function runs in the transaction of the loop that saw it happen (csms.service.replanner), and
what it finds counts for the next plan.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, floor

from csms.core.commands import TX_PROFILE, ClearSchedule, Outcome
from csms.core.dialect import OPERATOR, DialectItem, Lesson, winners
from csms.core.model import Session, Station
from csms.core.units import w_from_a
from csms.planning.cascade import following, purpose
from csms.service.dialects import learn, settle
from csms.service.following import Allowed, Sights
from csms.service.outside import EXTERNAL, limit_at
from csms.store import dialects, plans, reported, sessions, stations
from csms.store.plans import InstalledSchedule
from csms.store.statements import Tx

_BY_ITSELF = ("", "Other")
"""Stop reasons that name neither a person nor a command."""
_WATCHED = "watched since "
"""What the meter has still to confirm starts its reason with this."""
_SUSPENDED = "SuspendedEVSE"
_MORE = 1.25
"""Where a station gives nothing, so much more is tried."""
_SURELY = 0.85
"""Of what was tried this much at least is more than what nothing was given at."""
_MOST_A = 10.0
"""No station is known to need more than this per phase before it gives anything."""
_OVER = 1.02
_TOLERANCE_W = 50.0
_AT_ONCE = timedelta(seconds=60)
_CLOCKS = timedelta(seconds=5)
_MAY_BE_IN_FORCE = (Outcome.ACCEPTED, Outcome.SENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What follows from what was seen: stations whose guards are to go out anew, and sessions
    whose cars were not to blame."""

    guarded_anew: tuple[str, ...]
    excused: tuple[Session, ...]


def learned(tx: Tx, seen: Sights, *, at: datetime) -> Learned:
    """Keep what was seen of stations."""
    for session, allowed in seen.idle:
        idle(tx, session, allowed, at=at)
    excused = [s for s, allowed in seen.served if served(tx, s, allowed, at=at)]
    for session in seen.unscheduled:
        unscheduled(tx, session, at=at)
    for session in seen.obeyed:
        obeyed(tx, session, at=at)
    anew = [ignored(tx, session, at=at) for session in seen.ignored]
    return Learned(guarded_anew=tuple(s for s in anew if s), excused=tuple(excused))


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
    return station.station_id if _let_go(tx, station, item) else ""


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


def idle(tx: Tx, session: Session, allowed: Allowed, *, at: datetime) -> bool:
    """Learn why a station gives a car nothing though it may; return whether something is new.

    Its own word is needed that it, and not the car, holds back (SuspendedEVSE), and that nobody
    else limits it. After a pause it may have gone to sleep; else what it may give is too little
    for it. Either is tried on this station until the car charges.
    """
    station = stations.find_station(tx, session.station_id)
    if station is None or not _holds_back(tx, session) or _others_limit(tx, station.station_id):
        return False
    name = "zero" if allowed.after_pause else "least_w"
    item = winners(dialects.items_for(tx, station), station).get(name)
    if item is not None and not item.why.startswith(_WATCHED):
        # Known for certain, or an operator's word.
        return False
    if allowed.after_pause:
        why = f"{_WATCHED}it gave nothing again after a limit of 0"
        lesson = Lesson(name=name, value="sleeps", why=why, is_of_model=False)
        return learn(tx, station.station_id, [lesson], at=at)
    allowed_w = allowed.power_kw * 1000.0
    more_w = float(ceil(allowed_w * _MORE))
    if more_w > w_from_a(_MOST_A, phases=allowed.phases, voltage_v=allowed.voltage_v):
        # No station needs so much: whatever holds the car back is something else.
        return _let_go(tx, station, item)
    why = f"{_WATCHED}it gave nothing at {allowed_w:.0f} W"
    lesson = Lesson(name=name, value=more_w, why=why, is_of_model=False)
    return learn(tx, station.station_id, [lesson], at=at)


def served(tx: Tx, session: Session, allowed: Allowed, *, at: datetime) -> bool:
    """Keep for its model what was watched on a station, now that the car charges again.

    Return whether it was the station, and not the car, that took nothing.
    """
    station = stations.find_station(tx, session.station_id)
    if station is None:
        return False
    items = winners(dialects.items_for(tx, station), station)
    zero, least = items.get("zero"), items.get("least_w")
    gives_w = floor(allowed.power_kw * 1000.0)
    if zero is not None and zero.value == "sleeps":
        if zero.why.startswith(_WATCHED) and allowed.needs_more:
            # It was awake: what it might give was too little for it.
            _let_go(tx, station, zero)
            why = f"it gives from {gives_w} W on, and nothing below"
            settle(tx, station, Lesson(name="least_w", value=float(gives_w), why=why), at=at)
        elif zero.why.startswith(_WATCHED):
            why = "after a limit of 0 it gave nothing until its schedule was sent again"
            settle(tx, station, Lesson(name="zero", value="sleeps", why=why), at=at)
        return True
    if least is not None and least.why.startswith(_WATCHED):
        tried_w = float(str(least.value))
        if gives_w < _SURELY * tried_w:
            return False
        # Amperes are told rounded down, so it may have been given a little less than was tried.
        least_w = min(tried_w, float(gives_w))
        why = f"it gives from {least_w:g} W on, and nothing below"
        settle(tx, station, Lesson(name="least_w", value=least_w, why=why), at=at)
        return True
    return False


def unscheduled(tx: Tx, session: Session, *, at: datetime) -> bool:
    """Learn that a station takes guards and obeys none; return whether that is new.

    A car that had no schedule of ours yet draws what its guard allows, or the guard is without
    effect there.
    """
    station = stations.find_station(tx, session.station_id)
    evse = stations.get_evse(tx, session.station_id, session.evse_id)
    if station is None or evse is None or evse.guard_kw is None or session.sample_at is None:
        return False
    sent = plans.list_installed(tx, session.session_id)
    if any(one.sent_at - _CLOCKS <= session.sample_at for one in sent):
        return False
    item = winners(dialects.items_for(tx, station), station).get("cascade")
    if item is not None and item.source == OPERATOR:
        return False
    drawn_w, guard_w = session.power_w or 0.0, evse.guard_kw * 1000.0
    if drawn_w <= guard_w * _OVER + _TOLERANCE_W:
        return False
    why = f"a car without a schedule drew {drawn_w:.0f} W where its guard allows {guard_w:.0f} W"
    return learn(tx, station.station_id, [Lesson(name="cascade", value="tx_only", why=why)], at=at)


def _holds_back(tx: Tx, session: Session) -> bool:
    """Return whether a station says that it, and not the car, is why nothing is drawn."""
    evse = stations.get_evse(tx, session.station_id, session.evse_id)
    return _SUSPENDED in (session.charging_state, "" if evse is None else evse.status)


def _others_limit(tx: Tx, station_id: str) -> bool:
    """Return whether somebody else limits a station, however little it tells of that."""
    held = reported.profiles_at(tx, [station_id], purpose=EXTERNAL)
    return bool(held or reported.limits_at(tx, [station_id]))


def _let_go(tx: Tx, station: Station, item: DialectItem | None) -> bool:
    """Drop what was only watched until now; return whether there was something."""
    if item is None or not item.why.startswith(_WATCHED):
        return False
    dialects.drop_item(
        tx, item.name, item.source, station_id=item.station_id, firmware=item.firmware
    )
    dialects.resolve(tx, station)
    return True


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
