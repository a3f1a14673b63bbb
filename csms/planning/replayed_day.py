"""Days of recorded stays lived through again, event by event, with any planner; no clock, no I/O.

At each arrival, departure and slot, and whenever a car is seen to take less than it was given, the
site is planned from what was known then: the cars that stand there, what they said, day-ahead
prices once they are published, a forecast of arrivals. Rows become schedules as stations take
them, schedules are sent where they differ from those in force, and batteries take of them what
they can, less and less above the knee. Left out are lost links and late answers (tests/scenarios
live through those), and the guards of empty EVSEs.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TypeVar
from zoneinfo import ZoneInfo

from csms.core.commands import Schedule
from csms.core.model import CarbonIntensity, Need, Price
from csms.core.plan import Plan, PlanningCase, PlanningSession, Start
from csms.core.units import slot_start, w_from_a
from csms.planning.learning import SETTLING, Given, Observed, Reading, learn
from csms.planning.profile import (
    RAISE_AFTER_S,
    plan_profile_id,
    row_of,
    same_schedule,
    schedule,
)
from csms.planning.slots import carbon_series, edges, price_series, reserve_series
from csms.planning.taper import power_share, ready_by, taken_kwh
from csms.planning.visits import ReplayedDay, Visit, VisitOutcome, World, least_kw

SAMPLE = timedelta(minutes=5)
"""How often meters tell what cars take."""
QUARTER = timedelta(minutes=15)
PUBLISHED_HOUR = 13
"""Local hour from which the next day's prices are known."""
PAUSE_KWH = 0.15
"""Going from some power to none is a pause while a car still lacks more than this."""
TOLERANCE_KW = 1.0
_PASSED_KW = 1e-3
_JUST_NOW = timedelta(seconds=1)
_LATE = SETTLING + timedelta(seconds=RAISE_AFTER_S)

T = TypeVar("T", Price, CarbonIntensity)
Planner = Callable[[PlanningCase], Plan]
Watcher = Callable[[PlanningCase, Plan], None]
Progress = Callable[[datetime], None]
Reserve = Callable[[datetime], Mapping[datetime, float]]
"""The headroom for cars yet to arrive as forecast at an instant, kW by quarter-hour start."""


def _none(_: datetime) -> Mapping[datetime, float]:
    return {}


@dataclass(slots=True)
class _Car:
    """A car that stands there: its battery, its schedule as steps, and what was seen of it."""

    visit: Visit
    place: int
    soc: float
    taken_kwh: float = 0.0
    installed: Schedule | None = None
    sent_at: datetime | None = None
    steps: list[tuple[datetime, float]] = field(default_factory=list)
    seen: Observed = field(default_factory=Observed)
    was_allowed: bool = False
    turned_at: datetime | None = None
    """When it was last let charge after a pause, or paused after it was let charge."""

    def allowed_kw(self, at: datetime) -> float:
        """Return what its station allows at `at`."""
        place = bisect_right(self.steps, at, key=lambda step: step[0])
        return self.steps[place - 1][1] if place else 0.0

    def draws_kw(self, at: datetime, world: World) -> float:
        """Return what it draws at `at`."""
        allowed = self.allowed_kw(at)
        if allowed < least_kw(self.visit, world) - 1e-6 or self.soc >= self.visit.max_soc - 1e-9:
            return 0.0
        return min(allowed, self.visit.max_kw * power_share(self.soc))

    def takes_kwh(self, at: datetime, hours: float, world: World) -> float:
        """Return what it takes at the meter in `hours` from `at` on, under one limit."""
        allowed, visit = self.allowed_kw(at), self.visit
        if allowed < least_kw(visit, world) - 1e-6:
            return 0.0
        return taken_kwh(
            hours,
            soc=self.soc,
            until_soc=visit.max_soc,
            battery_kwh=visit.battery_kwh,
            efficiency=visit.efficiency,
            max_kw=visit.max_kw,
            limit_kw=allowed,
        )


def replay_days(
    visits: Sequence[Visit],
    world: World,
    *,
    planner: Planner,
    reserve: Reserve = _none,
    watch: Watcher | None = None,
    progress: Progress | None = None,
) -> ReplayedDay:
    """Live through `visits` at `world`'s site; `watch` sees each case with its plan."""
    return _Replay(visits, world, planner, reserve, watch, progress).run()


class _Replay:
    """The run itself: who is there, what was drawn, what was counted."""

    def __init__(
        self,
        visits: Sequence[Visit],
        world: World,
        planner: Planner,
        reserve: Reserve,
        watch: Watcher | None,
        progress: Progress | None,
    ) -> None:
        self.world, self.planner, self.reserve = world, planner, reserve
        self.watch, self.progress = watch, progress
        self.to_come = sorted(visits, key=lambda v: (v.arrives_at, v.visit_id), reverse=True)
        self.cars: dict[str, _Car] = {}
        self.outcomes: list[VisitOutcome] = []
        self.quarters: dict[datetime, float] = {}
        self.cost_eur = self.co2_kg = 0.0
        self.plans = self.fallbacks = self.sent = self.pauses = self.violations = 0
        self.start: Start | None = None
        self.zone = ZoneInfo(world.time_zone)
        self.price_starts = [p.starts_at for p in world.prices]
        self.carbon_starts = [c.starts_at for c in world.carbon]

    def run(self) -> ReplayedDay:
        if self.to_come:
            self._live(self.to_come[-1].arrives_at)
        world = self.world
        peak_kw = self._peak_kw()
        return ReplayedDay(
            strategy=world.strategy,
            limit_kw=world.limit_kw,
            visits=tuple(self.outcomes),
            energy_kwh=sum(self.quarters.values()),
            cost_eur=self.cost_eur,
            co2_kg=self.co2_kg,
            peak_kw=peak_kw,
            demand_charge_eur=peak_kw * world.demand_charge_eur_per_kw,
            plans=self.plans,
            fallbacks=self.fallbacks,
            profiles_sent=self.sent,
            pauses=self.pauses,
            violations=self.violations,
        )

    def _live(self, now: datetime) -> None:
        while self.cars or self.to_come:
            is_due = self._leave(now)
            is_due = self._arrive(now) or is_due
            is_due = self._look(now) or is_due
            if self.cars and (is_due or slot_start(now, slot_s=self.world.slot_s) == now):
                self._plan(now)
            until = self._next(now)
            if until is None:
                return
            self._advance(now, until)
            if self.progress is not None and until.date() != now.date():
                self.progress(until)
            now = until

    # --- who comes and goes --------------------------------------------------------------------

    def _leave(self, now: datetime) -> bool:
        gone = [car for car in self.cars.values() if car.visit.departs_at <= now]
        for car in gone:
            del self.cars[car.visit.visit_id]
            self._end(car.visit, car.taken_kwh)
        return bool(gone)

    def _arrive(self, now: datetime) -> bool:
        came = False
        while self.to_come and self.to_come[-1].arrives_at <= now:
            visit = self.to_come.pop()
            taken = {car.place for car in self.cars.values()}
            chargers = self.world.chargers
            if chargers is not None and len(taken) >= chargers:
                self._end(visit, 0.0, is_turned_away=True)
                continue
            place = next(i for i in range(1, len(taken) + 2) if i not in taken)
            self.cars[visit.visit_id] = _Car(visit=visit, place=place, soc=visit.soc)
            came = True
        return came

    def _end(self, visit: Visit, taken: float, *, is_turned_away: bool = False) -> None:
        could = taken_kwh(
            (visit.departs_at - visit.arrives_at) / timedelta(hours=1),
            soc=visit.soc,
            until_soc=visit.max_soc,
            battery_kwh=visit.battery_kwh,
            efficiency=visit.efficiency,
            max_kw=visit.max_kw,
            limit_kw=self.world.charger_kw,
        )
        self.outcomes.append(
            VisitOutcome(
                visit_id=visit.visit_id,
                need_kwh=visit.need_kwh,
                taken_kwh=taken,
                could_kwh=could,
                is_turned_away=is_turned_away,
            )
        )

    # --- what meters tell ----------------------------------------------------------------------

    def _look(self, now: datetime) -> bool:
        """Learn from a round of samples; return whether one of them asks for a new plan."""
        if slot_start(now, slot_s=int(SAMPLE.total_seconds())) != now:
            return False
        is_due = False
        for car in self.cars.values():
            if car.sent_at is None:
                continue
            planned_kw, draws_kw = car.allowed_kw(now), car.draws_kw(now, self.world)
            is_same = planned_kw == car.allowed_kw(now - _LATE)
            given = Given(
                power_kw=planned_kw,
                phases=car.visit.phases,
                voltage_v=self.world.voltage_v,
                is_settled=now - car.sent_at >= SETTLING and is_same,
                left="below" if planned_kw - draws_kw > TOLERANCE_KW else "",
            )
            is_due = bool(learn(car.seen, Reading(at=now, power_kw=draws_kw), given)) or is_due
        return is_due

    # --- planning and sending ------------------------------------------------------------------

    def _plan(self, now: datetime) -> None:
        case = self.case(now)
        made = self.planner(case)
        self.start = made.start
        self.plans += 1
        self.fallbacks += made.status == "fallback"
        if self.watch is not None:
            self.watch(case, made)
        for car, planned in zip(self.cars.values(), made.sessions, strict=True):
            self._send(car, planned.power_kw, case)

    def _send(self, car: _Car, row_kw: Sequence[float], case: PlanningCase) -> None:
        world, now = self.world, case.now_at
        made = schedule(
            row_kw,
            case.edges_at,
            limits=world.limits,
            profile_id=plan_profile_id(car.place),
            phases=car.visit.phases,
            voltage_v=world.voltage_v,
            starts_at=now.replace(microsecond=0),
            tail_kw=0.0,
            raise_after_s=RAISE_AFTER_S,
        )
        if car.installed is not None and same_schedule(car.installed, made, now=now):
            return
        car.installed, car.sent_at = made, now
        car.steps = steps_of(made, phases=car.visit.phases, voltage_v=world.voltage_v)
        self.sent += 1

    def case(self, now: datetime) -> PlanningCase:
        """Return the site as it was known at `now`."""
        world = self.world
        edges_at = edges(now, horizon_h=world.horizon_h, slot_s=world.slot_s)
        notes: list[str] = []
        return PlanningCase(
            site_id=world.site_id,
            now_at=now,
            strategy=world.strategy,
            edges_at=edges_at,
            limit_kw=(world.limit_kw,) * (len(edges_at) - 1),
            base_load_kw=self._base(edges_at),
            reserved_kw=reserve_series(self.reserve(now), edges_at),
            price_eur_per_kwh=price_series(self._published(now, edges_at[-1]), edges_at, notes),
            co2_kg_per_kwh=carbon_series(_within(world.carbon, now, edges_at[-1]), edges_at),
            demand_charge_eur_per_kw=world.demand_charge_eur_per_kw,
            billed_peak_kw=self._peak_kw() if world.demand_charge_eur_per_kw > 0 else 0.0,
            days_left=max((world.until - now) / timedelta(days=1), 1.0),
            sessions=tuple(self._session(car, edges_at, now) for car in self.cars.values()),
            notes=tuple(notes),
            start=self.start,
        )

    def _base(self, edges_at: Sequence[datetime]) -> tuple[float, ...]:
        return tuple(
            max(self.world.base_at(start), self.world.base_at(end - timedelta(seconds=1)))
            for start, end in pairwise(edges_at)
        )

    def _published(self, now: datetime, until: datetime) -> Sequence[Price]:
        """Return the prices that were known at `now`: the next day's come at noon."""
        local = now.astimezone(self.zone)
        days = 2 if local.hour >= PUBLISHED_HOUR else 1
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        known_until = (midnight + timedelta(days=days)).replace(tzinfo=self.zone).astimezone(UTC)
        return _within(self.world.prices, now, min(until, known_until))

    def _session(self, car: _Car, edges_at: tuple[datetime, ...], now: datetime) -> PlanningSession:
        visit, world = car.visit, self.world
        missing = max(visit.need_kwh - car.taken_kwh, 0.0)
        most_kw = min(visit.max_kw, world.charger_kw)
        departs_at = ready_by(
            Need(required_kwh=missing, preferred_kwh=missing, departs_at=visit.stated_departs_at),
            soc=car.soc,
            battery_kwh=visit.battery_kwh,
            efficiency=visit.efficiency,
            max_kw=most_kw,
            now=now,
        )
        least = min(least_kw(visit, world), most_kw)
        if car.seen.cap_kw is not None:
            most_kw = max(min(most_kw, car.seen.cap_kw), least)
        row: tuple[float, ...] = ()
        if car.installed is not None:
            row = row_of(
                car.installed,
                edges_at=edges_at,
                phases=visit.phases,
                voltage_v=world.voltage_v,
                after_kw=0.0,
            )
        return PlanningSession(
            session_id=visit.visit_id,
            station_id=f"charger {car.place}",
            evse_id=1,
            available_at=visit.arrives_at,
            departs_at=departs_at,
            required_kwh=missing,
            preferred_kwh=missing,
            max_kw=most_kw,
            min_kw=least,
            phases=visit.phases,
            priority=visit.priority,
            current_kw=car.allowed_kw(now - _JUST_NOW) if row else None,
            since_on_at=car.turned_at if car.was_allowed else None,
            since_off_at=None if car.was_allowed else car.turned_at,
            in_force_kw=row,
            voltage_v=world.voltage_v,
            step_a=world.limits.step_a if world.limits.step_a >= 1.0 else 0.0,
            delivered_kwh=car.taken_kwh,
            never_pause=car.seen.never_pause,
            max_periods=world.limits.max_periods,
        )

    # --- time passes ---------------------------------------------------------------------------

    def _next(self, now: datetime) -> datetime | None:
        """Return the next instant at which anything changes, None if nothing will."""
        times = [self.to_come[-1].arrives_at] if self.to_come else []
        if self.cars:
            times.append(slot_start(now, slot_s=int(SAMPLE.total_seconds())) + SAMPLE)
        for car in self.cars.values():
            times.append(car.visit.departs_at)
            place = bisect_right(car.steps, now, key=lambda step: step[0])
            if place < len(car.steps):
                times.append(car.steps[place][0])
        return min(times, default=None)

    def _advance(self, now: datetime, until: datetime) -> None:
        """Let the cars charge in [now, until), in which no limit changes."""
        hours = (until - now) / timedelta(hours=1)
        total, allowed, draws = 0.0, 0.0, 0.0
        for car in self.cars.values():
            may_kw = car.allowed_kw(now)
            allowed += min(may_kw, car.visit.max_kw)
            draws += car.draws_kw(now, self.world)
            missing = car.visit.need_kwh - car.taken_kwh
            self.pauses += car.was_allowed and may_kw <= 0 and missing > PAUSE_KWH
            if car.was_allowed != (may_kw > 0):
                car.was_allowed, car.turned_at = may_kw > 0, now
            taken = car.takes_kwh(now, hours, self.world)
            car.taken_kwh += taken
            car.soc += taken * car.visit.efficiency / car.visit.battery_kwh
            total += taken
        room = max(self.world.limit_kw - self.world.base_at(now), 0.0)
        self.violations += max(allowed, draws) > room + _PASSED_KW
        if total <= 0:
            return
        start = slot_start(now)
        self.quarters[start] = self.quarters.get(start, 0.0) + total
        self.cost_eur += total * self._at(self.price_starts, now, "price")
        self.co2_kg += total * self._at(self.carbon_starts, now, "carbon")

    def _at(self, starts: Sequence[datetime], at: datetime, kind: str) -> float:
        if not starts:
            return 0.0
        place = max(bisect_right(starts, at) - 1, 0)
        if kind == "price":
            return self.world.prices[place].eur_per_kwh
        return self.world.carbon[place].kg_per_kwh

    def _peak_kw(self) -> float:
        """Return the highest quarter hour so far, the building counted."""
        return max(
            (kwh * 4.0 + self.world.base_at(start) for start, kwh in self.quarters.items()),
            default=0.0,
        )


def _within(rows: Sequence[T], start: datetime, until: datetime) -> Sequence[T]:
    first = max(bisect_right(rows, start, key=lambda r: r.starts_at) - 1, 0)
    last = bisect_right(rows, until, key=lambda r: r.starts_at)
    return [r for r in rows[first:last] if r.starts_at < until]


def steps_of(made: Schedule, *, phases: int, voltage_v: float) -> list[tuple[datetime, float]]:
    """Return from when on a schedule allows which power, kW; its end allows none."""

    def kw(limit: float) -> float:
        watts = limit
        if made.unit == "A":
            watts = w_from_a(limit, phases=phases, voltage_v=voltage_v)
        return watts / 1000.0

    steps = [(made.starts_at + timedelta(seconds=p.start_s), kw(p.limit)) for p in made.periods]
    if made.duration_s is not None:
        steps.append((made.starts_at + timedelta(seconds=made.duration_s), 0.0))
    return steps
