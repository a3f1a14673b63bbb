"""The station's side of OCPP 1.6J."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from simulators.client import Body, Client, Malformed, Payload, needed, optional
from simulators.clock import iso
from simulators.link import Answer
from simulators.station import Reading, State, Transaction
from simulators.variables import VARIABLES, assigned, fixed_16, text

KEYS = {v.key: v for v in VARIABLES}
SECRET_KEY = "AuthorizationKey"

REASONS = {
    "Local": "Local",
    "Remote": "Remote",
    "EVDisconnected": "EVDisconnected",
    "DeAuthorized": "DeAuthorized",
    "Reboot": "Reboot",
    "ImmediateReset": "HardReset",
    "SoftReset": "SoftReset",
    "UnlockCommand": "UnlockCommand",
    "EmergencyStop": "EmergencyStop",
    "PowerLoss": "PowerLoss",
}


def _sample(value: float, measurand: str, unit: str, context: str, phase: str = "") -> Payload:
    found = {"value": f"{value:.3f}".rstrip("0").rstrip("."), "measurand": measurand, "unit": unit}
    found["context"] = context
    if phase:
        found["phase"] = phase
    return found


def meter_value(r: Reading) -> Payload:
    """Return a reading as 1.6's MeterValue."""
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


class Client16(Client):
    """OCPP 1.6 names. A connector is an EVSE."""

    version = "1.6"
    subprotocol = "ocpp1.6"
    format_error = "FormationViolation"
    own_same_level = "replace"

    def boot(self, reason: str) -> tuple[str, Payload]:
        host = self.host
        return "BootNotification", {
            "chargePointVendor": host.vendor,
            "chargePointModel": host.model,
            "chargePointSerialNumber": host.station_id[:25],
            "firmwareVersion": host.firmware,
        }

    def status(self, evse_id: int, state: State, at: datetime) -> tuple[str, Payload]:
        return "StatusNotification", {
            "connectorId": evse_id,
            "status": state.value,
            "errorCode": "OtherError" if state is State.FAULTED else "NoError",
            "timestamp": iso(at),
        }

    def authorize(self, token: str, kind: str) -> tuple[str, Payload]:
        return "Authorize", {"idTag": token}

    def token_status(self, answer: Body) -> str | None:
        info = answer.get("idTagInfo")
        return str(info.get("status")) if isinstance(info, Mapping) else None

    def started(self, tx: Transaction, reading: Reading) -> tuple[str, Callable[[], Payload]]:
        payload = {
            "connectorId": tx.evse_id,
            "idTag": tx.token,
            "meterStart": round(tx.meter_start_wh),
            "timestamp": iso(tx.started_at),
        }
        return "StartTransaction", lambda: payload

    def was_started(self, tx: Transaction, answer: Body) -> None:
        number = answer.get("transactionId")
        if isinstance(number, int):
            tx.transaction_id = str(number)

    def _number(self, tx: Transaction) -> int:
        # -1 stands for a start that was never answered (OCA's advice for lost starts).
        return int(tx.transaction_id) if tx.transaction_id is not None else -1

    def updated(
        self, tx: Transaction, reading: Reading, trigger: str
    ) -> tuple[str, Callable[[], Payload]]:
        value = meter_value(reading)

        def build() -> Payload:
            return {
                "connectorId": tx.evse_id,
                "transactionId": self._number(tx),
                "meterValue": [value],
            }

        return "MeterValues", build

    def state_changed(
        self, tx: Transaction, state: State, at: datetime
    ) -> tuple[str, Callable[[], Payload]] | None:
        return None

    def ended(self, tx: Transaction, reading: Reading) -> tuple[str, Callable[[], Payload]]:
        def build() -> Payload:
            payload: Payload = {
                "transactionId": self._number(tx),
                "meterStop": round(tx.meter_stop_wh),
                "timestamp": iso(tx.ended_at or reading.at),
                "reason": REASONS.get(tx.stop_reason, "Other"),
            }
            if tx.stop_token:
                payload["idTag"] = tx.stop_token
            return payload

        return "StopTransaction", build

    def meter_values(self, evse_id: int, reading: Reading) -> tuple[str, Payload]:
        return "MeterValues", {"connectorId": evse_id, "meterValue": [meter_value(reading)]}

    def handlers(self) -> Mapping[str, Callable[[Body], Answer]]:
        found = {
            "ChangeAvailability": self._change_availability,
            "ChangeConfiguration": self._change_configuration,
            "ClearCache": self._clear_cache,
            "DataTransfer": self._data_transfer,
            "GetConfiguration": self._get_configuration,
            "GetLocalListVersion": self._get_list_version,
            "RemoteStartTransaction": self._remote_start,
            "RemoteStopTransaction": self._remote_stop,
            "Reset": self._reset,
            "SendLocalList": self._send_list,
            "TriggerMessage": self._trigger,
            "UnlockConnector": self._unlock,
        }
        if self.host.station.installed.dialect.supports_profiles:
            found |= {
                "SetChargingProfile": self._set_profile,
                "ClearChargingProfile": self._clear_profile,
                "GetCompositeSchedule": self._get_composite,
            }
        return found

    def _set_profile(self, body: Body) -> Answer:
        status, _ = self.install_profile(
            needed(body, "connectorId", int), needed(body, "csChargingProfiles", dict)
        )
        return Answer(payload={"status": status})

    def _clear_profile(self, body: Body) -> Answer:
        status = self.clear_profiles(
            profile_id=optional(body, "id", int),
            evse_id=optional(body, "connectorId", int),
            purpose=optional(body, "chargingProfilePurpose", str),
            stack_level=optional(body, "stackLevel", int),
        )
        return Answer(payload={"status": status})

    def _get_composite(self, body: Body) -> Answer:
        evse_id = needed(body, "connectorId", int)
        schedule = self.composite(
            evse_id, needed(body, "duration", int), optional(body, "chargingRateUnit", str)
        )
        if schedule is None:
            return Answer(payload={"status": "Rejected"})
        start = iso(schedule.pop("_start"))
        if schedule.pop("_none", False):
            return Answer(payload={"status": "Accepted", "connectorId": evse_id})
        schedule["startSchedule"] = start
        return Answer(
            payload={
                "status": "Accepted",
                "connectorId": evse_id,
                "scheduleStart": start,
                "chargingSchedule": schedule,
            }
        )

    def _get_configuration(self, body: Body) -> Answer:
        host = self.host
        fixed = fixed_16(host.station.installed.dialect, rotations=host.station.rotations)
        asked = body.get("key") or [*KEYS, *fixed]
        known: list[Any] = []
        unknown = []
        for key in asked:
            if key in KEYS:
                value = text(getattr(host.settings, KEYS[key].attribute))
                known.append({"key": key, "readonly": False, "value": value})
            elif key in fixed:
                known.append({"key": key, "readonly": True, "value": fixed[key]})
            elif key == SECRET_KEY:
                known.append({"key": key, "readonly": False})
            else:
                unknown.append(key)
        return Answer(payload={"configurationKey": known, "unknownKey": unknown})

    def _change_configuration(self, body: Body) -> Answer:
        host = self.host
        key, value = needed(body, "key", str), needed(body, "value", str)
        if key == SECRET_KEY:
            host.link.options.password = value
            return Answer(payload={"status": "Accepted"})
        if key not in KEYS:
            fixed = fixed_16(host.station.installed.dialect, rotations=host.station.rotations)
            return Answer(payload={"status": "Rejected" if key in fixed else "NotSupported"})
        is_set = assigned(host.settings, KEYS[key], value)
        host.settings_changed()
        return Answer(payload={"status": "Accepted" if is_set else "Rejected"})

    def _remote_start(self, body: Body) -> Answer:
        accepted = self.begin_remotely(
            evse_id=optional(body, "connectorId", int),
            token=needed(body, "idTag", str),
            kind="",
            profile=optional(body, "chargingProfile", dict),
            remote_id=0,
        )
        return accepted or Answer(payload={"status": "Rejected"})

    def _remote_stop(self, body: Body) -> Answer:
        return self.stop_remotely(str(needed(body, "transactionId", int)))

    def _trigger(self, body: Body) -> Answer:
        host = self.host
        message = needed(body, "requestedMessage", str)
        evse_id = optional(body, "connectorId", int)
        if evse_id is not None and evse_id not in host.station.evses:
            return Answer(payload={"status": "Rejected"})
        follow_up = host.triggered(message, evse_id)
        if follow_up is None:
            return Answer(payload={"status": "NotImplemented"})
        return Answer(payload={"status": "Accepted"}, then=[follow_up])

    def _reset(self, body: Body) -> Answer:
        kind = needed(body, "type", str)
        if kind not in ("Hard", "Soft"):
            raise Malformed(f"type is {kind!r}; permitted: Hard, Soft")
        reason = "ImmediateReset" if kind == "Hard" else "SoftReset"
        return Answer(payload={"status": "Accepted"}, then=[partial(self.host.reset, reason)])

    def _unlock(self, body: Body) -> Answer:
        evse_id = needed(body, "connectorId", int)
        if self.unlock(evse_id) is None:
            return Answer(payload={"status": "NotSupported"})
        # 1.6 §5.18: a running transaction is ended by an unlock.
        stop = partial(self.host.remote_stop, evse_id, reason="UnlockCommand")
        return Answer(payload={"status": "Unlocked"}, then=[stop])

    def _change_availability(self, body: Body) -> Answer:
        status = self.set_availability(
            needed(body, "connectorId", int), is_operative=body.get("type") == "Operative"
        )
        return Answer(payload={"status": status})

    def _clear_cache(self, body: Body) -> Answer:
        self.host.token_cache.clear()
        return Answer(payload={"status": "Accepted"})

    def _data_transfer(self, body: Body) -> Answer:
        needed(body, "vendorId", str)
        return Answer(payload={"status": "UnknownVendorId"})

    def _get_list_version(self, body: Body) -> Answer:
        return Answer(payload={"listVersion": self.host.list_version})

    def _send_list(self, body: Body) -> Answer:
        entries: dict[str, str | None] = {}
        for entry in optional(body, "localAuthorizationList", list) or []:
            info = optional(entry, "idTagInfo", dict)
            entries[needed(entry, "idTag", str)] = needed(info, "status", str) if info else None
        status = self.take_list(
            needed(body, "listVersion", int),
            is_full=needed(body, "updateType", str) == "Full",
            entries=entries,
        )
        return Answer(payload={"status": status})
