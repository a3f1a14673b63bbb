"""A plan begins where the last one's solver ended, and comes out as good as from nothing."""

from dataclasses import replace

import numpy as np
import pytest

from csms.core.circuit import Circuit
from csms.core.plan import Plan, PlanningCase, Start
from csms.planning.planner import plan
from tests.planning.cases import broken_laws, car, case, from_slot
from tests.planning.test_fuzz import random_site

FEW = 12
"""So many steps of the simplex are far too few from nothing."""


def night(cars: int = 12, **more: float) -> PlanningCase:
    """Return cars that compete for a fuse on one phase and for the site."""
    rng = np.random.default_rng(3)
    sessions = [
        car(
            f"c{n}",
            required_kwh=float(rng.uniform(8, 30)),
            leaves_h=float(rng.uniform(3, 8)),
            max_kw=7.36,
            min_kw=1.38,
            phases=1,
            phases_used=(1 + n % 3,),
            circuit_id="row",
        )
        for n in range(cars)
    ]
    price = np.repeat(rng.uniform(0.1, 0.4, 8), 4).tolist()
    row = Circuit(circuit_id="row", limit_a=((40.0,), (50.0,), (60.0,)))
    return case(*sessions, limit_kw=30.0, price=price, circuits=(row,), **more)


def weighs(made: Plan) -> float:
    """Return what the optimum weighs."""
    assert made.relaxed_objective is not None
    return made.relaxed_objective


def a_slot_later(of: PlanningCase, made: Plan) -> PlanningCase:
    """Return what is left of `of` when its first slot is over and a car has come."""
    rest = [
        replace(
            s,
            required_kwh=s.required_kwh - r.power_kw[0] / 4,
            preferred_kwh=s.preferred_kwh - r.power_kw[0] / 4,
            delivered_kwh=r.power_kw[0] / 4,
            current_kw=r.power_kw[0],
        )
        for s, r in zip(of.sessions, made.sessions, strict=True)
    ]
    return replace(
        from_slot(1, of),
        sessions=(*rest[1:], replace(rest[0], session_id="new", delivered_kwh=0.0)),
        start=made.start,
    )


@pytest.mark.parametrize("charge", [0.0, 8.0])
def test_a_plan_begun_where_it_ended_takes_no_steps(charge: float) -> None:
    of = night(demand_charge_eur_per_kw=charge)
    made = plan(of)
    assert made.start is not None
    assert plan(of, iteration_limit=FEW).status == "fallback"
    again = plan(replace(of, start=made.start), iteration_limit=FEW)
    assert again.status == "optimal"
    assert weighs(again) == pytest.approx(weighs(made), rel=1e-9)


def test_the_next_plan_takes_fewer_steps_and_is_as_good() -> None:
    of = night()
    after = a_slot_later(of, plan(of))
    cold = plan(replace(after, start=None))
    steps = next(n for n in range(1, 400) if _is_optimal(replace(after, start=None), n))
    fewer = next(n for n in range(1, 400) if _is_optimal(after, n))
    assert fewer < 0.7 * steps
    assert weighs(plan(after)) == pytest.approx(weighs(cold), rel=1e-9)
    assert broken_laws(after, plan(after)) == []


def _is_optimal(of: PlanningCase, steps: int) -> bool:
    return plan(of, iteration_limit=steps).status == "optimal"


def test_a_case_with_a_start_gives_the_same_bytes_each_time_and_through_json() -> None:
    of = night()
    after = a_slot_later(of, plan(of))
    made = plan(after)
    assert plan(PlanningCase.from_json(after.to_json())).to_json() == made.to_json()
    assert Plan.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    "start",
    [
        Start(edges_at=(), names=(), states=()),
        Start(edges_at=(), names=("c0",), states=("",)),
        Start(edges_at=night().edges_at[:1], names=("c0", "c1"), states=("?",)),
    ],
)
def test_a_start_that_is_none_is_passed_over(start: Start) -> None:
    of = night()
    assert plan(replace(of, start=start)).sessions == plan(of).sessions


def test_whatever_a_start_says_the_plan_is_as_good() -> None:
    rng = np.random.default_rng(1)
    of = night()
    made = plan(of)
    assert made.start is not None
    for letters in ("-lbu", "b", "u", "l", "xé"):
        states = tuple("".join(rng.choice(list(letters), len(s))) for s in made.start.states)
        found = plan(replace(of, start=replace(made.start, states=states)))
        assert found.status == "optimal"
        assert weighs(found) == pytest.approx(weighs(made), rel=1e-9)


@pytest.mark.parametrize("part", range(4))
def test_random_sites_plan_as_well_from_a_start(part: int) -> None:
    begun = 0
    for seed in range(part * 40, part * 40 + 40):
        of = random_site(seed)
        made = plan(of)
        if made.start is None or made.relaxed_objective is None:
            continue
        again = plan(replace(of, start=made.start))
        assert broken_laws(of, again) == []
        assert weighs(again) == pytest.approx(weighs(made), rel=1e-7, abs=1e-7)
        begun += 1
    assert begun > 3
