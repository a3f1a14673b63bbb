"""A NATS server for the tests: that of TASCO_TEST_NATS_URL, or one that answers on loopback.

Each test has a subject prefix of its own, so that parallel runs do not hear each other, and a
small proxy in front of the server where it wants NATS to go away and come back.
"""

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from csms.bus.nats import LineOptions

LOCAL = "nats://127.0.0.1:4222"


@pytest.fixture(scope="session")
def nats_server() -> str:
    """Return the URL of a NATS server; skip where there is none."""
    given = os.environ.get("TASCO_TEST_NATS_URL")
    url = urlsplit(given or LOCAL)
    try:
        with socket.create_connection((url.hostname or "", url.port or 4222), timeout=1) as found:
            answers = found.recv(4) == b"INFO"
    except OSError:
        answers = False
    if not answers:
        # Asked for by name: a server that does not answer is a failure, not a reason to skip.
        assert not given, f"no NATS server answers at {given}"
        pytest.skip("no NATS: set TASCO_TEST_NATS_URL, or run nats-server on 127.0.0.1:4222")
    return given or LOCAL


@pytest.fixture
def prefix() -> str:
    """Return a subject prefix that no other test has."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def line_options(nats_server: str, prefix: str) -> LineOptions:
    """Return what a line needs to connect to the server itself."""
    return LineOptions(servers=(nats_server,), prefix=prefix)


class Broker:
    """A proxy before the server, which can be cut, or say nothing more as a dead network does."""

    def __init__(self, server: str) -> None:
        url = urlsplit(server)
        self._behind = (url.hostname or "127.0.0.1", url.port or 4222)
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._goes = asyncio.Event()
        self._goes.set()
        self.port = 0

    @property
    def url(self) -> str:
        """Where nodes connect."""
        return f"nats://127.0.0.1:{self.port}"

    async def restore(self) -> None:
        """Let nodes connect, on the port of before."""
        self._listener = await asyncio.start_server(self._through, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End every connection and take no more."""
        if self._listener is not None:
            self._listener.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self._goes.set()

    def stall(self) -> None:
        """Let nothing through any more, and tell neither side: what comes meanwhile is lost."""
        self._goes.clear()

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            behind, beyond = await asyncio.open_connection(*self._behind)
            self._writers.add(beyond)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copied(reader, beyond))
                group.create_task(self._copied(behind, writer))
            self._writers.discard(beyond)
        except OSError:
            writer.transport.abort()
        finally:
            self._writers.discard(writer)

    async def _copied(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(1 << 16):
                await self._goes.wait()
                writer.write(part)
                await writer.drain()
        writer.transport.abort()


@pytest.fixture
async def broker(nats_server: str) -> AsyncIterator[Broker]:
    """Yield a proxy before the server."""
    broker = Broker(nats_server)
    await broker.restore()
    yield broker
    await broker.cut()
