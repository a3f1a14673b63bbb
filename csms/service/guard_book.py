"""The guards of a site's EVSEs, worked out once for many stations that settle together.

Guards depend on every EVSE of the site, so a station that boots has to look at all of them: with
thousands that come back at once the work would grow with the square. Stations that ask while
others wait share one look at the store, which always begins after each of them asked; and what is
found is worked out anew only where something it depends on has changed.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from csms.planning.guard import Guard, guards
from csms.store import stations
from csms.store.database import Store
from csms.store.statements import Tx

WINDOW_S = 0.25
"""Looks at one site's store are at least this far apart; the first is taken at once."""


@dataclass(frozen=True, slots=True)
class _Fit:
    depends_on: tuple[object, ...]
    by_station: Mapping[str, tuple[Guard, ...]]


@dataclass(slots=True)
class _Site:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: int = 0
    served: int = 0
    looked_at: float = float("-inf")
    fit: _Fit | None = None


class GuardBook:
    """Knows the guards of each site."""

    def __init__(self, store: Store, *, window_s: float = WINDOW_S) -> None:
        self.store = store
        self.window_s = window_s
        self.looks = 0
        """How often the store was looked at."""
        self.fits = 0
        """How often guards were worked out."""
        self._sites: dict[str, _Site] = {}

    async def of_station(self, site_id: str, station_id: str) -> tuple[Guard, ...]:
        """Return a station's guards as of a look at the store that began after this call."""
        site = self._sites.setdefault(site_id, _Site())
        site.asked += 1
        mine = site.asked
        async with site.lock:
            fit = site.fit
            if fit is None or site.served < mine:
                fit = await self._look(site_id, site)
        return fit.by_station.get(station_id, ())

    async def _look(self, site_id: str, site: _Site) -> _Fit:
        loop = asyncio.get_running_loop()
        pause_s = site.looked_at + self.window_s - loop.time()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        covers, known = site.asked, site.fit
        fit = await self.store.read(lambda tx: _fitted(tx, site_id, known))
        self.looks += 1
        self.fits += fit is not known
        site.served, site.looked_at, site.fit = covers, loop.time(), fit
        return fit


def _fitted(tx: Tx, site_id: str, known: _Fit | None) -> _Fit:
    """Return what was known where nothing that guards depend on has changed, else a new fit."""
    site = stations.get_site(tx, site_id)
    ratings = stations.evse_ratings(tx, site_id)
    depends_on = (site, *ratings)
    if known is not None and known.depends_on == depends_on:
        return known
    by_station: dict[str, list[Guard]] = {}
    for guard in guards(site, [rating.evse() for rating in ratings]):
        by_station.setdefault(guard.station_id, []).append(guard)
    return _Fit(depends_on, {key: tuple(value) for key, value in by_station.items()})
