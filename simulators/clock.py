"""The simulators' own clock: simulated time that runs faster than the machine's.

Two processes agree on the time when they are given the same `start`, `speed` and `zero` (the
machine's Unix time at which the simulated clock shows `start`). After it is built, a clock advances
by the monotonic clock, so a step of the machine's clock changes neither order nor intervals.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta


class SimClock:
    """Aware UTC time running `speed` times as fast as the machine's; real time by default."""

    def __init__(
        self, *, start: datetime | None = None, speed: float = 1.0, zero: float | None = None
    ) -> None:
        if speed <= 0:
            raise ValueError(f"speed is {speed}; it must be above 0")
        if start is not None and start.tzinfo is None:
            raise ValueError(f"start is {start.isoformat()}; it needs an offset, such as Z")
        now = time.time()
        self.speed = speed
        self.zero = now if zero is None else zero
        self.start = (
            datetime.fromtimestamp(self.zero, UTC) if start is None else start.astimezone(UTC)
        )
        self._anchor = time.monotonic() - (now - self.zero)

    def now(self) -> datetime:
        """Return the present simulated instant, UTC."""
        return self.start + timedelta(seconds=(time.monotonic() - self._anchor) * self.speed)

    def real_s(self, seconds: float) -> float:
        """Return how many machine seconds `seconds` of this clock take."""
        return seconds / self.speed

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds` of this clock."""
        await asyncio.sleep(max(self.real_s(seconds), 0.0))

    async def sleep_until(self, at: datetime) -> None:
        """Sleep until this clock shows `at`; return at once if it is past."""
        remaining_s = (at - self.now()).total_seconds()
        while remaining_s > 0:
            await self.sleep(remaining_s)
            remaining_s = (at - self.now()).total_seconds()


def iso(at: datetime) -> str:
    """Return `at` as stations write it: UTC, `Z`, milliseconds unless it is a whole second."""
    timespec = "milliseconds" if at.microsecond else "seconds"
    return at.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def parse_iso(text: str) -> datetime:
    """Return the instant in `text`; without an offset it is taken as UTC.

    Raises ValueError if `text` is not ISO 8601.
    """
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
