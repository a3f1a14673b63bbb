"""Guards: what stations allow by themselves never exceeds the share kept for it."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.core.circuit import Circuit, Place, Wiring
from csms.core.model import Evse, Site, Strategy
from csms.core.plan import PlanningCase
from csms.planning.guard import guard_loads, guards, worst_case_kw
from csms.planning.planner import plan
from csms.service.wiring import idle_guards
from tests.planning.cases import car, case, loads_of_the_tree
from tests.planning.test_plan_laws import trees


def site(limit_kw: float = 100.0, share: float = 0.2, base_load_kw: float = 0.0) -> Site:
    return Site(site_id="s", limit_kw=limit_kw, guard_share=share, base_load_kw=base_load_kw)


def evses(count: int, *, phases: int = 3, max_kw: float = 22.0) -> list[Evse]:
    return [
        Evse(station_id=f"c{i // 2}", evse_id=i % 2 + 1, max_kw=max_kw, phases=phases)
        for i in range(count)
    ]


@given(
    limit_kw=st.floats(0, 500),
    share=st.floats(0, 1),
    base_load_kw=st.floats(0, 200),
    count=st.integers(0, 40),
    phases=st.sampled_from([1, 3]),
)
def test_all_guards_together_stay_within_their_share(
    limit_kw: float, share: float, base_load_kw: float, count: int, phases: int
) -> None:
    place = site(limit_kw, share, base_load_kw)
    found = guards(place, evses(count, phases=phases))
    room_kw = max(limit_kw - base_load_kw, 0.0) * share
    assert sum(g.power_kw for g in found) <= room_kw + 1e-6
    assert all(g.current_a == 0 or g.current_a >= 6 for g in found)
    assert all(g.power_kw <= 22.0 + 1e-9 for g in found)


def test_every_station_gets_a_guard_before_any_gets_a_second() -> None:
    found = guards(site(limit_kw=62.1), evses(6))
    assert {(g.station_id, g.evse_id) for g in found if g.current_a} == {
        ("c0", 1),
        ("c1", 1),
        ("c2", 1),
    }


def test_what_is_left_raises_those_that_have_one() -> None:
    found = guards(site(limit_kw=100.0, share=1.0), evses(2, phases=1, max_kw=7.4))
    assert [g.current_a for g in found] == [32, 32]


def test_an_evse_that_never_accepted_its_guard_counts_in_full() -> None:
    known = [
        Evse(station_id="a", evse_id=1, max_kw=22.0, guard_kw=4.14),
        Evse(station_id="b", evse_id=1, max_kw=11.0),
    ]
    assert worst_case_kw(site(base_load_kw=5.0), known) == 5.0 + 4.14 + 11.0


@st.composite
def wired(draw: st.DrawFn, *, most: int) -> tuple[Site, tuple[Evse, ...], Wiring]:
    """Draw a site with a tree of fuses and EVSEs on it, of one phase or three."""
    place = site(draw(st.sampled_from([30.0, 100.0])), draw(st.sampled_from([0.2, 0.5, 1.0])))
    circuits = draw(trees(slots=1))
    names = ["", *(c.circuit_id for c in circuits)]
    found, places = [], {}
    for i in range(draw(st.integers(1, most))):
        phases = draw(st.sampled_from([1, 3]))
        max_kw = phases * 0.23 * draw(st.sampled_from([16, 32]))
        evse = Evse(station_id=f"s{i}", evse_id=1, max_kw=max_kw, phases=phases)
        found.append(evse)
        places[evse.station_id, 1] = Place(
            circuit_id=draw(st.sampled_from(names)),
            phases=draw(st.sampled_from([(), (1,), (2,), (3,)])) if phases == 1 else (),
        )
    # EVSEs of other sites on the same fuses have guards of their own.
    circuits = tuple(replace(c, idle_guard_a=(), idle_guard_kw=0.0) for c in circuits)
    return place, tuple(found), Wiring(circuits=circuits, places=places)


def stays(of: Site, evses: tuple[Evse, ...], wiring: Wiring, *, present: int) -> PlanningCase:
    """Return a case with cars that want all they can get at the first `present` EVSEs."""
    given = guards(of, evses, wiring=wiring)
    cars = [
        car(
            evse.station_id,
            required_kwh=500.0,
            max_kw=evse.max_kw,
            min_kw=evse.phases * 1.38,
            guard_kw=guard.power_kw,
            phases=evse.phases,
            circuit_id=wiring.of(evse.station_id, 1).circuit_id,
            phases_used=wiring.phases(evse.station_id, 1, used=evse.phases),
        )
        for evse, guard in zip(evses[:present], given, strict=False)
    ]
    idle = {(g.station_id, g.evse_id): g.power_kw for g in given[present:]}
    found = idle_guards(wiring, evses, idle, voltage_v=of.voltage_v)
    return case(
        *cars,
        slots=1,
        limit_kw=of.limit_kw,
        idle_guard_kw=sum(idle.values()),
        idle_guard_a=found.of_site_a,
        circuits=found.on(wiring.circuits),
    )


def assert_holds(of: PlanningCase, draws_kw: list[float]) -> None:
    """Assert that no limit of the tree is passed that its loads alone do not pass."""
    nothing = [0.0] * len(draws_kw)
    idle = replace(
        of, circuits=tuple(replace(c, idle_guard_a=(), idle_guard_kw=0.0) for c in of.circuits)
    )
    alone = loads_of_the_tree(idle, nothing, 0)
    for (name, load, limit), (_, own, _) in zip(
        loads_of_the_tree(of, draws_kw, 0), alone, strict=True
    ):
        assert load <= max(limit, own) + 1e-6, name
    assert sum(draws_kw) + of.idle_guard_kw <= of.limit_kw[0] + 1e-6


@given(known=wired(most=20))
def test_no_guard_that_was_given_has_room_for_another_ampere(
    known: tuple[Site, tuple[Evse, ...], Wiring],
) -> None:
    of, all_evses, wiring = known
    given = guards(of, all_evses, wiring=wiring)

    def is_kept(changed_kw: dict[int, float]) -> bool:
        allowed_kw = [changed_kw.get(i, g.power_kw) for i, g in enumerate(given)]
        loads = guard_loads(of, all_evses, allowed_kw, wiring=wiring)
        return all(
            one.guards <= max(one.most - one.load, 0.0) * of.guard_share + 1e-6 for one in loads
        )

    assert is_kept({})
    for i, (evse, guard) in enumerate(zip(all_evses, given, strict=True)):
        next_a = guard.current_a + 1 if guard.current_a else 6
        next_kw = next_a * evse.phases * of.voltage_v / 1000.0
        assert next_kw > evse.max_kw + 1e-9 or not is_kept({i: next_kw})


@settings(max_examples=60, deadline=None)
@given(known=wired(most=6), present=st.integers(0, 6), strategy=st.sampled_from(list(Strategy)))
def test_whichever_stations_are_cut_off_no_limit_of_the_tree_is_passed(
    known: tuple[Site, tuple[Evse, ...], Wiring], present: int, strategy: Strategy
) -> None:
    of = replace(stays(*known, present=present), strategy=strategy)
    made = plan(of)
    # Each car follows its plan, or is cut off and at its guard, or draws nothing at all.
    states = [
        (0.0, s.guard_kw, row.power_kw[0])
        for s, row in zip(of.sessions, made.sessions, strict=True)
    ]
    for draws_kw in product(*states):
        assert_holds(of, list(draws_kw))


@settings(max_examples=30, deadline=None)
@given(known=wired(most=40), seed=st.randoms(use_true_random=False))
def test_cut_offs_of_larger_trees_pass_no_limit_either(
    known: tuple[Site, tuple[Evse, ...], Wiring], seed: object
) -> None:
    of = stays(*known, present=len(known[1]) // 2)
    made = plan(of)
    rows = [row.power_kw[0] for row in made.sessions]
    own = [s.guard_kw for s in of.sessions]
    assert_holds(of, [max(a, b) for a, b in zip(rows, own, strict=True)])
    for _ in range(40):
        chosen = [seed.choice(pair) for pair in zip(rows, own, strict=True)]  # type: ignore[attr-defined]
        assert_holds(of, chosen)


def test_guards_keep_a_phase_that_is_short_while_others_have_room() -> None:
    wiring = Wiring(
        circuits=(Circuit(circuit_id="row", limit_a=((32.0,),), load_a=((20.0,), (0.0,), (0.0,))),),
        places={(f"c{i}", 1): Place(circuit_id="row", phases=(1 + i % 3,)) for i in range(6)},
    )
    known = [Evse(station_id=f"c{i}", evse_id=1, max_kw=7.36, phases=1) for i in range(6)]
    given = [g.current_a for g in guards(site(share=1.0), known, wiring=wiring)]
    # L1 has 12 A for two stations, the other phases 32 A.
    assert given == [6, 16, 16, 6, 16, 16]


def test_a_fuse_of_no_amperes_guards_its_evses_with_nothing() -> None:
    wiring = Wiring(
        circuits=(Circuit(circuit_id="off", limit_a=((0.0,),)),),
        places={("c0", 1): Place(circuit_id="off")},
    )
    assert [g.current_a for g in guards(site(), evses(2), wiring=wiring)] == [0, 28]


def test_what_is_told_of_a_guard_is_what_it_takes() -> None:
    for guard in guards(site(share=1.0), evses(3)):
        assert guard.power_kw == pytest.approx(guard.current_a * 0.69)
