"""Slots are put to the solver one by one where they are near, in blocks where they are far."""

import numpy as np
import pytest

from csms.planning.blocks import blocks_of
from csms.planning.grid import grid_of
from tests.planning.cases import car, case


def block_minutes(*, cars: int, slots: int, slot_min: int, price: float | list[float]) -> list[int]:
    """Return how long the blocks of a site are that has `cars` cars."""
    site = case(
        *(car(f"c{i}") for i in range(cars)), slots=slots, slot_h=slot_min / 60, price=price
    )
    grid = grid_of(site)
    return [round(h * 60) for h in blocks_of(grid).sums(grid.hours).tolist()]


@pytest.mark.parametrize(
    ("slot_min", "near"), [(15, [15] * 8), (5, [5] * 6 + [15] * 6), (10, [10] * 12), (30, [30] * 4)]
)
def test_blocks_are_as_long_whatever_slots_are(slot_min: int, near: list[int]) -> None:
    slots = 24 * 60 // slot_min
    assert block_minutes(cars=60, slots=slots, slot_min=slot_min, price=0.2) == near + [60] * 22


def test_slots_of_different_prices_share_no_block() -> None:
    prices = np.repeat([0.1, 0.3], 48).tolist()
    prices[50] = 0.2
    assert 15 in block_minutes(cars=60, slots=96, slot_min=15, price=prices)[8:]
    rising = np.linspace(0.1, 0.3, 96).tolist()
    assert block_minutes(cars=60, slots=96, slot_min=15, price=rising) == [15] * 96


def test_a_small_site_is_solved_slot_by_slot() -> None:
    assert block_minutes(cars=3, slots=96, slot_min=15, price=0.2) == [15] * 96
