"""Prices: fixed, by the clock, recorded, and as day-ahead providers write them."""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.core.errors import ConfigError, ProviderError
from csms.core.model import Price
from csms.providers.fetch import Fetcher
from csms.providers.price_formats import FORMATS, Choice, eur
from csms.providers.registry import tariff_source
from csms.providers.slots import MAX_EUR_PER_KWH, Reader, Slot
from csms.providers.tariffs import Band, TimeOfUseOptions, TimeOfUseTariff
from tests.providers.conftest import SampleServer

HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)
Load = Callable[[str], Any]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def check_order(prices: Sequence[Price], start: datetime, until: datetime) -> None:
    at = start
    for price in prices:
        assert at <= price.starts_at < price.until
        at = price.until
    assert at <= until


def parse(name: str, payload: object, *, area: str = "", series: str = "") -> list[Slot]:
    read = Reader("test")
    parsed = FORMATS[name].parse(payload, Choice(area=area, series=series), read)
    return read.ordered(
        parsed.slots,
        low=-MAX_EUR_PER_KWH,
        high=MAX_EUR_PER_KWH,
        unit="EUR/kWh",
        is_open=parsed.is_open,
    )


# --- the samples ---------------------------------------------------------------------------------

SAMPLES = [
    # format, file, area, series, slots, first start, step, first value, last value
    ("energinet", "energinet/spot-prices.json", "DK1", "", 5,
     "2022-07-18T17:00", HOUR, 0.053669998, 0.469859985),
    ("awattar", "made/awattar-marketdata.json", "", "", 24,
     "2026-05-02T22:00", HOUR, 0.08257, None),
    ("energy_charts", "made/energy-charts-price-spring-92.json", "DE-LU", "", 92,
     "2026-03-28T23:00", QUARTER, 0.08359, None),
    ("energy_charts", "made/energy-charts-price-autumn-100.json", "DE-LU", "", 100,
     "2026-10-24T22:00", QUARTER, None, 0.08444),
    ("elering", "made/elering-nps-price.json", "EE", "", 8,
     "2026-01-14T22:00", QUARTER, 0.09144, 0.08761),
    ("elering", "made/elering-nps-price.json", "fi", "", 8,
     "2026-01-14T22:00", QUARTER, 0.09348, 0.0862),
    ("octopus", "made/octopus-agile-unit-rates.json", "", "", 8,
     "2026-01-14T23:00", HOUR / 2, 0.1623, 0.17176),
    ("tibber", "made/tibber-price-info.json", "", "", 96,
     "2026-01-14T23:00", QUARTER, 0.25, 0.1595),
    ("tibber", "made/tibber-price-info.json", "", "energy", 96,
     "2026-01-14T23:00", QUARTER, 0.09, 0.0176),
    ("nordpool", "nordpool/day-ahead-hourly-se3.json", "SE3", "", 24,
     "2024-11-04T23:00", HOUR, 0.02154, 0.02484),
    ("energyzero", "energyzero/electricity-quarter-hour-cut.json", "", "", 8,
     "2025-12-15T23:00", QUARTER, 0.07994, 0.0753),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file", "area", "series", "count", "first_at", "step", "first", "last"), SAMPLES
)
def test_each_sample_is_read_into_slots_in_order(
    sample: Load, name: str, file: str, area: str, series: str, count: int,
    first_at: str, step: timedelta, first: float | None, last: float | None,
) -> None:  # fmt: skip
    slots = parse(name, sample(file), area=area, series=series)
    assert len(slots) == count
    assert slots[0].starts_at == utc(first_at)
    assert {slot.until - slot.starts_at for slot in slots if slot.until} == {step}
    assert [slot.starts_at for slot in slots] == [
        utc(first_at) + step * number for number in range(count)
    ]
    assert first is None or slots[0].value == pytest.approx(first)
    assert last is None or slots[-1].value == pytest.approx(last)


def test_a_negative_price_stays_negative(sample: Load) -> None:
    assert min(s.value for s in parse("awattar", sample("made/awattar-marketdata.json"))) < 0


def test_the_series_of_energyzero_differ(sample: Load) -> None:
    payload = sample("energyzero/electricity-quarter-hour-cut.json")
    firsts = [parse("energyzero", payload, series=s)[0].value for s in FORMATS["energyzero"].series]
    assert len(set(firsts)) == 4


def test_a_rate_until_further_notice_is_of_one_payment_method(sample: Load) -> None:
    payload = sample("made/octopus-fixed-unit-rates.json")
    (direct,) = parse("octopus", payload)
    (other,) = parse("octopus", payload, series="NON_DIRECT_DEBIT")
    assert (direct.until, direct.value) == (None, pytest.approx(0.231))
    assert other.value == pytest.approx(0.243)


def test_the_quarter_hours_that_replaced_the_danish_hours_are_read() -> None:
    records = [
        {"TimeUTC": f"2026-01-01T00:{m:02}:00", "PriceArea": area, "DayAheadPriceEUR": price}
        for m, area, price in ((15, "DK1", None), (0, "DK1", 100.0), (0, "DK2", 50), (30, "DK1", 1))
    ]
    slots = parse("energinet", {"records": records}, area="DK1")
    assert [(s.starts_at.minute, s.value) for s in slots] == [(0, 0.1), (30, 0.001)]
    assert slots[0].until == utc("2026-01-01T00:15")


def test_an_empty_answer_means_not_yet(sample: Load) -> None:
    assert parse("energinet", sample("energinet/spot-prices-empty.json"), area="DK1") == []


def test_a_missing_value_leaves_a_gap_and_stretches_nothing() -> None:
    payload = {
        "unit": "EUR / MWh",
        "unix_seconds": [1774738800 + 900 * n for n in (0, 1, 2, 4, 5)],
        "price": [10, None, 30, 50, 60],
    }
    slots = parse("energy_charts", payload)
    minutes = [(s.starts_at.minute, (s.until or s.starts_at).minute) for s in slots]
    assert minutes == [(0, 15), (30, 45), (0, 15), (15, 30)]


# --- what must be refused ------------------------------------------------------------------------


def spoilt(payload: Any, path: tuple[str | int, ...], value: object) -> Any:
    copy = json.loads(json.dumps(payload))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("name", "file", "area", "path", "value", "says"),
    [
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3, "marketprice"), 1e15, "number"),
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3, "marketprice"), 1e9, "between"),
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3, "marketprice"), "9", "number"),
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3, "marketprice"), ..., "number"),
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3, "marketprice"), True, "number"),
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3, "marketprice"),
         10**400, "number"),
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3, "marketprice"),
         float("nan"), "number"),
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3, "unit"), "Eur/kWh", "EUR/MWh"),
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3, "start_timestamp"),
         1777766400000, "two values"),
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3, "start_timestamp"), -1,
         "this century"),
        ("awattar", "made/awattar-marketdata.json", "", ("data", 3), 7, "an object"),
        ("awattar", "made/awattar-marketdata.json", "", ("data",), {}, "a list"),
        ("awattar", "made/awattar-marketdata.json", "", ("data",), [{}] * 5001, "at most 5000"),
        ("energy_charts", "made/energy-charts-price-spring-92.json", "", ("price", 0), ...,
         "91 values"),
        ("energy_charts", "made/energy-charts-price-spring-92.json", "", ("unit",), "GBP / MWh",
         "GBP"),
        ("energy_charts", "made/energy-charts-price-spring-92.json", "", ("unix_seconds", 1),
         1774738800, "two values"),
        ("elering", "made/elering-nps-price.json", "xx", ("success",), True, "area 'xx'"),
        ("nordpool", "nordpool/day-ahead-hourly-se3.json", "SE4", ("version",), 3, "SE4"),
        ("nordpool", "nordpool/day-ahead-hourly-se3.json", "SE3", ("currency",), ..., "currency"),
        ("nordpool", "nordpool/day-ahead-hourly-se3.json", "SE3",
         ("multiAreaEntries", 2, "deliveryStart"), "2024-11-05T01:00:00", "instant"),
        ("nordpool", "nordpool/day-ahead-hourly-se3.json", "SE3",
         ("multiAreaEntries", 2, "deliveryEnd"), "2024-11-05T03:00:00Z", "two values"),
        ("octopus", "made/octopus-agile-unit-rates.json", "", ("next",), "https://x/?page=2",
         "page_size"),
        ("tibber", "made/tibber-price-info.json", "", ("data", "viewer", "home"), ..., "homes"),
        ("tibber", "made/tibber-price-info.json", "", ("data",), None, "data is None"),
        ("energyzero", "energyzero/electricity-quarter-hour-cut.json", "",
         ("base", 0, "price", "value"), "cheap", "decimal"),
        ("energyzero", "energyzero/electricity-quarter-hour-cut.json", "",
         ("base", 0, "price", "value"), "nan", "number"),
        ("energyzero", "energyzero/electricity-quarter-hour-cut.json", "",
         ("base", 1, "price", "value"), "inf", "number"),
        ("energinet", "energinet/spot-prices.json", "DK1", ("records", 0, "HourUTC"), 5, "instant"),
        ("energinet", "energinet/spot-prices.json", "DK9", ("total",), 5, "PriceArea is 'DK1'"),
        ("energinet", "energinet/spot-prices.json", "DK1", ("records", 0, "SpotPriceEUR"), ...,
         "SpotPriceEUR is None"),
    ],
)  # fmt: skip
def test_what_cannot_be_true_is_refused_by_provider_and_field(
    sample: Load, name: str, file: str, area: str, path: tuple[str | int, ...], value: object,
    says: str,
) -> None:  # fmt: skip
    with pytest.raises(ProviderError, match=f"^test: .*({says})"):
        parse(name, spoilt(sample(file), path, value), area=area)


def test_four_hundred_days_are_refused() -> None:
    stamps = [1774738800 + 86400 * day for day in range(400)]
    payload = {"unit": "EUR/MWh", "unix_seconds": stamps, "price": [50.0] * 400}
    with pytest.raises(ProviderError, match="at most 62 days"):
        parse("energy_charts", payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "records", "price", "unit", "results", "viewer", "today"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40)
@given(payload=json_values)
def test_any_json_is_read_or_refused_by_name(name: str, payload: object) -> None:
    try:
        parse(name, payload, area="DK1")
    except ProviderError as error:
        assert str(error).startswith("test: ")  # noqa: PT017


@settings(max_examples=60)
@given(
    st.sampled_from(SAMPLES),
    st.data(),
    st.sampled_from([None, "", "x", -1, 0, 1e300, [], {}, True, float("nan"), float("inf")]),
)
def test_one_spoilt_member_never_gives_a_disordered_or_absurd_price(
    case: tuple[Any, ...], data: st.DataObject, value: object
) -> None:
    name, file, area, series = case[:4]
    path = Path(__file__).parent.parent / "data" / "provider-samples" / file
    payload = json.loads(path.read_text(encoding="utf-8"))
    inner = payload
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = data.draw(st.sampled_from(keys)) if keys else None
        if key is None:
            break
        if not (isinstance(inner[key], dict | list) and inner[key]) or data.draw(st.booleans()):
            inner[key] = value
            break
        inner = inner[key]
    try:
        slots = parse(name, payload, area=area, series=series)
    except ProviderError:
        return
    assert all(abs(slot.value) <= MAX_EUR_PER_KWH for slot in slots)
    for earlier, later in pairwise(slots):
        assert earlier.until is not None
        assert earlier.until <= later.starts_at


# --- over HTTP -----------------------------------------------------------------------------------


def http(server: SampleServer, name: str, file: str, **options: object) -> Any:
    section = {
        "type": "http_json",
        "format": name,
        "url": server.url(file) + "?from={start}&to={until_ms}",
        "allow_http": True,
        **options,
    }
    return tariff_source(section, name="tariff.test", fetcher=Fetcher())


@pytest.mark.parametrize(
    ("name", "file", "area", "series", "count", "first_at", "step", "first", "last"), SAMPLES
)
async def test_each_provider_is_read_over_http(
    server: SampleServer, name: str, file: str, area: str, series: str, count: int,
    first_at: str, step: timedelta, first: float | None, last: float | None,
) -> None:  # fmt: skip
    rate = {"eur_per_unit": 1.15} if name == "octopus" else {}
    source = http(server, name, file, area=area, series=series, **rate)
    start = utc(first_at)
    prices = await source.prices(start, start + step * count)
    check_order(prices, start, start + step * count)
    assert len(prices) == count
    factor = 1.15 if name == "octopus" else 1.0
    assert first is None or prices[0].eur_per_kwh == pytest.approx(first * factor)


async def test_the_slots_that_hold_in_the_window_are_returned_whole(server: SampleServer) -> None:
    source = http(server, "awattar", "made/awattar-marketdata.json")
    start, until = utc("2026-05-03T00:30"), utc("2026-05-03T02:15")
    prices = await source.prices(start, until)
    assert [(p.starts_at, p.until) for p in prices] == [
        (utc("2026-05-03T00:00"), utc("2026-05-03T01:00")),
        (utc("2026-05-03T01:00"), utc("2026-05-03T02:00")),
        (utc("2026-05-03T02:00"), utc("2026-05-03T03:00")),
    ]
    assert await source.prices(start - timedelta(days=9), until - timedelta(days=9)) == []
    assert await source.prices(until, start) == []


async def test_fees_and_tax_are_added_once_and_by_configuration(server: SampleServer) -> None:
    plain = http(server, "awattar", "made/awattar-marketdata.json")
    taxed = http(
        server, "awattar", "made/awattar-marketdata.json", add_eur_per_kwh=0.1, vat_share=0.25
    )
    start, until = utc("2026-05-02T22:00"), utc("2026-05-03T22:00")
    pairs = zip(await plain.prices(start, until), await taxed.prices(start, until), strict=True)
    for market, final in pairs:
        assert final.eur_per_kwh == pytest.approx((market.eur_per_kwh + 0.1) * 1.25)


async def test_a_day_not_yet_published_is_empty(server: SampleServer) -> None:
    server.says("later", b"", status=204)
    source = http(server, "nordpool", "later", area="SE3")
    assert await source.prices(utc("2026-01-01T00:00"), utc("2026-01-02T00:00")) == []


async def test_a_provider_by_day_is_asked_once_per_market_day(server: SampleServer) -> None:
    url = server.url("nordpool/day-ahead-hourly-se3.json") + "?date={date}&area={area}"
    source = http(server, "nordpool", "", url=url, area="SE3")
    # Delivery days are Central European: 23:00Z is midnight there in winter.
    await source.prices(utc("2024-11-04T23:00"), utc("2024-11-05T23:00"))
    assert [r[0].rpartition("?")[2] for r in server.requests] == ["date=2024-11-05&area=SE3"]
    server.requests.clear()
    server.says("later", b"", status=204)
    source = http(server, "nordpool", "", url=server.url("later") + "?d={date}", area="SE3")
    await source.prices(utc("2024-11-04T22:00"), utc("2024-11-06T00:00"))
    assert [r[0].rpartition("=")[2] for r in server.requests] == [
        "2024-11-04",
        "2024-11-05",
        "2024-11-06",
    ]


async def test_another_currency_is_refused_unless_its_rate_is_configured(
    server: SampleServer,
) -> None:
    file = "made/octopus-agile-unit-rates.json"
    start, until = utc("2026-01-14T23:00"), utc("2026-01-15T03:00")
    with pytest.raises(ProviderError, match=r"tariff\.test \(octopus\).*GBP.*eur_per_unit"):
        await http(server, "octopus", file).prices(start, until)
    assert await http(server, "octopus", file, eur_per_unit=1.15).prices(start, until)


async def test_a_rate_until_further_notice_comes_in_whole_hours(server: SampleServer) -> None:
    file = "made/octopus-fixed-unit-rates.json"
    source = http(server, "octopus", file, eur_per_unit=1.0)
    prices = await source.prices(utc("2025-12-31T22:30"), utc("2026-01-01T02:30"))
    assert [p.starts_at.hour for p in prices] == [0, 1, 2]
    assert {p.until - p.starts_at for p in prices} == {HOUR}
    await check_cover(source, utc("2026-05-01T00:10"), utc("2026-05-02T11:50"))


async def test_a_token_travels_in_its_header_and_a_query_is_posted(
    server: SampleServer, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n", encoding="utf-8")
    source = http(server, "tibber", "made/tibber-price-info.json", token_file=str(secret))
    await source.prices(utc("2026-01-15T00:00"), utc("2026-01-15T01:00"))
    (line, headers, body) = server.requests[0]
    assert line.startswith("POST ")
    assert headers["authorization"] == "bearer s3cret"
    assert "priceInfo" in json.loads(body)["query"]
    secret.unlink()
    with pytest.raises(ProviderError, match="token_file"):
        await source.prices(utc("2026-01-15T00:00"), utc("2026-01-15T01:00"))


async def test_an_area_cannot_leave_its_place_in_the_address(server: SampleServer) -> None:
    server.says("x", {"records": []})
    source = http(
        server, "energinet", "", url=server.url("x") + "?area={area}", area="DK1&evil=/.."
    )
    await source.prices(utc("2026-01-15T00:00"), utc("2026-01-15T01:00"))
    assert server.requests[0][0] == "GET /x?area=DK1%26evil%3D%2F.."


# --- without a network ---------------------------------------------------------------------------


async def test_a_fixed_tariff_is_one_price() -> None:
    source = tariff_source({"type": "fixed", "eur_per_kwh": 0.3})
    start, until = utc("2026-01-01T00:20"), utc("2026-01-01T02:10")
    assert await source.prices(start, until) == [
        Price(
            starts_at=utc(f"2026-01-01T0{hour}:00"),
            until=utc(f"2026-01-01T0{hour + 1}:00"),
            eur_per_kwh=0.3,
        )
        for hour in range(3)
    ]
    assert await source.prices(until, start) == []


NIGHT = {
    "type": "time_of_use",
    "time_zone": "Europe/Berlin",
    "eur_per_kwh": 0.3,
    "bands": [
        {"starts": "00:00", "until": "24:00", "days": ["sat"], "eur_per_kwh": 0.1},
        {"starts": "22:00", "until": "06:00", "eur_per_kwh": 0.2},
    ],
}


def joined(prices: Sequence[Price]) -> list[Price]:
    found: list[Price] = []
    for price in prices:
        if found and (found[-1].until, found[-1].eur_per_kwh) == (
            price.starts_at,
            price.eur_per_kwh,
        ):
            found[-1] = replace(found[-1], until=price.until)
        else:
            found.append(price)
    return found


@pytest.mark.parametrize(
    ("day", "night_until", "hours"),
    [
        (date(2026, 1, 15), "05:00", 24),
        (date(2026, 3, 29), "04:00", 23),
        (date(2026, 10, 25), "05:00", 25),
    ],
)
async def test_bands_follow_the_wall_on_days_of_23_24_and_25_hours(
    day: date, night_until: str, hours: int
) -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    until = start + timedelta(hours=hours)
    prices = joined(await tariff_source(NIGHT).prices(start, until))
    assert [p.eur_per_kwh for p in prices] == [0.2, 0.3, 0.2]
    assert prices[0].until == utc(f"{day.isoformat()}T{night_until}")
    assert until - prices[2].starts_at == 2 * HOUR
    assert sum((p.until - p.starts_at for p in prices), timedelta()) == hours * HOUR


async def test_the_first_band_that_holds_counts() -> None:
    saturday = utc("2026-01-16T23:00")
    prices = joined(await tariff_source(NIGHT).prices(saturday, saturday + timedelta(days=1)))
    assert [p.eur_per_kwh for p in prices] == [0.1]


@settings(max_examples=40)
@given(
    st.integers(0, 365 * 86400),
    st.integers(1, 3 * 86400),
    st.lists(
        st.builds(
            Band,
            starts=st.sampled_from(["00:00", "06:15", "22:00"]),
            until=st.sampled_from(["05:30", "12:00", "24:00"]),
            eur_per_kwh=st.sampled_from([0.1, 0.2]),
        ),
        max_size=3,
    ),
)
async def test_time_of_use_leaves_no_gap(offset_s: int, seconds: int, bands: list[Band]) -> None:
    source = TimeOfUseTariff(
        TimeOfUseOptions(time_zone="Europe/Berlin", eur_per_kwh=0.3, bands=tuple(bands))
    )
    first = utc("2026-01-01T00:00") + timedelta(seconds=offset_s)
    await check_cover(source, first, first + timedelta(seconds=seconds))


async def check_cover(source: Any, start: datetime, until: datetime) -> None:
    """Every instant has one price, and a later question finds the very same slots."""
    prices = await source.prices(start, until)
    for earlier, later in pairwise(prices):
        assert earlier.until == later.starts_at
    assert prices[0].starts_at <= start < prices[0].until
    assert prices[-1].starts_at < until <= prices[-1].until
    again = await source.prices(start + timedelta(minutes=25), until + timedelta(minutes=50))
    assert [p for p in again if p.starts_at < until] == [
        p for p in prices if p.until > start + timedelta(minutes=25)
    ]


# --- recorded ------------------------------------------------------------------------------------


async def test_the_recorded_danish_year_is_complete() -> None:
    source = tariff_source({"type": "file", "dataset": "dk1_prices_2024"})
    start, until = utc("2023-12-31T23:00"), utc("2024-12-31T23:00")
    prices = await source.prices(start, until)
    check_order(prices, start, until)
    assert len(prices) == 8784
    assert sum((p.until - p.starts_at for p in prices), timedelta()) == until - start
    assert prices[0].eur_per_kwh == pytest.approx(0.01699)
    assert min(p.eur_per_kwh for p in prices) < 0 < max(p.eur_per_kwh for p in prices) < 1


async def test_outside_a_recording_there_are_no_prices_unless_it_is_replayed() -> None:
    start = utc("2026-06-15T00:00")
    until = start + timedelta(days=1)
    plain = tariff_source({"type": "file", "dataset": "dk1_prices_2024"})
    replayed = tariff_source({"type": "file", "dataset": "dk1_prices_2024", "replay": True})
    assert await plain.prices(start, until) == []
    found = await replayed.prices(start, until)
    back = timedelta(weeks=104)
    recorded = await plain.prices(start - back, until - back)
    assert [(p.starts_at - back, p.eur_per_kwh) for p in found] == [
        (p.starts_at, p.eur_per_kwh) for p in recorded
    ]
    assert len(found) == 24


@settings(max_examples=40)
@given(
    st.integers(-3000, 3000) | st.integers(-170, -160) | st.integers(195, 205), st.integers(1, 60)
)
async def test_a_replay_never_leaves_a_gap(days: int, hours: int) -> None:
    start = utc("2024-06-15T00:00") + timedelta(days=days, minutes=7 * hours)
    await check_cover(REPLAY, start, start + timedelta(hours=hours))


REPLAY = tariff_source({"type": "file", "dataset": "dk1_prices_2024", "replay": True})


async def test_a_recorded_day_is_given_for_a_chosen_one() -> None:
    plain = tariff_source({"type": "file", "dataset": "dk1_prices_2024"})
    moved = tariff_source(
        {
            "type": "file",
            "dataset": "dk1_prices_2024",
            "replay_date": "2024-03-05",
            "replay_as": "2026-11-24",
        }
    )
    found = await moved.prices(utc("2026-11-24T06:00"), utc("2026-11-24T09:00"))
    recorded = await plain.prices(utc("2024-03-05T06:00"), utc("2024-03-05T09:00"))
    assert [p.eur_per_kwh for p in found] == [p.eur_per_kwh for p in recorded]
    assert found[0].starts_at == utc("2026-11-24T06:00")


async def test_a_file_of_quarter_hours_in_eur_per_kwh_is_read(tmp_path: Path) -> None:
    text = (
        "start,A,B\n2026-01-01T00:00:00Z,0.1,\n2026-01-01 00:15,0.2,1\n2026-01-01T00:45Z,-0.3,2\n"
    )
    plain, packed = tmp_path / "p.csv", tmp_path / "p.csv.gz"
    plain.write_text(text, encoding="utf-8-sig")
    packed.write_bytes(gzip.compress(text.encode()))
    start = utc("2026-01-01T00:00")
    for path in (plain, packed):
        source = tariff_source({"type": "file", "path": str(path), "unit": "eur_per_kwh"})
        prices = await source.prices(start, start + HOUR)
        assert [(p.starts_at.minute, p.until.minute, p.eur_per_kwh) for p in prices] == [
            (0, 15, 0.1),
            (15, 30, 0.2),
            (45, 0, -0.3),
        ]
    source = tariff_source({"type": "file", "path": str(plain), "column": "B", "vat_share": 0.5})
    prices = await source.prices(start, start + HOUR)
    assert [p.eur_per_kwh for p in prices] == pytest.approx([0.0015, 0.003])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("t,A\nyesterday,1\n", "line 2, t"),
        ("t,A\n2026-01-01T00:00Z,x\n", "line 2, A"),
        ("t,A\n2026-01-01T00:00Z,nan\n", "line 2, A"),
        ("t,A\n2026-01-01T00:00Z,1,2\n", "line 2"),
        ("t,B\n2026-01-01T00:00Z,1\n", "column"),
        ("", "column"),
        ("t,A\n2026-01-01T00:00Z,1\n2026-01-01T00:00Z,2\n", "only once"),
        ("t,A\n2026-01-01T00:00Z,99999\n", "between"),
    ],
)
async def test_a_bad_file_is_refused_by_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    source = tariff_source({"type": "file", "path": str(path), "column": "A"})
    with pytest.raises(ProviderError, match=says):
        await source.prices(utc("2026-01-01T00:00"), utc("2026-01-01T01:00"))


async def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv.gz"
    path.write_bytes(b"no archive")
    source = tariff_source({"type": "file", "path": str(path)})
    with pytest.raises(ProviderError, match="cannot be read"):
        await source.prices(utc("2026-01-01T00:00"), utc("2026-01-01T01:00"))


# --- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"type": "spot"}, r"\[t\] type is 'spot'; permitted: fixed, time_of_use, file, http_json"),
        ({}, "permitted: fixed"),
        ({"type": ["fixed"]}, "permitted: fixed"),
        ({"type": "fixed"}, "eur_per_kwh is missing"),
        ({"type": "fixed", "eur_per_kwh": 1e9}, "eur_per_kwh"),
        ({"type": "fixed", "eur_per_kwh": float("nan")}, "eur_per_kwh"),
        ({"type": "fixed", "eur_per_kwh": 0.3, "vat": 1}, "vat is not known; permitted: eur_per"),
        ({"type": "time_of_use", "eur_per_kwh": 0.3, "time_zone": "Mars/Base"}, "time_zone"),
        (
            {
                "type": "time_of_use",
                "eur_per_kwh": 0.3,
                "bands": [{"starts": "06:10", "until": "12:00", "eur_per_kwh": 0.1}],
            },
            r"bands\.0\.starts",
        ),
        ({"type": "file"}, "path or dataset"),
        ({"type": "file", "dataset": "mars"}, "dk1_prices_2024"),
        ({"type": "file", "path": "/nowhere/p.csv"}, "/nowhere/p.csv"),
        ({"type": "file", "dataset": "dk1_prices_2024", "replay_as": "2026-01-01"}, "replay_date"),
        ({"type": "http_json", "format": "spot"}, "format: permitted: energinet"),
        ({"type": "http_json", "format": "energinet"}, "needs area"),
        ({"type": "http_json", "format": "octopus"}, "needs url"),
        ({"type": "http_json", "format": "tibber", "series": "tax"}, "total, energy"),
        ({"type": "http_json", "format": "awattar", "eur_per_unit": 0}, "eur_per_unit"),
    ],
)
def test_a_bad_section_names_the_key_and_what_is_right(
    section: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        tariff_source(section, name="t")


def test_a_secret_is_never_in_a_message() -> None:
    section = {"type": "http_json", "format": "awattar", "token": {"a": "s3cret"}, "x": "s3cret"}
    with pytest.raises(ConfigError) as refused:
        tariff_source(section)
    assert "s3cret" not in str(refused.value)


async def test_an_installed_package_adds_a_type_but_cannot_replace_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "house_tariff.py").write_text(PACKAGE, encoding="utf-8")
    dist = tmp_path / "house_tariff-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: house-tariff\nVersion: 1\n")
    (dist / "entry_points.txt").write_text(
        "[tasco.tariff]\nhouse = house_tariff:HOUSE\nfixed = house_tariff:HOUSE\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    start, until = utc("2026-01-01T00:00"), utc("2026-01-01T01:00")
    house = tariff_source({"type": "house", "cents": 12}, name="t")
    assert [p.eur_per_kwh for p in await house.prices(start, until)] == [0.12]
    ours = tariff_source({"type": "fixed", "eur_per_kwh": 0.3})
    assert [p.eur_per_kwh for p in await ours.prices(start, until)] == [0.3]
    with pytest.raises(ConfigError, match="cents"):
        tariff_source({"type": "house", "cents": "many"}, name="t")
    with pytest.raises(ConfigError, match="http_json, house"):
        tariff_source({"type": "castle"}, name="t")


PACKAGE = """
from pydantic import BaseModel
from csms.core.model import Price
from csms.providers.registry import Provider

class Options(BaseModel):
    cents: int

class House:
    def __init__(self, options):
        self.options = options

    async def prices(self, start, until):
        return [Price(starts_at=start, until=until, eur_per_kwh=self.options.cents / 100)]

HOUSE = Provider(options=Options, build=lambda options, context: House(options))
"""


def test_prices_in_eur_are_left_alone(sample: Load) -> None:
    read = Reader("test")
    payload = sample("nordpool/day-ahead-hourly-se3.json")
    parsed = FORMATS["nordpool"].parse(payload, Choice(area="SE3"), read)
    assert eur(parsed, eur_per_unit=2.0, read=read) == parsed
