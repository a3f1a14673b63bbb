"""What was said: raw frames per station, paired, searched, exported and live (K8 of api.md)."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from csms.api.auth import GuardedRoute
from csms.api.parts import Limit, P, Parts, Viewer
from csms.api.problems import Problem
from csms.api.views import plain
from csms.core.model import Station
from csms.store import stations
from csms.store.archive import Exchange, Frame, FrameArchive

router = APIRouter(route_class=GuardedRoute, tags=["frames"])

Since = Annotated[AwareDatetime | None, Query()]


@router.get("/stations/{station_id}/frames")
async def list_frames(
    station_id: str,
    _: Viewer,
    parts: P,
    action: Annotated[str, Query(max_length=64)] = "",
    since: Since = None,
    until: Since = None,
    limit: Limit = 50,
) -> object:
    """List a station's calls, each with its answer, newest first; ask for older ones by `until`."""
    archive = _archive(parts)
    station = await _station(parts, station_id)
    found = await asyncio.to_thread(
        archive.exchanges,
        station_id=station.station_id,
        action=action,
        since=since,
        until=until,
        limit=limit,
    )
    return {"items": [_shown(e) for e in found]}


@router.get("/stations/{station_id}/frames/export", response_class=StreamingResponse)
async def export_frames(
    station_id: str, _: Viewer, parts: P, since: Since = None, until: Since = None
) -> StreamingResponse:
    """Stream a station's frames, oldest first, one JSON object a line, for `tasco replay`.

    Without `since` the last 24 hours.
    """
    archive = _archive(parts)
    station = await _station(parts, station_id)
    if since is None:
        since = (until or parts.clock.now()) - timedelta(hours=24)
    return StreamingResponse(
        _lines(archive, station, since, until),
        media_type="application/x-ndjson",
        headers={"Cache-Control": "no-store"},
    )


@router.get("/stations/{station_id}/frames/live", response_class=StreamingResponse)
async def live_frames(station_id: str, _: Viewer, parts: P) -> StreamingResponse:
    """Stream a station's frames as they pass (`text/event-stream`)."""
    station = await _station(parts, station_id)
    return StreamingResponse(
        _live(parts, station.station_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _live(parts: Parts, station_id: str) -> AsyncIterator[str]:
    async with parts.frames.watch(station_id) as queue:
        yield ": watching\n\n"
        while True:
            try:
                async with asyncio.timeout(parts.heartbeat_s):
                    frame = await queue.get()
            except TimeoutError:
                yield ": alive\n\n"
                continue
            if frame is None:
                return
            yield f"event: frame\ndata: {json.dumps(_one(frame), separators=(',', ':'))}\n\n"


def _lines(
    archive: FrameArchive, station: Station, since: datetime, until: datetime | None
) -> Iterator[str]:
    version = str(station.version or "")
    for frame in archive.frames(
        station_id=station.station_id, since=since, until=until, oldest_first=True
    ):
        line = {
            "at": plain(frame.at),
            "station_id": frame.station_id,
            "version": version,
            "direction": frame.direction,
            "frame": frame.text,
        }
        yield json.dumps(line, separators=(",", ":")) + "\n"


async def _station(parts: Parts, station_id: str) -> Station:
    return await parts.store.read(lambda tx: stations.get_station(tx, station_id))


def _archive(parts: Parts) -> FrameArchive:
    if parts.frames.archive is None:
        raise Problem(
            404, "no-archive", "Not kept", "frames are not kept; set archive.enabled = true"
        )
    return parts.frames.archive


def _shown(exchange: Exchange) -> object:
    answer = exchange.answer
    took = None if answer is None else (answer.at - exchange.frame.at).total_seconds()
    return {
        **_one(exchange.frame),
        "action": exchange.action or None,
        "message_id": exchange.message_id or None,
        "answer": None if answer is None else _one(answer),
        "took_s": took,
    }


def _one(frame: Frame) -> dict[str, object]:
    return {"at": plain(frame.at), "direction": frame.direction, "frame": frame.text}
