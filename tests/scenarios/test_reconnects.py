"""What a station is asked and given when it comes back: no more than it may lack."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from csms.clock import Clock
from csms.settings import GatewaySettings
from csms.store import stations
from simulators.dialect import Dialect
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
    await world.store.write(
        lambda tx: stations.upsert_site(tx, replace(stations.get_site(tx, "main"), limit_kw=20.0))
    )
    async with link(world) as station:
        await station.call("Heartbeat", {})
        await station.call(
            "StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
        )
        await settled(world, station, guards=1)
        assert station.seen("GetConfiguration") == []


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_a_station_that_stays_away_after_a_close_frame_gets_none_again(
    version: str, sqlite_url: str
) -> None:
    gateway = GatewaySettings(port=0)
    dialect = Dialect(returns_after_close=False)
    async with living(settings(sqlite_url, gateway=gateway)) as world:
        await world.register("c1")
        station = world.station("c1", version, boots=True, dialect=dialect)
        await station.power_up()
        await station.ready()
        # A link that vanishes it opens again: so much is usual.
        station.cut()
        await station.reconnect()
        world.stations.clear()
        gateway = GatewaySettings(port=world.system.gateway.port)
    assert not station.link.keeps_up
    clock = Clock(start=datetime.now(UTC), speed=300)
    began_at = clock.now()
    async with living(settings(sqlite_url, gateway=gateway), clock=clock) as world:

        async def has_learned() -> bool:
            found = await world.store.read(lambda tx: stations.get_station(tx, "c1"))
            return not found.limits.returns_after_close

        assert not await has_learned()
        await eventually(has_learned, "it is still waited for", within_s=60)
        (learned,) = await world.events("dialect learned")
        assert learned.event.detail["item"] == "returns_after_close"
        assert clock.now() - began_at >= timedelta(minutes=10)
        # Somebody restarts it.
        await station.reconnect()
        await station.ready()
    assert station.link.keeps_up
    async with living(settings(sqlite_url, gateway=gateway)) as world:
        world.stations.append(station)
        await station.ready()
