"""Pauses are closed where that costs next to nothing; headroom is kept where power is scarce."""

import numpy as np
import pytest

from csms.planning.grid import grid_of
from csms.planning.planner import plan
from csms.planning.runs import in_few_runs
from tests.planning.cases import car, case

RUNS = {"min_kw": 4.0, "max_kw": 12.0, "current_kw": 4.0}


def test_a_pause_is_closed_with_what_comes_later() -> None:
    grid = grid_of(case(car(required_kwh=4.0, **RUNS), slots=8))
    rows = in_few_runs(grid, np.array([[4.0, 0.0, 0.0, 12.0, 0.0, 0.0, 0.0, 0.0]]))
    assert rows.tolist() == [[4.0, 12.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]


def test_a_pause_before_a_cheaper_hour_is_bridged_at_least_power() -> None:
    price = [0.3] * 4 + [0.1] * 4
    grid = grid_of(case(car(required_kwh=10.0, **RUNS), slots=8, price=price))
    rows = in_few_runs(grid, np.array([[12.0, 12.0, 0.0, 0.0, 12.0, 4.0, 0.0, 0.0]]))
    assert rows.tolist() == [[12.0, 4.0, 4.0, 4.0, 12.0, 4.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("price", "limit_kw"), [([0.1, 0.9, 0.9, 0.1], 1000.0), ([0.1] * 4, [12.0, 3.0, 3.0, 12.0])]
)
def test_a_pause_stays_where_power_is_dear_or_there_is_none(
    price: list[float], limit_kw: float | list[float]
) -> None:
    grid = grid_of(case(car(required_kwh=2.0, **RUNS), slots=4, price=price, limit_kw=limit_kw))
    power = np.array([[4.0, 0.0, 0.0, 4.0]])
    assert in_few_runs(grid, power) is power


def test_no_other_car_loses_by_a_pause_that_is_closed() -> None:
    cars = (car("a", required_kwh=4.0, **RUNS), car("b", required_kwh=4.0, **RUNS))
    grid = grid_of(case(*cars, slots=4, limit_kw=12.0))
    power = np.array([[4.0, 0.0, 12.0, 0.0], [8.0, 8.0, 0.0, 0.0]])
    rows = in_few_runs(grid, power)
    assert rows.tolist() == [[4.0, 4.0, 8.0, 0.0], [8.0, 8.0, 0.0, 0.0]]


def test_headroom_is_kept_by_how_scarce_power_is() -> None:
    reserved = [0.0] + [10.0] * 31
    price = [0.3] * 8 + [0.1] * 24
    wide = case(car(required_kwh=10.0), limit_kw=100.0, reserved_kw=reserved, price=price)
    tight = case(car(required_kwh=10.0), limit_kw=10.0, reserved_kw=reserved, price=price)
    assert not grid_of(wide).reserved_kw.any()
    assert grid_of(tight).reserved_kw[1:].tolist() == [10.0] * 31
    assert plan(wide).cost_eur == pytest.approx(1.0)


def test_a_small_need_near_its_departure_is_not_rounded_away() -> None:
    late = car("late", required_kwh=0.3, leaves_h=0.25, min_kw=4.14, priority=0)
    others = [
        car(f"c{i}", required_kwh=5.0, leaves_h=2.0, min_kw=1.38, max_kw=3.68) for i in range(4)
    ]
    made = plan(case(late, *others, limit_kw=7.36))
    assert made.sessions[0].shortfall_kwh == 0.0
    assert made.sessions[0].power_kw[0] >= 4.14
