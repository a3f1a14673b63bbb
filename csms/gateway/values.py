"""PURE: instants, numbers and decisions, between a payload's spelling and ours.

What both versions spell alike. A value that the schema lets through but that cannot be meant
(a negative connector, the year 0) is refused here, never passed on to fail in the store.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

from csms.core.commands import Schedule, SchedulePeriod
from csms.core.units import floor_tenth
from csms.gateway.codec import Code, Refused, is_instant

NO_ZONE = "time_without_zone"
"""Flag of a time that named no zone and was taken as UTC."""
_MAX_SMALL = 2**31 - 1
_MAX_WHOLE = 2**53
_NO_INSTANT = "is no instant; right would be 2026-01-01T12:00:00Z"


# Small, so that it stays in the processor's cache: a message repeats its own instants, hardly
# ever those of another.
@lru_cache(maxsize=64)
def _instant(text: str) -> tuple[datetime, bool] | None:
    if not is_instant(text):
        return None
    plain = text.upper()
    if plain[17:19] == "60":
        # A leap second; our clock, like most, has none.
        plain = f"{plain[:17]}59{plain[19:]}"
    try:
        at = datetime.fromisoformat(plain)
        if at.tzinfo is UTC:
            return at, False
        if at.tzinfo is None:
            return at.replace(tzinfo=UTC), True
        return at.astimezone(UTC), False
    except (ValueError, OverflowError):
        return None


def instant(text: str, where: str, flags: set[str] | None = None) -> datetime:
    """Return the UTC instant `text` names; without a zone it is UTC and `flags` gets NO_ZONE."""
    found = _instant(text) if isinstance(text, str) else None
    if found is None:
        raise Refused(Code.PROPERTY, f"{where} {_NO_INSTANT}")
    at, is_zoneless = found
    if is_zoneless and flags is not None:
        flags.add(NO_ZONE)
    return at


def optional_instant(payload: Mapping[str, Any], name: str) -> datetime | None:
    """Return the instant under `name`, None where there is none."""
    return instant(payload[name], name) if name in payload else None


def utc_text(at: datetime) -> str:
    """Return `at` in UTC with milliseconds and Z, as answers carry it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def whole_second_text(at: datetime) -> str:
    """Return `at` in UTC cut to whole seconds with Z, which every station reads."""
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def small(payload: Mapping[str, Any], name: str, default: int = 0) -> int:
    """Return an EVSE, connector or sequence number: whole, not negative, 31 bits."""
    value = payload.get(name, default)
    if not 0 <= value <= _MAX_SMALL:
        raise _out_of_range(name, 0, _MAX_SMALL)
    # The schema lets 1.0 through as an integer.
    return int(value)


def whole(payload: Mapping[str, Any], name: str, default: int = 0) -> int:
    """Return a whole number that a double holds exactly."""
    value = payload.get(name, default)
    if not -_MAX_WHOLE <= value <= _MAX_WHOLE:
        raise _out_of_range(name, -_MAX_WHOLE, _MAX_WHOLE)
    return int(value)


def _out_of_range(name: str, least: int, most: int) -> Refused:
    return Refused(Code.PROPERTY, f"{name} is out of range; it must be {least}..{most}")


def digest(payload: Mapping[str, Any]) -> str:
    """Return what identifies the content of `payload`, whatever the order of its members."""
    canonical = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    return blake2b(canonical, digest_size=16).hexdigest()


def tenth(limit: float) -> float | int:
    """Return `limit` with at most one decimal, never rounded up, whole where it is whole."""
    value = floor_tenth(limit)
    return int(value) if value.is_integer() else value


def schedule_payload(schedule: Schedule) -> dict[str, Any]:
    """Return what 1.6 and 2.0.1 spell alike of a charging schedule."""
    payload: dict[str, Any] = {}
    if schedule.duration_s is not None:
        payload["duration"] = schedule.duration_s
    payload["startSchedule"] = whole_second_text(schedule.starts_at)
    payload["chargingRateUnit"] = schedule.unit
    payload["chargingSchedulePeriod"] = [_period(period) for period in schedule.periods]
    if schedule.min_rate is not None:
        payload["minChargingRate"] = tenth(schedule.min_rate)
    return payload


def _period(period: SchedulePeriod) -> dict[str, Any]:
    payload: dict[str, Any] = {"startPeriod": period.start_s, "limit": tenth(period.limit)}
    if period.phases is not None:
        payload["numberPhases"] = period.phases
    return payload
