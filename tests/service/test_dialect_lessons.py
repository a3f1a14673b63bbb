"""What is learned from refusals depends on what became of the session they were for."""

from dataclasses import replace
from datetime import timedelta

from csms.core.commands import CommandResult, Outcome, Schedule, SchedulePeriod, SetSchedule
from csms.core.model import Session, SessionState, StationLimits
from csms.service.dialects import DialectWatcher
from csms.store import plans, sessions, stations
from csms.store.database import Store
from csms.store.plans import InstalledSchedule
from tests.service.field import NOW, Depot, Field, HandClock

REJECTED = CommandResult(outcome=Outcome.REJECTED, status="Rejected")
TAKEN = CommandResult(outcome=Outcome.ACCEPTED, status="Accepted")
AS_TOLD = (24, "replaces")
"""Periods and reuse of ids, as the stations of the field say."""
WANTED = Schedule(
    profile_id=1_000_001,
    stack_level=1,
    unit="A",
    starts_at=NOW,
    duration_s=7200,
    periods=tuple(SchedulePeriod(start_s=900 * k, limit=16.5 - k) for k in range(8)),
)


async def place_of(store: Store) -> Depot:
    place = Depot(store, Field(guards_kw={"c0": 4.14}), HandClock())
    await place.build(limit_kw=30.0)
    return place


async def answered(store: Store, session: Session, result: CommandResult) -> tuple[int, str]:
    """Let a schedule come to an end as the push does; return what is then known of the station."""
    kept = InstalledSchedule(
        session_id=session.session_id,
        profile_id=WANTED.profile_id,
        schedule=WANTED,
        edges_at=(NOW, NOW + timedelta(hours=2)),
        row_kw=(11.0,),
        sent_at=NOW,
        outcome=Outcome.SENT,
    )
    command = SetSchedule(
        station_id=session.station_id,
        evse_id=1,
        transaction_id=session.transaction_id,
        schedule=WANTED,
    )
    install_id = await store.write(lambda tx: plans.insert_installed(tx, kept))
    await store.write(lambda tx: DialectWatcher().ended(tx, command, result, at=NOW))
    await store.write(lambda tx: plans.finish_installed(tx, install_id, result.outcome))
    station = await store.read(lambda tx: stations.get_station(tx, session.station_id))
    return station.limits.max_periods, station.limits.same_id


async def test_a_refusal_for_a_session_that_has_ended_teaches_nothing(store: Store) -> None:
    place = await place_of(store)
    session = await place.arrive("c0")
    ended = replace(session, state=SessionState.ENDED, ended_at=NOW)
    await store.write(lambda tx: sessions.save(tx, ended))
    assert await answered(store, session, REJECTED) == AS_TOLD


async def test_what_was_tried_for_a_session_that_ended_is_dropped_by_the_next(store: Store) -> None:
    place = await place_of(store)
    first = await place.arrive("c0")
    # The station refuses since its transaction is over; the message that says so comes later.
    assert await answered(store, first, REJECTED) == (4, "replaces")
    ended = replace(first, state=SessionState.ENDED, ended_at=NOW)
    await store.write(lambda tx: sessions.save(tx, ended))
    second = await place.arrive("c0")
    # What the field's stations say is no item of their dialect: what is assumed of all is left.
    assert await answered(store, second, TAKEN) == (StationLimits().max_periods, "replaces")


async def test_what_was_tried_is_kept_once_the_same_session_is_served_with_it(store: Store) -> None:
    place = await place_of(store)
    session = await place.arrive("c0")
    assert await answered(store, session, REJECTED) == (4, "replaces")
    assert await answered(store, session, TAKEN) == (4, "replaces")
    other = await place.arrive("c0")
    assert await answered(store, other, TAKEN) == (4, "replaces")


async def test_a_station_that_took_as_much_before_is_not_asked_for_less(store: Store) -> None:
    place = await place_of(store)
    session = await place.arrive("c0")
    await answered(store, session, TAKEN)
    assert await answered(store, session, REJECTED) == (StationLimits().max_periods, "clear_first")
