"""Loads beside the cars, slot by slot: measured, forecast, assumed or the worst case."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.core.metering import Expected, Quarter, Reading
from csms.planning.unmanaged import (
    Place,
    Unmanaged,
    changes_room,
    load_of,
    past_ranges,
    solar_of,
    with_margin,
)

NOW = datetime(2026, 3, 25, 10, 5, tzinfo=UTC)
START = datetime(2026, 3, 25, 10, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
EDGES = (NOW, *(START + QUARTER * k for k in range(1, 97)))
STALE = timedelta(minutes=5)
METERED = Place(name="the building", worst_kw=60.0, meter="m")


def read(kw: float, *, minutes_ago: float = 1.0, a: tuple[float, ...] = ()) -> Reading:
    return Reading(at=NOW - timedelta(minutes=minutes_ago), power_kw=kw, current_a=a)


def load(place: Place, notes: list[str] | None = None, quantile: float = 0.9) -> Unmanaged:
    return load_of(
        place,
        EDGES,
        now=NOW,
        stale=STALE,
        quantile=quantile,
        time_zone="Europe/Berlin",
        notes=[] if notes is None else notes,
    )


def past(kw_by_week: Mapping[int, float]) -> dict[datetime, Quarter]:
    """Return quarter hours of past weeks, each week at one load."""
    return {
        at: Quarter(starts_at=at, mean_kw=kw, most_kw=kw)
        for week, kw in kw_by_week.items()
        for k in range(-8, 104)
        for at in (START - timedelta(weeks=week) + QUARTER * k,)
    }


def test_the_running_slot_counts_what_is_measured_and_what_it_may_rise_by() -> None:
    place = replace(METERED, reading=read(20.0), quarters=past({1: 8.0}))
    found = load(place)
    assert found.power_kw[0] == pytest.approx(22.0)
    # Within the hour it is not expected to be gone; later the same hours of last week tell.
    assert found.power_kw[1:4] == pytest.approx((22.0,) * 3)
    assert found.power_kw[5:] == pytest.approx((8.0,) * 91)


def test_without_history_what_is_measured_goes_on_and_is_marked_as_assumed() -> None:
    notes: list[str] = []
    assert load(replace(METERED, reading=read(20.0)), notes).power_kw == pytest.approx((22.0,) * 96)
    assert notes == ["load of the building from 03-25T10:15Z assumed from what it is now"]


def test_an_uncertain_load_counts_with_its_high_quantile() -> None:
    place = replace(METERED, reading=read(1.0), quarters=past({1: 10.0, 2: 20.0, 3: 30.0, 4: 40.0}))
    assert load(place, quantile=0.9).power_kw[20] == pytest.approx(40.0)
    assert load(place, quantile=0.5).power_kw[20] == pytest.approx(20.0)


def test_a_forecast_goes_before_history_and_its_high_value_counts() -> None:
    points = (
        Expected(
            starts_at=START + QUARTER * 8, until=START + QUARTER * 9, power_kw=9.0, high_kw=14.0
        ),
        Expected(starts_at=START + QUARTER * 9, until=START + QUARTER * 10, power_kw=9.0),
    )
    notes: list[str] = []
    found = load(
        replace(METERED, reading=read(3.0), quarters=past({1: 5.0}), expected=points), notes
    )
    assert found.power_kw[8:11] == pytest.approx((14.0, 9.9, 5.0))
    assert notes == [
        "load of the building from 03-25T10:15Z assumed from the same hours of past weeks"
    ]


@pytest.mark.parametrize("reading", [None, read(20.0, minutes_ago=6.0), read(0.0, minutes_ago=9.0)])
def test_a_silent_meter_is_its_worst_case_never_nothing(reading: Reading | None) -> None:
    notes: list[str] = []
    found = load(replace(METERED, reading=reading, quarters=past({1: 5.0})), notes)
    assert found.power_kw == pytest.approx((60.0,) * 96)
    assert len(notes) == 1
    assert "meter m" in notes[0]
    assert "its worst" in notes[0]


def test_a_silent_meter_that_last_showed_more_than_the_worst_case_counts_with_that() -> None:
    found = load(replace(METERED, reading=read(80.0, minutes_ago=6.0)))
    assert found.power_kw[0] == pytest.approx(88.0)


def test_phases_are_those_of_the_meter_and_power_alone_is_spread_as_they_were() -> None:
    place = replace(METERED, reading=read(6.9, a=(20.0, 10.0, 0.0)), voltage_v=230.0)
    found = load(replace(place, quarters=past({1: 13.8})))
    # 0.5 kW is 0.72 A on each of three phases: what a phase may rise by unseen at the least.
    assert [row[0] for row in found.current_a] == pytest.approx([22.0, 11.0, 0.7246], abs=1e-3)
    assert [row[20] for row in found.current_a] == pytest.approx([40.0, 20.0, 0.0])


def test_hours_of_past_weeks_are_those_of_the_clock_when_summer_time_begins() -> None:
    # 29 March: from then on the same time of the clock is an hour earlier in UTC.
    edges = tuple(datetime(2026, 3, 31, 6, tzinfo=UTC) + QUARTER * k for k in range(5))
    ranges = past_ranges(edges, time_zone="Europe/Berlin")
    assert ranges[0][0] == datetime(2026, 3, 24, 6, tzinfo=UTC)
    assert past_ranges(edges, time_zone="UTC")[0][0] == datetime(2026, 3, 24, 5, tzinfo=UTC)


def test_own_generation_is_what_is_measured_then_as_on_past_days() -> None:
    days = {
        at: Quarter(starts_at=at, mean_kw=float(day), most_kw=9.0)
        for day in (1, 2, 3)
        for at in (START - timedelta(days=day) + QUARTER * 4,)
    }
    roof = Place(name="the site", worst_kw=0.0, meter="roof", reading=read(7.0), quarters=days)
    notes: list[str] = []

    def sun(place: Place) -> tuple[float, ...]:
        return solar_of(place, EDGES, now=NOW, stale=STALE, time_zone="UTC", notes=notes)

    assert sun(roof)[:6] == pytest.approx((7.0, 0.0, 0.0, 0.0, 2.0, 0.0))
    assert notes == ["own generation from 03-25T10:15Z assumed as at that time of past days"]
    # Nothing is counted on that nobody sees; and nothing is said where there is no roof at all.
    assert sun(replace(roof, reading=read(7.0, minutes_ago=6.0)))[0] == 0.0
    assert sun(Place(name="the site", worst_kw=0.0)) == ()


KW = st.floats(0, 1e4)


@given(planned=KW, used=KW, new=KW)
def test_a_reading_that_makes_nobody_plan_is_below_what_any_plan_since_counted(
    planned: float, used: float, new: float
) -> None:
    """`planned` made the site due, a plan was made of `used`, then comes `new`."""
    first, between, last = read(planned), read(used), read(new)
    if changes_room(between, first) or changes_room(last, first):
        return
    assert last.power_kw <= with_margin(between).power_kw + 1e-6


@given(kw=KW, by=st.floats(0.06, 3.0))
def test_a_load_that_rises_or_falls_by_more_than_half_its_margin_is_news(
    kw: float, by: float
) -> None:
    step = max(0.3, kw * by)
    assert changes_room(read(kw + step), read(kw))
    assert changes_room(read(kw), None)
    assert not changes_room(read(kw), read(kw))
