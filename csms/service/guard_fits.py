"""Guard fits: the guards of a whole site, worked out once for all of its stations that settle.

One fit reads every EVSE of the site. A large site's is used again for many times as long as it
took, so that fits cost a small part of the process however many stations come up; a small site's
is made anew each time.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from csms.core.model import Evse, Site, Station
from csms.planning.guard import Guard, guards
from csms.store import stations
from csms.store import wiring as wires
from csms.store.database import Store
from csms.store.statements import Tx

_GOOD_FOR = 20.0
"""A fit is used for so many times as long as it took, beyond what is cheap."""
_CHEAP_S = 0.01
SAME_KW = 0.05
"""Guards that differ by less are the same."""

_Shape = tuple[float, int]


@dataclass(frozen=True, slots=True)
class _Fit:
    site: Site
    guards: Mapping[str, Sequence[Guard]]
    shapes: Mapping[str, Mapping[int, _Shape]]
    good_until: float


class GuardFits:
    """The latest fit of each site. Belongs to one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fits: dict[str, _Fit] = {}
        self._fitting: dict[str, asyncio.Lock] = {}

    async def of(self, station: Station, evses: Sequence[Evse]) -> tuple[Site, Sequence[Guard]]:
        """Return a station's site and the guards of its `evses`, which the fit counts as given."""
        shapes = {e.evse_id: _shape(e) for e in evses}
        async with self._fitting.setdefault(station.site_id, asyncio.Lock()):
            fit = self._fits.get(station.site_id)
            is_good = (
                fit is not None
                and time.monotonic() < fit.good_until
                and fit.shapes.get(station.station_id) == shapes
            )
            if fit is None or not is_good:
                fit = await self._store.read(lambda tx: _fitted(tx, station))
                self._keep(station.site_id, fit)
        return fit.site, fit.guards.get(station.station_id, ())

    def _keep(self, site_id: str, fit: _Fit) -> None:
        """Keep a fit for as long as it is good: it holds a guard of each EVSE of the site."""
        self._fits[site_id] = fit
        left_s = max(fit.good_until - time.monotonic(), 0.0)
        asyncio.get_running_loop().call_later(left_s, self._drop, site_id, fit)

    def _drop(self, site_id: str, fit: _Fit) -> None:
        if self._fits.get(site_id) is fit:
            del self._fits[site_id]


def _fitted(tx: Tx, station: Station) -> _Fit:
    began, cpu = time.monotonic(), time.thread_time()
    site = stations.get_site(tx, station.site_id)
    found: dict[str, list[Guard]] = {}
    shapes: dict[str, dict[int, _Shape]] = {}
    for evse, guard in _guards(tx, site):
        found.setdefault(evse.station_id, []).append(guard)
        shapes.setdefault(evse.station_id, {})[evse.evse_id] = _shape(evse)
    good_until = began + _GOOD_FOR * (time.thread_time() - cpu - _CHEAP_S)
    return _Fit(site=site, guards=found, shapes=shapes, good_until=good_until)


def _guards(tx: Tx, site: Site) -> Iterable[tuple[Evse, Guard]]:
    """Return each EVSE of a site, as far as its guard depends on it, with its guard."""
    evses = [rating.evse() for rating in stations.ratings_of_site(tx, site.site_id)]
    wiring = wires.wiring_of(tx, site.site_id)
    return zip(evses, guards(site, evses, wiring=wiring), strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A station whose guard in force is above what it may be now."""

    station: Station
    evses: tuple[Evse, ...]
    guard: Guard


def lowered(tx: Tx, site_id: str) -> tuple[Site, tuple[Lowered, ...]]:
    """Return a site and what is to be lowered there; a large site's takes a while to work out."""
    site, in_force_kw = stations.get_site(tx, site_id), stations.guards_of_site(tx, site_id)
    found = []
    for _, guard in _guards(tx, site):
        kept_kw = in_force_kw.get((guard.station_id, guard.evse_id))
        if kept_kw is not None and guard.power_kw < kept_kw - SAME_KW:
            station = stations.get_station(tx, guard.station_id)
            evses = tuple(stations.evses_of_station(tx, guard.station_id))
            found.append(Lowered(station=station, evses=evses, guard=guard))
    return site, tuple(found)


def _shape(evse: Evse) -> _Shape:
    return evse.max_kw, evse.phases
