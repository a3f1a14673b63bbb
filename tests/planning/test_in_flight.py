"""Schedules on their way: with whatever may be in force, every limit of the tree holds."""

import numpy as np
import pytest

from csms.core.circuit import Circuit
from csms.core.plan import PlanningCase
from csms.planning.in_flight import InFlight
from tests.planning.cases import car, case, loads_of_the_tree
from tests.planning.test_fuzz import random_site


def over(of: PlanningCase, rows: dict[str, tuple[float, ...]]) -> set[tuple[str, int]]:
    """Return which limits are passed in which slots, the site's included."""
    found = set()
    for k in range(of.slots):
        draws = [rows[s.session_id][k] for s in of.sessions]
        found |= {
            (name, k)
            for name, load, limit in loads_of_the_tree(of, draws, k)
            if load > limit + 1e-4
        }
        if sum(draws) + of.base_load_kw[k] + of.idle_guard_kw > of.limit_kw[k] + 1e-5:
            found.add(("site", k))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_raises_that_fit_pass_no_limit_that_was_kept(seed: int) -> None:
    of, rng = random_site(seed), np.random.default_rng(seed)
    rows = {s.session_id: s.fixed_kw or (s.guard_kw,) * of.slots for s in of.sessions}
    loads, before = InFlight(of, rows), over(of, rows)
    for session in of.sessions:
        more = tuple(rng.choice([0.0, 1.38, 4.14, 7.0], of.slots).tolist())
        if not loads.fits(session.session_id, more, [False] * of.slots):
            free = loads.free_kw(session.session_id)
            more = tuple(min(m, f) for m, f in zip(more, free, strict=True))
        loads.add(session.session_id, more)
        old = rows[session.session_id]
        rows[session.session_id] = tuple(a + b for a, b in zip(old, more, strict=True))
        assert over(of, rows) <= before


def test_a_car_waits_for_the_fuse_it_shares_and_no_other() -> None:
    of = case(
        *(
            car(n, circuit_id=c, phases_used=(1, 2, 3))
            for n, c in (("a", "k"), ("b", "k"), ("c", ""))
        ),
        slots=1,
        circuits=(Circuit(circuit_id="k", limit_a=((20.0,),)),),
    )
    loads = InFlight(of, {"a": (11.04,), "b": (0.0,), "c": (0.0,)})
    assert not loads.fits("b", [4.14], [True])
    assert loads.free_kw("b") == pytest.approx((4 * 0.69,))
    assert loads.fits("c", [11.04], [True])
    # Nothing more is asked for: that the fuse is full is no reason to wait.
    assert loads.fits("b", [0.0], [False])
    loads.add("b", [4 * 0.69])
    assert loads.is_within("b") == (True,)
    assert loads.free_kw("b") == pytest.approx((0.0,))
