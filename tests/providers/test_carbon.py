"""Grid emissions, weather, and DIDs from outside."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.core.errors import ConfigError, DidNotResolved, DidSyntaxError, ProviderError
from csms.core.model import Site
from csms.identity.did import Did, DidDocument
from csms.providers.carbon import CARBON_FORMATS
from csms.providers.dids import Resolver
from csms.providers.registry import carbon_source, did_methods, weather_source
from csms.providers.slots import Reader
from csms.providers.weather import Weather, open_meteo
from tests.providers.conftest import SampleServer

QUARTER = timedelta(minutes=15)


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


# --- weather -------------------------------------------------------------------------------------

SITE = Site(site_id="s1", limit_kw=44.0, latitude=52.52, longitude=13.42)


async def test_a_forecast_is_read_for_the_sites_place(server: SampleServer) -> None:
    url = server.url("made/open-meteo-minutely15.json") + "?at={latitude},{longitude}"
    source = weather_source({"type": "http_forecast", "url": url, "allow_http": True})
    start = datetime.fromtimestamp(1780304400, UTC)
    found = await source.hours(SITE, start, start + 16 * QUARTER)
    assert server.requests[0][0].endswith("?at=52.5200,13.4200")
    assert len(found) == 16
    assert found[0] == Weather(
        starts_at=start, until=start + QUARTER, temperature_c=17.0, irradiance_w_per_m2=560.0
    )
    assert (found[-1].temperature_c, found[-1].irradiance_w_per_m2) == (20.0, None)
    assert len(await source.hours(SITE, start, start + HOUR)) == 4


HOUR = timedelta(hours=1)


async def test_a_site_without_coordinates_has_no_weather() -> None:
    start = utc("2026-06-01T00:00")
    nowhere = Site(site_id="s2", limit_kw=44.0)
    for section in ({"type": "http_forecast"}, {"type": "none"}):
        assert await weather_source(section).hours(nowhere, start, start + HOUR) == []


def test_an_error_document_and_wrong_units_are_refused(sample: Callable[[str], Any]) -> None:
    read = Reader("test")
    with pytest.raises(ProviderError, match="Minutely API request limit"):
        open_meteo(sample("made/open-meteo-error.json"), read)
    payload = sample("made/open-meteo-minutely15.json")
    payload["minutely_15_units"]["temperature_2m"] = "°F"
    with pytest.raises(ProviderError, match="°F"):
        open_meteo(payload, read)


# --- DIDs ----------------------------------------------------------------------------------------

DRIVER = "did:denso:driver:abc123"
KEY_DID = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"


async def registered(text: str) -> DidDocument | None:
    return {
        DRIVER: DidDocument(id=DRIVER),
        "did:denso:driver:odd": DidDocument(id=DRIVER),
    }.get(text)


async def test_local_methods_resolve_without_a_network() -> None:
    resolver = Resolver(registered=registered, methods=did_methods())
    assert (await resolver.resolve(DRIVER)).id == DRIVER
    assert (await resolver.resolve(KEY_DID)).authentication


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("did:denso:driver:stranger", "not registered"),
        ("did:denso:driver:odd", "another DID"),
        ("did:web:fleet.example", "did:web: method not supported yet"),
        ("did:itn:abc", "method not supported yet; supported: did:key, did:jwk, did:denso"),
    ],
)
async def test_what_cannot_be_resolved_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(DidNotResolved, match=says):
        await Resolver(registered=registered).resolve(text)
    with pytest.raises(DidSyntaxError):
        await Resolver(registered=registered).resolve("did:key:z")


async def test_a_further_method_is_used_and_its_answer_checked() -> None:
    class Echo:
        async def resolve(self, did: Did) -> DidDocument:
            return DidDocument(id=did.text.replace("liar", "other"))

    resolver = Resolver(registered=registered, methods={"echo": Echo()})
    assert (await resolver.resolve("did:echo:a")).id == "did:echo:a"
    with pytest.raises(DidNotResolved, match="another DID"):
        await resolver.resolve("did:echo:liar")
