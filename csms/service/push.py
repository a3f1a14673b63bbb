"""From a plan to schedules in force, in an order that keeps the site's limit at every step.

A station follows what it has accepted until something newer is accepted. So a car's limit is
raised only when the room for it is really free: what is in flight counts as the larger of old and
new, and a raise waits for the answers to the reductions that pay for it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil

import structlog

from csms.clock import Clock
from csms.core.messages import CommandResult, Outcome, Schedule, SetSchedule
from csms.core.model import LinkState, OcppVersion
from csms.core.plan import Plan, PlanningCase
from csms.core.session import InForce
from csms.core.units import slot_start
from csms.planning.dynamic import dynamic, held
from csms.planning.profile import same_schedule, schedule
from csms.service.cases import (
    Car,
    Snapshot,
    followed_kw,
    guard_kw,
    in_force_kw,
    least_kw,
    usable_phases,
)
from csms.service.devices import Devices
from csms.store import plans
from csms.store.database import Store
from csms.store.plans import InstalledSchedule

log = structlog.get_logger(__name__)

PROFILE_ID = 1_000
"""Plans' profile ids: this plus the session's number modulo a million; the same id on update."""

_PROFILE_RANGE = 800_000
_PAST = timedelta(seconds=2)
_TOLERANCE_KW = 1e-6
WORTH_KW = 0.05
"""A raise of less than this in every slot is not worth a message."""

Row = tuple[float, ...]


@dataclass(slots=True)
class Pushed:
    """What came of one push: sessions by what their station said."""

    accepted: dict[str, InForce] = field(default_factory=dict)
    failed: dict[str, Outcome] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """How many schedules went out."""
        return len(self.accepted) + len(self.failed)


@dataclass(slots=True)
class _Change:
    car: Car
    old: Row
    new: Row
    planned: Row
    least: Row
    unit: str


class Pusher:
    """Sends what changed and keeps what was accepted."""

    def __init__(self, *, store: Store, devices: Devices, clock: Clock) -> None:
        self.store = store
        self.devices = devices
        self.clock = clock

    async def push(
        self, known: Snapshot, case: PlanningCase, plan: Plan, *, plan_id: int
    ) -> Pushed:
        """Bring `plan` into force; returns when every station has answered or timed out."""
        pushed = Pushed()
        in_force = {c.session.session_id: _counted(c, known, case) for c in known.cars}
        changes = self._changes(known, case, plan, in_force, pushed)
        while changes:
            batch, step_id = _fitting(changes, in_force, case), ""
            if batch:
                changes = [c for c in changes if c not in batch]
            else:
                step = _reduction(changes)
                if step is not None:
                    batch, step_id = [step], step.car.session.session_id
                else:
                    # Only raises are left, and what others hold is a little more than planned.
                    batch, changes = _as_far_as_it_fits(changes, in_force, case), []
            results = await self._send_all(known, case, batch, plan_id=plan_id)
            failed = False
            for change, result in zip(batch, results, strict=True):
                session_id = change.car.session.session_id
                if result.is_accepted:
                    in_force[session_id] = change.new
                    edges_at, row = _from_now(known, case, change.car, change.planned)
                    pushed.accepted[session_id] = InForce(
                        edges_at=edges_at,
                        power_kw=row,
                        accepted_at=self.clock.now(),
                        above_share=_above_share(change.unit),
                    )
                    continue
                # Whether the old or the new one is in force is unknown until it says so.
                in_force[session_id] = _larger(change.old, change.new)
                pushed.failed[session_id] = result.outcome
                failed = True
            if failed:
                # The plan counted on these stations: what is left is planned again without them.
                changes = []
            for change in changes:
                change.old = in_force[change.car.session.session_id]
                if change.car.session.session_id == step_id:
                    change.least = batch[0].planned
        await self._remind(known, case, pushed, plan_id=plan_id)
        return pushed

    async def _remind(
        self, known: Snapshot, case: PlanningCase, pushed: Pushed, *, plan_id: int
    ) -> None:
        """Send cars that draw more than their schedule allows that schedule again, once per slot.

        A station may have lost it. The car counts with what it draws until its meter shows less,
        whatever the station answers.
        """
        slot_began = slot_start(case.now_at)
        reminders = []
        for car, session in zip(known.cars, case.sessions, strict=True):
            if car.installed is None or session.fixed_kw is None or not _may_send(car):
                continue
            row = in_force_kw(car, known.site, case.edges_at)
            if car.installed.sent_at < slot_began and session.fixed_kw[0] > row[0]:
                unit = car.installed.schedule.unit
                reminders.append(
                    _Change(car=car, old=row, new=row, planned=row, least=row, unit=unit)
                )
        results = await self._send_all(known, case, reminders, plan_id=plan_id)
        for change, result in zip(reminders, results, strict=True):
            if not result.is_accepted:
                pushed.failed[change.car.session.session_id] = result.outcome

    def _changes(
        self,
        known: Snapshot,
        case: PlanningCase,
        plan: Plan,
        in_force: Mapping[str, Row],
        pushed: Pushed,
    ) -> list[_Change]:
        found = []
        for car, session in zip(known.cars, case.sessions, strict=True):
            planned = plan.row(session.session_id)
            if planned is None or session.fixed_kw is not None:
                continue
            row_kw = held(planned.power_kw) if _every_s(car) else planned.power_kw
            new_schedule = self._schedule(known, case, car, row_kw)
            old_schedule = car.installed.schedule if car.installed else None
            # As of now: the plan is older than the schedule, which does not reach back to it.
            is_same = old_schedule is not None and same_schedule(
                old_schedule, new_schedule, now=self.clock.now()
            )
            if is_same and not car.doubtful:
                pushed.unchanged.append(session.session_id)
                continue
            floor = guard_kw(car.evse, car.station)
            found.append(
                _Change(
                    car=car,
                    old=in_force[session.session_id],
                    new=tuple(max(kw, floor) for kw in row_kw),
                    planned=row_kw,
                    least=least_kw(car, known.site, case.edges_at),
                    unit=new_schedule.unit,
                )
            )
        return found

    def _schedule(
        self, known: Snapshot, case: PlanningCase, car: Car, row: Sequence[float]
    ) -> Schedule:
        is_dc = car.evse.current_type == "DC"
        edges_at, from_now_kw = _from_now(known, case, car, row)
        found = schedule(
            from_now_kw,
            edges_at,
            limits=car.station.limits,
            profile_id=PROFILE_ID + car.session.number % _PROFILE_RANGE,
            phases=usable_phases(car),
            voltage_v=known.site.voltage_v,
            starts_at=(self.clock.now() - _PAST).replace(microsecond=0),
            tail_kw=guard_kw(car.evse, car.station),
            prefers_w=is_dc,
        )
        # Without a link a schedule holds as far as the plan reaches; then the guard does.
        reach = edges_at[-1] - self.clock.now()
        found = replace(found, max_offline_s=max(ceil(reach.total_seconds()), 1))
        every_s = _every_s(car)
        return dynamic(found, now=self.clock.now(), every_s=every_s) if every_s else found

    async def _send_all(
        self, known: Snapshot, case: PlanningCase, batch: Sequence[_Change], *, plan_id: int
    ) -> list[CommandResult]:
        """Send a batch and wait for all of it, also where one of it fails for good."""
        sent = await asyncio.gather(
            *(self._send(known, case, change, plan_id=plan_id) for change in batch),
            return_exceptions=True,
        )
        results = []
        for result in sent:
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        return results

    async def _send(
        self, known: Snapshot, case: PlanningCase, change: _Change, *, plan_id: int
    ) -> CommandResult:
        session = change.car.session
        wanted = self._schedule(known, case, change.car, change.planned)
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
        return result


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


def _from_now(
    known: Snapshot, case: PlanningCase, car: Car, row: Sequence[float]
) -> tuple[tuple[datetime, ...], Row]:
    """Return the edges and the row to send: until the plan's first slot all stays as it is."""
    if case.edges_at[0] <= case.now_at:
        return case.edges_at, tuple(row)
    until_then = (case.now_at, case.edges_at[0])
    present = followed_kw(car, known.site, until_then)
    guard = guard_kw(car.evse, car.station)
    return (case.now_at, *case.edges_at), (present[0] if present else guard, *row)


def in_force(installed: InstalledSchedule) -> InForce:
    """Return a stored schedule that was accepted as the row that its car follows."""
    return InForce(
        edges_at=installed.edges_at,
        power_kw=installed.row_kw,
        accepted_at=installed.sent_at,
        above_share=_above_share(installed.schedule.unit),
    )


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


def _counted(car: Car, known: Snapshot, case: PlanningCase) -> Row:
    """Return what the site has to count for a car now: its schedule, and never less than its guard.

    A car that draws more than its station allows is counted at what it draws.
    """
    floor = guard_kw(car.evse, car.station)
    row = tuple(max(kw, floor) for kw in in_force_kw(car, known.site, case.edges_at))
    fixed = next(
        (s.fixed_kw for s in case.sessions if s.session_id == car.session.session_id), None
    )
    return row if fixed is None else _larger(row, fixed)


def _larger(a: Row, b: Row) -> Row:
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def _room(case: PlanningCase) -> Row:
    return tuple(
        limit - base - case.idle_guard_kw
        for limit, base in zip(case.limit_kw, case.base_load_kw, strict=True)
    )


def _fitting(
    changes: Sequence[_Change], in_force: Mapping[str, Row], case: PlanningCase
) -> list[_Change]:
    """Return the changes that can be in flight together, reductions first.

    A change fits when the site keeps its limit in every slot with it counted at the larger of old
    and new. Where the limit is passed already, only what is surely a reduction goes.
    """
    room = _room(case)
    total = [sum(column) for column in zip(*in_force.values(), strict=True)]
    batch = []
    for change in sorted(changes, key=lambda c: sum(c.new) - sum(c.old)):
        extra = [max(new - old, 0.0) for new, old in zip(change.new, change.old, strict=True)]
        rises = [
            new > was + _TOLERANCE_KW for new, was in zip(change.planned, change.least, strict=True)
        ]
        fits = all(
            not (more > _TOLERANCE_KW or rises[k]) or total[k] + more <= room[k] + _TOLERANCE_KW
            for k, more in enumerate(extra)
        )
        if fits:
            batch.append(change)
            total = [t + more for t, more in zip(total, extra, strict=True)]
    return batch


def _as_far_as_it_fits(
    changes: Sequence[_Change], in_force: Mapping[str, Row], case: PlanningCase
) -> list[_Change]:
    """Return raises cut down, slot by slot, to the room that is really free.

    Rows in force differ from the plan by roundings and small steps that are not worth a message;
    a car must not wait for its whole raise because of a few watts.
    """
    room = _room(case)
    total = [sum(column) for column in zip(*in_force.values(), strict=True)]
    cut = []
    for change in sorted(changes, key=lambda c: c.car.session.started_at):
        free = [max(most - load, 0.0) for most, load in zip(room, total, strict=True)]
        new = tuple(min(n, o + f) for n, o, f in zip(change.new, change.old, free, strict=True))
        planned = tuple(
            min(p, n) if total[k] <= room[k] + _TOLERANCE_KW else min(p, change.least[k])
            for k, (p, n) in enumerate(zip(change.planned, new, strict=True))
        )
        if any(p > o + WORTH_KW for p, o in zip(planned, change.least, strict=True)):
            cut.append(replace(change, new=new, planned=planned))
            total = [t + max(n - o, 0.0) for t, n, o in zip(total, new, change.old, strict=True)]
    return cut


def _given_back(change: _Change) -> float:
    return sum(max(old - new, 0.0) for old, new in zip(change.old, change.new, strict=True))


def _reduction(changes: Sequence[_Change]) -> _Change | None:
    """Return a step that frees room where changes wait for each other, None if none can.

    The car that gives back most in some slots first gets the least of old and new in each, old
    being the least of what its station may hold: that is a reduction whatever is in force.
    """
    giver = max(changes, key=_given_back)
    if _given_back(giver) <= _TOLERANCE_KW:
        return None
    less = tuple(min(o, n) for o, n in zip(giver.old, giver.new, strict=True))
    planned = tuple(min(p, kw) for p, kw in zip(giver.planned, giver.least, strict=True))
    return replace(giver, new=less, planned=planned)
