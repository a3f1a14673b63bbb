"""Tariffs in OCPP 2.1's words, and what a session costs by one.

A tariff is the 2.1 TariffType as it goes on the wire: a mapping that stations keep, show and
calculate by. Money is counted in decimal fractions and rounded once, at the end, to the cent.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

from csms.core.model import Price

Tariff = Mapping[str, Any]

MAX_ELEMENTS = 100
"""Prices in one tariff where a station has not said how many it takes."""

_CENT = Decimal("0.01")
_NO_CENT = Decimal("0.005")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PARTS = ("energy", "chargingTime", "idleTime", "fixedFee", "reservationTime", "reservationFixed")
_SECONDS = Decimal(60)
_WH = Decimal(1000)


def with_id(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` under an id that is its own: other content, other id (2.1 I01)."""
    plain = {name: value for name, value in content.items() if name != "tariffId"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return {"tariffId": "t-" + blake2b(text.encode(), digest_size=12).hexdigest(), **plain}


def flat(eur_per_kwh: float, *, currency: str = "EUR") -> dict[str, Any]:
    """Return a tariff of one price for energy."""
    return with_id(
        {"currency": currency, "energy": {"prices": [{"priceKwh": _plain(eur_per_kwh)}]}}
    )


def by_time(
    prices: Sequence[Price], *, time_zone: str, currency: str = "EUR", otherwise: float
) -> dict[str, Any]:
    """Return a tariff of what energy costs when, from a series of prices.

    Each price holds on its own local day from and to a time of it; neighbours that cost the same
    are one. Outside of them `otherwise` holds, which stands last: the first that fits counts.
    """
    zone = ZoneInfo(time_zone)
    found: list[dict[str, Any]] = []
    for begins, ends, price in _merged(prices):
        for start, end in _days(begins.astimezone(zone), ends.astimezone(zone)):
            conditions = {
                "validFromDate": f"{start:%Y-%m-%d}",
                "validToDate": f"{start.date() + timedelta(days=1):%Y-%m-%d}",
            }
            if (start.hour, start.minute) != (0, 0):
                conditions["startTimeOfDay"] = f"{start:%H:%M}"
            if (end.hour, end.minute) != (0, 0):
                conditions["endTimeOfDay"] = f"{end:%H:%M}"
            found.append({"priceKwh": price, "conditions": conditions})
    if not found:
        return flat(otherwise, currency=currency)
    found.append({"priceKwh": _plain(otherwise)})
    return with_id({"currency": currency, "energy": {"prices": found}})


def simpler(tariff: Tariff) -> dict[str, Any] | None:
    """Return a tariff that says less of the same, None where there is nothing left to leave out.

    Price elements with conditions become one: the dearest, so that nobody pays more than shown.
    """
    content = {name: value for name, value in tariff.items() if name != "tariffId"}
    is_less = False
    for part in _PARTS:
        prices = content.get(part, {}).get("prices", ())
        if len(prices) > 1:
            name = next(key for key in prices[0] if key.startswith("price"))
            dearest = max(price[name] for price in prices)
            content[part] = {**content[part], "prices": [{name: dearest}]}
            is_less = True
    return with_id(content) if is_less else None


def elements(tariff: Tariff) -> int:
    """Return how many prices a tariff is made of."""
    return sum(len(tariff.get(part, {}).get("prices", ())) for part in _PARTS)


def _merged(prices: Iterable[Price]) -> list[tuple[datetime, datetime, float]]:
    found: list[tuple[datetime, datetime, float]] = []
    for price in sorted(prices, key=lambda p: p.starts_at):
        value = _plain(price.eur_per_kwh)
        if found and found[-1][1] == price.starts_at and found[-1][2] == value:
            found[-1] = (found[-1][0], price.until, value)
        else:
            found.append((price.starts_at, price.until, value))
    return found


def _days(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Return [start, end) cut at local midnights."""
    found = []
    while start < end:
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        until = min(midnight + timedelta(days=1), end)
        found.append((start, until))
        start = until
    return found


def _plain(value: float) -> float:
    # Five decimals of a euro: stations refuse or round away what is longer.
    return round(value, 5)


# --- what a session costs ------------------------------------------------------------------------


class CostVerdict(StrEnum):
    """What came of calculating a station's costs once more."""

    EQUAL = "equal"
    COST_DIFFERS = "cost_differs"
    ENERGY_DIFFERS = "energy_differs"
    UNKNOWN_TARIFF = "unknown_tariff"
    NOT_CALCULATED = "not_calculated"


ENERGY_TOLERANCE_WH = 50.0
"""Two readings of one meter at almost the same instant differ by no more."""


def verdict(
    details: Mapping[str, Any],
    tariffs: Mapping[str, Tariff],
    *,
    time_zone: str,
    energy_wh: float | None = None,
) -> tuple[CostVerdict, Decimal | None]:
    """Return whether a 2.1 CostDetails is right, and our own total without tax, to the cent.

    `tariffs` are those we gave, by id; `energy_wh` is what the session's meter gave in all.
    """
    if details.get("failureToCalculate"):
        return CostVerdict.NOT_CALCULATED, None
    periods = details.get("chargingPeriods", ())
    if any(period.get("tariffId") not in tariffs for period in periods):
        return CostVerdict.UNKNOWN_TARIFF, None
    own = total(periods, tariffs, time_zone=time_zone)
    told = details["totalCost"]["total"].get("exclTax")
    if told is None or abs(Decimal(str(told)) - own) >= _NO_CENT:
        return CostVerdict.COST_DIFFERS, own
    taken_wh = sum(_volumes(period).get("Energy", Decimal(0)) for period in periods)
    if energy_wh is not None and abs(float(taken_wh) - energy_wh) > ENERGY_TOLERANCE_WH:
        return CostVerdict.ENERGY_DIFFERS, own
    return CostVerdict.EQUAL, own


def total(
    periods: Sequence[Mapping[str, Any]], tariffs: Mapping[str, Tariff], *, time_zone: str
) -> Decimal:
    """Return what charging periods cost without tax, to the cent: Wh, seconds and fixed fees.

    A fixed fee is due once per tariff. A tariff's least and most hold for the whole.
    """
    zone = ZoneInfo(time_zone)
    sum_eur = Decimal(0)
    used: dict[str, Tariff] = {}
    for period in periods:
        tariff = tariffs[period["tariffId"]]
        at = _instant(period["startPeriod"]).astimezone(zone)
        volumes = _volumes(period)
        sum_eur += _price(tariff, "energy", "priceKwh", at) * volumes.get("Energy", 0) / _WH
        for part, dimension in (("chargingTime", "ChargingTime"), ("idleTime", "IdleTime")):
            minutes = volumes.get(dimension, Decimal(0)) / _SECONDS
            sum_eur += _price(tariff, part, "priceMinute", at) * minutes
        if period["tariffId"] not in used:
            sum_eur += _price(tariff, "fixedFee", "priceFixed", at)
        used[period["tariffId"]] = tariff
    for tariff in used.values():
        least, most = (_amount(tariff, name) for name in ("minCost", "maxCost"))
        sum_eur = sum_eur if least is None else max(sum_eur, least)
        sum_eur = sum_eur if most is None else min(sum_eur, most)
    return sum_eur.quantize(_CENT, ROUND_HALF_UP)


def _volumes(period: Mapping[str, Any]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for dimension in period.get("dimensions", ()):
        # The schema's own spelling of the idle time is "IdleTIme".
        name = "IdleTime" if dimension["type"] == "IdleTIme" else dimension["type"]
        found[name] = found.get(name, Decimal(0)) + Decimal(str(dimension["volume"]))
    return found


def _amount(tariff: Tariff, name: str) -> Decimal | None:
    value = tariff.get(name, {}).get("exclTax")
    return None if value is None else Decimal(str(value))


def _price(tariff: Tariff, part: str, name: str, at: datetime) -> Decimal:
    """Return the first price of a part whose conditions fit the local time `at`."""
    for price in tariff.get(part, {}).get("prices", ()):
        if _fits(price.get("conditions", {}), at):
            return Decimal(str(price[name]))
    return Decimal(0)


def _fits(conditions: Mapping[str, Any], at: datetime) -> bool:
    days = conditions.get("dayOfWeek")
    if days is not None and _DAYS[at.weekday()] not in days:
        return False
    date, time = f"{at:%Y-%m-%d}", f"{at:%H:%M}"
    if not conditions.get("validFromDate", date) <= date:
        return False
    if "validToDate" in conditions and not date < conditions["validToDate"]:
        return False
    start, end = conditions.get("startTimeOfDay", "00:00"), conditions.get("endTimeOfDay", "24:00")
    if start <= end:
        return bool(start <= time < end)
    # A time of day that ends before it starts runs over midnight.
    return bool(time >= start or time < end)


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text.upper())
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
