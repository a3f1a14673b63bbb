"""Reservations as a resource: the id is the one on the wire (K14 of api.md)."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Cursor, Limit, Operator, P, Viewer
from csms.api.routes_stations import answered
from csms.api.views import listed, plain
from csms.core.model import IdToken
from csms.core.reservation import Reservation
from csms.service.reservations import ReservationRequest
from csms.store import reservations

router = APIRouter(route_class=GuardedRoute, tags=["reservations"])

StationId = Annotated[str, Query(max_length=100)]


class ReservationBody(BaseModel):
    """What is to be kept free, for whom and until when."""

    model_config = ConfigDict(extra="forbid")

    station_id: str = Field(min_length=1, max_length=100)
    evse_id: int | None = Field(default=None, ge=0)
    connector_type: str = Field(default="", max_length=20)
    id_token: str = Field(min_length=1, max_length=255)
    id_token_kind: str = Field(default="", max_length=20)
    group: str = Field(default="", max_length=36)
    expires_at: AwareDatetime


@router.get("/reservations")
async def list_reservations(
    _: Viewer,
    parts: P,
    station_id: StationId = "",
    is_open: Annotated[bool, Query(alias="open")] = False,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List reservations, newest first; `open=true` leaves out those that are over."""
    page = await parts.store.read(
        lambda tx: reservations.list_reservations(
            tx, station_id=station_id, is_open=is_open, limit=limit, cursor=cursor
        )
    )
    return listed(page, [_shown(r) for r in page.items])


@router.post("/reservations", status_code=201)
async def reserve(body: ReservationBody, caller: Operator, parts: P) -> object:
    """Ask a station to keep an EVSE free; the answer says what it made of it."""
    wanted = ReservationRequest(
        station_id=body.station_id,
        evse_id=body.evse_id,
        connector_type=body.connector_type,
        id_token=IdToken(value=body.id_token, kind=body.id_token_kind),
        group=body.group,
        expires_at=body.expires_at,
    )
    command_id, result, kept = await parts.reservations.reserve(wanted, by=caller.name)
    return {**answered(command_id, result, kept.station_id), "reservation": _shown(kept)}


@router.delete("/reservations/{reservation_id}")
async def cancel(
    reservation_id: int, caller: Operator, parts: P, station_id: StationId = ""
) -> object:
    """Ask the station to give a reservation up; it is CANCELLED once the station accepts."""
    command_id, result, kept = await parts.reservations.cancel(
        reservation_id, station_id=station_id, by=caller.name
    )
    return {**answered(command_id, result, kept.station_id), "reservation": _shown(kept)}


def _shown(found: Reservation) -> dict[str, object]:
    shown = plain(found)
    assert isinstance(shown, dict)
    token = shown.pop("id_token")
    return {
        **shown,
        "id_token": token["value"],
        "id_token_kind": token["kind"],
        "status": shown.pop("state"),
        "is_open": found.is_open,
    }
