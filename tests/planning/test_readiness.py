"""Readiness: what is sure, what is hopeless, what early drivers and others' cars make of it."""

import sys
from dataclasses import replace
from datetime import date
from math import nan
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.core.circuit import Cap, Circuit
from csms.core.plan import PlanningCase
from csms.planning.planner import plan
from csms.planning.readiness import (
    CALIBRATION,
    USUAL_ERRORS_MIN,
    Uncertainty,
    departure_errors,
    met_shares,
)
from csms.replay_day import forecast_of
from tests.planning.cases import at, car, case

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PUNCTUAL = Uncertainty(errors_min=())
PLAIN = (0.0, 1.0)
"""The share squared."""


def shares(of: PlanningCase, uncertain: Uncertainty, **more: object) -> tuple[float, ...]:
    departs = [s.departs_at for s in of.sessions]
    return met_shares(of, plan(of), departs_at=departs, uncertain=uncertain, **more)  # type: ignore[arg-type]


def test_without_doubt_the_plan_is_what_happens() -> None:
    of = case(
        car("sure", required_kwh=20.0, leaves_h=4.0),
        car("hopeless", required_kwh=60.0, leaves_h=2.0),
        car("done", required_kwh=0.0),
    )
    assert shares(of, PUNCTUAL, calibration=PLAIN) == (1.0, 0.0, 1.0)
    least, slope = CALIBRATION
    assert shares(of, PUNCTUAL) == pytest.approx((least + slope, 0.0, 1.0))


def test_a_need_that_has_room_but_hardly_the_time_keeps_a_little_hope() -> None:
    late = Uncertainty(errors_min=(*[0.0] * 9, 300.0))
    of = case(car("a", required_kwh=30.0, leaves_h=2.0))
    assert 0.0 < shares(of, late, calibration=PLAIN)[0] < 0.05
    assert CALIBRATION[0] < shares(of, late)[0] < 0.2


def test_every_limit_counts_that_a_car_is_held_by() -> None:
    def on(limit_a: float, **more: object) -> PlanningCase:
        fuse = Circuit(circuit_id="row", limit_a=((limit_a,),))
        cars = (car(n, required_kwh=22.0, leaves_h=4.0, circuit_id="row") for n in "ab")
        return case(*cars, car("beside", required_kwh=22.0, leaves_h=4.0), circuits=(fuse,), **more)  # type: ignore[arg-type]

    assert shares(on(0.0), PUNCTUAL) == pytest.approx((0.0, 0.0, 0.93))
    # 16 A give the two what they need, 15 A only one of them, were it alone.
    assert shares(on(16.0), PUNCTUAL, calibration=PLAIN) == (1.0, 1.0, 1.0)
    assert shares(on(15.0), PUNCTUAL, calibration=PLAIN) == (0.0, 0.0, 1.0)
    assert shares(on(15.0), PUNCTUAL) == pytest.approx((0.13, 0.13, 0.93))
    order = Cap(source="grid", starts_at=at(0), ends_at=at(4), limit_kw=0.0)
    assert shares(on(63.0, caps=(order,)), PUNCTUAL) == (0.0, 0.0, 0.0)


def test_where_guards_fill_the_site_nothing_is_promised() -> None:
    guarded = [car(n, required_kwh=5.0, guard_kw=4.0) for n in "ab"]
    assert shares(case(*guarded, limit_kw=6.0), PUNCTUAL) == (0.0, 0.0)


def test_limits_and_needs_that_are_no_numbers_promise_no_more_than_the_plan_gives() -> None:
    of = case(car(required_kwh=10), limit_kw=[nan] * 16 + [40.0] * 16, base_kw=[nan] * 32)
    assert shares(of, PUNCTUAL, calibration=PLAIN) == (1.0,)
    assert shares(replace(of, limit_kw=(nan,) * 32), PUNCTUAL) == (0.0,)


def test_a_car_that_waits_for_cheap_hours_is_less_sure_than_one_that_does_not() -> None:
    waits = case(car(required_kwh=22.0, leaves_h=6.0), price=[0.5] * 16 + [0.1] * 16)
    charges = replace(waits, price_eur_per_kwh=tuple([0.1] * 16 + [0.5] * 16))
    usual = Uncertainty()
    assert shares(waits, usual, calibration=PLAIN)[0] < shares(charges, usual, calibration=PLAIN)[0]
    # It needs the last two hours: whoever leaves 150 minutes early, one in ten, goes without.
    assert shares(charges, usual, calibration=PLAIN)[0] > 0.9


def test_room_that_others_may_take_makes_a_tight_need_unsure() -> None:
    of = case(car(required_kwh=40.0, leaves_h=4.0), limit_kw=11.0)
    crowd = Uncertainty(
        errors_min=(), arrivals_kw=((0.0,) * 32, (2.0,) * 32, (11.0,) * 32), scenarios=200
    )
    alone, among = shares(of, PUNCTUAL, calibration=PLAIN), shares(of, crowd, calibration=PLAIN)
    assert alone == (1.0,)
    assert 0.02 < among[0] < 0.6


def test_a_building_that_draws_more_than_expected_counts() -> None:
    of = case(car(required_kwh=40.0, leaves_h=4.0), limit_kw=20.0, base_kw=9.0)
    worse = replace(PUNCTUAL, base_error_kw=(0.0, 5.0))
    assert 0.09 < shares(of, worse, calibration=PLAIN)[0] < 0.49


def test_who_is_still_there_has_not_left_early() -> None:
    # Half leave two hours early: of one that is due in an hour this is known to be untrue.
    errors = Uncertainty(errors_min=(-120.0, 0.0))
    of = case(car(required_kwh=8.0, leaves_h=1.0))
    assert shares(of, errors, calibration=PLAIN) == (1.0,)


def test_few_departures_say_nothing() -> None:
    left = [(at(1.0), at(0.5))] * 19
    assert departure_errors(left) == USUAL_ERRORS_MIN
    assert departure_errors([*left, (at(1.0), at(2.0))])[-1] == 60.0


@settings(deadline=None)
@given(
    needs=st.lists(st.floats(0.0, 60.0), min_size=0, max_size=6),
    limit_kw=st.floats(0.0, 40.0),
    seed=st.integers(0, 5),
)
def test_readiness_is_a_share_and_the_same_each_time(
    needs: list[float], limit_kw: float, seed: int
) -> None:
    cars = [car(f"c{i}", required_kwh=n, leaves_h=1.0 + i) for i, n in enumerate(needs)]
    of = case(*cars, limit_kw=limit_kw)
    found = shares(of, Uncertainty(seed=seed))
    assert found == shares(of, Uncertainty(seed=seed))
    assert len(found) == len(needs)
    assert all(0.0 <= share <= 1.0 for share in found)


def test_readiness_is_calibrated_on_days_that_nothing_was_fitted_on() -> None:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import readiness as bench
    finally:
        sys.path.remove(str(BENCHMARKS))
    past = bench.past(date(2015, 9, 8), 4)
    forecast = forecast_of(past, seed=0)
    found, _ = bench.answers(past, replace(past.world, limit_kw=20.0), forecast, seed=1)
    assert len(found) > 80
    for low, high in ((0.0, 0.5), (0.5, 0.8), (0.8, 1.01)):
        band = [(share, is_met) for share, is_met in found if low <= share < high]
        mean = sum(share for share, _ in band) / len(band)
        met = sum(is_met for _, is_met in band) / len(band)
        # Some thirty sessions a band: 0.09 is one standard deviation of their share.
        assert abs(met - mean) <= 0.2, (low, len(band), mean, met)
    base = sum(is_met for _, is_met in found) / len(found)
    brier = sum((share - is_met) ** 2 for share, is_met in found) / len(found)
    assert brier < 0.85 * base * (1.0 - base)
