"""Tasks that are kept until they end, and whose failure is logged."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Tasks:
    """The tasks of one part, which no TaskGroup holds because they may outlive each other."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` as a task that is kept and whose failure is logged."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", extra={"task": task.get_name()}, exc_info=error)

    async def finish(self, *, within_s: float) -> None:
        """Wait for the tasks that are left, cancelling what does not end by itself."""
        tasks = list(self._running)
        if tasks:
            pending = set(tasks)
            if within_s > 0:
                _, pending = await asyncio.wait(tasks, timeout=within_s)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
