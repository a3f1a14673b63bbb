"""Limits that others set on a station: an energy manager, a grid operator, a hand at its panel.

A station tells them (NotifyChargingLimit), or holds them as profiles with the purpose
ChargingStationExternalConstraints. They are not ours to set or to clear: the planner takes them as
caps, so that it does not give to a car what the station will not.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from csms.core.commands import Schedule, SchedulePeriod
from csms.core.model import Session, Site
from csms.core.units import w_from_a
from csms.service.cars import Car
from csms.store import reported
from csms.store.statements import Tx

EXTERNAL = "ChargingStationExternalConstraints"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideCap:
    """One schedule of somebody else's on an EVSE, 0 for the whole station."""

    station_id: str
    evse_id: int
    source: str
    schedule: Schedule


def caps_of(tx: Tx, station_ids: list[str]) -> tuple[OutsideCap, ...]:
    """Return what others set on stations, as notified and as reported with the profiles."""
    notified = reported.limits_at(tx, station_ids)
    found = [
        OutsideCap(
            station_id=limit.station_id,
            evse_id=limit.evse_id,
            source=limit.source,
            schedule=schedule,
        )
        for limit in notified
        for schedule in limit.schedules
    ]
    # A profile that is reported for a limit notified with its schedule is the same once more.
    told = {(cap.station_id, cap.evse_id) for cap in found}
    for profile in reported.profiles_at(tx, station_ids, purpose=EXTERNAL):
        if (profile.station_id, profile.evse_id) not in told:
            found += [
                OutsideCap(
                    station_id=profile.station_id,
                    evse_id=profile.evse_id,
                    source=profile.source,
                    schedule=schedule,
                )
                for schedule in schedules_in(profile.body, otherwise_at=profile.reported_at)
            ]
    return tuple(found)


def schedules_in(body: str, *, otherwise_at: datetime) -> list[Schedule]:
    """Return the schedules of a profile as a station spelled it; what cannot be read is left out.

    Without a start they count from `otherwise_at`.
    """
    try:
        profile = json.loads(body)
        told = profile["chargingSchedule"]
        return [_schedule(s, otherwise_at) for s in (told if isinstance(told, list) else [told])]
    except (KeyError, TypeError, ValueError):
        return []


def _schedule(told: Any, otherwise_at: datetime) -> Schedule:
    start = told.get("startSchedule")
    at = otherwise_at if start is None else datetime.fromisoformat(start)
    return Schedule(
        profile_id=0,
        stack_level=0,
        unit=told["chargingRateUnit"],
        starts_at=at if at.tzinfo is not None else at.replace(tzinfo=UTC),
        duration_s=told.get("duration"),
        periods=tuple(
            SchedulePeriod(
                start_s=int(p["startPeriod"]), limit=float(p["limit"]), phases=p.get("numberPhases")
            )
            for p in told["chargingSchedulePeriod"]
        ),
    )


def limit_at(schedule: Schedule, at: datetime) -> SchedulePeriod | None:
    """Return the period of a schedule in force at `at`, None outside it."""
    since_s = (at - schedule.starts_at) / timedelta(seconds=1)
    if since_s < 0 or (schedule.duration_s is not None and since_s >= schedule.duration_s):
        return None
    begun = [p for p in schedule.periods if p.start_s <= since_s]
    return begun[-1] if begun else None


def cap_kw(
    car: Car, caps: Sequence[OutsideCap], site: Site, *, now: datetime, cars: Sequence[Session]
) -> float | None:
    """Return the least that others let a car have now, kW; None where nobody limits it.

    A limit of the whole station is shared by its cars in equal parts.
    """
    station_id, evse_id = car.session.station_id, car.session.evse_id
    sharers = max(sum(s.station_id == station_id for s in cars), 1)
    least: float | None = None
    for cap in caps:
        if cap.station_id != station_id or cap.evse_id not in (0, evse_id):
            continue
        period = limit_at(cap.schedule, now)
        if period is None or period.limit < 0:
            continue
        watts = period.limit
        if cap.schedule.unit == "A":
            phases = period.phases or car.evse.phases
            watts = w_from_a(period.limit, phases=phases, voltage_v=site.voltage_v)
        kw = watts / 1000.0 / (1 if cap.evse_id else sharers)
        least = kw if least is None else min(least, kw)
    return least
