"""The station's side of OCPP 2.1: that of 2.0.1, and what 2.1 adds to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from simulators.client import Body, Payload, needed, optional
from simulators.client201 import Client201
from simulators.link import Answer, LinkDown
from simulators.station import Transaction

ADDITIONAL = {
    ("SmartChargingCtrlr", "SupportsDynamicProfiles", ""): "true",
    ("SmartChargingCtrlr", "SupportedAdditionalPurposes", ""): "PriorityCharging",
    ("TxCtrlr", "SupportedLimits", ""): "MaxEnergy,MaxTime,MaxCost",
    ("TariffCostCtrlr", "Available", "Tariff"): "true",
    ("TariffCostCtrlr", "MaxElements", "Tariff"): "20",
}
"""What a 2.1 station tells beyond a 2.0.1 station."""


@dataclass(slots=True)
class Tariffs:
    """The tariffs a station holds; `most_elements` is the number of prices it takes in one."""

    most_elements: int = 20
    by_evse: dict[int, Payload] = field(default_factory=dict)
    by_transaction: dict[str, Payload] = field(default_factory=dict)

    def refusal(self, tariff: Payload) -> str:
        """Return why a tariff is not taken, "" if it is."""
        parts = [p for p in tariff.values() if isinstance(p, dict) and "prices" in p]
        if sum(len(part["prices"]) for part in parts) > self.most_elements:
            return "TooManyElements"
        return ""


class Client21(Client201):
    """OCPP 2.1 names."""

    version = "2.1"
    subprotocol = "ocpp2.1"

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        self.tariffs = Tariffs()
        self.limits: dict[str, Payload] = {}
        """By transaction, the limit that the answer to its start set."""
        self.allowed_modes: dict[str, list[str]] = {}
        self.signals: list[int] = []

    def fixed(self) -> Mapping[tuple[str, str, str], str]:
        """Return the variables that only tell."""
        return {**super().fixed(), **ADDITIONAL}

    def handlers(self) -> Mapping[str, Callable[[Body], Answer]]:
        """Return the commands this version knows."""
        found = {
            **super().handlers(),
            "AFRRSignal": self._signal,
            "ChangeTransactionTariff": self._change_tariff,
            "ClearTariffs": self._clear_tariffs,
            "GetTariffs": self._get_tariffs,
            "NotifyAllowedEnergyTransfer": self._allow_modes,
            "SetDefaultTariff": self._set_tariff,
        }
        if self.host.station.installed.dialect.supports_profiles:
            found["UpdateDynamicSchedule"] = self._update_dynamic
            found["UsePriorityCharging"] = self._use_priority
        return found

    def was_started(self, tx: Transaction, answer: Body) -> None:
        """Keep the limit that the answer sets."""
        limit = optional(answer, "transactionLimit", dict)
        if limit is not None and tx.transaction_id is not None:
            self.limits[tx.transaction_id] = limit

    def resumed(self, tx: Transaction) -> tuple[str, Callable[[], Payload]]:
        """Say that a transaction goes on after the power was away."""
        evse = self.host.station.evses[tx.evse_id]
        return self.updated(tx, evse.reading("Interruption.End"), "TxResumed")

    # --- dynamic profiles ------------------------------------------------------------------------

    def _set_profile(self, body: Body) -> Answer:
        answer = super()._set_profile(body)
        profile = needed(body, "chargingProfile", dict)
        interval_s = optional(profile, "dynUpdateInterval", int)
        is_taken = answer.payload is not None and answer.payload.get("status") == "Accepted"
        if is_taken and interval_s and profile.get("chargingProfileKind") == "Dynamic":
            answer.then = [partial(self._pull_on, needed(profile, "id", int), interval_s)]
        return answer

    async def _pull_on(self, profile_id: int, interval_s: int) -> None:
        """Ask for the present limit every `interval_s`, as long as the profile is there."""
        host = self.host
        began_with = host.station.installed.of_id(profile_id)
        body = None if began_with is None else began_with.body
        while True:
            await host.clock.sleep(interval_s)
            known = host.station.installed.of_id(profile_id)
            if known is None or known.body is not body:
                return
            try:
                await self.pull(profile_id)
            except LinkDown:
                continue

    async def pull(self, profile_id: int) -> Payload:
        """Ask for the present limit of a Dynamic profile, take it, and return the answer."""
        answer = await self.host.link.call(
            "PullDynamicScheduleUpdate", {"chargingProfileId": profile_id}
        )
        update = optional(answer, "scheduleUpdate", dict)
        if answer.get("status") == "Accepted" and update is not None:
            self._apply(profile_id, update)
        return answer

    def _apply(self, profile_id: int, update: Body) -> bool:
        host = self.host
        known = host.station.installed.of_id(profile_id)
        limit = update.get("limit", update.get("setpoint"))
        if known is None or known.kind != "Dynamic" or not isinstance(limit, int | float):
            return False
        now = host.now()
        host.station.advance(now)
        host.station.installed.update(known, float(limit), at=now)
        host.station.advance(now)
        host.profile_changed()
        return True

    def _update_dynamic(self, body: Body) -> Answer:
        is_done = self._apply(
            needed(body, "chargingProfileId", int), needed(body, "scheduleUpdate", dict)
        )
        return Answer(payload={"status": "Accepted" if is_done else "Rejected"})

    # --- priority, modes, signals ----------------------------------------------------------------

    def _evse_of(self, transaction_id: str) -> int | None:
        running = self.host.station.transactions
        return next((evse for evse, tx in running.items() if tx == transaction_id), None)

    def _use_priority(self, body: Body) -> Answer:
        transaction_id = needed(body, "transactionId", str)
        is_on = needed(body, "activate", bool)
        evse_id = self._evse_of(transaction_id)
        if evse_id is None:
            return Answer(payload={"status": "Rejected"})
        if self.host.station.installed.priority_profile(evse_id) is None:
            return Answer(payload={"status": "NoProfile"})
        then = [partial(self.prioritise, evse_id, is_on)]
        return Answer(payload={"status": "Accepted"}, then=then)

    async def prioritise(self, evse_id: int, is_on: bool = True) -> None:
        """Turn priority charging on or off, as the driver or the centre asks, and say so."""
        host = self.host
        now = host.now()
        host.station.advance(now)
        evses = host.station.installed.priority_evses
        (evses.add if is_on else evses.discard)(evse_id)
        host.station.advance(now)
        host.profile_changed()
        transaction_id = host.station.transactions[evse_id]
        payload = {"transactionId": transaction_id, "activated": is_on}
        await host.say("NotifyPriorityCharging", payload)

    def _allow_modes(self, body: Body) -> Answer:
        transaction_id = needed(body, "transactionId", str)
        if self._evse_of(transaction_id) is None:
            return Answer(payload={"status": "Rejected"})
        self.allowed_modes[transaction_id] = needed(body, "allowedEnergyTransfer", list)
        return Answer(payload={"status": "Accepted"})

    def _signal(self, body: Body) -> Answer:
        needed(body, "timestamp", str)
        self.signals.append(needed(body, "signal", int))
        return Answer(payload={"status": "Accepted"})

    # --- tariffs ---------------------------------------------------------------------------------

    def _set_tariff(self, body: Body) -> Answer:
        evse_id, tariff = needed(body, "evseId", int), needed(body, "tariff", dict)
        refusal = self.tariffs.refusal(tariff)
        if refusal:
            return Answer(payload={"status": refusal})
        for known in [evse_id] if evse_id else list(self.host.station.evses):
            self.tariffs.by_evse[known] = tariff
        return Answer(payload={"status": "Accepted"})

    def _get_tariffs(self, body: Body) -> Answer:
        evse_id = needed(body, "evseId", int)
        found: dict[str, list[int]] = {}
        for known, tariff in self.tariffs.by_evse.items():
            if evse_id in (0, known):
                found.setdefault(tariff["tariffId"], []).append(known)
        if not found:
            return Answer(payload={"status": "NoTariff"})
        assignments = [
            {"tariffId": tariff_id, "tariffKind": "DefaultTariff", "evseIds": evses}
            for tariff_id, evses in found.items()
        ]
        return Answer(payload={"status": "Accepted", "tariffAssignments": assignments})

    def _clear_tariffs(self, body: Body) -> Answer:
        wanted = optional(body, "tariffIds", list)
        held = {tariff["tariffId"] for tariff in self.tariffs.by_evse.values()}
        results = [
            {"tariffId": tariff_id, "status": "Accepted" if tariff_id in held else "NoTariff"}
            for tariff_id in (sorted(held) if wanted is None else wanted)
        ]
        cleared = {result["tariffId"] for result in results}
        kept = {e: t for e, t in self.tariffs.by_evse.items() if t["tariffId"] not in cleared}
        self.tariffs.by_evse = kept
        return Answer(payload={"clearTariffsResult": results or [{"status": "NoTariff"}]})

    def _change_tariff(self, body: Body) -> Answer:
        transaction_id, tariff = needed(body, "transactionId", str), needed(body, "tariff", dict)
        if self._evse_of(transaction_id) is None:
            return Answer(payload={"status": "TxNotFound"})
        refusal = self.tariffs.refusal(tariff)
        if refusal:
            return Answer(payload={"status": refusal})
        self.tariffs.by_transaction[transaction_id] = tariff
        return Answer(payload={"status": "Accepted"})
