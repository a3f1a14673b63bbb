"""Variables, monitors, logs and firmware: 1.6 and 2.x <-> messages.

One module for all versions, since 1.6 took the security whitepaper's messages over from 2.0.1 word
for word, and 2.1 changed nothing here.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from csms.core.commands import Command
from csms.core.device import KEYS, Attribute, Kind, Monitor, StationEvent, VariableName
from csms.core.device_messages import (
    ClearMonitors,
    CustomerReported,
    EventsReported,
    JobReported,
    MonitorsReported,
    PublishFirmware,
    ReadCustomer,
    ReadModel,
    ReadMonitors,
    ReadVariables,
    SetAvailability,
    SetMonitoringBase,
    SetMonitoringLevel,
    SetMonitors,
    SetNetworkProfile,
    UnpublishFirmware,
    UpdateFirmware,
    UploadLog,
    VariablesReported,
    WriteVariables,
)
from csms.core.model import OcppVersion
from csms.gateway.adapter import Exchange, Origin, Payload, Step, Unsendable, nothing, step
from csms.gateway.facts import open_value, variable_name
from csms.gateway.frames import Call
from csms.gateway.values import instant, small, whole, whole_second_text

Translate = Callable[[Call, Origin], Exchange]

# --- incoming ------------------------------------------------------------------------------------


def _record(call: Call, origin: Origin, version: OcppVersion) -> dict[str, Any]:
    return {
        **origin._asdict(),
        "version": version,
        "action": call.action,
        "payload": call.payload_json,
    }


def _part(call: Call, origin: Origin, version: OcppVersion) -> dict[str, Any]:
    payload = call.payload
    return {
        **_record(call, origin, version),
        "request_id": whole(payload, "requestId"),
        "seq_no": small(payload, "seqNo"),
        "is_last": not payload.get("tbc", False),
        "generated_at": instant(payload["generatedAt"], "generatedAt"),
    }


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _attributes(item: Mapping[str, Any]) -> list[Attribute]:
    name = variable_name(item)
    about = item.get("variableCharacteristics", {})
    return [
        Attribute(
            name=name,
            kind=attribute.get("type", "Actual"),
            value=open_value(name, attribute.get("value")),
            mutability=attribute.get("mutability", "ReadWrite"),
            data_type=about.get("dataType", ""),
            unit=about.get("unit", ""),
            min_limit=_number(about.get("minLimit")),
            max_limit=_number(about.get("maxLimit")),
            values_list=about.get("valuesList", ""),
            supports_monitoring=bool(about.get("supportsMonitoring", False)),
        )
        for attribute in item["variableAttribute"]
    ]


def _variables(call: Call, origin: Origin, version: OcppVersion) -> Exchange:
    attributes = tuple(a for item in call.payload.get("reportData", ()) for a in _attributes(item))
    report = VariablesReported(**_part(call, origin, version), attributes=attributes)
    return Exchange(report, nothing)


def _monitors(call: Call, origin: Origin, version: OcppVersion) -> Exchange:
    monitors = tuple(
        Monitor(
            name=variable_name(item),
            kind=monitor["type"],
            value=float(monitor["value"]),
            severity=int(monitor["severity"]),
            monitor_id=whole(monitor, "id"),
            is_transaction_only=bool(monitor["transaction"]),
        )
        for item in call.payload.get("monitor", ())
        for monitor in item["variableMonitoring"]
    )
    return Exchange(MonitorsReported(**_part(call, origin, version), monitors=monitors), nothing)


def _customer(call: Call, origin: Origin, version: OcppVersion) -> Exchange:
    report = CustomerReported(**_part(call, origin, version), data=call.payload["data"])
    return Exchange(report, nothing)


def _event(item: Mapping[str, Any]) -> StationEvent:
    return StationEvent(
        event_id=int(item["eventId"]),
        at=instant(item["timestamp"], "timestamp"),
        trigger=item["trigger"],
        notification=item["eventNotificationType"],
        name=variable_name(item),
        actual_value=item["actualValue"],
        cause_id=item.get("cause"),
        tech_code=item.get("techCode", ""),
        tech_info=item.get("techInfo", ""),
        is_cleared=bool(item.get("cleared", False)),
        transaction_id=item.get("transactionId", ""),
        monitor_id=item.get("variableMonitoringId"),
    )


def _events(call: Call, origin: Origin, version: OcppVersion) -> Exchange:
    report = EventsReported(
        **_record(call, origin, version),
        generated_at=instant(call.payload["generatedAt"], "generatedAt"),
        events=tuple(_event(item) for item in call.payload["eventData"]),
    )
    return Exchange(report, nothing)


def _job(kind: Kind) -> Callable[[Call, Origin, OcppVersion], Exchange]:
    def translate(call: Call, origin: Origin, version: OcppVersion) -> Exchange:
        payload = call.payload
        where = payload.get("location", ())
        report = JobReported(
            **_record(call, origin, version),
            kind=kind,
            request_id=whole(payload, "requestId") if "requestId" in payload else None,
            status=payload["status"],
            detail=", ".join(where),
        )
        return Exchange(report, nothing)

    return translate


_INCOMING: Mapping[str, Callable[[Call, Origin, OcppVersion], Exchange]] = {
    "NotifyReport": _variables,
    "NotifyMonitoringReport": _monitors,
    "NotifyCustomerInformation": _customer,
    "NotifyEvent": _events,
    "FirmwareStatusNotification": _job(Kind.FIRMWARE),
    "SignedFirmwareStatusNotification": _job(Kind.FIRMWARE),
    "LogStatusNotification": _job(Kind.LOG),
    "DiagnosticsStatusNotification": _job(Kind.LOG),
    "PublishFirmwareStatusNotification": _job(Kind.PUBLISH),
}
_ONLY_16 = frozenset({"SignedFirmwareStatusNotification", "DiagnosticsStatusNotification"})
_IN_16 = _ONLY_16 | {"FirmwareStatusNotification", "LogStatusNotification"}


def incoming(version: OcppVersion) -> dict[str, Translate]:
    """Return the actions of `version` about the device, each with how it becomes a report."""
    names = _IN_16 if version is OcppVersion.V16 else _INCOMING.keys() - _ONLY_16

    def bound(translate: Callable[[Call, Origin, OcppVersion], Exchange]) -> Translate:
        return lambda call, origin: translate(call, origin, version)

    return {name: bound(_INCOMING[name]) for name in sorted(names)}


# --- outgoing, 2.x -------------------------------------------------------------------------------


def _named(name: str, instance: str) -> Payload:
    return {"name": name, "instance": instance} if instance else {"name": name}


def _where(name: VariableName) -> Payload:
    component, variable = name.component, name.variable
    if component == KEYS:
        if name.standard is None:
            raise Unsendable(f"not valid: {variable} is a 1.6 key without a 2.0.1 variable")
        component, variable = name.standard
    found: Payload = {"component": _named(component, name.component_instance)}
    if name.evse_id:
        found["component"]["evse"] = {"id": name.evse_id}
        if name.connector_id:
            found["component"]["evse"]["connectorId"] = name.connector_id
    if variable:
        found["variable"] = _named(variable, name.variable_instance)
    return found


def _kind(kind: str) -> Payload:
    return {"attributeType": kind} if kind else {}


def _text(at: datetime | None, name: str) -> Payload:
    return {} if at is None else {name: whole_second_text(at)}


def _retries(command: UploadLog | UpdateFirmware | PublishFirmware) -> Payload:
    found: Payload = {}
    if command.retries is not None:
        found["retries"] = command.retries
    if command.retry_interval_s is not None:
        found["retryInterval"] = command.retry_interval_s
    return found


def _filters(names: Sequence[VariableName], criteria: Sequence[str], member: str) -> Payload:
    found: Payload = {}
    if names:
        found["componentVariable"] = [_where(name) for name in names]
    if criteria:
        found[member] = list(criteria)
    return found


def _read_model(command: ReadModel) -> Step:
    payload: Payload = {"requestId": command.request_id}
    if command.names or command.criteria:
        filters = _filters(command.names, command.criteria, "componentCriteria")
        return step("GetReport", payload | filters)
    return step("GetBaseReport", payload | {"reportBase": command.base})


def _log(command: UploadLog) -> Step:
    log = (
        {"remoteLocation": command.location}
        | _text(command.oldest_at, "oldestTimestamp")
        | _text(command.latest_at, "latestTimestamp")
    )
    payload = {"log": log, "logType": command.log_type, "requestId": command.request_id}
    return step("GetLog", payload | _retries(command))


def _firmware(command: UpdateFirmware) -> Payload:
    firmware = {"location": command.location} | _text(command.retrieve_at, "retrieveDateTime")
    firmware |= _text(command.install_at, "installDateTime")
    if command.signature:
        firmware["signingCertificate"] = command.signing_certificate
        firmware["signature"] = command.signature
    return {"requestId": command.request_id, "firmware": firmware} | _retries(command)


def _customer_of(command: ReadCustomer) -> Payload:
    found: Payload = {}
    if command.id_token:
        kind = command.id_token_kind or "Central"
        found["idToken"] = {"idToken": command.id_token, "type": kind}
    if command.certificate is not None:
        found["customerCertificate"] = dict(command.certificate)
    if command.customer_identifier:
        found["customerIdentifier"] = command.customer_identifier
    if len(found) != 1:
        raise Unsendable("not valid: exactly one of token, certificate and identifier is needed")
    return found


def _monitor(monitor: Monitor) -> Payload:
    found = _where(monitor.name) | {
        "type": monitor.kind,
        "value": monitor.value,
        "severity": monitor.severity,
    }
    if monitor.monitor_id is not None:
        found["id"] = monitor.monitor_id
    if monitor.is_transaction_only:
        found["transaction"] = True
    return found


def _variable_step(command: ReadVariables | WriteVariables) -> Step:
    kind = _kind(command.kind)
    if isinstance(command, WriteVariables):
        wanted = [{**kind, "attributeValue": v, **_where(n)} for n, v in command.values]
        return step("SetVariables", {"setVariableData": wanted})
    if not command.names:
        raise Unsendable("not valid: name the variables, or ask for a report")
    return step("GetVariables", {"getVariableData": [{**kind, **_where(n)} for n in command.names]})


def _monitoring_step(command: Command) -> Step | None:
    match command:
        case SetMonitors():
            return step(
                "SetVariableMonitoring",
                {"setMonitoringData": [_monitor(m) for m in command.monitors]},
            )
        case ClearMonitors():
            return step("ClearVariableMonitoring", {"id": list(command.monitor_ids)})
        case SetMonitoringBase():
            return step("SetMonitoringBase", {"monitoringBase": command.base})
        case SetMonitoringLevel():
            return step("SetMonitoringLevel", {"severity": command.severity})
        case ReadMonitors():
            filters = _filters(command.names, command.criteria, "monitoringCriteria")
            return step("GetMonitoringReport", {"requestId": command.request_id} | filters)
        case ReadCustomer():
            asked = {"report": command.is_report, "clear": command.is_clear}
            payload = {"requestId": command.request_id, **asked, **_customer_of(command)}
            return step("CustomerInformation", payload)
    return None


def _network(command: SetNetworkProfile) -> Step:
    data = {
        # 2.0.1 has no word of its own here: the enumeration ends at OCPP20 (2.0.1 errata).
        "ocppVersion": "OCPP20",
        "ocppTransport": "JSON",
        "ocppCsmsUrl": command.url,
        "messageTimeout": command.message_timeout_s,
        "securityProfile": command.security_profile,
        "ocppInterface": command.interface,
    }
    payload = {"configurationSlot": command.slot, "connectionData": data}
    return step("SetNetworkProfile", payload)


def steps_2(command: Command) -> Sequence[Step] | None:
    """Return the calls that carry out `command` in 2.x, None if it is not about the device."""
    match command:
        case ReadVariables() | WriteVariables():
            return (_variable_step(command),)
        case ReadModel():
            return (_read_model(command),)
        case SetAvailability():
            status = "Operative" if command.is_operative else "Inoperative"
            payload: Payload = {"operationalStatus": status}
            if command.evse_id:
                payload["evse"] = {"id": command.evse_id}
                if command.connector_id:
                    payload["evse"]["connectorId"] = command.connector_id
            return (step("ChangeAvailability", payload),)
        case UploadLog():
            return (_log(command),)
        case UpdateFirmware():
            return (step("UpdateFirmware", _firmware(command)),)
        case PublishFirmware():
            payload = {"location": command.location, "checksum": command.checksum}
            payload |= {"requestId": command.request_id} | _retries(command)
            return (step("PublishFirmware", payload),)
        case UnpublishFirmware():
            return (step("UnpublishFirmware", {"checksum": command.checksum}),)
        case SetNetworkProfile():
            return (_network(command),)
    found = _monitoring_step(command)
    return None if found is None else (found,)


# --- outgoing, 1.6 -------------------------------------------------------------------------------


def _key(name: VariableName) -> str:
    if name.key is None:
        raise Unsendable(f"not valid: 1.6 has no key for {name.component}.{name.variable}")
    return name.key


def steps_16(command: Command) -> Sequence[Step] | None:
    """Return the calls that carry out `command` in 1.6, None if 1.6 has no word for it."""
    match command:
        case ReadVariables():
            keys = [_key(name) for name in command.names]
            return (step("GetConfiguration", {"key": keys} if keys else {}),)
        case ReadModel():
            return (step("GetConfiguration", {}),)
        case WriteVariables():
            return tuple(
                step("ChangeConfiguration", {"key": _key(n), "value": v}, is_alone=True)
                for n, v in command.values
            )
        case SetAvailability():
            status = "Operative" if command.is_operative else "Inoperative"
            payload: Payload = {"connectorId": command.evse_id, "type": status}
            return (step("ChangeAvailability", payload),)
        case UploadLog() if command.log_type == "DiagnosticsLog":
            payload = (
                {"location": command.location}
                | _text(command.oldest_at, "startTime")
                | _text(command.latest_at, "stopTime")
            )
            return (step("GetDiagnostics", payload | _retries(command)),)
        case UploadLog():
            return (_log(command),)
        case UpdateFirmware() if command.signature:
            return (step("SignedUpdateFirmware", _firmware(command)),)
        case UpdateFirmware():
            payload = {"location": command.location} | _text(command.retrieve_at, "retrieveDate")
            return (step("UpdateFirmware", payload | _retries(command)),)
    return None
