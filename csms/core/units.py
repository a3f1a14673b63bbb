"""Conversions between amperes, watts, kilowatts, watt-hours and slots; nowhere else.

Meter readings stay in Wh, plans are in kW and kWh. Power drawn from the grid is positive.
Currents are per phase (OCPP 2.0.1 part 2, ChargingRateUnitEnumType).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

SLOT_S = 900
MIN_CURRENT_A = 6.0
"""Smallest current a control pilot can offer (IEC 61851-1); below it there is only 0."""

_EPSILON = 1e-9


def w_from_a(current_a: float, *, phases: int, voltage_v: float) -> float:
    """Return the power of `current_a` on each of `phases`, line to neutral."""
    return current_a * phases * voltage_v


def a_from_w(power_w: float, *, phases: int, voltage_v: float) -> float:
    """Return the current per phase that draws `power_w`."""
    return power_w / (phases * voltage_v)


def floor_to(value: float, step: float) -> float:
    """Return `value` rounded down to a multiple of `step`, in the step's own decimals."""
    # Down, never to nearest: a plan at the site limit must not exceed it after rounding. The
    # epsilon keeps 16.1 A from becoming 16.0 A through its binary representation.
    return round(int(value / step + _EPSILON) * step, 6)


def floor_tenth(value: float) -> float:
    """Return `value` rounded down to 0.1, the resolution of a schedule limit (OCPP 1.6 §7.13)."""
    return int(value * 10 + _EPSILON) / 10


def slot_start(at: datetime, *, slot_s: int = SLOT_S) -> datetime:
    """Return the start of the slot that holds `at`; slots are aligned to the Unix epoch."""
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % slot_s, UTC)


def slot_starts(start: datetime, until: datetime, *, slot_s: int = SLOT_S) -> Iterator[datetime]:
    """Yield the slot starts from the slot that holds `start` to before `until`."""
    at = slot_start(start, slot_s=slot_s)
    while at < until:
        yield at
        at += timedelta(seconds=slot_s)


def each_phase(current_a: tuple[float, ...]) -> tuple[float, ...]:
    """Return currents of L1 to L3, A; one that is told alone is that of each of the phases."""
    return current_a * 3 if len(current_a) == 1 else current_a
