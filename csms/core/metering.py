"""What meters of a site tell: readings as they come, quarter hours of them, what is expected.

A meter measures what draws beside the EVSEs ("load"), at a site's connection or on one of its
circuits, or what the site generates ("solar"). Loads are never net of own generation: what a panel
gives, a cloud takes, and the fuses have to bear it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from math import isfinite

from csms.core.units import each_phase

LOAD, SOLAR = "load", "solar"
KINDS = (LOAD, SOLAR)

KEPT = timedelta(days=35)
"""Readings are kept, and taken, for so long: a billing month and some days to send it late."""
AHEAD = timedelta(seconds=60)
"""A meter's clock may be fast by this much."""
MOST_KW = 100_000.0
LONGEST_POINT = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a meter showed at an instant: its sum, and the current of each phase if it tells them.

    `current_a` has one number per phase, L1 to L3, or none.
    """

    at: datetime
    power_kw: float
    current_a: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarter:
    """A quarter hour of a meter's readings: the mean, which is billed, and the highest of them."""

    starts_at: datetime
    mean_kw: float
    most_kw: float
    most_a: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A load, or own generation, as somebody forecasts it for [starts_at, until).

    `power_kw` is the mean that is expected, `high_kw` what nine of ten cases stay below.
    """

    starts_at: datetime
    until: datetime
    power_kw: float
    high_kw: float | None = None


def reading_of(
    at: datetime,
    power_kw: float | None,
    current_a: tuple[float, ...],
    *,
    voltage_v: float,
) -> Reading:
    """Return a reading with what is told of power and currents; one current is that of each phase.

    Where only currents are told, power is their sum times `voltage_v`.
    """
    phases = each_phase(current_a)
    if power_kw is None:
        power_kw = sum(phases) * voltage_v / 1000.0
    return Reading(at=at, power_kw=power_kw, current_a=phases)


def wrong_with(
    at: datetime, power_kw: float | None, current_a: tuple[float, ...], *, now: datetime
) -> str:
    """Return what is wrong with a reading, in words; "" if nothing is."""
    if power_kw is None and not current_a:
        return "has neither power_kw nor current_a"
    if len(current_a) not in (0, 1, 3):
        return f"current_a has {len(current_a)} numbers; it must have 1 or 3"
    for name, values, most in (
        ("power_kw", () if power_kw is None else (power_kw,), MOST_KW),
        ("current_a", current_a, MOST_KW),
    ):
        for value in values:
            if isfinite(value) and value < 0:
                return (
                    f"{name} is {value:g}; it must not be negative: own generation is reported by "
                    "a meter of its own"
                )
            if not isfinite(value) or value > most:
                return f"{name} is {value:g}; it must be a number up to {most:g}"
    if at > now + AHEAD:
        return f"at is {at:%Y-%m-%dT%H:%M:%SZ}, which is in the future"
    if at < now - KEPT:
        return f"at is {at:%Y-%m-%dT%H:%M:%SZ}; readings older than {KEPT.days} days are not kept"
    return ""


def wrong_series(points: Sequence[Expected]) -> str:
    """Return what is wrong with a forecast series, in words; "" if nothing is."""
    for n, point in enumerate(points):
        if not point.starts_at < point.until <= point.starts_at + LONGEST_POINT:
            return f"point {n}: until must be after starts_at, by at most a day"
        for name, value in (("power_kw", point.power_kw), ("high_kw", point.high_kw)):
            if value is not None and not (isfinite(value) and 0 <= value <= MOST_KW):
                return f"point {n}: {name} is {value:g}; it must be between 0 and {MOST_KW:g}"
        if point.high_kw is not None and point.high_kw < point.power_kw:
            return f"point {n}: high_kw is {point.high_kw:g}, below power_kw"
    for n, (one, two) in enumerate(pairwise(points)):
        if two.starts_at < one.until:
            return f"point {n + 1} begins before the one in front of it ends"
    return ""
