"""The event stream over a real socket: snapshot first, then notices, and an end for the slow."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import httpx
import uvicorn

from csms.core.messages import Notice
from csms.service.notices import Notices
from csms.telemetry import Metrics
from tests.api.conftest import START, Operator


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def served(operator: Operator) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        operator.app, log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        operator.notices.close()
        server.should_exit = True
        await task


def _notice(kind: str, site_id: str, n: int = 0) -> Notice:
    return Notice(kind=kind, site_id=site_id, at=START + timedelta(seconds=n), detail={"n": n})


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, dict[str, object]]]:
    name = ""
    async for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])
        elif line.startswith(":"):
            yield "beat", {}


async def _next(
    events: AsyncIterator[tuple[str, dict[str, object]]], wanted: str
) -> dict[str, object]:
    async for name, data in events:
        if name == wanted:
            return data
        assert name == "beat", f"{name} came before {wanted}"
    raise AssertionError(f"the stream ended before {wanted}")


async def test_a_stream_starts_with_a_snapshot_and_goes_on_with_notices(
    operator: Operator,
) -> None:
    headers = dict(operator.viewer.headers)
    async with (
        asyncio.timeout(10),
        served(operator) as url,
        httpx.AsyncClient(headers=headers) as client,
        client.stream("GET", f"{url}/api/v1/events?site=depot") as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        events = _events(stream.aiter_lines())
        snapshot = await _next(events, "snapshot")
        assert snapshot["site"]["site_id"] == "depot"  # type: ignore[index]
        operator.notices.show(_notice("session", "elsewhere"))
        operator.notices.show(_notice("plan", "depot", 7))
        plan = await _next(events, "plan")
        assert plan["detail"] == {"n": 7}
        assert plan["at"] == "2026-03-02T16:00:07Z"
        # While nothing happens the stream beats, so that silence means a dead line.
        assert (await anext(events))[0] == "beat"


async def test_streams_end_when_the_process_stops(operator: Operator) -> None:
    headers = dict(operator.viewer.headers)
    async with asyncio.timeout(10), served(operator) as url, httpx.AsyncClient() as client:
        async with client.stream("GET", f"{url}/api/v1/events", headers=headers) as stream:
            events = _events(stream.aiter_lines())
            sites = (await _next(events, "snapshot"))["sites"]
            assert [s["site_id"] for s in sites] == ["depot"]  # type: ignore[attr-defined]
            operator.notices.close()
            assert await _next(events, "resync") == {}
            assert [name async for name, _ in events] == []


async def test_a_stream_needs_a_login_and_a_known_site(operator: Operator) -> None:
    assert (await operator.anonymous.get("/api/v1/events")).status_code == 401
    assert (await operator.viewer.get("/api/v1/events?site=none")).status_code == 404


async def test_a_slow_reader_is_dropped_and_counted_and_others_go_on() -> None:
    metrics = Metrics()
    notices = Notices(metrics, queued=3)
    async with notices.subscribe() as slow, notices.subscribe() as quick:
        for n in range(10):
            notices.show(_notice("sample", "depot", n))
            assert (await anext(quick)).detail["n"] == n
        assert [n async for n in slow] == []
        assert notices.readers == 1
    assert notices.readers == 0
    assert b"tasco_notices_dropped_total 4.0" in metrics.render()
