"""The other end of the bus: stations that do what they took, and answer as a test tells them.

What a station lets cars draw is worked out here from the schedules it holds alone, so that a test
can ask at any instant what all of them together allow.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from csms.bus.local import LocalBus
from csms.clock import Clock
from csms.core.commands import (
    ClearSchedule,
    Command,
    CommandResult,
    Outcome,
    ReadLimits,
    Schedule,
    SchedulePeriod,
    SetGuard,
    SetSchedule,
)
from csms.core.messages import StationBooted
from csms.core.model import (
    AuthorizationStatus,
    Evse,
    OcppVersion,
    Session,
    Site,
    Station,
    StationLimits,
)
from csms.core.units import SLOT_S
from csms.planning.learning import Observed
from csms.planning.planner import plan
from csms.service.cases import Surroundings, planning_case, snapshot
from csms.service.devices import Devices
from csms.service.push import Pushed, Pusher
from csms.store import links, plans, sessions, stations
from csms.store.database import Store
from csms.store.plans import InstalledSchedule
from csms.store.statements import Tx

NOW = datetime(2026, 1, 12, 18, 7, tzinfo=UTC)
VOLTAGE_V = 230.0
SITE = "depot"


def accepted(tx: Tx, session_ids: list[str]) -> dict[str, InstalledSchedule]:
    """Return the schedule last accepted for each of the sessions that has one."""
    ever = datetime(9000, 1, 1, tzinfo=UTC)
    return {i: those[-1] for i, those in plans.schedules_since(tx, session_ids, ever).items()}


def taken(
    session_id: str,
    *row_kw: float,
    sent_at: datetime = NOW,
    begins_at: datetime | None = None,
    duration_s: int | None = None,
) -> InstalledSchedule:
    """Return a schedule that a station took at `sent_at`: a quarter hour for each of `row_kw`.

    The first of them begins at `begins_at`, `sent_at` unless told otherwise. The schedule on the
    station covers them all unless it ends after `duration_s`.
    """
    begins_at = begins_at or sent_at
    limits_a = [kw * 1000 / (3 * VOLTAGE_V) for kw in row_kw]
    return InstalledSchedule(
        session_id=session_id,
        profile_id=1,
        schedule=Schedule(
            profile_id=1,
            stack_level=1,
            unit="A",
            starts_at=begins_at,
            duration_s=duration_s or SLOT_S * len(row_kw),
            periods=tuple(
                SchedulePeriod(start_s=SLOT_S * k, limit=limit_a)
                for k, limit_a in enumerate(limits_a)
            ),
        ),
        edges_at=tuple(begins_at + timedelta(seconds=SLOT_S * k) for k in range(len(row_kw) + 1)),
        row_kw=row_kw,
        sent_at=sent_at,
        outcome=Outcome.ACCEPTED,
    )


class HandClock(Clock):
    """A clock that stands until it is set."""

    def __init__(self, at: datetime = NOW) -> None:
        super().__init__()
        self.at = at

    def now(self) -> datetime:
        """Return where the clock was set."""
        return self.at

    def timestamp(self) -> float:
        """Return the same as seconds since 1970."""
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        """Let others run."""
        await asyncio.sleep(0)

    def advance(self, **by: float) -> None:
        """Move on."""
        self.at += timedelta(**by)


Answers = Callable[[SetSchedule], tuple[bool, Outcome]]
"""Whether the station takes a schedule, and what we hear of it."""


def obey(_: SetSchedule) -> tuple[bool, Outcome]:
    """Take the schedule and say so."""
    return True, Outcome.ACCEPTED


class Field:
    """Stations with one EVSE each, three phases, 22 kW."""

    def __init__(self, *, guards_kw: dict[str, float], max_kw: float = 22.08) -> None:
        self.max_kw = max_kw
        self.guards_kw: dict[str, float | None] = dict(guards_kw)
        self.schedules: dict[str, Schedule] = {}
        self.answers: Answers = obey
        self.took: Callable[[], None] = lambda: None
        self.sent: list[SetSchedule] = []
        self.guarded: list[SetGuard] = []
        self.deaf: set[str] = set()
        """Stations that nothing reaches."""

    async def execute(self, command: Command) -> CommandResult:
        """Carry out a command as the station would."""
        await asyncio.sleep(0)
        if command.station_id in self.deaf:
            return CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="offline")
        if isinstance(command, ReadLimits):
            return CommandResult(outcome=Outcome.ACCEPTED, limits=StationLimits(max_periods=24))
        if isinstance(command, SetGuard):
            self.guarded.append(command)
            if command.evse_id:
                limit_a = command.schedule.periods[0].limit
                self.guards_kw[command.station_id] = limit_a * 3 * VOLTAGE_V / 1000
                self.took()
            return CommandResult(outcome=Outcome.ACCEPTED)
        if isinstance(command, ClearSchedule):
            held = self.schedules.get(command.station_id)
            if held is not None and held.profile_id == command.profile_id:
                del self.schedules[command.station_id]
                self.took()
            return CommandResult(outcome=Outcome.ACCEPTED)
        assert isinstance(command, SetSchedule)
        self.sent.append(command)
        takes, outcome = self.answers(command)
        if takes:
            self.schedules[command.station_id] = command.schedule
            self.took()
        return CommandResult(outcome=outcome)

    def allowed_kw(self, at: datetime) -> float:
        """Return what all stations together let cars draw at an instant."""
        return sum(self.station_kw(station_id, at) for station_id in self.guards_kw)

    def station_kw(self, station_id: str, at: datetime) -> float:
        """Return what one station lets a car draw at an instant."""
        guard = self.guards_kw[station_id]
        default = self.max_kw if guard is None else guard
        held = self.schedules.get(station_id)
        if held is None or at < held.starts_at:
            return default
        since_s = (at - held.starts_at).total_seconds()
        if held.duration_s is not None and since_s >= held.duration_s:
            return default
        limit = [p.limit for p in held.periods if p.start_s <= since_s][-1]
        return min(limit * 3 * VOLTAGE_V / 1000, self.max_kw)

    def most_kw(self, start: datetime, until: datetime) -> float:
        """Return the highest sum between two instants."""
        marks = {start}
        for held in self.schedules.values():
            marks.update(held.starts_at + timedelta(seconds=p.start_s) for p in held.periods)
            if held.duration_s is not None:
                marks.add(held.starts_at + timedelta(seconds=held.duration_s))
        return max(self.allowed_kw(at) for at in marks if start <= at < until)


class Depot:
    """A real store with a site whose stations are a Field, and a Pusher between the two."""

    def __init__(self, store: Store, field: Field, clock: HandClock) -> None:
        self.store, self.field, self.clock = store, field, clock
        bus = LocalBus()
        bus.attach_gateway(field)
        self.devices = Devices(store=store, bus=bus, clock=clock, automation=True)
        self.pusher = Pusher(store=store, devices=self.devices, clock=clock)
        self.held: set[str] = set()
        self.observed: dict[str, Observed] = {}
        self.count = 0

    async def build(self, *, limit_kw: float, base_load_kw: float = 0.0) -> None:
        """Register the site and its stations, linked, booted and guarded."""

        def work(tx: Tx) -> None:
            stations.upsert_site(
                tx, Site(site_id=SITE, limit_kw=limit_kw, base_load_kw=base_load_kw)
            )
            for station_id, guard_kw in self.field.guards_kw.items():
                stations.register_station(tx, Station(station_id=station_id, site_id=SITE))
                stations.upsert_evse(
                    tx, Evse(station_id=station_id, evse_id=1, max_kw=self.field.max_kw)
                )
                self._open(tx, station_id)
                stations.set_guard_kw(tx, station_id, 1, guard_kw)
                stations.set_limits(tx, station_id, StationLimits(max_periods=24))

        await self.store.write(work)

    def _open(self, tx: Tx, station_id: str) -> int:
        return links.open_link(
            tx,
            station_id,
            version=OcppVersion.V201,
            remote_address="127.0.0.1",
            at=self.clock.now(),
        )

    async def link(self, station_id: str) -> None:
        """Let a station connect without a boot."""
        await self.store.write(lambda tx: self._open(tx, station_id))

    async def leave_link(self, station_id: str) -> None:
        """Let a station go away."""

        def work(tx: Tx) -> bool:
            link_id = stations.get_station(tx, station_id).link_id
            return links.close_link(tx, station_id, link_id, at=self.clock.now(), reason="test")

        await self.store.write(work)

    async def restart(self, station_id: str) -> None:
        """Let a station boot."""
        report = StationBooted(
            station_id=station_id,
            link_id=1,
            received_at=self.clock.now(),
            version=OcppVersion.V201,
            vendor="vendor",
            model="model",
        )
        await self.store.write(lambda tx: stations.boot(tx, report))

    async def arrive(
        self,
        station_id: str,
        *,
        need_kwh: float = 20.0,
        leaves_h: float = 4.0,
        status: AuthorizationStatus = AuthorizationStatus.ACCEPTED,
        evse_id: int = 1,
        power_w: float | None = None,
        vehicle_id: str = "",
    ) -> Session:
        """Plug a car in."""
        self.count += 1
        at = self.clock.now()
        session = Session(
            session_id=f"s{self.count}",
            number=0,
            site_id=SITE,
            station_id=station_id,
            evse_id=evse_id,
            version=OcppVersion.V201,
            transaction_id=f"t{self.count}",
            status=status,
            started_at=at,
            received_at=at,
            departs_at=at + timedelta(hours=leaves_h),
            need_wh=need_kwh * 1000,
            preferred_wh=need_kwh * 1000,
            need_source="trip",
            power_w=power_w,
            vehicle_id=vehicle_id,
            sample_at=at if power_w is not None else None,
        )
        return await self.store.write(lambda tx: sessions.open_session(tx, session))

    async def plan_and_push(self, *, horizon_h: float = 12.0, takes_s: float = 0.0) -> Pushed:
        """Plan the site from what the store holds, and bring the plan into force."""
        now = self.clock.now()
        known = await self.store.read(
            lambda tx: snapshot(tx, SITE, now=now, horizon_h=horizon_h, carbon_id="")
        )
        case = planning_case(
            known,
            Surroundings(held=frozenset(self.held), observed=self.observed),
            now=now,
            horizon_h=horizon_h,
            slot_s=SLOT_S,
        )
        made = plan(case)
        self.clock.advance(seconds=takes_s)
        plan_id = await self.store.write(
            lambda tx: plans.insert_plan(tx, case, made, why="test", cpu_s=0.0)
        )
        pushed = await self.pusher.push(known, case, made, plan_id=plan_id)
        self.held |= set(pushed.failed)
        return pushed
