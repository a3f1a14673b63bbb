"""What a station is asked and given when it comes back: no more than it may lack."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from csms.store import stations
from tests.conformance.raw import RawStation, linked
from tests.scenarios.world import World, eventually, living, settings

CONFIGURATION = {
    "configurationKey": [
        {"key": "ChargingScheduleMaxPeriods", "readonly": True, "value": "24"},
        {"key": "ChargingScheduleAllowedChargingRateUnit", "readonly": True, "value": "Current"},
    ]
}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with living(settings(database_url)) as found:
        await found.register("CS-1", evses=2)
        yield found


async def settled(world: World, station: RawStation, *, guards: int) -> None:
    """Wait until a station was sent so many guards, and a call of ours after them is answered."""
    await eventually(lambda: len(station.seen("SetChargingProfile")) >= guards)
    await eventually(
        lambda: (
            not world.system.central.settling.waiting
            and not world.system.central.settling.under_way
        )
    )


def link(world: World) -> AbstractAsyncContextManager[RawStation]:
    return linked(world.url, "CS-1", "1.6", answers={"GetConfiguration": CONFIGURATION})


async def test_a_reconnect_without_a_boot_asks_nothing_and_sends_no_guard(world: World) -> None:
    async with link(world) as station:
        await station.boot()
        await settled(world, station, guards=3)
        assert len(station.seen("GetConfiguration")) == 1
    async with link(world) as station:
        await station.call("Heartbeat", {})
        await station.call(
            "StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
        )
        await settled(world, station, guards=0)
        await asyncio.sleep(0)
        assert station.seen("GetConfiguration") == []
        assert station.seen("SetChargingProfile") == []


async def test_a_boot_brings_the_guards_again_and_new_firmware_the_questions(world: World) -> None:
    async with link(world) as station:
        await station.boot()
        await settled(world, station, guards=3)
    async with link(world) as station:
        await station.boot()
        await settled(world, station, guards=3)
        assert station.seen("GetConfiguration") == []
        await station.boot(firmwareVersion="2.0")
        await settled(world, station, guards=6)
        assert len(station.seen("GetConfiguration")) == 1


async def test_a_guard_that_is_not_as_it_should_be_is_sent_on_a_reconnect(world: World) -> None:
    async with link(world) as station:
        await station.boot()
        await settled(world, station, guards=3)
    await world.store.write(lambda tx: stations.set_site_limit(tx, "main", 20.0))
    async with link(world) as station:
        await station.call("Heartbeat", {})
        await station.call(
            "StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
        )
        await settled(world, station, guards=1)
        assert station.seen("GetConfiguration") == []
