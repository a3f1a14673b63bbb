"""Broken answers to our own calls, of every action of every version, over real links.

`make fuzz` gives it half of its time. Whatever a station answers, in whatever shape, once, twice,
under another id or not at all: the command ends with an outcome that says so, nothing reaches the
edge, and neither this link nor another station's is harmed.
"""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from csms.core.commands import Command, CommandResult, Outcome
from csms.core.model import OcppVersion
from csms.gateway.codec import codec
from csms.settings import PlannerSettings
from tests.conformance.raw import SUBPROTOCOLS
from tests.fuzz.payloads import ADAPTERS, UNANSWERED, Reply, exchanges
from tests.fuzz.turns import WAIT_S, fuzzed, watched
from tests.scenarios.world import World, living
from tests.scenarios.world import settings as system_settings

ANSWERED_S, SILENT_S = 10.0, 0.2
TAKEN = {Outcome.ACCEPTED, Outcome.SENT}


class Bench:
    """A running system, a station whose answers are made up, and a quiet one."""

    def __init__(self, version: OcppVersion) -> None:
        self.version = version
        self.outcomes: Counter[str] = Counter()
        self.world: World
        self.fuzzed: ClientConnection
        self.quiet: ClientConnection
        self._reply: Reply | None = None
        self._beats: asyncio.Queue[str] = asyncio.Queue()
        self._stack = AsyncExitStack()

    async def start(self, url: str) -> None:
        given = system_settings(url, planner=PlannerSettings(automation=False))
        self.world = await self._stack.enter_async_context(living(given))
        for station_id in ("F", "Q"):
            await self.world.register(station_id)
        self.fuzzed, self.quiet = await self._link("F"), await self._link("Q")
        self._reader = asyncio.create_task(self._read())

    async def stop(self) -> None:
        self._reader.cancel()
        await self.fuzzed.close()
        await self.quiet.close()
        await self._stack.aclose()

    async def _link(self, station_id: str) -> ClientConnection:
        protocols: Any = [SUBPROTOCOLS[self.version.value]]
        return await self._stack.enter_async_context(
            connect(f"{self.world.url}/{station_id}", subprotocols=protocols, ping_interval=None)
        )

    async def _read(self) -> None:
        """Answer every call as the run wants it; hand on what is ours."""
        try:
            async for text in self.fuzzed:
                frame = json.loads(text)
                if frame[0] != 2:
                    self._beats.put_nowait(str(frame[1]))
                    continue
                reply = self._reply
                for made in () if reply is None else reply.texts:
                    await self.fuzzed.send(made.replace('"@"', json.dumps(frame[1])))
        except ConnectionClosed:
            self._beats.put_nowait("closed")

    async def exchange(self, command: Command, reply: Reply) -> None:
        """Send `command`, answer with `reply`, check what came of it and that both links live."""
        self._reply = reply
        is_silent = reply.kind in UNANSWERED or not reply.is_readable
        wait_s = SILENT_S if is_silent else ANSWERED_S
        devices = self.world.system.waiting.devices
        async with asyncio.timeout(WAIT_S):
            command_id, result = await devices.run(replace(command, wait_s=wait_s), asked_by="fuzz")
        self._reply = None
        self.outcomes[str(result.outcome)] += 1
        if result.outcome is not Outcome.NOT_SENT:
            self._judge(command, reply, result)
        (kept,) = [c for c in await self.world.commands("F") if c.command_id == command_id]
        assert kept.outcome == str(result.outcome), kept
        await self._beat()

    def _judge(self, command: Command, reply: Reply, result: CommandResult) -> None:
        said = (reply.kind, reply.texts, result)
        if not reply.is_answer:
            # Silence, an error or rubbish: a failure, whatever exactly it is called.
            assert result.outcome not in TAKEN, said
            return
        action = ADAPTERS[self.version].steps(command)[0].action
        problem = codec(self.version).check_answer(action, reply.payload)
        if problem is not None:
            assert result.outcome is Outcome.INVALID_ANSWER, said
            assert result.error_description, said

    async def _beat(self) -> None:
        for station_id, socket in (("F", self.fuzzed), ("Q", self.quiet)):
            await socket.send('[2,"beat","Heartbeat",{}]')
            async with asyncio.timeout(WAIT_S):
                while True:
                    got = (
                        await self._beats.get()
                        if socket is self.fuzzed
                        else str(json.loads(await socket.recv())[1])
                    )
                    assert got != "closed", f"the link of {station_id} is gone"
                    if got == "beat":
                        break


@pytest.mark.parametrize("version", list(OcppVersion), ids=lambda v: v.value)
def test_no_answer_to_a_call_of_ours_breaks_anything(version: OcppVersion, sqlite_url: str) -> None:
    bench = Bench(version)
    with watched() as errors, asyncio.Runner() as runner:
        runner.run(bench.start(sqlite_url))
        try:
            runs = fuzzed(
                exchanges(version), lambda made: runner.run(bench.exchange(*made)), errors
            )
        finally:
            runner.run(bench.stop())
    print(f"\n{version}: {runs} calls answered: {dict(bench.outcomes)}")  # noqa: T201
    assert bench.outcomes["invalid_answer"] > 0
    assert bench.outcomes["call_error"] + bench.outcomes["not_supported"] > 0
    assert bench.outcomes["no_answer"] > 0
