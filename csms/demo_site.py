"""The demo's workplace: stations, wires, and where its prices and CO2 come from.

The scenario that the simulators run and judge, and the settings of the system that knows nothing of
it, are written from the same numbers. Simulated meters show the stations alone, so what draws
beside them is taken off each limit that the simulators judge by.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from csms.core.units import each_phase
from csms.settings import (
    ApiSettings,
    ForecastSettings,
    GatewaySettings,
    Settings,
    StoreSettings,
    TelemetrySettings,
)
from csms.settings_sites import CircuitSettings, SiteSettings

SITE = "depot"
DATA = "workplace_us"
REAL_DAY = date(2015, 10, 1)
AS_DATE = date(2024, 9, 19)
SHIFT_H = -6
"""From US Eastern to Danish time: cars arrive at the same time of the clock, not of the world."""
LIMIT_KW = 44.0
BUILDING_KW = 4.0
CIRCUITS = {
    "hall": CircuitSettings(
        name="Hall",
        limit_a=63.0,
        # Lights, and a compressor on L1: a part of what the building draws.
        load_a=(6.0, 2.0, 2.0),
        evses=("DEPOT-0[1-4]", "COARSE-*"),
    ),
    "yard": CircuitSettings(name="Yard", limit_a=63.0, evses=("DEPOT-0[5-8]", "WATTS-*")),
}
"""Two sub-distributions below the connection, fused per phase.

Most of the day's cars charge on one phase, with up to 32 A. Each station is wired a third of a turn
further than the one before, or nearly all of them would draw from L1.
"""
SAMPLE_S = 300
HEARTBEAT_S = 1800
"""Stations are told so too: by a shorter interval they would be taken for silent."""


def scenario_text(*, password: str, speed: float, limit_kw: float) -> str:
    """Return the scenario: twelve stations of three makes, half of each version, 24 EVSEs."""
    return f"""
[run]
name = "depot demo"
seed = 1
speed = {speed}
sample_interval_s = {SAMPLE_S}
heartbeat_s = {HEARTBEAT_S}

[site]
limit_kw = {limit_kw - BUILDING_KW}
{"".join(_judged())}
[dialects.watts]
rate_units = ["W"]
max_periods = 12

[dialects.coarse]
whole_amperes = true
max_periods = 16

[[stations]]
id = "DEPOT-{{n:02}}"
count = 8
version = "mixed"
evses = 2
max_kw = 22.08
rotation = ["RST", "STR", "TRS"]
password = "{password}"

[[stations]]
id = "COARSE-{{n:02}}"
count = 2
version = "mixed"
evses = 2
max_kw = 11.04
rotation = ["RST", "STR"]
dialect = "coarse"
password = "{password}"

[[stations]]
id = "WATTS-{{n:02}}"
count = 2
version = "mixed"
evses = 2
max_kw = 22.08
rotation = ["TRS", "RST"]
dialect = "watts"
password = "{password}"

[real_day]
file = "{DATA}"
date = {REAL_DAY}
as_date = {AS_DATE}
shift_h = {SHIFT_H}
"""


def _judged() -> Iterator[str]:
    for setup in _site(LIMIT_KW).setups():
        limits_a, loads_a = each_phase(setup.limit_a), each_phase(setup.load_a or (0.0,))
        left_a = [most - load for most, load in zip(limits_a, loads_a, strict=True)]
        yield f"""
[[circuits]]
id = "{setup.circuit_id}"
limit_a = {left_a}
evses = {list(setup.evses)}
"""


def _site(limit_kw: float) -> SiteSettings:
    return SiteSettings(
        name="Demo depot",
        time_zone="Europe/Copenhagen",
        limit_kw=limit_kw,
        base_load_kw=BUILDING_KW,
        tariff="dk1",
        carbon="dk1",
        circuit=CIRCUITS,
    )


def settings(folder: Path, *, port: int, ocpp_port: int, limit_kw: float) -> Settings:
    """Return the system's settings, with its store in `folder`."""
    return Settings(
        site={SITE: _site(limit_kw)},
        tariff={
            "dk1": {
                "type": "file",
                "dataset": "dk1_prices_2024",
                # What an end customer pays on top of the market: grid tariff and levies, flat.
                "add_eur_per_kwh": 0.12,
                "vat_share": 0.0,
            }
        },
        carbon={"dk1": {"type": "file", "dataset": "dk1_co2_2024"}},
        store=StoreSettings(url=f"sqlite:///{folder / 'tasco.sqlite3'}"),
        gateway=GatewaySettings(port=ocpp_port),
        api=ApiSettings(port=port, demo=True),
        forecast=ForecastSettings(),
        telemetry=TelemetrySettings(level="warning"),
    )
