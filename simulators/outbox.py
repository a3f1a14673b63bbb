"""What a station has to say, in order, and what of it survives a lost link.

Transaction messages are kept until they are answered, with their original time, and sent again
after a reconnect; anything else is dropped when there is no link. An attempt is used up by a
missing or refusing answer, not by a link that is gone (OCPP 1.6 §4.1, TransactionMessageAttempts).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulators.link import CallRefused, LinkDown, NoAnswer

log = logging.getLogger(__name__)

Payload = dict[str, Any]


@dataclass(slots=True, kw_only=True, eq=False)
class Outgoing:
    """A message waiting for its turn. `build` makes the payload just before it is first sent."""

    action: str
    build: Callable[[], Payload]
    is_durable: bool = False
    on_answer: Callable[[Payload], None] | None = None
    attempts: int = 0
    payload: Payload | None = None
    outcome: "asyncio.Future[Payload | None] | None" = None


@dataclass(slots=True, kw_only=True)
class Outbox:
    """The queue of one station. `is_ready` says whether the station may send now."""

    call: Callable[[str, Mapping[str, Any]], Awaitable[Payload]]
    is_ready: Callable[[], bool]
    pause: Callable[[float], Awaitable[None]]
    dropped: Callable[[str, Payload], None]
    attempts: int = 3
    attempt_interval_s: float = 60.0
    is_last_first: bool = False
    """What was put last is sent first: live messages overtake those of an outage."""
    is_at_once: bool = False
    """All that waits is sent without waiting for answers in between."""
    waiting: deque[Outgoing] = field(default_factory=deque)
    drops: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _empty: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._empty.set()

    def put(self, message: Outgoing) -> None:
        """Queue a message; without a link only a durable one is kept."""
        if not message.is_durable and not self.is_ready():
            if message.outcome is not None:
                message.outcome.set_result(None)
            return
        self.waiting.append(message)
        self._empty.clear()
        self._changed.set()

    def lost(self) -> None:
        """Forget what does not survive a lost link."""
        for message in [m for m in self.waiting if not m.is_durable]:
            self._done(message, None)
        self._changed.set()

    def wake(self) -> None:
        """Look again whether something may be sent."""
        self._changed.set()

    @property
    def has_durable(self) -> bool:
        """Whether transaction messages wait."""
        return any(m.is_durable for m in self.waiting)

    async def drained(self) -> None:
        """Wait until everything is answered or given up."""
        await self._empty.wait()

    async def pump(self) -> None:
        """Send what waits, for ever."""
        while True:
            if not self.waiting:
                self._empty.set()
                await self._wait()
                continue
            if self.is_at_once and self.is_ready():
                await asyncio.gather(*(self._send(m) for m in list(self.waiting)))
                continue
            message = self.waiting[-1 if self.is_last_first else 0]
            if not self.is_ready():
                if message.is_durable:
                    await self._wait()
                else:
                    self._done(message, None)
                continue
            await self._send(message)

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _send(self, message: Outgoing) -> None:
        if message.payload is None:
            message.payload = message.build()
        try:
            answer = await self.call(message.action, message.payload)
        except LinkDown:
            if not message.is_durable:
                self._done(message, None)
            # The reader must see that the link is gone before the next try.
            await asyncio.sleep(0)
            return
        except (NoAnswer, CallRefused) as exc:
            await self._failed(message, exc)
            return
        if message.on_answer is not None:
            message.on_answer(answer)
        self._done(message, answer)

    async def _failed(self, message: Outgoing, exc: Exception) -> None:
        message.attempts += 1
        if not message.is_durable:
            self._done(message, None)
        elif message.attempts >= self.attempts:
            log.warning("message given up: %s", exc)
            self.drops += 1
            self.dropped(message.action, message.payload or {})
            self._done(message, None)
        else:
            await self.pause(self.attempt_interval_s * message.attempts)

    def _done(self, message: Outgoing, answer: Payload | None) -> None:
        if message in self.waiting:
            self.waiting.remove(message)
        if message.outcome is not None and not message.outcome.done():
            message.outcome.set_result(answer)
