"""Work on the clock that keeps records in order: quarter hours, silent sessions, old entries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from csms.clock import Clock
from csms.core.metering import KEPT
from csms.core.model import Event, Session
from csms.core.session import closed_administratively
from csms.service.offers import OfferBook
from csms.settings import RetentionSettings
from csms.store import (
    access,
    alerts,
    boots,
    bulks,
    certificates,
    commands,
    details,
    energy,
    journal,
    links,
    metering,
    plans,
    remote_starts,
    requests,
    rivals,
    samples,
    series,
    sessions,
    stations,
    wiring,
)
from csms.store.database import Store
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

_IDLE = frozenset({"Available", "Unavailable", "Reserved"})
QUIET = timedelta(minutes=10)
"""An EVSE that has been free for this long while its session is still open lost the end."""
_FOLD = timedelta(hours=3)


@dataclass(slots=True)
class Housekeeping:
    """Jobs; each may run twice."""

    store: Store
    clock: Clock
    touch: Callable[[str, str], None]
    offers: OfferBook
    retention: RetentionSettings
    folded: Mapping[int, energy.Folded] = field(default_factory=dict)
    """How far each session's energy is folded, by its number."""

    async def fold(self) -> None:
        """Fold new samples of the last hours' sessions into quarter-hour energy.

        After a start each session is folded once from its beginning.
        """
        now, known = self.clock.now(), self.folded

        def work(tx: Tx) -> dict[int, energy.Folded]:
            found: dict[int, energy.Folded] = {}
            for site in stations.list_sites(tx):
                found |= energy.fold_new(tx, site.site_id, now - _FOLD, now, known)
            return found

        self.folded = await self.store.write(work)

    async def close_quiet(self) -> None:
        """Close sessions whose end never arrived though their EVSE is free.

        Some stations never send the end of a transaction that stopped while they were offline;
        only their status says so (stations.md 5). The session is marked as estimated.
        """
        now = self.clock.now()

        def work(tx: Tx) -> list[Session]:
            closed = []
            for site in stations.list_sites(tx):
                free_since = {
                    (e.station_id, e.evse_id): e.status_at
                    for e in stations.evses_of_site(tx, site.site_id)
                    if e.status in _IDLE and e.status_at is not None
                }
                for session in sessions.open_sessions_of_site(tx, site.site_id):
                    since = free_since.get((session.station_id, session.evse_id))
                    if since is None or not _lost_its_end(session, since, now):
                        continue
                    ended = closed_administratively(
                        session, now=since, reason="EVSE free, no end received"
                    )
                    sessions.save(tx, ended)
                    journal.add_event(
                        tx,
                        Event(
                            at=now,
                            kind="session closed by status",
                            level="warning",
                            site_id=site.site_id,
                            station_id=session.station_id,
                            session_id=session.session_id,
                        ),
                    )
                    closed.append(ended)
            return closed

        for session in await self.store.write(work):
            log.warning(
                "session closed by status",
                session_id=session.session_id,
                station_id=session.station_id,
            )
            self.touch(session.site_id, "session ended")

    async def follow_clock(self) -> None:
        """Follow a step of the machine's clock, with an event: stations will be told another time.

        Nothing else depends on it: ids and orders come from the store, time-outs from the
        monotonic clock.
        """
        step = self.clock.follow(datetime.now(UTC))
        if step:
            log.warning("clock stepped", by_s=step.total_seconds())
            event = Event(
                at=self.clock.now(),
                kind="clock stepped",
                level="warning",
                detail={"by_s": step.total_seconds()},
            )
            await self.store.write(lambda tx: journal.add_event(tx, event))

    async def expire_offers(self) -> None:
        """Close offers whose time is over."""
        await self.offers.expire()

    async def purge(self) -> dict[str, int]:
        """Delete what is older than it is kept; return how many rows of each kind.

        A batch at a time, so that stations are answered in between.
        """
        now = self.clock.now()

        def before(days: float) -> datetime:
            return now - timedelta(days=days)

        kept = self.retention
        work: dict[str, Callable[[Tx], int]] = {
            "decisions": lambda tx: access.purge_decisions(tx, now=now),
            "answers": lambda tx: access.purge_responses(tx, before=before(kept.answers_days)),
            "plans": lambda tx: plans.purge_plans(tx, before=before(kept.plans_days)),
            "comparisons": lambda tx: rivals.purge_comparisons(tx, before=before(kept.plans_days)),
            "schedules": lambda tx: plans.purge_installed(tx, before=before(kept.plans_days)),
            "journal": lambda tx: journal.purge_journal(tx, before=before(kept.journal_days)),
            "series": lambda tx: series.purge_series(tx, before=before(kept.series_days)),
            # A day more than is taken, so that no quarter hour is folded from half of it.
            "readings": lambda tx: metering.purge_readings(tx, before=before(KEPT.days + 1)),
            "loads": lambda tx: metering.purge_quarters(tx, before=before(kept.series_days)),
            "meter values": lambda tx: samples.purge_meter(tx, before=before(kept.meters_days)),
            "meter messages": lambda tx: details.purge_meter_messages(
                tx, before=before(kept.meters_days)
            ),
            "caps": lambda tx: wiring.purge_caps(tx, before=before(kept.journal_days)),
            "forecasts": lambda tx: series.purge_forecasts(tx, before=before(kept.forecasts_days)),
            "links": lambda tx: links.purge_links(tx, before=before(kept.links_days)),
            "boots": lambda tx: boots.purge_boots(tx, before=before(kept.devices_days)),
            "remote starts": lambda tx: remote_starts.purge_starts(
                tx, before=before(kept.commands_days)
            ),
            "commands": lambda tx: commands.purge_commands(tx, before=before(kept.commands_days)),
            "orders": lambda tx: bulks.purge_bulks(tx, before=before(kept.commands_days)),
            "requests": lambda tx: requests.purge_requests(tx, before=before(kept.commands_days)),
            "security events": lambda tx: certificates.purge_security_events(
                tx, before=before(kept.security_days)
            ),
            "alerts": lambda tx: alerts.purge_events(tx, before=before(kept.devices_days)),
        }
        purged = dict.fromkeys(work, 0)
        for kind, delete in work.items():
            while gone := await self.store.write(delete):
                purged[kind] += gone
        log.info("purged", **purged)
        return purged


def _lost_its_end(session: Session, free_since: datetime, now: datetime) -> bool:
    last = session.sample_at or session.started_at
    return now - free_since > QUIET and last <= free_since and session.started_at < free_since
