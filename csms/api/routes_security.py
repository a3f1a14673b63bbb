"""Security of stations: their passwords, their certificates, and what they report of both."""

from fastapi import APIRouter

from csms.api.auth import GuardedRoute
from csms.api.parts import Operator, P
from csms.api.routes_stations import answered
from csms.store import stations

router = APIRouter(route_class=GuardedRoute, tags=["security"])


@router.post("/stations/{station_id}/password/rotate")
async def rotate_password(station_id: str, caller: Operator, parts: P) -> object:
    """Give a connected station a fresh random password; nobody is shown it."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    command_id, result = await parts.passwords.rotate(station, by=caller.name)
    return answered(command_id, result, station.station_id)
