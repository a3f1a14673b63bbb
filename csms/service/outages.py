"""EVSEs that take nobody for a while: out of order, or of a station that updates its firmware.

Room is kept for cars that are forecast to arrive; where nobody can, the cars that are there may
have it. What an EVSE may draw by itself stays counted: it holds without us, and comes back at once.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from csms.core.device import Kind
from csms.core.model import Evse
from csms.store import requests
from csms.store.statements import Tx

Place = tuple[str, int]

OUT_FOR = timedelta(hours=1)
"""How far ahead an outage is counted on: each plan looks again."""
_OUT = frozenset({"Unavailable", "Faulted"})


def outages(tx: Tx, evses: Sequence[Evse], notes: list[str]) -> frozenset[Place]:
    """Return the EVSEs that are out of service; firmware updates are noted with their state."""
    # An EVSE that never reported is not known to be out.
    out = {(e.station_id, e.evse_id) for e in evses if e.status in _OUT and e.status_at is not None}
    updating = requests.running(tx, Kind.FIRMWARE)
    of_station: dict[str, list[Evse]] = {}
    for evse in evses if updating else ():
        of_station.setdefault(evse.station_id, []).append(evse)
    for station_id, status in updating.items():
        if station_id in of_station:
            places = [(station_id, evse.evse_id) for evse in of_station[station_id]]
            gone = [str(evse_id) for _, evse_id in places if (station_id, evse_id) in out]
            where = f"EVSE {', '.join(gone)} takes nobody" if gone else "no EVSE is out of service"
            notes.append(f"{station_id} updates its firmware ({status}): {where}")
    return frozenset(out)


def for_arrivals(
    reserved_kw: Mapping[datetime, float],
    evses: Sequence[Evse],
    *,
    out: frozenset[Place],
    taken: frozenset[Place],
    now: datetime,
) -> Mapping[datetime, float]:
    """Return the headroom for arrivals, no more than the EVSEs that can take one could give."""
    if not out or not reserved_kw:
        return reserved_kw
    free_kw = sum(e.max_kw for e in evses if (e.station_id, e.evse_id) not in out | taken)
    return {at: min(kw, free_kw) if at < now + OUT_FOR else kw for at, kw in reserved_kw.items()}
