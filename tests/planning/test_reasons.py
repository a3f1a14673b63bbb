"""What a plan says of itself: the limit that binds is the one that is named."""

from dataclasses import replace

import pytest

from csms.core.circuit import Cap, Circuit
from csms.core.model import Strategy
from csms.planning.planner import plan
from tests.planning.cases import at, car, case

ROW = (Circuit(circuit_id="row", limit_a=((16.0,),)),)


def test_a_limit_that_took_more_than_time_did_is_named_for_every_car() -> None:
    # 22 kWh is the most that two hours hold: time takes 8 of 30, the fuse nearly all the rest.
    cars = (car(f"c{i}", required_kwh=30.0, leaves_h=2.0, circuit_id="row") for i in range(25))
    made = plan(case(*cars, circuits=ROW))
    for row in made.sessions:
        assert (row.shortfall_reason, row.shortfall_limit) == ("circuit limit", "row L1")
        assert row.reason == "shares row L1"
    assert sum(bool(row.ways_out) for row in made.sessions) == 20


def test_what_even_full_power_misses_is_for_want_of_time() -> None:
    row = plan(case(car(required_kwh=30.0, leaves_h=2.0))).sessions[0]
    assert (row.shortfall_reason, row.shortfall_limit) == ("time", "")
    assert row.reason == "departure near"


def test_a_load_that_fills_the_limit_is_not_taken_for_a_guard() -> None:
    row = plan(case(car(), limit_kw=10.0, base_kw=12.0)).sessions[0]
    assert (row.shortfall_reason, row.shortfall_limit) == ("load", "site limit")
    assert row.reason == "other loads take the room"
    busy = (Circuit(circuit_id="row", limit_a=((16.0,),), load_a=((20.0,), (0.0,), (0.0,))),)
    row = plan(case(car(circuit_id="row"), circuits=busy)).sessions[0]
    assert (row.shortfall_reason, row.shortfall_limit) == ("load", "row L1")
    guarded = plan(case(car("a", guard_kw=8.0), car("b", guard_kw=8.0), limit_kw=10.0))
    assert {row.shortfall_reason for row in guarded.sessions} == {"guard"}


def test_the_limit_that_guards_fill_is_named_with_whose_it_is() -> None:
    guarded = [car(n, guard_kw=8.0, circuit_id="row") for n in "ab"]
    row = plan(case(*guarded, limit_kw=10.0)).sessions[0]
    assert (row.shortfall_reason, row.shortfall_limit) == ("guard", "site limit")
    fuse = (Circuit(circuit_id="row", limit_a=((16.0,),)),)
    row = plan(case(*guarded, circuits=fuse)).sessions[0]
    assert (row.shortfall_reason, row.shortfall_limit) == ("guard", "row L3")
    cap = Cap(source="grid operator", starts_at=at(0), ends_at=at(8), limit_kw=5.0)
    row = plan(case(*guarded, caps=(cap,))).sessions[0]
    assert row.shortfall_limit == "site limit by grid operator"
    # It is over long before the car leaves, but takes the time that the need would take.
    short = car(required_kwh=88.0, guard_kw=8.0)
    row = plan(case(short, caps=(replace(cap, ends_at=at(2)),))).sessions[0]
    assert row.shortfall_limit == "site limit by grid operator"
    assert row.reason == "guards take the room"


def test_a_need_that_is_less_by_what_is_told_is_met() -> None:
    for required_kwh in (22.008, 22.14, 22.2):
        row = plan(case(car(required_kwh=required_kwh, leaves_h=2.0))).sessions[0]
        less = float(row.ways_out[-1].removeprefix("need ").removesuffix(" kWh less"))
        assert 0.0 < row.shortfall_kwh <= less + 1e-6
        assert less < row.shortfall_kwh + 0.1


def test_power_below_a_cars_own_all_along_is_for_the_peak() -> None:
    flat = case(car(required_kwh=40.0), demand_charge_eur_per_kw=10.0, billed_peak_kw=3.0)
    assert plan(flat).sessions[0].reason == "lower peak"


def test_who_leaves_after_the_horizon_is_not_pressed_by_its_departure() -> None:
    patient = plan(case(car(required_kwh=200.0, leaves_h=30.0))).sessions[0]
    assert patient.reason == "charges at once"


@pytest.mark.parametrize("strategy", [s for s in Strategy if s is not Strategy.OPTIMAL])
def test_a_rule_says_nothing_of_prices(strategy: Strategy) -> None:
    cars = (
        car("late", required_kwh=20.0, leaves_h=6.0),
        car("soon", required_kwh=20.0, leaves_h=2.0, arrives_h=0.5),
    )
    made = plan(case(*cars, limit_kw=11.0, price=[0.3] * 8 + [0.1] * 24, strategy=strategy))
    assert {row.reason for row in made.sessions} == {"shares the site limit"}


def test_a_station_whose_next_level_does_not_fit_shares_the_limit() -> None:
    listed = {"max_kw": 7.36, "min_kw": 1.38, "phases": 1, "levels_a": (8.0, 16.0, 24.0, 32.0)}
    cars = (car(n, required_kwh=50.0, **listed) for n in "ab")  # type: ignore[arg-type]
    made = plan(case(*cars, limit_kw=9.3))
    for row in made.sessions:
        assert {w.reason for w in row.why} == {"full power", "shares site limit"}
        assert row.shortfall_reason == "site limit"


def test_a_guaranteed_start_in_dear_hours_is_not_told_as_cheap() -> None:
    eager = car(required_kwh=4.0, min_kw=4.14, guaranteed_slots=2)
    row = plan(case(eager, price=[0.5] * 16 + [0.1] * 16)).sessions[0]
    assert row.reason == "waits its turn"
    assert row.finishes_at is not None
    assert row.finishes_at > at(4.0)


def test_a_limit_is_whose_it_is_at_the_time() -> None:
    def order(source: str, starts_h: float, ends_h: float, kw: float) -> Cap:
        return Cap(source=source, starts_at=at(starts_h), ends_at=at(ends_h), limit_kw=kw)

    caps = (order("tight", 0.0, 2.0, 5.0), order("loose", 0.0, 4.0, 7.0))
    made = plan(case(car(required_kwh=88.0), limit_kw=8.0, caps=caps))
    assert [(b.source, b.slots[0], b.slots[-1]) for b in made.bindings] == [
        ("tight", 0, 7),
        ("loose", 8, 15),
        ("site", 16, 31),
    ]
    assert made.sessions[0].shortfall_limit == "site limit"
    capped = plan(case(car(required_kwh=30.0, leaves_h=3.0), limit_kw=8.0, caps=caps))
    assert capped.sessions[0].shortfall_limit == "site limit by tight"
