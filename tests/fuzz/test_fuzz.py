"""Mutation fuzzing of every message of every version, over real links into a running system.

`make fuzz` runs it for ten minutes (TASCO_TEST_FUZZ_S); CI for some seconds. No exception at the
edge, no answer outside the error table, no link of another station touched.
"""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from csms.core.model import OcppVersion
from tests.conformance.raw import SUBPROTOCOLS
from tests.fuzz.payloads import actions, calls, odd_frames
from tests.fuzz.turns import WAIT_S, fuzzed, watched
from tests.scenarios.world import World, living
from tests.scenarios.world import settings as system_settings

CODES = {
    "NotImplemented",
    "NotSupported",
    "InternalError",
    "ProtocolError",
    "SecurityError",
    "PropertyConstraintViolation",
    "TypeConstraintViolation",
    "GenericError",
}
CODES_16 = CODES | {"FormationViolation", "OccurenceConstraintViolation"}
CODES_2X = CODES | {
    "FormatViolation",
    "OccurrenceConstraintViolation",
    "RpcFrameworkError",
    "MessageTypeNotSupported",
}
CLOSES = {1003, 1007, 1008, 1009}
"""How we may end the link of a station that sends what is no text, or too much."""


class Bench:
    """A running system, a link that is fuzzed and a quiet one of another station."""

    def __init__(self, version: OcppVersion) -> None:
        self.version = version
        self.codes = CODES_16 if version is OcppVersion.V16 else CODES_2X
        self.answered: Counter[str] = Counter()
        self.world: World
        self.quiet: ClientConnection
        self.socket: ClientConnection | None = None
        self._stack = AsyncExitStack()
        self._number = 0

    async def start(self, url: str) -> None:
        self.world = await self._stack.enter_async_context(living(system_settings(url)))
        for station_id in ("F", "Q"):
            await self.world.register(station_id)
        self.quiet = await self._link("Q")

    async def stop(self) -> None:
        if self.socket is not None:
            await self.socket.close()
        await self.quiet.close()
        await self._stack.aclose()

    async def _link(self, station_id: str) -> ClientConnection:
        protocols: Any = [SUBPROTOCOLS[self.version.value]]
        return await self._stack.enter_async_context(
            connect(f"{self.world.url}/{station_id}", subprotocols=protocols, ping_interval=None)
        )

    async def exchange(self, messages: list[Any]) -> None:
        """Send `messages` and a heartbeat behind them; check every answer until its own comes."""
        if self.socket is None:
            self.socket = await self._link("F")
        asked: dict[str, str] = {}
        odd = [m for m in messages if isinstance(m, str)]
        try:
            for message in messages:
                if isinstance(message, str):
                    await self.socket.send(message)
                else:
                    self._number += 1
                    asked[f"f{self._number}"] = message[0]
                    await self.socket.send(json.dumps([2, f"f{self._number}", *message]))
            await self._answers(self.socket, asked, may_name_others=bool(odd))
        except AssertionError:
            # Its other answers would be taken for those of the next run.
            await self.socket.close()
            self.socket = None
            raise
        except ConnectionClosed:
            assert self.socket.close_code in CLOSES, self.socket.close_code
            self.socket = None
        await self._beat(self.quiet)

    async def _answers(
        self, socket: ClientConnection, asked: dict[str, str], *, may_name_others: bool
    ) -> None:
        self._number += 1
        last, unread = f"h{self._number}", 0
        await socket.send(json.dumps([2, last, "Heartbeat", {}]))
        async with asyncio.timeout(WAIT_S):
            async for text in socket:
                frame = json.loads(text)
                if frame[0] == 2:
                    # What a real station answers to a command it does not know.
                    await socket.send(json.dumps([4, frame[1], "NotImplemented", "", {}]))
                    continue
                if frame[1] == last:
                    break
                action = asked.pop(frame[1], "")
                is_known = bool(action) or frame[1] == "-1" or may_name_others
                assert is_known, f"an answer to nothing: {text}"
                unread += frame[1] == "-1"
                self._judge(action, frame)
        # A frame that is no JSON, a lone surrogate say, is answered under the id "-1".
        assert len(asked) <= unread, f"never answered: {asked}"

    def _judge(self, action: str, frame: list[Any]) -> None:
        if frame[0] == 3:
            self.answered[action] += 1
            return
        assert frame[0] == 4, frame
        assert len(frame) == 5, frame
        assert frame[2] in self.codes, frame
        assert frame[2] != "InternalError", frame
        assert len(frame[3]) <= 255
        assert isinstance(frame[4], dict)

    async def _beat(self, socket: ClientConnection) -> None:
        await socket.send('[2,"q","Heartbeat",{}]')
        async with asyncio.timeout(WAIT_S):
            while json.loads(await socket.recv())[:2] != [3, "q"]:
                pass


@pytest.mark.parametrize("version", list(OcppVersion), ids=lambda v: v.value)
def test_no_message_of_any_version_breaks_anything(version: OcppVersion, database_url: str) -> None:
    bench = Bench(version)
    messages = st.lists(st.one_of(calls(version), calls(version), odd_frames()), max_size=12)
    with watched() as errors, asyncio.Runner() as runner:
        runner.run(bench.start(database_url))
        try:
            runs = fuzzed(messages, lambda made: runner.run(bench.exchange(made)), errors)
        finally:
            runner.run(bench.stop())
    accepted = sum(bench.answered.values())
    print(  # noqa: T201 - shown by `make fuzz`
        f"\n{version}: {runs} runs, {accepted} calls answered with a result, "
        f"{len(bench.answered)} of {len(actions(version))} actions"
    )
    assert accepted > 0
