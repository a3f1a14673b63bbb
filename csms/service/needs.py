"""What cars say of their own needs and schedules (ISO 15118, OCPP 2.x K15 and K17).

A car tells what it needs, gets one profile, and proposes how it means to use it. A proposal above
what its profile allows is refused, and a new profile follows by itself.
"""

from collections.abc import Callable
from datetime import timedelta

from csms.core.commands import Outcome, Schedule
from csms.core.messages import NeedReply, NeedReported
from csms.core.model import Session
from csms.core.smart import ScheduleProposed
from csms.core.units import w_from_a
from csms.service.charging import Effect, with_wish
from csms.service.outside import limit_at
from csms.store import journal, plans, reported, sessions, stations
from csms.store.database import Store
from csms.store.reported import ChargingNeed
from csms.store.statements import Tx

_TOLERANCE_W = 50.0
"""What a proposal may exceed its profile by: cars round to whole amperes and steps of 50 W."""
_LATE = timedelta(seconds=2)
"""Cars count in whole seconds from an instant of their own: they may follow a fall late."""
_HELD = (Outcome.ACCEPTED, Outcome.SENT)


class Needs:
    """Answers what cars say of themselves; `changed` is told of sessions that have a new need."""

    def __init__(
        self, *, store: Store, changed: Callable[[Effect], None], automation: bool
    ) -> None:
        self.store = store
        self.changed = changed
        self.automation = automation

    async def reported(self, report: NeedReported) -> NeedReply:
        """Keep a car's needs: a profile follows, unless nobody stands there or nothing may be sent.

        Processing says that it comes once the driver is authorized (K15.FR.04).
        """

        def work(tx: Tx) -> tuple[Session | None, bool]:
            session = sessions.open_session_on_evse(tx, report.station_id, report.evse_id)
            station = stations.find_station(tx, report.station_id)
            if session is None or station is None:
                return None, False
            is_served = self.automation and station.automation and station.limits.supports_profiles
            session = with_wish(session, report)
            sessions.save(tx, session)
            reported.put_need(tx, _kept(session, report))
            return session, is_served

        session, is_served = await self.store.write(work)
        if session is None:
            return NeedReply(status="Rejected")
        self.changed(Effect(session=session, why="the car stated its need"))
        if not is_served:
            return NeedReply(status="Rejected")
        return NeedReply(status="Accepted" if session.is_authorized else "Processing")

    async def proposed(self, report: ScheduleProposed) -> NeedReply:
        """Compare what a car proposes with its profile; above it is refused, and a new one sent."""

        def work(tx: Tx) -> tuple[Session | None, bool]:
            journal.add_raw_record(
                tx, report, action="NotifyEVChargingSchedule", payload=report.payload
            )
            session = sessions.open_session_on_evse(tx, report.station_id, report.evse_id)
            if session is None:
                return None, False
            site = stations.site_of_station(tx, report.station_id)
            # The station may say so before its own answer to the profile is on record.
            held = plans.list_installed(tx, session.session_id, limit=5)
            installed = next((i for i in held if i.outcome in _HELD), None)
            if installed is None:
                return session, True
            proposal = Schedule(
                profile_id=0,
                stack_level=0,
                unit=report.unit,
                starts_at=report.starts_at,
                duration_s=report.duration_s,
                periods=report.periods,
            )
            is_within = fits(proposal, installed.schedule, voltage_v=site.voltage_v)
            if not is_within:
                reported.profile_due(tx, session.session_id, report.received_at)
            return session, is_within

        session, is_within = await self.store.write(work)
        if session is None:
            return NeedReply(status="Rejected")
        if not is_within:
            self.changed(Effect(session=session, why="the car proposed more than it may have"))
        return NeedReply(status="Accepted" if is_within else "Rejected")


def fits(proposal: Schedule, allowed: Schedule, *, voltage_v: float) -> bool:
    """Return whether a proposal stays below `allowed` at every instant that both speak of."""
    marks = {
        s.starts_at + timedelta(seconds=p.start_s) for s in (proposal, allowed) for p in s.periods
    }
    for at in marks:
        wants, has = limit_at(proposal, at), limit_at(allowed, at)
        if wants is None or has is None:
            continue
        phases = wants.phases or has.phases or 3
        wanted_w = wants.limit
        if proposal.unit == "A":
            wanted_w = w_from_a(wants.limit, phases=phases, voltage_v=voltage_v)
        before = limit_at(allowed, at - _LATE)
        has_w = max(has.limit, before.limit if before is not None else 0.0)
        if allowed.unit == "A":
            has_w = w_from_a(has_w, phases=phases, voltage_v=voltage_v)
        if wanted_w > has_w * 1.01 + _TOLERANCE_W:
            return False
    return True


def _kept(session: Session, report: NeedReported) -> ChargingNeed:
    return ChargingNeed(
        session_id=session.session_id,
        station_id=report.station_id,
        evse_id=report.evse_id,
        mode=report.mode,
        phases=report.phases,
        energy_wh=report.energy_wh,
        departs_at=report.departs_at,
        min_current_a=report.min_current_a,
        max_current_a=report.max_current_a,
        max_voltage_v=report.max_voltage_v,
        max_power_w=report.max_power_w,
        max_periods=report.max_schedule_tuples or None,
        received_at=report.received_at,
        due_at=report.received_at,
    )
