"""Steps in which stations count, as far as plans care."""

from dataclasses import replace

from csms.core.model import Evse, Station, StationLimits
from csms.service.wiring import step_w


def test_a_station_that_counts_in_coarse_watts_is_planned_in_its_steps() -> None:
    evse = Evse(station_id="c0", evse_id=1, max_kw=22.0)
    station = Station(station_id="c0", site_id="s")

    def step(**limits: object) -> float:
        told = StationLimits(**limits)  # type: ignore[arg-type]
        return step_w(replace(station, limits=told), evse)

    assert step(units=("W",), step_w=500.0) == 500.0
    assert step(units=("W",), step_w=1.0) == 0.0
    assert step(units=("A", "W"), step_w=500.0) == 0.0
