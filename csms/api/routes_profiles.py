"""What stations hold of charging profiles: ours beside what they report, and where they differ."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Operator, P, Viewer
from csms.api.views import Body, outcome, plain
from csms.core.smart import ReadComposite
from csms.service.comparing import owner
from csms.service.read_back import Holding
from csms.store import stations

router = APIRouter(route_class=GuardedRoute, tags=["stations"])


class CompositeQuestion(Body):
    """Which EVSE's limit to ask for, 0 for the whole station, and over how long."""

    evse_id: Annotated[int, Field(ge=0, le=999)]
    duration_s: Annotated[int, Field(ge=1, le=604800)] = 86400
    unit: Annotated[str, Field(pattern="^(A|W|)$")] = ""


@router.get("/stations/{station_id}/profiles")
async def station_profiles(station_id: str, _: Viewer, parts: P) -> object:
    """Return what a station was given, what it reports, and where the two differ."""
    return _shown(await parts.read_back.shown(station_id))


@router.post("/stations/{station_id}/profiles/read")
async def read_profiles(station_id: str, caller: Operator, parts: P) -> object:
    """Ask a station now for its profiles and composite schedules; reports arrive afterwards."""
    await parts.read_back.look(station_id, asked_by=caller.name)
    return _shown(await parts.read_back.shown(station_id))


@router.post("/stations/{station_id}/composite-schedules")
async def read_composite(
    station_id: str, body: CompositeQuestion, caller: Operator, parts: P
) -> object:
    """Ask a station for the limit in force on an EVSE over time; it is kept beside ours."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    command = ReadComposite(
        station_id=station.station_id,
        evse_id=body.evse_id,
        duration_s=body.duration_s,
        unit=body.unit,
    )
    command_id, result = await parts.devices.run(command, asked_by=caller.name)
    return outcome(command_id, result)


def _shown(holding: Holding) -> object:
    return {
        "read_at": plain(holding.read_at),
        "given": plain(holding.given),
        "reported": [{**_object(profile), "owner": owner(profile)} for profile in holding.reported],
        "composites": plain(holding.composites),
        "differences": plain(holding.differences),
    }


def _object(value: object) -> dict[str, object]:
    shown = plain(value)
    assert isinstance(shown, dict)
    return shown
