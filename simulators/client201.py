"""The station's side of OCPP 2.0.1."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from simulators.client import Body, Client, Malformed, Payload, needed, optional
from simulators.clock import iso
from simulators.link import Answer
from simulators.station import Reading, State, Transaction
from simulators.variables import VARIABLES, assigned, fixed_201, text

SETTABLE = {(v.component, v.name, v.instance): v for v in VARIABLES}
SECRET = ("SecurityCtrlr", "BasicAuthPassword", "")
REPORT_ITEMS = 20

CONNECTOR_STATUS = {
    State.AVAILABLE: "Available",
    State.FAULTED: "Faulted",
    State.UNAVAILABLE: "Unavailable",
}
CHARGING_STATE = {
    State.CHARGING: "Charging",
    State.SUSPENDED_EV: "SuspendedEV",
    State.SUSPENDED_EVSE: "SuspendedEVSE",
}
STOPPED = {
    "Local": ("StopAuthorized", "Local"),
    "Remote": ("RemoteStop", "Remote"),
    "EVDisconnected": ("EVCommunicationLost", "EVDisconnected"),
    "DeAuthorized": ("Deauthorized", "DeAuthorized"),
    "ImmediateReset": ("ResetCommand", "ImmediateReset"),
    "Reboot": ("ResetCommand", "Reboot"),
    "UnlockCommand": ("UnlockCommand", "Other"),
    "EmergencyStop": ("AbnormalCondition", "EmergencyStop"),
    "PowerLoss": ("AbnormalCondition", "PowerLoss"),
}


def _sample(value: float, measurand: str, unit: str, context: str, phase: str = "") -> Payload:
    found: Payload = {"value": round(value, 3), "measurand": measurand, "context": context}
    if phase:
        found["phase"] = phase
    found["unitOfMeasure"] = {"unit": unit}
    return found


def meter_value(r: Reading) -> Payload:
    """Return a reading as 2.0.1's MeterValueType."""
    values = [
        _sample(r.energy_wh, "Energy.Active.Import.Register", "Wh", r.context),
        _sample(r.power_w, "Power.Active.Import", "W", r.context),
    ]
    if not r.is_dc:
        for phase in range(r.phases):
            name = f"L{phase + 1}"
            values.append(_sample(r.current_a, "Current.Import", "A", r.context, name))
            values.append(_sample(r.voltage_v, "Voltage", "V", r.context, f"{name}-N"))
        values.append(_sample(r.offered, "Current.Offered", "A", r.context))
    else:
        values.append(_sample(r.offered, "Power.Offered", "W", r.context))
    if r.soc is not None:
        values.append(_sample(r.soc * 100, "SoC", "Percent", r.context))
    return {"timestamp": iso(r.at), "sampledValue": values}


class Client201(Client):
    """OCPP 2.0.1 names. Each EVSE has one connector."""

    version = "2.0.1"
    subprotocol = "ocpp2.0.1"
    format_error = "FormatViolation"
    own_same_level = "refuse"

    def boot(self, reason: str) -> tuple[str, Payload]:
        host = self.host
        return "BootNotification", {
            "reason": reason,
            "chargingStation": {
                "vendorName": host.vendor,
                "model": host.model,
                "serialNumber": host.station_id[:25],
                "firmwareVersion": host.firmware,
            },
        }

    def status(self, evse_id: int, state: State, at: datetime) -> tuple[str, Payload]:
        return "StatusNotification", {
            "timestamp": iso(at),
            "connectorStatus": CONNECTOR_STATUS.get(state, "Occupied"),
            "evseId": evse_id,
            "connectorId": 1,
        }

    def authorize(self, token: str, kind: str) -> tuple[str, Payload]:
        return "Authorize", {"idToken": {"idToken": token, "type": kind}}

    def token_status(self, answer: Body) -> str | None:
        info = answer.get("idTokenInfo")
        return str(info.get("status")) if isinstance(info, Mapping) else None

    def _event(
        self,
        tx: Transaction,
        event: str,
        trigger: str,
        at: datetime,
        *,
        more: Payload,
        **fields: Any,
    ) -> tuple[str, Callable[[], Payload]]:
        payload: Payload = {
            "eventType": event,
            "timestamp": iso(at),
            "triggerReason": trigger,
            "seqNo": tx.next_seq,
            "transactionInfo": {"transactionId": tx.transaction_id, **more},
            "evse": {"id": tx.evse_id, "connectorId": 1},
            **fields,
        }
        if not self.host.is_online:
            payload["offline"] = True
        tx.next_seq += 1
        return "TransactionEvent", lambda: payload

    def started(self, tx: Transaction, reading: Reading) -> tuple[str, Callable[[], Payload]]:
        tx.transaction_id = self.host.new_transaction_id()
        more: Payload = {"chargingState": "EVConnected"}
        trigger = "Authorized"
        if tx.remote_start_id is not None:
            more["remoteStartId"] = tx.remote_start_id
            trigger = "RemoteStart"
        return self._event(
            tx,
            "Started",
            trigger,
            tx.started_at,
            more=more,
            idToken={"idToken": tx.token, "type": tx.token_kind or "ISO14443"},
            meterValue=[meter_value(reading)],
        )

    def was_started(self, tx: Transaction, answer: Body) -> None:
        return None

    def updated(
        self, tx: Transaction, reading: Reading, trigger: str
    ) -> tuple[str, Callable[[], Payload]]:
        evse = self.host.station.evses[tx.evse_id]
        more = {"chargingState": CHARGING_STATE.get(evse.state, "EVConnected")}
        return self._event(
            tx, "Updated", trigger, reading.at, more=more, meterValue=[meter_value(reading)]
        )

    def state_changed(
        self, tx: Transaction, state: State, at: datetime
    ) -> tuple[str, Callable[[], Payload]] | None:
        if state not in CHARGING_STATE:
            return None
        return self._event(
            tx, "Updated", "ChargingStateChanged", at, more={"chargingState": CHARGING_STATE[state]}
        )

    def ended(self, tx: Transaction, reading: Reading) -> tuple[str, Callable[[], Payload]]:
        trigger, reason = STOPPED.get(tx.stop_reason, ("AbnormalCondition", "Other"))
        fields: Payload = {"meterValue": [meter_value(reading)]}
        if tx.stop_token:
            fields["idToken"] = {"idToken": tx.stop_token, "type": tx.token_kind or "ISO14443"}
        return self._event(
            tx,
            "Ended",
            trigger,
            tx.ended_at or reading.at,
            more={"stoppedReason": reason, "chargingState": "EVConnected"},
            **fields,
        )

    def meter_values(self, evse_id: int, reading: Reading) -> tuple[str, Payload]:
        return "MeterValues", {"evseId": evse_id, "meterValue": [meter_value(reading)]}

    def handlers(self) -> Mapping[str, Callable[[Body], Answer]]:
        found = {
            "ChangeAvailability": self._change_availability,
            "ClearCache": self._clear_cache,
            "DataTransfer": self._data_transfer,
            "GetBaseReport": self._get_base_report,
            "GetLocalListVersion": self._get_list_version,
            "GetTransactionStatus": self._get_transaction_status,
            "GetVariables": self._get_variables,
            "RequestStartTransaction": self._request_start,
            "RequestStopTransaction": self._request_stop,
            "Reset": self._reset,
            "SendLocalList": self._send_list,
            "SetVariables": self._set_variables,
            "TriggerMessage": self._trigger,
            "UnlockConnector": self._unlock,
        }
        if self.host.station.installed.dialect.supports_profiles:
            found |= {
                "SetChargingProfile": self._set_profile,
                "ClearChargingProfile": self._clear_profile,
                "GetCompositeSchedule": self._get_composite,
                "GetChargingProfiles": self._get_profiles,
            }
        return found

    # --- smart charging ------------------------------------------------------------------------

    def _set_profile(self, body: Body) -> Answer:
        status, reason = self.install_profile(
            needed(body, "evseId", int), needed(body, "chargingProfile", dict)
        )
        payload: Payload = {"status": status}
        if reason:
            payload["statusInfo"] = {"reasonCode": reason[:20]}
        return Answer(payload=payload)

    def _clear_profile(self, body: Body) -> Answer:
        criteria = optional(body, "chargingProfileCriteria", dict) or {}
        status = self.clear_profiles(
            profile_id=optional(body, "chargingProfileId", int),
            evse_id=optional(criteria, "evseId", int),
            purpose=optional(criteria, "chargingProfilePurpose", str),
            stack_level=optional(criteria, "stackLevel", int),
        )
        return Answer(payload={"status": status})

    def _get_composite(self, body: Body) -> Answer:
        evse_id = needed(body, "evseId", int)
        schedule = self.composite(
            evse_id, needed(body, "duration", int), optional(body, "chargingRateUnit", str)
        )
        if schedule is None:
            return Answer(payload={"status": "Rejected"})
        schedule["scheduleStart"] = iso(schedule.pop("_start"))
        if schedule.pop("_none", False):
            return Answer(payload={"status": "Accepted"})
        return Answer(payload={"status": "Accepted", "schedule": {**schedule, "evseId": evse_id}})

    def _get_profiles(self, body: Body) -> Answer:
        host = self.host
        request_id = needed(body, "requestId", int)
        criteria = needed(body, "chargingProfile", dict)
        evse_id = optional(body, "evseId", int)
        found = [
            p
            for p in host.station.installed.profiles
            if (evse_id is None or p.evse_id == evse_id)
            and p.purpose == criteria.get("chargingProfilePurpose", p.purpose)
            and p.stack_level == criteria.get("stackLevel", p.stack_level)
            and p.profile_id in criteria.get("chargingProfileId", [p.profile_id])
        ]
        if not found:
            return Answer(payload={"status": "NoProfiles"})
        reports = [
            {
                "requestId": request_id,
                "chargingLimitSource": "CSO",
                "evseId": p.evse_id,
                "chargingProfile": [dict(p.body)],
                "tbc": i + 1 < len(found),
            }
            for i, p in enumerate(found)
        ]
        then = [partial(host.say, "ReportChargingProfiles", r) for r in reports]
        return Answer(payload={"status": "Accepted"}, then=[partial(_in_order, then)])

    # --- device model ----------------------------------------------------------------------------

    def _values(self) -> Iterator[tuple[tuple[str, str, str], str, bool]]:
        host = self.host
        for names, variable in SETTABLE.items():
            yield names, text(getattr(host.settings, variable.attribute)), True
        for names, value in self.fixed().items():
            yield names, value, False

    def fixed(self) -> Mapping[tuple[str, str, str], str]:
        """Return the variables that only tell."""
        station = self.host.station
        # One word for the whole station: that of its first EVSE.
        return fixed_201(station.installed.dialect, rotation=station.rotations[0])

    def _get_variables(self, body: Body) -> Answer:
        values = {names: value for names, value, _ in self._values()}
        components = {names[0] for names in values} | {SECRET[0]}
        results = []
        for item in needed(body, "getVariableData", list):
            names = _names(item)
            result: Payload = {"component": item["component"], "variable": item["variable"]}
            if item.get("attributeType", "Actual") != "Actual":
                result["attributeStatus"] = "NotSupportedAttributeType"
            elif names in values:
                result |= {"attributeStatus": "Accepted", "attributeValue": values[names]}
            elif names == SECRET:
                result["attributeStatus"] = "Rejected"
            else:
                known = names[0] in components
                result["attributeStatus"] = "UnknownVariable" if known else "UnknownComponent"
            results.append(result)
        return Answer(payload={"getVariableResult": results})

    def _set_variables(self, body: Body) -> Answer:
        results = []
        for item in needed(body, "setVariableData", list):
            status = self._set(_names(item), needed(item, "attributeValue", str))
            results.append(
                {
                    "component": item["component"],
                    "variable": item["variable"],
                    "attributeStatus": status,
                }
            )
        self.host.settings_changed()
        return Answer(payload={"setVariableResult": results})

    def _set(self, names: tuple[str, str, str], value: str) -> str:
        if names == SECRET:
            self.host.link.options.password = value
            return "Accepted"
        if names in SETTABLE:
            is_set = assigned(self.host.settings, SETTABLE[names], value)
            return "Accepted" if is_set else "Rejected"
        known = {n for n, _, _ in self._values()}
        if names in known:
            return "Rejected"
        return "UnknownVariable" if names[0] in {n[0] for n in known} else "UnknownComponent"

    def _get_base_report(self, body: Body) -> Answer:
        request_id = needed(body, "requestId", int)
        needed(body, "reportBase", str)
        items = [_reported(*value) for value in self._values()]
        items += [item for evse in self.host.station.evses.values() for item in _evse_items(evse)]
        pages = [items[i : i + REPORT_ITEMS] for i in range(0, len(items), REPORT_ITEMS)]
        then = [
            partial(
                self.host.say,
                "NotifyReport",
                {
                    "requestId": request_id,
                    "generatedAt": iso(self.host.now()),
                    "seqNo": i,
                    "tbc": i + 1 < len(pages),
                    "reportData": page,
                },
            )
            for i, page in enumerate(pages)
        ]
        return Answer(payload={"status": "Accepted"}, then=[partial(_in_order, then)])

    # --- the rest -----------------------------------------------------------------------------

    def _request_start(self, body: Body) -> Answer:
        token = needed(body, "idToken", dict)
        accepted = self.begin_remotely(
            evse_id=optional(body, "evseId", int),
            token=needed(token, "idToken", str),
            kind=needed(token, "type", str),
            profile=optional(body, "chargingProfile", dict),
            remote_id=needed(body, "remoteStartId", int),
        )
        return accepted or Answer(payload={"status": "Rejected"})

    def _request_stop(self, body: Body) -> Answer:
        return self.stop_remotely(needed(body, "transactionId", str))

    def _get_transaction_status(self, body: Body) -> Answer:
        transaction_id = optional(body, "transactionId", str)
        payload: Payload = {"messagesInQueue": self.host.outbox.has_durable}
        if transaction_id is not None:
            ongoing = transaction_id in self.host.station.transactions.values()
            payload["ongoingIndicator"] = ongoing
        return Answer(payload=payload)

    def _trigger(self, body: Body) -> Answer:
        host = self.host
        message = needed(body, "requestedMessage", str)
        evse = optional(body, "evse", dict)
        evse_id = None if evse is None else needed(evse, "id", int)
        if evse_id is not None and evse_id not in host.station.evses:
            return Answer(payload={"status": "Rejected"})
        follow_up = host.triggered(message, evse_id)
        if follow_up is None:
            return Answer(payload={"status": "NotImplemented"})
        return Answer(payload={"status": "Accepted"}, then=[follow_up])

    def _reset(self, body: Body) -> Answer:
        kind = needed(body, "type", str)
        if kind not in ("Immediate", "OnIdle"):
            raise Malformed(f"type is {kind!r}; permitted: Immediate, OnIdle")
        is_busy = bool(self.host.station.transactions)
        if kind == "OnIdle" and is_busy:
            then = [partial(self.host.reset_when_idle, "ScheduledReset")]
            return Answer(payload={"status": "Scheduled"}, then=then)
        then = [partial(self.host.reset, "ImmediateReset")]
        return Answer(payload={"status": "Accepted"}, then=then)

    def _unlock(self, body: Body) -> Answer:
        is_free = self.unlock(needed(body, "evseId", int))
        if is_free is None:
            return Answer(payload={"status": "UnknownConnector"})
        status = "Unlocked" if is_free else "OngoingAuthorizedTransaction"
        return Answer(payload={"status": status})

    def _change_availability(self, body: Body) -> Answer:
        evse = optional(body, "evse", dict)
        status = self.set_availability(
            0 if evse is None else needed(evse, "id", int),
            is_operative=needed(body, "operationalStatus", str) == "Operative",
        )
        return Answer(payload={"status": status})

    def _clear_cache(self, body: Body) -> Answer:
        self.host.token_cache.clear()
        return Answer(payload={"status": "Accepted"})

    def _data_transfer(self, body: Body) -> Answer:
        needed(body, "vendorId", str)
        return Answer(payload={"status": "UnknownVendorId"})

    def _get_list_version(self, body: Body) -> Answer:
        return Answer(payload={"versionNumber": self.host.list_version})

    def _send_list(self, body: Body) -> Answer:
        entries: dict[str, str | None] = {}
        for entry in optional(body, "localAuthorizationList", list) or []:
            info = optional(entry, "idTokenInfo", dict)
            token = needed(needed(entry, "idToken", dict), "idToken", str)
            entries[token] = needed(info, "status", str) if info else None
        status = self.take_list(
            needed(body, "versionNumber", int),
            is_full=needed(body, "updateType", str) == "Full",
            entries=entries,
        )
        return Answer(payload={"status": status})


async def _in_order(steps: Sequence[Callable[[], Any]]) -> None:
    for step in steps:
        await step()


def _names(item: Any) -> tuple[str, str, str]:
    if not isinstance(item, Mapping):
        raise Malformed(f"{item!r} must be an object")
    variable = needed(item, "variable", dict)
    component = needed(item, "component", dict)
    return (
        needed(component, "name", str),
        needed(variable, "name", str),
        optional(variable, "instance", str) or "",
    )


def _reported(names: tuple[str, str, str], value: str, writable: bool) -> Payload:
    component, name, instance = names
    kind = "integer" if value.isdecimal() else "string"
    if value in ("true", "false"):
        kind = "boolean"
    elif name == "RateUnit":
        kind = "MemberList"
    return {
        "component": {"name": component},
        "variable": {"name": name, **({"instance": instance} if instance else {})},
        "variableAttribute": [
            {"value": value, "mutability": "ReadWrite" if writable else "ReadOnly"}
        ],
        "variableCharacteristics": {"dataType": kind, "supportsMonitoring": False},
    }


def _evse_items(evse: Any) -> Iterator[Payload]:
    """What a station tells of each EVSE: its state, its phases and its largest power."""
    spec = evse.spec
    where = {"name": "EVSE", "evse": {"id": spec.evse_id}}
    for name, value, kind, limit in (
        ("AvailabilityState", CONNECTOR_STATUS.get(evse.state, "Occupied"), "OptionList", None),
        ("SupplyPhases", str(spec.phases), "integer", None),
        ("Power", str(evse.draw.power_w), "decimal", spec.max_kw * 1000),
    ):
        characteristics: Payload = {"dataType": kind, "supportsMonitoring": False}
        if limit is not None:
            characteristics |= {"unit": "W", "maxLimit": limit}
        yield {
            "component": where,
            "variable": {"name": name},
            "variableAttribute": [{"value": value, "mutability": "ReadOnly"}],
            "variableCharacteristics": characteristics,
        }
