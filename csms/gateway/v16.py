"""OCPP 1.6 <-> messages (edition 2, with the security whitepaper's additions).

A connector *n* is EVSE *n*, and connector 0 the station; a transaction id is the store's integer,
carried as text. StartTransaction is always answered with a transaction id, also when the token is
refused: the station will send a StopTransaction all the same.
"""

from collections.abc import Callable, Sequence

from csms.core.commands import (
    STATION_MAX,
    TX_DEFAULT,
    TX_PROFILE,
    ClearSchedule,
    Command,
    CommandResult,
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
from csms.core.model import Authorization, AuthorizationStatus, IdToken, OcppVersion, made
from csms.core.smart import ReadComposite
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
from csms.gateway.limits import CONFIGURATION_KEYS, read_configuration
from csms.gateway.values import (
    digest,
    instant,
    schedule_payload,
    small,
    utc_text,
    whole,
)

_MAX_ID_TAG = 20
_MAX_TRANSACTION_ID = 2**31 - 1

_STATUS: dict[AuthorizationStatus, str] = {
    AuthorizationStatus.ACCEPTED: "Accepted",
    AuthorizationStatus.BLOCKED: "Blocked",
    AuthorizationStatus.CONCURRENT_TX: "ConcurrentTx",
    AuthorizationStatus.EXPIRED: "Expired",
    AuthorizationStatus.INVALID: "Invalid",
    AuthorizationStatus.NO_CREDIT: "Blocked",
    AuthorizationStatus.NOT_ALLOWED_TYPE_EVSE: "Blocked",
    AuthorizationStatus.NOT_AT_THIS_LOCATION: "Blocked",
    AuthorizationStatus.NOT_AT_THIS_TIME: "Blocked",
    AuthorizationStatus.UNKNOWN: "Invalid",
}


def _boot(call: Call, origin: Origin) -> Exchange:
    payload = call.payload
    report = StationBooted(
        **origin._asdict(),
        version=OcppVersion.V16,
        vendor=payload["chargePointVendor"],
        model=payload["chargePointModel"],
        serial_number=payload.get("chargePointSerialNumber")
        or payload.get("chargeBoxSerialNumber", ""),
        firmware_version=payload.get("firmwareVersion", ""),
        payload=call.payload_json,
    )
    return Exchange(report, boot_answer)


def _status(call: Call, origin: Origin) -> Exchange:
    payload = call.payload
    at = origin.received_at
    if "timestamp" in payload:
        at = instant(payload["timestamp"], "timestamp")
    report = StatusChanged(
        **origin._asdict(),
        at=at,
        evse_id=small(payload, "connectorId"),
        connector_id=1,
        status=payload["status"],
        error_code=payload["errorCode"],
        info=payload.get("info", ""),
        vendor_error_code=payload.get("vendorErrorCode", ""),
    )
    return Exchange(report, nothing)


def _authorize(call: Call, origin: Origin) -> Exchange:
    token = IdToken(value=call.payload["idTag"])
    report = TokenPresented(**origin._asdict(), id_token=token, version=OcppVersion.V16)
    return Exchange(report, _authorize_answer)


def _authorize_answer(reply: TokenReply) -> Payload:
    return {"idTagInfo": id_tag_info(reply.authorization)}


def id_tag_info(authorization: Authorization) -> Payload:
    """Return the decision as 1.6 knows it: five words, and no list of EVSEs."""
    info: Payload = {"status": _STATUS[authorization.status]}
    if authorization.expires_at is not None:
        info["expiryDate"] = utc_text(authorization.expires_at)
    if authorization.group and len(authorization.group) <= _MAX_ID_TAG:
        info["parentIdTag"] = authorization.group
    return info


def _start(call: Call, origin: Origin) -> Exchange:
    payload = call.payload
    flags: set[str] = set()
    reservation = whole(payload, "reservationId", -1)
    report = SessionStarted(
        **origin._asdict(),
        version=OcppVersion.V16,
        action=call.action,
        at=instant(payload["timestamp"], "timestamp", flags),
        evse_id=small(payload, "connectorId"),
        id_token=IdToken(value=payload["idTag"]),
        meter_start_wh=float(whole(payload, "meterStart")),
        reservation_id=reservation if "reservationId" in payload else None,
        payload=call.payload_json,
        digest=digest(payload),
        flags=tuple(sorted(flags)),
    )
    return Exchange(report, _start_answer)


def _start_answer(reply: SessionReply) -> Payload:
    authorization = reply.authorization
    # The schema demands a word; a start whose token nobody decided on is none we would accept.
    info = {"status": "Invalid"} if authorization is None else id_tag_info(authorization)
    return {"idTagInfo": info, "transactionId": int(reply.transaction_id)}


def _meter_values(call: Call, origin: Origin) -> Exchange:
    payload = call.payload
    evse_id = small(payload, "connectorId")
    found = meter.samples(payload["meterValue"])
    if "transactionId" not in payload:
        outside = MeterReported(
            **origin._asdict(), evse_id=evse_id, samples=found, payload=call.payload_json
        )
        return Exchange(outside, nothing)
    report = made(
        SessionUpdated,
        {
            "station_id": origin.station_id,
            "link_id": origin.link_id,
            "received_at": origin.received_at,
            "version": OcppVersion.V16,
            "action": call.action,
            "at": max((sample.at for sample in found), default=origin.received_at),
            "transaction_id": str(whole(payload, "transactionId")),
            "evse_id": evse_id,
            "samples": found,
            "payload": call.payload_json,
            "digest": digest(payload),
            "flags": meter.all_flags(found),
        },
    )
    return Exchange(report, _updated_answer)


def _updated_answer(reply: SessionReply) -> Payload:
    return {}


def _stop(call: Call, origin: Origin) -> Exchange:
    payload = call.payload
    flags: set[str] = set()
    # A stop is sent a few times and then lost for good: no sample is worth refusing it.
    found = meter.samples(payload.get("transactionData", ()), drop_unreadable=True)
    id_tag = payload.get("idTag")
    report = SessionEnded(
        **origin._asdict(),
        version=OcppVersion.V16,
        action=call.action,
        at=instant(payload["timestamp"], "timestamp", flags),
        transaction_id=str(whole(payload, "transactionId")),
        id_token=None if id_tag is None else IdToken(value=id_tag),
        samples=found,
        meter_stop_wh=float(whole(payload, "meterStop")),
        stop_reason=payload.get("reason", ""),
        payload=call.payload_json,
        digest=digest(payload),
        flags=meter.all_flags(found, flags),
    )
    return Exchange(report, _stop_answer)


def _stop_answer(reply: SessionReply) -> Payload:
    return {} if reply.authorization is None else {"idTagInfo": id_tag_info(reply.authorization)}


def _vendor(call: Call, origin: Origin) -> Exchange:
    payload = call.payload
    report = VendorMessage(
        **origin._asdict(),
        vendor_id=payload["vendorId"],
        message_id=payload.get("messageId", ""),
        data=payload.get("data"),
    )
    return Exchange(report, vendor_answer)


_EXCHANGES: dict[str, Callable[[Call, Origin], Exchange]] = {
    **device.incoming(OcppVersion.V16),
    "BootNotification": _boot,
    "StatusNotification": _status,
    "Authorize": _authorize,
    "StartTransaction": _start,
    "MeterValues": _meter_values,
    "StopTransaction": _stop,
    "DataTransfer": _vendor,
    "SecurityEventNotification": certificates.security_event(OcppVersion.V16),
    "SignCertificate": certificates.asked,
}


_WHOLE = "ChargePointMaxProfile"
"""1.6's word for a station's maximum."""


def _transaction_id(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_TRANSACTION_ID:
        raise Unsendable("not valid: a 1.6 transaction id is a whole number below 2^31")
    return int(text)


def _profile(purpose: str, command: SetSchedule | SetGuard | StartCharging) -> Payload:
    schedule = command.schedule
    if schedule is None:
        raise Unsendable("not valid: there is no schedule")
    profile: Payload = {"chargingProfileId": schedule.profile_id}
    if purpose == TX_PROFILE and isinstance(command, SetSchedule):
        profile["transactionId"] = _transaction_id(command.transaction_id)
    return profile | {
        "stackLevel": schedule.stack_level,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Absolute",
        "chargingSchedule": schedule_payload(schedule),
    }


def _set_profile(evse_id: int, profile: Payload) -> Sequence[Step]:
    payload = {"connectorId": evse_id, "csChargingProfiles": profile}
    return (step("SetChargingProfile", payload),)


def _remote_start(command: StartCharging) -> Sequence[Step]:
    payload: Payload = {"idTag": command.id_token.value}
    if command.evse_id:
        payload["connectorId"] = command.evse_id
    if command.schedule is not None:
        payload["chargingProfile"] = _profile(TX_PROFILE, command)
    return (step("RemoteStartTransaction", payload),)


def _configure(command: Configure) -> Sequence[Step]:
    if not command.values:
        raise Unsendable("not valid: there is nothing to configure")
    return tuple(
        step("ChangeConfiguration", {"key": key, "value": value}) for key, value in command.values
    )


def _trigger(command: Trigger) -> Sequence[Step]:
    extended = certificates.EXTENDED_TRIGGERS_16.get(command.message)
    if extended is not None:
        return (step("ExtendedTriggerMessage", {"requestedMessage": extended}),)
    payload: Payload = {"requestedMessage": command.message}
    if command.evse_id:
        payload["connectorId"] = command.evse_id
    return (step("TriggerMessage", payload),)


def _read_limits(command: ReadLimits) -> Sequence[Step]:
    def read(answer: Payload) -> CommandResult:
        return read_configuration(answer, station_id=command.station_id)

    return (step("GetConfiguration", {"key": list(CONFIGURATION_KEYS)}, read),)


def _steps(command: Command) -> Sequence[Step]:
    match command:
        case SetSchedule():
            if command.schedule.purpose == STATION_MAX:
                return _set_profile(0, _profile(_WHOLE, command))
            return _set_profile(command.evse_id, _profile(command.schedule.purpose, command))
        case SetGuard():
            purpose = TX_DEFAULT if command.evse_id else _WHOLE
            return _set_profile(command.evse_id, _profile(purpose, command))
        case ClearSchedule():
            # The id alone: with it a station has to ignore everything else (1.6 §6.13).
            return (step("ClearChargingProfile", {"id": command.profile_id}, read_cleared),)
        case StartCharging():
            return _remote_start(command)
        case StopCharging():
            number = _transaction_id(command.transaction_id)
            return (step("RemoteStopTransaction", {"transactionId": number}),)
        case ReadLimits():
            return _read_limits(command)
        case ReadComposite():
            return smart.read_composite(command, "connectorId")
        case Configure():
            return _configure(command)
        case Reset() if not command.evse_id:
            return (step("Reset", {"type": "Hard" if command.is_hard else "Soft"}),)
        case Trigger():
            return _trigger(command)
        case Unlock():
            return (step("UnlockConnector", {"connectorId": command.evse_id}),)
        case RawCall():
            return raw_steps(command, OcppVersion.V16)
    found = device.steps_16(command)
    if found is None:
        found = certificates.steps(command, OcppVersion.V16)
    if found is not None:
        return found
    raise Unsendable(f"not valid: 1.6 has no word for {type(command).__name__}")


class V16:
    """The 1.6 adapter."""

    version = OcppVersion.V16

    def __init__(self) -> None:
        self.codec: Codec = codec(OcppVersion.V16)

    def exchange(self, call: Call, origin: Origin) -> Exchange:
        """Return `call` as a question to the centre."""
        translate = _EXCHANGES.get(call.action)
        if translate is None:
            raise Refused(Code.NOT_SERVED, "this action is not served")
        return translate(call, origin)

    def steps(self, command: Command) -> Sequence[Step]:
        """Return the calls that carry out `command`."""
        return _steps(command)
