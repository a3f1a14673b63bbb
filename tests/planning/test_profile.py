"""Schedules: what a station is told never exceeds the plan, whatever it can take."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.core.commands import Schedule
from csms.core.model import StationLimits
from csms.planning.profile import TAIL_S, row_of, same_schedule, schedule
from tests.planning.cases import NOW, at

AC = 3 * 230.0 / 1000.0
"""kW per ampere on three phases."""
EDGES = tuple(at(0.25 * k) for k in range(97))


def cut(
    row_kw: list[float],
    *,
    limits: StationLimits | None = None,
    phases: int = 3,
    starts_at: datetime = NOW,
    tail_kw: float = 0.0,
    prefers_w: bool = False,
    edges_at: tuple[datetime, ...] | None = None,
) -> Schedule:
    """Return the schedule of a row of quarter hours."""
    return schedule(
        row_kw,
        edges_at or EDGES[: len(row_kw) + 1],
        limits=limits or StationLimits(max_periods=24),
        profile_id=7,
        phases=phases,
        voltage_v=230.0,
        starts_at=starts_at,
        tail_kw=tail_kw,
        prefers_w=prefers_w,
    )


def allowed_kw(told: Schedule, when: datetime, phases: int = 3) -> float:
    """Return what a station lets through at an instant, read as OCPP says."""
    assert told.duration_s is not None
    passed_s = (when - told.starts_at).total_seconds()
    assert 0 <= passed_s < told.duration_s
    limit = [p.limit for p in told.periods if p.start_s <= passed_s][-1]
    return limit / 1000 if told.unit == "W" else limit * phases * 230.0 / 1000.0


def test_eleven_kilowatts_are_15_9_amperes_and_15_where_only_whole_ones_count() -> None:
    assert cut([11.0] * 4).periods[0].limit == 15.9
    whole = cut([11.0] * 4, limits=StationLimits(step_a=1.0))
    assert whole.periods[0].limit == 15.0
    watts = cut([11.0] * 4, limits=StationLimits(units=("W",)))
    assert (watts.unit, watts.periods[0].limit, watts.periods[0].phases) == ("W", 11000.0, 3)
    single = cut([3.7] * 4, limits=StationLimits(units=("W",)), phases=1)
    assert (single.periods[0].limit, single.periods[0].phases) == (3700.0, 1)
    direct = cut([40.0] * 4, limits=StationLimits(units=("A", "W")), prefers_w=True)
    assert (direct.unit, direct.periods[0].limit, direct.periods[0].phases) == ("W", 40000.0, None)


# 4 levels in 7 runs over 96 quarter hours; the last run is the guard's level.
RUNS = [(11.04, 8), (0.0, 12), (7.59, 8), (11.04, 20), (4.14, 16), (11.04, 12), (4.14, 20)]
ROW = [kw for kw, slots in RUNS for _ in range(slots)]


def test_a_run_of_equal_slots_is_one_period() -> None:
    told = cut(ROW, tail_kw=4.14)
    assert [p.limit for p in told.periods] == [16.0, 0.0, 11.0, 16.0, 6.0, 16.0, 6.0]
    assert told.periods[0].start_s == 0
    assert all(p.start_s % 900 == 0 for p in told.periods)
    assert told.duration_s == 96 * 900 + TAIL_S


@pytest.mark.parametrize("most", [2, 3, 4, 5])
def test_too_many_periods_are_merged_below_the_plan(most: int) -> None:
    told = cut(ROW, limits=StationLimits(max_periods=most), tail_kw=4.14)
    assert len(told.periods) <= most
    for k, kw in enumerate(ROW):
        assert allowed_kw(told, EDGES[k]) <= kw + 1e-9
    assert told.periods[0].limit == 16.0
    assert told.periods[1].start_s == 8 * 900
    if most >= 3:
        assert allowed_kw(told, EDGES[96]) == pytest.approx(4.14)


def test_a_station_with_one_period_gets_it_for_as_long_as_the_row_stays_the_same() -> None:
    told = cut(ROW, limits=StationLimits(max_periods=1), tail_kw=4.14)
    assert [(p.start_s, p.limit) for p in told.periods] == [(0, 16.0)]
    assert told.duration_s == 8 * 900


def test_the_guard_follows_the_plan_as_an_explicit_tail() -> None:
    told = cut([11.04] * 8, tail_kw=4.14)
    assert [(p.start_s, p.limit) for p in told.periods] == [(0, 16.0), (7200, 6.0)]


def test_less_than_the_least_current_is_nothing() -> None:
    assert cut([4.1] * 4).periods[0].limit == 0.0
    assert cut([4.14] * 4).periods[0].limit == 6.0
    assert cut([4.1] * 4, limits=StationLimits(units=("W",))).periods[0].limit == 0.0
    assert (
        cut([0.5] * 4, limits=StationLimits(units=("W",)), prefers_w=True).periods[0].limit == 500
    )


def test_a_start_in_the_past_moves_the_periods_not_the_plan() -> None:
    told = cut([11.04] * 2 + [0.0] * 2, starts_at=NOW - timedelta(seconds=5))
    assert [(p.start_s, p.limit) for p in told.periods] == [(0, 16.0), (1805, 0.0)]
    late = cut([11.04] * 2 + [0.0] * 2, starts_at=NOW + timedelta(seconds=1900))
    assert [(p.start_s, p.limit) for p in late.periods] == [(0, 0.0)]


@settings(max_examples=150, deadline=None)
@given(
    row=st.lists(
        st.sampled_from([0.0, 1.5, 4.14, 5.0, 7.77, 11.0, 22.08]), min_size=1, max_size=40
    ),
    first_s=st.floats(1.0, 900.0),
    most=st.integers(1, 24),
    unit=st.sampled_from(["A", "W"]),
    step_a=st.sampled_from([0.1, 1.0]),
    phases=st.sampled_from([1, 3]),
    past_s=st.floats(0.0, 5.0),
)
def test_a_schedule_never_allows_more_than_the_plan(
    row: list[float],
    first_s: float,
    most: int,
    unit: str,
    step_a: float,
    phases: int,
    past_s: float,
) -> None:
    edges = [NOW + timedelta(seconds=900 - first_s)]
    edges += [at(0.25 * k) for k in range(1, len(row) + 1)]
    starts_at = (edges[0] - timedelta(seconds=past_s)).replace(microsecond=0)
    limits = StationLimits(units=(unit,), max_periods=most, step_a=step_a)
    told = cut(
        row, limits=limits, phases=phases, starts_at=starts_at, tail_kw=4.14, edges_at=tuple(edges)
    )
    assert 1 <= len(told.periods) <= most
    starts = [p.start_s for p in told.periods]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert all(p.limit == round(p.limit, 1) for p in told.periods)
    ampere_kw = phases * 0.23
    runs = 1 + sum(a != b for a, b in pairwise(row))
    for k, kw in enumerate(row):
        for when in (edges[k], edges[k + 1] - timedelta(seconds=1)):
            if when < edges[k] or (when - starts_at).total_seconds() >= (told.duration_s or 0):
                continue
            given_kw = allowed_kw(told, when, phases)
            assert given_kw <= kw + 1e-9
            if runs + 1 <= most and step_a == 0.1 and kw >= 6 * ampere_kw:
                assert given_kw > kw - 0.1 * ampere_kw


@settings(max_examples=60, deadline=None)
@given(
    row=st.lists(st.sampled_from([0.0, 4.14, 7.77, 11.0]), min_size=4, max_size=40),
    most=st.integers(2, 24),
)
def test_a_schedule_read_back_lies_between_nothing_and_the_plan(
    row: list[float], most: int
) -> None:
    told = cut(row, limits=StationLimits(max_periods=most), tail_kw=4.14)
    edges = EDGES[: len(row) + 3]
    back = row_of(told, edges_at=edges, phases=3, voltage_v=230.0, after_kw=9.0)
    assert all(b <= kw + 1e-9 for b, kw in zip(back, row, strict=False))
    assert back[-1] == 9.0
    if most >= 3:
        assert back[-2] == pytest.approx(4.14)


def test_a_slot_in_which_the_limit_changes_counts_with_the_larger() -> None:
    told = cut([11.04, 0.0, 0.0, 0.0], starts_at=NOW - timedelta(seconds=30))
    shifted = tuple(e + timedelta(minutes=5) for e in EDGES[:3])
    back = row_of(told, edges_at=shifted, phases=3, voltage_v=230.0, after_kw=1.0)
    assert back == pytest.approx((11.04, 0.0))


def test_only_what_matters_makes_a_schedule_different() -> None:
    row = [11.04] * 8 + [0.0] * 8 + [11.04] * 16
    told = cut(row)
    assert same_schedule(told, told, now=NOW)
    assert same_schedule(told, cut([10.9 if kw else 0.0 for kw in row]), now=NOW) is False
    assert same_schedule(cut([kw * 0.97 for kw in row]), told, now=NOW)
    assert not same_schedule(cut([kw * 0.9 for kw in row]), told, now=NOW)
    # A slot later the same plan starts and ends later: nothing new until the old one runs out.
    rolled = cut([*row[1:], 11.04], starts_at=at(0.25), edges_at=EDGES[1:34])
    assert same_schedule(told, rolled, now=at(0.25))
    assert not same_schedule(told, rolled, now=at(7.75))
    assert not same_schedule(told, replace(told, unit="W"), now=NOW)


def test_what_is_over_does_not_make_a_schedule_different() -> None:
    old = cut([7.59] * 4 + [11.04] * 28)
    new = cut([11.04] * 28, starts_at=at(1.0), edges_at=EDGES[4:33])
    assert same_schedule(old, new, now=at(1.0))
    assert not same_schedule(old, new, now=at(0.5))
