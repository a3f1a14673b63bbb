"""Sites: their numbers now, their limits, what they came to."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from csms.api.auth import GuardedRoute
from csms.api.parts import Limit, Operator, P, Viewer
from csms.api.views import SiteChange, everything, plain
from csms.core.errors import InvalidInput
from csms.core.model import Event, Site
from csms.service import live
from csms.service.challenger import RECENT, summary
from csms.store import journal, rivals, stations
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["sites"])

_MONTH = timedelta(days=30)


@router.get("/sites")
async def list_sites(_: Viewer, parts: P) -> object:
    """List the sites with their numbers now; those with cars that will not be ready come first."""
    return everything(await live.all_sites(parts.store, now=parts.clock.now()))


@router.get("/sites/{site_id}")
async def one_site(site_id: str, _: Viewer, parts: P) -> object:
    """Return a site as configured, its numbers now, what each of its limits carries, its meters."""
    found = await parts.store.read(lambda tx: stations.get_site(tx, site_id))
    now = await live.site_now(parts.store, site_id, now=parts.clock.now())
    return {
        "site": plain(found),
        "now": plain(now.site),
        "circuits": plain(now.circuits),
        "meters": plain(now.meters),
    }


@router.get("/sites/{site_id}/live")
async def live_site(site_id: str, _: Viewer, parts: P) -> object:
    """Return everything a site's page shows first, in one answer."""
    return plain(await live.site_now(parts.store, site_id, now=parts.clock.now()))


@router.patch("/sites/{site_id}")
async def change_site(site_id: str, body: SiteChange, caller: Operator, parts: P) -> object:
    """Change a site while it runs; the site is planned again at once."""
    changes = body.model_dump(exclude_unset=True, exclude_none=True)
    now = parts.clock.now()

    def work(tx: Tx) -> Site:
        before = stations.get_site(tx, site_id)
        after = replace(before, **changes)
        if after.meter and not after.base_load_kw:
            raise InvalidInput(
                "base_load_kw is 0 and meter is set; say the most that the building draws, which "
                "counts while the meter is silent"
            )
        stations.upsert_site(tx, after)
        journal.add_event(
            tx,
            Event(
                at=now,
                kind="site changed",
                site_id=site_id,
                detail={
                    "by": caller.name,
                    **{
                        name: [plain(getattr(before, name)), plain(changes[name])]
                        for name in changes
                    },
                },
            ),
        )
        return after

    after = await parts.store.write(work)
    if changes:
        parts.replanner.touch(site_id, "site changed")
    return plain(after)


@router.get("/sites/{site_id}/challenger")
async def challenger(site_id: str, _: Viewer, parts: P, limit: Limit = 50) -> object:
    """Return how a site's strategy and its challenger plan the same cases, newest first."""

    def work(tx: Tx) -> object:
        stations.get_site(tx, site_id)
        found = rivals.comparisons(tx, site_id, limit=RECENT)
        return {**summary(site_id, found), "items": [plain(c) for c in found[:limit]]}

    return await parts.store.read(work)


@router.get("/sites/{site_id}/analytics")
async def analytics(
    site_id: str,
    _: Viewer,
    parts: P,
    starts_at: Annotated[AwareDatetime | None, Query()] = None,
    until: Annotated[AwareDatetime | None, Query()] = None,
) -> object:
    """Return what the sessions that began in a range came to; by default the last 30 days."""
    end: datetime = until or parts.clock.now()
    start: datetime = starts_at or end - _MONTH
    return plain(await parts.reports.analytics(site_id, starts_at=start, until=end))
