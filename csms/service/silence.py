"""Stations whose link stands open and that say nothing any more.

A station that has been silent for three heartbeat intervals is shown as offline, and is online
again with its next message. Every report counts as a sign of life; heartbeats reach the centre once
a minute at most, so no silence shorter than that is judged.
"""

from datetime import datetime, timedelta

from csms.clock import Clock
from csms.core.model import Event, LinkState, Station
from csms.store import journal, links, stations
from csms.store.database import Store
from csms.store.statements import Tx

INTERVALS = 3
LEAST = timedelta(seconds=150)


class Silence:
    """Knows when each station of this process was heard of last."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.heard_at: dict[str, datetime] = {}
        """Station -> when its last report came; stations without an open link are not in it."""
        self.silent: set[str] = set()
        """Stations that are shown as offline though their link is open."""

    async def look(self) -> list[Station]:
        """Show stations that have been silent too long as offline, and return them."""
        now = self.clock.now()

        def work(tx: Tx) -> list[Station]:
            found = []
            for station_id, heard_at in list(self.heard_at.items()):
                if now - heard_at < LEAST or station_id in self.silent:
                    continue
                station = stations.find_station(tx, station_id)
                if station is None or station.link_state is not LinkState.ONLINE:
                    continue
                limit = timedelta(seconds=station.heartbeat_interval_s * INTERVALS)
                if now - heard_at < limit:
                    continue
                links.set_link_state(tx, station_id, LinkState.OFFLINE)
                journal.add_event(tx, _event(station, now, "station silent", "warning"))
                found.append(station)
            return found

        if not self.heard_at:
            return []
        found = await self.store.write(work)
        self.silent.update(s.station_id for s in found)
        return found

    async def heard_again(self, station_id: str) -> Station | None:
        """Show a station that was silent as online; return it, None if its link is gone."""
        now = self.clock.now()
        self.silent.discard(station_id)

        def work(tx: Tx) -> Station | None:
            station = stations.find_station(tx, station_id)
            if station is None:
                return None
            links.set_link_state(tx, station_id, LinkState.ONLINE)
            stations.seen(tx, station_id, now)
            journal.add_event(tx, _event(station, now, "station heard again", "info"))
            return station

        return await self.store.write(work)

    def gone(self, station_id: str) -> None:
        """Forget a station whose link has ended."""
        self.heard_at.pop(station_id, None)
        self.silent.discard(station_id)


def _event(station: Station, at: datetime, kind: str, level: str) -> Event:
    return Event(
        at=at,
        kind=kind,
        level=level,
        site_id=station.site_id,
        station_id=station.station_id,
    )
