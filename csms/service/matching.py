"""Which trip and vehicle a session charges for, and what it needs for that."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from csms.core.model import Session
from csms.planning.demand import need
from csms.store import identities, sessions, stations, trips
from csms.store.statements import Tx


def matched(tx: Tx, session: Session, *, now: datetime) -> Session:
    """Return the session matched to its holder's vehicle and first trip after `now`.

    A session that nobody stands behind stays as it is.
    """
    if not session.is_authorized or not session.holder_did:
        return session
    holder = identities.holder_of_did(tx, session.holder_did)
    if holder is None:
        return session
    trip = trips.next_trip(tx, holder.did, now)
    vehicle_id = (trip.vehicle_id if trip else "") or holder.vehicle_id
    vehicle = identities.find_vehicle(tx, vehicle_id) if vehicle_id else None
    habits = () if trip else trips.past_stays(tx, holder.did, 20)
    # What an earlier match assumed must not be taken for something that was stated.
    unmatched = replace(session, need_wh=None, preferred_wh=None, departs_at=None)
    zone = ZoneInfo(stations.get_site(tx, session.site_id).time_zone)
    wanted = need(unmatched, trip, vehicle, now=now, habits=habits, zone=zone)
    return replace(
        session,
        vehicle_id=vehicle_id,
        trip_id=trip.trip_id if trip else "",
        departs_at=wanted.departs_at,
        need_wh=session.energy_wh + wanted.required_kwh * 1000.0,
        preferred_wh=session.energy_wh + wanted.preferred_kwh * 1000.0,
        need_source="assumed" if wanted.is_assumed else "trip",
    )


def rematch(tx: Tx, holder_did: str, *, now: datetime) -> tuple[str, ...]:
    """Match a holder's open sessions again and return the sites whose plans that concerns.

    A need that the car itself stated stays, unless a trip has been declared.
    """
    touched = []
    for session in sessions.open_sessions_of_holder(tx, holder_did):
        after = matched(tx, session, now=now)
        if session.need_source == "car" and after.need_source != "trip":
            continue
        if after != session:
            sessions.save(tx, after)
        touched.append(session.site_id)
    return tuple(touched)
