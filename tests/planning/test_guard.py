"""Guards: what stations allow by themselves never exceeds the share kept for it."""

from hypothesis import given
from hypothesis import strategies as st

from csms.core.model import Evse, Site
from csms.planning.guard import guards, worst_case_kw


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
