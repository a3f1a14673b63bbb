"""A transaction as stations tell it, in either version, and what has to hold after each story."""

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.conformance.conftest import Lab
from tests.conformance.raw import RawStation
from tests.scenarios.world import card_of

CARD = card_of(1)
OTHER_CARD = card_of(2)


def now_text(ago: timedelta = timedelta(0)) -> str:
    """Return a station's present time, or one `ago`."""
    at = datetime.now(UTC) - ago
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def token(value: str = CARD, kind: str = "ISO14443") -> dict[str, str]:
    """Return an IdTokenType of 2.x."""
    return {"idToken": value, "type": kind}


def register(energy_wh: float, *, context: str = "Sample.Periodic", at: str = "") -> dict[str, Any]:
    """Return a MeterValueType of 2.x with the import register."""
    return {
        "timestamp": at or now_text(),
        "sampledValue": [{"value": energy_wh, "context": context}],
    }


class Story:
    """One transaction of one station; messages count up as they are told.

    `status` of an answer is what it says of the id token, "" where it says nothing.
    """

    _names = itertools.count(1)

    def __init__(
        self, lab: Lab, station: RawStation, *, evse_id: int = 1, transaction_id: str = ""
    ) -> None:
        self.lab, self.station, self.evse_id = lab, station, evse_id
        self.transaction_id = transaction_id or f"tx-{next(self._names)}"
        self.is_16 = station.version == "1.6"
        self.seq_no = itertools.count()
        self.last: tuple[str, dict[str, Any], str, dict[str, Any]] | None = None
        self._ids = itertools.count(1)

    # --- saying

    async def say(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make a call and remember it as the last."""
        message_id = f"{self.transaction_id}-{next(self._ids)}"
        answer = await self.station.call(action, payload, message_id=message_id)
        self.last = (action, dict(payload), message_id, answer)
        return answer

    async def authorize(self, value: str = CARD) -> dict[str, Any]:
        """Present a token; return what the answer says of it."""
        if self.is_16:
            info: dict[str, Any] = (await self.say("Authorize", {"idTag": value}))["idTagInfo"]
        else:
            info = (await self.say("Authorize", {"idToken": token(value)}))["idTokenInfo"]
        return info

    async def status(self, status: str) -> None:
        """Report a connector's state; 1.6 words, mapped to those of 2.x."""
        if self.is_16:
            payload = {"connectorId": self.evse_id, "errorCode": "NoError", "status": status}
            assert await self.say("StatusNotification", payload) == {}
            return
        word = status if status in ("Available", "Reserved", "Unavailable", "Faulted") else ""
        payload = {
            "evseId": self.evse_id,
            "connectorId": 1,
            "connectorStatus": word or "Occupied",
            "timestamp": now_text(),
        }
        assert await self.say("StatusNotification", payload) == {}

    async def event(
        self,
        kind: str,
        trigger: str,
        *,
        state: str = "",
        reason: str = "",
        card: str | Mapping[str, str] = "",
        energy_wh: float | None = None,
        at: str = "",
        seq_no: int | None = None,
        has_evse: bool = True,
        info: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> dict[str, Any]:
        """Send a TransactionEvent (2.x); `extra` are further members of the request."""
        at = at or now_text()
        payload: dict[str, Any] = {
            "eventType": kind,
            "timestamp": at,
            "triggerReason": trigger,
            "seqNo": next(self.seq_no) if seq_no is None else seq_no,
            "transactionInfo": {"transactionId": self.transaction_id, **(info or {})},
        }
        if state:
            payload["transactionInfo"]["chargingState"] = state
        if reason:
            payload["transactionInfo"]["stoppedReason"] = reason
        if has_evse:
            payload["evse"] = {"id": self.evse_id, "connectorId": 1}
        if card:
            payload["idToken"] = token(card) if isinstance(card, str) else dict(card)
        if energy_wh is not None:
            context = {"Started": "Transaction.Begin", "Ended": "Transaction.End"}
            payload["meterValue"] = [
                register(energy_wh, context=context.get(kind, "Sample.Periodic"), at=at)
            ]
        return await self.say("TransactionEvent", {**payload, **extra})

    # --- journeys of 2.x, in the words of the list

    async def plug(self, energy_wh: float = 1000.0) -> dict[str, Any]:
        """PLUG."""
        await self.status("Preparing")
        return await self.event(
            "Started", "CablePluggedIn", state="EVConnected", energy_wh=energy_wh
        )

    async def auth(self, card: str = CARD) -> None:
        """AUTH."""
        assert (await self.authorize(card))["status"] == "Accepted"
        answer = await self.event("Updated", "Authorized", card=card)
        assert answer["idTokenInfo"]["status"] == "Accepted"

    async def charge(self, energy_wh: float = 1000.0, card: str = CARD) -> None:
        """CHARGE."""
        await self.plug(energy_wh)
        await self.auth(card)
        await self.event("Updated", "ChargingStateChanged", state="Charging", energy_wh=energy_wh)

    async def stop_auth(self, card: str = CARD) -> None:
        """STOPAUTH."""
        assert (await self.authorize(card))["status"] == "Accepted"
        answer = await self.event("Updated", "StopAuthorized", state="EVConnected", card=card)
        assert answer["idTokenInfo"]["status"] == "Accepted"

    # --- journeys of 1.6

    async def start_16(
        self, card: str = CARD, *, meter_wh: int = 1000, at: str = "", **extra: Any
    ) -> dict[str, Any]:
        """Send a StartTransaction; the story goes on under the id of its answer."""
        payload = {
            "connectorId": self.evse_id,
            "idTag": card,
            "meterStart": meter_wh,
            "timestamp": at or now_text(),
            **extra,
        }
        answer = await self.say("StartTransaction", payload)
        self.transaction_id = str(answer["transactionId"])
        return answer

    async def stop_16(
        self, meter_wh: int = 2000, *, reason: str = "", card: str = "", at: str = "", **extra: Any
    ) -> dict[str, Any]:
        """Send a StopTransaction."""
        payload = {
            "transactionId": int(self.transaction_id),
            "meterStop": meter_wh,
            "timestamp": at or now_text(),
            **({"reason": reason} if reason else {}),
            **({"idTag": card} if card else {}),
            **extra,
        }
        return await self.say("StopTransaction", payload)

    async def charging_16(self, card: str = CARD, *, meter_wh: int = 1000) -> None:
        """CHARGING."""
        assert (await self.authorize(card))["status"] == "Accepted"
        await self.status("Preparing")
        answer = await self.start_16(card, meter_wh=meter_wh)
        assert answer["idTagInfo"]["status"] == "Accepted"
        await self.status("Charging")

    # --- what the API shows

    @property
    def station_id(self) -> str:
        """The station's identity."""
        assert self.station.socket.request is not None
        return self.station.socket.request.path.rpartition("/")[2]

    async def shown(self) -> dict[str, Any]:
        """Return the transaction with its messages, as the API shows it."""
        found: dict[str, Any] = await self.lab.get(
            f"transactions/{self.transaction_id}", station_id=self.station_id
        )
        return found

    async def stay(self) -> dict[str, Any]:
        """Return the stay as the API shows it."""
        handle = (await self.shown())["session_id"]
        story = await self.lab.get(f"sessions/{handle}/story")
        found: dict[str, Any] = story["session"]
        return found

    async def all_shown(self) -> list[dict[str, Any]]:
        """Return every transaction of the station, oldest first."""
        page = await self.lab.get("transactions", station_id=self.station_id)
        found: list[dict[str, Any]] = page["items"]
        return list(reversed(found))

    async def told_again(self) -> None:
        """Say the last message again, with its id and with a new one: nothing changes (rule 6)."""
        assert self.last is not None
        action, payload, message_id, first = self.last
        before = [await self.all_shown(), await self._messages()]
        for again_id in (message_id, f"{message_id}-again"):
            answer = await self.station.call(action, payload, message_id=again_id)
            assert meaning(answer) == meaning(first)
        assert [await self.all_shown(), await self._messages()] == before

    async def _messages(self) -> list[Any]:
        found = []
        for one in await self.all_shown():
            found.append(await self.lab.get(f"transactions/{one['session_id']}"))
        return found


def meaning(answer: Any) -> Any:
    """Return an answer without the instants that depend on when it was given."""
    if isinstance(answer, dict):
        timed = ("cacheExpiryDateTime", "expiryDate", "currentTime")
        return {k: meaning(v) for k, v in answer.items() if k not in timed}
    return answer
