"""Where cars do not compete, what each would choose alone is the optimum of all."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings

from csms.core.plan import PlanningCase
from csms.planning.blocks import Blocks, Draws, blocks_of
from csms.planning.dwell import with_dwell
from csms.planning.grid import Grid, grid_of
from csms.planning.planner import plan
from csms.planning.solver import by_simplex, solve
from csms.planning.uncontested import uncontested
from csms.planning.weights import Weights, weights_of
from tests.planning.cases import car, case
from tests.planning.test_plan_laws import sites


def _problem(of: PlanningCase) -> tuple[Grid, Blocks, Draws, Weights]:
    grid = with_dwell(grid_of(of))
    blocks = blocks_of(grid)
    draws = Draws.of(grid, blocks)
    return grid, blocks, draws, weights_of(grid, float(draws.block_h.min()))


@settings(max_examples=80, deadline=None)
@given(site=sites())
def test_what_each_would_choose_alone_weighs_what_the_solver_finds(site: PlanningCase) -> None:
    assume(len(site.sessions))
    roomy = replace(site, limit_kw=tuple(kw + 300.0 for kw in site.limit_kw), solar_kw=())
    problem = _problem(roomy)
    alone = uncontested(*problem)
    assume(alone is not None)
    assert alone is not None
    best = by_simplex(*problem).objective
    assert alone[1] == pytest.approx(best, abs=1e-6, rel=1e-9)


@pytest.mark.parametrize(("limit_kw", "is_free"), [(22.0, True), (21.9, False), (11.0, False)])
def test_two_cars_compete_for_the_cheapest_hour_from_their_joint_power_on(
    limit_kw: float, is_free: bool
) -> None:
    price = [0.1] * 4 + [0.3] * 4
    of = case(car("a"), car("b"), slots=8, price=price, limit_kw=limit_kw)
    problem = _problem(of)
    assert (uncontested(*problem) is not None) == is_free
    assert solve(*problem[:2]).objective == pytest.approx(by_simplex(*problem).objective)
    # Ten kWh fit the cheap hour at full power; at half of it half of them cost three times as much.
    cheap_kwh = min(20.0, limit_kw)
    assert plan(of).cost_eur == pytest.approx(cheap_kwh * 0.1 + (20.0 - cheap_kwh) * 0.3, abs=2e-3)


def test_a_peak_that_is_not_paid_for_yet_makes_cars_compete() -> None:
    both = (car("a"), car("b"))
    paid = case(*both, slots=8, demand_charge_eur_per_kw=5.0, billed_peak_kw=22.0)
    assert uncontested(*_problem(paid)) is not None
    assert uncontested(*_problem(replace(paid, billed_peak_kw=12.0))) is None


def test_headroom_for_arrivals_makes_cars_compete() -> None:
    # They want most of what the hour holds: where there is plenty, nothing is kept back at all.
    both = (car("a", leaves_h=1.0), car("b", leaves_h=1.0))
    assert uncontested(*_problem(case(*both, slots=4, limit_kw=30.0, reserved_kw=7.0))) is not None
    assert uncontested(*_problem(case(*both, slots=4, limit_kw=30.0, reserved_kw=9.0))) is None
