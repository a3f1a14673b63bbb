"""Dialects: what stations take of charging profiles, how we know, and an operator's last word."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Operator, P, Parts, Viewer
from csms.api.views import Body, Id, Name, everything, plain
from csms.core.dialect import ITEMS
from csms.store import stations

router = APIRouter(route_class=GuardedRoute, tags=["dialects"])

Items = Annotated[
    dict[str, bool | int | float | str | list[str] | None], Field(max_length=len(ITEMS))
]


class StationDialect(Body):
    """Items to overrule; null gives an item back to what is known of it."""

    items: Items


class ModelDialect(Body):
    """Items to overrule for every station of a model, of every firmware where it is empty."""

    vendor: Id
    model: Id
    firmware: Name = ""
    items: Items


@router.get("/dialects")
async def list_dialects(_: Viewer, parts: P) -> object:
    """List what is known of each vendor, model and firmware, item by item with its source."""
    return everything(await parts.dialects.models())


@router.put("/dialects")
async def put_dialect(body: ModelDialect, caller: Operator, parts: P) -> object:
    """Overrule items for every station of a model; null takes an overruling back."""
    await parts.dialects.set_model(
        body.vendor, body.model, body.firmware, body.items, by=caller.name
    )
    return everything(await parts.dialects.models())


@router.get("/stations/{station_id}/dialect")
async def station_dialect(station_id: str, _: Viewer, parts: P) -> object:
    """Return a station's dialect: the value that counts of each item, and who else said what."""
    return {"items": plain(await parts.dialects.of_station(station_id))}


@router.put("/stations/{station_id}/dialect")
async def put_station_dialect(
    station_id: str, body: StationDialect, caller: Operator, parts: P
) -> object:
    """Overrule items of one station; null takes an overruling back."""
    found = await parts.dialects.set_station(station_id, body.items, by=caller.name)
    await _plan_again(parts, station_id)
    return {"items": plain(found)}


@router.delete("/stations/{station_id}/dialect")
async def forget_dialect(station_id: str, caller: Operator, parts: P) -> object:
    """Forget what was learned of a station and its model; what it says and overruled items stay."""
    found = await parts.dialects.forget(station_id)
    await _plan_again(parts, station_id)
    return {"items": plain(found)}


async def _plan_again(parts: Parts, station_id: str) -> None:
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    parts.replanner.touch(station.site_id, "dialect changed")
