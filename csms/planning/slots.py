"""Slots of a planning case and what the store's series say in each of them."""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from math import isfinite
from zoneinfo import ZoneInfo

from csms.core.model import CarbonIntensity, Price
from csms.core.units import slot_start, slot_starts

FLAT_EUR_PER_KWH = 0.30
SHORTEST_SLOT = timedelta(seconds=60)


def edges(now: datetime, *, horizon_h: float, slot_s: int) -> tuple[datetime, ...]:
    """Return `now`, then the slot boundaries up to the horizon.

    Less than a minute before a boundary the plan begins there, and until then all stays as it is:
    no station follows more finely, and what ends at the boundary frees no room before it.
    """
    step = timedelta(seconds=slot_s)
    first = slot_start(now, slot_s=slot_s) + step
    boundaries = tuple(first + step * i for i in range(round(horizon_h * 3600 / slot_s) + 1))
    return boundaries if first - now < SHORTEST_SLOT else (now, *boundaries[:-1])


def highest(
    per_quarter: Mapping[datetime, float], edges_at: tuple[datetime, ...], *, otherwise: float
) -> tuple[float, ...]:
    """Return the highest of the quarter hours that each slot touches, never below 0, (slots,)."""
    return tuple(
        max(0.0, *(_finite(per_quarter.get(at), otherwise) for at in slot_starts(start, end)))
        for start, end in pairwise(edges_at)
    )


def reserve_series(
    per_quarter: Mapping[datetime, float], edges_at: tuple[datetime, ...]
) -> tuple[float, ...]:
    """Return the headroom to keep for cars yet to arrive in each slot, (slots,) kW.

    None in the running slot: whoever arrives in it is planned for at once and has its share then,
    while room that is kept free until then is lost to everyone.
    """
    return (0.0, *highest(per_quarter, edges_at, otherwise=0.0)[1:])


def _finite(value: float | None, otherwise: float) -> float:
    return value if value is not None and isfinite(value) else otherwise


def price_series(
    known: Sequence[Price], edges_at: tuple[datetime, ...], notes: list[str]
) -> tuple[float, ...]:
    """Return the price of each slot; one that is not known is the mean of the rest, and noted."""
    values = _series([(p.starts_at, p.until, p.eur_per_kwh) for p in known], edges_at)
    given = [v for v in values if v is not None]
    flat = sum(given) / len(given) if given else FLAT_EUR_PER_KWH
    missing = next((k for k, v in enumerate(values) if v is None), None)
    if missing is not None:
        at = edges_at[missing]
        notes.append(f"prices missing from {at:%Y-%m-%dT%H:%MZ}: {flat:.4f} EUR/kWh assumed")
    return tuple(flat if v is None else v for v in values)


def carbon_series(
    known: Sequence[CarbonIntensity], edges_at: tuple[datetime, ...]
) -> tuple[float, ...]:
    """Return the carbon intensity of each slot; one that is not known is the mean of the rest."""
    values = _series([(c.starts_at, c.until, c.kg_per_kwh) for c in known], edges_at)
    given = [v for v in values if v is not None]
    flat = sum(given) / len(given) if given else 0.0
    return tuple(flat if v is None else v for v in values)


def _series(
    rows: Sequence[tuple[datetime, datetime, float]], edges_at: tuple[datetime, ...]
) -> list[float | None]:
    """Return the time-weighted mean of `rows` in each slot, None where nothing covers it."""
    values: list[float | None] = []
    k = 0
    rows = [row for row in rows if isfinite(row[2])]
    for start, end in pairwise(edges_at):
        while k < len(rows) and rows[k][1] <= start:
            k += 1
        covered_s, total = 0.0, 0.0
        j = k
        while j < len(rows) and rows[j][0] < end:
            overlap_s = (min(end, rows[j][1]) - max(start, rows[j][0])).total_seconds()
            if overlap_s > 0:
                covered_s += overlap_s
                total += overlap_s * rows[j][2]
            j += 1
        values.append(total / covered_s if covered_s > 0 else None)
    return values


def days_left(now: datetime, time_zone: str) -> float:
    """Return how many days of the billing month are left at a site, the running one counted."""
    local = now.astimezone(ZoneInfo(time_zone))
    return float(monthrange(local.year, local.month)[1] - local.day + 1)
