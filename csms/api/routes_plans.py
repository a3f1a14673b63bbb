"""Plans with the cases they were made from, prices, forecasts."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from csms.api.auth import GuardedRoute
from csms.api.parts import Cursor, Limit, Operator, P, Viewer
from csms.api.views import everything, listed, plain
from csms.core.errors import InvalidInput, NotFound
from csms.store import plans, series, stations, trips
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["plans"])

_MAX_PRICES = timedelta(days=31)


@router.get("/plans")
async def list_plans(
    _: Viewer,
    parts: P,
    site_id: Annotated[str, Query(max_length=100)] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List plans, newest first, without their rows."""

    def work(tx: Tx) -> object:
        page = plans.list_plans(tx, site_id=site_id, limit=limit, cursor=cursor)
        return listed(page, [plain(p) for p in page.items])

    return await parts.store.read(work)


@router.get("/sites/{site_id}/plan")
async def latest_plan(site_id: str, _: Viewer, parts: P) -> object:
    """Return a site's latest plan."""

    def work(tx: Tx) -> object:
        stations.get_site(tx, site_id)
        stored = plans.latest_plan(tx, site_id)
        if stored is None:
            raise NotFound(f"site {site_id} has no plan yet")
        return _plan(stored)

    return await parts.store.read(work)


@router.post("/sites/{site_id}/plan/preview")
async def preview(site_id: str, _: Operator, parts: P) -> object:
    """Plan the site as it is now and send nothing."""
    case, plan = await parts.replanner.preview(site_id)
    return {"plan": plain(plan), "case": plain(case)}


@router.post("/sites/{site_id}/plan", status_code=202)
async def replan(site_id: str, caller: Operator, parts: P) -> object:
    """Make the site due for a new plan."""
    await parts.store.read(lambda tx: stations.get_site(tx, site_id))
    parts.replanner.touch(site_id, f"asked by {caller.name}")
    return {"site_id": site_id, "status": "due"}


@router.get("/plans/{plan_id}")
async def one_plan(plan_id: int, _: Viewer, parts: P) -> object:
    """Return a plan with its rows."""
    return await parts.store.read(lambda tx: _plan(plans.get_plan(tx, plan_id)))


@router.get("/plans/{plan_id}/case")
async def plan_case(plan_id: int, _: Viewer, parts: P) -> Response:
    """Return the planner's whole input; `tasco plan --case` gives the same plan from it."""
    stored = await parts.store.read(lambda tx: plans.get_plan(tx, plan_id))
    return Response(stored.case.to_json(), media_type="application/json")


@router.get("/prices")
async def prices(
    _: Viewer,
    parts: P,
    tariff_id: Annotated[str, Query(max_length=100)] = "default",
    starts_at: Annotated[AwareDatetime | None, Query()] = None,
    until: Annotated[AwareDatetime | None, Query()] = None,
) -> object:
    """Return the prices known of a range; by default from now on for two days."""
    start = starts_at or parts.clock.now()
    end = until or start + timedelta(days=2)
    if not start < end <= start + _MAX_PRICES:
        raise InvalidInput(f"range must end after it starts, within {_MAX_PRICES.days} days")
    return everything(await parts.store.read(lambda tx: series.prices(tx, tariff_id, start, end)))


def _plan(stored: plans.StoredPlan) -> dict[str, object]:
    shown = plain(stored.plan)
    assert isinstance(shown, dict)
    return {
        "plan_id": stored.head.plan_id,
        "why": stored.head.why,
        **shown,
        "shortfall_kwh": stored.plan.shortfall_kwh,
    }


# --- offers --------------------------------------------------------------------------------------


@router.get("/offers")
async def list_offers(
    _: Viewer,
    parts: P,
    site_id: Annotated[str, Query(max_length=100)] = "",
    session_id: Annotated[str, Query(max_length=100)] = "",
    state: Literal["open", "accepted", "declined", "expired"] | None = None,
    limit: Limit = 50,
) -> object:
    """List incentives offered, newest first."""

    def work(tx: Tx) -> object:
        return trips.list_offers(
            tx, site_id=site_id, session_id=session_id, state=state or "", limit=limit
        )

    return everything(await parts.store.read(work))


@router.post("/offers/{offer_id}/accept")
async def accept_offer(offer_id: str, caller: Operator, parts: P) -> object:
    """Accept an offer for its holder; the plan may rely on it from now on."""
    accepted = await parts.offers.accept(offer_id, by=caller.name)
    parts.replanner.touch(accepted.site_id, "offer accepted")
    return plain(accepted)


@router.post("/offers/{offer_id}/decline")
async def decline_offer(offer_id: str, caller: Operator, parts: P) -> object:
    """Decline an offer for its holder."""
    return plain(await parts.offers.decline(offer_id, by=caller.name))
