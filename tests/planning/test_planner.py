"""What a plan gives: acceptance scenarios whose numbers were worked out independently of us."""

import random
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from csms.core.circuit import Circuit
from csms.core.errors import InvalidInput
from csms.core.model import Strategy
from csms.core.plan import Plan, PlanningCase
from csms.planning.blocks import Blocks
from csms.planning.grid import Grid
from csms.planning.planner import fallback, plan
from csms.planning.solver import Solution, solve
from tests.planning.cases import NOW, at, broken_laws, car, case

EVERY = list(Strategy)


def test_priority_holds_where_minimum_currents_make_power_scarce() -> None:
    cars = [
        car(n, required_kwh=30.0, leaves_h=3.0 + i, max_kw=7.36, min_kw=1.38, priority=i % 2)
        for i, n in enumerate("abcd")
    ]
    first, second, third, fourth = plan(case(*cars, limit_kw=8.0)).sessions
    assert second.energy_kwh >= 7.36 * 4.0 - 1.5
    assert fourth.energy_kwh > first.energy_kwh + third.energy_kwh


def test_a_site_with_guards_and_little_room_meets_what_can_be_met() -> None:
    vans = [
        car(
            f"van-{i}",
            required_kwh=12.0 + 3 * i,
            leaves_h=9.0 + 0.5 * (i % 4),
            max_kw=11.04,
            min_kw=4.14,
            guard_kw=1.38,
        )
        for i in range(8)
    ]
    site = case(*vans, slots=48, limit_kw=30.0, idle_guard_kw=2.76)
    result = plan(site)
    assert broken_laws(site, result) == []
    assert result.shortfall_kwh == 0.0
    stops = [
        sum(a > 0 and b == 0 for a, b in zip(r.power_kw, (*r.power_kw[1:], 0.0), strict=True))
        for r in result.sessions
    ]
    # The last stop is the end of charging; a car is interrupted less than twice.
    assert sum(stops) <= 2 * len(vans)


def test_extra_energy_is_taken_only_up_to_the_drivers_price() -> None:
    price = (0.30,) * 8 + (0.10,) * 8 + (0.20,) * 16

    def taken(limit: float | None) -> float:
        eager = car(required_kwh=0.0, preferred_kwh=40.0, max_price_per_kwh=limit)
        return plan(case(eager, price=price)).sessions[0].energy_kwh

    assert taken(0.05) == 0.0
    assert taken(0.15) == pytest.approx(22.0)
    assert taken(0.25) == pytest.approx(40.0)
    # Without a limit: the hours no dearer than the mean of the stay (0.20).
    assert taken(None) == pytest.approx(40.0)


def test_headroom_for_arrivals_is_given_up_before_a_need_is_missed() -> None:
    for strategy in EVERY:
        wanting = car(required_kwh=80.0, leaves_h=8.0)
        result = plan(case(wanting, limit_kw=11.0, reserved_kw=5.0, strategy=strategy))
        assert result.shortfall_kwh <= 1e-6, strategy
        modest = car(required_kwh=40.0, leaves_h=8.0)
        kept = plan(case(modest, limit_kw=11.0, reserved_kw=5.0, strategy=strategy))
        assert max(kept.sessions[0].power_kw) == pytest.approx(6.0), strategy


def test_a_car_is_ready_some_minutes_early_where_that_is_almost_free() -> None:
    falling = (0.2,) * 30 + (0.1999, 0.1999)
    row = plan(case(car(required_kwh=11.0 * 0.25), price=falling)).sessions[0]
    assert row.finishes_at is not None
    assert row.finishes_at <= at(8.0) - timedelta(minutes=10)


def test_guards_of_all_stations_hold_while_others_charge() -> None:
    cars = [car(n, required_kwh=50.0, min_kw=4.14, guard_kw=4.14) for n in "abc"]
    tight = case(*cars, limit_kw=20.0, idle_guard_kw=4.0)
    result = plan(tight)
    assert broken_laws(tight, result) == []
    assert max(sum(r.power_kw[k] for r in result.sessions) for k in range(32)) == pytest.approx(
        16.0
    )


@pytest.mark.parametrize("strategy", EVERY)
def test_guards_that_fill_the_site_leave_rows_at_zero_and_a_note(strategy: Strategy) -> None:
    cars = [car(n, guard_kw=4.0) for n in "abc"]
    result = plan(case(*cars, limit_kw=10.0, strategy=strategy))
    assert all(not any(r.power_kw) for r in result.sessions)
    assert any("guards alone" in note for note in result.notes)
    assert {r.shortfall_reason for r in result.sessions} == {"guard"}


@pytest.mark.parametrize("strategy", EVERY)
def test_a_car_out_of_control_is_given_load(strategy: Strategy) -> None:
    wild = car("wild", required_kwh=60.0, fixed_kw=(7.0,) * 8 + (0.0,) * 24)
    tame = car("tame", required_kwh=40.0)
    shared = case(wild, tame, limit_kw=10.0, strategy=strategy)
    result = plan(shared)
    assert broken_laws(shared, result) == []
    assert result.sessions[0].shortfall_reason == "uncontrolled"
    assert max(result.sessions[1].power_kw[:8]) <= 3.0 + 1e-9
    over = plan(case(replace(wild, fixed_kw=(12.0,) * 32), tame, limit_kw=10.0, strategy=strategy))
    assert not any(over.sessions[1].power_kw)
    assert any("cannot be controlled" in note for note in over.notes)


@pytest.mark.parametrize("strategy", EVERY)
def test_an_overdue_car_is_charged_from_what_others_leave(strategy: Strategy) -> None:
    overdue = car("late", required_kwh=10.0, leaves_h=-1.0, arrives_h=-5.0)
    other = car("due", required_kwh=44.0, leaves_h=4.0)
    result = plan(case(overdue, other, limit_kw=11.0, strategy=strategy))
    late, due = result.sessions
    assert due.shortfall_kwh == 0.0
    assert late.shortfall_reason == "time"
    assert late.shortfall_kwh == pytest.approx(10.0)
    assert late.energy_kwh == pytest.approx(10.0)
    assert late.reason == "departure passed"


def test_an_overdue_driver_is_told_to_stay_as_long_as_the_plan_takes() -> None:
    overdue = car("late", required_kwh=11.0, leaves_h=-1.0, arrives_h=-5.0)
    row = plan(case(overdue, limit_kw=11.0)).sessions[0]
    assert row.finishes_at == at(1.0)
    assert row.ways_out == ("stay another 60 min", "need 11.0 kWh less")


def test_who_stays_longer_keeps_what_it_has_in_the_slot_it_would_have_left_in() -> None:
    # At 0.6 h it has 6.6 kWh of its 11, and nobody takes its power from it.
    leaving = car(required_kwh=11.0, leaves_h=0.6)
    row = plan(case(leaving, limit_kw=11.0)).sessions[0]
    assert row.shortfall_kwh == pytest.approx(4.4)
    assert row.ways_out[0] == "leave 25 min later"


def test_a_departure_after_the_horizon_does_not_press_now() -> None:
    patient = car("patient", required_kwh=60.0, leaves_h=40.0)
    pressed = car("pressed", required_kwh=80.0, leaves_h=8.0)
    result = plan(case(patient, pressed, limit_kw=11.0))
    assert result.shortfall_kwh == 0.0
    assert result.sessions[1].energy_kwh == pytest.approx(80.0)


@pytest.mark.parametrize("strategy", EVERY)
def test_a_station_too_weak_for_the_least_current_gives_nothing(strategy: Strategy) -> None:
    row = plan(case(car(max_kw=1.0, min_kw=1.38), strategy=strategy)).sessions[0]
    assert not any(row.power_kw)
    assert row.shortfall_reason == "least current"


def test_a_small_need_gets_the_least_current_for_one_slot() -> None:
    row = plan(case(car(required_kwh=0.3, min_kw=4.14))).sessions[0]
    assert row.power_kw[0] == pytest.approx(4.14)
    assert row.shortfall_kwh == 0.0
    assert sum(kw > 0 for kw in row.power_kw) == 1


@pytest.mark.parametrize("strategy", EVERY)
def test_nothing_to_plan_is_a_plan(strategy: Strategy) -> None:
    empty = plan(case(strategy=strategy, base_kw=3.0))
    assert empty.sessions == ()
    assert empty.peak_kw == 3.0
    dark = plan(case(car(), limit_kw=0.0, strategy=strategy))
    assert not any(dark.sessions[0].power_kw)
    assert dark.sessions[0].shortfall_reason == "site limit"


@pytest.mark.parametrize("strategy", EVERY)
def test_four_hundred_cars_on_ten_kilowatts_stay_below_them(strategy: Strategy) -> None:
    cars = [car(f"c{i}", required_kwh=5.0 + i % 30, min_kw=1.38) for i in range(400)]
    crowd = case(*cars, limit_kw=10.0, strategy=strategy)
    result = plan(crowd)
    assert broken_laws(crowd, result) == []
    given = sum(r.energy_kwh for r in result.sessions)
    assert given == pytest.approx(80.0, rel=0.02)


def test_own_generation_makes_no_peak_that_is_billed() -> None:
    def sunny(base_kw: float, solar_kw: float) -> PlanningCase:
        return case(
            car(required_kwh=22.0),
            price=0.3,
            base_kw=[base_kw] * 16 + [0.0] * 16,
            solar_kw=(solar_kw,) * 16 + (0.0,) * 16,
            export_eur_per_kwh=(0.08,) * 32,
            demand_charge_eur_per_kw=10.0,
        )

    for of in (sunny(0.0, 11.0), sunny(20.0, 31.0)):
        made = plan(of)
        assert made.cost_eur == pytest.approx(22.0 * 0.08, abs=1e-6)
        assert made.peak_kw == pytest.approx(0.0, abs=1e-6)
        assert made.sessions[0].reason in ("sunny hours", "charges at once")
    # What the sun does not give is a peak: 5.5 kW flat in 4 h are 3.5 kW from the grid.
    made = plan(replace(sunny(0.0, 2.0), sessions=(car(required_kwh=22.0, leaves_h=4.0),)))
    assert made.peak_kw == pytest.approx(3.5, abs=1e-6)
    assert made.cost_eur == pytest.approx(8.0 * 0.08 + 14.0 * 0.3 + 35.0, abs=1e-6)
    assert broken_laws(sunny(20.0, 31.0), plan(sunny(20.0, 31.0))) == []


def test_numbers_that_are_none_are_named_and_worked_around() -> None:
    nan = float("nan")
    bad = case(
        car(required_kwh=nan),
        car("b", max_price_per_kwh=nan),
        price=(nan,) * 4 + (0.1,) * 28,
        co2=float("inf"),
        limit_kw=(nan,) * 2 + (-3.0,) * 2 + (11.0,) * 28,
        base_kw=(nan,) * 8 + (1.0,) * 24,
        demand_charge_eur_per_kw=nan,
        billed_peak_kw=-1.0,
    )
    result = plan(bad)
    assert not any(result.sessions[1].power_kw[:4])
    assert result.sessions[1].energy_kwh == pytest.approx(10.0)
    assert result.cost_eur == pytest.approx(1.0)
    said = " / ".join(result.notes)
    for name in ("price_eur", "limit_kw", "base_load_kw", "co2_kg", "required_kwh of a"):
        assert name in said


def test_negative_prices_are_prices() -> None:
    eager = car(required_kwh=2.0, preferred_kwh=11.0)
    result = plan(case(eager, price=(0.2,) * 16 + (-0.05,) * 16))
    assert result.cost_eur == pytest.approx(-0.55)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit_kw", (1.0,)),
        ("co2_kg_per_kwh", ()),
        ("solar_kw", (1.0, 2.0)),
        ("edges_at", (NOW,)),
        ("edges_at", (NOW, *(at(1 - k) for k in range(32)))),
        ("now_at", NOW.replace(tzinfo=None)),
        ("sessions", (car(fixed_kw=(1.0,)),)),
    ],
)
def test_a_case_that_does_not_fit_together_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidInput, match="fixed_kw" if field == "sessions" else field):
        plan(replace(case(car()), **{field: value}))  # type: ignore[arg-type]


def test_a_flat_price_takes_few_steps_of_the_solver() -> None:
    rng = random.Random(1)
    cars = [
        car(
            f"c{i}",
            required_kwh=rng.uniform(5, 45),
            arrives_h=rng.uniform(0, 4),
            leaves_h=rng.uniform(7, 20),
            max_kw=rng.choice((7.36, 11.04)),
            min_kw=1.38,
            guard_kw=1.4,
        )
        for i in range(120)
    ]
    limit_kw = sum(c.required_kwh for c in cars) / 14 + 120 * 1.4 + 5
    # Equal prices once made it take three steps for one; 292 are taken now.
    night = case(*cars, slots=96, limit_kw=limit_kw)
    assert plan(night, iteration_limit=500).status == "optimal"


def test_a_solver_that_gives_up_is_replaced_by_least_laxity() -> None:
    cars = [car(n, required_kwh=20.0, min_kw=4.14, guard_kw=1.0) for n in "abcd"]
    tight = case(*cars, limit_kw=20.0)
    result = plan(replace(tight, notes=("prices missing",)), iteration_limit=1)
    assert result.status == "fallback"
    assert result.notes == ("prices missing", "the solver found no sound optimum")
    assert broken_laws(tight, result) == []
    assert result.shortfall_kwh == 0.0


@pytest.mark.parametrize("way", ["the solver gave up", "the planner failed"])
def test_the_fallback_stays_below_a_peak_that_is_paid_already_if_no_need_asks_for_more(
    way: str,
) -> None:
    cars = [car(n, required_kwh=20.0, preferred_kwh=40.0, min_kw=4.14) for n in "abcd"]

    def peak_kw(billed_peak_kw: float) -> float:
        site = case(
            *cars,
            limit_kw=44.0,
            base_kw=2.0,
            demand_charge_eur_per_kw=15.0,
            billed_peak_kw=billed_peak_kw,
        )
        is_ours = way == "the solver gave up"
        made = plan(site, iteration_limit=1) if is_ours else fallback(site, why="it failed")
        assert made.status == "fallback"
        assert broken_laws(site, made) == []
        assert made.shortfall_kwh == 0.0
        return max(sum(s.power_kw[k] for s in made.sessions) for k in range(site.slots)) + 2.0

    assert peak_kw(20.0) <= 20.0 + 1e-6
    # Below 12.1 kW the 80 kWh do not fit: a need comes before the peak.
    assert peak_kw(10.0) > 12.0


@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), -5.0, 1e6])
def test_a_solver_that_returns_rubbish_never_passes_the_limit(rubbish: float) -> None:
    def wrong(grid: Grid, blocks: Blocks, *, iteration_limit: int) -> Solution:
        right = solve(grid, blocks, iteration_limit=iteration_limit)
        return replace(right, power_kw=right.power_kw + rubbish)

    tight = case(*(car(n, required_kwh=20.0, min_kw=4.14) for n in "abcd"), limit_kw=20.0)
    assert broken_laws(tight, plan(tight, solver=wrong)) == []


def test_a_solver_that_tells_no_prices_leaves_a_plan_that_can_be_stored() -> None:
    def priceless(grid: Grid, blocks: Blocks, *, iteration_limit: int) -> Solution:
        right = solve(grid, blocks, iteration_limit=iteration_limit)
        return replace(right, limit_value=np.full_like(right.limit_value, np.nan))

    made = plan(tight_pod(), solver=priceless)
    assert made.status == "fallback"
    assert Plan.from_json(made.to_json()) == made


def test_where_a_solver_does_not_know_what_a_car_is_worth_none_trade() -> None:
    def planned(worth: float | None) -> Plan:
        def unsure(grid: Grid, blocks: Blocks, *, iteration_limit: int) -> Solution:
            right = solve(grid, blocks, iteration_limit=iteration_limit)
            assert right.worth is not None
            told = None if worth is None else np.append(right.worth[:-1], worth)
            return replace(right, worth=told)

        return plan(tight_pod(), solver=unsure)

    assert planned(None) != plan(tight_pod())
    assert planned(np.nan) == planned(None)


def tight_pod() -> PlanningCase:
    """Return cars on a fuse too small for all, three of which take few currents."""
    fuse = Circuit(circuit_id="pod", limit_a=((40.0,), (25.0,), (32.0,)))
    one: dict[str, object] = {"max_kw": 7.36, "min_kw": 1.38, "phases": 1}
    three: dict[str, object] = {"max_kw": 11.04, "min_kw": 4.14, "step_a": 1.0}
    few: dict[str, object] = {"step_a": 0.0, "levels_a": (8.0, 16.0, 32.0)}
    kinds = ({**one, "phases_used": (1,), **few}, three, {**three, **few}, {**three, **few})
    stays_h, needs_kwh = (3.1, 4.2, 2.9, 4.8), (27.0, 14.0, 29.0, 25.0)
    cars = [
        car(f"c{i}", required_kwh=kwh, leaves_h=hours, circuit_id="pod", **kind)  # type: ignore[arg-type]
        for i, (kind, hours, kwh) in enumerate(zip(kinds, stays_h, needs_kwh, strict=True))
    ]
    return case(*cars, limit_kw=60.0, circuits=(fuse,))


def test_the_fallback_delivers_almost_what_the_solver_does() -> None:
    rng = np.random.default_rng(3)
    cars = [
        car(f"c{i}", required_kwh=float(rng.uniform(5, 30)), leaves_h=float(rng.uniform(4, 8)))
        for i in range(20)
    ]
    calm = case(*cars, limit_kw=90.0)
    best, other = plan(calm), plan(calm, iteration_limit=1)
    needed = sum(s.required_kwh for s in calm.sessions)
    assert (other.shortfall_kwh - best.shortfall_kwh) / needed <= 0.05


def test_binding_slots_are_those_in_which_the_limit_held_a_car_back() -> None:
    result = plan(case(car("a", required_kwh=20.0), car("b", required_kwh=20.0), limit_kw=11.0))
    assert result.binding_slots[:4] == (0, 1, 2, 3)
    short = plan(case(car(required_kwh=60.0), limit_kw=5.0))
    assert short.binding_slots == tuple(range(32))
    assert all(v == 10.0 for v in short.limit_value_eur_per_kwh)
    assert short.sessions[0].shortfall_reason == "site limit"
    assert plan(case(car())).binding_slots == ()


def test_a_case_from_json_gives_the_same_plan() -> None:
    mixed = case(
        car("a", required_kwh=12.3, min_kw=4.14, guard_kw=1.1),
        car("b", required_kwh=30.0, min_kw=1.38, max_kw=7.4, priority=2),
        car("c", required_kwh=3.0, preferred_kwh=20.0, max_price_per_kwh=0.21),
        limit_kw=14.7,
        price=tuple(0.2 + 0.01 * (k % 7) for k in range(32)),
        reserved_kw=2.0,
        demand_charge_eur_per_kw=1.5,
    )
    first = plan(mixed).to_json()
    assert plan(mixed).to_json() == first
    assert plan(PlanningCase.from_json(mixed.to_json())).to_json() == first
    assert Plan.from_json(first).to_json() == first


def test_a_plan_without_reasons_has_the_same_rows() -> None:
    short = case(car(required_kwh=60.0), car("b", required_kwh=60.0), limit_kw=8.0)
    told, bare = plan(short), plan(short, with_reasons=False)
    assert [r.power_kw for r in bare.sessions] == [r.power_kw for r in told.sessions]
    assert bare.shortfall_kwh == told.shortfall_kwh > 0
    assert told.bindings
    assert not bare.bindings
    assert not any(r.reason or r.why or r.ways_out for r in bare.sessions)


def test_who_cannot_wait_is_not_put_off_for_the_least_power_of_others() -> None:
    wish = {"required_kwh": 0.0, "max_kw": 11.0, "min_kw": 4.0, "current_kw": 4.0}
    urgent = car("urgent", preferred_kwh=20.0, leaves_h=2.0, **wish)
    others = [car(f"c{i}", preferred_kwh=12.0, leaves_h=7.5, **wish) for i in range(3)]
    asked = case(*others, urgent, limit_kw=12.0, avoids_pauses=False)
    for_free = [row.power_kw for row in plan(asked).sessions]
    assert for_free[-1][0] == pytest.approx(11.0)
    assert sum(for_free[-1]) / 4 >= 19.0
    # Where pauses are to be avoided, cars that run go on.
    going_on = [row.power_kw[0] for row in plan(replace(asked, avoids_pauses=True)).sessions]
    assert sum(kw >= 4.0 for kw in going_on) == 3


def test_room_that_is_too_little_for_one_car_goes_to_another() -> None:
    threes = {"max_kw": 11.04, "min_kw": 4.14, "leaves_h": 2.0}
    guarded = [
        car(n, required_kwh=8.2, guard_kw=4.14, current_kw=4.14, **threes)  # type: ignore[arg-type]
        for n in ("guarded1", "guarded2")
    ]
    # Nobody but it can use the 3 kW that the guards leave, and it needs nearly all of them.
    single = car("single", required_kwh=10.0, leaves_h=4.0, max_kw=7.36, min_kw=1.38, step_a=1.0)
    single = replace(single, phases=1)
    urgent = car("urgent", required_kwh=10.0, **threes)  # type: ignore[arg-type]
    made = plan(case(urgent, *guarded, single, slots=16, limit_kw=2 * 4.14 + 3.0))
    missed = {row.session_id: row.shortfall_kwh for row in made.sessions if row.shortfall_kwh}
    assert missed == {"urgent": pytest.approx(10.0)}


def test_who_runs_keeps_its_least_power_before_another_that_can_wait_has_more() -> None:
    runs = {"max_kw": 11.0, "min_kw": 4.0, "current_kw": 4.0}
    sooner = car("sooner", required_kwh=9.0, leaves_h=2.0, **runs)  # type: ignore[arg-type]
    later = car("later", required_kwh=6.0, leaves_h=4.0, **runs)  # type: ignore[arg-type]
    idle = car("idle", required_kwh=14.0, leaves_h=4.0, max_kw=11.0, min_kw=4.0, current_kw=0.0)
    made = plan(case(idle, sooner, later, slots=16, limit_kw=9.0))
    assert made.shortfall_kwh == 0
    # The solver has both of them charge in the next hour, in whichever order.
    assert all(kw >= 4.0 for row in made.sessions[1:] for kw in row.power_kw[:4])
