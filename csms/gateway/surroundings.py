"""What every link of one gateway shares: bus, clock, counters, owned tasks, the centre's health."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from csms.bus import Bus
from csms.clock import Clock
from csms.core.errors import BusError, StoreUnavailable
from csms.core.messages import Report
from csms.gateway.config import GatewayConfig
from csms.gateway.counters import Counters

R = TypeVar("R")
Tap = Callable[[str, str, str], None]
"""Shown every frame: station id, "in" or "out", text. Must return at once."""

log = logging.getLogger(__name__)


class CentreOut(Exception):
    """Centre or store cannot answer: nothing was decided, nothing may be answered."""


class Surroundings:
    """The gateway as its links see it."""

    def __init__(
        self, config: GatewayConfig, bus: Bus, clock: Clock, counters: Counters, tap: Tap | None
    ) -> None:
        self.config = config
        self.clock = clock
        self.counters = counters
        self.tap = tap
        self._bus = bus
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_at: float | None = None

    @property
    def is_out(self) -> bool:
        """Whether the centre's last word was that it cannot answer."""
        return self._failed_at is not None

    def may_probe(self) -> bool:
        """Return whether it is time to try the centre once more; a yes uses the turn up."""
        if self._failed_at is None:
            return True
        now = asyncio.get_running_loop().time()
        if now - self._failed_at < self.config.outage_probe_s:
            return False
        self._failed_at = now
        return True

    async def ask(self, report: Report[R], *, within_s: float | None = None) -> R:
        """Return the centre's reply; raises CentreOut if there is none to be had in time."""
        try:
            async with asyncio.timeout(self.config.ask_s if within_s is None else within_s):
                reply = await self._bus.ask(report)
        except (StoreUnavailable, BusError, TimeoutError) as error:
            if self._failed_at is None:
                log.error("centre is out", extra={"why": str(error) or type(error).__name__})
            self._failed_at = asyncio.get_running_loop().time()
            raise CentreOut(str(error)) from error
        if self._failed_at is not None:
            log.warning("centre is back")
            self._failed_at = None
        return reply

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` as a task that is kept and whose failure is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", extra={"task": task.get_name()}, exc_info=error)

    async def finish(self) -> None:
        """Wait for the tasks that are left, cancelling what does not end by itself."""
        tasks = list(self._tasks)
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=self.config.close_s)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
