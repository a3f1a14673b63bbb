"""What meters and forecasters outside report of a site's load and own generation."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Operator, P, Viewer
from csms.api.views import Body, everything, plain
from csms.core.metering import Expected
from csms.service.metering import NewReading

router = APIRouter(route_class=GuardedRoute, tags=["metering"])

MOST = 5_000
Number = Annotated[float, Field(allow_inf_nan=False)]


class ReadingBody(Body):
    """A reading: power, currents (one for each of the phases, or L1, L2, L3), or both."""

    at: AwareDatetime
    power_kw: Number | None = None
    current_a: Number | Annotated[tuple[Number, ...], Field(max_length=3)] = ()


class ReadingsBody(Body):
    """Readings of one meter, in any order."""

    readings: Annotated[tuple[ReadingBody, ...], Field(min_length=1, max_length=MOST)]


class ExpectedBody(Body):
    """A load or own generation as expected; `high_kw` is what nine of ten cases stay below."""

    starts_at: AwareDatetime
    until: AwareDatetime
    power_kw: Number
    high_kw: Number | None = None


class ExpectedSeriesBody(Body):
    """A forecast; it takes the place of all that was expected in the time it spans."""

    kind: Literal["load", "solar"]
    circuit_id: Annotated[str, Field(max_length=60)] = ""
    points: Annotated[tuple[ExpectedBody, ...], Field(min_length=1, max_length=MOST)]


@router.get("/sites/{site_id}/meters")
async def list_meters(site_id: str, _: Viewer, parts: P) -> object:
    """List a site's meters with what each told last and what counts now."""
    return everything([plain(m) for m in await parts.meters.of_site(site_id)])


@router.post("/sites/{site_id}/meters/{meter}/readings")
async def add_readings(
    site_id: str, meter: str, body: ReadingsBody, _: Operator, parts: P
) -> object:
    """Keep readings, all or none; repeated ones change nothing. 422 names the one that is wrong."""
    given = [
        NewReading(
            at=r.at,
            power_kw=r.power_kw,
            current_a=r.current_a if isinstance(r.current_a, tuple) else (r.current_a,),
        )
        for r in body.readings
    ]
    found = await parts.meters.report(site_id, meter, given)
    return {"taken": len(given), "meter": plain(found)}


@router.put("/sites/{site_id}/expected")
async def put_expected(
    site_id: str, body: ExpectedSeriesBody, caller: Operator, parts: P
) -> object:
    """Keep a forecast of load or own generation; the site is planned again."""
    points = [Expected(**p.model_dump()) for p in body.points]
    taken = await parts.meters.expect(
        site_id, body.kind, points, circuit_id=body.circuit_id, by=caller.name
    )
    return {"taken": taken}


@router.get("/sites/{site_id}/expected")
async def show_expected(
    site_id: str,
    _: Viewer,
    parts: P,
    starts_at: Annotated[AwareDatetime | None, Query()] = None,
    until: Annotated[AwareDatetime | None, Query()] = None,
) -> object:
    """Return what is expected in a time, by default of the next 24 hours."""
    since = starts_at or parts.clock.now()
    found = await parts.meters.expected(site_id, since, until or since + timedelta(days=1))
    return everything(
        [
            {"circuit_id": circuit_id, "kind": kind, "points": plain(points)}
            for (circuit_id, kind), points in sorted(found.items())
        ]
    )
