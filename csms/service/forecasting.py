"""Demand forecasts of every site: trained from the store's own sessions, shown with their score.

pandas and scikit-learn take a second and 165 MB to load, so this module imports them only once
the ports are open: `load` does, in a thread. Until then, and where forecasts are off, nothing is
reserved and no forecast is shown.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from importlib import import_module
from types import MappingProxyType
from typing import Any

import structlog

from csms.clock import Clock
from csms.core.errors import InvalidInput
from csms.core.units import slot_starts
from csms.settings import ForecastSettings
from csms.store import series, sessions
from csms.store.database import Store
from csms.store.series import ForecastScore

log = structlog.get_logger(__name__)

KIND = "demand"
_HOURS = 48
_HISTORY = timedelta(days=400)
_RECENT = timedelta(weeks=9)


class Forecasting:
    """Trains, keeps and serves the forecasts."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        options: ForecastSettings,
        time_zones: Mapping[str, str],
        quantiles: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`quantiles` holds the sites whose reserve differs from that of `options`."""
        self.store = store
        self.clock = clock
        self.options = options
        self.time_zones = dict(time_zones)
        self.quantiles = dict(quantiles)
        self._site: Any = None
        self._series: Any = None
        self._trained: Any = None
        self._reserved: dict[str, dict[datetime, float]] = {}
        self._made: dict[str, Any] = {}

    async def _imported(self) -> None:
        if self._site is None:
            self._series, self._site = await asyncio.to_thread(
                lambda: (
                    import_module("csms.planning.forecast_series"),
                    import_module("csms.planning.forecast_site"),
                )
            )

    async def train_all(self) -> None:
        """Fit every site to what is stored and make the next forecasts.

        A model that scores worse than the old one is not taken.
        """
        await self._imported()
        await self._train()
        await self.refresh()

    async def train(self, site_id: str | None) -> dict[str, object]:
        """Fit all sites and return how `site_id` (None: each) scores beside seasonal naive."""
        if site_id is not None and site_id not in self.time_zones:
            raise InvalidInput(
                f"site {site_id!r} is not known; known: {', '.join(sorted(self.time_zones))}"
            )
        await self.train_all()
        wanted = [site_id] if site_id is not None else sorted(self.time_zones)
        return {
            "trained_at": self._trained.trained_at.isoformat(),
            "sites": {i: await self.latest(i, 24) for i in wanted},
        }

    async def _train(self) -> None:
        now = self.clock.now()
        stays = {i: await self._stays(i, now - _HISTORY, now) for i in self.time_zones}

        def work() -> Any:
            return self._site.train(
                stays,
                now=now,
                time_zone=self.time_zones,
                seed=self.options.seed,
                champion=self._trained,
            )

        self._trained = await asyncio.to_thread(work)
        log.info(
            "forecasts trained",
            sites=len(stays),
            sessions=sum(map(len, stays.values())),
            refused=list(self._trained.refused),
        )

    async def _stays(self, site_id: str, since: datetime, until: datetime) -> list[Any]:
        found = await self.store.read(
            lambda tx: sessions.finished_sessions(tx, site_id, since, until)
        )
        return [
            self._series.Stay(
                site_id=site_id,
                started_at=s.started_at,
                ended_at=s.ended_at,
                energy_kwh=s.energy_kwh,
            )
            for s in found
            if s.ended_at is not None and s.ended_at > s.started_at and s.energy_wh > 0
        ]

    async def _present(self, site_id: str) -> list[Any]:
        """Return the cars that stand there now, with what they have taken so far."""
        found = await self.store.read(lambda tx: sessions.open_sessions_of_site(tx, site_id))
        return [
            self._series.Stay(
                site_id=site_id, started_at=s.started_at, ended_at=None, energy_kwh=s.energy_kwh
            )
            for s in found
            if s.is_authorized
        ]

    async def refresh(self) -> None:
        """Make the forecasts of the next hours from what is known now, and keep them."""
        if self._trained is None:
            return
        now = self.clock.now()
        for site_id in self.time_zones:
            stays = await self._stays(site_id, now - _RECENT, now)
            stays += await self._present(site_id)
            forecast = await asyncio.to_thread(self._predict, site_id, now, stays)
            self._made[site_id] = forecast
            self._reserved[site_id] = self._reserve_of(site_id, forecast, now)
            body = json.dumps(_plain(forecast))
            scores = _scores(site_id, forecast, now)

            def work(tx: Any, i: str = site_id, b: str = body, s: Any = scores) -> None:
                series.insert_forecast(tx, i, kind=KIND, made_at=now, body=b)
                series.upsert_scores(tx, s)

            await self.store.write(work)

    def _predict(self, site_id: str, now: datetime, stays: list[Any]) -> Any:
        return self._trained.predict(site_id, origin=now, hours=_HOURS, stays=stays)

    def _reserve_of(self, site_id: str, forecast: Any, now: datetime) -> dict[datetime, float]:
        """Return the headroom per quarter hour, kW, for cars that have yet to arrive."""
        chosen = self.quantiles.get(site_id, self.options.reserve_quantile)
        if chosen == "none":
            return {}
        quantile = {"p50": 0.5, "p90": 0.9}[chosen]
        starts = list(slot_starts(now, now + timedelta(hours=_HOURS - 1)))
        kept = self._site.reserved_kw(forecast, tuple(starts), quantile=quantile)
        return dict(zip(starts, kept, strict=False))

    def reserve(self, site_id: str, now: datetime) -> Mapping[datetime, float]:
        """Return the headroom to keep per quarter-hour start, kW; empty while nothing is known."""
        return self._reserved.get(site_id, {})

    def arrivals_kw(
        self, site_id: str, edges_at: tuple[datetime, ...]
    ) -> tuple[tuple[float, ...], ...]:
        """Return P10, P50 and P90 of what cars yet to arrive draw in each slot, (3, slots) kW.

        Empty while nothing is forecast.
        """
        made = self._made.get(site_id)
        if made is None:
            return ()
        return tuple(self._site.reserved_kw(made, edges_at, quantile=q) for q in (0.1, 0.5, 0.9))

    async def latest(self, site_id: str, hours: float) -> dict[str, object] | None:
        """Return the newest forecast cut to `hours`, as JSON-ready values; None without one."""
        stored = await self.store.read(lambda tx: series.latest_forecast(tx, site_id, KIND))
        if stored is None:
            return None
        body: dict[str, Any] = json.loads(stored.body)
        count = max(1, min(int(hours), len(body["hours_at"])))
        return {k: v[:count] if isinstance(v, list) else v for k, v in body.items()}


def _plain(forecast: Any) -> dict[str, object]:
    """Return a forecast as JSON-ready values."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, float) and value != value:
            return None
        return value

    return {k: plain(v) for k, v in asdict(forecast).items()}


def _scores(site_id: str, forecast: Any, now: datetime) -> list[ForecastScore]:
    if forecast.score is None:
        return []
    return [
        ForecastScore(site_id=site_id, kind=KIND, measure=name, starts_at=now, value=value)
        for name, value in asdict(forecast.score).items()
        if isinstance(value, float) and value == value
    ]
