"""Files of holders, vehicles, trips and tokens, and the first concept's JSON."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from csms.api.auth import GuardedRoute
from csms.api.parts import Operator, P
from csms.core.errors import InvalidInput

router = APIRouter(route_class=GuardedRoute, tags=["imports"])


@router.post("/imports/csv")
async def import_csv(
    kind: Literal["holders", "vehicles", "trips", "tokens"],
    request: Request,
    caller: Operator,
    parts: P,
) -> object:
    """Take a CSV file, all of it or nothing; the body is the file itself, UTF-8."""
    try:
        text = (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("the file is not UTF-8") from error
    rows, changed = await parts.enrolment.import_csv(kind, text, by=caller.name)
    for site_id in changed.site_ids:
        parts.replanner.touch(site_id, changed.why)
    return {"kind": kind, "imported": rows}


@router.post("/imports/concept")
async def import_concept(
    body: dict[str, object],
    caller: Operator,
    parts: P,
    empty_sites: Annotated[Literal["none", "all"] | None, Query()] = None,
) -> object:
    """Take `{"drivers": [...], "vehicles": [...], "chargers": [...]}` in the concept's JSON.

    `empty_sites` says what a driver's empty `allowed_sites` means; it is never guessed to be all.
    """
    counts = await parts.enrolment.import_concept(body, empty_sites=empty_sites, by=caller.name)
    return {"imported": counts}
