"""The process's clock: real time, or a demo's day that runs faster.

Pure packages take `now` as an argument; everything else asks this object, so that a whole day can
be lived through in minutes with the same code. Durations that belong to machines (time-outs,
disk, sockets) never use it.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Aware UTC time that starts at `start` and runs `speed` times as fast as the machine's.

    Built without arguments it is real time. It advances by the monotonic clock; a step of the
    machine's clock reaches it only through `follow`, never between two readings of one piece of
    work.
    """

    def __init__(self, *, start: datetime | None = None, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"speed is {speed}; it must be above 0")
        self.speed = speed
        self._is_real = start is None and speed == 1.0
        self._start_s = (start or datetime.now(UTC)).timestamp()
        self._zero = time.monotonic()

    def now(self) -> datetime:
        """Return the present instant, UTC."""
        return datetime.fromtimestamp(self.timestamp(), UTC)

    def follow(self, machine: datetime) -> timedelta:
        """Step to the machine's time where this clock is real and off by a second or more.

        Returns the step, zero where there was none. Stations set their clocks by ours.
        """
        off = machine - self.now()
        if not self._is_real or abs(off) < timedelta(seconds=1):
            return timedelta(0)
        self._start_s += off.total_seconds()
        return off

    def timestamp(self) -> float:
        """Return the present instant as seconds since 1970, which costs less than `now`."""
        return self._start_s + (time.monotonic() - self._zero) * self.speed

    def real_s(self, seconds: float) -> float:
        """Return how many machine seconds `seconds` of this clock take."""
        return seconds / self.speed

    def machine_time(self, at: datetime) -> datetime:
        """Return the machine's wall-clock time at which this clock shows `at`."""
        return datetime.now(UTC) + timedelta(seconds=self.real_s((at - self.now()).total_seconds()))

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds` of this clock."""
        await asyncio.sleep(max(self.real_s(seconds), 0.0))
