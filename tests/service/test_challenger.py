"""Champion and challenger: compared on every case, and the champion replaced while it fails."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from csms.core.errors import ConfigError
from csms.core.messages import Notice
from csms.core.model import Strategy
from csms.core.plan import Plan, PlanningCase
from csms.planning.planner import plan
from csms.service.background import Background
from csms.service.challenger import ChallengerOptions, Challengers, summary
from csms.service.replanner import PlanningOptions, Replanner
from csms.settings import load
from csms.store import journal, rivals
from csms.store.database import Store
from csms.store.rivals import Comparison
from csms.telemetry import Metrics
from tests.service.field import SITE, Depot, Field, HandClock

Planner = Callable[[PlanningCase], Plan]


class Yard:
    """A depot with two cars whose plans are made one by one."""

    def __init__(self, place: Depot, planner: Planner, **options: Any) -> None:
        self.place = place
        self.background = Background()
        self.challengers = Challengers(
            store=place.store,
            clock=place.clock,
            background=self.background,
            options=ChallengerOptions(**options),
            planner=planner,
        )
        self.told: asyncio.Queue[Notice] = asyncio.Queue()
        self.loop = Replanner(
            store=place.store,
            pusher=place.pusher,
            clock=place.clock,
            options=PlanningOptions(horizon_h=12.0, collect_s=0.0),
            metrics=Metrics(),
            notify=self.told.put_nowait,
            reserve=lambda *_: {},
            planned=lambda *_: None,
            planner=planner,
            challengers=self.challengers,
        )

    async def plan(self) -> Comparison | None:
        """Plan the site once; return the newest comparison once nothing is under way."""
        self.loop.touch(SITE, "test")
        async with asyncio.timeout(30):
            await self.told.get()
            while self.background._tasks:
                await asyncio.gather(*self.background._tasks.values())
        found = await self.compared()
        return found[0] if found else None

    async def compared(self) -> list[Comparison]:
        return await self.place.store.read(lambda tx: rivals.comparisons(tx, SITE, limit=50))

    async def events(self) -> list[str]:
        page = await self.place.store.read(lambda tx: journal.list_events(tx, site_id=SITE))
        return [e.event.kind for e in page.items if e.event.kind.startswith("champion")]


@asynccontextmanager
async def yard(store: Store, planner: Planner = plan, **options: Any) -> AsyncIterator[Yard]:
    place = Depot(store, Field(guards_kw={f"c{i}": 4.14 for i in range(2)}), HandClock())
    await place.build(limit_kw=60.0)
    for i in range(2):
        await place.arrive(f"c{i}", need_kwh=20.0, leaves_h=6.0)
    made = Yard(place, planner, **options)
    running = asyncio.create_task(made.loop.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.background.stop()


class Moody:
    """A planner that raises while it is in a bad mood."""

    def __init__(self) -> None:
        self.is_bad = True
        self.strategies: list[Strategy] = []

    def __call__(self, case: PlanningCase) -> Plan:
        self.strategies.append(case.strategy)
        if self.is_bad:
            raise ZeroDivisionError("a bad mood")
        return plan(case)


async def test_every_case_is_planned_by_the_challenger_too(store: Store) -> None:
    async with yard(store, challengers={SITE: Strategy.AT_ONCE}) as here:
        first = await here.plan()
        assert first is not None
        assert (first.champion, first.challenger) == ("optimal", "at_once")
        assert first.in_force == "optimal"
        for outcome in (first.champion_outcome, first.challenger_outcome):
            assert outcome["fault"] == ""
            assert outcome["shortfall_kwh"] == 0.0
            assert float(str(outcome["cpu_s"])) > 0
        await here.plan()
        found = await here.compared()
        assert len(found) == 2
        told = summary(SITE, found)
        assert told["plans"] == 2
        assert told["in_force"] == "optimal"
        assert told["challenger_mean"]["faults"] == 0  # type: ignore[index]


@pytest.mark.parametrize("challenger", [None, Strategy.OPTIMAL])
async def test_without_a_challenger_nothing_is_planned_twice(
    store: Store, challenger: Strategy | None
) -> None:
    async with yard(store, challengers={SITE: challenger}) as here:
        assert await here.plan() is None
        assert await here.events() == []


async def test_a_champion_that_fails_is_replaced_and_returns_after_a_good_spell(
    store: Store,
) -> None:
    champion = Moody()
    async with yard(
        store, champion, challengers={SITE: Strategy.EARLIEST_DEADLINE}, after_failures=3
    ) as here:
        for _ in range(2):
            await here.plan()
            assert await here.events() == []
        await here.plan()
        assert await here.events() == ["champion replaced"]
        replaced = await here.plan()
        assert replaced is not None
        assert (replaced.in_force, replaced.champion) == ("earliest_deadline", "optimal")
        assert "a bad mood" in replaced.why
        assert "a bad mood" in str(replaced.champion_outcome["fault"])
        assert replaced.challenger_outcome["fault"] == ""
        # The champion goes on planning what the site asked for, in the background.
        assert set(champion.strategies) == {Strategy.OPTIMAL}
        champion.is_bad = False
        await here.plan()
        here.place.clock.advance(minutes=20)
        await here.plan()
        assert await here.events() == ["champion replaced"]
        here.place.clock.advance(minutes=20)
        await here.plan()
        assert await here.events() == ["champion returned", "champion replaced"]
        back = await here.plan()
        assert back is not None
        assert (back.in_force, back.why) == ("optimal", "")


async def test_failures_far_apart_replace_nobody(store: Store) -> None:
    champion = Moody()
    async with yard(store, champion, window=timedelta(minutes=10)) as here:
        for _ in range(4):
            await here.plan()
            here.place.clock.advance(minutes=6)
        assert await here.events() == []


async def test_too_much_processor_time_is_a_failure_and_least_laxity_steps_in(
    store: Store,
) -> None:
    async with yard(store, budget_s=1e-9, after_failures=1) as here:
        await here.plan()
        assert await here.events() == ["champion replaced"]
        kept = await here.plan()
        assert kept is not None
        assert kept.in_force == "least_laxity"
        assert "of 1e-09 s" in kept.why


async def test_a_plan_that_passes_the_limit_never_leaves_and_counts(store: Store) -> None:
    def greedy(case: PlanningCase) -> Plan:
        made = plan(case)
        rows = tuple(replace(s, power_kw=(22.0,) * case.slots) for s in made.sessions)
        return replace(made, sessions=rows)

    async with yard(store, greedy, after_failures=2) as here:
        await here.plan()
        await here.plan()
        kept = await here.plan()
        assert kept is not None
        assert kept.in_force == "least_laxity"
        assert kept.champion_outcome["fault"]


async def test_a_shadow_that_hangs_holds_up_no_plan(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csms.service.challenger.SHADOW_S", 0.05)
    go_on = threading.Event()
    champion = Moody()

    def sticky(case: PlanningCase) -> Plan:
        if not champion.is_bad:
            go_on.wait(timeout=30)
        return champion(case)

    async with yard(store, sticky, after_failures=1) as here:
        await here.plan()
        champion.is_bad = False
        hung = await here.plan()
        again = await here.plan()
        go_on.set()
    assert hung is not None
    assert again is not None
    assert "no plan within" in str(hung.champion_outcome["fault"])
    assert "still busy" in str(again.champion_outcome["fault"])


async def test_old_comparisons_are_purged(store: Store) -> None:
    async with yard(store, challengers={SITE: Strategy.AT_ONCE}) as here:
        kept = await here.plan()
        assert kept is not None

        assert (
            await store.write(
                lambda tx: rivals.purge_comparisons(tx, before=kept.at - timedelta(days=1))
            )
            == 0
        )
        assert (
            await store.write(
                lambda tx: rivals.purge_comparisons(tx, before=kept.at + timedelta(days=1))
            )
            == 1
        )
        assert await here.compared() == []


def test_a_preset_fills_in_what_a_site_leaves_out(tmp_path: Any) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[site.yard]\npreset = "depot"\n[site.shop]\npreset = "retail"\nguard_share = 0.5\n'
        "[site.plain]\nlimit_kw = 10\n"
    )
    found = load(file, {}).site
    assert found["yard"].strategy is Strategy.OPTIMAL
    assert found["yard"].challenger is Strategy.EARLIEST_DEADLINE
    assert found["yard"].reserve_quantile == "none"
    assert found["shop"].strategy is Strategy.EQUAL_SHARE
    assert found["shop"].guard_share == 0.5
    assert found["plain"].challenger is None
    file.write_text('[site.yard]\npreset = "harbour"\n')
    with pytest.raises(ConfigError, match="preset"):
        load(file, {})
    assert load(None, {"TASCO_SITE__A__PRESET": "workplace"}).site["a"].challenger is (
        Strategy.LEAST_LAXITY
    )
