"""What the service tells the planner of when a car was last let charge or paused."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from csms.core.commands import Outcome
from csms.core.units import SLOT_S
from csms.planning.planner import plan
from csms.service.cars import last_turn
from csms.service.cases import Surroundings, planning_case, snapshot
from csms.store import plans
from csms.store.database import Store
from csms.store.plans import InstalledSchedule
from tests.service.field import NOW, SITE, Depot, Field, HandClock, taken


def accepted(minute: float, *row_kw: float, session_id: str = "s") -> InstalledSchedule:
    """Return a schedule accepted `minute`s after NOW, a quarter hour for each of `row_kw`."""
    begins_at = NOW + timedelta(minutes=minute // 15 * 15)
    return taken(session_id, *row_kw, sent_at=NOW + timedelta(minutes=minute), begins_at=begins_at)


@pytest.mark.parametrize(
    ("followed", "minute"),
    [
        ([], None),
        # One that only goes on as before never turns.
        ([accepted(0, 11.0, 7.0)], None),
        ([accepted(0, 11.0), accepted(4, 7.0)], None),
        # The edge of a slot within a schedule, and a schedule that replaced another.
        ([accepted(0, 11.0, 0.0, 0.0)], 15),
        ([accepted(0, 11.0, 11.0), accepted(4, 0.0, 0.0)], 4),
        ([accepted(0, 0.0, 0.0), accepted(4, 0.0, 11.0)], 15),
        # What would have come later was replaced before it came.
        ([accepted(0, 11.0, 0.0), accepted(4, 11.0, 11.0)], None),
        # The last turn counts.
        ([accepted(0, 11.0, 11.0), accepted(4, 0.0, 0.0), accepted(9, 7.0, 7.0)], 9),
    ],
)
def test_the_last_turn_is_when_schedules_in_force_began_or_ceased_to_allow_power(
    followed: Sequence[InstalledSchedule], minute: float | None
) -> None:
    now = NOW + timedelta(minutes=20)
    told = None if minute is None else NOW + timedelta(minutes=minute)
    turn = last_turn(followed, now)
    assert (turn and turn.at) == told


@pytest.mark.parametrize(
    ("paused_min", "may_go_on"), [(4.0, False), (15.0, True)], ids=["just now", "long ago"]
)
async def test_a_car_that_was_just_paused_waits_a_quarter_hour_before_it_goes_on(
    store: Store, paused_min: float, may_go_on: bool
) -> None:
    place = Depot(store, Field(guards_kw={"c0": 0.0}), HandClock())
    await place.build(limit_kw=30.0)
    session = await place.arrive("c0")
    now = NOW + timedelta(minutes=30)
    paused_at = 30 - paused_min
    rows = (
        accepted(0, 11.0, 11.0, 11.0, 11.0, session_id=session.session_id),
        accepted(paused_at, 0.0, 0.0, 0.0, 0.0, session_id=session.session_id),
    )
    for row in rows:
        await store.write(lambda tx, row=row: plans.insert_installed(tx, row))
    known = await store.read(lambda tx: snapshot(tx, SITE, now=now, horizon_h=6.0, carbon_id=""))
    case = planning_case(known, Surroundings(), now=now, horizon_h=6.0, slot_s=SLOT_S)
    (car,) = case.sessions
    assert car.since_off_at == NOW + timedelta(minutes=paused_at)
    assert car.since_on_at is None
    first: datetime = next(
        start
        for start, kw in zip(case.edges_at, plan(case).sessions[0].power_kw, strict=False)
        if kw > 0
    )
    assert (first == now) == may_go_on


UNSURE = (replace(accepted(16, 11.0, 11.0), outcome=Outcome.NO_ANSWER),)


@pytest.mark.parametrize(
    ("doubtful", "after_s"),
    [((), 0.5), (UNSURE, 120.0)],
    ids=["an edge just passed", "a schedule that may have come"],
)
async def test_a_car_that_was_paused_is_not_taken_for_one_that_was_let_charge(
    store: Store, doubtful: Sequence[InstalledSchedule], after_s: float
) -> None:
    place = Depot(store, Field(guards_kw={"c0": 0.0}), HandClock())
    await place.build(limit_kw=30.0)
    session = await place.arrive("c0")
    for row in (accepted(0, 11.0, 0.0, 0.0, 0.0), *doubtful):
        row = replace(row, session_id=session.session_id)
        await store.write(lambda tx, row=row: plans.insert_installed(tx, row))
    now = NOW + timedelta(minutes=15, seconds=after_s)
    known = await store.read(lambda tx: snapshot(tx, SITE, now=now, horizon_h=6.0, carbon_id=""))
    case = planning_case(known, Surroundings(), now=now, horizon_h=6.0, slot_s=SLOT_S)
    (car,) = case.sessions
    # It may run still, and nobody has to let it.
    assert car.current_kw == 11.0
    assert car.since_on_at is None
    assert car.since_off_at is None
