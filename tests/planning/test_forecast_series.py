"""Sessions become hourly series on the local wall clock."""

import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.core.errors import InvalidInput
from csms.planning.forecast_series import (
    Stay,
    checked,
    free_days,
    known_at,
    local_hours,
    site_history,
)

OSLO = "Europe/Oslo"


def stay(start: datetime, hours: float, kwh: float, kw: float | None = 4.0) -> Stay:
    return Stay(
        site_id="a",
        started_at=start,
        ended_at=start + timedelta(hours=hours),
        energy_kwh=kwh,
        max_kw=kw,
    )


def test_energy_is_laid_out_from_plug_in_at_the_power_of_the_car() -> None:
    start = datetime(2026, 6, 2, 10, 30, tzinfo=UTC)
    first = stay(datetime(2026, 6, 1, 9, tzinfo=UTC), 1, 1.0)
    history = site_history(
        "a",
        [first, stay(start, 8, 8.0)],
        until=datetime(2026, 6, 3, tzinfo=UTC),
        time_zone="UTC",
    )
    assert history.load_kw[1, 9:14].tolist() == [0.0, 2.0, 4.0, 2.0, 0.0]
    assert history.arrivals[1, 9:12].tolist() == [0.0, 1.0, 0.0]
    assert history.energy_kwh[1, 10] == 8.0
    assert history.cars[1, 10:20].tolist() == [0.0] + [1.0] * 8 + [0.0]
    assert history.fresh_kw[1, 11, 0] == 0.0
    assert history.fresh_kw[1, 11, 1] == 4.0
    assert np.isnan(history.load_kw[0]).all(), "the day of the first session is not seen in full"
    assert np.isnan(history.load_kw[2]).all(), "today has not happened yet"


def test_a_car_of_unknown_power_takes_what_is_usual_at_the_site() -> None:
    at = datetime(2026, 6, 2, 10, tzinfo=UTC)
    known = [stay(at - timedelta(days=1), 2, 4.0, 11.0), stay(at, 3, 11.0, None)]
    until = datetime(2026, 6, 3, tzinfo=UTC)
    history = site_history("a", known, until=until, time_zone="UTC")
    assert history.load_kw[1, 10:12].tolist() == [11.0, 0.0]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(24 * 60, 20 * 24 * 60),
            st.floats(0.1, 30),
            st.floats(0, 60),
            st.floats(1, 50),
        ),
        max_size=20,
    )
)
def test_the_load_holds_the_energy_of_all_sessions(
    drawn: list[tuple[int, float, float, float]],
) -> None:
    zero = datetime(2026, 3, 20, tzinfo=UTC)
    stays = [stay(zero, 1, 0.0)]
    stays += [stay(zero + timedelta(minutes=m), h, kwh, kw) for m, h, kwh, kw in drawn]
    until = zero + timedelta(days=25)
    history = site_history("a", stays, until=until, time_zone="UTC")
    energy_kwh = sum(s.energy_kwh for s in stays)
    assert math.isclose(np.nansum(history.load_kw), energy_kwh, abs_tol=1e-6)
    assert math.isclose(np.nansum(history.energy_kwh), energy_kwh, abs_tol=1e-6)
    assert np.nanmin(history.load_kw) >= 0
    assert (np.nan_to_num(np.diff(history.fresh_kw, axis=2)) >= 0).all()


@pytest.mark.parametrize(
    ("day", "zone", "bins"),
    [
        (date(2026, 3, 29), OSLO, 23),
        (date(2026, 10, 25), OSLO, 25),
        (date(2026, 7, 1), OSLO, 24),
        (date(2025, 9, 7), "America/Santiago", 23),
        (date(2026, 3, 1), "Asia/Kolkata", 24),
        (date(2026, 4, 5), "Australia/Lord_Howe", 25),
    ],
)
def test_a_local_day_has_the_hours_it_really_has(day: date, zone: str, bins: int) -> None:
    hours = local_hours(day, 2, zone)
    assert int((hours.day == 0).sum()) == bins
    assert (np.diff(hours.edges_s) > 0).all()
    assert hours.hour[hours.day == 1][0] == 0


def test_clock_changes_skip_an_hour_in_spring_and_average_two_in_autumn() -> None:
    spring = [stay(datetime(2026, 3, 27, 12, tzinfo=UTC), 1, 1.0)]
    history = site_history("a", spring, until=datetime(2026, 3, 31, tzinfo=UTC), time_zone=OSLO)
    sunday = history.load_kw[2]
    assert np.flatnonzero(np.isnan(sunday)).tolist() == [2]
    autumn = [
        stay(datetime(2026, 10, 23, 12, tzinfo=UTC), 1, 1.0),
        stay(datetime(2026, 10, 25, 0, tzinfo=UTC), 1, 6.0, 6.0),
    ]
    history = site_history("a", autumn, until=datetime(2026, 10, 27, tzinfo=UTC), time_zone=OSLO)
    assert history.load_kw[2, 2] == 3.0, "6 kW in one of the two hours called 02"
    assert not np.isnan(history.load_kw[2]).any()


def test_hours_do_not_depend_on_the_resolution_pandas_picks() -> None:
    hours = local_hours(date(2026, 3, 28), 3, OSLO)
    assert hours.edges_s[0] == int(datetime(2026, 3, 27, 23, tzinfo=UTC).timestamp())
    assert hours.edges_s.dtype == np.int64
    assert hours.edges_s[-1] - hours.edges_s[0] == 71 * 3600
    assert pd.Timestamp(hours.edges_s[0], unit="s", tz="UTC").year == 2026


def test_weekends_and_given_holidays_are_free() -> None:
    free = free_days(date(2026, 5, 14), 5, [date(2026, 5, 14)])
    assert free.tolist() == [True, False, True, True, False]


def test_what_is_known_at_an_instant_holds_nothing_later() -> None:
    at = datetime(2026, 6, 2, 12, tzinfo=UTC)
    over = stay(at - timedelta(hours=5), 2, 6.0)
    here = stay(at - timedelta(hours=1), 9, 30.0)
    later = stay(at, 1, 2.0)
    known = known_at([over, here, later], at)
    assert known[0] == over
    assert known[1].ended_at is None
    assert known[1].energy_kwh == 4.0
    assert len(known) == 2


@pytest.mark.parametrize("energy_kwh", [-1.0, math.nan, math.inf])
def test_an_impossible_energy_is_refused_naming_its_row(energy_kwh: float) -> None:
    at = datetime(2026, 6, 2, 12, tzinfo=UTC)
    with pytest.raises(InvalidInput, match=r"stay 1 of site 'a': energy_kwh is"):
        checked([stay(at, 1, 1.0), stay(at, 1, energy_kwh)])


def test_an_end_before_the_start_and_a_time_without_zone_are_refused() -> None:
    at = datetime(2026, 6, 2, 12, tzinfo=UTC)
    with pytest.raises(InvalidInput, match="is before"):
        checked([stay(at, -1, 1.0)])
    with pytest.raises(InvalidInput, match="offset from UTC"):
        checked([stay(at.replace(tzinfo=None), 1, 1.0)])
    with pytest.raises(InvalidInput, match="max_kw is 0"):
        checked([stay(at, 1, 1.0, 0.0)])


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Mars"):
        site_history("a", [], until=datetime(2026, 1, 1, tzinfo=UTC), time_zone="Mars/Olympus")
