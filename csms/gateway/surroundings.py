"""What every link of one gateway shares: bus, clock, counters, owned tasks, the centre's health."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from csms.bus import Bus
from csms.clock import Clock
from csms.core.errors import BusError, LinkUnknown, StoreUnavailable
from csms.core.messages import Report
from csms.gateway.config import GatewayConfig
from csms.gateway.counters import Counters
from csms.tasks import Tasks

R = TypeVar("R")
Tap = Callable[[str, str, str], None]
"""Shown every frame: station id, "in" or "out", text. Must return at once."""

log = logging.getLogger(__name__)


class CentreOut(Exception):
    """Centre or store cannot answer: nothing was decided, nothing may be answered."""


class _Patience:
    """Ends what a task waits for once it took `within_s`: one timer for all tasks.

    `asyncio.timeout` sets and clears a timer of the loop for every message; here a message costs
    an entry in a dict. All wait equally long, so the entries are in the order of their deadlines.
    A task waits for one thing at a time.
    """

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._loop = asyncio.get_running_loop()
        self._due_at: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ended: set[asyncio.Task[Any]] = set()

    def begin(self, task: asyncio.Task[Any]) -> None:
        """Let the wait of `task` begin."""
        self._due_at[task] = self._loop.time() + self._within_s
        if self._timer is None:
            self._timer = self._loop.call_later(self._within_s, self._end_overdue)

    def has_ended(self, task: asyncio.Task[Any]) -> bool:
        """Return whether it was this that cancelled `task`."""
        return task in self._ended

    def done(self, task: asyncio.Task[Any]) -> None:
        """End the wait of `task`, whatever came of it."""
        self._due_at.pop(task, None)
        if task in self._ended:
            self._ended.discard(task)
            task.uncancel()

    def _end_overdue(self) -> None:
        self._timer = None
        now = self._loop.time()
        for task, due_at in list(self._due_at.items()):
            if due_at > now:
                self._timer = self._loop.call_at(due_at, self._end_overdue)
                break
            del self._due_at[task]
            self._ended.add(task)
            task.cancel()


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
        self._tasks = Tasks()
        self.spawn = self._tasks.start
        self._failed_at: float | None = None
        self._patience: _Patience | None = None

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

    async def ask(self, report: Report[R], *, by: asyncio.Task[Any] | None = None) -> R:
        """Return the centre's reply; raises CentreOut if there is none to be had in time.

        `by` is the running task, from callers who know it: looking it up costs as much as a line.
        """
        task = by or asyncio.current_task()
        assert task is not None, "only a task can wait"
        patience = self._patience
        if patience is None:
            patience = self._patience = _Patience(self.config.ask_s)
        cancelled_before = task.cancelling()
        patience.begin(task)
        try:
            reply = await self._bus.ask(report)
        except asyncio.CancelledError:
            # Ours only if nobody else wants the task to end as well.
            if patience.has_ended(task) and task.cancelling() == cancelled_before + 1:
                raise self._out(TimeoutError()) from None
            raise
        except (StoreUnavailable, BusError, TimeoutError) as error:
            raise self._out(error) from error
        except LinkUnknown as error:
            # The centre is well; it is this link that it decides nothing for.
            raise CentreOut(str(error)) from error
        finally:
            patience.done(task)
        if self._failed_at is not None:
            log.warning("centre is back")
            self._failed_at = None
        return reply

    def _out(self, error: Exception) -> CentreOut:
        """Take note that the centre gave no answer."""
        if self._failed_at is None:
            log.error("centre is out", extra={"why": str(error) or type(error).__name__})
        self._failed_at = asyncio.get_running_loop().time()
        return CentreOut(str(error))

    async def finish(self) -> None:
        """Wait for the tasks that are left, cancelling what does not end by itself."""
        await self._tasks.finish(within_s=self.config.close_s)
