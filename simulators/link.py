"""One station's websocket: frames, turn-taking, reconnecting.

One CALL is outstanding at a time. Time-outs here are machine time; back-off and outages are too,
since they belong to the link and not to the simulated day.
"""

import asyncio
import base64
import json
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.http11 import Request
from websockets.typing import Subprotocol

from simulators.faults import Faults
from simulators.journal import Journal
from simulators.manners import PLAIN, Manners, Speaker

log = logging.getLogger(__name__)

CALL, RESULT, ERROR = 2, 3, 4
_MANY = 1000


class LinkDown(ConnectionError):
    """There is no link, or it went away before the answer came."""


class NoAnswer(TimeoutError):
    """The central system did not answer in time."""


class CallRefused(RuntimeError):
    """The central system answered with a CALLERROR."""

    def __init__(self, action: str, code: str, description: str) -> None:
        super().__init__(f"{action} was refused: {code} {description}")
        self.action = action
        self.code = code
        self.description = description


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a station answers to a command, and what it does after the answer has left."""

    payload: Mapping[str, Any] | None = None
    error: tuple[str, str] | None = None
    then: Sequence[Callable[[], Awaitable[None]]] = ()
    is_silent: bool = False
    delay_real_s: float = 0.0


class Tasks:
    """The background tasks of a station; a failure is logged and counted, never lost."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures: list[str] = []

    def start(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        """Run `work` in the background."""
        task = asyncio.get_running_loop().create_task(self._guarded(work, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None], what: str) -> None:
        try:
            await work
        except (LinkDown, NoAnswer, CallRefused) as exc:
            log.info("%s: %s ended: %s", self._name, what, exc)
        except Exception as exc:
            self.failures.append(f"{what}: {type(exc).__name__} {exc}")
            log.exception("%s: %s failed", self._name, what)

    async def stop(self) -> None:
        """Cancel all tasks but the caller's and wait for them."""
        current = asyncio.current_task()
        tasks = [t for t in self._tasks if t is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True, kw_only=True)
class LinkOptions:
    """How a station connects. The station id is appended to `url`."""

    url: str
    station_id: str
    subprotocol: str
    password: str | bytes | None = None
    username: str | None = None
    call_timeout_s: float = 30.0
    open_timeout_s: float = 10.0
    backoff_s: tuple[float, float] = (0.2, 5.0)
    ping_interval_s: float | None = 20.0
    message_ids: str = "uuid"
    returns_after_close: bool = True
    manners: Manners = PLAIN
    version: str = ""
    seed: int = 0

    @property
    def uri(self) -> str:
        """The whole address."""
        parts = [self.url.rstrip("/"), self.manners.path, quote(self.station_id, safe="")]
        return "/".join(p for p in parts if p) + ("/" if self.manners.trailing_slash else "")

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the handshake: Basic authentication where there is a password."""
        if self.password is None:
            return {}
        secret = self.password.encode() if isinstance(self.password, str) else self.password
        user = (self.username or self.station_id).encode()
        return {"Authorization": "Basic " + base64.b64encode(user + b":" + secret).decode()}


class _LowerCase(ClientConnection):
    """Spells the names of its request's headers in lower case, as HTTP permits."""

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        send = self.protocol.send_request

        def lowered(request: Request) -> None:
            named = [(name.lower(), value) for name, value in request.headers.raw_items()]
            request.headers = Headers(named)
            send(request)

        self.protocol.send_request = lowered  # type: ignore[method-assign]
        await super().handshake(*args, **kwargs)


class Link:
    """The connection of one station, kept up until told otherwise.

    `answer` gives the answer to a command, `came_up` runs after each connect, `went_down` after
    each loss.
    """

    def __init__(
        self,
        options: LinkOptions,
        *,
        tasks: Tasks,
        faults: Faults,
        journal: Journal | None,
        answer: Callable[[str, Mapping[str, Any]], Answer],
        came_up: Callable[[], Awaitable[None]],
        went_down: Callable[[], None],
        real_s: Callable[[float], float],
    ) -> None:
        self.options = options
        self.number = 0
        self.frames_sent = 0
        self.frames_got = 0
        self.errors: dict[str, int] = {}
        self.keeps_up = True
        self._tasks = tasks
        self._faults = faults
        self._journal = journal
        self._answer = answer
        self._came_up = came_up
        self._went_down = went_down
        self._real_s = real_s
        self._speaker = Speaker(manners=options.manners, version=options.version)
        self._socket: ClientConnection | None = None
        # One call at a time; all at once from a station that does not wait for answers.
        self._turn = asyncio.Semaphore(_MANY if options.manners.replay == "at_once" else 1)
        self._connecting = asyncio.Lock()
        self._pending: dict[str, asyncio.Future[Any]] = {}
        self._repeated: set[str] = set()
        self._commands: asyncio.Queue[tuple[str, str, Mapping[str, Any]]] = asyncio.Queue()
        self._dice = random.Random(f"{options.seed}/{options.station_id}/link")
        self._ids = 0
        self._outage_s = 0.0
        self._reader: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    def count_error(self, kind: str, detail: str) -> None:
        """Count something that should not happen."""
        self.errors[kind] = self.errors.get(kind, 0) + 1
        log.warning("%s: %s: %s", self.options.station_id, kind, detail)

    async def connect(self) -> None:
        """Connect once, unless there is a link. Raises LinkDown if that fails."""
        async with self._connecting:
            if self._socket is None:
                await self._connect()

    async def _connect(self) -> None:
        options = self.options
        try:
            socket = await connect(
                options.uri,
                subprotocols=[
                    Subprotocol(name) for name in (*options.manners.offers, options.subprotocol)
                ],
                additional_headers=options.headers,
                compression="deflate" if options.manners.deflates else None,
                create_connection=_LowerCase if options.manners.lower_case else ClientConnection,
                open_timeout=options.open_timeout_s,
                ping_interval=options.ping_interval_s,
                close_timeout=2.0,
                proxy=None,
            )
        except (OSError, TimeoutError, InvalidHandshake, InvalidMessage, ConnectionClosed) as exc:
            raise LinkDown(f"{options.uri}: {exc}") from exc
        if socket.subprotocol != options.subprotocol:
            await socket.close()
            raise LinkDown(f"{options.uri}: the server does not speak {options.subprotocol}")
        if options.manners.pings:
            await (await socket.ping(b"are you there"))
        self._socket = socket
        self.number += 1
        if self._journal:
            self._journal.link("up", link=self.number)
        self._reader = self._tasks.start(self._live(socket), "link")
        self._tasks.start(self._came_up(), "came up")  # type: ignore[arg-type]

    async def connect_until_up(self) -> None:
        """Connect, with growing pauses, until it works."""
        shortest, longest = self.options.backoff_s
        pause_s = shortest
        while self.keeps_up and not self.is_up:
            try:
                await self.connect()
            except LinkDown as exc:
                log.info("%s: %s", self.options.station_id, exc)
                await asyncio.sleep(pause_s * (0.5 + self._dice.random()))
                pause_s = min(pause_s * 2, longest)

    async def _live(self, socket: ClientConnection) -> None:
        """Read a connection to its end, then connect again."""
        responder = self._tasks.start(self._respond(socket), "responder")
        try:
            async for text in socket:
                if self._socket is not socket:
                    # It was cut: what had arrived by then, a station that vanished never reads.
                    break
                self._read(text)
        except ConnectionClosed as exc:
            log.info("%s: link closed: %s", self.options.station_id, exc)
        finally:
            responder.cancel()
            if self._socket is socket:
                self._lost()
        if socket.protocol.close_rcvd is not None and not self.options.returns_after_close:
            self.keeps_up = False
        if self.keeps_up and self._outage_s > 0:
            await asyncio.sleep(self._real_s(self._outage_s))
            self._outage_s = 0.0
        await self.connect_until_up()

    def _lost(self) -> None:
        self._socket = None
        if self._journal:
            self._journal.link("down", link=self.number)
        for future in self._pending.values():
            if not future.done():
                future.set_exception(LinkDown("the link went away"))
        self._pending.clear()
        self._repeated.clear()
        while not self._commands.empty():
            self._commands.get_nowait()
        self._went_down()

    def _read(self, text: str | bytes) -> None:
        self.frames_got += 1
        try:
            frame = json.loads(text)
        except ValueError:
            self.count_error("unreadable_frames", repr(text[:80]))
            return
        if self._journal:
            self._journal.got(frame, link=self.number)
        match frame:
            case [2, str(message_id), str(action), dict(payload)]:
                self._commands.put_nowait((message_id, action, payload))
            case [3, str(message_id), dict(payload)]:
                self._settle(message_id, payload)
            case [4, str(message_id), code, description, *_]:
                self._settle(message_id, (str(code), str(description)))
            case _:
                if "malformed" not in self._faults.counts:
                    self.count_error("unreadable_frames", repr(text[:80]))

    def _settle(self, message_id: str, outcome: Any) -> None:
        future = self._pending.pop(message_id, None)
        if future is None:
            expects_stray = message_id in self._repeated or "malformed" in self._faults.counts
            if not expects_stray:
                self.count_error("stray_answers", message_id)
            self._repeated.discard(message_id)
        elif not future.done():
            future.set_result(outcome)

    async def _respond(self, socket: ClientConnection) -> None:
        """Answer commands one by one, in the order in which they came."""
        while True:
            message_id, action, payload = await self._commands.get()
            if action in self.options.manners.dies_of:
                self.cut()
                return
            answer = self._answer(action, payload)
            if answer.delay_real_s > 0:
                await asyncio.sleep(answer.delay_real_s)
            if not answer.is_silent:
                if answer.error is not None:
                    await self._send(
                        socket, self._speaker.error(message_id, *answer.error, payload)
                    )
                else:
                    told = self._speaker.answers(action, answer.payload or {})
                    await self._send(socket, [RESULT, message_id, told])
            if "TriggerMessage" in action and not self.options.manners.does_triggers:
                continue
            for follow_up in answer.then:
                self._tasks.start(follow_up(), f"after {action}")  # type: ignore[arg-type]

    async def _send(self, socket: ClientConnection, frame: list[Any]) -> None:
        if self._journal:
            self._journal.sent(frame, link=self.number)
        await self._send_text(socket, json.dumps(frame, separators=(",", ":")))

    async def _send_text(self, socket: ClientConnection, text: str) -> None:
        self.frames_sent += 1
        try:
            await socket.send(text)
        except ConnectionClosed as exc:
            raise LinkDown("the link went away") from exc

    def _next_id(self) -> str:
        if self.options.message_ids == "counter":
            self._ids += 1
            return str(self._ids)
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Send a call in the station's own manner and return the answer's payload.

        A call that it leaves unsaid is answered by an empty one. Raises LinkDown, NoAnswer or
        CallRefused.
        """
        answer: dict[str, Any] | None = None
        for said, body in self._speaker.says(action, payload):
            told = await self._called(said, body)
            answer = told if answer is None else answer
        return answer or {}

    async def call_aside(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Send a call without waiting for the answer to the one before; raises as `call`."""
        if self._socket is None:
            raise LinkDown("the station is offline")
        return await self._exchange(self._socket, self._next_id(), action, payload)

    async def _called(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        async with self._turn:
            if self._socket is not None and self._faults.drops_link():
                self._outage_s = self._faults.plan.outage_s
                self.cut()
            socket = self._socket
            if socket is None:
                raise LinkDown("the station is offline")
            broken = self._faults.malformed()
            if broken:
                await self._send_text(socket, broken)
            message_id = self._next_id()
            answer = await self._exchange(socket, message_id, action, payload)
            repeat = self._faults.duplicate()
            if repeat == "same":
                # The answer to a repeat may come or not; nobody waits for it.
                self._repeated.add(message_id)
                await self._send(socket, [CALL, message_id, action, dict(payload)])
            elif repeat == "new":
                answer = await self._exchange(socket, self._next_id(), action, payload)
            return answer

    async def _exchange(
        self, socket: ClientConnection, message_id: str, action: str, payload: Mapping[str, Any]
    ) -> dict[str, Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[message_id] = future
        try:
            async with asyncio.timeout(self.options.call_timeout_s):
                await self._send(socket, [CALL, message_id, action, dict(payload)])
                outcome = await future
        except TimeoutError:
            self.count_error("no_answers", action)
            self._repeated.add(message_id)
            raise NoAnswer(f"{action} was not answered") from None
        finally:
            self._pending.pop(message_id, None)
        if isinstance(outcome, tuple):
            self.count_error("call_errors", f"{action}: {outcome}")
            raise CallRefused(action, *outcome)
        answer: dict[str, Any] = outcome
        return answer

    def cut(self) -> None:
        """Vanish without a close frame."""
        socket = self._socket
        if socket is not None:
            socket.transport.abort()
            self._lost()

    async def close(self) -> None:
        """Close the link in order and do not come back."""
        self.keeps_up = False
        socket = self._socket
        if socket is not None:
            if self.options.manners.closes_silently:
                async with socket.send_context():
                    socket.protocol.send_close()
            await socket.close()
            if self._socket is socket:
                self._lost()
