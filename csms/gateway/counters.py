"""What the gateway counts, with the label lookups of the hot path made once."""

from typing import Any

from csms.core.model import OcppVersion
from csms.telemetry import Metrics


class Counters:
    """The gateway's share of the process's metrics."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self._calls: dict[tuple[str, str, str, str], Any] = {}
        self._seconds = {
            direction: self.metrics.call_seconds.labels(direction) for direction in ("in", "out")
        }

    def call(
        self, direction: str, version: OcppVersion, action: str, outcome: str, seconds: float
    ) -> None:
        """Count one call; `action` must come from the version's own list."""
        key = (direction, version.value, action, outcome)
        counter = self._calls.get(key)
        if counter is None:
            counter = self._calls[key] = self.metrics.calls.labels(*key)
        counter.inc()
        self._seconds[direction].observe(seconds)

    def bad_frame(self, kind: str) -> None:
        """Count a frame that was no call and no awaited answer."""
        self.metrics.bad_frames.labels(kind).inc()

    def handshake(self, result: str) -> None:
        """Count a handshake by its result."""
        self.metrics.handshakes.labels(result).inc()

    def link(self, version: OcppVersion, change: int) -> None:
        """Count links as they come and go."""
        self.metrics.links.labels(version.value).inc(change)
