"""Cars that speak ISO 15118: needs told, one profile that the car can hold, a schedule compared.

And what holds for every profile that goes out over a day, whatever the station's dialect.
"""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from csms.settings import GatewaySettings
from simulators import highlevel
from simulators.battery import Vehicle
from simulators.dialect import Dialect
from simulators.simulated import SimulatedStation
from tests.scenarios.world import World, eventually, living, settings

CAR = Vehicle(battery_kwh=60.0)
PLANNED_S = 80_000


@pytest.fixture(params=("2.0.1", "2.1"))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def plugged(world: World, version: str) -> SimulatedStation:
    """Return a station with a car of driver 1, charging."""
    await world.register("c1")
    card = await world.driver(1, departs_in=timedelta(hours=5), energy_kwh=20.0)
    station = world.station("c1", version, boots=True)
    await station.power_up()
    await station.ready()
    await world.guarded("c1")
    await station.plug_in(1, CAR, soc=0.2)
    assert await station.present(card) == "Accepted"
    return station


def plans_of(station: SimulatedStation) -> list[dict[str, Any]]:
    """Return the TxProfiles that arrived, in order."""
    return [p for p in profiles_got(station) if p["chargingProfilePurpose"] == "TxProfile"]


def profiles_got(station: SimulatedStation) -> list[dict[str, Any]]:
    assert station.journal is not None
    found = []
    for line in station.journal.lines:
        frame: Any = line.get("frame")
        if line["dir"] == "got" and frame[0] == 2 and frame[2] == "SetChargingProfile":
            found.append(frame[3].get("csChargingProfiles") or frame[3]["chargingProfile"])
    return found


async def last_plan(station: SimulatedStation, *, unit: str, most: int, limit: float) -> Any:
    """Return the newest plan once it is one that the car can hold and no newer one follows."""

    def is_held() -> bool:
        (schedule,) = plans_of(station)[-1]["chargingSchedule"]
        periods = schedule["chargingSchedulePeriod"]
        # Behind the plan's last slot stands the guard, which is no need of the car's.
        planned = [p for p in periods if p["startPeriod"] < PLANNED_S]
        is_small = len(periods) <= most and all(p["limit"] <= limit for p in planned)
        return is_small and schedule["chargingRateUnit"] == unit

    await eventually(is_held, f"no profile of {most} periods up to {limit} {unit}")
    while True:
        found = plans_of(station)[-1]
        await asyncio.sleep(1.0)
        if plans_of(station)[-1] is found:
            return found


async def test_needs_bring_one_profile_that_the_car_can_hold_and_its_schedule_is_compared(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url)) as world:
        station = await plugged(world, version)
        await eventually(lambda: plans_of(station), "no plan before the needs")
        needs = highlevel.ac_needs(
            energy_wh=15_000, departs_at=station.now() + timedelta(hours=4), max_a=16
        )
        assert await highlevel.tell_needs(station, needs, max_tuples=3) == "Accepted"
        profile = await last_plan(station, unit="A", most=3, limit=16)
        # The car uses all of it, or half: both are within. Twice as much is not.
        for share, status in ((1.0, "Accepted"), (0.5, "Accepted"), (2.0, "Rejected")):
            sent = len(plans_of(station))
            assert await highlevel.propose(station, profile, share=share) == status
        await eventually(lambda: len(plans_of(station)) > sent, "no profile after the refusal")
        second = await last_plan(station, unit="A", most=3, limit=16)
        assert second["id"] == profile["id"]
        assert await highlevel.propose(station, second) == "Accepted"
        known = await world.plan()
        assert known is not None
        assert known[0].sessions[0].max_kw <= 16 * 0.69 + 1e-6


async def test_a_car_on_direct_current_is_told_watts(version: str, sqlite_url: str) -> None:
    async with living(settings(sqlite_url)) as world:
        station = await plugged(world, version)
        await eventually(lambda: plans_of(station), "no plan before the needs")
        needs = highlevel.dc_needs(energy_wh=20_000, soc=20, max_w=9_000, battery_wh=60_000)
        assert await highlevel.tell_needs(station, needs, max_tuples=4) == "Accepted"
        profile = await last_plan(station, unit="W", most=4, limit=9_000)
        assert await highlevel.propose(station, profile, share=0.9) == "Accepted"


FOUR = {
    "1.6": Dialect(rate_units=("W",), max_periods=6),
    "2.0.1": Dialect(rate_units=("A",), whole_amperes=True, max_periods=2),
    "2.1": Dialect(rate_units=("A",), max_periods=24),
    "1.6 ": Dialect(rate_units=("A", "W"), max_periods=12),
}
SET = {
    "ChargePointMaxProfile",
    "ChargingStationMaxProfile",
    "TxDefaultProfile",
    "TxProfile",
    "PriorityCharging",
}


@pytest.mark.case("K24", "K25", "K26")
async def test_k24_k25_k26_over_a_day_no_profile_is_another_than_its_station_takes(
    sqlite_url: str,
) -> None:
    quick = settings(sqlite_url, limit_kw=20.0, gateway=GatewaySettings(port=0))
    async with living(quick, speed=2400) as world:
        found = []
        for number, (name, dialect) in enumerate(FOUR.items(), start=1):
            await world.register(f"c{number}")
            station = world.station(f"c{number}", name.strip(), boots=True, dialect=dialect)
            await station.power_up()
            await station.ready()
            found.append(station)
        began = world.clock.now()
        for day_part in range(3):
            for number, station in enumerate(found, start=1):
                card = await world.driver(number, departs_in=timedelta(hours=7), energy_kwh=25.0)
                await station.plug_in(1, CAR, soc=0.2)
                assert await station.present(card) == "Accepted"
            until = began + timedelta(hours=8 * (day_part + 1))
            await world.clock.sleep((until - world.clock.now()).total_seconds())
            for station in found:
                await station.unplug(1)
        assert world.clock.now() - began >= timedelta(hours=24)
        for station, dialect in zip(found, FOUR.values(), strict=True):
            profiles = profiles_got(station)
            assert sum(p["chargingProfilePurpose"] == "TxProfile" for p in profiles) >= 3
            for profile in profiles:
                assert profile["chargingProfilePurpose"] in SET
                told = profile["chargingSchedule"]
                for schedule in told if isinstance(told, list) else [told]:
                    keeps_to(schedule, dialect)
            assert not [f for f in cleared(station) if "External" in str(f)]


def keeps_to(schedule: dict[str, Any], dialect: Dialect) -> None:
    """Fail where a schedule is not one that a station of `dialect` takes."""
    assert schedule["chargingRateUnit"] in dialect.rate_units
    periods = schedule["chargingSchedulePeriod"]
    assert 1 <= len(periods) <= dialect.max_periods
    starts = [p["startPeriod"] for p in periods]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    for period in periods:
        assert round(period["limit"], 1) == period["limit"]
        # None of these stations can switch phases.
        assert "phaseToUse" not in period


def cleared(station: SimulatedStation) -> list[dict[str, Any]]:
    assert station.journal is not None
    frames = [line["frame"] for line in station.journal.lines if line["dir"] == "got"]
    return [f[3] for f in frames if f[0] == 2 and f[2] == "ClearChargingProfile"]
