"""Offers in a crowd: one short look at a time, everybody once, and never more than a share."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from csms.core.model import Offer
from csms.core.plan import Plan, PlanningCase
from csms.planning.planner import plan
from csms.service.background import Background
from csms.service.cases import Snapshot, Surroundings, planning_case, snapshot
from csms.service.offering import Offering, offers_of
from csms.service.offers import OfferBook
from csms.store import sessions, trips
from csms.store.database import Store
from tests.service.field import NOW, SITE, Depot, Field, HandClock

CARS = 6
Planned = tuple[Snapshot, PlanningCase, Plan]


class Crowd:
    """A site where cars with holders came one after the other, and a log of who is looked at."""

    def __init__(self, store: Store) -> None:
        self.store = store
        stations = {f"c{i}": 1.38 for i in range(CARS)}
        self.place = Depot(store, Field(guards_kw=stations), HandClock())
        self.book = OfferBook(store=store, clock=self.place.clock)
        self.background = Background()
        self.looks: list[tuple[str, datetime, str]] = []
        """Of each car: its site, when the plan was made, the session."""
        self.busy: Callable[[], None] = lambda: None
        self.under_way = self.most = 0
        self.broken = ""
        self.begun = asyncio.Event()
        self.gate = threading.Event()
        self.gate.set()
        self._loop = asyncio.get_running_loop()

    def offering(self, **options: float) -> Offering:
        return Offering(
            book=self.book, background=self.background, offers_of=self._offers_of, **options
        )

    def _offers_of(
        self, case: PlanningCase, made: Plan, session_id: str, did: str
    ) -> Sequence[Offer]:
        assert threading.current_thread() is not threading.main_thread()
        assert did == f"did:key:{session_id}"
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.gate.wait(15)
        self.looks.append((case.site_id, case.now_at, session_id))
        self.busy()
        found = offers_of(case, made, session_id, did)
        self.under_way -= 1
        if session_id == self.broken:
            raise ValueError("a case nobody thought of")
        return found

    async def come(self) -> None:
        """Let all cars come, a minute apart; the one that came last is first in the store."""
        await self.place.build(limit_kw=CARS * 3.0)
        for i in range(CARS):
            self.place.clock.at = NOW - timedelta(minutes=i)
            session = await self.place.arrive(f"c{i}", need_kwh=30.0, leaves_h=3.0)
            come = replace(session, holder_did=f"did:key:{session.session_id}")
            await self.store.write(lambda tx, come=come: sessions.save(tx, come))
        self.place.clock.at = NOW

    async def planned(self, *, now: datetime = NOW) -> Planned:
        known = await self.store.read(
            lambda tx: snapshot(tx, SITE, now=now, horizon_h=12.0, carbon_id="")
        )
        case = planning_case(known, Surroundings(), now=now, horizon_h=12.0, slot_s=900)
        return known, case, plan(case)

    async def offers(self) -> list[Offer]:
        return await self.store.read(trips.list_offers)

    async def idle(self) -> None:
        async with asyncio.timeout(30):
            while self.background._tasks:
                await asyncio.gather(*self.background._tasks.values())


@pytest.fixture
async def crowd(store: Store) -> AsyncIterator[Crowd]:
    made = Crowd(store)
    await made.come()
    yield made
    made.gate.set()
    await made.background.stop()


OLDEST_FIRST = [f"s{i}" for i in range(CARS, 0, -1)]


async def test_a_crowd_is_looked_at_in_the_order_of_its_coming_and_each_car_once(
    crowd: Crowd,
) -> None:
    offering = crowd.offering(look_cpu_s=0.0, share=1.0)
    found = await crowd.planned()
    offering.planned(*found)
    offering.planned(*found)
    await crowd.idle()
    offering.planned(*found)
    await crowd.idle()
    assert [session_id for _, _, session_id in crowd.looks] == OLDEST_FIRST
    made = [(o.session_id, o.kind) for o in await crowd.offers()]
    assert made
    assert len(made) == len(set(made))
    assert offering.waiting == 0


@pytest.mark.parametrize(("look_cpu_s", "of_first_plan"), [(0.0, 1), (60.0, CARS)])
async def test_a_look_ends_with_its_budget_and_the_next_takes_the_newest_plan(
    crowd: Crowd, look_cpu_s: float, of_first_plan: int
) -> None:
    offering = crowd.offering(look_cpu_s=look_cpu_s, share=1.0)
    first, newer = await crowd.planned(), await crowd.planned(now=NOW + timedelta(minutes=1))
    crowd.gate.clear()
    offering.planned(*first)
    async with asyncio.timeout(15):
        await crowd.begun.wait()
    offering.planned(*newer)
    assert offering.waiting == CARS
    crowd.gate.set()
    await crowd.idle()
    assert [session_id for _, _, session_id in crowd.looks] == OLDEST_FIRST
    planned_at = [at for _, at, _ in crowd.looks]
    assert planned_at.count(NOW) == of_first_plan


async def test_a_car_that_leaves_before_its_turn_is_let_go(crowd: Crowd) -> None:
    offering = crowd.offering(look_cpu_s=0.0, share=1.0)
    first = await crowd.planned()
    crowd.gate.clear()
    offering.planned(*first)
    async with asyncio.timeout(15):
        await crowd.begun.wait()
    await crowd.store.write(lambda tx: sessions.close_session(tx, "s3", at=NOW, reason="Local"))
    offering.planned(*await crowd.planned())
    crowd.gate.set()
    await crowd.idle()
    assert "s3" not in [session_id for _, _, session_id in crowd.looks]
    assert len(crowd.looks) == CARS - 1


async def test_sites_take_turns_and_one_look_is_under_way_at_a_time(crowd: Crowd) -> None:
    offering = crowd.offering(look_cpu_s=0.0, share=1.0)
    known, case, made = await crowd.planned()
    big = ({"s1", "s2", "s3", "s4"}, "big")
    small = ({"s5", "s6"}, "small")
    for ids, site_id in (big, small):
        cars = tuple(c for c in known.cars if c.session.session_id in ids)
        offering.planned(replace(known, cars=cars), replace(case, site_id=site_id), made)
    await crowd.idle()
    assert [site for site, _, _ in crowd.looks] == ["big", "small"] * 2 + ["big"] * 2
    assert crowd.most == 1


async def test_cars_with_offers_on_record_are_not_looked_at_after_a_restart(crowd: Crowd) -> None:
    found = await crowd.planned()
    crowd.offering(share=1.0).planned(*found)
    await crowd.idle()
    offered = {o.session_id for o in await crowd.offers()}
    assert offered
    crowd.looks.clear()
    crowd.offering(share=1.0).planned(*found)
    await crowd.idle()
    assert {session_id for _, _, session_id in crowd.looks} == set(OLDEST_FIRST) - offered


async def test_a_car_that_cannot_be_looked_at_holds_up_nobody(crowd: Crowd) -> None:
    crowd.broken = "s6"
    offering = crowd.offering(share=1.0)
    offering.planned(*await crowd.planned())
    await crowd.idle()
    assert len(crowd.looks) == CARS
    offered = {o.session_id for o in await crowd.offers()}
    assert offered
    assert "s6" not in offered


async def test_an_offer_that_ended_while_its_car_waited_is_not_made(crowd: Crowd) -> None:
    found = await crowd.planned()
    crowd.place.clock.advance(hours=12)
    crowd.offering(share=1.0).planned(*found)
    await crowd.idle()
    assert len(crowd.looks) == CARS
    assert await crowd.offers() == []


async def test_looks_take_no_more_than_their_share_of_a_core(crowd: Crowd) -> None:
    def busy() -> None:
        until_s = time.thread_time() + 0.02
        while time.thread_time() < until_s:
            pass

    crowd.busy = busy
    offering = crowd.offering(look_cpu_s=0.0, share=0.5)
    began_s = time.monotonic()
    offering.planned(*await crowd.planned())
    await crowd.idle()
    assert time.monotonic() - began_s >= CARS * 0.02 / 0.5
