"""A small HTTP server on loopback that answers with the sample files, and with what goes wrong."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent.parent / "data" / "provider-samples"


@dataclass(slots=True)
class Answer:
    """What the server says to one path."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False


@dataclass(slots=True)
class SampleServer:
    """Keeps every request; `answers` maps a path to what is said, other paths are sample files."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    open_now: int = 0
    open_most: int = 0
    four_wait: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def says(self, path: str, payload: object, *, status: int = 200, **headers: str) -> str:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.answers["/" + path] = Answer(body=body, status=status, headers=names)
        return self.url(path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        if self.open_now >= 4:
            self.four_wait.set()
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.requests.append((f"{method} {target}", headers, body))
            path = target.partition("?")[0]
            answer = self.answers.get(path)
            if answer is None:
                answer = Answer(body=(SAMPLES / path[1:]).read_bytes())
            if answer.hangs:
                await self.release.wait()
            lines = [f"HTTP/1.1 {answer.status} X", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in answer.headers.items()]
            if answer.status != 204:
                lines.append(f"Content-Length: {len(answer.body)}")
            writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_now -= 1
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[SampleServer]:
    served = SampleServer()
    listening = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield served
        served.release.set()


@pytest.fixture
def sample() -> Callable[[str], object]:
    return lambda name: json.loads((SAMPLES / name).read_text(encoding="utf-8"))
