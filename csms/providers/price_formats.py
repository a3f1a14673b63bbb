"""Day-ahead prices as their providers write them: each parser turns one answer into slots.

A parser returns the currency and the price per kWh in it; fees, taxes and exchange rates are
added by configuration, never here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from csms.providers.slots import Reader, Slot

HOUR: Final = timedelta(hours=1)
QUARTER: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """Prices per kWh in `currency`; `is_open` where slots may last until further notice."""

    slots: list[Slot]
    currency: str = "EUR"
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to take of an answer that holds several series; "" takes the format's usual one."""

    area: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFormat:
    """A named format: its parser, where it is served, and what has to be configured.

    `url` is a template (HttpAccess.addresses): {start} and {until}, both also as _minute, _s and
    _ms, {area}, {date} (asked once per market day) and {next_date}; "" has to be configured.
    `series` lists what `Choice.series` permits.
    """

    parse: Callable[[object, Choice, Reader], Parsed]
    url: str
    needs_area: bool = False
    series: tuple[str, ...] = ()
    query: str = ""
    """A GraphQL query to POST instead of a GET."""


def energinet(payload: object, choice: Choice, read: Reader) -> Parsed:
    """Read Energi Data Service: DayAheadPrices (quarter hours), or Elspotprices until 2025."""
    slots = []
    records = read.members(payload, "answer").get("records")
    for where, record in read.of_area(records, choice.area):
        is_hourly = "HourUTC" in record
        time_name, price_name = (
            ("HourUTC", "SpotPriceEUR") if is_hourly else ("TimeUTC", "DayAheadPriceEUR")
        )
        starts_at = read.instant(record.get(time_name), f"{where}.{time_name}", is_utc=True)
        price = record.get(price_name)
        if price is None and price_name in record:
            continue
        value = read.number(price, f"{where}.{price_name}") / 1000
        length = HOUR if is_hourly else QUARTER
        slots.append(Slot(starts_at=starts_at, until=starts_at + length, value=value))
    return Parsed(slots=slots)


def awattar(payload: object, choice: Choice, read: Reader) -> Parsed:
    """Read aWATTar market data: milliseconds, EUR/MWh."""
    slots = []
    for where, entry in read.objects(read.members(payload, "answer").get("data"), "data"):
        _per_mwh(entry.get("unit"), f"{where}.unit", read)
        slots.append(
            Slot(
                starts_at=read.epoch(
                    entry.get("start_timestamp"), f"{where}.start_timestamp", per_s=1000
                ),
                until=read.epoch(entry.get("end_timestamp"), f"{where}.end_timestamp", per_s=1000),
                value=read.number(entry.get("marketprice"), f"{where}.marketprice") / 1000,
            )
        )
    return Parsed(slots=slots)


def energy_charts(payload: object, choice: Choice, read: Reader) -> Parsed:
    """Read energy-charts `/price`: two parallel lists, EUR/MWh; null leaves a gap."""
    answer = read.members(payload, "answer")
    _per_mwh(answer.get("unit"), "unit", read)
    stamps = read.items(answer.get("unix_seconds"), "unix_seconds")
    prices = read.items(answer.get("price"), "price")
    if len(stamps) != len(prices):
        raise read.error("price", f"{len(prices)} values", f"{len(stamps)} like unix_seconds")
    points = [
        (
            read.epoch(stamp, f"unix_seconds[{index}]"),
            read.number(price, f"price[{index}]") / 1000,
        )
        for index, (stamp, price) in enumerate(zip(stamps, prices, strict=True))
        if price is not None
    ]
    return Parsed(slots=read.with_ends(points, usual=QUARTER, where="unix_seconds"))


def elering(payload: object, choice: Choice, read: Reader) -> Parsed:
    """Read Elering `nps/price`: seconds, EUR/MWh, one list per area."""
    areas = read.members(read.members(payload, "answer").get("data"), "data")
    area = choice.area.lower()
    if area not in areas:
        raise read.error("data", sorted(areas), f"an object with the area {area!r}")
    points = [
        (
            read.epoch(entry.get("timestamp"), f"{where}.timestamp"),
            read.number(entry.get("price"), f"{where}.price") / 1000,
        )
        for where, entry in read.objects(areas[area], f"data.{area}")
    ]
    return Parsed(slots=read.with_ends(points, usual=QUARTER, where=f"data.{area}"))


def octopus(payload: object, choice: Choice, read: Reader) -> Parsed:
    """Read Octopus unit rates: pence without VAT, valid from-to or until further notice.

    The series is the payment method; rates without one hold for all.
    """
    method = choice.series or "DIRECT_DEBIT"
    slots = []
    answer = read.members(payload, "answer")
    if answer.get("next") is not None:
        raise read.error("next", answer["next"], "null; ask for all with page_size")
    for where, rate in read.objects(answer.get("results"), "results"):
        if rate.get("payment_method") not in (None, method):
            continue
        until = rate.get("valid_to")
        slots.append(
            Slot(
                starts_at=read.instant(rate.get("valid_from"), f"{where}.valid_from"),
                until=None if until is None else read.instant(until, f"{where}.valid_to"),
                value=read.number(rate.get("value_exc_vat"), f"{where}.value_exc_vat") / 100,
            )
        )
    return Parsed(slots=slots, currency="GBP", is_open=True)


def tibber(payload: object, choice: Choice, read: Reader) -> Parsed:
    """Read Tibber's price query: today and, once it is published, tomorrow, per kWh."""
    viewer = _at(payload, ("data", "viewer"), read)
    home = viewer.get("home")
    if home is None:
        homes = read.items(viewer.get("homes"), "data.viewer.homes")
        home = homes[0] if homes else None
    info = _at(home, ("currentSubscription", "priceInfo"), read)
    series = choice.series or "total"
    currencies, points = set(), []
    for day in ("today", "tomorrow"):
        for where, entry in read.objects(info.get(day), f"priceInfo.{day}"):
            starts_at = read.instant(entry.get("startsAt"), f"{where}.startsAt")
            points.append((starts_at, read.number(entry.get(series), f"{where}.{series}")))
            currencies.add(str(entry.get("currency") or "EUR"))
    if len(currencies) > 1:
        raise read.error("currency", sorted(currencies), "the same for all prices")
    return Parsed(
        slots=read.with_ends(points, usual=HOUR, where="priceInfo"),
        currency=currencies.pop() if currencies else "EUR",
    )


def nordpool(payload: object, choice: Choice, read: Reader) -> Parsed:
    """Read Nord Pool's data portal: one delivery day, a price per MWh and area."""
    answer = read.members(payload, "answer")
    areas = read.items(answer.get("deliveryAreas"), "deliveryAreas")
    if choice.area not in areas:
        raise read.error("deliveryAreas", areas, f"a list with the area {choice.area!r}")
    slots = []
    for where, entry in read.objects(answer.get("multiAreaEntries"), "multiAreaEntries"):
        prices = read.members(entry.get("entryPerArea"), f"{where}.entryPerArea")
        price = prices.get(choice.area)
        if price is None:
            continue
        slots.append(
            Slot(
                starts_at=read.instant(entry.get("deliveryStart"), f"{where}.deliveryStart"),
                until=read.instant(entry.get("deliveryEnd"), f"{where}.deliveryEnd"),
                value=read.number(price, f"{where}.entryPerArea.{choice.area}") / 1000,
            )
        )
    currency = answer.get("currency")
    if not isinstance(currency, str):
        raise read.error("currency", currency, "a currency such as EUR")
    return Parsed(slots=slots, currency=currency)


def energyzero(payload: object, choice: Choice, read: Reader) -> Parsed:
    """Read EnergyZero: four parallel lists of EUR/kWh as text; the series names the list."""
    series = choice.series or "base"
    entries = read.members(payload, "answer").get(series)
    slots = []
    for where, entry in read.objects(entries, series):
        price = read.members(entry.get("price"), f"{where}.price")
        slots.append(
            Slot(
                starts_at=read.instant(entry.get("start"), f"{where}.start"),
                until=read.instant(entry.get("end"), f"{where}.end"),
                value=read.number(price.get("value"), f"{where}.price.value", is_text=True),
            )
        )
    return Parsed(slots=slots)


def _per_mwh(unit: object, where: str, read: Reader) -> None:
    plain = unit.replace(" ", "").lower() if isinstance(unit, str) else ""
    if plain != "eur/mwh":
        raise read.error(where, unit, "EUR/MWh")


def _at(payload: object, path: tuple[str, ...], read: Reader) -> Mapping[str, object]:
    found, where = read.members(payload, "answer"), ""
    for name in path:
        where = f"{where}.{name}".lstrip(".")
        found = read.members(found.get(name), where)
    return found


def eur(parsed: Parsed, *, eur_per_unit: float | None, read: Reader) -> Parsed:
    """Return the prices in EUR; `eur_per_unit` converts another currency where configured."""
    if parsed.currency == "EUR":
        return parsed
    if eur_per_unit is None:
        raise read.error("the currency", parsed.currency, "EUR, or eur_per_unit must be configured")
    return replace(
        parsed,
        currency="EUR",
        slots=[replace(slot, value=slot.value * eur_per_unit) for slot in parsed.slots],
    )


_TIBBER_QUERY: Final = (
    "{viewer{homes{currentSubscription{priceInfo(resolution:QUARTER_HOURLY){"
    "today{total energy tax startsAt currency} tomorrow{total energy tax startsAt currency}}}}}}"
)

FORMATS: Final[Mapping[str, PriceFormat]] = {
    "energinet": PriceFormat(
        parse=energinet,
        url="https://api.energidataservice.dk/dataset/DayAheadPrices?start={start_minute}"
        "&end={until_minute}&timezone=UTC&limit=0&filter=%7B%22PriceArea%22%3A%5B%22{area}%22%5D%7D",
        needs_area=True,
    ),
    "awattar": PriceFormat(
        parse=awattar,
        url="https://api.awattar.de/v1/marketdata?start={start_ms}&end={until_ms}",
    ),
    "energy_charts": PriceFormat(
        parse=energy_charts,
        url="https://api.energy-charts.info/price?bzn={area}&start={start_s}&end={until_s}",
        needs_area=True,
    ),
    "elering": PriceFormat(
        parse=elering,
        url="https://dashboard.elering.ee/api/nps/price?start={start}&end={until}",
        needs_area=True,
    ),
    "octopus": PriceFormat(
        parse=octopus,
        url="",
        series=("DIRECT_DEBIT", "NON_DIRECT_DEBIT"),
    ),
    "tibber": PriceFormat(
        parse=tibber,
        url="https://api.tibber.com/v1-beta/gql",
        series=("total", "energy"),
        query=_TIBBER_QUERY,
    ),
    "nordpool": PriceFormat(
        parse=nordpool,
        url="https://dataportal-api.nordpoolgroup.com/api/DayAheadPrices?date={date}"
        "&market=DayAhead&deliveryArea={area}&currency=EUR",
        needs_area=True,
    ),
    "energyzero": PriceFormat(
        parse=energyzero,
        url="",
        series=("base", "base_with_vat", "all_in", "all_in_with_vat"),
    ),
}
