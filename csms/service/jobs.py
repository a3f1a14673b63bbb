"""The timetable of background work: code and configuration, no job store.

APScheduler runs in the same event loop. Instants are those of csms.clock, so that a demo's day
keeps its timetable; the state is in the database, and every job may run twice.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from csms.clock import Clock
from csms.telemetry import Metrics

log = structlog.get_logger(__name__)

_LEAST_REAL_S = 0.25
"""A day in minutes would run minute jobs hundreds of times a second; this bounds it."""


class _Every(BaseTrigger):  # type: ignore[misc]
    """Fires at each multiple of `period_s` of the clock's day, less `before_s`."""

    def __init__(self, clock: Clock, *, period_s: float, before_s: float = 0.0) -> None:
        self._clock = clock
        self._period_s = max(period_s, _LEAST_REAL_S * clock.speed)
        self._before_s = before_s

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return the machine time of the next occurrence."""
        at = self._clock.now().timestamp() + self._before_s
        due = (at // self._period_s + 1) * self._period_s - self._before_s
        if previous is not None and due - self._clock.now().timestamp() < self._period_s * 0.05:
            # The clocks of two machines' seconds: the occurrence that has just run is not next.
            due += self._period_s
        return self._clock.machine_time(datetime.fromtimestamp(due, now.tzinfo))


class _Daily(BaseTrigger):  # type: ignore[misc]
    """Fires once a day of the clock at a local time."""

    def __init__(self, clock: Clock, *, at: str, time_zone: str) -> None:
        self._clock = clock
        self._hour, self._minute = (int(part) for part in at.split(":"))
        self._zone = ZoneInfo(time_zone)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return the machine time of the next occurrence."""
        local = self._clock.now().astimezone(self._zone) + timedelta(seconds=1)
        due = local.replace(hour=self._hour, minute=self._minute, second=0, microsecond=0)
        if due <= local:
            due += timedelta(days=1)
        return self._clock.machine_time(due)


class _Executor(AsyncIOExecutor):  # type: ignore[misc]
    """Runs jobs on the event loop; one that a stop cancels before it begins is no failure."""

    def _run_job_error(self, job_id: str, exc: BaseException, traceback: Any = None) -> None:
        if not isinstance(exc, asyncio.CancelledError):
            super()._run_job_error(job_id, exc, traceback)


class Jobs:
    """Named jobs with a metric for their last success."""

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self.clock = clock
        self.metrics = metrics
        # Two instances, so that one that finds the other at work can say so, in our words.
        self._scheduler = AsyncIOScheduler(
            executors={"default": _Executor()},
            job_defaults={"coalesce": True, "max_instances": 2, "misfire_grace_time": None},
        )

    def every(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        *,
        period_s: float,
        before_s: float = 0.0,
    ) -> None:
        """Run `work` each `period_s`, `before_s` before the full multiple."""
        self._add(name, work, _Every(self.clock, period_s=period_s, before_s=before_s))

    def daily(
        self, name: str, work: Callable[[], Awaitable[object]], *, at: str, time_zone: str = "UTC"
    ) -> None:
        """Run `work` each day at `at` (HH:MM) of `time_zone`."""
        self._add(name, work, _Daily(self.clock, at=at, time_zone=time_zone))

    def start(self) -> None:
        """Start the timetable."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop it; what runs is cancelled."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _add(self, name: str, work: Callable[[], Awaitable[object]], trigger: Any) -> None:
        running = asyncio.Lock()

        async def run() -> None:
            if running.locked():
                # The occurrence that is still at it does this one's work too, or the next does. In
                # a day that runs faster than real time that is nothing to look at.
                if self.clock.speed == 1.0:
                    log.warning("job takes longer than its period", job=name)
                return
            async with running:
                await attempt()

        async def attempt() -> None:
            try:
                await work()
            except asyncio.CancelledError:
                # The process stops; APScheduler would report the cancelled job as a failure.
                return
            except Exception:
                # The edge of a job: the next occurrence tries again.
                log.exception("job failed", job=name)
                return
            self.metrics.jobs.labels(job=name).set(self.clock.now().timestamp())

        self._scheduler.add_job(run, trigger, id=name, name=name)
