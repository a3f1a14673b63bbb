"""Health and metrics of a gateway node, for a load balancer and a scraper: no web framework."""

import asyncio
import contextlib
from collections.abc import Callable

from csms.core.errors import ConfigError
from csms.telemetry import Metrics

_WITHIN_S = 5.0
_MOST_BYTES = 8192
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class StatusPort:
    """Answers GET /health, /health/alive and /metrics, one request a connection."""

    def __init__(self, host: str, port: int, metrics: Metrics, why_not: Callable[[], str]) -> None:
        """`why_not` says why stations cannot be answered, "" where they can."""
        self._host, self._port = host, port
        self._metrics = metrics
        self._why_not = why_not
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; raises ConfigError if that cannot be."""
        try:
            self._server = await asyncio.start_server(
                self._answer, self._host, self._port, limit=_MOST_BYTES
            )
        except OSError as error:
            raise ConfigError(
                f"gateway.status_port: cannot listen on {self._host}:{self._port}: {error.strerror}"
            ) from error

    async def stop(self) -> None:
        """Listen no more, and wait for nobody who has not asked yet or does not read."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()

    @property
    def connections(self) -> int:
        """How many are connected at this moment."""
        return len(self._writers)

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise RuntimeError("the status port is not open")
        return int(self._server.sockets[0].getsockname()[1])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            async with asyncio.timeout(_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._told(head.split(b"\r\n", 1)[0])
                writer.write(
                    f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _told(self, request: bytes) -> tuple[int, str, bytes]:
        method, _, rest = request.partition(b" ")
        path = rest.split(b" ", 1)[0].split(b"?", 1)[0]
        if method != b"GET":
            return 405, "text/plain", b""
        if path == b"/metrics":
            return 200, "text/plain; version=0.0.4", self._metrics.render()
        if path == b"/health/alive":
            return 200, "application/json", b'{"status":"alive"}'
        if path == b"/health":
            if self._why_not():
                return 503, "application/json", b'{"status":"not ready"}'
            return 200, "application/json", b'{"status":"ready"}'
        return 404, "text/plain", b""
