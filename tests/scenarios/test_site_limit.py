"""Cars that share a tight limit: what the site draws, who yields, and what makes a new plan."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from csms.core.model import Site
from csms.core.plan import PlannedSession
from csms.store import stations
from simulators.battery import Vehicle
from simulators.power import peak_w, seconds_above
from simulators.simulated import SimulatedStation
from tests.scenarios.world import HELD_KWH, START, World, did_of, eventually, living, settings

CAR = Vehicle(battery_kwh=60.0)
LIMIT_KW = 11.0
VERSIONS = [("1.6", "2.0.1"), ("2.0.1", "1.6"), ("2.1", "1.6")]


async def arrive(
    world: World, number: int, version: str, *, departs_in: timedelta, energy_kwh: float
) -> SimulatedStation:
    """Register a station, bring it up, and start a driver's session there."""
    await world.register(f"c{number}")
    card = await world.driver(number, departs_in=departs_in, energy_kwh=energy_kwh)
    station = world.station(f"c{number}", version)
    await station.link.connect()
    station._start_work()
    await station.boot()
    await world.guarded(f"c{number}")
    await station.plug_in(1, CAR, soc=0.2)
    assert await station.present(card) == "Accepted"
    return station


async def planned_for(world: World, count: int) -> dict[str, PlannedSession]:
    """Wait for a plan of `count` cars whose schedules are in force; return its rows by driver."""

    async def found() -> dict[str, PlannedSession] | None:
        known = await world.plan()
        if known is None or len(known[1].sessions) != count:
            return None
        holders = {s.session_id: s.holder_did for s in await world.sessions()}
        return {holders[row.session_id]: row for row in known[1].sessions}

    rows: dict[str, PlannedSession] = await eventually(found, f"no plan for {count} cars")
    return rows


async def why(world: World, cause: str) -> None:
    """Wait for a plan that was made because of `cause`."""

    async def found() -> bool:
        head = await world.newest_plan()
        return head is not None and cause in head.why

    await eventually(found, f"no plan because of {cause!r}")


async def site(world: World) -> Site:
    return await world.store.read(lambda tx: stations.get_site(tx, "main"))


@pytest.mark.parametrize(("first", "second"), VERSIONS)
async def test_the_later_departure_yields_and_the_limit_holds_at_every_instant(
    first: str, second: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=120) as world:
        late = await arrive(world, 1, first, departs_in=timedelta(hours=8), energy_kwh=40.0)
        soon = await arrive(world, 2, second, departs_in=timedelta(hours=1), energy_kwh=9.3)
        rows = await planned_for(world, 2)
        assert rows[did_of(2)].power_kw[0] > rows[did_of(1)].power_kw[0]
        await eventually(lambda: soon.power_w(1) > late.power_w(1), "the early one is not served")

        # A need that cannot be met is said to be short, and why.
        async with world.operator() as operator:
            await operator.patch("/api/v1/sites/main", json={"limit_kw": 5.0})
        await why(world, "site changed")
        rows = await planned_for(world, 2)
        assert rows[did_of(2)].shortfall_kwh > 0
        assert rows[did_of(2)].shortfall_reason == "site limit"
        await eventually(lambda: soon.power_w(1) + late.power_w(1) <= 5000)
        lowered_at = world.clock.now()

        # Unplugged, it leaves its power to the other.
        before_w = late.power_w(1)
        await soon.stop(1)
        await soon.unplug(1)
        await why(world, "session ended")
        await eventually(lambda: late.power_w(1) > before_w, "the power freed is not used")
        await late.unplug(1)
        await asyncio.gather(soon.drained(), late.drained())
        course = world.course()
        verdict = await world.verdict()
    assert peak_w(course) > 4000
    assert seconds_above(course, LIMIT_KW * 1000) == 0
    later = [s for s in course if s.start_at > lowered_at]
    assert peak_w(later) > 4000
    assert seconds_above(later, 5000) == 0
    assert verdict.is_clean, verdict


@pytest.mark.parametrize(("first", "second"), VERSIONS)
async def test_a_new_trip_is_planned_at_once(first: str, second: str, sqlite_url: str) -> None:
    async with living(settings(sqlite_url, limit_kw=LIMIT_KW), speed=60) as world:
        a = await arrive(world, 1, first, departs_in=timedelta(hours=8), energy_kwh=30.0)
        b = await arrive(world, 2, second, departs_in=timedelta(hours=1), energy_kwh=9.3)
        rows = await planned_for(world, 2)
        assert rows[did_of(2)].power_kw[0] > rows[did_of(1)].power_kw[0]
        async with world.operator() as operator:
            for number, hours in ((2, 8), (1, 1)):
                trip = {
                    "holder_did": did_of(number),
                    "vehicle_id": f"v{number}",
                    "departs_at": (world.clock.now() + timedelta(hours=hours)).isoformat(),
                    "energy_kwh": 9.3 + HELD_KWH,
                    "reserve_share": 0.0,
                }
                answer = await operator.put(f"/api/v1/trips/t{number}", json=trip)
                assert answer.is_success, answer.text
        await why(world, "trip")

        async def turned() -> bool:
            # Two trips were declared, so the first plan for one of them may know one only.
            rows = await planned_for(world, 2)
            return rows[did_of(1)].power_kw[0] > rows[did_of(2)].power_kw[0]

        await eventually(turned, "the nearer departure does not come first")
        await eventually(lambda: a.power_w(1) > b.power_w(1), "the new plan is not followed")
        session = next(s for s in await world.sessions() if s.holder_did == did_of(1))
        assert session.departs_at is not None
        assert session.departs_at < world.clock.now() + timedelta(hours=2)


class PriceServer:
    """Answers like a day-ahead market: `dear_h` hours from START on are dear, the rest cheap."""

    def __init__(self) -> None:
        self.port = 0
        self.dear_h = range(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        hours = []
        for hour in range(-2, 60):
            start = START.replace(minute=0) + timedelta(hours=hour)
            hours.append(
                {
                    "start_timestamp": int(start.timestamp() * 1000),
                    "end_timestamp": int((start + timedelta(hours=1)).timestamp() * 1000),
                    "marketprice": 400.0 if hour in self.dear_h else 50.0,
                    "unit": "Eur/MWh",
                }
            )
        body = json.dumps({"data": hours}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
        writer.write(b"Content-Type: application/json\r\n")
        writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def market() -> AsyncIterator[PriceServer]:
    served = PriceServer()
    listening = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield served


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
async def test_new_prices_move_the_charging_to_the_cheap_hours(
    version: str, sqlite_url: str
) -> None:
    async with market() as prices:
        tariff = {
            "type": "http_json",
            "format": "awattar",
            "url": f"http://127.0.0.1:{prices.port}/prices",
            "allow_http": True,
            "ports": (prices.port,),
        }
        prices.dear_h = range(2, 12)
        given = settings(sqlite_url, limit_kw=LIMIT_KW, tariff={"default": tariff})
        async with living(given, speed=60) as world:
            await why(world, "new prices")
            car = await arrive(world, 1, version, departs_in=timedelta(hours=10), energy_kwh=19.0)
            rows = await planned_for(world, 1)
            assert rows[did_of(1)].power_kw[0] > 0
            await eventually(lambda: car.power_w(1) > 0)
            prices.dear_h = range(3)
            await world.system.market.fetch()
            await why(world, "new prices")
            rows = await planned_for(world, 1)
            assert rows[did_of(1)].power_kw[0] == 0
            assert rows[did_of(1)].shortfall_kwh == 0
            await eventually(lambda: car.power_w(1) == 0, "it charges on at the dear hour")


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
async def test_a_source_of_prices_that_is_away_is_noted_and_planned_without(
    version: str, sqlite_url: str
) -> None:
    async with market() as prices:
        port = prices.port
    tariff = {
        "type": "http_json",
        "format": "awattar",
        "url": f"http://127.0.0.1:{port}/prices",
        "allow_http": True,
        "ports": (port,),
    }
    given = settings(sqlite_url, limit_kw=LIMIT_KW, tariff={"default": tariff})
    async with living(given, speed=60) as world:
        await arrive(world, 1, version, departs_in=timedelta(hours=2), energy_kwh=9.0)
        rows = await planned_for(world, 1)
        known = await world.plan()
        assert known is not None
        assert any("prices missing" in note for note in known[0].notes)
        assert rows[did_of(1)].shortfall_kwh == 0
        assert await eventually(lambda: world.events("source failed"))
