"""Which sites to plan again, when, and what to send: the loop that closes over the cars.

`touch` is cheap and idempotent. Touches are collected for a moment, one run per site at a time;
touches during a run cause one more. A plan that fails leaves the last accepted schedules in force.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from csms.clock import Clock
from csms.core.commands import ClearSchedule
from csms.core.errors import StoreUnavailable
from csms.core.messages import Notice
from csms.core.model import Event, Session
from csms.core.plan import Plan, PlanningCase, Start
from csms.core.session import InForce
from csms.planning.planner import fallback, faults_of
from csms.planning.planner import plan as plan_optimally
from csms.service import watching
from csms.service.cases import NO_TERMS, SiteTerms, Snapshot, Surroundings, planning_case, snapshot
from csms.service.challenger import Challengers
from csms.service.charging import Effect
from csms.service.following import Follower, car_of
from csms.service.push import Pushed, Pusher, in_force_row
from csms.store import journal, plans, reported
from csms.store.database import Store
from csms.store.statements import Tx
from csms.telemetry import Metrics

log = structlog.get_logger(__name__)

Planner = Callable[[PlanningCase], Plan]
Reserve = Callable[[str, datetime], Mapping[datetime, float]]
Planned = Callable[[Snapshot, PlanningCase, Plan], None]

LONGEST_PLAN_S = 60.0
"""Machine seconds after which a planner counts as hanging; the built-in one takes milliseconds."""
MOST_EVENTS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningOptions:
    """How sites are planned; `carbon_of` maps a site to its carbon source."""

    automation: bool = True
    slot_s: int = 900
    horizon_h: float = 24.0
    collect_s: float = 2.0
    tolerance_kw: float = 1.0
    terms_of: Mapping[str, SiteTerms] = field(default_factory=dict)
    carbon_of: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _SiteState:
    why: list[str] = field(default_factory=list)
    is_running: bool = False
    held: set[str] = field(default_factory=set)
    cars: set[str] = field(default_factory=set)
    hanging: asyncio.Future[tuple[Plan, float]] | None = None
    start: Start | None = None
    """Where the last plan's solver ended."""
    waiters: list[asyncio.Future[bool]] = field(default_factory=list)
    """Who waits for the next run's outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A plan with what it was made of; `asked` is the case before another strategy stepped in."""

    known: Snapshot
    asked: PlanningCase
    case: PlanningCase
    made: Plan
    cpu_s: float
    fault: str


class Replanner:
    """Plans touched sites and brings the plans into force."""

    def __init__(
        self,
        *,
        store: Store,
        pusher: Pusher,
        clock: Clock,
        options: PlanningOptions,
        metrics: Metrics,
        notify: Callable[[Notice], None],
        reserve: Reserve,
        planned: Planned,
        planner: Planner = plan_optimally,
        longest_plan_s: float = LONGEST_PLAN_S,
        challengers: Challengers | None = None,
    ) -> None:
        self.store = store
        self.pusher = pusher
        self.clock = clock
        self.options = options
        self.metrics = metrics
        self.notify = notify
        self.reserve = reserve
        self.planned = planned
        self.planner = planner
        self.longest_plan_s = longest_plan_s
        self.challengers = challengers
        self.follower = Follower(tolerance_kw=options.tolerance_kw, ignoring=self._ignoring)
        self._sites: dict[str, _SiteState] = {}
        self._work = asyncio.Event()
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._ended: deque[Session] = deque(maxlen=MOST_EVENTS)
        """Sessions whose end is still to be looked at for what it says of their station."""
        self._left_behind: deque[ClearSchedule] = deque(maxlen=MOST_EVENTS)
        self._settled_anew: set[str] = set()
        """Stations whose guards go out again, since another purpose limits their cars."""

    # --- what makes a site due -----------------------------------------------------------------

    def touch(self, site_id: str, why: str) -> None:
        """Make `site_id` due for a new plan."""
        if not site_id:
            return
        state = self._sites.setdefault(site_id, _SiteState())
        if why not in state.why:
            state.why.append(why)
        self._work.set()

    async def settled(self, site_id: str, why: str) -> bool:
        """Plan a site and return, once the plan is in force, whether it keeps the limit."""
        self.touch(site_id, why)
        waiter = asyncio.get_running_loop().create_future()
        self._sites[site_id].waiters.append(waiter)
        return bool(await waiter)

    def slot_begins(self, site_id: str) -> None:
        """Make a site due: a slot is about to begin. Stations that failed are tried again."""
        state = self._sites.setdefault(site_id, _SiteState())
        state.held.clear()
        self.touch(site_id, "slot")

    def changed(self, effect: Effect) -> None:
        """Take note of a session whose record is durable."""
        session = effect.session
        why = effect.why or self.follower.sampled(session, now=self.clock.now)
        if effect.why == "session ended":
            self.follower.forget(session.session_id)
            if session.site_id in self._sites:
                self._sites[session.site_id].held.discard(session.session_id)
            self._ended.append(session)
        if why:
            self.touch(session.site_id, why)

    def _ignoring(self, session: Session, power_kw: float) -> None:
        self._events.append(
            Event(
                at=self.clock.now(),
                kind="schedule ignored",
                level="warning",
                site_id=session.site_id,
                station_id=session.station_id,
                session_id=session.session_id,
                detail={"power_kw": round(power_kw, 3)},
            )
        )
        log.warning(
            "schedule ignored",
            station_id=session.station_id,
            session_id=session.session_id,
            power_kw=round(power_kw, 3),
        )

    # --- the loop ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Plan touched sites until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._work.wait()
                self._work.clear()
                for site_id, state in self._sites.items():
                    if state.why and not state.is_running:
                        state.is_running = True
                        group.create_task(self._run_site(site_id, state), name=f"plan {site_id}")

    async def _run_site(self, site_id: str, state: _SiteState) -> None:
        try:
            while state.why:
                await self.clock.sleep(self.options.collect_s)
                why, state.why = state.why, []
                waiting, state.waiters = state.waiters, []
                with _told(waiting) as outcome:
                    outcome.append(await self._plan_and_push(site_id, state, ", ".join(why)))
        except StoreUnavailable as error:
            log.error("site not planned", site_id=site_id, why=str(error))
        except Exception:
            # Whatever went wrong, the last accepted schedules stay in force; the next slot tries
            # again. This is the edge of a task.
            self.metrics.plans.labels(status="failed").inc()
            log.exception("site not planned", site_id=site_id)
        finally:
            state.is_running = False
            if state.why:
                self._work.set()

    async def preview(self, site_id: str) -> tuple[PlanningCase, Plan]:
        """Return the case and the plan as they would be now; nothing is kept or sent."""
        found = await self._plan(site_id)
        return found.case, found.made

    async def _plan(self, site_id: str) -> _Found:
        await self._keep_learned(self.clock.now())
        known, asked = await self.case(site_id)
        state = self._sites.setdefault(site_id, _SiteState())
        asked = replace(asked, start=state.start)
        case, planner = asked, self.planner
        if self.challengers is not None:
            case, planner = self.challengers.in_force(asked)
        made, cpu_s, fault = await self._made(case, state, planner)
        state.start = made.start
        if self.challengers is not None:
            self.challengers.did(asked, made, cpu_s=cpu_s, fault=fault)
        return _Found(known=known, asked=asked, case=case, made=made, cpu_s=cpu_s, fault=fault)

    async def case(self, site_id: str) -> tuple[Snapshot, PlanningCase]:
        """Return a site as it is now, and the planner's input for it; raise UnknownSite."""
        options = self.options
        now = self.clock.now()
        known = await self.store.read(
            lambda tx: snapshot(
                tx,
                site_id,
                now=now,
                horizon_h=options.horizon_h,
                carbon_id=options.carbon_of.get(site_id, "default"),
                site_terms=options.terms_of.get(site_id, NO_TERMS),
            )
        )
        state = self._sites.setdefault(site_id, _SiteState())
        self._remember(state, known)
        surroundings = Surroundings(
            observed=dict(self.follower.observed),
            reserved_kw=self.reserve(site_id, now),
            held=frozenset(state.held),
        )
        case = await asyncio.to_thread(
            planning_case,
            known,
            surroundings,
            now=now,
            horizon_h=options.horizon_h,
            slot_s=options.slot_s,
        )
        return known, case

    async def _keep_learned(self, now: datetime) -> None:
        """Keep what was learned of cars and stations, for this plan and for their next session."""
        habits = self.follower.taken_habits(now)
        over, self._ended = tuple(self._ended), deque(maxlen=MOST_EVENTS)
        seen = self.follower.taken_sights()
        if not (habits or over or seen):
            return

        def work(tx: Tx) -> tuple[list[ClearSchedule | None], watching.Learned]:
            learned = watching.learned(tx, seen, at=now)
            for car, habit in habits.items():
                if car not in {car_of(session) for session in learned.excused}:
                    reported.put_habit(tx, habit)
            for session in over:
                watching.ended(tx, session, at=now)
            return [watching.left_behind(tx, session) for session in over], learned

        left, learned = await self.store.write(work)
        self._left_behind.extend(clear for clear in left if clear is not None)
        self._settled_anew.update(learned.guarded_anew)
        for session in learned.excused:
            self.follower.excused(session.session_id)

    async def _clear_up(self) -> None:
        """Take away the plans of sessions that are over where they would bind the next car."""
        while self._left_behind:
            await self.pusher.devices.run(self._left_behind.popleft(), asked_by="planner")

    async def _guard_anew(self) -> None:
        while self._settled_anew:
            await self.pusher.devices.settle(self._settled_anew.pop(), is_new=True)

    def _remember(self, state: _SiteState, known: Snapshot) -> None:
        """Let go of cars that left, however they did, and know those from before a restart."""
        present = {car.session.session_id: car for car in known.cars}
        for session_id in state.cars - present.keys():
            self.follower.forget(session_id)
            state.held.discard(session_id)
        state.cars = set(present)
        for session_id, car in present.items():
            if car.habit is not None:
                self.follower.known(session_id, car.habit)
            if car.installed is not None and not car.doubtful:
                row = in_force_row(car, car.installed, known.site)
                self.follower.remembered(session_id, row)

    async def _made(
        self, case: PlanningCase, state: _SiteState, planner: Planner
    ) -> tuple[Plan, float, str]:
        """Return a plan that keeps the case's laws, what it took, CPU seconds, and what failed.

        A planner may be a plug-in: where it raises, hangs or returns rubbish, least laxity steps in
        and the plan says why. One that hangs is not called again before it has come back.
        """

        def timed(planner: Planner) -> tuple[Plan, float]:
            began = time.thread_time()
            return planner(case), time.thread_time() - began

        if state.hanging is None or state.hanging.done():
            state.hanging = None
            running = asyncio.ensure_future(asyncio.to_thread(timed, planner))
            try:
                async with asyncio.timeout(self.longest_plan_s):
                    made, cpu_s = await asyncio.shield(running)
                why = faults_of(case, made)
            except TimeoutError:
                state.hanging = running
                running.add_done_callback(_late)
                why = f"no plan within {self.longest_plan_s:g} s"
            except Exception as error:
                log.exception("planner failed", site_id=case.site_id)
                why = f"the planner failed: {error!r}"
            if not why:
                return made, cpu_s, ""
        else:
            why = "the planner is still busy with an earlier case"
        log.error("plan by least laxity instead", site_id=case.site_id, why=why)
        made, cpu_s = await asyncio.to_thread(timed, lambda of: fallback(of, why=why))
        return made, cpu_s, why

    async def _plan_and_push(self, site_id: str, state: _SiteState, why: str) -> bool:
        found = await self._plan(site_id)
        known, case, made, cpu_s = found.known, found.case, found.made, found.cpu_s
        events = tuple(self._events)

        def work(tx: Tx) -> int:
            for event in events:
                journal.add_event(tx, event)
            return plans.insert_plan(tx, case, made, why=why, cpu_s=cpu_s)

        plan_id = await self.store.write(work)
        for event in events:
            if self._events and self._events[0] is event:
                self._events.popleft()
        self.metrics.plan_seconds.observe(cpu_s)
        self.metrics.plans.labels(status=made.status).inc()
        self.metrics.shortfall_kwh.labels(site=site_id).set(made.shortfall_kwh)
        pushed = Pushed()
        if self.options.automation:
            await self._clear_up()
            pushed = await self.pusher.push(
                known, case, made, plan_id=plan_id, wakes=self.follower.wakes(), told=self._told
            )
            self._settled_anew |= pushed.unguarded
            await self._guard_anew()
            if await self.pusher.devices.fit_guards(site_id):
                self.touch(site_id, "guards lowered")
        self._after_push(site_id, state, pushed)
        self.planned(known, case, made)
        if self.challengers is not None:
            self.challengers.planned(
                found.asked, made, cpu_s=cpu_s, plan_id=plan_id, fault=found.fault
            )
        log.info(
            "site planned",
            site_id=site_id,
            why=why,
            sessions=len(case.sessions),
            sent=pushed.sent,
            accepted=len(pushed.accepted),
            status=made.status,
            shortfall_kwh=round(made.shortfall_kwh, 3),
            cpu_ms=round(cpu_s * 1000, 1),
        )
        self.notify(
            Notice(
                kind="plan",
                site_id=site_id,
                at=case.now_at,
                detail={
                    "plan_id": plan_id,
                    "why": why,
                    "status": made.status,
                    "sent": pushed.sent,
                    "accepted": len(pushed.accepted),
                    "shortfall_kwh": made.shortfall_kwh,
                },
            )
        )
        return not (pushed.failed or pushed.withheld) and _fits(case, made)

    def _told(self, session_id: str, row: InForce | None) -> None:
        """Follow a schedule from its acceptance on; one that is on its way leaves it open."""
        if row is None:
            self.follower.in_doubt(session_id)
        else:
            self.follower.accepted(session_id, row)

    def _after_push(self, site_id: str, state: _SiteState, pushed: Pushed) -> None:
        for _ in pushed.accepted:
            self.metrics.profiles.labels(outcome="accepted").inc()
        for session_id, outcome in pushed.failed.items():
            self.metrics.profiles.labels(outcome=str(outcome)).inc()
            if session_id not in pushed.adapted:
                state.held.add(session_id)
        if pushed.failed:
            # A held car is not sent to again before the next slot, and what a refusal teaches makes
            # the next schedule smaller: this comes to an end.
            self.touch(site_id, "a station did not take its schedule")


def _fits(case: PlanningCase, made: Plan) -> bool:
    """Return whether a plan keeps the site's limit now, cars that cannot be controlled included."""
    drawn_kw = sum(s.power_kw[0] for s in made.sessions) + case.base_load_kw[0] + case.idle_guard_kw
    return drawn_kw <= case.limit_kw[0] + 1e-6


@contextlib.contextmanager
def _told(waiting: list[asyncio.Future[bool]]) -> Iterator[list[bool]]:
    """Tell whoever waits for a run what came of it: no, unless the run says otherwise."""
    outcome: list[bool] = []
    try:
        yield outcome
    finally:
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(all(outcome) and bool(outcome))


def _late(running: asyncio.Future[tuple[Plan, float]]) -> None:
    """Take the outcome of a planner that nobody waits for any more."""
    if not running.cancelled() and running.exception() is not None:
        log.error("planner failed late", why=repr(running.exception()))
