"""planner.md scenarios 12 and 16 with stations, schedules and the loop: who has what, always."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from csms.core.model import Evse, Session
from csms.core.wiring import CircuitSetup
from csms.planning.profile import RAISE_AFTER_S
from csms.service.charging import Effect
from csms.service.replanner import PlanningOptions, Replanner
from csms.store import sessions, stations, wiring
from csms.store.database import Store
from csms.store.statements import Tx
from csms.telemetry import Metrics
from tests.service.field import NOW, SITE, Depot, Field, HandClock

PER_A = 3 * 0.23
"""kW of an ampere on each of three phases."""


class Watched(Field):
    """Notes the most that the stations together ever let cars draw, A per phase."""

    def watch(self, clock: HandClock) -> None:
        """Look at every schedule that is taken."""
        self.most_a = 0.0

        def look() -> None:
            self.most_a = max(self.most_a, self.allowed_kw(clock.now()) / PER_A)

        self.took = look


async def on_a_fuse(store: Store, *, limit_a: float, guards_a: tuple[float, ...]) -> Depot:
    clock = HandClock(NOW.replace(minute=16))
    field = Watched(guards_kw={f"c{i}": a * PER_A for i, a in enumerate(guards_a)})
    place = Depot(store, field, clock)
    await place.build(limit_kw=1000.0)
    fuse = CircuitSetup(circuit_id="fuse", limit_a=(limit_a,), evses=("*",))
    await store.write(lambda tx: wiring.put_circuit(tx, SITE, fuse))
    field.watch(clock)
    return place


def amperes(place: Depot, station_id: str, at: datetime | None = None) -> float:
    return round(place.field.station_kw(station_id, at or place.clock.now()) / PER_A, 3)


class Loop:
    """The loop over a depot's cars, and what their meters tell it."""

    def __init__(self, place: Depot) -> None:
        self.place = place
        self.planned: asyncio.Queue[None] = asyncio.Queue()
        self.replanner = Replanner(
            store=place.store,
            pusher=place.pusher,
            clock=place.clock,
            options=PlanningOptions(horizon_h=12.0, collect_s=0.0),
            metrics=Metrics(),
            notify=lambda _: None,
            reserve=lambda *_: {},
            planned=lambda *_: self.planned.put_nowait(None),
        )

    async def plans(self) -> None:
        """Wait for the next plan to be in force."""
        async with asyncio.timeout(20):
            await self.planned.get()

    async def draws(self, session: Session, current_a: float) -> None:
        """Let a car's meter tell what it draws now."""
        sample = replace(
            session,
            power_w=current_a * PER_A * 1000,
            current_a=(current_a,) * 3,
            sample_at=self.place.clock.now(),
        )
        await self.place.store.write(lambda tx: sessions.save(tx, sample))
        self.replanner.changed(Effect(session=sample, why=""))


async def test_scenario_12_what_a_car_leaves_is_handed_on_and_given_back(store: Store) -> None:
    place = await on_a_fuse(store, limit_a=40.0, guards_a=(0.0, 0.0))
    loop, clock = Loop(place), place.clock
    task = asyncio.create_task(loop.replanner.run())
    try:
        # Both want all they can get, and A comes first.
        a = replace(await place.arrive("c0", need_kwh=60.0, leaves_h=2.5), priority=1)
        await store.write(lambda tx: sessions.save(tx, a))
        await place.arrive("c1", need_kwh=190.0, leaves_h=9.0)
        loop.replanner.touch(SITE, "session started")
        await loop.plans()
        assert (amperes(place, "c0"), amperes(place, "c1")) == (32.0, 8.0)
        clock.advance(seconds=120)
        await loop.draws(a, 10.0)
        clock.advance(seconds=60)
        assert loop.planned.empty()
        await loop.draws(a, 10.0)
        await loop.plans()
        assert (amperes(place, "c0"), amperes(place, "c1")) == (11.0, 29.0)
        # It comes up to its bound: B falls within one cycle, before A has more.
        clock.advance(seconds=120)
        await loop.draws(a, 11.0)
        await loop.plans()
        assert amperes(place, "c0") > 11.0
        assert amperes(place, "c0") + amperes(place, "c1") <= 40.0
        while not loop.planned.empty():
            await loop.plans()
        assert (amperes(place, "c0"), amperes(place, "c1")) == (32.0, 8.0)
        assert place.field.most_a <= 40.0 + 1e-6  # type: ignore[attr-defined]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_scenario_16_a_station_offline_counts_with_its_schedule_then_with_its_guard(
    store: Store,
) -> None:
    place = await on_a_fuse(store, limit_a=30.0, guards_a=(6.0, 0.0))

    def slow(tx: Tx) -> None:
        evse = Evse(station_id="c0", evse_id=1, max_kw=16 * PER_A, guard_kw=6 * PER_A)
        stations.upsert_evse(tx, evse)
        stations.set_guard_kw(tx, "c0", 1, 6 * PER_A)

    await store.write(slow)
    start = place.clock.now()
    await place.arrive("c0", need_kwh=60.0, leaves_h=0.8)
    await place.plan_and_push(horizon_h=0.5)
    await place.leave_link("c0")
    place.field.deaf.add("c0")
    await place.arrive("c1", need_kwh=100.0, leaves_h=5.0)
    await place.plan_and_push(horizon_h=5.0)
    runs_out = start.replace(minute=45)
    for minutes in range(0, 280, 4):
        at = start + timedelta(minutes=minutes)
        away_a = 16.0 if at < runs_out else 6.0
        assert amperes(place, "c0", at) == away_a
        if runs_out <= at < runs_out + timedelta(seconds=RAISE_AFTER_S):
            # A raise at a boundary comes late, for a station whose clock is slow.
            assert amperes(place, "c1", at) == pytest.approx(14.0, abs=0.1)
        else:
            assert amperes(place, "c1", at) == pytest.approx(30.0 - away_a, abs=0.1), minutes
    # Back again, it is under control: it gives way to whom time presses.
    place.field.deaf.clear()
    await place.link("c0")
    place.clock.advance(minutes=40)
    await place.plan_and_push(horizon_h=5.0)
    assert amperes(place, "c0") + amperes(place, "c1") <= 30.0 + 1e-6
