"""Messages on the displays of stations (OCPP 2.0.1 block O)."""

import json
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Operator, P, Parts, Viewer
from csms.api.routes_stations import answered
from csms.api.views import everything, plain
from csms.core.commands import RawCall
from csms.store import display_messages, stations
from csms.store.display_messages import DisplayMessage
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["display messages"])

Priority = Literal["AlwaysFront", "InFront", "NormalCycle"]
State = Literal["Charging", "Faulted", "Idle", "Unavailable"]


class DisplayMessageBody(BaseModel):
    """A message to show; without times or state it is shown until it is cleared."""

    model_config = ConfigDict(extra="forbid")

    content: str = Field(min_length=1, max_length=512)
    format: Literal["ASCII", "HTML", "URI", "UTF8"] = "UTF8"
    language: str = Field(default="", max_length=8)
    priority: Priority = "NormalCycle"
    state: State | None = None
    starts_at: AwareDatetime | None = None
    until: AwareDatetime | None = None
    transaction_id: str = Field(default="", max_length=36)


@router.get("/stations/{station_id}/display-messages")
async def list_messages(station_id: str, _: Viewer, parts: P) -> object:
    """List what a station shows or will show."""

    def work(tx: Tx) -> list[object]:
        station = stations.get_station(tx, station_id)
        return [_shown(m) for m in display_messages.of_station(tx, station.station_id)]

    return everything(await parts.store.read(work))


@router.post("/stations/{station_id}/display-messages/refresh")
async def refresh(
    station_id: str,
    caller: Operator,
    parts: P,
    priority: Priority | None = None,
    state: State | None = None,
) -> object:
    """Ask a station for its messages; what it reports replaces what is known."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    payload: dict[str, Any] = {"requestId": int(parts.clock.now().timestamp()) % 2**31}
    payload |= {"priority": priority} if priority else {}
    payload |= {"state": state} if state else {}
    return await _run(parts, station.station_id, "GetDisplayMessages", payload, caller.name)


@router.put("/stations/{station_id}/display-messages/{message_id}")
async def show_message(
    station_id: str, message_id: int, body: DisplayMessageBody, caller: Operator, parts: P
) -> object:
    """Show a message; one of the same id is replaced."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    message: dict[str, Any] = {"id": message_id, "priority": body.priority}
    if body.state is not None:
        message["state"] = body.state
    if body.starts_at is not None:
        message["startDateTime"] = plain(body.starts_at)
    if body.until is not None:
        message["endDateTime"] = plain(body.until)
    if body.transaction_id:
        message["transactionId"] = body.transaction_id
    content = {"format": body.format, "content": body.content}
    message["message"] = content | ({"language": body.language} if body.language else {})
    return await _run(
        parts, station.station_id, "SetDisplayMessage", {"message": message}, caller.name
    )


@router.delete("/stations/{station_id}/display-messages/{message_id}")
async def clear_message(station_id: str, message_id: int, caller: Operator, parts: P) -> object:
    """Take a message off a station's display."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    return await _run(
        parts, station.station_id, "ClearDisplayMessage", {"id": message_id}, caller.name
    )


async def _run(parts: Parts, station_id: str, action: str, payload: object, by: str) -> object:
    command = RawCall(station_id=station_id, action=action, payload_json=json.dumps(payload))
    command_id, result = await parts.devices.run(command, asked_by=by)
    return answered(command_id, result, station_id)


def _shown(message: DisplayMessage) -> object:
    shown = plain(message)
    assert isinstance(shown, dict)
    return {**shown, "payload": json.loads(message.payload)}
