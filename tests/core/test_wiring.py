"""Trees of fuses as configured: what is no tree, what is odd, and where EVSEs hang."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.core.circuit import Place, Wiring
from csms.core.model import Evse, Station, StationLimits
from csms.core.wiring import (
    ROTATIONS,
    CircuitSetup,
    PlaceSetup,
    faults,
    path_of,
    placed,
    remarks,
    rotation_of,
    wiring,
)

TREE = (
    CircuitSetup(circuit_id="main", limit_a=(100.0,)),
    CircuitSetup(circuit_id="hall", parent_id="main", limit_a=(63.0,), evses=("HALL-*",)),
    CircuitSetup(circuit_id="yard", parent_id="main", limit_a=(32.0, 32.0, 16.0), evses=("Y/2",)),
)


def evse(station_id: str, evse_id: int = 1, phases: int = 3) -> Evse:
    return Evse(station_id=station_id, evse_id=evse_id, max_kw=11.0, phases=phases)


def station(station_id: str, rotation: str = "", **limits: bool) -> Station:
    return Station(
        station_id=station_id,
        site_id="s",
        limits=StationLimits(phase_rotation=rotation, **limits),  # type: ignore[arg-type]
    )


def test_a_tree_is_no_fault() -> None:
    assert faults(TREE) == ()
    assert path_of("hall", TREE) == ("hall", "main")


@pytest.mark.parametrize(
    ("setups", "word"),
    [
        ((CircuitSetup(circuit_id="a", parent_id="b"),), "'b', which is no circuit"),
        ((CircuitSetup(circuit_id="a", parent_id="a"),), "a on a"),
        (
            (
                CircuitSetup(circuit_id="a", parent_id="b"),
                CircuitSetup(circuit_id="b", parent_id="c"),
                CircuitSetup(circuit_id="c", parent_id="a"),
            ),
            "a on b on c on a",
        ),
        ((CircuitSetup(circuit_id="a"), CircuitSetup(circuit_id="a")), "2 times"),
        ((CircuitSetup(circuit_id="a", limit_a=(1.0, 2.0)),), "1 or 3"),
        ((CircuitSetup(circuit_id="a", limit_a=(-1.0,)),), "limit_a is -1"),
        ((CircuitSetup(circuit_id="a", limit_kw=float("nan")),), "limit_kw is nan"),
        ((CircuitSetup(circuit_id="a", voltage_v=0.0),), "voltage_v is 0"),
        ((CircuitSetup(circuit_id=""),), "must have characters"),
        (
            (
                CircuitSetup(circuit_id="a", evses=("X",)),
                CircuitSetup(circuit_id="b", evses=("X",)),
            ),
            "'X' is on 2 circuits",
        ),
    ],
)
def test_what_is_no_tree_is_named(setups: tuple[CircuitSetup, ...], word: str) -> None:
    assert any(word in fault for fault in faults(setups)), faults(setups)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", *"abcdef"])),
        unique_by=lambda pair: pair[0],
        max_size=6,
    )
)
def test_a_tree_without_faults_leads_every_circuit_to_the_connection(
    pairs: list[tuple[str, str]],
) -> None:
    setups = [CircuitSetup(circuit_id=i, parent_id=p) for i, p in pairs]
    if faults(setups):
        return
    parents = dict(pairs)
    for circuit_id in parents:
        assert parents[path_of(circuit_id, setups)[-1]] == ""


@given(st.permutations("abcd"))
def test_circles_never_pass_for_trees(order: list[str]) -> None:
    setups = [
        CircuitSetup(circuit_id=a, parent_id=b)
        for a, b in zip(order, [*order[1:], order[0]], strict=True)
    ]
    assert faults(setups)


def test_limits_that_can_never_bind_are_remarked_not_refused() -> None:
    setups = (*TREE, CircuitSetup(circuit_id="row", parent_id="yard", limit_a=(20.0,), limit_kw=50))
    assert faults(setups) == ()
    found = remarks(setups, limit_kw=44.0)
    assert any("row L3: 20 A is above the 16 A of yard" in remark for remark in found)
    assert any("row: 50 kW is above the 44 kW of the site" in remark for remark in found)
    assert not any("row L1" in remark for remark in found)


@pytest.mark.parametrize(
    ("text", "evse_id", "phases"),
    [
        ("0.RST,1.RST,2.STR", 2, (2, 3, 1)),
        ("0.RST,1.TRS", 2, (1, 2, 3)),
        ("0.Unknown,1.Unknown", 1, ()),
        ("1.NotApplicable", 1, ()),
        ("TSR", 3, (3, 2, 1)),
        ("1.S", 1, (2,)),
        (" 0.RST , 1.srt ", 1, (2, 1, 3)),
        ("", 1, ()),
        ("nonsense,,x.y.z", 1, ()),
    ],
)
def test_a_station_says_its_rotation_in_either_version(
    text: str, evse_id: int, phases: tuple[int, ...]
) -> None:
    assert rotation_of(text, evse_id) == phases


@given(st.text(max_size=60), st.integers(0, 5))
def test_whatever_a_station_says_of_rotation_is_a_rotation_or_unknown(text: str, n: int) -> None:
    assert rotation_of(text, n) in ((), *ROTATIONS.values())


def test_evses_hang_where_the_closest_word_says() -> None:
    evses = [evse("HALL-1"), evse("Y", 1), evse("Y", 2), evse("HALL-2"), evse("X")]
    stations = {"HALL-1": station("HALL-1", "STR"), "X": station("X", "RST", switches_phases=True)}
    places = [
        PlaceSetup(station_id="HALL-2", circuit_id="yard", phase_rotation="TRS"),
        PlaceSetup(station_id="HALL-2", evse_id=1, phase_rotation="Unknown"),
    ]
    hall, one, two, moved, free = placed(TREE, evses, stations, places)
    assert (hall.circuit_id, hall.circuit_source) == ("hall", "pattern")
    assert (hall.phases, hall.phases_source) == ((2, 3, 1), "station")
    assert one.circuit_id == ""
    assert two.circuit_id == "yard"
    assert (moved.circuit_id, moved.circuit_source) == ("yard", "operator")
    assert (moved.phases, moved.phases_source) == ((), "operator")
    # One that switches phases by itself: nobody knows.
    assert (free.circuit_id, free.phases) == ("", ())


def test_a_car_with_fewer_phases_draws_from_the_first_of_its_evse() -> None:
    known = Wiring(places={("c", 1): Place(phases=(2, 3, 1)), ("d", 1): Place(phases=(3,))})
    assert known.phases("c", 1, used=1) == (2,)
    assert known.phases("c", 1, used=2) == (2, 3)
    assert known.phases("c", 1, used=3) == (1, 2, 3)
    assert known.phases("d", 1, used=1) == (3,)
    assert known.phases("d", 1, used=2) == ()
    assert known.phases("e", 1, used=1) == ()


def test_planning_takes_the_tree_with_the_places() -> None:
    evses = [evse("HALL-1", phases=1)]
    found = wiring(TREE, placed(TREE, evses, {"HALL-1": station("HALL-1", "1.SRT")}, ()))
    assert found.of("HALL-1", 1) == Place(circuit_id="hall", phases=(2,))
    assert found.circuits[2].limit_a == ((32.0,), (32.0,), (16.0,))
