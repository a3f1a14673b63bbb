"""Scenarios, real days, fleets and the command line."""

import asyncio
import json
import os
import sys
import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from simulators.__main__ import main
from simulators.clock import SimClock
from simulators.fleet import Fleet, feasible_kwh
from simulators.power import energy_wh, seconds_above
from simulators.realday import Place, fit, real_day, recorded
from simulators.scenario import Scenario, ScenarioError, load, packaged, parse
from simulators.station import EvseSpec
from tests.simulators.centre import Centre, set_profile, tx_profile

DAY = date(2015, 10, 1)
PLACES = [Place(station_id=f"S{i}", evse_id=1) for i in range(20)]

SMALL = """
[run]
name = "small"
seed = 3
start = 2026-03-02T07:00:00Z
speed = 6000
sample_interval_s = 300
[site]
limit_kw = 20
[[circuits]]
id = "low"
limit_a = 8
evses = ["S1", "S2"]
[[circuits]]
id = "high"
limit_a = 63
evses = ["S[34]"]
[[stations]]
id = "S{n}"
count = 4
version = "mixed"
[[vehicles]]
id = "car"
battery_kwh = 40
[[drivers]]
token = "ANNA"
vehicle = "car"
trips = [{ at = "09:30", distance_km = 100 }]
[[arrivals]]
driver = "ANNA"
at = "07:30"
soc = 0.3
[random_arrivals]
count = 3
first = "07:30"
last = "08:00"
stay_hours = [1, 2]
energy_kwh = [4, 9]
"""


def small(text: str = SMALL) -> Scenario:
    return parse(tomllib.loads(text))


def test_the_packaged_sessions_are_all_read() -> None:
    assert sum(1 for _ in recorded("workplace_us")) == 3323


def test_a_real_day_is_the_same_each_time_and_its_energy_can_be_taken() -> None:
    stays = real_day("workplace_us", DAY, seed=4)
    given = real_day("workplace_us", DAY, changes={"battery_kwh": 60, "phases": 3})
    assert {(s.vehicle.battery_kwh, s.vehicle.phases) for s in given} == {(60, 3)}
    assert stays == real_day("workplace_us", DAY, seed=4)
    assert stays != real_day("workplace_us", DAY, seed=5)
    assert len(stays) == 46
    for stay in stays:
        assert 0.1 - 1e-9 <= stay.soc
        assert stay.needed_soc == pytest.approx(stay.vehicle.max_soc)
    cars = {s.user: s.vehicle for s in stays}
    assert all(cars[s.user] == s.vehicle for s in stays)
    moved = real_day("workplace_us", DAY, seed=4, as_date=date(2026, 3, 1))
    shift = moved[0].arrives_at - stays[0].arrives_at
    assert shift == timedelta(days=(date(2026, 3, 1) - DAY).days)


def test_a_car_left_alone_takes_what_was_recorded_where_the_stay_is_long_enough() -> None:
    stays = real_day("workplace_us", DAY)
    possible = [feasible_kwh(s, EvseSpec(max_kw=11)) for s in stays]
    for stay, kwh in zip(stays, possible, strict=True):
        assert kwh <= stay.need_kwh + 1e-6
    assert sum(possible) > 0.97 * sum(s.need_kwh for s in stays)
    minutes = timedelta(minutes=6)
    short = replace(stays[0], departs_at=stays[0].arrives_at + minutes)
    assert 0 < feasible_kwh(short, EvseSpec(max_kw=11)) <= short.vehicle.max_ac_kw / 10 + 1e-9


def test_a_place_holds_one_car_at_a_time_and_the_rest_are_unserved() -> None:
    stays = real_day("workplace_us", DAY)
    day = fit(stays, PLACES[:12])
    assert len(day.assignments) + len(day.unserved) == 46
    assert len(day.unserved) > 5
    by_place: dict[Place, list[Any]] = {}
    for a in day.assignments:
        by_place.setdefault(a.place, []).append(a.stay)
    for held in by_place.values():
        for earlier, later in pairwise(held):
            assert later.arrives_at - earlier.departs_at >= timedelta(seconds=120)


def test_the_day_tells_the_operator_who_needs_what() -> None:
    day = fit(real_day("workplace_us", DAY), PLACES).to_json()
    stay = json.loads(json.dumps(day))["stays"][0]
    car = stay["vehicle"]
    added_kwh = stay["trip"]["energy_kwh"] - stay["soc"] * car["battery_kwh"]
    assert added_kwh / car["efficiency"] == pytest.approx(stay["need_kwh"], abs=1e-2)
    assert stay["station_id"] == "S0"


def test_a_day_without_sessions_says_what_the_file_holds() -> None:
    with pytest.raises(ValueError, match="2014-11-18 to 2015-10"):
        real_day("workplace_us", date(2020, 1, 1))


@pytest.mark.parametrize("name", packaged())
def test_a_packaged_scenario_can_be_loaded(name: str) -> None:
    scenario = load(name)
    assert scenario.day.assignments
    assert {s.version for s in load(name, version="2.0.1").stations} == {"2.0.1"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("limit_kw = 20", "limit = 20", r"\[site\] limit is unknown; permitted: limit_kw"),
        ('"mixed"', '"1.5"', r"version is '1.5'; it must be one of 1.6, 2.0.1, 2.1, mixed"),
        ("count = 4", "count = 0", r"count is 0; it must be a number of at least 1"),
        ('at = "07:30"', 'at = "soon"', r"at is 'soon'; it must be an ISO 8601 time or HH:MM"),
        ("battery_kwh = 40", "battery_kwh = 0", r"battery_kwh is 0; it must be above 0"),
        ('driver = "ANNA"', 'driver = "X"', r"driver is 'X'; it must be one of ANNA"),
        ("stay_hours = [1, 2]", "stay_hours = 3", r"stay_hours is 3; it must be two numbers"),
        ("[site]", "[sight]", r"sight is unknown; permitted: arrivals"),
        ("count = 4", "rotation = []", r"rotation is \[\]; it must be text such as"),
        ("count = 4", 'rotation = ["RSX"]', r"rotation is 'RSX'; it must be R, S, T or all three"),
        ('id = "S{n}"', 'id = "S{x}"', r"id is 'S\{x\}'; it must be"),
        ('id = "S{n}"', 'id = "S"', r"id is 'S'; it must be a pattern with \{n\}"),
    ],
)
def test_a_bad_scenario_names_key_value_and_what_is_permitted(
    old: str, new: str, message: str
) -> None:
    with pytest.raises(ScenarioError, match=message):
        small(SMALL.replace(old, new, 1))


def test_rotations_are_given_to_one_station_after_the_other() -> None:
    listed = SMALL.replace("count = 4", 'count = 4\nrotation = ["RST", "STR", "TRS"]')
    found = [s.evses[0].rotation for s in small(listed).stations]
    assert found == ["RST", "STR", "TRS", "RST"]


def test_a_need_is_the_trip_with_a_fifth_more_less_what_is_held() -> None:
    stay = next(a.stay for a in small().day.assignments if a.stay.user == "ANNA")
    assert stay.departs_at == datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    assert stay.need_kwh == pytest.approx((100 * 0.18 * 1.2 - 12) / 0.9)


async def test_a_scenario_runs_whole_and_its_figures_agree(tmp_path: Path) -> None:
    scenario = small()
    async with Centre() as centre:

        def on_start(station: str, tx: str, evse: int) -> list[tuple[str, dict[str, Any]]]:
            version = "1.6" if centre.links[station].subprotocol == "ocpp1.6" else "2.0.1"
            body = set_profile(version, evse, tx_profile(version, tx, 7.0))
            return [("SetChargingProfile", body)]

        centre.on_start = on_start
        clock = SimClock(start=scenario.start, speed=scenario.speed)
        fleet = Fleet(scenario, centre.url, clock, journals=tmp_path)
        lines: list[str] = []
        async with asyncio.timeout(20):
            summary = await fleet.run(progress=lines.append, progress_s=0.3)
    assert summary["errors"] == {}
    assert summary["sessions"] == 4
    assert set(summary["by_version"]) == {"1.6", "2.0.1"}
    assert summary["profiles_set"] == 4
    course = fleet.course()
    assert energy_wh(course) / 1000 == pytest.approx(summary["energy_kwh"], abs=0.01)
    assert summary["limit_violations_s"] == pytest.approx(seconds_above(course, 20_000), abs=0.01)
    above_s = sum(c.seconds_above for c in fleet.currents())
    assert summary["circuit_violations_s"]["low"] == pytest.approx(above_s, abs=0.01)
    assert above_s > 60
    assert summary["circuit_violations_s"]["high"] == 0
    # Each of two cars takes at most the 7 kW that it was told, evenly from three phases.
    assert 8 < max(summary["circuit_peaks_a"]["low"]) < 21
    assert len(summary["circuit_peaks_a"]["high"]) == 3
    assert all(s["status"] == "Accepted" for s in fleet.stays())
    assert len(os.listdir(tmp_path)) == 4
    assert any("charging" in line for line in lines)


async def test_a_scenario_whose_calls_are_refused_reports_errors() -> None:
    scenario = small()
    async with Centre() as centre:
        centre.answers["Authorize"] = lambda payload: ("InternalError", "no")
        clock = SimClock(start=scenario.start, speed=scenario.speed)
        async with asyncio.timeout(20):
            summary = await Fleet(scenario, centre.url, clock).run()
    assert summary["errors"]["call_errors"] > 0
    assert summary["energy_kwh"] == 0


async def test_the_command_line_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL.replace("speed = 6000", "speed = 600"))
    async with Centre() as centre:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "simulators", str(path), centre.url, "--stays", str(tmp_path / "s.json")),
            cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started = ("StartTransaction", "TransactionEvent")
        await centre.until(lambda: any(c[2] in started for c in centre.calls))
        process.terminate()
        async with asyncio.timeout(10):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        summary = json.loads(out)
        assert summary["energy_kwh"] > 0
        stopped = centre.of("StopTransaction") + [
            e for e in centre.of("TransactionEvent") if e["eventType"] == "Ended"
        ]
        assert len(stopped) == summary["sessions"]


def test_the_command_line_refuses_bad_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nowhere.toml", "ws://127.0.0.1:9"]) == 2
    assert "packaged scenarios: depot" in capsys.readouterr().err
    assert main(["depot", "ws://127.0.0.1:9", "--speed", "0"]) == 2
    assert "--speed is 0.0; it must be above 0" in capsys.readouterr().err
    assert main(["depot"]) == 2
    assert "url is missing" in capsys.readouterr().err
    assert main(["workplace", "--export-day", str(tmp_path / "day.json")]) == 0
    assert len(json.loads((tmp_path / "day.json").read_text())["stays"]) == 45


def test_two_clocks_with_the_same_zero_agree() -> None:
    start = datetime(2026, 3, 2, tzinfo=UTC)
    zero = datetime.now(UTC).timestamp() - 10
    one = SimClock(start=start, speed=600, zero=zero)
    two = SimClock(start=start, speed=600, zero=zero)
    assert abs((one.now() - two.now()).total_seconds()) < 5
    assert (one.now() - start).total_seconds() == pytest.approx(6000, abs=60)
