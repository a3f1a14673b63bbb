"""OCPP 2.0.1 <-> messages.

Most words are already ours. Every message a station may send is answered: those TASCO has a rule
for become reports of their own, the rest are kept as they came, with a refusal where the answer
needs a promise that nobody here could keep.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from csms.core.commands import (
    STATION_MAX,
    TX_DEFAULT,
    TX_PROFILE,
    ClearSchedule,
    Command,
    Configure,
    RawCall,
    ReadLimits,
    Reset,
    SetGuard,
    SetSchedule,
    StartCharging,
    StopCharging,
    Trigger,
    Unlock,
)
from csms.core.messages import (
    MeterReported,
    RecordReceived,
    SessionEnded,
    SessionReply,
    SessionStarted,
    SessionUpdated,
    StationBooted,
    StatusChanged,
    TokenPresented,
    TokenReply,
    VendorMessage,
)
from csms.core.model import Authorization, IdToken, OcppVersion, made
from csms.core.smart import ReadComposite, ReadProfiles
from csms.gateway import certificates, device, meter, smart
from csms.gateway.adapter import (
    Exchange,
    Origin,
    Payload,
    Step,
    Unsendable,
    boot_answer,
    nothing,
    raw_steps,
    read_cleared,
    step,
    vendor_answer,
)
from csms.gateway.codec import Code, Codec, Refused, codec
from csms.gateway.frames import Call
from csms.gateway.limits import VARIABLES, read_variables
from csms.gateway.values import (
    digest,
    instant,
    schedule_payload,
    small,
    utc_text,
    whole,
)

_MAX_ID_TOKEN = 36
_MAX_PRIORITY = 9
_CENTRAL = "Central"


def _boot(call: Call, origin: Origin) -> Exchange:
    station = call.payload["chargingStation"]
    report = StationBooted(
        **origin._asdict(),
        version=OcppVersion.V201,
        vendor=station["vendorName"],
        model=station["model"],
        serial_number=station.get("serialNumber", ""),
        firmware_version=station.get("firmwareVersion", ""),
        reason=call.payload["reason"],
        payload=call.payload_json,
    )
    return Exchange(report, boot_answer)


def _status(call: Call, origin: Origin) -> Exchange:
    payload = call.payload
    report = StatusChanged(
        **origin._asdict(),
        at=instant(payload["timestamp"], "timestamp"),
        evse_id=small(payload, "evseId"),
        connector_id=small(payload, "connectorId"),
        status=payload["connectorStatus"],
    )
    return Exchange(report, nothing)


def _token(payload: Payload | None) -> IdToken | None:
    return None if payload is None else IdToken(value=payload["idToken"], kind=payload["type"])


def _authorize(call: Call, origin: Origin) -> Exchange:
    token = call.payload["idToken"]
    report = TokenPresented(
        **origin._asdict(),
        id_token=IdToken(value=token["idToken"], kind=token["type"]),
        version=OcppVersion.V201,
        certificate=call.payload.get("certificate", ""),
        hash_data=tuple(
            certificates.question(d) for d in call.payload.get("iso15118CertificateHashData", ())
        ),
    )
    return Exchange(report, _authorize_answer)


def _authorize_answer(reply: TokenReply) -> Payload:
    answer: Payload = {"idTokenInfo": id_token_info(reply.authorization)}
    if reply.certificate_status:
        answer["certificateStatus"] = reply.certificate_status
    return answer


def id_token_info(authorization: Authorization) -> Payload:
    """Return the decision in full."""
    info: Payload = {"status": authorization.status.value}
    if authorization.expires_at is not None:
        info["cacheExpiryDateTime"] = utc_text(authorization.expires_at)
    if authorization.priority:
        info["chargingPriority"] = _priority(authorization.priority)
    if authorization.group and len(authorization.group) <= _MAX_ID_TOKEN:
        info["groupIdToken"] = {"idToken": authorization.group, "type": _CENTRAL}
    if authorization.evse_ids:
        info["evseId"] = list(authorization.evse_ids)
    if authorization.message:
        info["personalMessage"] = {"format": "UTF8", "content": authorization.message}
    return info


def _priority(priority: int) -> int:
    return max(-_MAX_PRIORITY, min(priority, _MAX_PRIORITY))


def transaction(call: Call, origin: Origin, version: OcppVersion = OcppVersion.V201) -> Exchange:
    """Return a TransactionEvent as a question to the centre."""
    payload = call.payload
    transaction = payload["transactionInfo"]
    evse = payload.get("evse", {})
    flags: set[str] = set()
    found = meter.samples(payload.get("meterValue", ()))
    at = instant(payload["timestamp"], "timestamp", flags)
    shared: dict[str, Any] = {
        "station_id": origin.station_id,
        "link_id": origin.link_id,
        "received_at": origin.received_at,
        "version": version,
        "action": call.action,
        "at": at,
        "transaction_id": transaction["transactionId"],
        "seq_no": small(payload, "seqNo"),
        "evse_id": small(evse, "id"),
        "connector_id": small(evse, "connectorId"),
        "id_token": _token(payload.get("idToken")),
        "samples": found,
        "trigger": payload["triggerReason"],
        "charging_state": transaction.get("chargingState", ""),
        "is_offline": payload.get("offline", False),
        "payload": call.payload_json,
        "digest": digest(payload),
        "flags": meter.all_flags(found, flags),
    }
    if "remoteStartId" in transaction:
        shared["remote_start_id"] = whole(transaction, "remoteStartId")
    if "numberOfPhasesUsed" in payload:
        shared["phases_used"] = small(payload, "numberOfPhasesUsed")
    if "cableMaxCurrent" in payload:
        shared["cable_max_current_a"] = float(payload["cableMaxCurrent"])
    kind = payload["eventType"]
    if kind == "Updated":
        return Exchange(made(SessionUpdated, shared), transaction_answer)
    if kind == "Started":
        started = SessionStarted(
            **shared,
            meter_start_wh=meter.first_energy_wh(found),
            reservation_id=_optional(payload, "reservationId"),
        )
        return Exchange(started, transaction_answer)
    ended = SessionEnded(
        **shared,
        meter_stop_wh=meter.last_energy_wh(found),
        stop_reason=transaction.get("stoppedReason", ""),
    )
    return Exchange(ended, transaction_answer)


def transaction_answer(reply: SessionReply) -> Payload:
    """Return the answer to a TransactionEvent."""
    answer: Payload = {}
    if reply.total_cost is not None:
        answer["totalCost"] = reply.total_cost
    if reply.priority is not None:
        answer["chargingPriority"] = _priority(reply.priority)
    if reply.authorization is not None:
        answer["idTokenInfo"] = id_token_info(reply.authorization)
    return answer


def _optional(payload: Payload, name: str) -> int | None:
    return whole(payload, name) if name in payload else None


def _meter_values(call: Call, origin: Origin) -> Exchange:
    report = MeterReported(
        **origin._asdict(),
        evse_id=small(call.payload, "evseId"),
        samples=meter.samples(call.payload["meterValue"]),
        payload=call.payload_json,
    )
    return Exchange(report, nothing)


def _vendor(call: Call, origin: Origin) -> Exchange:
    data = call.payload.get("data")
    report = VendorMessage(
        **origin._asdict(),
        vendor_id=call.payload["vendorId"],
        message_id=call.payload.get("messageId", ""),
        data=data if data is None or isinstance(data, str) else orjson.dumps(data).decode(),
    )
    return Exchange(report, vendor_answer)


def record(answer: Payload) -> Callable[[Call, Origin], Exchange]:
    """Return what keeps a message as it came and answers `answer`."""

    def keep(call: Call, origin: Origin) -> Exchange:
        report = RecordReceived(
            **origin._asdict(),
            version=OcppVersion.V201,
            action=call.action,
            payload=call.payload_json,
        )
        return Exchange(report, lambda reply: answer)

    return keep


_EXCHANGES: dict[str, Callable[[Call, Origin], Exchange]] = {
    **device.incoming(OcppVersion.V201),
    "BootNotification": _boot,
    "StatusNotification": _status,
    "Authorize": _authorize,
    "TransactionEvent": transaction,
    "MeterValues": _meter_values,
    "NotifyEVChargingNeeds": smart.needs,
    "NotifyEVChargingSchedule": smart.proposed,
    "ReportChargingProfiles": smart.profiles_reported,
    "NotifyChargingLimit": smart.limit_notified,
    "ClearedChargingLimit": smart.limit_cleared,
    "DataTransfer": _vendor,
    "SignCertificate": certificates.asked,
    "SecurityEventNotification": certificates.security_event(OcppVersion.V201),
    "Get15118EVCertificate": certificates.contract_asked(OcppVersion.V201),
    "GetCertificateStatus": certificates.status_asked,
} | {
    action: record({})
    for action in (
        "NotifyDisplayMessages",
        "ReservationStatusUpdate",
    )
}


def profile(purpose: str, command: SetSchedule | SetGuard | StartCharging) -> Payload:
    """Return a command's schedule as a charging profile."""
    schedule = command.schedule
    if schedule is None:
        raise Unsendable("not valid: there is no schedule")
    found: Payload = {
        "id": schedule.profile_id,
        "stackLevel": schedule.stack_level,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Absolute",
    }
    if purpose == TX_PROFILE and isinstance(command, SetSchedule):
        found["transactionId"] = command.transaction_id
    found["chargingSchedule"] = [{"id": schedule.profile_id} | schedule_payload(schedule)]
    return found


def place_of(command: SetSchedule) -> int:
    """Return the EVSE that a plan goes to: a station's maximum is of the whole of it."""
    return 0 if command.schedule.purpose == STATION_MAX else command.evse_id


def set_profile(evse_id: int, wanted: Payload) -> Sequence[Step]:
    """Return the call that installs a profile."""
    return (step("SetChargingProfile", {"evseId": evse_id, "chargingProfile": wanted}),)


def _remote_start(command: StartCharging) -> Sequence[Step]:
    token = command.id_token
    payload: Payload = {
        "remoteStartId": command.remote_start_id,
        "idToken": {"idToken": token.value, "type": token.kind or _CENTRAL},
    }
    if command.evse_id:
        payload["evseId"] = command.evse_id
    if command.schedule is not None:
        payload["chargingProfile"] = profile(TX_PROFILE, command)
    return (step("RequestStartTransaction", payload),)


_VARIABLE = re.compile(
    r"(?P<component>[^.\[\]]+)(?:\[(?P<component_instance>[^\]]+)\])?"
    r"\.(?P<variable>[^.\[\]]+)(?:\[(?P<variable_instance>[^\]]+)\])?"
)


def _named(name: str, instance: str | None) -> Payload:
    return {"name": name} if instance is None else {"name": name, "instance": instance}


def _configure(command: Configure) -> Sequence[Step]:
    wanted: list[Payload] = []
    for name, value in command.values:
        found = _VARIABLE.fullmatch(name)
        if found is None:
            raise Unsendable(f"not valid: {name} must be Component.Variable")
        wanted.append(
            {
                "attributeValue": value,
                "component": _named(found["component"], found["component_instance"]),
                "variable": _named(found["variable"], found["variable_instance"]),
            }
        )
    return (step("SetVariables", {"setVariableData": wanted}),)


def _trigger(command: Trigger) -> Sequence[Step]:
    payload: Payload = {"requestedMessage": command.message}
    if command.evse_id is not None:
        payload["evse"] = {"id": command.evse_id}
        if command.message == "StatusNotification":
            # A status is a connector's, so this message needs one (2.0.1 F06.FR.12).
            payload["evse"]["connectorId"] = 1
    return (step("TriggerMessage", payload),)


def _read_limits() -> Sequence[Step]:
    wanted = [
        {
            "component": {"name": component},
            "variable": _named(name, instance or None),
        }
        for component, name, instance in VARIABLES
    ]
    return (step("GetVariables", {"getVariableData": wanted}, read_variables),)


def steps(command: Command, version: OcppVersion = OcppVersion.V201) -> Sequence[Step]:
    """Return the calls that carry out `command`; raises Unsendable if there are none."""
    match command:
        case SetSchedule():
            return set_profile(place_of(command), profile(command.schedule.purpose, command))
        case SetGuard():
            purpose = TX_DEFAULT if command.evse_id else STATION_MAX
            return set_profile(command.evse_id, profile(purpose, command))
        case ClearSchedule():
            # An id or a criterion, never both (2.0.1 K10.FR.02).
            payload = {"chargingProfileId": command.profile_id}
            return (step("ClearChargingProfile", payload, read_cleared),)
        case StartCharging():
            return _remote_start(command)
        case StopCharging():
            payload_stop = {"transactionId": command.transaction_id}
            return (step("RequestStopTransaction", payload_stop),)
        case ReadLimits():
            return _read_limits()
        case ReadComposite():
            return smart.read_composite(command, "evseId")
        case ReadProfiles():
            return smart.read_profiles(command)
        case Configure():
            return _configure(command)
        case Reset():
            kind = {"type": "Immediate" if command.is_hard else "OnIdle"}
            where = {"evseId": command.evse_id} if command.evse_id else {}
            return (step("Reset", kind | where),)
        case Trigger():
            return _trigger(command)
        case Unlock():
            payload = {"evseId": command.evse_id, "connectorId": command.connector_id}
            return (step("UnlockConnector", payload),)
        case RawCall():
            return raw_steps(command, version)
    found = device.steps_2(command)
    if found is None:
        found = certificates.steps(command, version)
    if found is not None:
        return found
    raise Unsendable(f"not valid: {version} has no word for {type(command).__name__}")


def exchange(call: Call, origin: Origin) -> Exchange:
    """Return `call` as a question to the centre; raises Refused if nobody serves it."""
    translate = _EXCHANGES.get(call.action)
    if translate is None:
        raise Refused(Code.NOT_SERVED, "this action is not served")
    return translate(call, origin)


class V201:
    """The 2.0.1 adapter."""

    version = OcppVersion.V201

    def __init__(self) -> None:
        self.codec: Codec = codec(OcppVersion.V201)

    def exchange(self, call: Call, origin: Origin) -> Exchange:
        """Return `call` as a question to the centre."""
        return exchange(call, origin)

    def steps(self, command: Command) -> Sequence[Step]:
        """Return the calls that carry out `command`."""
        return steps(command)
