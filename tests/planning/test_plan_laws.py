"""Laws that hold for every plan of every strategy, on random sites."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.core.circuit import Cap, Circuit, LimitRow, Term
from csms.core.model import Strategy
from csms.core.plan import PlanningCase, PlanningSession
from csms.planning.grid import grid_of
from csms.planning.planner import faults, plan
from tests.planning.cases import NOW, broken_laws, car, case

EVERY = list(Strategy)
KW = st.floats(0.0, 30.0).map(lambda v: round(v, 3))


@st.composite
def sessions(
    draw: st.DrawFn, *, name: str, slots: int, with_minimum: bool, names: tuple[str, ...] = ()
) -> PlanningSession:
    phases = draw(st.sampled_from([1, 3]))
    required = draw(KW)
    fixed = draw(st.integers(0, 9)) == 0
    return car(
        name,
        required_kwh=required,
        preferred_kwh=required + draw(KW),
        leaves_h=draw(st.floats(-2.0, 14.0)),
        arrives_h=draw(st.floats(-5.0, 6.0)),
        max_kw=draw(st.sampled_from([1.0, 3.68, 7.36, 11.04, 22.08])),
        min_kw=1.38 * phases if with_minimum else 0.0,
        guard_kw=draw(st.sampled_from([0.0, 0.0, 1.38, 4.14, 9.0])),
        priority=draw(st.integers(0, 3)),
        max_price_per_kwh=draw(st.none() | st.floats(-0.1, 0.5)),
        carbon_weight_eur_per_kg=draw(st.sampled_from([0.0, 0.1])),
        current_kw=draw(st.none() | KW),
        fixed_kw=tuple(draw(KW) for _ in range(slots)) if fixed else None,
        phases=phases,
        phases_used=draw(st.sampled_from([(), (1,), (2,), (3,)])) if phases == 1 else (),
        circuit_id=draw(st.sampled_from(["", *names])),
        delivered_kwh=draw(st.sampled_from([0.0, 7.0])),
        **(draw(manners()) if with_minimum else {}),
    )


@st.composite
def manners(draw: st.DrawFn) -> dict[str, object]:
    """Draw what a station or a car insists on besides its bounds."""
    before = draw(st.sampled_from([None, NOW - timedelta(minutes=3), NOW - timedelta(hours=1)]))
    return {
        "step_a": draw(st.sampled_from([0.0, 0.0, 0.1, 1.0])),
        "levels_a": draw(st.sampled_from([(), (), (8.0, 16.0, 24.0, 32.0)])),
        "step_w": draw(st.sampled_from([0.0, 1.0])),
        "guaranteed_slots": draw(st.sampled_from([0, 0, 2])),
        "never_pause": draw(st.booleans()),
        "since_on_at": before,
        "since_off_at": draw(st.sampled_from([None, NOW])) if before is None else None,
        "max_periods": draw(st.sampled_from([0, 0, 1, 4])),
    }


AMPERES = st.sampled_from([0.0, 10.0, 16.0, 32.0, 63.0, 125.0])
LOADS = st.sampled_from([0.0, 0.0, 3.0, 9.0])


@st.composite
def trees(draw: st.DrawFn, *, slots: int) -> tuple[Circuit, ...]:
    """Draw up to five circuits, each under the site or under one before it."""
    found: list[Circuit] = []
    for i in range(draw(st.integers(0, 5))):
        parents = ["", *(c.circuit_id for c in found)]
        phases = draw(st.sampled_from([0, 1, 3]))
        found.append(
            Circuit(
                circuit_id=f"k{i}",
                parent_id=draw(st.sampled_from(parents)),
                limit_a=tuple((draw(AMPERES),) for _ in range(phases)),
                limit_kw=() if phases else tuple(draw(AMPERES) for _ in range(slots)),
                load_a=tuple((draw(LOADS),) for _ in range(3)) if phases else (),
                load_kw=() if phases else (draw(LOADS),),
                idle_guard_a=(draw(LOADS),) * 3 if phases else (),
            )
        )
    return tuple(found)


@st.composite
def phasor_rows(draw: st.DrawFn, *, names: tuple[str, ...]) -> tuple[LimitRow, ...]:
    """Draw no row, or a line and a transformer that bound all cars line to line."""
    if not names or draw(st.booleans()):
        return ()
    angles = [draw(st.sampled_from([30.0, -30.0, -90.0])) for _ in names]
    return tuple(
        LimitRow(
            row_id=row_id,
            limit_a=(draw(AMPERES),),
            terms=tuple(
                Term(session_id=n, factor=factor, angle_deg=a)
                for n, a in zip(names, angles, strict=True)
            ),
        )
        for row_id, factor in (("line", 1.0), ("transformer", 0.5))
    )


@st.composite
def site_caps(draw: st.DrawFn, *, until: datetime) -> tuple[Cap, ...]:
    """Draw no cap, or one that bounds the phases of the whole site for a while."""
    if draw(st.booleans()):
        return ()
    starts_at = draw(st.sampled_from([NOW, NOW + (until - NOW) / 2]))
    return (Cap(source="grid", starts_at=starts_at, ends_at=until, limit_a=draw(AMPERES)),)


@st.composite
def sites(draw: st.DrawFn, *, with_minimum: bool = True) -> PlanningCase:
    slots = draw(st.integers(1, 24))
    minutes = [draw(st.sampled_from([5, 15, 15, 15, 60])) for _ in range(slots)]
    edges = [NOW]
    for length in minutes:
        edges.append(edges[-1] + timedelta(minutes=length))
    circuits = draw(trees(slots=slots))
    names = tuple(c.circuit_id for c in circuits)
    cars = [
        draw(sessions(name=f"c{i}", slots=slots, with_minimum=with_minimum, names=names))
        for i in range(draw(st.integers(0, 8)))
    ]
    base = draw(KW)
    return replace(
        case(
            *cars,
            slots=slots,
            limit_kw=[draw(st.floats(0.0, 80.0)) for _ in range(slots)],
            base_kw=[base * draw(st.floats(0.0, 1.0)) for _ in range(slots)],
            reserved_kw=draw(st.sampled_from([0.0, 3.0])),
            price=[round(draw(st.floats(-0.2, 0.6)), 4) for _ in range(slots)],
            co2=[draw(st.floats(0.0, 0.8)) for _ in range(slots)],
            strategy=draw(st.sampled_from(EVERY)),
            idle_guard_kw=draw(st.sampled_from([0.0, 5.0])),
            demand_charge_eur_per_kw=draw(st.sampled_from([0.0, 0.0, 2.0, 15.0])),
            billed_peak_kw=draw(st.sampled_from([0.0, 20.0])),
            solar_kw=draw(st.sampled_from([(), (4.0,) * slots])),
        ),
        edges_at=tuple(edges),
        circuits=circuits,
        caps=draw(site_caps(until=edges[-1])),
        idle_guard_a=draw(st.sampled_from([(), (6.0, 0.0, 15.0)])),
        limit_rows=draw(phasor_rows(names=tuple(s.session_id for s in cars))),
    )


@settings(max_examples=80, deadline=None)
@given(site=sites())
def test_no_plan_passes_a_limit_or_a_bound(site: PlanningCase) -> None:
    result = plan(site)
    assert broken_laws(site, result) == []
    assert result.status in {"optimal", "rule"}


@settings(max_examples=40, deadline=None)
@given(site=sites())
def test_the_fallback_keeps_the_same_laws(site: PlanningCase) -> None:
    result = plan(replace(site, strategy=Strategy.OPTIMAL), iteration_limit=0)
    assert broken_laws(site, result) == []


@settings(max_examples=40, deadline=None)
@given(site=sites())
def test_the_same_case_gives_the_same_bytes(site: PlanningCase) -> None:
    again = PlanningCase.from_json(site.to_json())
    assert plan(again).to_json() == plan(site).to_json()


@settings(max_examples=60, deadline=None)
@given(site=sites(with_minimum=False), more_kw=st.floats(0.0, 40.0))
def test_more_power_never_means_more_shortfall_without_minimum_currents(
    site: PlanningCase, more_kw: float
) -> None:
    # Least laxity reorders cars as slack runs out, so it alone gives no such promise.
    if site.strategy is Strategy.LEAST_LAXITY:
        site = replace(site, strategy=Strategy.OPTIMAL)
    larger = replace(site, limit_kw=tuple(kw + more_kw for kw in site.limit_kw))
    assert plan(larger).shortfall_kwh <= plan(site).shortfall_kwh + 1e-5


@settings(max_examples=40, deadline=None)
@given(site=sites(with_minimum=False))
def test_no_rule_misses_less_than_the_solver_without_minimum_currents(site: PlanningCase) -> None:
    best = plan(replace(site, strategy=Strategy.OPTIMAL)).shortfall_kwh
    assert best <= plan(site).shortfall_kwh + 1e-5


@settings(max_examples=60, deadline=None)
@given(site=sites())
def test_a_car_gets_no_more_than_it_wants_but_for_one_slot_at_least_power(
    site: PlanningCase,
) -> None:
    result = plan(site)
    longest_h = max(site.hours())
    for session, row in zip(site.sessions, result.sessions, strict=True):
        if session.fixed_kw is None:
            # Currents on a station's own list may be up to 8 A apart.
            step_kw = max(session.min_kw, 8.0 * session.phases * 0.23 if session.levels_a else 0.69)
            assert row.energy_kwh <= session.preferred_kwh + step_kw * longest_h + 1e-5


@pytest.mark.parametrize("strategy", EVERY)
def test_a_large_site_in_blocks_keeps_the_laws(strategy: Strategy) -> None:
    cars = [
        car(
            f"c{i}",
            required_kwh=4.0 + i % 23,
            preferred_kwh=10.0 + i % 23,
            leaves_h=1.1 + (i * 0.37) % 20,
            arrives_h=(i * 0.11) % 3 - 1,
            min_kw=(1.38, 4.14)[i % 2],
            guard_kw=(0.0, 1.38)[i % 2],
            priority=i % 3,
        )
        for i in range(200)
    ]
    large = case(
        *cars,
        slots=96,
        limit_kw=400.0,
        price=[0.2 + 0.01 * (k * 7 % 13) for k in range(96)],
        strategy=strategy,
        demand_charge_eur_per_kw=0.5,
    )
    result = plan(large)
    assert broken_laws(large, result) == []
    assert result.status != "fallback"


def test_the_check_sees_every_kind_of_fault() -> None:
    site = case(car("a", min_kw=4.0, leaves_h=4.0), car("b", guard_kw=2.0), limit_kw=14.0)
    grid = grid_of(site)
    good = plan(site)
    rows = [list(r.power_kw) for r in good.sessions]
    power = np.array(rows)
    assert faults(grid, power) == ""
    for i, k, kw, name in (
        (0, 0, float("nan"), "not numbers"),
        (0, 0, 12.0, "may draw"),
        (0, 0, 1.0, "least current"),
        (0, 20, 5.0, "may draw"),
        (1, 0, 11.0, "limit"),
    ):
        wrong = power.copy()
        wrong[0, 0] = 11.0
        wrong[i, k] = kw
        assert name in faults(grid, wrong)
