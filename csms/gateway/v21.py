"""OCPP 2.1 <-> messages: what 2.1 adds to 2.0.1 and changes in it.

Names go on the wire as the schemas spell them: 43 of them (`limit_L2`, `setpoint_L3`, `soc`) do
not survive the `ocpp` package's case conversion, so that conversion is used nowhere here.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from csms.core.commands import (
    Command,
    CommandResult,
    Outcome,
    ReadAbilities,
    Schedule,
    SetPriority,
    SetSchedule,
)
from csms.core.messages import (
    DynamicPulled,
    DynamicReply,
    PriorityChanged,
    RecordReceived,
    SessionReply,
    TokenReply,
)
from csms.core.model import OcppVersion
from csms.core.terms import Abilities, Particulars, TransactionLimit
from csms.gateway import certificates, v201
from csms.gateway.adapter import (
    Exchange,
    Origin,
    Payload,
    Step,
    listed,
    nothing,
    numbers,
    step,
)
from csms.gateway.codec import Codec, codec
from csms.gateway.frames import Call
from csms.gateway.values import schedule_payload, tenth, utc_text, whole, whole_second_text

_CHARGING_ONLY = "ChargingOnly"
_NOTHING = Particulars()
_UNCHECKED_FOR = timedelta(hours=1)
"""How long a station need not ask again for a certificate's state that nobody here can tell."""


def _transaction(call: Call, origin: Origin) -> Exchange:
    found = v201.transaction(call, origin, OcppVersion.V21)
    told = _particulars(call.payload)
    report = found.report if told is None else replace(found.report, particulars=told)  # type: ignore[call-arg]
    return Exchange(report, _transaction_answer)


def _particulars(payload: Payload) -> Particulars | None:
    """Return what a TransactionEvent says beyond 2.0.1, None where it says no more."""
    transaction = payload["transactionInfo"]
    told = Particulars(
        limit=_limit(transaction.get("transactionLimit")),
        operation_mode=transaction.get("operationMode", ""),
        tariff_id=transaction.get("tariffId", ""),
        costs=payload.get("costDetails"),
    )
    return None if told == _NOTHING else told


def _limit(told: Payload | None) -> TransactionLimit | None:
    if told is None:
        return None
    charge = told.get("maxSoC")
    return TransactionLimit(
        cost=told.get("maxCost"),
        energy_wh=told.get("maxEnergy"),
        time_s=told.get("maxTime"),
        soc=None if charge is None else charge / 100.0,
    )


def _transaction_answer(reply: SessionReply) -> Payload:
    answer = v201.transaction_answer(reply)
    limit = reply.limit
    if limit is not None:
        told = {
            "maxCost": limit.cost,
            "maxEnergy": limit.energy_wh,
            "maxTime": limit.time_s,
            "maxSoC": None if limit.soc is None else round(limit.soc * 100),
        }
        answer["transactionLimit"] = {n: value for n, value in told.items() if value is not None}
    return answer


def _authorize(call: Call, origin: Origin) -> Exchange:
    found = v201.exchange(call, origin)
    report = replace(found.report, version=OcppVersion.V21)  # type: ignore[call-arg]

    def answer(reply: TokenReply) -> Payload:
        payload = found.answer(reply)
        if reply.tariff is not None:
            # The driver's tariff holds from now on: it must not say from when (2.1 I07).
            payload["tariff"] = {n: v for n, v in reply.tariff.items() if n != "validFrom"}
        if reply.allowed_modes:
            payload["allowedEnergyTransfer"] = list(reply.allowed_modes)
        return payload

    return Exchange(report, answer)


def _priority(call: Call, origin: Origin) -> Exchange:
    report = PriorityChanged(
        **origin._asdict(),
        transaction_id=call.payload["transactionId"],
        is_on=call.payload["activated"],
        payload=call.payload_json,
    )
    return Exchange(report, nothing)


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


def _plan(command: SetSchedule) -> Sequence[Step]:
    schedule = command.schedule
    if command.is_update and schedule.update_every_s is not None:
        limit = {"limit": tenth(schedule.periods[0].limit)}
        payload = {"chargingProfileId": schedule.profile_id, "scheduleUpdate": limit}
        return (step("UpdateDynamicSchedule", payload),)
    profile = v201.profile(schedule.purpose, command)
    if schedule.max_offline_s is not None:
        profile["maxOfflineDuration"] = schedule.max_offline_s
        profile["invalidAfterOfflineDuration"] = True
    if schedule.update_every_s is not None:
        profile["chargingProfileKind"] = "Dynamic"
        profile["dynUpdateInterval"] = schedule.update_every_s
        profile["dynUpdateTime"] = whole_second_text(schedule.starts_at)
        told = profile["chargingSchedule"][0]
        # A dynamic schedule has one period, which holds from when it is taken (2.1 K28.FR.06).
        del told["startSchedule"]
        told["chargingSchedulePeriod"] = [
            {**told["chargingSchedulePeriod"][0], "operationMode": _CHARGING_ONLY}
        ]
    return v201.set_profile(v201.place_of(command), profile)


def _priority_profile(schedule: Schedule) -> Payload:
    told = schedule_payload(schedule)
    # It holds whenever the driver asks for it: without an end (2.1 K21).
    told.pop("duration", None)
    periods = [{**p, "operationMode": _CHARGING_ONLY} for p in told["chargingSchedulePeriod"]]
    return {
        "id": schedule.profile_id,
        "stackLevel": schedule.stack_level,
        "chargingProfilePurpose": "PriorityCharging",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [
            {"id": schedule.profile_id} | told | {"chargingSchedulePeriod": periods}
        ],
    }


def _pull(call: Call, origin: Origin) -> Exchange:
    report = DynamicPulled(**origin._asdict(), profile_id=whole(call.payload, "chargingProfileId"))
    return Exchange(report, _pull_answer)


def _pull_answer(reply: DynamicReply) -> Payload:
    if reply.limit is None:
        return {"status": "Rejected", "statusInfo": {"reasonCode": "UnknownProfile"}}
    return {"status": "Accepted", "scheduleUpdate": {"limit": tenth(reply.limit)}}


_VARIABLES = (
    ("SmartChargingCtrlr", "SupportsDynamicProfiles", ""),
    ("SmartChargingCtrlr", "SupportedAdditionalPurposes", ""),
    ("SmartChargingCtrlr", "MaxExternalConstraintsId", ""),
    ("TxCtrlr", "SupportedLimits", ""),
    ("TariffCostCtrlr", "Available", "Tariff"),
    ("TariffCostCtrlr", "MaxElements", "Tariff"),
    ("V2XChargingCtrlr", "SupportedOperationModes", ""),
)
"""What ReadAbilities asks for: component, variable, instance (OCPP 2.1 part 2, appendix 3)."""

_ASKED = [
    {
        "component": {"name": component},
        "variable": {"name": name, **({"instance": instance} if instance else {})},
    }
    for component, name, instance in _VARIABLES
]


def _read_abilities(answer: Payload) -> CommandResult:
    """Return what a station can do; what it does not know keeps its default."""
    values = {
        result["variable"]["name"]: result.get("attributeValue", "")
        for result in answer["getVariableResult"]
        if result["attributeStatus"] == "Accepted"
    }
    counts = numbers(
        values,
        {
            "MaxExternalConstraintsId": "max_external_constraints_id",
            "MaxElements": "max_tariff_elements",
        },
    )
    abilities = Abilities(
        dynamic_profiles=values.get("SupportsDynamicProfiles", "").lower() == "true",
        additional_purposes=frozenset(listed(values.get("SupportedAdditionalPurposes", ""))),
        max_external_constraints_id=counts.get("max_external_constraints_id", 0),
        supported_limits=frozenset(listed(values.get("SupportedLimits", ""))),
        tariffs=values.get("Available", "").lower() == "true",
        max_tariff_elements=counts.get("max_tariff_elements", 0),
        operation_modes=frozenset(listed(values.get("SupportedOperationModes", ""))),
    )
    return CommandResult(outcome=Outcome.ACCEPTED, answer=answer, abilities=abilities)


_EXCHANGES: dict[str, Callable[[Call, Origin], Exchange]] = {
    "SecurityEventNotification": certificates.security_event(OcppVersion.V21),
    "Get15118EVCertificate": certificates.contract_asked(OcppVersion.V21),
    "Authorize": _authorize,
    "NotifyPriorityCharging": _priority,
    "TransactionEvent": _transaction,
    "PullDynamicScheduleUpdate": _pull,
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
        if isinstance(command, ReadAbilities):
            return (step("GetVariables", {"getVariableData": _ASKED}, _read_abilities),)
        if isinstance(command, SetSchedule):
            return _plan(command)
        if isinstance(command, SetPriority):
            return v201.set_profile(command.evse_id, _priority_profile(command.schedule))
        return v201.steps(command, OcppVersion.V21)
