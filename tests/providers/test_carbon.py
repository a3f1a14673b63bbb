"""Grid emissions from outside."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.core.errors import ConfigError, ProviderError
from csms.providers.carbon import CARBON_FORMATS
from csms.providers.registry import carbon_source
from tests.providers.conftest import SampleServer

QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def http(server: SampleServer, name: str, file: str, area: str = "") -> Any:
    return carbon_source(
        {
            "type": "http_json",
            "format": name,
            "url": server.url(file),
            "area": area,
            "allow_http": True,
        },
        name="carbon.test",
    )


async def test_five_minute_values_of_one_area_are_averaged_into_quarter_hours(
    server: SampleServer, sample: Callable[[str], Any]
) -> None:
    source = http(server, "energinet", "energinet/co2-forecast.json", "DK1")
    start, until = utc("2022-07-17T20:00"), utc("2022-07-17T22:00")
    found = await source.intensity(start, until)
    assert [c.starts_at for c in found] == [start + QUARTER * n for n in range(8)]
    assert [c.until for c in found] == [start + QUARTER * n for n in range(1, 9)]
    last = [
        record["CO2Emission"]
        for record in sample("energinet/co2-forecast.json")["records"]
        if record["PriceArea"] == "DK1" and record["Minutes5UTC"] >= "2022-07-17T21:45:00"
    ]
    assert len(last) == 3
    assert found[-1].kg_per_kwh == pytest.approx(sum(last) / 3000)


async def test_what_was_measured_wins_over_the_forecast(server: SampleServer) -> None:
    source = http(server, "gb_carbon_intensity", "made/gb-carbon-intensity-forecast.json")
    found = await source.intensity(utc("2026-02-03T12:00"), utc("2026-02-03T14:00"))
    assert [c.kg_per_kwh for c in found] == pytest.approx([0.177, 0.196, 0.217, 0.23])
    assert {c.until - c.starts_at for c in found} == {timedelta(minutes=30)}


async def test_a_forecast_by_the_hour_is_read_for_its_zone(server: SampleServer) -> None:
    source = http(server, "electricity_maps", "made/electricity-maps-forecast.json", "DE")
    found = await source.intensity(utc("2026-01-15T10:00"), utc("2026-01-15T12:00"))
    assert [c.kg_per_kwh for c in found] == pytest.approx([0.380, 0.402])
    other = http(server, "electricity_maps", "made/electricity-maps-forecast.json", "FR")
    with pytest.raises(ProviderError, match=r"carbon\.test \(electricity_maps\): zone is 'DE'"):
        await other.intensity(utc("2026-01-15T10:00"), utc("2026-01-15T12:00"))


@pytest.mark.parametrize("value", [-1, 1e9, "180", True, [1]])
@pytest.mark.parametrize("name", CARBON_FORMATS)
async def test_an_absurd_intensity_is_refused(
    server: SampleServer, name: str, value: object
) -> None:
    payload = {
        "zone": "DK1",
        "records": [
            {"Minutes5UTC": "2026-01-01T00:00:00", "PriceArea": "DK1", "CO2Emission": value}
        ],
        "data": [
            {
                "from": "2026-01-01T00:00Z",
                "to": "2026-01-01T00:30Z",
                "intensity": {"forecast": value},
            }
        ],
        "forecast": [{"datetime": "2026-01-01T00:00:00Z", "carbonIntensity": value}],
    }
    server.says("x", payload)
    with pytest.raises(ProviderError, match=name):
        await http(server, name, "x", "DK1").intensity(
            utc("2026-01-01T00:00"), utc("2026-01-01T01:00")
        )


async def test_the_recorded_danish_year_is_replayed_in_kg() -> None:
    source = carbon_source({"type": "file", "dataset": "dk1_co2_2024", "replay": True})
    found = await source.intensity(utc("2023-12-31T23:00"), utc("2024-01-01T01:00"))
    assert [c.kg_per_kwh for c in found] == pytest.approx([0.1685, 0.172])
    assert len(await source.intensity(utc("2026-07-01T00:00"), utc("2026-07-02T00:00"))) == 24


async def test_no_and_fixed_intensity_are_what_they_say() -> None:
    start, until = utc("2026-01-01T00:00"), utc("2026-01-02T00:00")
    assert await carbon_source({"type": "none"}).intensity(start, until) == []
    found = await carbon_source({"type": "fixed", "kg_per_kwh": 0.4}).intensity(start, until)
    assert [c.starts_at for c in found] == [start + HOUR * n for n in range(24)]
    assert {(c.until - c.starts_at, c.kg_per_kwh) for c in found} == {(HOUR, 0.4)}


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"type": "grid"}, "permitted: none, fixed, file, http_json"),
        ({"type": "none", "x": 1}, "x is not known"),
        ({"type": "fixed", "kg_per_kwh": -1}, "kg_per_kwh"),
        ({"type": "http_json", "format": "grid"}, "permitted: energinet, gb_carbon_intensity"),
        ({"type": "http_json", "format": "energinet"}, "needs area"),
    ],
)
def test_a_bad_section_names_the_key_and_what_is_right(
    section: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        carbon_source(section)
