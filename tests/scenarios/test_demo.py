"""The demo: its wires as both sides know them, and its day, lived fast."""

import tomllib
from pathlib import Path

from csms.core.model import Evse
from csms.core.wiring import faults, placed, remarks
from csms.demo import run_demo
from csms.demo_site import BUILDING_KW, LIMIT_KW, SITE, scenario_text, settings
from simulators.scenario import parse


def test_the_simulators_judge_each_circuit_by_what_its_fuse_leaves_for_cars(
    tmp_path: Path,
) -> None:
    site = settings(tmp_path, port=0, ocpp_port=0, limit_kw=LIMIT_KW).site[SITE]
    setups = site.setups()
    assert not faults(setups)
    assert not remarks(setups, limit_kw=site.limit_kw)
    assert 0 < sum(setup.most_kw for setup in setups) <= BUILDING_KW
    scenario = parse(tomllib.loads(scenario_text(password="", speed=1.0, limit_kw=LIMIT_KW)))
    judged = {c.circuit_id: c for c in scenario.circuits}
    assert {name: c.limit_a for name, c in judged.items()} == {
        "hall": (57.0, 61.0, 61.0),
        "yard": (63.0, 63.0, 63.0),
    }
    evses = [
        Evse(station_id=s.station_id, evse_id=e.evse_id, max_kw=e.max_kw)
        for s in scenario.stations
        for e in s.evses
    ]
    assert len(evses) == 24
    for place in placed(setups, evses, {}, ()):
        carrying = [n for n, c in judged.items() if c.carries(place.station_id, place.evse_id)]
        assert carrying == [place.circuit_id]


async def test_a_day_of_the_demo_passes_no_limit_and_loses_no_record(tmp_path: Path) -> None:
    # Needs are for the demo's own speed: here a second's wait for an answer is twenty minutes.
    found = await run_demo(
        once=True, speed=1200.0, port=0, ocpp_port=0, limit_kw=None, folder=tmp_path, is_quiet=True
    )
    assert found is not None
    assert found["errors"] == {}
    assert found["sessions"] == 45
    assert found["limit_violations_s"] == 0
    assert found["circuit_violations_s"] == {"hall": 0, "yard": 0}
    assert found["circuit_limits_a"] == {"hall": [63.0] * 3, "yard": [63.0] * 3}
    assert found["records_lost"] == found["records_doubled"] == found["records_changed"] == 0
    peaks_a = found["circuit_peaks_a"]
    assert isinstance(peaks_a, dict)
    assert set(peaks_a) == {"hall", "yard"}
    assert all(6.0 < a <= 63.0 for phases_a in peaks_a.values() for a in phases_a)
