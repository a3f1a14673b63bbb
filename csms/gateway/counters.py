"""What the gateway counts."""

from csms.core.model import OcppVersion
from csms.telemetry import Metrics


class Counters:
    """The gateway's share of the process's metrics."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()

    def call(
        self, direction: str, version: OcppVersion, action: str, outcome: str, seconds: float
    ) -> None:
        """Count one call; `action` must come from the version's own list."""
        self.metrics.calls.count(direction, version.value, action, outcome, seconds)

    def bad_frame(self, kind: str) -> None:
        """Count a frame that was no call and no awaited answer."""
        self.metrics.bad_frames.labels(kind).inc()

    def handshake(self, result: str) -> None:
        """Count a handshake by its result."""
        self.metrics.handshakes.labels(result).inc()

    def link(self, version: OcppVersion, change: int) -> None:
        """Count links as they come and go."""
        self.metrics.links.labels(version.value).inc(change)
