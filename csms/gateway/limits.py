"""PURE: what a station says about the schedules it takes -> StationLimits and EVSEs.

Nothing here is mandatory for a station to answer. What it does not say keeps its default; the
source is "asked" as soon as it told one thing that matters, and "assumed" otherwise.
"""

from collections.abc import Mapping
from dataclasses import replace

from csms.core.commands import CommandResult, Outcome
from csms.core.model import Evse, StationLimits
from csms.gateway.adapter import Payload, listed, numbers

CONFIGURATION_KEYS = (
    "ChargeProfileMaxStackLevel",
    "ChargingScheduleAllowedChargingRateUnit",
    "ChargingScheduleMaxPeriods",
    "MaxChargingProfilesInstalled",
    "NumberOfConnectors",
    "ConnectorPhaseRotation",
    "SupportedFeatureProfiles",
)
"""The 1.6 configuration keys ReadLimits asks for (1.6 §9.1, §9.4)."""

_KEY_FIELDS = {
    "ChargingScheduleMaxPeriods": "max_periods",
    "MaxChargingProfilesInstalled": "max_profiles",
}

_CTRLR = "SmartChargingCtrlr"
VARIABLES = (
    (_CTRLR, "RateUnit", ""),
    (_CTRLR, "PeriodsPerSchedule", ""),
    (_CTRLR, "ProfileStackLevel", ""),
    (_CTRLR, "Entries", "ChargingProfiles"),
    (_CTRLR, "LimitChangeSignificance", ""),
    (_CTRLR, "ACPhaseSwitchingSupported", ""),
    (_CTRLR, "Enabled", ""),
    ("ChargingStation", "PhaseRotation", ""),
)
"""The 2.0.1 variables ReadLimits asks for: component, variable, instance."""

_VARIABLE_FIELDS = {
    "PeriodsPerSchedule": "max_periods",
    "Entries": "max_profiles",
}
_LEVELS = {
    "ChargeProfileMaxStackLevel": "max_stack_level",
    "ProfileStackLevel": "max_stack_level",
}
"""The highest level may well be 0."""
_UNIT_WORDS = {"current": "A", "a": "A", "power": "W", "w": "W"}
_MAX_CONNECTORS = 64
_TEXT_KEPT = 200


def _units(text: str) -> tuple[str, ...]:
    found = [_UNIT_WORDS[w.lower()] for w in listed(text) if w.lower() in _UNIT_WORDS]
    return tuple(dict.fromkeys(found))


def _told(
    values: Mapping[str, str], fields: Mapping[str, str], unit_name: str
) -> dict[str, object]:
    """Return item of a dialect -> what the station says of it."""
    told: dict[str, object] = {**numbers(values, fields), **numbers(values, _LEVELS, least=0)}
    units = _units(values.get(unit_name, ""))
    if units:
        told["units"] = units
    return told


def _limits(told: Mapping[str, object]) -> StationLimits:
    limits = StationLimits(**told)  # type: ignore[arg-type]
    return replace(limits, source="asked") if told else limits


def read_configuration(answer: Payload, *, station_id: str) -> CommandResult:
    """Return the limits in a GetConfiguration answer.

    EVSEs carry `max_kw` 0.0: a 1.6 station does not tell what its connectors can deliver.
    """
    values: dict[str, str] = {}
    for entry in answer.get("configurationKey", ()):
        value = entry.get("value")
        # Some stations spell a key in their own letter case.
        values[entry["key"].strip().lower()] = value if isinstance(value, str) else ""
    by_name = {name: values[name.lower()] for name in CONFIGURATION_KEYS if name.lower() in values}
    told = _told(by_name, _KEY_FIELDS, "ChargingScheduleAllowedChargingRateUnit")
    features = listed(by_name.get("SupportedFeatureProfiles", ""))
    if features:
        told["supports_profiles"] = "SmartCharging" in features
    if by_name.get("ConnectorPhaseRotation"):
        told["phase_rotation"] = by_name["ConnectorPhaseRotation"][:_TEXT_KEPT]
    count = numbers(by_name, {"NumberOfConnectors": "count"}).get("count", 0)
    rotation = dict(
        entry.partition(".")[::2] for entry in listed(by_name.get("ConnectorPhaseRotation", ""))
    )
    evses = tuple(
        Evse(
            station_id=station_id,
            evse_id=number,
            max_kw=0.0,
            phases=1 if rotation.get(str(number)) in ("R", "S", "T") else 3,
        )
        for number in range(1, min(count, _MAX_CONNECTORS) + 1)
    )
    return CommandResult(
        outcome=Outcome.ACCEPTED, answer=answer, limits=_limits(told), told=told, evses=evses
    )


def read_variables(answer: Payload) -> CommandResult:
    """Return the limits in a GetVariables answer; unknown variables keep their default."""
    values: dict[str, str] = {}
    statuses: list[str] = []
    for result in answer["getVariableResult"]:
        statuses.append(result["attributeStatus"])
        if result["attributeStatus"] == "Accepted":
            values[result["variable"]["name"]] = result.get("attributeValue", "")
    told = _told(values, _VARIABLE_FIELDS, "RateUnit")
    if _flag(values.get("Enabled", "")) is not None:
        told["supports_profiles"] = _flag(values["Enabled"])
    if _flag(values.get("ACPhaseSwitchingSupported", "")) is not None:
        told["switches_phases"] = _flag(values["ACPhaseSwitchingSupported"])
    significant = _percent(values.get("LimitChangeSignificance", ""))
    if significant is not None:
        told["significant_share"] = significant
    if values.get("PhaseRotation"):
        told["phase_rotation"] = values["PhaseRotation"][:_TEXT_KEPT]
    if not told and statuses and all(status == "UnknownComponent" for status in statuses):
        told["supports_profiles"] = False
    return CommandResult(outcome=Outcome.ACCEPTED, answer=answer, limits=_limits(told), told=told)


def _flag(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.strip().lower())


def _percent(text: str) -> float | None:
    """Return a percentage as a share, None for what is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value / 100.0 if 0.0 <= value <= 100.0 else None
