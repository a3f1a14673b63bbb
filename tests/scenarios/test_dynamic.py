"""Stations of 2.1 that ask for their limit, and a driver in a hurry: the site's limit holds."""

import asyncio
from datetime import timedelta

from simulators.client21 import Client21
from simulators.power import peak_w, seconds_above
from simulators.simulated import SimulatedStation
from tests.scenarios.test_site_limit import CAR, why
from tests.scenarios.world import World, eventually, living, settings

LIMIT_KW = 13.0


async def arrive(world: World, number: int, *, every_s: int) -> SimulatedStation:
    """Bring a 2.1 station up, let it ask for its limit, and start a driver's session there."""
    await world.register(f"c{number}")
    card = await world.driver(number, departs_in=timedelta(hours=8), energy_kwh=30.0)
    station = world.station(f"c{number}", "2.1")
    await station.link.connect()
    station._start_work()
    await station.boot()
    await world.guarded(f"c{number}")

    async def is_switched() -> bool:
        async with world.operator() as operator:
            path = f"/api/v1/stations/c{number}/dynamic"
            answer = await operator.put(path, params={"every_s": every_s})
            # 409 until the station has told what it can do.
            return answer.status_code == 200

    await eventually(is_switched, "dynamic profiles not switched on")
    await station.plug_in(1, CAR, soc=0.2)
    assert await station.present(card) == "Accepted"
    return station


def pulls(station: SimulatedStation) -> int:
    """How often a station asked for its limit."""
    assert station.journal is not None
    sent = [line.get("frame", []) for line in station.journal.lines]
    return sum(1 for frame in sent if frame[2:3] == ["PullDynamicScheduleUpdate"])


async def test_two_stations_that_ask_share_the_site_and_follow_each_move_of_the_plan(
    sqlite_url: str,
) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=60) as world:
        one = await arrive(world, 1, every_s=60)
        two = await arrive(world, 2, every_s=60)
        await eventually(
            lambda: 10_000 < one.power_w() + two.power_w() <= LIMIT_KW * 1000, "room not used"
        )
        for station in (one, two):
            await eventually(
                lambda held=station.station.installed: any(  # type: ignore[misc]
                    p.kind == "Dynamic" for p in held.profiles
                ),
                "no dynamic profile",
            )
        before = pulls(one)
        await eventually(lambda: pulls(one) > before, "no pull")
        async with world.operator() as operator:
            await operator.patch("/api/v1/sites/main", json={"limit_kw": 9.0})
        await why(world, "site changed")
        await eventually(lambda: one.power_w() + two.power_w() <= 9000, "plan not followed")
        lowered_at = world.clock.now()
        assert any(r.action == "UpdateDynamicSchedule" for s in (one, two) for r in s.received)
        await one.unplug()
        await eventually(lambda: two.power_w() > 8000, "the power freed is not used")
        await two.unplug()
        await asyncio.gather(one.drained(), two.drained())
        course, verdict = world.course(), await world.verdict()
    assert peak_w(course) > 8000
    assert seconds_above(course, LIMIT_KW * 1000) == 0
    assert seconds_above([s for s in course if s.start_at > lowered_at], 9000) == 0
    assert verdict.is_clean, verdict


async def test_a_driver_in_a_hurry_gets_full_power_and_the_other_what_is_left(
    sqlite_url: str,
) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=60) as world:
        both = [await arrive(world, number, every_s=0) for number in (1, 2)]
        await eventually(lambda: max(s.power_w() for s in both) > 8000, "nobody charges")
        # The one in a hurry is the one whom the plan lets wait.
        hurried, other = sorted(both, key=lambda s: s.power_w())
        client = hurried.client
        assert isinstance(client, Client21)
        await eventually(
            lambda: hurried.station.installed.priority_profile(1) is not None, "no priority profile"
        )
        await client.prioritise(1)
        await why(world, "priority charging on")
        await eventually(lambda: hurried.power_w() > 10_500, "no full power")
        await eventually(
            lambda: hurried.power_w() + other.power_w() <= LIMIT_KW * 1000, "the limit is passed"
        )
        yielded_at = world.clock.now()
        mine = hurried.station_id
        session = next(s for s in await world.sessions() if s.station_id == mine)
        async with world.operator() as operator:
            answer = await operator.get(f"/api/v1/sessions/{session.session_id}/terms")
            assert answer.json()["is_prioritised"] is True
        watched = timedelta(minutes=1)
        await eventually(lambda: world.clock.now() > yielded_at + watched)
        until = world.clock.now()
        course = world.course()
        await client.prioritise(1, is_on=False)
        await why(world, "priority charging off")
        # Who was in a hurry follows the plan again, whoever of the two goes first in it.
        async with world.operator() as operator:
            await operator.patch("/api/v1/sites/main", json={"limit_kw": 8.0})
        await eventually(
            lambda: 4000 < hurried.power_w() + other.power_w() <= 8000, "the plan is not followed"
        )
        await hurried.unplug()
        await other.unplug()
        await asyncio.gather(hurried.drained(), other.drained())
    held = [s for s in course if yielded_at < s.start_at <= until]
    assert seconds_above(held, LIMIT_KW * 1000) == 0
