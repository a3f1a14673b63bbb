"""Programs of thousands of cars, solved without the columns that are settled beforehand."""

import numpy as np
import pytest

from csms.core.circuit import Circuit
from csms.planning.blocks import Blocks, Draws
from csms.planning.grid import grid_of
from csms.planning.planner import plan
from csms.planning.screened import screened
from csms.planning.simplex import LinearProgram
from csms.planning.solver import MANY_CARS, by_simplex
from csms.planning.weights import weights_of
from tests.planning.cases import broken_laws, car, case

LIMIT = 100_000


def program(seed: int, *, cars: int, shared: int, room_share: float) -> LinearProgram:
    """Return cars that want energy in some of `shared` slots, or give it up for a price."""
    rng = np.random.default_rng(seed)
    price = rng.uniform(0.1, 0.4, shared)
    wants = rng.uniform(1.0, 20.0, cars)
    here = np.argwhere(rng.random((cars, shared)) < 0.7)
    car_of, slot = here[:, 0], here[:, 1]
    use = rng.choice([0.7, 1.0], len(here))
    index = np.concatenate(
        [np.column_stack([slot, shared + car_of]).ravel(), shared + np.arange(cars)]
    )
    value = np.concatenate([np.column_stack([use, np.ones(len(here))]).ravel(), np.ones(cars)])
    starts = np.append(2 * np.arange(len(here)), 2 * len(here) + np.arange(cars + 1))
    room = np.full(shared, room_share * wants.sum() / shared)
    return LinearProgram(
        cost=np.concatenate([price[slot], rng.uniform(2.0, 3.0, cars)]),
        lower=np.where(rng.random(len(here) + cars) < 0.05, 0.02, 0.0),
        upper=np.concatenate([rng.choice([3.7, 7.4, 11.0], len(here)), wants]),
        row_lower=np.concatenate([np.full(shared, -np.inf), wants]),
        row_upper=np.concatenate([room, wants]),
        starts=starts.astype(np.int32),
        index=index.astype(np.int32),
        value=value,
    )


@pytest.mark.parametrize("room_share", [0.4, 0.9, 1.5, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_that_of_the_whole_program(seed: int, room_share: float) -> None:
    of = program(seed, cars=1_700, shared=12, room_share=room_share)
    whole = of.solved(LIMIT)
    found = screened(of, range(12, 1_712), iteration_limit=LIMIT)
    assert whole is not None
    assert found is not None
    values, duals = found
    assert of.cost @ values == pytest.approx(of.cost @ whole.values, rel=1e-9)
    assert duals[:12] == pytest.approx(whole.duals[:12], abs=1e-6)
    assert (values >= of.lower - 1e-8).all()
    assert (values <= of.upper + 1e-8).all()
    column = np.repeat(np.arange(len(values)), np.diff(of.starts))
    rows = np.bincount(of.index, weights=of.value * values[column], minlength=len(of.row_upper))
    assert (rows <= of.row_upper + 1e-6).all()
    assert (rows >= of.row_lower - 1e-6).all()


def test_a_program_that_the_solver_gives_up_has_no_optimum() -> None:
    of = program(1, cars=1_700, shared=12, room_share=0.5)
    assert screened(of, range(12, 1_712), iteration_limit=3) is None


def test_thousands_of_cars_under_circuits_peak_and_sun_weigh_what_the_whole_program_weighs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(5)
    cars = [
        car(
            f"c{i}",
            required_kwh=float(rng.uniform(2, 20)),
            leaves_h=float(rng.uniform(1, 3)),
            max_kw=float(rng.choice([7.36, 11.04])),
            min_kw=1.38,
            guard_kw=float(rng.choice([0.0, 1.4])),
            phases=1,
            phases_used=(int(rng.integers(1, 4)),),
            priority=int(rng.integers(0, 2)),
            circuit_id=f"k{i % 3}",
        )
        for i in range(MANY_CARS)
    ]
    of = case(
        *cars,
        slots=12,
        limit_kw=9_000.0,
        price=rng.uniform(0.1, 0.4, 12).tolist(),
        reserved_kw=50.0,
        demand_charge_eur_per_kw=5.0,
        solar_kw=(400.0,) * 12,
        circuits=tuple(Circuit(circuit_id=f"k{i}", limit_a=((3_500.0,),)) for i in range(3)),
    )
    grid = grid_of(of)
    blocks = Blocks(first=np.arange(13))
    draws = Draws.of(grid, blocks)
    weights = weights_of(grid, float(draws.block_h.min()))
    found = by_simplex(grid, blocks, draws, weights)
    monkeypatch.setattr("csms.planning.solver.MANY_CARS", MANY_CARS + 1)
    whole = by_simplex(grid, blocks, draws, weights)
    assert found.is_solved
    assert whole.is_solved
    assert found.limit_value[1:].any()
    assert found.objective == pytest.approx(whole.objective, rel=1e-9)
    assert found.limit_value == pytest.approx(whole.limit_value, abs=1e-6)
    assert broken_laws(of, plan(of)) == []
