"""Local authorization lists: what each station holds, and bringing it into step now."""

from typing import Annotated

from fastapi import APIRouter, Query

from csms.api.auth import GuardedRoute
from csms.api.parts import Operator, P, Viewer
from csms.api.views import plain
from csms.core.errors import NotFound
from csms.store import local_lists, stations
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["local lists"])


@router.get("/stations/{station_id}/local-list")
async def local_list(station_id: str, _: Viewer, parts: P) -> object:
    """Return what a station holds of the local authorization list, with its version and limits."""
    return await parts.store.read(lambda tx: _shown(tx, station_id))


@router.post("/stations/{station_id}/local-list/sync")
async def sync(
    station_id: str, _: Operator, parts: P, full: Annotated[bool, Query()] = False
) -> object:
    """Bring a station's list into step now; `full=true` sends it whole."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    await parts.local_lists.sync(station.station_id, is_full=full)
    return await parts.store.read(lambda tx: _shown(tx, station_id))


def _shown(tx: Tx, station_id: str) -> object:
    station = stations.get_station(tx, station_id)
    found = local_lists.find(tx, station.station_id)
    if found is None:
        raise NotFound(f"the list of station {station.station_id} was not looked at yet")
    entries = local_lists.entries(tx, station.station_id).values()
    shown = plain(found)
    assert isinstance(shown, dict)
    return {**shown, "entries": plain(list(entries))}
