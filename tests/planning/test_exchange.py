"""Cars trade levels where that pays, and no trade passes a limit."""

import numpy as np
import pytest

from csms.core.circuit import Circuit
from csms.planning.exchange import Worths, exchanged
from csms.planning.grid import Floats, Grid, grid_of
from tests.planning.cases import car, case
from tests.planning.test_fuzz import random_site

A_KW = 0.23
"""An ampere on one phase."""


def pod() -> Grid:
    """Return a car of few currents and one of whole amperes behind a fuse of 20 A."""
    few = car(
        "few",
        required_kwh=50.0,
        circuit_id="pod",
        phases=1,
        phases_used=(1,),
        levels_a=(8.0, 16.0, 32.0),
    )
    fine = car(
        "fine",
        required_kwh=50.0,
        min_kw=6 * A_KW,
        circuit_id="pod",
        phases=1,
        phases_used=(1,),
        step_a=1.0,
    )
    fuse = Circuit(circuit_id="pod", limit_a=((20.0,),) * 3)
    return grid_of(case(few, fine, limit_kw=40.0, circuits=(fuse,)))


def traded(
    grid: Grid,
    row_a: tuple[float, float],
    *,
    worth: tuple[float, float] = (1.0, 1.0),
    least_a: tuple[float, float] = (0.0, 0.0),
    wants_a: tuple[float, float] = (32.0, 32.0),
) -> list[float]:
    """Return what two cars of a `pod` have after trading, A."""
    row = np.array(row_a) * A_KW
    found = exchanged(
        grid,
        row,
        np.arange(2),
        free=grid.room[:, 0] - grid.use @ row,
        worths=Worths(car=np.array(worth), limit=np.ones(len(grid.use))),
        wants=np.array(wants_a) * A_KW,
        least=np.array(least_a) * A_KW,
        most=grid.cap_kw[:, 0],
    )
    return (found / A_KW).round(6).tolist()  # type: ignore[no-any-return]


def test_a_step_down_of_one_is_given_for_more_of_another() -> None:
    # 16 A leave too little for another car, 8 A leave it 12.
    assert traded(pod(), (16.0, 0.0)) == [8.0, 12.0]
    # What nobody has to give up is taken first.
    assert traded(pod(), (0.0, 6.0)) == [0.0, 20.0]


def test_no_trade_is_made_that_does_not_pay() -> None:
    assert traded(pod(), (16.0, 0.0), worth=(2.0, 1.0)) == [16.0, 0.0]
    assert traded(pod(), (16.0, 0.0), wants_a=(16.0, 7.0)) == [16.0, 0.0]


def test_who_must_not_give_keeps_what_it_has() -> None:
    assert traded(pod(), (16.0, 0.0), least_a=(16.0, 0.0)) == [16.0, 0.0]
    assert traded(pod(), (8.0, 10.0), worth=(1.0, 0.1), least_a=(0.0, 6.0)) == [8.0, 12.0]


def test_who_does_not_trade_keeps_what_it_has() -> None:
    grid = pod()
    row = np.array([16 * A_KW, 0.0])
    found = exchanged(
        grid,
        row,
        np.array([0]),
        free=grid.room[:, 0] - grid.use @ row,
        worths=Worths(car=np.ones(2), limit=np.ones(len(grid.use))),
        wants=grid.cap_kw[:, 0],
        least=np.zeros(2),
        most=grid.cap_kw[:, 0],
    )
    assert found.tolist() == row.tolist()


def beyond(grid: Grid, row: Floats) -> Floats:
    """Return what one slot's powers take of each limit beyond the guards, (R,)."""
    return np.asarray(grid.use @ (np.maximum(row, grid.guard_kw) - grid.guard_kw))


@pytest.mark.parametrize("part", range(4))
def test_trades_on_random_sites_keep_limits_and_levels(part: int) -> None:
    trades = 0
    for seed in range(part * 150, part * 150 + 150):
        grid = grid_of(random_site(seed))
        if not grid.shape[0]:
            continue
        rng = np.random.default_rng(seed)
        cap = grid.levels.floor_each(grid.cap_kw[:, 0])
        row = grid.levels.floor_each(cap * rng.random(len(cap)))
        row = np.where(row < grid.least_kw, 0.0, row) * (grid.cap_kw[:, 0] > 0)
        least = np.where(rng.random(len(row)) < 0.3, np.minimum(row, grid.least_kw), 0.0)
        value = rng.random(len(row))
        # What this row takes and a little more is what there is.
        free = rng.random(len(grid.use)) * 5.0
        room = beyond(grid, row) + free
        found = exchanged(
            grid,
            row,
            np.arange(len(row)),
            free=free,
            worths=Worths(car=value, limit=np.ones(len(free))),
            wants=cap,
            least=least,
            most=cap,
        )
        trades += int((found != row).any())
        assert (beyond(grid, found) <= room + 1e-6).all()
        assert value @ found >= value @ row - 1e-9
        assert (found >= least - 1e-9).all()
        assert (found <= cap + 1e-9).all()
        is_on = found > 0
        assert (found[is_on] >= grid.least_kw[is_on] - 1e-9).all()
        assert grid.levels.floor_each(found + 1e-9) == pytest.approx(found, abs=1e-6)
    assert trades > 20
