"""PURE: what a call of ours and its answer say together about a device.

An answer alone often does not repeat what was asked: ChangeConfiguration is answered with one
word. Typed and raw calls are read alike, so it makes no difference who asked or how. Both
versions use some names for different shapes; the payload tells which it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

from csms.core.device import (
    KEYS,
    SECRETS,
    AvailabilityFact,
    Fact,
    Kind,
    Monitor,
    MonitorClearedFact,
    MonitorFact,
    RequestFact,
    VariableFact,
    VariableName,
)

Payload = dict[str, Any]
Finder = Callable[[Payload, Payload], tuple[Fact, ...]]


def variable_name(item: Mapping[str, Any]) -> VariableName:
    """Return the variable that `component` and `variable` of `item` name; none is ""."""
    component, variable = item["component"], item.get("variable", {})
    evse = component.get("evse", {})
    return VariableName(
        component=component["name"],
        component_instance=component.get("instance", ""),
        evse_id=int(evse.get("id", 0)),
        connector_id=int(evse.get("connectorId", 0)),
        variable=variable.get("name", ""),
        variable_instance=variable.get("instance", ""),
    )


def key_name(key: str) -> VariableName:
    """Return the variable that stands for a 1.6 configuration key."""
    return VariableName(component=KEYS, variable=key)


def open_value(name: VariableName, value: object) -> str | None:
    """Return a value as it may be kept: None for a secret and where there is none."""
    if name.variable in SECRETS or value is None:
        return None
    return value if isinstance(value, str) else str(value)


def _variables(items: str) -> Finder:
    is_set = items == "setVariableResult"

    def find(payload: Payload, answer: Payload) -> tuple[Fact, ...]:
        wanted = {
            (variable_name(item), item.get("attributeType", "Actual")): item["attributeValue"]
            for item in payload.get("setVariableData", ())
        }
        found: list[Fact] = []
        for item in answer[items]:
            name, kind = variable_name(item), item.get("attributeType", "Actual")
            value = wanted.get((name, kind)) if is_set else item.get("attributeValue")
            found.append(
                VariableFact(
                    name=name,
                    kind=kind,
                    status=item["attributeStatus"],
                    value=open_value(name, value),
                    is_set=is_set,
                )
            )
        return tuple(found)

    return find


def _configuration(payload: Payload, answer: Payload) -> tuple[Fact, ...]:
    found: list[Fact] = []
    for entry in answer.get("configurationKey", ()):
        name = key_name(entry["key"].strip())
        # Some stations write the text "true" where the specification has a boolean.
        is_readonly = str(entry.get("readonly", "")).lower() == "true"
        found.append(
            VariableFact(
                name=name,
                status="Accepted",
                value=open_value(name, entry.get("value")),
                mutability="ReadOnly" if is_readonly else "ReadWrite",
            )
        )
    for key in answer.get("unknownKey", ()):
        found.append(VariableFact(name=key_name(key.strip()), status="UnknownVariable"))
    return tuple(found)


def _changed(payload: Payload, answer: Payload) -> tuple[Fact, ...]:
    name = key_name(payload["key"])
    value = open_value(name, payload["value"])
    return (VariableFact(name=name, status=answer["status"], value=value, is_set=True),)


def _availability(payload: Payload, answer: Payload) -> tuple[Fact, ...]:
    evse = payload.get("evse", {})
    return (
        AvailabilityFact(
            evse_id=int(payload.get("connectorId", evse.get("id", 0))),
            connector_id=int(evse.get("connectorId", 0)),
            is_operative=payload.get("type", payload.get("operationalStatus")) == "Operative",
            status=answer["status"],
        ),
    )


def _monitors_set(payload: Payload, answer: Payload) -> tuple[Fact, ...]:
    left = [(_monitor_key(item), item) for item in payload["setMonitoringData"]]
    found: list[Fact] = []
    for item in answer["setMonitoringResult"]:
        # By what it is about, not by its place: answers may come in another order.
        place = next((n for n, (key, _) in enumerate(left) if key == _monitor_key(item)), None)
        wanted = left.pop(place)[1] if place is not None else {}
        found.append(
            MonitorFact(
                monitor=Monitor(
                    name=variable_name(item),
                    kind=item["type"],
                    value=float(wanted.get("value", 0.0)),
                    severity=int(item["severity"]),
                    monitor_id=item.get("id", wanted.get("id")),
                    is_transaction_only=bool(wanted.get("transaction", False)),
                ),
                status=item["status"],
            )
        )
    return tuple(found)


def _monitor_key(item: Mapping[str, Any]) -> tuple[VariableName, str, int]:
    return variable_name(item), item["type"], int(item["severity"])


def _monitors_cleared(payload: Payload, answer: Payload) -> tuple[Fact, ...]:
    return tuple(
        MonitorClearedFact(monitor_id=int(item["id"]), status=item["status"])
        for item in answer["clearMonitoringResult"]
    )


def _request(kind: Kind) -> Finder:
    def find(payload: Payload, answer: Payload) -> tuple[Fact, ...]:
        file_name = answer.get("filename", answer.get("fileName", ""))
        return (
            RequestFact(
                kind=kind,
                request_id=payload.get("requestId"),
                status=answer.get("status", "Accepted"),
                file_name=file_name if isinstance(file_name, str) else "",
            ),
        )

    return find


FACTS: Mapping[str, Finder] = {
    "GetVariables": _variables("getVariableResult"),
    "SetVariables": _variables("setVariableResult"),
    "GetConfiguration": _configuration,
    "ChangeConfiguration": _changed,
    "ChangeAvailability": _availability,
    "SetVariableMonitoring": _monitors_set,
    "ClearVariableMonitoring": _monitors_cleared,
    "GetBaseReport": _request(Kind.REPORT),
    "GetReport": _request(Kind.REPORT),
    "GetMonitoringReport": _request(Kind.MONITORS),
    "CustomerInformation": _request(Kind.CUSTOMER),
    "GetLog": _request(Kind.LOG),
    "GetDiagnostics": _request(Kind.LOG),
    "UpdateFirmware": _request(Kind.FIRMWARE),
    "SignedUpdateFirmware": _request(Kind.FIRMWARE),
    "PublishFirmware": _request(Kind.PUBLISH),
}
"""Action -> what its call and its answer say together."""
