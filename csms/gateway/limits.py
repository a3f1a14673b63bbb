"""PURE: what a station says about the schedules it takes -> StationLimits and EVSEs.

Nothing here is mandatory for a station to answer. What it does not say keeps its default; the
source is "asked" as soon as it told one thing that matters, and "assumed" otherwise.
"""

from collections.abc import Mapping
from dataclasses import replace

from csms.core.messages import CommandResult, Outcome
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
    "ChargeProfileMaxStackLevel": "max_stack_level",
    "ChargingScheduleMaxPeriods": "max_periods",
    "MaxChargingProfilesInstalled": "max_profiles",
}

VARIABLES = (
    ("RateUnit", ""),
    ("PeriodsPerSchedule", ""),
    ("ProfileStackLevel", ""),
    ("Entries", "ChargingProfiles"),
)
"""The 2.0.1 variables of SmartChargingCtrlr ReadLimits asks for, with their instance."""

_VARIABLE_FIELDS = {
    "PeriodsPerSchedule": "max_periods",
    "ProfileStackLevel": "max_stack_level",
    "Entries": "max_profiles",
}
_UNIT_WORDS = {"current": "A", "a": "A", "power": "W", "w": "W"}
_MAX_CONNECTORS = 64


def _units(text: str) -> tuple[str, ...]:
    found = [_UNIT_WORDS[w.lower()] for w in listed(text) if w.lower() in _UNIT_WORDS]
    return tuple(dict.fromkeys(found))


def _limits(
    values: Mapping[str, str], fields: Mapping[str, str], unit_name: str
) -> tuple[StationLimits, bool]:
    told = numbers(values, fields)
    units = _units(values.get(unit_name, ""))
    limits = StationLimits(**told)  # type: ignore[arg-type]
    if units:
        limits = replace(limits, units=units)
    return limits, bool(told or units)


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
    limits, is_told = _limits(by_name, _KEY_FIELDS, "ChargingScheduleAllowedChargingRateUnit")
    features = listed(by_name.get("SupportedFeatureProfiles", ""))
    if features and "SmartCharging" not in features:
        limits, is_told = replace(limits, supports_profiles=False), True
    if is_told:
        limits = replace(limits, source="asked")
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
    return CommandResult(outcome=Outcome.ACCEPTED, answer=answer, limits=limits, evses=evses)


def read_variables(answer: Payload) -> CommandResult:
    """Return the limits in a GetVariables answer; unknown variables keep their default."""
    values: dict[str, str] = {}
    statuses: list[str] = []
    for result in answer["getVariableResult"]:
        statuses.append(result["attributeStatus"])
        if result["attributeStatus"] == "Accepted":
            values[result["variable"]["name"]] = result.get("attributeValue", "")
    limits, is_told = _limits(values, _VARIABLE_FIELDS, "RateUnit")
    if is_told:
        limits = replace(limits, source="asked")
    elif statuses and all(status == "UnknownComponent" for status in statuses):
        limits = replace(limits, supports_profiles=False, source="asked")
    return CommandResult(outcome=Outcome.ACCEPTED, answer=answer, limits=limits)
