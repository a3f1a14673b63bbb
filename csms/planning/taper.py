"""The tail of a battery: above a knee it takes less and less, and a plan has to begin earlier.

The assumed curve is the usual constant-current, constant-voltage one: full power up to 80 %, then
linearly down to a tenth at full. What the meter shows overrules it as soon as there is something
to see (csms.service.following).
"""

from datetime import datetime, timedelta
from math import exp, log

from csms.core.model import Need

KNEE_SOC = 0.8
TAIL_SHARE = 0.1
READY_BEFORE = timedelta(minutes=30)
READY_SHARE = 0.5
"""A car is planned to be ready this long before it leaves, or this share of its slack."""


def power_share(soc: float) -> float:
    """Return the share of its full power that a battery takes at `soc` (0..1)."""
    if soc <= KNEE_SOC:
        return 1.0
    return 1.0 - (1.0 - TAIL_SHARE) * _depth(soc)


def charging_time(
    energy_kwh: float, *, soc: float, battery_kwh: float, efficiency: float, max_kw: float
) -> timedelta:
    """Return how long `energy_kwh` at the meter takes from `soc` on at `max_kw` where possible."""
    if energy_kwh <= 0 or max_kw <= 0 or battery_kwh <= 0:
        return timedelta(0)
    per_soc_kwh = battery_kwh / efficiency
    until_soc = min(soc + energy_kwh / per_soc_kwh, 1.0)
    flat_kwh = max(min(until_soc, KNEE_SOC) - soc, 0.0) * per_soc_kwh
    hours = flat_kwh / max_kw
    if until_soc > KNEE_SOC:
        # Power falls linearly with the charge, so the time is the logarithm of its ratio.
        fall = 1.0 - TAIL_SHARE
        began, ends = 1.0 - fall * _depth(max(soc, KNEE_SOC)), 1.0 - fall * _depth(until_soc)
        tail_kwh = (1.0 - KNEE_SOC) * per_soc_kwh
        hours += tail_kwh / (fall * max_kw) * log(began / ends)
    return timedelta(hours=hours)


def ready_by(
    wanted: Need,
    *,
    soc: float,
    battery_kwh: float,
    efficiency: float,
    max_kw: float,
    now: datetime,
) -> datetime:
    """Return when the planned energy has to be through: somewhat before the car leaves.

    The plan counts in full power; the tail of the battery takes longer, and limits rounded down,
    late answers and slow cars each cost a little. So a part of the slack is kept, most of it while
    there is much: near the departure the plan is made of what is left, and the margin shrinks.
    """
    if max_kw <= 0 or wanted.departs_at <= now:
        return wanted.departs_at
    took = charging_time(
        wanted.required_kwh, soc=soc, battery_kwh=battery_kwh, efficiency=efficiency, max_kw=max_kw
    )
    at_full_power = timedelta(hours=wanted.required_kwh / max_kw)
    slack = max(wanted.departs_at - now - took, timedelta(0))
    margin = min(READY_BEFORE, slack * READY_SHARE)
    earliest = min(now + at_full_power, wanted.departs_at)
    return max(wanted.departs_at - (took - at_full_power) - margin, earliest)


def taken_kwh(
    hours: float,
    *,
    soc: float,
    until_soc: float,
    battery_kwh: float,
    efficiency: float,
    max_kw: float,
    limit_kw: float,
) -> float:
    """Return what a battery takes at the meter in `hours` under `limit_kw`, up to `until_soc`.

    `max_kw` is what it takes below the knee where nothing limits it.
    """
    most_kw = min(limit_kw, max_kw)
    if hours <= 0 or most_kw <= 0 or soc >= until_soc:
        return 0.0
    per_soc_kwh = battery_kwh / efficiency
    fall = (1.0 - TAIL_SHARE) / (1.0 - KNEE_SOC)
    # Up to here the limit is less than what the battery would take.
    bends_soc = KNEE_SOC + (1.0 - most_kw / max_kw) / fall
    flat_kwh = max(min(bends_soc, until_soc) - soc, 0.0) * per_soc_kwh
    if most_kw * hours <= flat_kwh:
        return most_kw * hours
    at_soc, left_h = max(soc, bends_soc), hours - flat_kwh / most_kw
    if at_soc >= until_soc:
        return flat_kwh
    began = power_share(at_soc)
    ends = began * exp(-fall * max_kw / per_soc_kwh * left_h)
    return flat_kwh + (min(at_soc + (began - ends) / fall, until_soc) - at_soc) * per_soc_kwh


def _depth(soc: float) -> float:
    return min(max((soc - KNEE_SOC) / (1.0 - KNEE_SOC), 0.0), 1.0)
