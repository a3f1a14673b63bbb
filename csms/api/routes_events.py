"""The event stream: a snapshot first, then notices as they happen.

A browser's EventSource cannot send an Authorization header, so pages read this with fetch. The
stream beats while nothing happens: silence means that the line is dead. A reader that is too slow
is cut off and starts again with a snapshot.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from csms.api.auth import GuardedRoute
from csms.api.parts import P, Parts, Viewer
from csms.api.views import plain
from csms.core.messages import Notice
from csms.service import live

router = APIRouter(route_class=GuardedRoute, tags=["events"])


@router.get("/events", response_class=StreamingResponse)
async def events(
    caller: Viewer, parts: P, site: Annotated[str, Query(max_length=100)] = ""
) -> StreamingResponse:
    """Stream what happens (`text/event-stream`), at one site or at all."""
    if site:
        await live.site_now(parts.store, site, now=parts.clock.now())
    return StreamingResponse(
        _stream(parts, site),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(parts: Parts, site_id: str) -> AsyncIterator[str]:
    # Subscribed before the snapshot is read: what happens in between is seen twice, never missed.
    async with parts.notices.subscribe() as notices:
        yield _event("snapshot", await _snapshot(parts, site_id))
        waiting = asyncio.ensure_future(anext(notices, None))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=parts.heartbeat_s)
                if not done:
                    yield ": alive\n\n"
                    continue
                notice = waiting.result()
                if notice is None:
                    yield _event("resync", {})
                    return
                if not site_id or notice.site_id in ("", site_id):
                    yield _event(notice.kind, _shown(notice))
                waiting = asyncio.ensure_future(anext(notices, None))
        finally:
            waiting.cancel()


async def _snapshot(parts: Parts, site_id: str) -> object:
    now = parts.clock.now()
    if site_id:
        return plain(await live.site_now(parts.store, site_id, now=now))
    return {"at": plain(now), "sites": plain(await live.all_sites(parts.store, now=now))}


def _shown(notice: Notice) -> object:
    return plain(asdict(notice))


def _event(name: str, data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'), allow_nan=False)}\n\n"
