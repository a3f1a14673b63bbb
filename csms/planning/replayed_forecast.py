"""What a forecast trained before the replayed days would have reserved for cars yet to arrive.

It is trained once, on the stays before the days, and made anew each hour from what had happened
by then. Runs that differ in strategy or limit share it: arrivals do not depend on plans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from csms.core.units import slot_start, slot_starts
from csms.planning.forecast_series import Stay
from csms.planning.forecast_site import ForecastSeries, reserved_kw, train
from csms.planning.visits import Visit

HOURS = 36
SITE = "replayed"


class PastForecast:
    """Forecasts as they could have been made on the replayed days."""

    def __init__(
        self,
        history: Sequence[Stay],
        visits: Sequence[Visit],
        *,
        trained_at: datetime,
        time_zone: str,
        seed: int = 0,
    ) -> None:
        """Train on `history`; what ends after `trained_at` is not known yet."""
        self._stays = [
            *(replace(s, site_id=SITE) for s in history if s.started_at < trained_at),
            *(
                Stay(
                    site_id=SITE,
                    started_at=v.arrives_at,
                    ended_at=v.departs_at,
                    energy_kwh=v.need_kwh,
                    max_kw=v.max_kw,
                )
                for v in visits
            ),
        ]
        known = [s for s in self._stays if s.ended_at is not None and s.ended_at <= trained_at]
        self._trained = train({SITE: known}, now=trained_at, time_zone=time_zone, seed=seed)
        self._made: dict[datetime, ForecastSeries] = {}

    def at(self, now: datetime) -> ForecastSeries:
        """Return the forecast that was there at `now`, an hour old at most."""
        origin = slot_start(now, slot_s=3600)
        if origin not in self._made:
            since = origin - timedelta(weeks=9)
            known = [
                replace(s, ended_at=None) if s.ended_at is None or s.ended_at > origin else s
                for s in self._stays
                if since <= s.started_at < origin
            ]
            self._made[origin] = self._trained.predict(
                SITE, origin=origin, hours=HOURS, stays=known
            )
        return self._made[origin]

    def reserve(self, now: datetime, *, quantile: float) -> Mapping[datetime, float]:
        """Return the headroom to keep by quarter-hour start, kW."""
        starts = tuple(slot_starts(now, now + timedelta(hours=HOURS - 1)))
        return dict(zip(starts, reserved_kw(self.at(now), starts, quantile=quantile), strict=False))

    def arrivals_kw(
        self, now: datetime, edges_at: Sequence[datetime]
    ) -> tuple[tuple[float, ...], ...]:
        """Return P10, P50 and P90 of what cars yet to arrive draw in each slot, (3, slots) kW."""
        made = self.at(now)
        return tuple(reserved_kw(made, tuple(edges_at), quantile=q) for q in (0.1, 0.5, 0.9))
