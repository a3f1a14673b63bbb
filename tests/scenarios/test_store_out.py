"""A store that cannot write for a while: answers wait, links end, stations keep their records."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from csms.core.model import SessionState
from csms.settings import StoreSettings
from simulators.battery import Vehicle
from simulators.simulated import SimulatedStation
from simulators.variables import Settings as StationSettings
from tests.scenarios.world import VERSIONS, World, card_of, eventually, living, settings

HOLDER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
db.execute("ROLLBACK")
"""


@contextlib.asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Hold the write lock of a SQLite store from another process."""
    path = Path(url.removeprefix("sqlite:///"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, str(path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert await process.stdout.readline() == b"held\n"
    try:
        yield
    finally:
        process.stdin.write(b"\n")
        await process.stdin.drain()
        assert await process.wait() == 0


async def charging(world: World, number: int, version: str) -> SimulatedStation:
    """Return a station whose car charges, sampled each second."""
    await world.register(f"c{number}")
    await world.driver(number, departs_in=timedelta(hours=3), energy_kwh=20.0)
    station = world.station(
        f"c{number}",
        version,
        boots=True,
        settings=StationSettings(sample_interval_s=1, message_attempts=1),
    )
    station.link.options.backoff_s = (0.1, 0.5)
    await station.power_up()
    await station.ready()
    await station.plug_in(1, Vehicle(battery_kwh=60.0), soc=0.2)
    await station.start(1, card_of(number))
    return station


async def ends_well(world: World, found: list[SimulatedStation]) -> None:
    """Stop all cars; every session is complete and exact."""
    for number, station in enumerate(found, start=1):
        if station.station.evse(1).transaction is not None:
            await station.stop(1, token=card_of(number))
        await station.unplug(1)
    await asyncio.gather(*(s.drained() for s in found))
    verdict = await world.verdict()
    assert verdict.is_clean, verdict
    assert not verdict.dropped, verdict
    held = await world.sessions()
    assert len(held) == len(found)
    assert all(s.state is SessionState.ENDED for s in held)
    for station in found:
        assert not station.link.errors, station.link.errors


@pytest.mark.parametrize("version", VERSIONS)
async def test_outage_f07_a_short_lock_costs_time_and_nothing_else(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url)) as world:
        found = [await charging(world, n, version) for n in range(1, 4)]
        links = [s.link.number for s in found]
        async with locked(sqlite_url):
            stops = [asyncio.ensure_future(s.stop(1)) for s in found]
            await asyncio.sleep(1.0)
            assert not any(stop.done() for stop in stops), "answered and not stored"
        await asyncio.gather(*stops)
        assert [s.link.number for s in found] == links
        await ends_well(world, found)


@pytest.mark.parametrize("version", VERSIONS)
async def test_x02_x03_a_long_lock_ends_links_and_drops_no_record(
    version: str, sqlite_url: str
) -> None:
    store = StoreSettings(url=sqlite_url, hold_s=0.5)
    async with living(settings(sqlite_url, store=store)) as world:
        found = [await charging(world, n, version) for n in range(1, 5)]
        await world.register("watched")
        url = f"{world.url}/watched"
        offer = [Subprotocol(f"ocpp{version}")]
        watched = await connect(url, subprotocols=offer, proxy=None)
        # Known before the lock: booted.
        async with locked(sqlite_url):
            for station in found[:2]:
                station.tasks.start(_stopped(station), "stop")
            await eventually(lambda: not any(s.link.is_up for s in found), "links are kept")
            # Reading goes on, and shows that nothing was answered that is not stored.
            assert (await world.verdict()).lost == ()
            await watched.send('[2,"h1","Heartbeat",{}]')
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(5):
                    await watched.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, subprotocols=offer, proxy=None)
            assert refused.value.response.status_code == 503
            assert int(refused.value.response.headers["Retry-After"]) > 0
        await eventually(lambda: all(s.is_online for s in found), "they do not come back")
        await ends_well(world, found)


async def _stopped(station: SimulatedStation) -> None:
    await station.stop(1)
