"""A gateway on a free port, a centre behind it, and stations on real websockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from csms.bus.local import LocalBus
from csms.clock import Clock
from csms.core.commands import CommandResult
from csms.gateway.config import GatewayConfig
from csms.gateway.server import Gateway
from tests.gateway.centre import NOW, Centre

FAST = GatewayConfig(
    port=0,
    frames_per_s=0,
    admitted_per_s=10_000,
    links_per_minute=10_000,
    call_timeout_s=2.0,
    drain_s=1.0,
    close_s=0.5,
    outage_probe_s=0.05,
)


class Station:
    """The station's end of a websocket, with calls and answers spelled out."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._count = 0

    async def send(self, *parts: Any) -> None:
        """Send one frame."""
        await self.socket.send(json.dumps(list(parts), separators=(",", ":")))

    async def read(self) -> list[Any]:
        """Return the next frame."""
        async with asyncio.timeout(5):
            found: list[Any] = json.loads(await self.socket.recv())
        return found

    async def call(self, action: str, payload: Any) -> list[Any]:
        """Make a call and return the frame that comes next."""
        self._count += 1
        await self.send(2, str(self._count), action, payload)
        return await self.read()

    async def ask(self, action: str, payload: Any) -> dict[str, Any]:
        """Make a call and return its answer's payload."""
        frame = await self.call(action, payload)
        assert frame[:2] == [3, str(self._count)], frame
        answer: dict[str, Any] = frame[2]
        return answer

    async def answer(self, payload: Any) -> list[Any]:
        """Return the next call of the centre, after answering it."""
        frame = await self.read()
        assert frame[0] == 2, frame
        await self.send(3, frame[1], payload)
        return frame

    async def ended(self) -> tuple[int | None, str]:
        """Return close code and reason once the connection is over."""
        async with asyncio.timeout(5):
            await self.socket.wait_closed()
        return self.socket.close_code, self.socket.close_reason or ""


@dataclass
class World:
    """Gateway, bus and centre of one test."""

    gateway: Gateway
    bus: LocalBus
    centre: Centre
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    def url(self, path: str = "/ocpp/CS%201") -> str:
        """Return the address of a station."""
        return f"ws://127.0.0.1:{self.gateway.port}{path}"

    @asynccontextmanager
    async def station(
        self, version: str = "ocpp1.6", path: str = "/ocpp/CS%201", **options: Any
    ) -> AsyncIterator[Station]:
        """Connect a station and let it go afterwards."""
        options = {"ping_interval": None, "close_timeout": 1} | options
        async with connect(self.url(path), subprotocols=[version], **options) as socket:  # type: ignore[list-item]
            yield Station(socket)

    def command(self, command: Any) -> "asyncio.Task[CommandResult]":
        """Give a command through the bus, as the centre would."""
        return asyncio.create_task(self.bus.command(command))


@asynccontextmanager
async def running(config: GatewayConfig = FAST) -> AsyncIterator[World]:
    """Run a gateway with a centre behind it."""
    centre, bus = Centre(), LocalBus()
    bus.attach_centre(centre)
    seen: list[tuple[str, str, str]] = []
    gateway = Gateway(config, bus, Clock(start=NOW), tap=lambda *frame: seen.append(frame))
    bus.attach_gateway(gateway)
    await gateway.start()
    try:
        yield World(gateway, bus, centre, seen)
    finally:
        await gateway.stop()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A gateway with the tests' short time-outs."""
    async with running() as found:
        yield found


@pytest.fixture(params=["ocpp1.6", "ocpp2.0.1", "ocpp2.1"])
def version(request: pytest.FixtureRequest) -> str:
    """The subprotocol: rows of the conformance list run once per version."""
    return str(request.param)


@pytest.fixture
def status(version: str) -> Callable[..., dict[str, Any]]:
    """Return a StatusNotification payload of the version."""

    def payload(evse_id: int = 1) -> dict[str, Any]:
        if version == "ocpp1.6":
            return {"connectorId": evse_id, "errorCode": "NoError", "status": "Available"}
        return {
            "timestamp": "2026-03-02T12:00:00Z",
            "connectorStatus": "Available",
            "evseId": evse_id,
            "connectorId": 1,
        }

    return payload
