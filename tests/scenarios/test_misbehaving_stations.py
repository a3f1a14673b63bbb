"""Stations that refuse, ignore, fall silent or vanish: the site's limit holds, and it shows."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from csms.core.commands import Outcome
from csms.settings import GatewaySettings
from csms.store import stations
from simulators.battery import Vehicle
from simulators.dialect import Dialect
from simulators.faults import FaultPlan
from simulators.power import Step, peak_w, seconds_above
from simulators.simulated import SimulatedStation
from tests.scenarios.world import (
    VERSIONS,
    StationClock,
    World,
    closed,
    eventually,
    living,
    settings,
)

CAR = Vehicle(battery_kwh=60.0)
LIMIT_KW = 16.0


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def up(
    world: World, number: int, version: str, *, wants_kwh: float = 40.0, **given: Any
) -> tuple[SimulatedStation, str]:
    """Return a station that is up, and the card of a driver who wants more than there is."""
    await world.register(f"c{number}")
    card = await world.driver(number, departs_in=timedelta(hours=4), energy_kwh=wants_kwh)
    station = world.station(f"c{number}", version, boots=True, **given)
    await station.power_up()
    await station.ready()
    await world.guarded(f"c{number}")
    return station, card


async def charges(station: SimulatedStation, card: str) -> None:
    """Plug in and start."""
    await station.plug_in(1, CAR, soc=0.2)
    assert await station.present(card) == "Accepted"


async def outcomes(world: World, station_id: str, kind: str = "SetSchedule") -> list[str]:
    """Return the outcomes of the commands to a station, oldest first."""
    return [str(c.outcome) for c in await world.commands(station_id, kind) if c.outcome]


async def rows_in_force(world: World, count: int) -> bool:
    """Whether the newest plan has `count` cars."""
    known = await world.plan()
    return known is not None and len(known[1].sessions) == count


def holds(course: Sequence[Step], limit_kw: float = LIMIT_KW) -> None:
    """The site never drew more than its limit, and drew something."""
    assert peak_w(course) > 4000
    assert seconds_above(course, limit_kw * 1000) == 0, peak_w(course)


async def test_a_station_that_refuses_every_schedule_is_counted_in_full(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=300) as world:
        bad, bad_card = await up(world, 1, version, faults=FaultPlan(refuse_profile_share=1.0))
        good, good_card = await up(world, 2, version)
        await charges(bad, bad_card)
        await charges(good, good_card)
        await eventually(lambda: good.power_w(1) > 4000, "the good one gets nothing")
        await _lives_for(world, timedelta(minutes=10))
        assert bad.power_w(1) == pytest.approx(11_000, abs=100)
        holds(world.course())
        await eventually(lambda: world.events("guard not accepted"), "no word of the guard")
        assert set(await outcomes(world, "c2")) == {"accepted"}
        assert "rejected" in await outcomes(world, "c1", "SetGuard")


async def _lives_for(world: World, time: timedelta) -> None:
    begun_at = world.clock.now()
    await eventually(lambda: world.clock.now() - begun_at > time)


async def test_a_station_that_begins_to_refuse_keeps_what_it_has(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=300) as world:
        bad, bad_card = await up(world, 1, version)
        good, good_card = await up(world, 2, version)
        await charges(bad, bad_card)
        await eventually(lambda: bad.power_w(1) > 10_000)
        bad.faults.plan = FaultPlan(refuse_profile_share=1.0)
        # The newcomer leaves sooner: what the first one has would have to be lowered.
        await world.trip(2, departs_in=timedelta(hours=1), energy_kwh=10.0)
        await charges(good, good_card)
        await eventually(lambda: good.power_w(1) > 4000, "the other is not planned")
        await _lives_for(world, timedelta(minutes=10))
        holds(world.course())
        assert "rejected" in await outcomes(world, "c1")


async def test_a_station_without_profiles_is_planned_around(version: str, sqlite_url: str) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=300) as world:
        plain, plain_card = await up(world, 1, version, dialect=Dialect(supports_profiles=False))
        good, good_card = await up(world, 2, version)
        await charges(plain, plain_card)
        await charges(good, good_card)
        await eventually(lambda: good.power_w(1) > 4000, "the good one gets nothing")
        await _lives_for(world, timedelta(minutes=10))
        holds(world.course())
        known = await world.store.read(lambda tx: stations.get_station(tx, "c1"))
        assert not known.limits.supports_profiles
        assert await outcomes(world, "c1") == []
        assert set(await outcomes(world, "c1", "SetGuard")) <= {"not_supported"}


async def test_a_station_that_accepts_and_ignores_is_found_by_its_meter(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=300) as world:
        bad, bad_card = await up(world, 1, version)
        good, good_card = await up(world, 2, version)
        await charges(bad, bad_card)
        await eventually(lambda: bad.power_w(1) > 10_000)
        bad.faults.plan = FaultPlan(ignore_profile_share=1.0)
        await world.trip(2, departs_in=timedelta(hours=1), energy_kwh=10.0)
        await charges(good, good_card)
        (found,) = await eventually(lambda: world.events("schedule ignored"), "it is not found")
        assert found.event.station_id == "c1"
        await _lives_for(world, timedelta(minutes=2))
        found_at = world.clock.now()
        await _lives_for(world, timedelta(minutes=10))
        course = world.course()
        assert seconds_above([s for s in course if s.start_at > found_at], LIMIT_KW * 1000) == 0
        # Two samples after it has settled, and what it takes to send a schedule.
        assert seconds_above(course, LIMIT_KW * 1000) < 360
        assert good.power_w(1) > 4000


async def test_a_station_that_does_not_answer_keeps_nobody_waiting_for_long(
    version: str, sqlite_url: str
) -> None:
    gateway = GatewaySettings(port=0, command_timeout_s=0.5)
    given = settings(sqlite_url, limit_kw=LIMIT_KW, gateway=gateway)
    async with living(given, speed=60) as world:
        mute, mute_card = await up(world, 1, version)
        good, good_card = await up(world, 2, version)
        await charges(mute, mute_card)
        await eventually(lambda: mute.power_w(1) > 10_000)
        mute.faults.plan = FaultPlan(mute_share=1.0)
        await world.trip(2, departs_in=timedelta(hours=1), energy_kwh=10.0)
        await charges(good, good_card)
        await eventually(lambda: good.power_w(1) > 4000, "the other waits for ever")
        await _lives_for(world, timedelta(minutes=3))
        holds(world.course())
        assert Outcome.NO_ANSWER in await outcomes(world, "c1")
        # It is asked again, and answers: nobody is given up for good.
        mute.faults.plan = FaultPlan()
        world.system.replanner.slot_begins("main")
        await eventually(lambda: mute.power_w(1) < 10_000, "it is not asked again")
        holds(world.course())


@pytest.mark.parametrize(
    "dialect",
    [
        Dialect(whole_amperes=True, rate_units=("A",)),
        Dialect(rate_units=("W",)),
        Dialect(max_periods=2),
        Dialect(strict=True, max_periods=2),
        Dialect(same_level="refuse", message_ids="counter"),
        Dialect(offset_start="error", same_level="keep_old", whole_second_clock=True),
        Dialect(offset_start="never_active", accepts_disorder=True),
    ],
    ids=[
        *("whole amperes", "watts only", "two periods", "strict", "one id per level"),
        *("UTC only and whole seconds", "silent about what it cannot read"),
    ],
)
async def test_dialects_are_spoken_to_in_their_own_way(
    version: str, dialect: Dialect, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=300) as world:
        first, first_card = await up(world, 1, version, dialect=dialect)
        second, second_card = await up(world, 2, version, dialect=dialect)
        await charges(first, first_card)
        await world.trip(2, departs_in=timedelta(hours=1), energy_kwh=9.0)
        await charges(second, second_card)
        await eventually(lambda: min(first.power_w(1), second.power_w(1)) > 4000, "not both charge")
        async with world.operator() as operator:
            await operator.patch("/api/v1/sites/main", json={"limit_kw": 10.0})
        await eventually(lambda: first.power_w(1) + second.power_w(1) < 10_001)
        holds(world.course())
        for station_id in ("c1", "c2"):
            assert set(await outcomes(world, station_id)) == {"accepted"}
            assert set(await outcomes(world, station_id, "SetGuard")) == {"accepted"}
        assert not first.link.errors
        assert not second.link.errors


async def test_a_limit_that_is_felt_late_is_no_limit_that_is_ignored(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=120) as world:
        late, late_card = await up(world, 1, version, dialect=Dialect(effect_delay_s=30.0))
        good, good_card = await up(world, 2, version)
        await charges(late, late_card)
        await eventually(lambda: late.power_w(1) > 10_000)
        await world.trip(2, departs_in=timedelta(hours=1), energy_kwh=10.0)
        await charges(good, good_card)
        await eventually(lambda: good.power_w(1) > 4000, "the other gets nothing")
        await _lives_for(world, timedelta(minutes=8))
        course = world.course()
        # It answered at once and obeyed half a minute later: for so long both had what one had.
        assert seconds_above(course, LIMIT_KW * 1000) < 45
        assert seconds_above(course, 2 * 11_001) == 0
        assert late.power_w(1) + good.power_w(1) <= LIMIT_KW * 1000 + 1
        assert await world.events("schedule ignored") == []


async def test_a_profile_for_a_transaction_that_is_over_is_no_profile_of_the_next(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=120) as world:
        dialect = Dialect(unknown_transaction="ignore")
        odd, odd_card = await up(world, 1, version, dialect=dialect)
        good, good_card = await up(world, 2, version)
        await charges(odd, odd_card)
        await charges(good, good_card)
        await eventually(lambda: min(odd.power_w(1), good.power_w(1)) > 4000, "not both charge")
        odd.cut()
        await odd.unplug(1)
        odd.settings = replace(odd.settings, accepts_unknown_offline=True)
        await odd.plug_in(1, CAR, soc=0.2)
        second = await odd.start(1, odd_card)
        before = len(odd.received)
        await odd.reconnect()
        # It takes what is meant for the first one, and says so: the second is not bound by it.
        await odd.drained()

        async def is_planned() -> bool:
            profiles = [r for r in odd.received[before:] if r.action == "SetChargingProfile"]
            held = [p.transaction_id for p in odd.station.installed.profiles]
            return bool(profiles) and second.transaction_id in held

        await eventually(is_planned, "the second transaction has no schedule of its own")
        await _lives_for(world, timedelta(minutes=5))
        holds(world.course())
        assert len([s for s in await world.sessions() if s.station_id == "c1"]) == 2


async def test_outage_f23_a_station_that_vanishes_is_counted_at_its_last_limit(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=300) as world:
        gone, gone_card = await up(world, 1, version)
        good, good_card = await up(world, 2, version)
        await charges(gone, gone_card)
        await eventually(lambda: gone.power_w(1) > 10_000)
        gone.cut()
        await world.trip(2, departs_in=timedelta(hours=1), energy_kwh=10.0)
        await charges(good, good_card)
        await eventually(lambda: good.power_w(1) > 4000, "the other is not planned")
        await _lives_for(world, timedelta(minutes=10))
        assert gone.power_w(1) > 10_000
        holds(world.course())
        await gone.reconnect()
        await eventually(lambda: gone.power_w(1) < 10_000, "it is not lowered when it is back")
        await _lives_for(world, timedelta(minutes=5))
        holds(world.course())
        assert await outcomes(world, "c1")


async def test_outage_f22_with_the_centre_away_the_limit_holds(
    version: str, sqlite_url: str
) -> None:
    given = settings(sqlite_url, limit_kw=30.0)
    async with living(given, speed=1200) as world:
        found = []
        for number in range(1, 4):
            station, card = await up(world, number, version)
            await charges(station, card)
            found.append(station)
        await eventually(lambda: sum(s.power_w(1) for s in found) > 15_000)
        world.stations.clear()
        clock = StationClock(world.clock)
    left_at = clock.now()
    # A car that arrives now finds the guard only.
    late = found[0]
    await late.unplug(1)
    await late.plug_in(1, CAR, soc=0.2)
    late.settings = replace(late.settings, accepts_unknown_offline=True)
    await late.start(1, "04A1B2C3D4E501")
    await eventually(lambda: clock.now() - left_at > timedelta(hours=2))
    away = World(system=world.system, stations=found)
    holds(away.course(), 30.0)
    guard = next(s for s in away.course() if s.start_at > left_at + timedelta(hours=1))
    assert guard.power_w > 0
    await closed(found)
