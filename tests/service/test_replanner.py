"""The loop over the cars: no planner stops it, nothing floods it, nobody is remembered for ever."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from csms.core.commands import Outcome
from csms.core.plan import Plan, PlanningCase
from csms.core.session import InForce, closed_administratively
from csms.planning.learning import Observed
from csms.planning.planner import plan
from csms.service.cases import snapshot
from csms.service.following import Follower
from csms.service.push import in_force_row
from csms.service.replanner import PlanningOptions, Replanner
from csms.store import sessions
from csms.store.database import Store
from csms.telemetry import Metrics
from tests.service.field import NOW, SITE, Depot, Field, HandClock, taken

Planner = Callable[[PlanningCase], Plan]


async def site(store: Store, *, count: int = 2) -> Depot:
    place = Depot(store, Field(guards_kw={f"c{i}": 4.14 for i in range(count)}), HandClock())
    await place.build(limit_kw=30.0)
    return place


def replanner(place: Depot, planner: Planner = plan, *, longest_plan_s: float = 5.0) -> Replanner:
    return Replanner(
        store=place.store,
        pusher=place.pusher,
        clock=place.clock,
        options=PlanningOptions(horizon_h=12.0, collect_s=0.0),
        metrics=Metrics(),
        notify=lambda _: None,
        reserve=lambda *_: {},
        planned=lambda *_: None,
        planner=planner,
        longest_plan_s=longest_plan_s,
    )


def broken(_: PlanningCase) -> Plan:
    raise ZeroDivisionError("a plug-in's mistake")


def greedy(case: PlanningCase) -> Plan:
    made = plan(case)
    rows = tuple(replace(s, power_kw=(22.0,) * case.slots) for s in made.sessions)
    return replace(made, sessions=rows)


def nameless(case: PlanningCase) -> Plan:
    made = plan(case)
    rows = tuple(replace(s, power_kw=(float("nan"),) * case.slots) for s in made.sessions)
    return replace(made, sessions=rows)


def costless(case: PlanningCase) -> Plan:
    return replace(plan(case), cost_eur=float("inf"))


def below_nothing(case: PlanningCase) -> Plan:
    made = plan(case)
    rows = tuple(replace(s, power_kw=(-1.0,) * case.slots) for s in made.sessions)
    return replace(made, sessions=rows)


def of_nobody(case: PlanningCase) -> Plan:
    return replace(plan(case), sessions=())


@pytest.mark.parametrize("planner", [broken, greedy, nameless, costless, below_nothing, of_nobody])
async def test_whatever_a_planner_does_cars_have_a_plan_and_the_limit_holds(
    store: Store, planner: Planner
) -> None:
    place = await site(store)
    for i in range(2):
        await place.arrive(f"c{i}", need_kwh=60.0, leaves_h=3.0)
    case, made = await replanner(place, planner).preview(SITE)
    assert made.status == "fallback"
    assert made.notes
    assert sum(s.energy_kwh for s in made.sessions) > 20.0
    for k in range(case.slots):
        assert sum(max(s.power_kw[k], 4.14) for s in made.sessions) <= 30.0 + 1e-6
    assert Plan.from_json(made.to_json()) == made


async def test_a_planner_that_hangs_is_left_alone_until_it_comes_back(store: Store) -> None:
    place, go_on, calls = await site(store), threading.Event(), []

    def hanging(case: PlanningCase) -> Plan:
        calls.append(case.now_at)
        go_on.wait(timeout=30)
        return plan(case)

    await place.arrive("c0")
    loop = replanner(place, hanging, longest_plan_s=0.05)
    for _ in range(3):
        _, made = await loop.preview(SITE)
        assert made.status == "fallback"
    assert len(calls) == 1
    go_on.set()
    loop.longest_plan_s = 10.0
    for _ in range(500):
        _, made = await loop.preview(SITE)
        if made.status == "optimal":
            break
        await asyncio.sleep(0.01)
    assert made.status == "optimal"


async def run_until(loop: Replanner, happened: asyncio.Event) -> None:
    task = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(10):
            await happened.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_others_get_their_schedules_however_many_stations_fail(store: Store) -> None:
    place = await site(store, count=6)
    for i in range(6):
        await place.arrive(f"c{i}", need_kwh=20.0, leaves_h=9.0)
    bad: set[str] = set()

    def one_after_the_other(command: object) -> tuple[bool, Outcome]:
        station_id = str(getattr(command, "station_id", ""))
        if station_id != "c5" and (len(bad) < 5 or station_id in bad):
            bad.add(station_id)
            return False, Outcome.REJECTED
        return True, Outcome.ACCEPTED

    place.field.answers = one_after_the_other
    loop = replanner(place)
    loop.touch(SITE, "test")
    served = asyncio.Event()
    place.field.took = served.set
    await run_until(loop, served)
    assert set(place.field.schedules) == {"c5"}


async def test_guards_fall_with_the_limit_they_are_a_share_of(store: Store) -> None:
    place = Depot(store, Field(guards_kw={"c0": 15.0, "c1": 15.0}), HandClock())
    await place.build(limit_kw=30.0)
    loop, fell = replanner(place), asyncio.Event()
    place.field.took = lambda: fell.set() if sum_of_guards(place) <= 0.2 * 30.0 else None
    loop.touch(SITE, "site changed")
    await run_until(loop, fell)


def sum_of_guards(place: Depot) -> float:
    return sum(place.field.guards_kw[name] or 0.0 for name in ("c0", "c1"))


async def test_cars_that_leave_are_forgotten_however_they_leave(store: Store) -> None:
    place = await site(store)
    session = await place.arrive("c0")
    loop = replanner(place)
    await loop.preview(SITE)
    loop.follower.observed[session.session_id] = Observed(cap_kw=5.0)
    await loop.preview(SITE)
    assert loop.follower.observed
    ended = closed_administratively(session, now=NOW, reason="EVSE free, no end received")
    await store.write(lambda tx: sessions.save(tx, ended))
    await loop.preview(SITE)
    assert not loop.follower.observed


async def test_nothing_is_learned_of_a_car_while_another_schedule_is_on_its_way(
    store: Store,
) -> None:
    learned, ignoring = follower(planned_kw=6.0)
    learned.in_doubt("s1")
    assert not await samples(learned, await site(store), 11.0)
    assert not ignoring


async def test_what_follows_the_end_of_a_short_schedule_is_the_guard(store: Store) -> None:
    place = await site(store)
    session = await place.arrive("c0")
    known = await store.read(lambda tx: snapshot(tx, SITE, now=NOW, horizon_h=2.0, carbon_id=""))
    (car,) = known.cars
    held = taken(session.session_id, 11.04, 0.0, 0.0, 0.0, duration_s=900)
    row = in_force_row(replace(car, evse=replace(car.evse, guard_kw=2.07)), held, known.site)
    assert [round(kw, 2) for kw in row.power_kw] == [11.04, 2.07, 2.07, 2.07]


def follower(*, planned_kw: float, above_share: float = 0.1) -> tuple[Follower, list[str]]:
    ignoring: list[str] = []
    learned = Follower(tolerance_kw=1.0, ignoring=lambda s, _: ignoring.append(s.session_id))
    edges = tuple(NOW + timedelta(minutes=15 * k) for k in range(9))
    row = InForce(
        edges_at=edges, power_kw=(planned_kw,) * 8, accepted_at=NOW, above_share=above_share
    )
    learned.remembered("s1", row)
    return learned, ignoring


async def samples(learned: Follower, place: Depot, power_kw: float, *, count: int = 8) -> list[str]:
    session = await place.arrive("c0")
    found = []
    for i in range(count):
        at = NOW + timedelta(minutes=5 + i)
        seen = replace(session, power_w=power_kw * 1000, sample_at=at)
        found.append(learned.sampled(seen, now=lambda at=at: at))
    return [why for why in found if why]


@pytest.mark.parametrize("power_kw", [0.0, 2.0, 11.0, 16.0])
async def test_a_car_that_takes_less_is_news_once(store: Store, power_kw: float) -> None:
    learned, _ = follower(planned_kw=22.0)
    assert len(await samples(learned, await site(store), power_kw)) == 1


async def test_mains_above_their_nominal_voltage_do_not_make_a_car_ignore_its_schedule(
    store: Store,
) -> None:
    learned, ignoring = follower(planned_kw=11.04)
    assert not await samples(learned, await site(store), 11.04 * 240 / 230)
    assert not ignoring


async def test_what_a_paused_station_takes_for_itself_is_not_a_car(store: Store) -> None:
    learned, ignoring = follower(planned_kw=0.0)
    assert not await samples(learned, await site(store), 0.06)
    assert not ignoring


async def test_a_car_that_ignores_its_schedule_is_noticed_after_a_restart(store: Store) -> None:
    learned, ignoring = follower(planned_kw=6.0)
    assert await samples(learned, await site(store), 11.0)
    assert ignoring == ["s1"]
