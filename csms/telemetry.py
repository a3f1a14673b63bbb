"""Logs and metrics: one set-up, one registry, and the only way a token may appear in a log."""

import hashlib
import logging
import sys
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0)


def token_hint(value: str) -> str:
    """Return a short, stable hint of an id token or DID: enough to follow it, not to copy it.

    Id tokens and DIDs are personal data and never appear whole in a log.
    """
    if not value:
        return "-"
    return f"~{hashlib.blake2b(value.casefold().encode(), digest_size=4).hexdigest()}"


def set_up_logging(*, level: str, format_: str) -> None:
    """Send structlog and standard-library logs through one renderer to stderr."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if format_ == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in (
        "websockets",
        "uvicorn",
        "alembic",
        "apscheduler",
        "httpx",
        "httpcore",
        "asyncio",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class Calls(Collector):
    """OCPP calls: how many by outcome, and how long they took from call to answer.

    Counted without the library's locks, since every message is: by one thread only. Whoever
    scrapes reads from any.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str, str], int] = {}
        self._seconds: dict[str, tuple[list[int], list[float]]] = {}

    def count(
        self, direction: str, version: str, action: str, outcome: str, seconds: float
    ) -> None:
        """Count one call."""
        key = (direction, version, action, outcome)
        self._counts[key] = self._counts.get(key, 0) + 1
        taken = self._seconds.get(direction)
        if taken is None:
            taken = self._seconds[direction] = [0] * (len(_SECONDS) + 1), [0.0]
        taken[0][bisect_left(_SECONDS, seconds)] += 1
        taken[1][0] += seconds

    def collect(self) -> Iterable[Metric]:
        """Return both metrics as they stand."""
        calls = CounterMetricFamily(
            "tasco_ocpp_calls", "OCPP calls", labels=["direction", "version", "action", "outcome"]
        )
        for key, number in self._counts.copy().items():
            calls.add_metric(key, number)
        lasted = HistogramMetricFamily(
            "tasco_ocpp_call_duration_seconds", "From call to answer", labels=["direction"]
        )
        for direction, (counts, total_s) in self._seconds.copy().items():
            edges = [*map(floatToGoString, _SECONDS), "+Inf"]
            buckets = list(zip(edges, accumulate(counts), strict=True))
            lasted.add_metric([direction], buckets, total_s[0])
        return calls, lasted


class Metrics:
    """The process's metrics, in Prometheus base units, without per-session labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        at = self.registry
        self.links = Gauge("tasco_links", "Connected stations", ["version"], registry=at)
        self.calls = Calls()
        at.register(self.calls)
        self.handshakes = Counter(
            "tasco_handshakes", "Handshakes by result", ["result"], registry=at
        )
        self.bad_frames = Counter(
            "tasco_bad_frames", "Frames not readable as OCPP", ["kind"], registry=at
        )
        self.plan_seconds = Histogram(
            "tasco_plan_cpu_seconds", "CPU of one site plan", buckets=_SECONDS, registry=at
        )
        self.plans = Counter("tasco_plans", "Plans by status", ["status"], registry=at)
        self.shortfall_kwh = Gauge(
            "tasco_shortfall_kwh", "Planned shortfall", ["site"], registry=at
        )
        self.site_power_watts = Gauge(
            "tasco_site_power_watts", "Power by kind", ["site", "kind"], registry=at
        )
        self.profiles = Counter(
            "tasco_profiles", "Schedules sent, by outcome", ["outcome"], registry=at
        )
        self.jobs = Gauge(
            "tasco_job_last_success_timestamp_seconds",
            "Last success of a job",
            ["job"],
            registry=at,
        )
        self.source_age_seconds = Gauge(
            "tasco_source_age_seconds", "Age of an outside source's data", ["source"], registry=at
        )
        self.certificates_ending = Gauge(
            "tasco_certificates_ending", "Station certificates that end soon", registry=at
        )
        self.notices_dropped = Counter(
            "tasco_notices_dropped", "Notices to slow readers", registry=at
        )

        self.frames_lost = Counter(
            "tasco_frames_lost",
            "Frames not sent to the archive",
            registry=at,
        )

    def render(self) -> bytes:
        """Return the text exposition."""
        return generate_latest(self.registry)
