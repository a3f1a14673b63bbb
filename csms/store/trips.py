"""Trips, past stays (what habits are learned from) and offers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import delete, func, literal_column, select, update

from csms.core.errors import Conflict, NotFound
from csms.core.model import Offer, SessionState, Trip
from csms.store import plan_tables as tables
from csms.store.columns import us_from
from csms.store.lookup import Lookup
from csms.store.statements import Tx, parameter
from csms.store.tables import session

_T = tables.trip
_O = tables.offer
_TRIP_COLUMNS = [_T.c[f.name] for f in fields(Trip)]
_NEXT = Lookup(
    Trip,
    _TRIP_COLUMNS,
    by=[_T.c.holder_did],
    narrow=lambda found: found.where(
        _T.c.departs_at > parameter(_T.c.departs_at, "after")
    ).order_by(_T.c.departs_at, _T.c.trip_id),
    also=["after"],
)
_OFFER_COLUMNS = [_O.c[f.name] for f in fields(Offer)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastStay:
    """An ended session as a habit is learned from it; energy at the meter."""

    site_id: str
    started_at: datetime
    ended_at: datetime
    energy_kwh: float


_PAST = Lookup(
    PastStay,
    (
        session.c.site_id,
        session.c.started_at,
        session.c.ended_at,
        (session.c.energy_wh / literal_column("1000.0")).label("energy_kwh"),
    ),
    by=[session.c.holder_did],
    narrow=lambda found: (
        found.where(
            session.c.state == literal_column(f"'{SessionState.ENDED}'"),
            session.c.ended_at.is_not(None),
        )
        .order_by(session.c.number.desc())
        .limit(parameter(session.c.number, "limit"))
        .offset(literal_column("0"))
    ),
    also=["limit"],
)

# --- trips ---------------------------------------------------------------------------------------


def upsert_trip(tx: Tx, trip: Trip) -> None:
    """Store a trip, replacing the one of the same id."""
    tx.upsert(_T, ["trip_id"], asdict(trip))


def get_trip(tx: Tx, trip_id: str) -> Trip:
    """Return a trip; raise NotFound."""
    row = tx.execute(select(*_TRIP_COLUMNS).where(_T.c.trip_id == trip_id)).first()
    if row is None:
        raise NotFound(f"no trip {trip_id}")
    return Trip(**row._mapping)


def list_trips(
    tx: Tx, *, holder_did: str = "", since: datetime | None = None, limit: int = 1000
) -> list[Trip]:
    """Return trips that depart at `since` or later, earliest first."""
    statement = select(*_TRIP_COLUMNS).order_by(_T.c.departs_at, _T.c.trip_id).limit(limit)
    if holder_did:
        statement = statement.where(_T.c.holder_did == holder_did)
    if since is not None:
        statement = statement.where(_T.c.departs_at >= since)
    return [Trip(**row._mapping) for row in tx.execute(statement)]


def next_trip(tx: Tx, holder_did: str, after: datetime) -> Trip | None:
    """Return a holder's first trip that departs after `after`; none for the empty DID."""
    if not holder_did:
        return None
    return _NEXT.first(tx, holder_did, us_from(after))


def trips_of_session(tx: Tx, session_id: str) -> list[Trip]:
    """Return the trips that a session charges for, earliest first."""
    found = tx.execute(
        select(*_TRIP_COLUMNS)
        .where(_T.c.session_id == session_id)
        .order_by(_T.c.departs_at, _T.c.trip_id)
    )
    return [Trip(**row._mapping) for row in found]


def link_trip(tx: Tx, trip_id: str, session_id: str) -> None:
    """Say which session charges for a trip ("" for none); raise NotFound."""
    changed = tx.execute(
        update(_T).where(_T.c.trip_id == trip_id).values(session_id=session_id)
    ).rowcount
    if not changed:
        raise NotFound(f"no trip {trip_id}")


def delete_trip(tx: Tx, trip_id: str) -> None:
    """Delete a trip; raise NotFound."""
    if not tx.execute(delete(_T).where(_T.c.trip_id == trip_id)).rowcount:
        raise NotFound(f"no trip {trip_id}")


def past_stays(tx: Tx, holder_did: str, limit: int) -> list[PastStay]:
    """Return a holder's last ended sessions, newest first; none for the empty DID."""
    if not holder_did:
        return []
    return _PAST.all(tx, holder_did, limit)


# --- offers --------------------------------------------------------------------------------------


def insert_offer(tx: Tx, offer: Offer) -> None:
    """Store a new offer."""
    tx.execute(_O.insert(), [asdict(offer)])


def get_offer(tx: Tx, offer_id: str) -> Offer:
    """Return an offer; raise NotFound."""
    row = tx.execute(select(*_OFFER_COLUMNS).where(_O.c.offer_id == offer_id)).first()
    if row is None:
        raise NotFound(f"no offer {offer_id}")
    return Offer(**row._mapping)


def decide_offer(tx: Tx, offer_id: str, state: str, *, at: datetime) -> Offer:
    """Make an open offer "accepted", "declined" or "expired", and return it.

    Saying the same again changes nothing. Raises NotFound, or Conflict if it was decided otherwise.
    """
    changed = tx.execute(
        update(_O)
        .where(_O.c.offer_id == offer_id, _O.c.state == "open")
        .values(state=state, decided_at=at)
    ).rowcount
    offer = get_offer(tx, offer_id)
    if not changed and offer.state != state:
        raise Conflict(f"offer {offer_id} is {offer.state} already")
    return offer


def list_offers(
    tx: Tx,
    *,
    site_id: str = "",
    session_id: str = "",
    holder_did: str = "",
    state: str = "",
    limit: int = 200,
) -> list[Offer]:
    """Return offers, newest first."""
    wanted = {
        "site_id": site_id,
        "session_id": session_id,
        "holder_did": holder_did,
        "state": state,
    }
    found = tx.execute(
        select(*_OFFER_COLUMNS)
        .where(*(_O.c[name] == value for name, value in wanted.items() if value))
        .order_by(_O.c.made_at.desc(), _O.c.offer_id)
        .limit(limit)
    )
    return [Offer(**row._mapping) for row in found]


def offered(tx: Tx, session_ids: Sequence[str]) -> frozenset[str]:
    """Return which of the sessions there is an offer for, in whatever state."""
    if not session_ids:
        return frozenset()
    of_one = select(_O.c.session_id).where(_O.c.session_id.in_(session_ids)).distinct()
    return frozenset(row.session_id for row in tx.execute(of_one))


def offer_counts(tx: Tx, site_id: str, since: datetime, until: datetime) -> dict[str, int]:
    """Return how many offers of a site, made in [since, until), are in each state."""
    found = tx.execute(
        select(_O.c.state, func.count().label("offers"))
        .where(_O.c.site_id == site_id, _O.c.made_at >= since, _O.c.made_at < until)
        .group_by(_O.c.state)
    )
    return {row.state: int(row.offers) for row in found}
