"""Since when cars charge or are paused, by what stations took; the steps they count in."""

from dataclasses import replace
from datetime import datetime, timedelta

from csms.core.commands import Outcome, Schedule
from csms.core.model import Evse, Station, StationLimits
from csms.planning.dwell import MIN_DWELL
from csms.service.dwell import since
from csms.service.wiring import step_w
from csms.store import plans
from csms.store.database import Store
from csms.store.plans import InstalledSchedule
from tests.service.field import NOW, Depot, Field, HandClock, accepted


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def took(minutes: float, *row_kw: float, first: float | None = None) -> InstalledSchedule:
    """Return a schedule accepted at `minutes`, its row in steps of 15 minutes from `first` on."""
    begins = minutes if first is None else first
    return InstalledSchedule(
        session_id="s1",
        profile_id=1,
        schedule=Schedule(
            profile_id=1, stack_level=1, unit="A", starts_at=at(begins), duration_s=None, periods=()
        ),
        edges_at=tuple(at(begins + 15 * k) for k in range(len(row_kw) + 1)),
        row_kw=row_kw,
        sent_at=at(minutes),
        outcome=Outcome.ACCEPTED,
    )


def test_a_spell_reaches_over_schedules_that_say_the_same() -> None:
    known = [took(0, 4.0, 4.0, 4.0), took(5, 11.0, 11.0, 11.0, first=0)]
    assert since(known, at(10)) == (at(0), None)


def test_a_pause_begins_where_a_row_or_a_newer_schedule_says_nothing() -> None:
    known = [took(0, 4.0, 0.0, 4.0)]
    assert since(known, at(14)) == (at(0), None)
    assert since(known, at(20)) == (None, at(15))
    assert since(known, at(31)) == (at(30), None)
    assert since([*known, took(5, 0.0, 0.0, first=0)], at(10)) == (None, at(5))


def test_a_car_that_never_charged_is_not_paused_and_one_without_a_schedule_is_neither() -> None:
    assert since([took(0, 0.0, 0.0)], at(10)) == (None, None)
    assert since([], at(10)) == (None, None)
    assert since([took(0, 4.0)], at(20)) == (None, None)


async def test_what_was_paused_a_moment_ago_stays_so_for_a_quarter_of_an_hour(
    store: Store,
) -> None:
    place = Depot(store, Field(guards_kw={"c0": 0.0}), HandClock())
    await place.build(limit_kw=30.0)
    session = await place.arrive("c0", need_kwh=10.0, leaves_h=9.0)
    await place.plan_and_push()
    assert place.field.station_kw("c0", place.clock.now()) > 4.0
    await store.write(
        lambda tx: plans.insert_installed(tx, took(1, 0.0, 0.0, first=0)) if session else 0
    )
    place.clock.advance(minutes=3)
    await place.plan_and_push()
    (newest,) = (await store.read(lambda tx: accepted(tx, [session.session_id]))).values()
    allowed = [
        (start, kw)
        for start, kw in zip(newest.edges_at, newest.row_kw, strict=False)
        if kw > 0 and start < at(1) + MIN_DWELL - timedelta(minutes=1)
    ]
    assert allowed == []
    assert sum(newest.row_kw) > 0


def test_a_station_that_counts_in_coarse_watts_is_planned_in_its_steps() -> None:
    evse = Evse(station_id="c0", evse_id=1, max_kw=22.0)
    station = Station(station_id="c0", site_id="s")

    def step(**limits: object) -> float:
        told = StationLimits(**limits)  # type: ignore[arg-type]
        return step_w(replace(station, limits=told), evse)

    assert step(units=("W",), step_w=500.0) == 500.0
    assert step(units=("W",), step_w=1.0) == 0.0
    assert step(units=("A", "W"), step_w=500.0) == 0.0
