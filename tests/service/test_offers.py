"""The offer book: nobody is asked twice, and a later departure is one the plan may rely on."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from csms.clock import Clock
from csms.core.errors import Conflict, NotFound
from csms.core.model import AuthorizationStatus, OcppVersion, Offer, Session, SessionState, Trip
from csms.service.offers import OfferBook
from csms.store import journal, sessions, trips
from csms.store.database import Store
from csms.store.statements import Tx

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DRIVER = "did:denso:driver:one"


def offer(kind: str = "later_departure", *, n: int = 1, **changes: object) -> Offer:
    base = Offer(
        offer_id=f"o-{n}", session_id="s-1", holder_did=DRIVER, site_id="depot", kind=kind,
        discount_eur=1.5, starts_at=NOON, until=NOON + timedelta(hours=8), reason="r", made_at=NOON,
    )  # fmt: skip
    return replace(base, **changes)


def fill(tx: Tx) -> None:
    trips.upsert_trip(
        tx,
        Trip(trip_id="t-1", holder_did=DRIVER, departs_at=NOON + timedelta(hours=6), distance_km=9),
    )
    sessions.open_session(
        tx,
        Session(
            session_id="s-1", number=0, site_id="depot", station_id="CP1", evse_id=1,
            version=OcppVersion.V16, transaction_id="1", holder_did=DRIVER,
            status=AuthorizationStatus.ACCEPTED, started_at=NOON, received_at=NOON,
            trip_id="t-1", departs_at=NOON + timedelta(hours=6),
        ),
    )  # fmt: skip


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path / 'o.sqlite3'}")
    await opened.write(fill)
    yield opened
    await opened.close()


def book(store: Store, *, at: datetime = NOON) -> OfferBook:
    return OfferBook(store=store, clock=Clock(start=at))


async def test_an_accepted_later_departure_moves_the_session_and_its_trip(store: Store) -> None:
    (made,) = await book(store).make([offer()])
    accepted = await book(store).accept(made.offer_id, by="driver")
    assert accepted.state == "accepted"
    assert accepted.decided_at is not None
    session, trip = await store.read(
        lambda tx: (sessions.get(tx, "s-1"), trips.get_trip(tx, "t-1"))
    )
    assert session.departs_at == trip.departs_at == NOON + timedelta(hours=8)


async def test_a_session_asked_for_only_is_found_by_its_trip(store: Store) -> None:
    await store.write(lambda tx: trips.link_trip(tx, "t-1", "s-asked"))
    await book(store).make([offer(session_id="s-asked")])
    await book(store).accept("o-1", by="driver")
    session = await store.read(lambda tx: sessions.get(tx, "s-1"))
    assert session.departs_at == NOON + timedelta(hours=8)


async def test_an_acceptance_never_brings_a_departure_forward(store: Store) -> None:
    early = offer(until=NOON + timedelta(hours=2))
    await book(store).make([early])
    await book(store).accept("o-1", by="driver")
    session = await store.read(lambda tx: sessions.get(tx, "s-1"))
    assert session.departs_at == NOON + timedelta(hours=6)


@pytest.mark.parametrize("kind", ["delayed_start", "clean_hours", "sunny_hours"])
async def test_other_kinds_are_remembered_and_move_nothing(store: Store, kind: str) -> None:
    await book(store).make([offer(kind)])
    await book(store).accept("o-1", by="driver")
    session = await store.read(lambda tx: sessions.get(tx, "s-1"))
    assert session.departs_at == NOON + timedelta(hours=6)


async def test_a_declined_offer_stays_declined_and_saying_it_again_changes_nothing(
    store: Store,
) -> None:
    await book(store).make([offer()])
    first = await book(store).decline("o-1", by="driver")
    again = await book(store, at=NOON + timedelta(hours=1)).decline("o-1", by="driver")
    assert again == first
    with pytest.raises(Conflict):
        await book(store).accept("o-1", by="driver")
    events = await store.read(lambda tx: journal.list_events(tx, session_id="s-1"))
    assert [e.event.kind for e in events.items] == ["offer declined"]


async def test_what_was_decided_or_is_open_is_not_offered_again(store: Store) -> None:
    assert len(await book(store).make([offer(n=1), offer("clean_hours", n=2)])) == 2
    assert await book(store).make([offer(n=3)]) == ()
    await book(store).decline("o-1", by="driver")
    assert await book(store).make([offer(n=4)]) == ()


async def test_an_offer_whose_time_is_over_cannot_be_accepted_and_makes_room(store: Store) -> None:
    await book(store).make([offer()])
    late = NOON + timedelta(hours=9)
    with pytest.raises(Conflict, match="ended at"):
        await book(store, at=late).accept("o-1", by="driver")
    newer = offer(n=2, made_at=late, until=late + timedelta(hours=1))
    assert await book(store, at=late).make([newer]) == (newer,)
    old = await store.read(lambda tx: trips.get_offer(tx, "o-1"))
    assert old.state == "expired"


async def test_old_offers_are_closed_and_counted(store: Store) -> None:
    await book(store).make([offer(n=1), offer("clean_hours", n=2, until=NOON + timedelta(days=9))])
    assert await book(store, at=NOON + timedelta(days=1)).expire() == 1
    counts = await book(store).counts("depot", starts_at=NOON, until=NOON + timedelta(days=1))
    assert counts == {"expired": 1, "open": 1}


async def test_an_unknown_offer_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await book(store).accept("none", by="driver")


async def test_an_ended_session_stays_as_it_ended(store: Store) -> None:
    await store.write(lambda tx: sessions.close_session(tx, "s-1", at=NOON, reason="Local"))
    await book(store).make([offer()])
    await book(store).accept("o-1", by="driver")
    session = await store.read(lambda tx: sessions.get(tx, "s-1"))
    assert session.state is SessionState.ENDED
    assert session.departs_at == NOON + timedelta(hours=6)
