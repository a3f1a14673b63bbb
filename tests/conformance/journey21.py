"""The words of an OCPP 2.1 station that the rows of block V share."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.conformance.raw import RawStation

_numbers = itertools.count(1)


def instant(seconds: float = 0.0) -> str:
    """Return the instant so many seconds from now, as stations write it."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Tx:
    """One transaction as its station tells of it."""

    def __init__(self, station: RawStation, card: str, *, evse_id: int = 1) -> None:
        self.station, self.card, self.evse_id = station, card, evse_id
        self.transaction_id = f"tx-{next(_numbers)}"
        self.seq_no = -1

    def event(self, kind: str, trigger: str, **given: Any) -> dict[str, Any]:
        """Return the payload of the next TransactionEvent; `info` goes into transactionInfo."""
        self.seq_no += 1
        info = {"chargingState": "Charging", **given.pop("info", {})}
        return {
            "eventType": kind,
            "timestamp": instant(),
            "triggerReason": trigger,
            "seqNo": self.seq_no,
            "transactionInfo": {"transactionId": self.transaction_id, **info},
            "evse": {"id": self.evse_id, "connectorId": 1},
            **given,
        }

    async def started(self, **given: Any) -> dict[str, Any]:
        """Say that it began with its card, the meter at 0."""
        token = {"idToken": {"idToken": self.card, "type": "ISO14443"}}
        return await self.say("Started", "Authorized", **token, meterValue=energy(0), **given)

    async def say(self, kind: str, trigger: str, **given: Any) -> dict[str, Any]:
        """Send one event and return its answer."""
        return await self.station.call("TransactionEvent", self.event(kind, trigger, **given))


def energy(wh: float) -> list[dict[str, Any]]:
    """Return a meter value of a register."""
    return [
        {
            "timestamp": instant(),
            "sampledValue": [{"value": wh, "measurand": "Energy.Active.Import.Register"}],
        }
    ]


def told(**variables: str) -> Any:
    """Return how a station answers GetVariables that knows these: Component__Variable=value."""

    def answer(payload: dict[str, Any]) -> dict[str, Any]:
        results = []
        for item in payload["getVariableData"]:
            name = f"{item['component']['name']}__{item['variable']['name']}"
            result = {"component": item["component"], "variable": item["variable"]}
            if name in variables:
                result |= {"attributeStatus": "Accepted", "attributeValue": variables[name]}
            else:
                result["attributeStatus"] = "UnknownVariable"
            results.append(result)
        return {"getVariableResult": results}

    return answer
