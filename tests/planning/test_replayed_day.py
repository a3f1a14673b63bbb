"""Recorded days lived through again: what the run does with cars, limits, prices and samples."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.core.model import Price, Strategy
from csms.core.plan import Plan, PlanningCase
from csms.planning.planner import plan
from csms.planning.replayed_day import replay_days
from csms.planning.slots import reserve_series
from csms.planning.taper import charging_time, taken_kwh
from csms.planning.visits import ReplayedDay, Visit, World, with_stated_departures

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


def at(hours: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hours)


def visit(name: str, arrives_h: float, leaves_h: float, need_kwh: float, **more: object) -> Visit:
    """Return a stay of an 11 kW car that is full with what it needs, far below its knee."""
    values: dict[str, object] = {
        "soc": 0.1,
        "battery_kwh": 100.0,
        "max_kw": 11.04,
        "efficiency": 1.0,
        "max_soc": 0.1 + need_kwh / 100.0,
        "stated_departs_at": at(leaves_h),
    }
    return Visit(
        visit_id=name,
        arrives_at=at(arrives_h),
        departs_at=at(leaves_h),
        need_kwh=need_kwh,
        **(values | more),  # type: ignore[arg-type]
    )


def world(**more: object) -> World:
    """Return a site with night prices until 6 and from 22 o'clock."""
    values: dict[str, object] = {
        "limit_kw": 50.0,
        "prices": tuple(
            Price(starts_at=at(h), until=at(h + 1), eur_per_kwh=0.1 if h % 24 < 6 else 0.3)
            for h in range(96)
        ),
        "until": at(24),
    }
    return World(**(values | more))  # type: ignore[arg-type]


def lived(
    visits: Sequence[Visit], where: World, strategy: Strategy = Strategy.OPTIMAL
) -> ReplayedDay:
    return replay_days(visits, replace(where, strategy=strategy), planner=plan)


def test_a_lone_car_charges_at_the_price_it_was_planned_for() -> None:
    night = visit("a", 0.0, 9.0, 22.0)
    cheap = lived([night], world())
    assert cheap.met == 1
    assert cheap.cost_eur == pytest.approx(2.2, abs=0.02)
    late = visit("a", 5.0, 12.0, 22.0)
    assert lived([late], world()).cost_eur == pytest.approx(11.04 * 0.1 + 10.96 * 0.3, abs=0.05)


@pytest.mark.parametrize("strategy", Strategy)
def test_too_many_cars_share_the_limit_and_none_passes_it(strategy: Strategy) -> None:
    cars = [visit(f"c{i}", 0.3 * i, 6.0, 20.0) for i in range(8)]
    day = lived(cars, world(limit_kw=20.0, base_load_kw=4.0), strategy)
    assert day.violations == 0
    assert day.peak_kw <= 20.0 + 1e-6
    assert 70.0 < day.energy_kwh <= 96.0
    assert len(day.visits) == 8
    assert day.plans > 24
    assert day.profiles_sent >= 8


def test_the_violation_count_sees_a_planner_that_passes_the_limit() -> None:
    def careless(case: PlanningCase) -> Plan:
        return plan(replace(case, limit_kw=(100.0,) * case.slots))

    cars = [visit("a", 0.0, 6.0, 20.0), visit("b", 0.0, 6.0, 20.0)]
    assert replay_days(cars, world(limit_kw=12.0), planner=careless).violations > 0


def test_one_that_finds_no_charger_is_turned_away_and_not_met() -> None:
    cars = [visit("a", 0.0, 6.0, 5.0), visit("b", 1.0, 6.0, 5.0), visit("c", 7.0, 9.0, 5.0)]
    day = lived(cars, world(chargers=1))
    assert {v.visit_id for v in day.visits if v.is_turned_away} == {"b"}
    assert (day.met, day.turned_away) == (2, 1)
    assert lived(cars, world(chargers=2)).met == 3


def test_a_stay_too_short_for_its_need_is_no_ones_fault() -> None:
    day = lived([visit("a", 1.0, 2.0, 30.0)], world())
    assert (day.met, day.possible) == (0, 0)
    assert day.visits[0].taken_kwh == pytest.approx(11.04, rel=0.03)


def test_a_car_that_takes_less_than_planned_leaves_the_rest_to_the_others() -> None:
    # One is near full and takes little of its row; without samples it would block the other.
    full = visit("tail", 0.0, 4.0, 10.0, soc=0.9, max_soc=1.0)
    other = visit("other", 0.0, 2.0, 17.0)
    day = lived([full, other], world(limit_kw=13.0), Strategy.EQUAL_SHARE)
    assert next(v for v in day.visits if v.visit_id == "other").taken_kwh > 13.0
    assert day.violations == 0


def test_drivers_that_leave_before_they_said_go_short_and_the_limit_still_holds() -> None:
    honest = [visit("a", 0.0, 5.0, 20.0), visit("b", 1.0, 6.0, 20.0)]
    said = with_stated_departures(honest, error_min=[240.0, 0.0])
    assert said[0].stated_departs_at == at(9.0)
    expensive_first = world(
        prices=tuple(
            Price(starts_at=at(h), until=at(h + 1), eur_per_kwh=0.3 if h < 5 else 0.1)
            for h in range(96)
        )
    )
    assert lived(honest, expensive_first).met == 2
    day = lived(said, expensive_first)
    assert (day.met, day.violations) == (1, 0)


def test_a_demand_charge_flattens_the_peak() -> None:
    cars = [visit(f"c{i}", 0.0, 6.0, 20.0) for i in range(3)]
    dear = lived(cars, world(demand_charge_eur_per_kw=10.0))
    free = lived(cars, world(), Strategy.AT_ONCE)
    assert dear.met == free.met == 3
    assert dear.peak_kw < 0.6 * free.peak_kw
    assert dear.demand_charge_eur == pytest.approx(10.0 * dear.peak_kw)


def test_tomorrow_s_prices_are_not_known_in_the_morning() -> None:
    seen: list[PlanningCase] = []
    parked = visit("a", 8.0, 30.0, 20.0)
    replay_days([parked], world(), planner=plan, watch=lambda case, _: seen.append(case))
    morning, evening = seen[0], next(c for c in seen if c.now_at == at(13))
    assert any("prices missing from 2026-03-03T00:00Z" in note for note in morning.notes)
    assert not any("2026-03-03T00:00Z" in note for note in evening.notes)
    assert evening.price_eur_per_kwh[evening.edges_at.index(at(26))] == 0.1


def test_the_same_days_give_the_same_outcome() -> None:
    cars = [visit(f"c{i}", 0.5 * i, 6.0 + i, 12.0) for i in range(4)]
    assert lived(cars, world(limit_kw=15.0)) == lived(cars, world(limit_kw=15.0))


def test_no_visits_come_to_nothing() -> None:
    day = lived([], world())
    assert (day.plans, day.met, day.delivered_share) == (0, 0, 1.0)


def test_no_headroom_is_kept_in_the_running_slot() -> None:
    edges_at = (at(0.1), at(0.25), at(0.5), at(0.75))
    kept = {at(0.25 * k): 5.0 for k in range(3)}
    assert reserve_series(kept, edges_at) == (0.0, 5.0, 5.0)


@given(
    soc=st.floats(0.0, 0.95),
    hours=st.floats(0.0, 12.0),
    limit_kw=st.floats(0.5, 30.0),
    max_kw=st.floats(2.0, 22.0),
)
def test_what_a_battery_takes_is_what_small_steps_add_up_to(
    soc: float, hours: float, limit_kw: float, max_kw: float
) -> None:
    def take(from_soc: float, for_h: float) -> float:
        return taken_kwh(
            for_h,
            soc=from_soc,
            until_soc=1.0,
            battery_kwh=50.0,
            efficiency=0.9,
            max_kw=max_kw,
            limit_kw=limit_kw,
        )

    whole, now, total = take(soc, hours), soc, 0.0
    for _ in range(50):
        step = take(now, hours / 50)
        total += step
        now += step * 0.9 / 50.0
    assert whole == pytest.approx(total, abs=1e-6)
    assert whole <= min(limit_kw, max_kw) * hours + 1e-9


def test_unlimited_it_takes_as_long_as_the_planner_counts_with() -> None:
    took = charging_time(20.0, soc=0.6, battery_kwh=50.0, efficiency=0.9, max_kw=11.0)
    found = taken_kwh(
        took / timedelta(hours=1),
        soc=0.6,
        until_soc=1.0,
        battery_kwh=50.0,
        efficiency=0.9,
        max_kw=11.0,
        limit_kw=22.0,
    )
    assert found == pytest.approx(20.0, abs=1e-6)
