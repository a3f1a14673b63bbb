"""The centre as a process of its own: everything but the gateways, one at a time on a store."""

import contextlib
import os
import socket
import uuid
from collections.abc import AsyncIterator

import structlog
from prometheus_client import Gauge

from csms.app import alive, say_who_can_log_in
from csms.assembly import System, build
from csms.bus.centre_end import CentreEnd
from csms.bus.frames import receive_frames
from csms.bus.nats import Line
from csms.bus_setup import line_options
from csms.clock import Clock
from csms.gateway_setup import clock_from
from csms.opening import open_store
from csms.process import permit_files, quieten_collector, stop_signal
from csms.service.tenure import Tenure
from csms.settings import Settings
from csms.store import links

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def running_centre(
    settings: Settings, *, clock: Clock | None = None
) -> AsyncIterator[System]:
    """Run a centre; the body runs once the API's port is open, whether NATS is there or not.

    Raises Conflict where another leads on the store.
    """
    clock, options = clock or clock_from(settings), line_options(settings)
    store = await open_store(settings)
    try:
        run = uuid.uuid4().hex[:12]
        tenure = Tenure(store, f"{socket.gethostname()} (process {os.getpid()}, run {run})")
        await tenure.take()
        try:
            newest = await store.read(links.newest_link_id)
            line = Line(options, node=f"centre-{run}")
            bus = CentreEnd(line, clock, newest_link_id=newest, may_decide=tenure.holds)
            system = build(settings, store, clock, bus)
            receive_frames(line, bus.run_id, system.frames.take)
            _measure(system, line, bus)

            async def finish() -> None:
                await line.hush()
                await bus.finish()

            lives = (tenure.run, line.run, bus.run)
            async with alive(system, lives=lives, finish=finish):
                yield system
        finally:
            await tenure.release()
    finally:
        await store.close()


def _measure(system: System, line: Line, bus: CentreEnd) -> None:
    at = system.metrics.registry
    Gauge("tasco_gateways", "Gateway nodes that greet", registry=at).set_function(
        lambda: bus.gateways
    )
    Gauge("tasco_bus_connected", "Whether NATS is there", registry=at).set_function(
        lambda: line.is_up
    )


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then stop cleanly within 10 s."""
    open_files, stop = permit_files(), stop_signal()
    async with running_centre(settings) as system:
        quieten_collector()
        log.info(
            "tasco centre runs",
            bus=f"{settings.bus.url} {settings.bus.prefix}",
            api=f"http://{settings.api.host}:{system.api_port}/",
            sites=len(settings.site),
            open_files=open_files,
        )
        await say_who_can_log_in(system)
        await stop.wait()
        log.info("stopping")
