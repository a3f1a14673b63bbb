"""The offer book: what flexibility was offered to whom, what they said, and what follows.

An offer is open until it is decided or its time is over. Accepting a later departure moves the
session's departure, and its trip's, because the plan is allowed to rely on it from then on; the
other kinds are what the plan does anyway and only have to be remembered.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from csms.clock import Clock
from csms.core.errors import Conflict
from csms.core.model import Event, Offer
from csms.store import journal, sessions, trips
from csms.store.database import Store
from csms.store.statements import Tx

LATER_DEPARTURE = "later_departure"


class OfferBook:
    """Keeps offers and what was said to them."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock

    async def make(self, offers: Sequence[Offer]) -> tuple[Offer, ...]:
        """Store new offers and return those stored.

        A session has at most one open offer of a kind; one whose time is over makes room, and what
        was decided is not offered again: nobody is asked twice. An offer that came too late is not
        made.
        """
        now = self.clock.now()
        return await self.store.write(lambda tx: make(tx, offers, now=now))

    async def offered(self, session_ids: Sequence[str]) -> frozenset[str]:
        """Return which of the sessions something was offered for, whatever was said to it."""
        return await self.store.read(lambda tx: trips.offered(tx, session_ids))

    async def accept(self, offer_id: str, *, by: str) -> Offer:
        """Accept an open offer, so that the next plan relies on it; the site has to be touched.

        Saying the same again changes nothing. Raises NotFound, and Conflict for an offer that was
        declined or whose time is over.
        """
        return await self._decide(offer_id, "accepted", by=by)

    async def decline(self, offer_id: str, *, by: str) -> Offer:
        """Decline an open offer; raises as `accept` does."""
        return await self._decide(offer_id, "declined", by=by)

    async def counts(self, site_id: str, *, starts_at: datetime, until: datetime) -> dict[str, int]:
        """Return how many offers of a site, made in [starts_at, until), are in each state."""
        return await self.store.read(lambda tx: trips.offer_counts(tx, site_id, starts_at, until))

    async def expire(self) -> int:
        """Close the open offers whose time is over and return how many."""
        now = self.clock.now()

        def work(tx: Tx) -> int:
            over = [o for o in trips.list_offers(tx, state="open", limit=10_000) if o.until <= now]
            for offer in over:
                trips.decide_offer(tx, offer.offer_id, "expired", at=now)
            return len(over)

        return await self.store.write(work)

    async def _decide(self, offer_id: str, state: str, *, by: str) -> Offer:
        now = self.clock.now()

        def work(tx: Tx) -> Offer:
            offer = trips.get_offer(tx, offer_id)
            if offer.state == "open" and offer.until <= now:
                raise Conflict(f"offer {offer_id} ended at {offer.until:%Y-%m-%dT%H:%MZ}")
            is_new = offer.state == "open"
            decided = trips.decide_offer(tx, offer_id, state, at=now)
            if is_new:
                _note(tx, decided, now, by)
                if state == "accepted" and decided.kind == LATER_DEPARTURE:
                    _stay_longer(tx, decided)
            return decided

        return await self.store.write(work)


def make(tx: Tx, offers: Sequence[Offer], *, now: datetime) -> tuple[Offer, ...]:
    """Store new offers inside the caller's transaction, as OfferBook.make does."""
    made = []
    for offer in offers:
        said = trips.list_offers(tx, session_id=offer.session_id)
        same = [o for o in said if o.kind == offer.kind]
        for old in same:
            if old.state == "open" and old.until <= now:
                trips.decide_offer(tx, old.offer_id, "expired", at=now)
        if any(o.state in ("accepted", "declined") or o.until > now for o in same):
            continue
        if offer.until <= now:
            continue
        trips.insert_offer(tx, offer)
        made.append(offer)
    return tuple(made)


def _note(tx: Tx, offer: Offer, at: datetime, by: str) -> None:
    journal.add_event(
        tx,
        Event(
            at=at,
            kind=f"offer {offer.state}",
            site_id=offer.site_id,
            session_id=offer.session_id,
            detail={"by": by, "offer_id": offer.offer_id, "kind": offer.kind},
        ),
    )


def _stay_longer(tx: Tx, offer: Offer) -> None:
    """Move the departure of the offer's session, and of the trips it charges for.

    A session that was only asked for when the offer was made is found by its trip.
    """
    moved = {trip.trip_id for trip in trips.trips_of_session(tx, offer.session_id)}
    for session in sessions.open_sessions_of_holder(tx, offer.holder_did):
        if session.session_id != offer.session_id and session.trip_id not in moved:
            continue
        if session.trip_id:
            moved.add(session.trip_id)
        if session.departs_at is None or session.departs_at < offer.until:
            sessions.save(tx, replace(session, departs_at=offer.until))
    for trip_id in moved:
        trip = trips.get_trip(tx, trip_id)
        if trip.departs_at < offer.until:
            trips.upsert_trip(tx, replace(trip, departs_at=offer.until))
