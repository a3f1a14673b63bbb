"""A process that is killed under load, again and again, and one that is asked to stop.

`TASCO_TEST_KILLS` says how often (3 by default; `make chaos` more), `TASCO_TEST_SEED` at which
moments. What was answered is in the store exactly once, judged by the stations' journals.
"""

import asyncio
import contextlib
import os
import random
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from csms.store import sessions
from csms.store.database import Store
from simulators.battery import Vehicle
from simulators.clock import SimClock
from simulators.oracle import Verdict, check, records
from simulators.simulated import SimulatedStation
from simulators.variables import Settings as StationSettings
from tests.scenarios.world import (
    VERSIONS,
    card_of,
    closed,
    event_rows,
    eventually,
    free_port,
    living,
    session_row,
    settings,
)

STATIONS = 20
WATCHED = "quiet"
KILLS = int(os.environ.get("TASCO_TEST_KILLS", "3"))
SEED = int(os.environ.get("TASCO_TEST_SEED", "7"))
CONFIG = """
[site.main]
limit_kw = 100

[store]
url = "{url}"

[gateway]
port = {ocpp}

[api]
port = {api}

[planner]
collect_s = 0.2

[forecast]
enabled = false

[identity]
tenant_key = "an example key of the tests"
"""


@dataclass(slots=True)
class Server:
    """`python -m csms serve` on a configuration of its own."""

    folder: Path
    url: str
    ocpp: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        text = CONFIG.format(url=self.url, ocpp=self.ocpp, api=self.api)
        (self.folder / "config.toml").write_text(text, encoding="utf-8")

    async def start(self) -> None:
        """Start the process; return once stations can connect."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "csms", "serve", "--config", str(self.folder / "config.toml")),
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=log,
            )
        await eventually(self._listens, "the server does not listen", within_s=120.0)

    async def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.said()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.ocpp)
        except OSError:
            return False
        writer.close()
        return True

    def said(self) -> str:
        """Return the end of what the process logged."""
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")[-4000:]

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(20.0):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def serving(folder: Path, url: str) -> AsyncIterator[Server]:
    """Run a server that knows STATIONS stations and as many drivers."""
    async with living(settings(url)) as world:
        for number in range(1, STATIONS + 1):
            await world.register(f"c{number}")
            await world.driver(number, departs_in=timedelta(hours=3), energy_kwh=20.0)
        await world.register(WATCHED)
    server = Server(folder, url)
    await server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.returncode is None:
            await server.end(signal.SIGKILL)


@dataclass(slots=True)
class Load:
    """Cars that come and go at every station until told to stop."""

    server: Server
    found: list[SimulatedStation] = field(default_factory=list)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        clock = SimClock()
        for number in range(1, STATIONS + 1):
            station = SimulatedStation(
                f"ws://127.0.0.1:{self.server.ocpp}/ocpp",
                f"c{number}",
                version=VERSIONS[number % len(VERSIONS)],
                clock=clock,
                journal=True,
                boots=True,
                seed=SEED,
                settings=StationSettings(sample_interval_s=1, message_attempt_interval_s=1),
            )
            station.link.options.backoff_s = (0.1, 0.5)
            self.found.append(station)

    async def drive(self, number: int, station: SimulatedStation) -> None:
        """Let cars come and go at one station, online or not."""
        dice = random.Random(f"{SEED}/{number}")
        await station.power_up()
        while not self.is_over.is_set():
            await station.plug_in(1, Vehicle(battery_kwh=60.0), soc=0.2)
            await station.start(1, card_of(number))
            await self._pause(0.3 + dice.random() * 1.5)
            await station.stop(1, token=card_of(number))
            await station.unplug(1)
            await self._pause(dice.random() * 0.3)
        await station.drained(60.0 + 10.0 * KILLS)  # each outage left a queue

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.is_over.wait()

    @property
    def answered(self) -> int:
        """How many transaction messages were answered so far."""
        return sum(r.is_answered for r in records(self._lines()))

    def _lines(self) -> list[dict[str, Any]]:
        return [line for s in self.found if s.journal for line in s.journal.lines]

    async def verdict(self) -> Verdict:
        """Compare the journals with the store, which nobody else has open any more."""
        store = await Store.open(self.server.url)
        try:
            rows = await store.read(event_rows)
            held = []
            cursor = ""
            while True:
                page = await store.read(
                    lambda tx, at=cursor: sessions.list_sessions(tx, limit=200, cursor=at)  # type: ignore[misc]
                )
                held += list(page.items)
                cursor = page.cursor
                if not cursor:
                    break
        finally:
            await store.close()
        now = SimClock().now() + timedelta(hours=1)
        return check(records(self._lines()), rows, sessions=map(session_row, held), now=now)


@contextlib.asynccontextmanager
async def under_load(server: Server) -> AsyncIterator[Load]:
    """Drive all stations; leaving the body ends their sessions and waits until all is said."""
    load = Load(server)
    try:
        async with asyncio.TaskGroup() as group:
            for number, station in enumerate(load.found, start=1):
                group.create_task(load.drive(number, station))
            await eventually(lambda: all(s.finished for s in load.found), "no load")
            yield load
            load.is_over.set()
    finally:
        await closed(load.found)


def is_clean(verdict: Verdict) -> None:
    assert verdict.is_clean, verdict
    assert not verdict.dropped, verdict


async def test_x04_a_server_that_is_killed_loses_and_doubles_nothing(
    database_url: str, tmp_path: Path
) -> None:
    dice = random.Random(SEED)
    print(f"TASCO_TEST_SEED={SEED} TASCO_TEST_KILLS={KILLS}")  # noqa: T201
    async with serving(tmp_path, database_url) as server:
        async with under_load(server) as load:
            for _ in range(KILLS):
                await asyncio.sleep(dice.uniform(0.1, 1.0))
                before = load.answered
                await server.end(signal.SIGKILL)
                await server.start()
                await eventually(
                    lambda before=before: load.answered > before + STATIONS,  # type: ignore[misc]
                    "the stations do not come back",
                    within_s=60.0,
                )
        assert await server.end(signal.SIGTERM) == 0, server.said()
        verdict = await load.verdict()
        is_clean(verdict)
        assert verdict.answered > STATIONS * 4
        assert "Traceback" not in server.said()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="tells no limits of other processes")
async def test_a_server_may_hold_as_many_links_as_the_system_permits_open_files(
    sqlite_url: str, tmp_path: Path
) -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = Server(tmp_path, sqlite_url)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before, 1024), most))
    try:
        await server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
    assert server.process is not None
    permitted = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    assert await server.end(signal.SIGTERM) == 0, server.said()
    assert permitted == (most, most)


@pytest.mark.parametrize(
    ("version", "database_url"),
    [*((v, "sqlite") for v in VERSIONS), ("2.0.1", "postgresql")],
    indirect=["database_url"],
)
async def test_outage_f03_a_server_that_is_asked_to_stop_ends_in_order(
    version: str, database_url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, database_url) as server:
        async with under_load(server) as load:
            code = await _stopped(server, version)
            await server.start()
            before = load.answered
            await eventually(lambda: load.answered > before + STATIONS)
        assert code == 1001
        assert await server.end(signal.SIGTERM) == 0, server.said()
        is_clean(await load.verdict())


async def _stopped(server: Server, version: str) -> int | None:
    """Stop the server; return with what code it closed a link that nothing else uses."""
    url = f"ws://127.0.0.1:{server.ocpp}/ocpp/{WATCHED}"
    async with connect(url, subprotocols=[Subprotocol(f"ocpp{version}")], proxy=None) as link:
        began = time.monotonic()
        assert await server.end(signal.SIGTERM) == 0, server.said()
        assert time.monotonic() - began < 10
        with contextlib.suppress(ConnectionClosed):
            await link.recv()
        return link.close_code
