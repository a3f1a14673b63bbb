"""Sessions: start, update, end, each answered once and kept once, in whatever order they come.

A unit of work may run twice (the store repeats it after a failed group), so it only touches its
transaction; what has to happen afterwards is returned and done when the record is durable.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple, TypeGuard

import structlog

from csms.core import session as folds
from csms.core.messages import (
    MeterReported,
    NeedReported,
    Noted,
    SessionEnded,
    SessionReply,
    SessionReport,
    SessionStarted,
    SessionUpdated,
)
from csms.core.model import (
    Authorization,
    Event,
    OcppVersion,
    Session,
    SessionState,
    made,
)
from csms.service import clocks, reservations, terms
from csms.service.authorization import Authorizer
from csms.service.costs import Costs
from csms.service.ids import new_id
from csms.service.matching import matched
from csms.service.remote import NO_VEHICLE, tie
from csms.store import details, device_model, journal, sessions, stations
from csms.store.database import Store
from csms.store.samples import append_meter, append_samples
from csms.store.sessions import EventStored
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

FRESH = timedelta(minutes=10)
"""A report older than this is history: it is kept, and nothing is done about it live."""

_FIRST_YEAR = 2010
_SKEW = timedelta(seconds=clocks.TOLERANCE_S)
_NO_IDS = frozenset({"", "0", "-1"})
"""1.6 transaction ids with which stations mark sessions that started offline."""


class Effect(NamedTuple):
    """What a stored report changes for the rest of the system."""

    session: Session
    why: str = ""
    """Reason to plan the site again, "" for none."""


class Charging:
    """Answers transaction messages and meter values.

    `changed` is called on the event loop for each session whose record is durable.
    """

    def __init__(
        self,
        *,
        store: Store,
        authorizer: Authorizer,
        costs: Costs,
        changed: Callable[[Effect], None],
    ) -> None:
        self.costs = costs
        self.store = store
        self.authorizer = authorizer
        self.changed = changed

    async def reported(self, report: SessionReport) -> SessionReply:
        """Keep a transaction message and answer it; a repeat gets the answer of the first."""
        reply, effect = await self.store.write(lambda tx: self._work(tx, report))
        if effect is not None:
            self.changed(effect)
        return reply

    def _work(self, tx: Tx, report: SessionReport) -> tuple[SessionReply, Effect | None]:
        if report.version is OcppVersion.V16:
            return self._work_16(tx, report)
        session = sessions.by_transaction(tx, report.station_id, report.transaction_id)
        stored = sessions.append_event(tx, report)
        is_newer = report.version is OcppVersion.V21
        if stored is EventStored.REPEAT and session is not None:
            reply = self._repeated(tx, session, report)
            return (
                terms.repeated(tx, session, report, reply, self.costs) if is_newer else reply
            ), None
        if stored is EventStored.CONFLICT:
            report = replace(report, flags=(*report.flags, "seq_no_conflict"))
        reply, effect = self._apply(tx, session, report)
        if is_newer and effect is not None:
            kept, reply = terms.kept(tx, effect.session, report, reply, self.costs)
            effect = Effect(kept, effect.why or _resumed(report))
        return reply, effect

    def _work_16(self, tx: Tx, report: SessionReport) -> tuple[SessionReply, Effect | None]:
        if isinstance(report, SessionStarted):
            known = sessions.find_start(tx, report)
            if known is not None:
                return self._repeated(tx, known, report), None
            reply, effect = self._apply(tx, None, report)
            sessions.append_event(tx, report, transaction_id=reply.transaction_id)
            return reply, effect
        session = self._session_16(tx, report)
        if session is None:
            self._orphan(tx, report)
            return SessionReply(transaction_id=report.transaction_id), None
        if report.transaction_id != session.transaction_id:
            report = replace(report, transaction_id=session.transaction_id)
        if sessions.append_event(tx, report) is EventStored.REPEAT:
            return self._repeated(tx, session, report), None
        return self._apply(tx, session, report)

    def _session_16(self, tx: Tx, report: SessionReport) -> Session | None:
        """Return the session a 1.6 message means, looked up under its own station only."""
        if report.transaction_id not in _NO_IDS:
            return sessions.by_transaction(tx, report.station_id, report.transaction_id)
        site_id = stations.site_id_of_station(tx, report.station_id)
        started_offline = [
            s
            for s in sessions.open_sessions_of_site(tx, site_id)
            if s.station_id == report.station_id
            and s.is_offline_start
            and (not report.evse_id or s.evse_id == report.evse_id)
        ]
        if len(started_offline) == 1:
            return started_offline[0]
        # Said again, it means the session that it ended the first time.
        return sessions.with_message(tx, report.station_id, report.digest)

    def _orphan(self, tx: Tx, report: SessionReport) -> None:
        if not sessions.keep_orphan(tx, report):
            return
        owner = sessions.station_of_number(tx, report.transaction_id)
        detail: dict[str, object] = {
            "action": report.action,
            "transaction_id": report.transaction_id,
        }
        journal.add_event(
            tx,
            Event(
                at=report.received_at,
                # A number of another station's is a fault or an attack: people should look.
                kind="transaction of another station named"
                if owner
                else "message for unknown transaction",
                level="warning",
                station_id=report.station_id,
                detail=detail | ({"owner": owner} if owner else {}),
            ),
        )

    def _apply(
        self, tx: Tx, session: Session | None, report: SessionReport
    ) -> tuple[SessionReply, Effect | None]:
        original = report
        if not -_SKEW < report.received_at - report.at < _SKEW:
            report = _with_clock(_corrected(tx, report))
        elif session is not None and _only_goes_on(report):
            return self._went_on(tx, session, report)
        authorization: Authorization | None = None
        before = session
        if session is None:
            session, authorization = self._open(tx, report)
        else:
            session, authorization = self._identified(tx, session, report)
        if isinstance(report, SessionStarted):
            if before is not None and "start_missing" in before.flags:
                session = folds.with_late_start(session, report)
        elif before is not None and isinstance(report, SessionUpdated | SessionEnded):
            session = _advanced(tx, session, report)
        if before is None and isinstance(report, SessionEnded):
            session = folds.advanced(session, report)
        if before is None:
            started = original if isinstance(original, SessionStarted) else None
            session = sessions.open_session(tx, session, report=started)
        else:
            sessions.save(tx, session)
        append_samples(tx, session, report.samples)
        reply = SessionReply(
            transaction_id=session.transaction_id,
            authorization=authorization,
            priority=session.priority if session.is_authorized else None,
            total_cost=self._beside(tx, session, report),
        )
        why = "" if report.received_at - report.at > FRESH else _why(before, session)
        if not why and before is not None and before.state is not session.state:
            # What began and ended while its station was away concerns no plan any more.
            why = "session ended" if before.received_at - before.started_at <= FRESH else ""
        return reply, Effect(session=session, why=why)

    def _went_on(
        self, tx: Tx, session: Session, report: SessionUpdated
    ) -> tuple[SessionReply, Effect | None]:
        """Keep what nearly every message is, in as few steps as that takes."""
        session = _advanced(tx, session, report)
        sessions.save(tx, session)
        append_samples(tx, session, report.samples)
        said = {
            "transaction_id": session.transaction_id,
            "priority": session.priority if session.is_authorized else None,
        }
        return made(SessionReply, said), Effect(session)

    def _beside(self, tx: Tx, session: Session, report: SessionReport) -> float | None:
        """Keep what `report` says beside the session's own row; return the cost at its end."""
        said: dict[str, object] = {}
        if report.phases_used is not None:
            said["phases_used"] = report.phases_used
        if report.cable_max_current_a is not None:
            said["cable_max_current_a"] = report.cable_max_current_a
        is_start = isinstance(report, SessionStarted)
        if isinstance(report, SessionStarted) and report.reservation_id is not None:
            said["reservation_id"] = report.reservation_id
        if is_start or report.remote_start_id is not None or report.trigger == NO_VEHICLE:
            tie(tx, session, report)
        cost = None
        if isinstance(report, SessionEnded) and self.costs.tariff_of:
            cost = self.costs.of(tx, session)
            said["total_cost"] = cost
        if said:
            details.note(tx, session.number, **said)
        return cost

    def _open(self, tx: Tx, report: SessionReport) -> tuple[Session, Authorization | None]:
        authorization = None
        report = _placed(tx, report)
        self._end_leftovers(tx, report)
        if report.id_token is not None and not isinstance(report, SessionEnded):
            authorization = self._decided(tx, report, is_start=True)
        session = folds.started(
            report,
            session_id=new_id("s", report.received_at),
            site_id=stations.site_id_of_station(tx, report.station_id),
            authorization=authorization,
        )
        self._use_up(tx, session, report)
        session = reservations.used(tx, session, report, authorization)
        return matched(tx, session, now=session.started_at), authorization

    def _use_up(self, tx: Tx, session: Session, report: SessionReport) -> None:
        """Let a one-time token start nothing more once it has started this."""
        if session.is_authorized and report.id_token is not None:
            self.authorizer.consume(tx, session.station_id, report.id_token, session.session_id)

    def _end_leftovers(self, tx: Tx, report: SessionReport) -> None:
        """Close what is still open on the EVSE where `report` begins: only one car stands there.

        Its station never said that it ended; a late end may still arrive and correct it. It comes
        before the decision, so that the driver who plugs in again is not in their own way.
        """
        if report.is_offline or isinstance(report, SessionEnded) or not report.evse_id:
            return
        other = sessions.open_session_on_evse(tx, report.station_id, report.evse_id)
        if other is None or other.started_at > report.at:
            return
        closed = folds.closed_administratively(
            other, now=report.at, reason="replaced by a newer transaction"
        )
        sessions.save(tx, folds.flagged(closed, folds.SUPERSEDED))
        journal.add_event(
            tx,
            Event(
                at=report.received_at,
                kind="transaction replaced before its end, to be reviewed",
                level="warning",
                site_id=other.site_id,
                station_id=other.station_id,
                session_id=other.session_id,
                detail={"evse_id": other.evse_id, "by": report.transaction_id},
            ),
        )

    def _identified(
        self, tx: Tx, session: Session, report: SessionReport
    ) -> tuple[Session, Authorization | None]:
        """Return the session with the token of `report` judged, where it brings one."""
        if report.id_token is None:
            return session, None
        if session.id_token is None and not isinstance(report, SessionEnded):
            placed = replace(report, evse_id=report.evse_id or session.evse_id)
            authorization = self._decided(tx, placed, is_start=True)
            session = folds.authorized(session, report, authorization)
            self._use_up(tx, session, report)
            session = reservations.used(tx, session, report, authorization)
            return matched(tx, session, now=session.started_at), authorization
        return session, self._answer(tx, session, report)

    def _answer(self, tx: Tx, session: Session, report: SessionReport) -> Authorization:
        """Return what to say of the token of `report`, which changes nothing any more."""
        assert report.id_token is not None
        if session.id_token == report.id_token:
            decided = _stored_decision(session)
            # A token that ends what it began is of no further use to the station's cache.
            is_end = isinstance(report, SessionEnded)
            return decided if is_end else self.authorizer.again(tx, decided)
        if session.id_token is not None and self.authorizer.may_stop(
            tx, report.station_id, session.id_token, report.id_token
        ):
            return self.authorizer.stopping(tx, report.station_id, report.id_token)
        return self._decided(tx, report, is_start=False)

    def _repeated(self, tx: Tx, session: Session, report: SessionReport) -> SessionReply:
        """Return the answer a repeated message means: what was stored with the first."""
        cost = None
        if isinstance(report, SessionEnded) and self.costs.tariff_of:
            cost = details.detail_of(tx, session.number).total_cost
        return SessionReply(
            transaction_id=session.transaction_id,
            authorization=None if report.id_token is None else self._answer(tx, session, report),
            priority=session.priority if session.is_authorized else None,
            total_cost=cost,
        )

    def _decided(self, tx: Tx, report: SessionReport, *, is_start: bool) -> Authorization:
        assert report.id_token is not None
        at = report.at if report.is_offline else report.received_at
        return self.authorizer.decide(
            tx,
            report.station_id,
            report.id_token,
            version=report.version,
            evse_id=report.evse_id or None,
            now=min(at, report.received_at),
            is_start=is_start,
        )

    async def metered(self, report: MeterReported) -> Noted:
        """Keep values outside a transaction; an EVSE's belong to the session that stands there."""

        def work(tx: Tx) -> Session | None:
            details.keep_meter_message(tx, report)
            append_meter(tx, report.station_id, report.evse_id, report.samples)
            if not report.evse_id:
                return None
            session = sessions.open_session_on_evse(tx, report.station_id, report.evse_id)
            if session is None:
                return None
            session = folds.sampled(session, report.samples)
            sessions.save(tx, session)
            append_samples(tx, session, report.samples)
            return session

        session = await self.store.write(work)
        if session is not None:
            self.changed(Effect(session=session))
        return Noted()


def with_wish(session: Session, report: NeedReported) -> Session:
    """Return the session with what the car said where nobody declared a trip.

    A declared trip stays: it is what the driver promised. The car's energy is added on top of
    what it has taken so far.
    """
    if report.soc is not None:
        session = replace(session, soc=report.soc, soc_wh=session.energy_wh)
    if session.need_source == "trip":
        return session
    need_wh = session.need_wh
    if report.energy_wh is not None:
        need_wh = session.energy_wh + report.energy_wh / 0.9
    return replace(
        session,
        departs_at=report.departs_at or session.departs_at,
        need_wh=need_wh,
        preferred_wh=max(need_wh or 0.0, session.preferred_wh or 0.0),
        need_source="car",
    )


def _corrected(tx: Tx, report: SessionReport) -> SessionReport:
    """Return `report` by our clock where the station's is known to be off; the event row keeps
    the station's own time."""
    if report.at.year < _FIRST_YEAR:
        return report
    offset_s = device_model.clock_offset_s(tx, report.station_id)
    at = clocks.corrected(report.at, offset_s=offset_s, received_at=report.received_at)
    shift = at - report.at
    if not shift:
        return report
    samples = tuple(replace(s, at=s.at + shift) for s in report.samples)
    return replace(report, at=at, samples=samples, flags=(*report.flags, "clock_corrected"))


def _with_clock(report: SessionReport) -> SessionReport:
    """Return `report` with our time where the station has none yet, and late starts marked.

    Stations without a clock send 1970 for everything. 1.6 has no mark for what happened offline:
    a start that arrives long after it happened was one.
    """
    if report.at.year < _FIRST_YEAR:
        samples = tuple(
            replace(s, at=report.received_at, flags=(*s.flags, "clock_unset"))
            for s in report.samples
        )
        return replace(
            report, at=report.received_at, samples=samples, flags=(*report.flags, "clock_unset")
        )
    is_late = report.received_at - report.at > FRESH
    if is_late and report.version is OcppVersion.V16 and isinstance(report, SessionStarted):
        return replace(report, is_offline=True)
    return report


def _only_goes_on(report: SessionReport) -> TypeGuard[SessionUpdated]:
    """Return whether `report` brings nothing but samples to its session."""
    return (
        isinstance(report, SessionUpdated)
        and report.id_token is None
        and report.remote_start_id is None
        and report.phases_used is None
        and report.cable_max_current_a is None
        and report.trigger != NO_VEHICLE
    )


def _advanced(tx: Tx, session: Session, report: SessionUpdated | SessionEnded) -> Session:
    """Return `session` after `report`, without its gap if that was the last one missing."""
    now = folds.advanced(session, report)
    is_late = report.seq_no is not None and report.seq_no < session.last_seq_no
    if is_late and folds.MESSAGES_MISSING in session.flags:
        return _without_gap(tx, now)
    return now


def _placed(tx: Tx, report: SessionReport) -> SessionReport:
    """Return `report` at its station's one EVSE where it names none; among several, unknown."""
    if report.evse_id:
        return report
    places = stations.evses_of_station(tx, report.station_id)
    return replace(report, evse_id=places[0].evse_id) if len(places) == 1 else report


def _without_gap(tx: Tx, session: Session) -> Session:
    """Return the session without its gap once the messages that were missing have come."""
    if sessions.missing_numbers(tx, session.station_id, session.transaction_id):
        return session
    return folds.without(session, folds.MESSAGES_MISSING)


def _stored_decision(session: Session) -> Authorization:
    return Authorization(
        status=session.status,
        reason=session.reason,
        holder_did=session.holder_did,
        assurance=session.assurance,
        priority=session.priority,
    )


def _resumed(report: SessionReport) -> str:
    """Return the reason to plan again when a 2.1 transaction went on after the power was away."""
    is_fresh = report.received_at - report.at <= FRESH
    return "transaction resumed" if report.trigger == "TxResumed" and is_fresh else ""


def _why(before: Session | None, now: Session) -> str:
    """Return the reason to plan again, "" where nothing that matters to the plan has changed."""
    if before is None:
        return "session started" if now.is_authorized else ""
    if now.state is SessionState.ENDED and before.state is SessionState.OPEN:
        return "session ended"
    if now.is_authorized and not before.is_authorized:
        return "session authorized"
    return ""
