"""The tail of a battery: above a knee it takes less and less, and a plan has to begin earlier.

The assumed curve is the usual constant-current, constant-voltage one: full power up to 80 %, then
linearly down to a tenth at full. What the meter shows overrules it as soon as there is something
to see (csms.service.following).
"""

from datetime import timedelta
from math import log

KNEE_SOC = 0.8
TAIL_SHARE = 0.1


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


def _depth(soc: float) -> float:
    return min(max((soc - KNEE_SOC) / (1.0 - KNEE_SOC), 0.0), 1.0)
