"""Input that nobody should send: the plan keeps every limit, and names the fault."""

from dataclasses import replace
from datetime import timedelta
from math import inf, nan
from zoneinfo import ZoneInfo

import pytest

from csms.core.circuit import Cap, Circuit, LimitRow, Term
from csms.core.errors import InvalidInput
from csms.core.model import Strategy
from csms.core.plan import Plan, PlanningCase, PlanningSession
from csms.planning.planner import faults_of, plan
from tests.planning.cases import NOW, at, broken_laws, car, case
from tests.planning.test_scenarios import quarter_hours

EVERY = list(Strategy)


def planned(of: PlanningCase) -> Plan:
    """Return the plan of `of`, which keeps every law and can be stored."""
    made = plan(of)
    assert broken_laws(of, made) == []
    assert faults_of(of, made) == ""
    assert Plan.from_json(made.to_json()) == made
    return made


def fused(limit_a: float, **more: object) -> Circuit:
    return Circuit(circuit_id="row", limit_a=((limit_a,),), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", EVERY)
def test_a_fuse_of_no_amperes_stops_its_cars_and_is_named(strategy: Strategy) -> None:
    of = case(car("on", circuit_id="row"), car("beside"), circuits=(fused(0.0),), strategy=strategy)
    on, beside = planned(of).sessions
    assert not any(on.power_kw)
    assert (on.shortfall_reason, on.shortfall_limit) == ("circuit limit", "row L1")
    assert beside.shortfall_kwh == 0.0


@pytest.mark.parametrize("limit_a", [nan, -5.0])
def test_a_limit_that_is_no_number_counts_as_nothing(limit_a: float) -> None:
    made = planned(case(car("on", circuit_id="row"), circuits=(fused(limit_a),)))
    assert not any(made.sessions[0].power_kw)
    assert any("L1 of row is wrong" in note for note in made.notes)


def test_contradictory_limits_leave_the_least_of_them() -> None:
    wide = Circuit(circuit_id="row", parent_id="hall", limit_a=((1000.0,),), limit_kw=(9.0,))
    narrow = Circuit(circuit_id="hall", limit_a=((10.0,),))
    cap = Cap(source="grid", starts_at=at(0), ends_at=at(1), circuit_id="row", limit_kw=50.0)
    of = case(car("a", required_kwh=80.0, circuit_id="row"), circuits=(wide, narrow), caps=(cap,))
    assert planned(of).sessions[0].power_kw == pytest.approx((6.9,) * 32)


def test_a_cap_holds_while_it_lasts_and_says_whose_it_is() -> None:
    cap = Cap(source="order 17", starts_at=at(1), ends_at=at(2), limit_kw=4.0)
    made = planned(case(car(required_kwh=80.0), caps=(cap,)))
    assert made.sessions[0].power_kw[:12] == pytest.approx((11.0,) * 4 + (4.0,) * 4 + (11.0,) * 4)
    assert [(b.source, b.slots) for b in made.bindings] == [("order 17", (4, 5, 6, 7))]


def test_a_cap_in_amperes_leaves_room_for_the_guards_of_evses_without_a_session() -> None:
    cap = Cap(source="grid", starts_at=at(0), ends_at=at(8), limit_a=40.0)
    of = case(
        car(required_kwh=80.0),
        base_kw=6.9,
        idle_guard_kw=4.14,
        idle_guard_a=(12.0, 6.0, 0.0),
        caps=(cap,),
    )
    # 40 A without 10 A of the building and the 12 A that other EVSEs may draw in L1.
    assert planned(of).sessions[0].power_kw[0] == pytest.approx(11.0)
    tight = replace(of, caps=(replace(cap, limit_a=34.0),))
    assert planned(tight).sessions[0].power_kw[0] == pytest.approx(12.0 * 0.69)
    # Nobody said in which phases: all 18 A may come from any of them.
    unknown = replace(of, idle_guard_a=())
    assert planned(unknown).sessions[0].power_kw[0] == pytest.approx(12.0 * 0.69)


def test_a_cap_for_an_unknown_circuit_holds_for_the_whole_site() -> None:
    cap = Cap(source="grid", circuit_id="gone", starts_at=at(0), ends_at=at(8), limit_kw=3.0)
    made = planned(case(car(required_kwh=80.0), caps=(cap,)))
    assert max(made.sessions[0].power_kw) == pytest.approx(3.0)
    assert any("gone" in note for note in made.notes)


def test_circuits_that_hang_nowhere_or_on_themselves_are_named() -> None:
    loop = (
        Circuit(circuit_id="a", parent_id="b", limit_kw=(5.0,)),
        Circuit(circuit_id="b", parent_id="a", limit_kw=(5.0,)),
        Circuit(circuit_id="c", parent_id="nowhere", limit_kw=(5.0,)),
    )
    of = case(
        *(car(name, required_kwh=80.0, circuit_id=name) for name in "abc"),
        car("lost", circuit_id="elsewhere"),
        circuits=loop,
    )
    made = plan(of)
    assert faults_of(of, made) == ""
    for row in made.sessions[:3]:
        assert max(row.power_kw) <= 5.0 + 1e-6
    assert sum("hangs on" in note for note in made.notes) == 2
    assert any("lost is on circuit elsewhere" in note for note in made.notes)


def test_two_circuits_of_one_name_cannot_be_read() -> None:
    with pytest.raises(InvalidInput, match="row"):
        plan(case(car(), circuits=(fused(16.0), fused(32.0))))


def test_two_sessions_of_one_name_and_terms_that_are_none_cannot_be_read() -> None:
    with pytest.raises(InvalidInput, match="session_id 'a' is not unique"):
        plan(case(car("a"), car("b"), car("a")))
    for odd in ({"factor": nan}, {"angle_deg": nan}, {"factor": inf}):
        row = LimitRow(row_id="line", limit_a=(5.0,), terms=(Term(session_id="a", **odd),))
        with pytest.raises(InvalidInput, match="line"):
            plan(case(car("a"), limit_rows=(row,)))


def test_single_numbers_that_are_none_are_named() -> None:
    odd = car("a", max_price_per_kwh=nan, carbon_weight_eur_per_kg=-1.0, voltage_v=nan, phases=7)
    numbers = ("demand_charge_eur_per_kw", "billed_peak_kw", "peak_hint_kw", "days_left")
    made = plan(case(odd, idle_guard_kw=nan, **dict.fromkeys(numbers, nan)))
    said = " / ".join(made.notes)
    for name in (*numbers, "idle_guard_kw", "max_price_per_kwh of a", "carbon_weight_eur_per_kg"):
        assert name in said
    assert "voltage_v of a is nan: taken as 230" in said
    assert "phases of a is 7: counted as 3" in said
    assert plan(case(car())).notes == ()


def test_a_number_of_phases_that_is_none_passes_no_fuse() -> None:
    made = plan(
        case(car("a", required_kwh=80.0, phases=7, circuit_id="row"), circuits=(fused(10.0),))
    )
    assert max(made.sessions[0].power_kw) == pytest.approx(6.9)


def test_what_feeds_in_raises_no_limit() -> None:
    made = plan(case(car(required_kwh=80.0), limit_kw=8.0, base_kw=-50.0))
    assert max(made.sessions[0].power_kw) == pytest.approx(8.0)
    assert any("base_load_kw is below 0" in note for note in made.notes)
    fuse = fused(10.0, load_a=((-100.0,),) * 3)
    made = plan(case(car(required_kwh=80.0, circuit_id="row"), circuits=(fuse,)))
    assert max(made.sessions[0].power_kw) == pytest.approx(6.9)


def test_a_series_that_does_not_fit_the_slots_cannot_be_read() -> None:
    with pytest.raises(InvalidInput, match="limit_kw of row has 3 entries"):
        plan(case(car(), circuits=(Circuit(circuit_id="row", limit_kw=(1.0, 2.0, 3.0)),)))


@pytest.mark.parametrize("strategy", EVERY)
def test_four_hundred_cars_on_ten_kilowatts(strategy: Strategy) -> None:
    cars = [
        car(f"c{i}", required_kwh=10.0, min_kw=4.14, leaves_h=2.0 + i % 7, step_a=1.0)
        for i in range(400)
    ]
    made = planned(case(*cars, limit_kw=10.0, strategy=strategy))
    given_kwh = sum(row.energy_kwh for row in made.sessions)
    assert given_kwh >= 8 * 10.0 * 0.75
    assert all(row.shortfall_reason for row in made.sessions if row.shortfall_kwh)
    assert sum(bool(row.ways_out) for row in made.sessions) == 20


def test_a_negative_price_all_day_gives_no_more_than_is_wanted() -> None:
    made = planned(case(car(required_kwh=20.0, preferred_kwh=30.0), price=-0.1))
    assert made.sessions[0].energy_kwh == pytest.approx(30.0)
    assert made.cost_eur == pytest.approx(-3.0)


@pytest.mark.parametrize("price", [nan, inf])
def test_prices_that_are_none_are_replaced_and_named(price: float) -> None:
    of = case(car(required_kwh=20.0), price=[price] * 4 + [0.2] * 28)
    made = plan(of)
    assert broken_laws(of, made) == []
    assert made.shortfall_kwh == 0.0
    assert any("price_eur_per_kwh is missing in 4 slots" in note for note in made.notes)


def test_a_session_without_any_figures_is_planned_at_nothing() -> None:
    made = plan(
        case(car("blank", required_kwh=nan, preferred_kwh=nan, max_kw=nan, min_kw=nan), car("b"))
    )
    assert not any(made.sessions[0].power_kw)
    assert made.sessions[1].shortfall_kwh == 0.0
    assert any("required_kwh of blank" in note for note in made.notes)


def test_steps_and_levels_that_are_none_do_not_matter() -> None:
    odd: tuple[PlanningSession, ...] = (
        car("a", step_a=nan),
        car("b", levels_a=(nan, -8.0, inf)),
        car("c", phases=1, phases_used=(7,), circuit_id="row"),
        car("d", phases=0, voltage_v=0.0, circuit_id="row"),
    )
    of = case(*odd, circuits=(fused(32.0),))
    made = plan(of)
    assert all(row.shortfall_kwh == 0.0 for row in made.sessions[:2])
    assert any("phases of c are wrong" in note for note in made.notes)


def test_guarantees_that_do_not_fit_are_given_as_far_as_they_do() -> None:
    cars = [
        car(n, required_kwh=10.0, min_kw=4.14, guaranteed_slots=4, priority=int(n == "b"))
        for n in "abc"
    ]
    made = planned(case(*cars, limit_kw=5.0))
    assert made.sessions[1].power_kw[:4] == pytest.approx((5.0,) * 4, abs=0.87)
    assert sum("cannot keep its minimum" in note for note in made.notes) == 2


def test_a_car_that_must_not_pause_charges_in_one_piece_once_it_began() -> None:
    hours = [0.3] * 4 + [0.1] * 4 + [0.3] * 4 + [0.1] * 20
    begun = car("a", required_kwh=12.0, min_kw=4.14, never_pause=True, current_kw=4.14)
    row = planned(case(begun, price=hours)).sessions[0].power_kw
    on = [kw > 0 for kw in row]
    assert on[0]
    assert on == sorted(on, reverse=True)
    fresh = replace(begun, current_kw=None)
    row = planned(case(fresh, car("b", required_kwh=60.0), limit_kw=16.0, price=hours)).sessions[0]
    first = next(k for k, kw in enumerate(row.power_kw) if kw > 0)
    last = max(k for k, kw in enumerate(row.power_kw) if kw > 0)
    assert all(kw > 0 for kw in row.power_kw[first : last + 1])


@pytest.mark.parametrize(("month", "day", "slots"), [(3, 29, 92), (10, 25, 100)])
def test_a_clock_change_moves_no_cap_and_no_dwell(month: int, day: int, slots: int) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    edges = quarter_hours(NOW.astimezone(berlin).replace(month=month, day=day, hour=0))
    assert len(edges) - 1 == slots
    nothing = (0.0,) * slots
    cap = Cap(source="grid", starts_at=edges[8], ends_at=edges[12], limit_kw=2.0)
    of = PlanningCase(
        site_id="site",
        now_at=edges[0],
        edges_at=edges,
        limit_kw=(50.0,) * slots,
        base_load_kw=nothing,
        reserved_kw=nothing,
        price_eur_per_kwh=(0.2,) * slots,
        co2_kg_per_kwh=nothing,
        caps=(cap,),
        sessions=(
            replace(
                car(required_kwh=200.0),
                available_at=edges[0],
                departs_at=edges[-1],
                since_off_at=edges[0] - timedelta(minutes=5),
            ),
        ),
    )
    row = planned(of).sessions[0].power_kw
    assert row[0] == 0.0
    assert row[8:12] == pytest.approx((2.0,) * 4)
    assert sum(row) * 0.25 == pytest.approx(200.0)
