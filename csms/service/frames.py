"""Frames as they pass: into the archive, and to whoever watches a station live."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from csms.clock import Clock
from csms.core.masking import masked_text
from csms.store.archive import Frame, FrameArchive

_QUEUED = 1000
"""Frames a reader may fall behind by before the oldest are skipped."""


class FrameDesk:
    """Where the gateway shows each frame. Belongs to one event loop."""

    def __init__(self, clock: Clock, archive: FrameArchive | None) -> None:
        """`archive` None keeps nothing; frames can still be watched live."""
        self.archive = archive
        self._clock = clock
        self._readers: dict[str, set[asyncio.Queue[Frame | None]]] = {}

    def show(self, station_id: str, direction: str, text: str) -> None:
        """Take a frame that came in or goes out; never waits."""
        self.take(self._clock.timestamp(), station_id, direction, text)

    def take(self, at: float, station_id: str, direction: str, text: str) -> None:
        """Take a frame that was seen at `at` (seconds since 1970), here or at a gateway node."""
        if self.archive is not None:
            self.archive.add(at, station_id, direction, text)
        readers = self._readers.get(station_id)
        if readers:
            frame = Frame(
                at=datetime.fromtimestamp(at, UTC),
                station_id=station_id,
                direction=direction,
                text=masked_text(text),
            )
            for queue in readers:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(frame)

    @asynccontextmanager
    async def watch(self, station_id: str) -> AsyncIterator[asyncio.Queue[Frame | None]]:
        """Yield a queue of a station's frames from now on; None ends it."""
        queue: asyncio.Queue[Frame | None] = asyncio.Queue(_QUEUED)
        self._readers.setdefault(station_id, set()).add(queue)
        try:
            yield queue
        finally:
            self._readers[station_id].discard(queue)
            if not self._readers[station_id]:
                del self._readers[station_id]

    def end_readers(self) -> None:
        """End every reader, so that open streams do not hold up a stop."""
        for queue in [q for readers in self._readers.values() for q in readers]:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    def close(self) -> None:
        """Write what waits."""
        if self.archive is not None:
            self.archive.close()
