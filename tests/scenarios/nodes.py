"""A centre and gateways as nodes on a real NATS server, here or as processes of their own."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from csms.central_node import running_centre
from csms.clock import Clock
from csms.gateway_node import GatewayNode, running_gateway
from csms.settings import BusSettings, Settings
from simulators.simulated import SimulatedStation
from tests.scenarios.world import World, closed, eventually, free_port, settings


@dataclass(frozen=True)
class Place:
    """Where nodes find their store and NATS."""

    store: str
    nats: str
    prefix: str

    def settings(self, **given: Any) -> Settings:
        """Return what nodes run on; sections as keywords."""
        bus = BusSettings(type="nats", url=self.nats, prefix=self.prefix)
        return settings(self.store, bus=bus, **given)


def url_of(node: GatewayNode) -> str:
    """Return where stations connect to a node."""
    return f"ws://127.0.0.1:{node.gateway.port}/ocpp"


@contextlib.asynccontextmanager
async def a_gateway(given: Settings, clock: Clock | None = None) -> AsyncIterator[GatewayNode]:
    """Run a gateway node that reaches the centre."""
    async with running_gateway(given, clock=clock) as node:
        await eventually(lambda: node.bus.is_reached, "the centre is not reached")
        yield node


@contextlib.asynccontextmanager
async def a_centre(given: Settings, *, clock: Clock | None = None) -> AsyncIterator[World]:
    """Run a centre; its world's stations are closed when it ends."""
    async with running_centre(given, clock=clock) as system:
        world = World(system=system)
        try:
            yield world
        finally:
            await closed(world.stations)


@contextlib.asynccontextmanager
async def two_nodes(
    given: Settings, *, clock: Clock | None = None
) -> AsyncIterator[tuple[World, GatewayNode, GatewayNode]]:
    """Run a centre and two gateways; stations of its world connect to the first."""
    async with (
        a_centre(given, clock=clock) as world,
        a_gateway(given, clock) as one,
        a_gateway(given, clock) as two,
    ):
        world.node_url = url_of(one)
        try:
            yield world, one, two
        finally:
            await closed(world.stations)
            world.stations.clear()


def move(station: SimulatedStation, url: str) -> None:
    """Let a station connect to `url` from now on."""
    station.link.options = replace(station.link.options, url=url)


CONFIG = """
[bus]
type = "nats"
url = "{nats}"
prefix = "{prefix}"

[store]
url = "{store}"

[gateway]
port = {ocpp}

[api]
port = {api}

[planner]
collect_s = 0.1

[forecast]
enabled = false

[site.main]
limit_kw = 100

[identity]
tenant_key = "an example key of the tests"
"""


@dataclass(slots=True)
class NodeProcess:
    """`python -m csms serve --role ...` in a process of its own."""

    folder: Path
    place: Place
    role: str
    ocpp: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where stations connect."""
        return f"ws://127.0.0.1:{self.ocpp}/ocpp"

    async def start(self) -> None:
        """Start the process; return once its port is open."""
        text = CONFIG.format(
            nats=self.place.nats,
            prefix=self.place.prefix,
            store=self.place.store,
            ocpp=self.ocpp,
            api=self.api,
        )
        config = self.folder / f"{self.role}.toml"
        config.write_text(text, encoding="utf-8")
        with (self.folder / f"{self.role}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "csms", "serve"),
                *("--role", self.role, "--config", str(config)),
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=log,
            )

    async def open(self) -> None:
        """Wait until stations, or operators, can connect."""
        port = self.ocpp if self.role == "gateway" else self.api

        async def listens() -> bool:
            assert self.process is not None
            assert self.process.returncode is None, self.said()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await eventually(listens, f"{self.role} does not listen", within_s=60.0)

    def said(self) -> str:
        """Return the end of what the process logged."""
        return (self.folder / f"{self.role}.log").read_text("utf-8", errors="replace")[-4000:]

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return await self.exit_code()

    async def exit_code(self, within_s: float = 30.0) -> int:
        """Return the exit code once the process has ended."""
        assert self.process is not None
        async with asyncio.timeout(within_s):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def node_process(folder: Path, place: Place, role: str) -> AsyncIterator[NodeProcess]:
    """Run a node as a process; it is killed in the end if it still runs."""
    node = NodeProcess(folder, place, role)
    await node.start()
    try:
        yield node
    finally:
        if node.process is not None and node.process.returncode is None:
            await node.end(signal.SIGKILL)
