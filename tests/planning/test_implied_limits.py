"""Limits that others keep as well are not put to the solver, and are kept all the same."""

import numpy as np
import pytest

from csms.core.circuit import Circuit
from csms.core.plan import PlanningCase
from csms.planning.binding import _binding_of, that_bind
from csms.planning.grid import grid_of
from csms.planning.planner import plan
from tests.planning.cases import broken_laws, car, case
from tests.planning.test_fuzz import random_site


def garage(*limits_kw: float) -> PlanningCase:
    """Return four cars behind fuses in a row, the first next to the site's connection."""
    circuits = tuple(
        Circuit(circuit_id=f"k{i}", parent_id=f"k{i - 1}" if i else "", limit_kw=(limit_kw,))
        for i, limit_kw in enumerate(limits_kw)
    )
    cars = [car(f"c{i}", required_kwh=30.0, circuit_id=circuits[-1].circuit_id) for i in range(4)]
    return case(*cars, limit_kw=40.0, circuits=circuits)


def bound_by(of: PlanningCase) -> list[str]:
    """Return the names of the limits that the solver sees."""
    grid = grid_of(of)
    return [grid.limits.label(row) for row in grid.rows.tolist()]


def test_a_fuse_behind_a_smaller_one_is_no_limit_of_its_own() -> None:
    assert bound_by(garage(20.0, 30.0)) == ["site limit", "k0 kW"]
    assert bound_by(garage(20.0, 10.0)) == ["site limit", "k1 kW"]
    assert bound_by(garage(45.0)) == ["site limit"]
    # Of two that are as large the first says why.
    assert bound_by(garage(20.0, 20.0)) == ["site limit", "k0 kW"]


def test_a_fuse_behind_a_smaller_one_changes_no_row() -> None:
    with_both, with_one = plan(garage(20.0, 30.0)), plan(garage(20.0))
    assert broken_laws(garage(20.0, 30.0), with_both) == []
    assert [s.power_kw for s in with_both.sessions] == [s.power_kw for s in with_one.sessions]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_keeps_the_limits_that_are_seen_keeps_all(seed: int) -> None:
    grid = grid_of(random_site(seed))
    rng = np.random.default_rng(seed)
    power = grid.cap_kw * rng.random(grid.shape)
    over = (grid.taken(power) / np.maximum(grid.room, 1e-12)).max(axis=0, initial=1.0)
    power = np.minimum(power, grid.guard_kw[:, None]) + grid.shared_kw(power) / over
    drawn = np.where(grid.is_fixed[:, None], grid.fixed_kw, np.minimum(power, grid.cap_kw))
    left = grid.limits.left(np.maximum(drawn, grid.guard_kw[:, None]))
    # A limit that guards and loads pass by themselves is passed whatever cars do.
    nothing = np.where(grid.is_fixed[:, None], grid.fixed_kw, 0.0)
    alone = grid.limits.left(np.maximum(nothing, grid.guard_kw[:, None]))
    assert (left >= np.minimum(alone, 0.0) - 1e-6).all()


@pytest.mark.parametrize("seed", range(20))
def test_which_limits_are_seen_does_not_depend_on_what_a_unit_of_a_car_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    use = rng.random((12, 6)) * (rng.random((12, 6)) < 0.7)
    room, most_kw = rng.uniform(1.0, 3.0, (12, 1)), np.full((6, 1), 11.0)
    times = rng.uniform(0.5, 2.0, 6)
    seen = that_bind(use, room, most_kw)
    remembered = _binding_of.cache_info().misses
    again = that_bind(use * times, room, most_kw / times[:, None])
    assert again.tolist() == seen.tolist()
    # Nor is it worked out once more: in a network that would cost more than the plan.
    assert _binding_of.cache_info().misses == remembered


def test_limits_of_very_different_size_are_all_seen() -> None:
    # What a car takes of the two small ones is lost among the digits of the large one.
    use = np.array([[1.0, 1.0], [1e12, 1e12], [1.4, 0.6], [0.6, 1.4]])
    room = np.array([[50.0], [9e12], [6.0], [6.0]])
    assert that_bind(use, room, np.full((2, 1), 10.0)).tolist() == [0, 1, 2, 3]


def test_sides_of_two_circles_that_others_keep_are_not_seen() -> None:
    # Three kinds of cars between two lines each, behind a transformer: line currents after it,
    # and before it the currents of its windings.
    angles = np.radians([30.0, -90.0, 150.0])
    cars = np.exp(1j * angles)
    after = np.array([[1, 0, -1], [-1, 1, 0], [0, -1, 1]])
    before = (after - np.roll(after, -1, axis=0)) / 4
    sides = np.radians(np.arange(3.0, 360.0, 6.0))
    rows, rooms = [], []
    for line, limit_a in [(v, 80.0) for v in after] + [(v, 36.0) for v in before]:
        phasors = line * cars
        along = np.maximum(np.real(phasors * np.exp(-1j * sides[:, None])), 0.0)
        rows.append(along)
        rooms.append(np.full((len(sides), 1), limit_a))
    use = np.vstack([np.ones(3), *rows])
    room = np.vstack([[[500.0]], *rooms])
    seen = that_bind(use, room, np.full((3, 1), 200.0))
    assert len(seen) < 40 < len(use)
    rng = np.random.default_rng(5)
    rest = [r for r in seen.tolist() if r]
    for _ in range(2_000):
        drawn = rng.random(3) ** 3
        drawn *= 1.0 / (use[rest] @ drawn / room[rest, 0]).max()
        assert (use[1:] @ drawn <= room[1:, 0] * (1 + 1e-8)).all()
