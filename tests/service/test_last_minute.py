"""In the last minute of a slot a plan begins with the next one, but where a limit is passed."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from csms.core.plan import PlanningCase
from csms.core.units import SLOT_S, slot_start
from csms.planning.planner import plan
from csms.service.cases import Surroundings, planning_case, snapshot
from csms.store import plans, stations
from csms.store.database import Store
from tests.service.field import NOW, SITE, Depot, Field, HandClock, taken

BOUNDARY = slot_start(NOW) + timedelta(seconds=2 * SLOT_S)
HALF_A_MINUTE_BEFORE = BOUNDARY - timedelta(seconds=30)


async def case_of(store: Store, *, now: datetime, limit_kw: float) -> PlanningCase:
    """Return the case of a site whose car may draw 11 kW, its limit just set to `limit_kw`."""
    place = Depot(store, Field(guards_kw={"c0": 0.0}), HandClock())
    await place.build(limit_kw=30.0)
    session = await place.arrive("c0")
    row = taken(session.session_id, *(11.0,) * 8, begins_at=slot_start(NOW))
    await store.write(lambda tx: plans.insert_installed(tx, row))
    await store.write(
        lambda tx: stations.upsert_site(tx, replace(stations.get_site(tx, SITE), limit_kw=limit_kw))
    )
    known = await store.read(lambda tx: snapshot(tx, SITE, now=now, horizon_h=6.0, carbon_id=""))
    return planning_case(known, Surroundings(), now=now, horizon_h=6.0, slot_s=SLOT_S)


async def test_a_limit_that_is_passed_is_planned_for_at_once(store: Store) -> None:
    case = await case_of(store, now=HALF_A_MINUTE_BEFORE, limit_kw=6.0)
    assert case.edges_at[:2] == (HALF_A_MINUTE_BEFORE, BOUNDARY)
    assert plan(case).sessions[0].power_kw[0] <= 6.0


async def test_where_no_limit_is_passed_all_stays_as_it_is_until_the_slot_begins(
    store: Store,
) -> None:
    case = await case_of(store, now=HALF_A_MINUTE_BEFORE, limit_kw=20.0)
    assert case.edges_at[0] == BOUNDARY


@pytest.mark.parametrize("limit_kw", [6.0, 20.0])
async def test_earlier_in_a_slot_every_plan_begins_at_once(store: Store, limit_kw: float) -> None:
    now = BOUNDARY - timedelta(seconds=61)
    case = await case_of(store, now=now, limit_kw=limit_kw)
    assert case.edges_at[:2] == (now, BOUNDARY)
