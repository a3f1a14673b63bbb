"""What each phase of each fuse carried, by rotation and by the phases that a car uses."""

from datetime import UTC, datetime, timedelta

import pytest

from simulators.battery import Vehicle
from simulators.circuits import JudgedCircuit, courses
from simulators.scenario import ScenarioError, parse
from simulators.station import EvseSpec, Station

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ONE = Vehicle(max_ac_kw=3.68, phases=1)


def charging(spec: EvseSpec, vehicle: Vehicle, hours: float) -> Station:
    station = Station([spec], now=NOON)
    station.plug_in(1, vehicle, soc=0.1, now=NOON)
    station.begin(1, "T", "", now=NOON)
    station.advance(NOON + timedelta(hours=hours))
    return station


def test_each_phase_carries_what_hangs_on_it_and_below() -> None:
    places = {
        "HALL-1": charging(EvseSpec(max_kw=11.04, rotation="STR"), ONE, 2),
        "HALL-2": charging(EvseSpec(phases=1, max_kw=3.68, rotation="S"), ONE, 1),
        "YARD": charging(EvseSpec(rotation="TSR"), Vehicle(), 1),
    }
    tree = [
        JudgedCircuit(circuit_id="main", limit_a=(63.0, 40.0, 63.0)),
        JudgedCircuit(circuit_id="hall", parent="main", limit_a=(32.0,) * 3, evses=("HALL-*",)),
        JudgedCircuit(circuit_id="yard", parent="main", limit_a=(16.0,) * 3, evses=("YARD/1",)),
    ]
    drawn = [
        (name, s.evse(1).spec, segment)
        for name, s in places.items()
        for segment in s.evse(1).segments
    ]
    found = {(c.circuit_id, c.phase): c for c in courses(tree, drawn)}
    each_a = 11_000 / 690
    assert found["hall", "L2"].peak_a == pytest.approx(32.0)
    assert found["hall", "L1"].peak_a == found["hall", "L3"].peak_a == 0
    assert found["main", "L2"].peak_a == pytest.approx(32.0 + each_a)
    assert found["main", "L1"].peak_a == pytest.approx(each_a)
    assert found["main", "L2"].seconds_above == pytest.approx(3600)
    assert found["yard", "L1"].seconds_above == 0


@pytest.mark.parametrize(
    ("rotation", "phases"), [("XYZ", 3), ("RS", 1), ("R", 3), ("RRS", 3), ("", 1)]
)
def test_a_rotation_that_cannot_be_is_refused(rotation: str, phases: int) -> None:
    with pytest.raises(ValueError, match="rotation"):
        EvseSpec(rotation=rotation, phases=phases)


@pytest.mark.parametrize("limit", [[1, 2], -1, None])
def test_a_circuit_without_a_sound_limit_is_refused(limit: object) -> None:
    table = {"id": "a"} | ({} if limit is None else {"limit_a": limit})
    with pytest.raises(ScenarioError, match="limit_a"):
        parse(
            {
                "run": {"start": "2026-03-02T05:00:00Z"},
                "circuits": [table],
                "stations": [{"id": "A"}],
                "random_arrivals": {"count": 1, "first": "07:00", "last": "08:00"},
            }
        )
