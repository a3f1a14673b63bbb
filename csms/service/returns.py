"""Which stations do not come back after a close frame, found out by waiting for them.

Some stations take a close frame for the last word and stay away until somebody restarts them,
while a link that vanishes they open again at once (lbbrhzn/ocpp#1975). One that was closed for a
reason of ours, and is away for much longer than it ever was, is such a station: from then on its
links, and those of its model and firmware, are cut without a frame.
"""

from datetime import datetime, timedelta
from itertools import pairwise

import structlog

from csms.clock import Clock
from csms.core.dialect import Lesson
from csms.core.messages import CENTRE_OUT, CENTRE_STOPS
from csms.service.dialects import learn
from csms.store import links, stations
from csms.store.database import Store
from csms.store.links import StationLink
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

LEAST = timedelta(minutes=10)
"""No shorter absence says anything."""
MUCH_LONGER = 3
_AN_ABSENCE = timedelta(hours=1)
"""What takes longer was somebody's work, and no habit of the station."""
_LINKS = 20


class Returns:
    """Looks for stations that stay away; one per process."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self._began_at = clock.now()
        """Before this nobody could come back."""

    async def look(self) -> list[str]:
        """Learn of stations that should have been back by now; return them."""
        now = self.clock.now()
        if now - self._began_at < LEAST:
            return []
        found = await self.store.write(lambda tx: self._look(tx, now))
        for station_id in found:
            log.warning("station does not return after a close frame", station_id=station_id)
        return found

    def _look(self, tx: Tx, now: datetime) -> list[str]:
        found = []
        for station_id in links.closed_by_us(tx, (CENTRE_STOPS, CENTRE_OUT), before=now - LEAST):
            station = stations.get_station(tx, station_id)
            if not station.limits.returns_after_close:
                continue
            known = links.list_links(tx, station_id, limit=_LINKS)
            usual = usual_absence(known)
            closed_at = known[0].closed_at
            if usual is None or closed_at is None:
                continue
            away = now - max(closed_at, self._began_at)
            if away < max(LEAST, MUCH_LONGER * usual):
                continue
            why = (
                f"away for {away.total_seconds() / 60:.0f} min after a close frame; "
                f"else back within {usual.total_seconds():.0f} s"
            )
            lesson = Lesson(name="returns_after_close", value=False, why=why)
            if learn(tx, station_id, [lesson], at=now):
                found.append(station_id)
        return found


def usual_absence(known: list[StationLink]) -> timedelta | None:
    """Return the longest time between links of a station, newest first; None if it never came back.

    Links that overlap were no absence, and what took hours says nothing.
    """
    gaps = [
        newer.opened_at - older.closed_at
        for newer, older in pairwise(known)
        if older.closed_at is not None and older.closed_at <= newer.opened_at
    ]
    return max((gap for gap in gaps if gap <= _AN_ABSENCE), default=None)
