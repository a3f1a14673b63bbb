"""From a plan to schedules in force, in an order that keeps the site's limit at every step.

A station follows what it has accepted until something newer is accepted. So a car's limit is
raised only when the room for it is really free: what is in flight counts as the larger of old and
new, and a raise waits for the answers to the reductions that pay for it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil

import structlog

from csms.clock import Clock
from csms.core.commands import ClearSchedule, CommandResult, Outcome, Schedule, SetSchedule
from csms.core.model import LinkState, OcppVersion, Site, StationLimits
from csms.core.plan import Plan, PlanningCase
from csms.core.session import InForce
from csms.core.units import slot_start
from csms.planning.cascade import purpose
from csms.planning.dynamic import dynamic, held
from csms.planning.profile import (
    RAISE_AFTER_S,
    plan_profile_id,
    row_of,
    same_schedule,
    schedule,
    woken,
)
from csms.planning.refusals import is_unsent_again
from csms.service.batches import (
    WORTH_KW,
    Change,
    Row,
    as_far_as_it_fits,
    counted_rows,
    fitting,
    larger,
    reduction,
)
from csms.service.cars import (
    Car,
    followed_kw,
    in_force_kw,
    least_kw,
    own_guard_kw,
    usable_phases,
)
from csms.service.cases import Snapshot
from csms.service.devices import Devices
from csms.store import plans, stations
from csms.store.database import Store
from csms.store.plans import InstalledSchedule

log = structlog.get_logger(__name__)

_PAST = timedelta(seconds=2)

Told = Callable[[str, InForce | None], None]
"""Hears of a session that a schedule is on its way (None), and of the row once it is accepted."""


@dataclass(slots=True)
class Pushed:
    """What came of one push: sessions by what their station said."""

    accepted: dict[str, InForce] = field(default_factory=dict)
    failed: dict[str, Outcome] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    adapted: set[str] = field(default_factory=set)
    """Sessions that failed and whose station's dialect was learned by it: worth another try."""
    unguarded: set[str] = field(default_factory=set)
    """Stations found to go by other purposes: their guards are to be sent as that."""
    withheld: list[str] = field(default_factory=list)
    """Sessions whose schedule was refused before and would go out unchanged."""

    @property
    def sent(self) -> int:
        """How many schedules went out."""
        return len(self.accepted) + len(self.failed)


class Pusher:
    """Sends what changed and keeps what was accepted."""

    def __init__(self, *, store: Store, devices: Devices, clock: Clock) -> None:
        self.store = store
        self.devices = devices
        self.clock = clock

    async def push(
        self,
        known: Snapshot,
        case: PlanningCase,
        plan: Plan,
        *,
        plan_id: int,
        wakes: frozenset[str] = frozenset(),
        told: Told = lambda session_id, row: None,
    ) -> Pushed:
        """Bring `plan` into force; returns when every station has answered or timed out.

        The schedules of sessions in `wakes` go out again even if nothing changed. `told` hears of
        each session when a schedule goes out, and of the row that was accepted at once: other
        stations may take minutes.
        """
        pushed = Pushed()
        rows = counted_rows(known.cars, known.site, case)
        in_force = {s.session_id: row for s, row in zip(case.sessions, rows, strict=True)}
        changes = self._changes(known, case, plan, in_force, pushed, wakes)
        while changes:
            batch, step_id = fitting(changes, in_force, case), ""
            if batch:
                going = {c.car.session.session_id for c in batch}
                changes = [c for c in changes if c.car.session.session_id not in going]
            else:
                step = reduction(changes)
                if step is not None:
                    batch, step_id = [step], step.car.session.session_id
                else:
                    # Only raises are left, and what others hold is a little more than planned.
                    batch, changes = as_far_as_it_fits(changes, in_force, case), []
            results = await self._send_all(known, case, batch, plan_id=plan_id, told=told)
            failed = False
            for change, (result, installed) in zip(batch, results, strict=True):
                session_id = change.car.session.session_id
                if result.is_accepted:
                    in_force[session_id] = change.new
                    pushed.accepted[session_id] = in_force_row(change.car, installed, known.site)
                    continue
                # Whether the old or the new one is in force is unknown until it says so.
                in_force[session_id] = larger(change.old, change.new)
                pushed.failed[session_id] = result.outcome
                limits = await self._limits_now(change.car)
                if limits != change.car.station.limits:
                    pushed.adapted.add(session_id)
                if limits.cascade != change.car.station.limits.cascade:
                    pushed.unguarded.add(change.car.station.station_id)
                failed = True
            if failed:
                # The plan counted on these stations: what is left is planned again without them.
                changes = []
            for change in changes:
                change.old = in_force[change.car.session.session_id]
                if change.car.session.session_id == step_id:
                    change.least = batch[0].planned
        await self._remind(known, case, pushed, plan_id=plan_id, told=told)
        return pushed

    async def _remind(
        self,
        known: Snapshot,
        case: PlanningCase,
        pushed: Pushed,
        *,
        plan_id: int,
        told: Told,
    ) -> None:
        """Send cars that draw more than their schedule allows that schedule again, once per slot.

        A station may have lost it, or go by another purpose: that is tried at once, and the meter
        judges it anew. The car counts with what it draws until its meter shows less, whatever the
        station answers.
        """
        slot_began = slot_start(case.now_at)
        reminders: list[Change] = []
        others: list[Change] = []
        for car, session in zip(known.cars, case.sessions, strict=True):
            if car.installed is None or session.fixed_kw is None or not _may_send(car):
                continue
            row = in_force_kw(car, known.site, case.edges_at)
            is_other = car.installed.schedule.purpose != _purpose(known, car)
            if (is_other or car.installed.sent_at < slot_began) and session.fixed_kw[0] > row[0]:
                unit = car.installed.schedule.unit
                change = Change(car=car, old=row, new=row, planned=row, least=row, unit=unit)
                (others if is_other else reminders).append(change)
        results = await self._send_all(known, case, others, plan_id=plan_id, told=told)
        results += await self._send_all(known, case, reminders, plan_id=plan_id)
        for change, (result, _) in zip([*others, *reminders], results, strict=True):
            if not result.is_accepted:
                pushed.failed[change.car.session.session_id] = result.outcome

    def _changes(
        self,
        known: Snapshot,
        case: PlanningCase,
        plan: Plan,
        in_force: Mapping[str, Row],
        pushed: Pushed,
        wakes: frozenset[str],
    ) -> list[Change]:
        rows = {row.session_id: row for row in plan.sessions}
        found = []
        for car, session in zip(known.cars, case.sessions, strict=True):
            planned = rows.get(session.session_id)
            if planned is None or session.fixed_kw is not None:
                continue
            row_kw = held(planned.power_kw) if _every_s(car) else planned.power_kw
            new_schedule = self._schedule(known, case, car, row_kw)
            old_schedule = car.installed.schedule if car.installed else None
            # As of now: the plan is older than the schedule, which does not reach back to it.
            is_same = old_schedule is not None and same_schedule(
                old_schedule, new_schedule, now=self.clock.now()
            )
            is_woken = session.session_id in wakes
            if is_same and not (car.doubtful or is_woken or _is_due(car)):
                pushed.unchanged.append(session.session_id)
                continue
            if _was_refused(car, new_schedule):
                pushed.withheld.append(session.session_id)
                continue
            floor = own_guard_kw(car)
            found.append(
                Change(
                    car=car,
                    old=in_force[session.session_id],
                    new=tuple(max(kw, floor) for kw in row_kw),
                    planned=row_kw,
                    least=least_kw(car, known.site, case.edges_at),
                    unit=new_schedule.unit,
                    wakes=is_woken,
                )
            )
        return found

    async def _limits_now(self, car: Car) -> StationLimits:
        """Return what is known of a car's station after a refusal, which may have taught it."""
        station_id = car.session.station_id
        found = await self.store.read(lambda tx: stations.find_station(tx, station_id))
        return car.station.limits if found is None else found.limits

    def _schedule(
        self, known: Snapshot, case: PlanningCase, car: Car, row: Sequence[float]
    ) -> Schedule:
        edges_at, from_now_kw = _from_now(known, case, car, row)
        edges_at, from_now_kw = _not_before_others(known, case, car, edges_at, from_now_kw)
        found = schedule(
            from_now_kw,
            edges_at,
            limits=_limits(car),
            profile_id=plan_profile_id(car.session.evse_id),
            phases=usable_phases(car),
            voltage_v=known.site.voltage_v,
            starts_at=(self.clock.now() - _PAST).replace(microsecond=0),
            tail_kw=own_guard_kw(car),
            prefers_w=car.is_dc,
            raise_after_s=RAISE_AFTER_S,
        )
        # Without a link a schedule holds as far as the plan reaches; then the guard does.
        reach = edges_at[-1] - self.clock.now()
        found = replace(
            found,
            max_offline_s=max(ceil(reach.total_seconds()), 1),
            purpose=_purpose(known, car),
        )
        every_s = _every_s(car)
        return dynamic(found, now=self.clock.now(), every_s=every_s) if every_s else found

    async def _send_all(
        self,
        known: Snapshot,
        case: PlanningCase,
        batch: Sequence[Change],
        *,
        plan_id: int,
        told: Told = lambda session_id, row: None,
    ) -> list[tuple[CommandResult, InstalledSchedule]]:
        """Send a batch and wait for all of it, also where one of it fails for good."""

        async def send(change: Change) -> tuple[CommandResult, InstalledSchedule]:
            session_id = change.car.session.session_id
            told(session_id, None)
            result, installed = await self._send(known, case, change, plan_id=plan_id)
            if result.is_accepted:
                accepted = replace(installed, sent_at=self.clock.now())
                told(session_id, in_force_row(change.car, accepted, known.site))
            return result, installed

        sent = await asyncio.gather(*(send(change) for change in batch), return_exceptions=True)
        results = []
        for result in sent:
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        return results

    async def _clear(self, car: Car, profile_id: int) -> None:
        """Take away what this station does not replace: our profile, under its id now and then."""
        ids = {profile_id}
        if car.installed is not None:
            ids.add(car.installed.schedule.profile_id)
        for one in sorted(ids):
            clear = ClearSchedule(
                station_id=car.session.station_id, profile_id=one, evse_id=car.session.evse_id
            )
            await self.devices.run(clear, asked_by="planner")

    async def _send(
        self, known: Snapshot, case: PlanningCase, change: Change, *, plan_id: int
    ) -> tuple[CommandResult, InstalledSchedule]:
        session = change.car.session
        wanted = self._schedule(known, case, change.car, change.planned)
        if change.wakes and not _every_s(change.car):
            most = _limits(change.car).max_periods
            wanted = woken(wanted, now=self.clock.now(), max_periods=most)
        edges_at, row = _from_now(known, case, change.car, change.planned)
        # On record before it goes out: whatever happens to us meanwhile, it may be in force.
        kept = InstalledSchedule(
            session_id=session.session_id,
            profile_id=wanted.profile_id,
            schedule=wanted,
            edges_at=edges_at,
            row_kw=row,
            sent_at=self.clock.now(),
            outcome=Outcome.SENT,
            plan_id=plan_id,
        )
        install_id = await self.store.write(lambda tx: plans.insert_installed(tx, kept))
        if change.car.station.limits.same_id == "clear_first":
            await self._clear(change.car, wanted.profile_id)
        command = SetSchedule(
            station_id=session.station_id,
            evse_id=session.evse_id,
            transaction_id=session.transaction_id,
            schedule=wanted,
            is_update=_is_held(change.car, wanted),
        )
        command_id, result = await self.devices.run(command, asked_by="planner")
        if command.is_update and result.outcome in (Outcome.REJECTED, Outcome.NOT_SUPPORTED):
            # It knows the profile no longer: it is given it once more.
            command_id, result = await self.devices.run(
                replace(command, is_update=False), asked_by="planner"
            )
        await self.store.write(
            lambda tx: plans.finish_installed(tx, install_id, result.outcome, command_id=command_id)
        )
        if not result.is_accepted:
            log.warning(
                "schedule not accepted",
                station_id=session.station_id,
                session_id=session.session_id,
                outcome=str(result.outcome),
                status=result.status or result.error_code or result.why_not_sent,
            )
        return result, kept


def _purpose(known: Snapshot, car: Car) -> str:
    """Return the purpose of a profile by which a car's station limits it."""
    station = car.station
    evses = sum(e.station_id == station.station_id for e in known.evses)
    return purpose(station.limits.cascade, evses=evses)


def _every_s(car: Car) -> int:
    """Return how often a car's station asks for its limit, 0 where it takes whole schedules."""
    return car.station.limits.dynamic_s if car.station.version is OcppVersion.V21 else 0


def _is_held(car: Car, wanted: Schedule) -> bool:
    """Return whether the station surely holds `wanted` as a dynamic profile with another limit."""
    if wanted.update_every_s is None or car.installed is None or car.doubtful:
        return False
    known = car.installed.schedule
    return (known.profile_id, known.unit, known.update_every_s) == (
        wanted.profile_id,
        wanted.unit,
        wanted.update_every_s,
    )


def _limits(car: Car) -> StationLimits:
    """Return what the station takes, narrowed to what the car itself can (2.0.1 K15)."""
    told = car.wish.max_periods if car.wish is not None else None
    limits = car.station.limits
    return limits if told is None else replace(limits, max_periods=min(limits.max_periods, told))


def _was_refused(car: Car, wanted: Schedule) -> bool:
    """Return whether a schedule was refused before as it is, and nothing would be new about it.

    Where an id has to be cleared first, once more after clearing is something new.
    """
    before = sum(is_unsent_again(wanted, refused) for refused in car.refused)
    return before > (0 if car.station.limits.same_id == "replaces" else 1)


def _is_due(car: Car) -> bool:
    """Return whether the car waits for a profile: it told its needs, or proposed too much."""
    if car.wish is None:
        return False
    return car.installed is None or car.installed.sent_at < car.wish.due_at


def _not_before_others(
    known: Snapshot,
    case: PlanningCase,
    car: Car,
    edges_at: tuple[datetime, ...],
    row: Row,
) -> tuple[tuple[datetime, ...], Row]:
    """Return a row that raises nothing within a minute after a boundary.

    What pays for the raise may be a reduction at that boundary, at a station whose clock is slow.
    """
    until = slot_start(case.now_at) + timedelta(seconds=RAISE_AFTER_S)
    if not edges_at[0] < until < edges_at[1] or case.now_at >= until:
        return edges_at, row
    guard = own_guard_kw(car)
    present = guard
    if car.installed is not None:
        present = row_of(
            car.installed.schedule,
            edges_at=(case.now_at, case.now_at + timedelta(seconds=1)),
            phases=usable_phases(car),
            voltage_v=known.site.voltage_v,
            after_kw=guard,
        )[0]
    if row[0] <= present + WORTH_KW:
        return edges_at, row
    return (edges_at[0], until, *edges_at[1:]), (min(present, row[0]), *row)


def _from_now(
    known: Snapshot, case: PlanningCase, car: Car, row: Sequence[float]
) -> tuple[tuple[datetime, ...], Row]:
    """Return the edges and the row to send: until the plan's first slot all stays as it is."""
    if case.edges_at[0] <= case.now_at:
        return case.edges_at, tuple(row)
    until_then = (case.now_at, case.edges_at[0])
    present = followed_kw(car, known.site, until_then)
    guard = own_guard_kw(car)
    return (case.now_at, *case.edges_at), (present[0] if present else guard, *row)


def in_force_row(car: Car, installed: InstalledSchedule, site: Site) -> InForce:
    """Return a schedule that was accepted as the row that its car follows.

    What the schedule leaves open the guard allows: one of a single period ends before its row.
    """
    allows = row_of(
        installed.schedule,
        edges_at=installed.edges_at,
        phases=usable_phases(car),
        voltage_v=site.voltage_v,
        after_kw=own_guard_kw(car),
    )
    unit, limits = installed.schedule.unit, car.station.limits
    per_a_kw = usable_phases(car) * site.voltage_v / 1000.0
    return InForce(
        edges_at=installed.edges_at,
        power_kw=larger(installed.row_kw, allows),
        accepted_at=installed.sent_at,
        above_share=_above_share(unit),
        phases=usable_phases(car),
        voltage_v=_nominal_v(unit, car, site),
        step_kw=limits.step_a * per_a_kw if unit == "A" else limits.step_w / 1000.0,
    )


def _nominal_v(unit: str, car: Car, site: Site) -> float:
    """Return the voltage by which amperes were told, 0 where they were not, or not alternating."""
    return site.voltage_v if unit == "A" and not car.is_dc else 0.0


def _above_share(unit: str) -> float:
    """Return how far above its row a car may be measured and still follow it.

    A station that keeps to amperes draws more where the mains are above their nominal voltage,
    by up to a tenth (EN 50160): that is the site's voltage, not a station that ignores us.
    """
    return 0.1 if unit == "A" else 0.01


def _may_send(car: Car) -> bool:
    """Return whether a car's station can be sent schedules now."""
    station = car.station
    is_here = station.link_state is LinkState.ONLINE
    return is_here and station.automation and station.limits.supports_profiles
