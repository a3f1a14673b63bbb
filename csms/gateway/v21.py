"""OCPP 2.1 <-> messages: what 2.1 adds to 2.0.1 and changes in it.

Names go on the wire as the schemas spell them: 43 of them (`limit_L2`, `setpoint_L3`, `soc`) do
not survive the `ocpp` package's case conversion, so that conversion is used nowhere here.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from csms.core.messages import Command, RecordReceived
from csms.core.model import OcppVersion
from csms.gateway import v201
from csms.gateway.adapter import Exchange, Origin, Payload, Step
from csms.gateway.codec import Codec, codec
from csms.gateway.frames import Call
from csms.gateway.values import utc_text

_UNCHECKED_FOR = timedelta(hours=1)
"""How long a station need not ask again for a certificate's state that nobody here can tell."""


def _transaction(call: Call, origin: Origin) -> Exchange:
    return v201.transaction(call, origin, OcppVersion.V21)


def _record(answer: Callable[[Call, Origin], Payload]) -> Callable[[Call, Origin], Exchange]:
    def keep(call: Call, origin: Origin) -> Exchange:
        report = RecordReceived(
            **origin._asdict(),
            version=OcppVersion.V21,
            action=call.action,
            payload=call.payload_json,
        )
        spelled = answer(call, origin)
        return Exchange(report, lambda reply: spelled)

    return keep


def _vat(call: Call, origin: Origin) -> Payload:
    # No tax register is attached; the station asks the driver again or goes on without a number.
    answer: Payload = {
        "vatNumber": call.payload["vatNumber"],
        "status": "Rejected",
        "statusInfo": {"reasonCode": "NotSupported"},
    }
    if "evseId" in call.payload:
        answer["evseId"] = call.payload["evseId"]
    return answer


def _chain_status(call: Call, origin: Origin) -> Payload:
    next_at = utc_text(origin.received_at + _UNCHECKED_FOR)
    return {
        "certificateStatus": [
            {
                "certificateHashData": asked["certificateHashData"],
                "source": asked["source"],
                "status": "Failed",
                "nextUpdate": next_at,
            }
            for asked in call.payload["certificateStatusRequests"]
        ]
    }


def _empty(call: Call, origin: Origin) -> Payload:
    return {}


def _accepted(call: Call, origin: Origin) -> Payload:
    return {"status": "Accepted"}


def _rejected(call: Call, origin: Origin) -> Payload:
    return {"status": "Rejected", "statusInfo": {"reasonCode": "UnknownProfile"}}


_EXCHANGES: dict[str, Callable[[Call, Origin], Exchange]] = {
    "TransactionEvent": _transaction,
    "PullDynamicScheduleUpdate": _record(_rejected),
    "VatNumberValidation": _record(_vat),
    "GetCertificateChainStatus": _record(_chain_status),
    "OpenPeriodicEventStream": _record(_accepted),
} | {
    action: _record(_empty)
    for action in (
        "BatterySwap",
        "ClosePeriodicEventStream",
        "NotifyDERAlarm",
        "NotifyDERStartStop",
        "NotifyPeriodicEventStream",
        "NotifyPriorityCharging",
        "NotifySettlement",
        "ReportDERControl",
    )
}


class V21:
    """The 2.1 adapter."""

    version = OcppVersion.V21

    def __init__(self) -> None:
        self.codec: Codec = codec(OcppVersion.V21)

    def exchange(self, call: Call, origin: Origin) -> Exchange:
        """Return `call` as a question to the centre."""
        translate = _EXCHANGES.get(call.action)
        if translate is not None:
            return translate(call, origin)
        found = v201.exchange(call, origin)
        if hasattr(found.report, "version"):
            return found._replace(report=replace(found.report, version=OcppVersion.V21))  # type: ignore[call-arg]
        return found

    def steps(self, command: Command) -> Sequence[Step]:
        """Return the calls that carry out `command`."""
        return v201.steps(command, OcppVersion.V21)
