"""One tuning day of real sessions in the simulator acnportal: the planner beside its peers.

Needs the packages of the group bench-planner (`make bench-planner` installs them).
"""

import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from csms.planning.acn import AcnOptions, AcnScheduler

pytestmark = [
    pytest.mark.skipif(
        not (find_spec("acnportal") and find_spec("cvxpy")),
        reason="acnportal and cvxpy are not installed: run make bench-planner once",
    ),
    # The simulator is old: it imports and calls what its own dependencies have since retired.
    pytest.mark.filterwarnings("ignore"),
]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CAP_KW = 40.0


@pytest.fixture(scope="module")
def world() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.path.insert(0, str(BENCHMARKS))
        try:
            import acn_world

            yield acn_world
        finally:
            sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def day(world: Any) -> Any:
    return world.bundled("jpl", "2019-07").days(8, 1)


def _run(world: Any, day: Any, scenario: str, scheduler: Any) -> Any:
    return world.run(day, scheduler, cap_kw=CAP_KW, scenario=world.SCENARIOS[scenario])


def test_ideal_cars_get_nearly_what_foresight_would_give_them(world: Any, day: Any) -> None:
    import peers

    best = peers.offline(day, cap_kw=CAP_KW).delivered
    found = _run(world, day, "II", AcnScheduler())
    assert found.violations == 0
    assert best - 0.01 <= found.delivered <= best + 1e-6


def test_real_cars_get_more_than_the_simulators_own_algorithms_give_them(
    world: Any, day: Any
) -> None:
    import peers

    found = _run(world, day, "V", AcnScheduler())
    assert found.violations == 0
    for name in ("LLF", "RR"):
        peer = _run(world, day, "V", peers.sorted_peer(name, is_integer=True))
        assert found.delivered >= peer.delivered + 0.03, name


# On the second day nearly every need can be met, on the first barely half of them.
@pytest.mark.parametrize(("month", "first"), [("2019-07", 8), ("2019-09", 12)])
def test_cars_that_must_not_pause_do_not(world: Any, month: str, first: int) -> None:
    day = world.bundled("jpl", month).days(first, 1)
    found = _run(world, day, "V", AcnScheduler(AcnOptions(never_pause=True)))
    assert found.violations == 0
    assert found.pauses == 0.0
