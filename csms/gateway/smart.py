"""Smart charging in 2.0.1's words: what stations and cars tell, and the composite schedule.

Composite answers come in many shapes (stations.md 1): without a schedule, with an empty list, with
-1 for "no limit", and 1.6 spells its members differently. What says nothing is None.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import orjson

from csms.core.commands import CommandResult, Outcome, Schedule, SchedulePeriod
from csms.core.messages import NeedReply, NeedReported, Noted
from csms.core.smart import (
    LimitNotified,
    ProfilesReported,
    ReadComposite,
    ReadProfiles,
    ScheduleProposed,
)
from csms.gateway.adapter import Exchange, Origin, Payload, Step, read_status, step
from csms.gateway.codec import Code, Refused
from csms.gateway.frames import Call
from csms.gateway.values import instant, optional_instant, small, whole

_MODES = {"AC_single_phase": 1, "AC_two_phase": 2}
"""Phases of an energy transfer mode; every other one has three, or none to count."""

_MOST = 1e9
_SOURCES = ("CSO", "EMS", "SO", "Other")
"""Who may set a charging profile (2.0.1 ChargingLimitSourceEnumType)."""


def needs(call: Call, origin: Origin) -> Exchange:
    """NotifyEVChargingNeeds."""
    payload = call.payload
    told = payload["chargingNeeds"]
    mode = told["requestedEnergyTransfer"]
    dc = told.get("dcChargingParameters", {})
    is_dc = mode.startswith("DC")
    car = dc if is_dc else told.get("acChargingParameters", {})
    charge = _number(dc, "stateOfCharge")
    tuples = _number(payload, "maxScheduleTuples")
    report = NeedReported(
        **origin._asdict(),
        evse_id=small(payload, "evseId"),
        mode=mode,
        phases=_MODES.get(mode, 3),
        energy_wh=_number(car, "energyAmount"),
        departs_at=optional_instant(told, "departureTime"),
        max_power_w=_number(dc, "evMaxPower") if is_dc else None,
        min_current_a=_number(car, "evMinCurrent"),
        max_current_a=_number(car, "evMaxCurrent"),
        max_voltage_v=_number(car, "evMaxVoltage"),
        soc=None if charge is None else min(max(charge, 0.0), 100.0) / 100.0,
        battery_wh=_number(dc, "evEnergyCapacity"),
        max_schedule_tuples=None if tuples is None else int(tuples),
        payload=call.payload_json,
    )
    return Exchange(report, _status)


def _number(payload: Payload, name: str) -> float | None:
    """Return a number that cannot be negative, None where there is none."""
    if name not in payload:
        return None
    value = float(payload[name])
    if not 0 <= value <= _MOST:
        raise Refused(Code.PROPERTY, f"{name} is out of range; it must be 0..{_MOST:g}")
    return value


def _status(reply: NeedReply) -> Payload:
    return {"status": reply.status}


def _nothing(reply: Noted) -> Payload:
    return {}


def proposed(call: Call, origin: Origin) -> Exchange:
    """NotifyEVChargingSchedule: the periods count from timeBase."""
    payload = call.payload
    told = payload["chargingSchedule"]
    starts_at = instant(payload["timeBase"], "timeBase")
    report = ScheduleProposed(
        **origin._asdict(),
        evse_id=small(payload, "evseId"),
        starts_at=starts_at,
        unit=told["chargingRateUnit"],
        duration_s=_duration(told),
        periods=_periods(told["chargingSchedulePeriod"]),
        payload=call.payload_json,
    )
    return Exchange(report, _status)


def profiles_reported(call: Call, origin: Origin) -> Exchange:
    """ReportChargingProfiles; each profile stays as the station spelled it."""
    payload = call.payload
    report = ProfilesReported(
        **origin._asdict(),
        request_id=whole(payload, "requestId"),
        evse_id=small(payload, "evseId"),
        source=payload["chargingLimitSource"],
        profiles=tuple(orjson.dumps(p).decode() for p in payload["chargingProfile"]),
        is_last=not payload.get("tbc", False),
        payload=call.payload_json,
    )
    return Exchange(report, _nothing)


def limit_notified(call: Call, origin: Origin) -> Exchange:
    """NotifyChargingLimit; without an EVSE it is the whole station's."""
    payload = call.payload
    limit = payload["chargingLimit"]
    report = LimitNotified(
        **origin._asdict(),
        evse_id=small(payload, "evseId"),
        source=limit["chargingLimitSource"],
        is_grid_critical=limit.get("isGridCritical", False),
        schedules=tuple(
            schedule(told, origin.received_at) for told in payload.get("chargingSchedule", ())
        ),
        payload=call.payload_json,
    )
    return Exchange(report, _nothing)


def limit_cleared(call: Call, origin: Origin) -> Exchange:
    """ClearedChargingLimit."""
    report = LimitNotified(
        **origin._asdict(),
        evse_id=small(call.payload, "evseId"),
        source=call.payload["chargingLimitSource"],
        payload=call.payload_json,
    )
    return Exchange(report, _nothing)


def schedule(told: Payload, otherwise_at: Any) -> Schedule:
    """Return a ChargingSchedule of a station; without a start it starts at `otherwise_at`."""
    start = optional_instant(told, "startSchedule")
    return Schedule(
        profile_id=0,
        stack_level=0,
        unit=told["chargingRateUnit"],
        starts_at=start or otherwise_at,
        duration_s=_duration(told),
        periods=_periods(told["chargingSchedulePeriod"]),
    )


def _duration(told: Payload) -> int | None:
    return small(told, "duration") if "duration" in told else None


def _periods(told: Sequence[Payload]) -> tuple[SchedulePeriod, ...]:
    found = []
    for period in told:
        if "limit" not in period:
            # 2.1 periods may hold setpoints only; those are no limit of ours to compare.
            continue
        limit = float(period["limit"])
        if not isfinite(limit):
            raise Refused(Code.PROPERTY, "limit must be a finite number")
        phases = period.get("numberPhases")
        found.append(
            SchedulePeriod(
                start_s=small(period, "startPeriod"),
                limit=limit,
                phases=None if phases is None else int(phases),
            )
        )
    return tuple(sorted(found, key=lambda p: p.start_s))


# --- questions -----------------------------------------------------------------------------------


def read_profiles(command: ReadProfiles) -> Sequence[Step]:
    """GetChargingProfiles, which wants a criterion (2.0.1 K09.FR.03): every source there is."""
    payload: Payload = {
        "requestId": command.number,
        "chargingProfile": {"chargingLimitSource": list(_SOURCES)},
    }
    return (step("GetChargingProfiles", payload, _read_any_profiles),)


def _read_any_profiles(answer: Payload) -> CommandResult:
    """NoProfiles says all there is to say: it is an answer, not a refusal."""
    result = read_status(answer)
    if result.status == "NoProfiles":
        return CommandResult(outcome=Outcome.ACCEPTED, status="NoProfiles", answer=answer)
    return result


def read_composite(command: ReadComposite, place: str) -> Sequence[Step]:
    """GetCompositeSchedule; `place` is the version's word for the EVSE."""
    payload: Payload = {place: command.evse_id, "duration": command.duration_s}
    if command.unit:
        payload["chargingRateUnit"] = command.unit
    return (step("GetCompositeSchedule", payload, composite),)


def composite(answer: Payload) -> CommandResult:
    """Return the composite schedule of either version in an answer, None where it says nothing."""
    result = read_status(answer)
    told = answer.get("schedule") or answer.get("chargingSchedule")
    start = answer.get("scheduleStart")
    found: Schedule | None = None
    if result.is_accepted and isinstance(told, dict) and told.get("chargingSchedulePeriod"):
        start = told.get("scheduleStart") or told.get("startSchedule") or start
        periods = _periods(told["chargingSchedulePeriod"])
        if start is not None and all(p.limit >= 0 for p in periods):
            found = Schedule(
                profile_id=0,
                stack_level=0,
                unit=told["chargingRateUnit"],
                starts_at=instant(start, "scheduleStart"),
                duration_s=_duration(told),
                periods=periods,
            )
    return CommandResult(
        outcome=result.outcome, status=result.status, answer=answer, composite=found
    )
