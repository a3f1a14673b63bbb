"""The line of stations to settle: nobody waits alone, a storm waits, and everybody's turn comes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from csms.core.errors import UnknownStation
from csms.service.background import Background
from csms.service.settling import AT_ONCE, MANY, WITHIN_S, Due, Settling


class Desk:
    """Settles stations as slowly as the test wants, and remembers in which order."""

    def __init__(self) -> None:
        self.background = Background()
        self.settling = Settling(self.settle, self.background)
        self.seen: list[tuple[str, Due]] = []
        self.begun: list[float] = []
        self.under_way = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.done = asyncio.Condition()
        """Told of each station that begins or is done."""

    async def settle(self, station_id: str, due: Due) -> None:
        self.seen.append((station_id, due))
        self.begun.append(asyncio.get_running_loop().time())
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        async with self.done:
            self.done.notify_all()
        try:
            await self.gate.wait()
            if station_id == "gone":
                raise UnknownStation("no station gone")
        finally:
            self.under_way -= 1
            async with self.done:
                self.done.notify_all()

    async def begins(self, count: int) -> None:
        async with asyncio.timeout(15), self.done:
            await self.done.wait_for(lambda: len(self.seen) >= count)

    async def settled(self, count: int) -> None:
        async with asyncio.timeout(15), self.done:
            await self.done.wait_for(lambda: len(self.seen) >= count and not self.under_way)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    await made.background.stop()


async def test_a_station_alone_is_settled_at_once(desk: Desk) -> None:
    desk.gate.clear()
    desk.settling.came_up("a", "station booted", is_new=True)
    await asyncio.sleep(0)
    assert [s for s, _ in desk.seen] == ["a"]
    assert desk.settling.waiting == 0


async def test_a_station_that_comes_up_while_it_is_settled_is_settled_once_more(desk: Desk) -> None:
    desk.gate.clear()
    desk.settling.came_up("a", "station booted", is_new=True)
    await asyncio.sleep(0)
    for why in ("new EVSE", "station back", "station back"):
        desk.settling.came_up("a", why, is_new=why == "new EVSE")
    assert desk.settling.waiting == 1
    desk.gate.set()
    await desk.settled(2)
    assert [(s, d.why, d.is_new) for s, d in desk.seen] == [
        ("a", "station booted", True),
        ("a", "station back", True),
    ]


async def test_a_storm_waits_until_it_is_over_and_then_goes_a_few_at_a_time(desk: Desk) -> None:
    stations = [f"s{i:03d}" for i in range(10 * MANY)]
    desk.gate.clear()
    for station_id in stations:
        desk.settling.came_up(station_id, "station booted", is_new=True)
        await asyncio.sleep(0)
    last_came_at = asyncio.get_running_loop().time()
    assert len(desk.seen) == AT_ONCE
    desk.gate.set()
    await desk.settled(len(stations))
    assert [s for s, _ in desk.seen] == stations
    assert desk.most == AT_ONCE
    assert min(desk.begun[AT_ONCE:]) >= last_came_at + WITHIN_S * 0.9


async def test_stations_of_a_site_go_together_and_no_later_ones_go_before_others(
    desk: Desk,
) -> None:
    desk.gate.clear()
    for i in range(AT_ONCE):
        desk.settling.came_up(f"first{i}", "station booted", is_new=True, site_id="first")
    for i in range(AT_ONCE):
        desk.settling.came_up(f"a{i}", "station booted", is_new=True, site_id="a")
        desk.settling.came_up(f"b{i}", "station booted", is_new=True, site_id="b")
    assert desk.settling.waiting == 2 * AT_ONCE
    desk.gate.set()
    await desk.settled(AT_ONCE)
    desk.gate.clear()
    await desk.begins(2 * AT_ONCE)
    desk.settling.came_up("a late", "station booted", is_new=True, site_id="a")
    desk.gate.set()
    await desk.settled(3 * AT_ONCE + 1)
    assert desk.settling.waiting == 0
    order = [s for s, _ in desk.seen]
    assert [s[0] for s in order] == ["f"] * AT_ONCE + ["a"] * AT_ONCE + ["b"] * AT_ONCE + ["a"]


async def test_a_station_that_cannot_be_settled_does_not_stop_the_line(desk: Desk) -> None:
    for station_id in ("a", "gone", "b"):
        desk.settling.came_up(station_id, "station booted", is_new=True)
    await desk.settled(3)
    assert {s for s, _ in desk.seen} == {"a", "gone", "b"}
    desk.settling.came_up("gone", "station booted", is_new=True)
    await desk.settled(4)
