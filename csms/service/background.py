"""Work that nobody waits for: owned, named, its failure logged, ended with the process."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from csms.core.errors import UnknownStation

log = structlog.get_logger(__name__)

Work = Callable[[], Awaitable[object]]


class Background:
    """A named set of tasks. One name runs once at a time.

    A call for a name that runs makes it run once more afterwards, however often it is called, so
    that what changed meanwhile is not missed.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: dict[str, Work] = {}

    def start(self, name: str, work: Work) -> None:
        """Run `work()` under `name` now, or once more after the run that is under way."""
        if name in self._tasks:
            self._again[name] = work
            return
        self._tasks[name] = asyncio.get_running_loop().create_task(self._run(name, work), name=name)

    async def _run(self, name: str, work: Work) -> None:
        try:
            await work()
        except UnknownStation as error:
            log.info("background work given up", work=name, why=str(error))
        except Exception:
            # The edge of a task: nobody else would see this.
            log.exception("background work failed", work=name)
        finally:
            del self._tasks[name]
            again = self._again.pop(name, None)
        if again is not None:
            self.start(name, again)

    async def stop(self) -> None:
        """Cancel what is under way and wait for it."""
        self._again.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
