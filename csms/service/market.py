"""Prices and grid emissions from their sources into the store, the last good ones kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from csms.clock import Clock
from csms.core.errors import ProviderError
from csms.core.model import Event, Price
from csms.service.sources import CarbonSource, TariffSource
from csms.store import journal, series
from csms.store.database import Store
from csms.store.statements import Tx
from csms.telemetry import Metrics

log = structlog.get_logger(__name__)

AHEAD = timedelta(hours=48)
SOON = timedelta(hours=24)
"""News further away than a plan reaches changes no plan."""


class Market:
    """Fetches each tariff and carbon source; a source that fails is reported and worked around."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        tariffs: Mapping[str, TariffSource],
        carbon: Mapping[str, CarbonSource],
        sites_of_tariff: Callable[[str], list[str]],
        touch: Callable[[str, str], None],
    ) -> None:
        self.store = store
        self.clock = clock
        self.metrics = metrics
        self.tariffs = tariffs
        self.carbon = carbon
        self.sites_of_tariff = sites_of_tariff
        self.touch = touch
        self._fetched_s: dict[str, float] = {}

    async def fetch(self) -> None:
        """Fetch every source once; sites whose prices changed are planned again."""
        now = self.clock.now()
        start, until, soon = now - timedelta(hours=1), now + AHEAD, now + SOON
        for tariff_id, tariff in self.tariffs.items():
            try:
                prices = await tariff.prices(start, until)
            except ProviderError as error:
                await self._failed(f"tariff {tariff_id}", error)
                continue
            self._good(f"tariff {tariff_id}")
            changed = await self.store.write(
                lambda tx, t=tariff_id, p=prices: _changed(tx, t, p, soon)  # type: ignore[misc]
            )
            if changed:
                for site_id in self.sites_of_tariff(tariff_id):
                    self.touch(site_id, "new prices")
        for carbon_id, source in self.carbon.items():
            try:
                rows = await source.intensity(start, until)
            except ProviderError as error:
                await self._failed(f"carbon {carbon_id}", error)
                continue
            self._good(f"carbon {carbon_id}")
            await self.store.write(
                lambda tx, c=carbon_id, r=rows: series.upsert_carbon(tx, c, r)  # type: ignore[misc]
            )

    def _good(self, source: str) -> None:
        self._fetched_s[source] = time.monotonic()
        self.metrics.source_age_seconds.labels(source=source).set(0)

    async def _failed(self, source: str, error: ProviderError) -> None:
        since = self._fetched_s.get(source)
        age_s = float("inf") if since is None else time.monotonic() - since
        self.metrics.source_age_seconds.labels(source=source).set(age_s)
        log.warning("source failed", source=source, why=str(error))
        at = self.clock.now()
        await self.store.write(
            lambda tx: journal.add_event(
                tx,
                Event(
                    at=at,
                    kind="source failed",
                    level="warning",
                    detail={"source": source, "why": str(error)},
                ),
            )
        )


def _changed(tx: Tx, tariff_id: str, new: Sequence[Price], before: datetime) -> bool:
    """Store prices; return whether any that holds before `before` is news."""
    if not new:
        return False
    known = {p.starts_at: p for p in series.prices(tx, tariff_id, new[0].starts_at, new[-1].until)}
    news = [price for price in new if known.get(price.starts_at) != price]
    series.upsert_prices(tx, tariff_id, news)
    return any(price.starts_at < before for price in news)
