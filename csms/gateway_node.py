"""A gateway as a process of its own: it holds links and knows no store, no planner and no API."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from csms.bus.frames import FrameSender
from csms.bus.gateway_end import GatewayEnd
from csms.bus.nats import Line
from csms.bus_setup import line_options, node_name
from csms.clock import Clock
from csms.gateway.server import Gateway
from csms.gateway_setup import clock_from, gateway_options
from csms.process import STOP_WITHIN_S, permit_files, quieten_collector, stop_signal
from csms.settings import Settings
from csms.status_port import StatusPort
from csms.telemetry import Metrics

log = structlog.get_logger(__name__)

_DRAIN_S = STOP_WITHIN_S - 3.0
_LEAVE_S = 2.0
_CLOCK_S = 10.0


@dataclass(slots=True)
class GatewayNode:
    """The running parts."""

    line: Line
    bus: GatewayEnd
    gateway: Gateway
    frames: FrameSender
    status: StatusPort | None
    clock: Clock

    async def follow_clock(self) -> None:
        """Step to the machine's time where that was set, until cancelled."""
        while True:
            await asyncio.sleep(_CLOCK_S)
            step = self.clock.follow(datetime.now(UTC))
            if step:
                log.warning("clock stepped", by_s=step.total_seconds())


def build(settings: Settings, clock: Clock) -> GatewayNode:
    """Return every part, wired; nothing runs yet."""
    metrics, name = Metrics(), node_name(settings)
    line = Line(line_options(settings), node=f"gateway-{uuid.uuid4().hex[:12]}")
    bus = GatewayEnd(line, clock, name=name)
    frames = FrameSender(line, clock, centre=lambda: bus.centre, lost=metrics.frames_lost.inc)
    keeps = settings.archive.enabled
    gateway = Gateway(
        gateway_options(settings),
        bus=bus,
        clock=clock,
        metrics=metrics,
        tap=frames.show if keeps else None,
    )
    bus.attach_gateway(gateway, lambda: [link.link_id for link in gateway.links()])
    options, status = settings.gateway, None
    if options.status_port is not None:
        status = StatusPort(options.status_host, options.status_port, metrics, lambda: bus.why_not)
    return GatewayNode(line, bus, gateway, frames, status, clock)


@contextlib.asynccontextmanager
async def running_gateway(
    settings: Settings, *, clock: Clock | None = None
) -> AsyncIterator[GatewayNode]:
    """Run a gateway; the body runs once its port is open, whether NATS is there or not."""
    node = build(settings, clock or clock_from(settings))
    await node.gateway.start()
    try:
        if node.status is not None:
            await node.status.start()
        async with asyncio.TaskGroup() as group:
            lives = (node.line.run, node.bus.run, node.frames.run, node.follow_clock)
            tasks = [group.create_task(live()) for live in lives]
            try:
                yield node
            finally:
                await _stop(node)
                for task in tasks:
                    task.cancel()
    finally:
        node.gateway.cut()
        if node.status is not None:
            await node.status.stop()


async def _stop(node: GatewayNode) -> None:
    node.bus.begin_end()
    try:
        async with asyncio.timeout(_DRAIN_S):
            await node.gateway.stop()
    except TimeoutError:
        # They come back by themselves, and what they were answered is on record.
        log.warning("links cut", links=node.gateway.cut(), after_s=_DRAIN_S)
    try:
        async with asyncio.timeout(_LEAVE_S):
            await node.frames.flush()
            await node.bus.leave()
    except TimeoutError:
        log.warning("the centre was not told; it will miss us")


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then stop cleanly within 10 s."""
    open_files, stop = permit_files(), stop_signal()
    async with running_gateway(settings) as node:
        quieten_collector()
        log.info(
            "tasco gateway runs",
            stations=f"ws://{settings.gateway.host}:{node.gateway.port}/ocpp/<station id>",
            bus=f"{settings.bus.url} {settings.bus.prefix}",
            name=node_name(settings),
            open_files=open_files,
        )
        await stop.wait()
        log.info("stopping")
