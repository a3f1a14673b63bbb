"""Notices to whoever watches: one bounded queue per reader, and a slow reader is dropped.

A reader that was dropped starts again with a snapshot, so nothing it shows can be stale without
its knowing; nobody else waits for it meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from csms.core.messages import Notice
from csms.telemetry import Metrics

QUEUED = 256
"""Notices a reader may fall behind by: some seconds of a busy site."""


class _Reader:
    """One reader's queue; None ends it."""

    __slots__ = ("is_ended", "queue")

    def __init__(self, size: int) -> None:
        self.queue: asyncio.Queue[Notice | None] = asyncio.Queue(size)
        self.is_ended = False

    def end(self) -> None:
        """Drop what waits, and end the reader's iteration."""
        self.is_ended = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)

    async def notices(self) -> AsyncIterator[Notice]:
        """Yield notices until the reader is dropped or the process stops."""
        while (notice := await self.queue.get()) is not None:
            yield notice


class Notices:
    """Hands each notice to all present readers. Belongs to one event loop."""

    def __init__(self, metrics: Metrics, *, queued: int = QUEUED) -> None:
        self._metrics = metrics
        self._queued = queued
        self._readers: set[_Reader] = set()
        self._is_closed = False

    @property
    def readers(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    def show(self, notice: Notice) -> None:
        """Hand `notice` to every reader; drop the readers that are too far behind."""
        for reader in tuple(self._readers):
            if reader.queue.full():
                self._metrics.notices_dropped.inc(reader.queue.qsize() + 1)
                self._readers.discard(reader)
                reader.end()
            else:
                reader.queue.put_nowait(notice)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Notice]]:
        """Yield an iterator of the notices from now on; it ends for a reader that is too slow."""
        reader = _Reader(self._queued)
        if self._is_closed:
            reader.end()
        else:
            self._readers.add(reader)
        try:
            yield reader.notices()
        finally:
            self._readers.discard(reader)

    def close(self) -> None:
        """End every reader, so that open streams do not hold up a stop."""
        self._is_closed = True
        for reader in tuple(self._readers):
            reader.end()
        self._readers.clear()
