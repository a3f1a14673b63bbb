"""What a station shows of its ways while it answers nothing amiss, and what it does not show."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from csms.core.model import Session, StationLimits
from csms.core.smart import LimitNotified
from csms.service import watching
from csms.service.dialects import DialectBook
from csms.service.following import Allowed, Sights
from csms.store import dialects, reported, stations
from csms.store.database import Store
from csms.store.statements import Tx
from tests.service.field import NOW, Depot, Field, HandClock

TOO_LITTLE = Allowed(power_kw=5.0, phases=3, voltage_v=230.0)
PAUSED = replace(TOO_LITTLE, after_pause=True)


async def idle_at(store: Store, *, charging_state: str = "SuspendedEVSE") -> Session:
    """Return a session whose car takes nothing."""
    place = Depot(store, Field(guards_kw={"c0": 4.14}), HandClock())
    await place.build(limit_kw=30.0)
    session = await place.arrive("c0")
    return replace(session, charging_state=charging_state)


async def limits_after(store: Store, **seen: Any) -> StationLimits:
    await store.write(lambda tx: watching.learned(tx, Sights(**seen), at=NOW))
    return (await store.read(lambda tx: stations.get_station(tx, "c0"))).limits


async def sources(store: Store, name: str) -> list[str]:
    """Return what an item of the station is said by, and whether by its model."""
    station = await store.read(lambda tx: stations.get_station(tx, "c0"))
    items = await store.read(lambda tx: dialects.items_for(tx, station))
    return sorted("station" if i.station_id else "model" for i in items if i.name == name)


async def test_a_quarter_more_is_tried_until_the_station_gives(store: Store) -> None:
    session = await idle_at(store)
    assert (await limits_after(store, idle=[(session, TOO_LITTLE)])).least_w == 6250
    assert await sources(store, "least_w") == ["station"]
    # What it gives below that says nothing of what it was tried for.
    assert (await limits_after(store, served=[(session, TOO_LITTLE)])).least_w == 6250
    assert await sources(store, "least_w") == ["station"]
    enough = replace(TOO_LITTLE, power_kw=6.25)
    assert (await limits_after(store, served=[(session, enough)])).least_w == 6250
    # It is known for certain now: less is not tried, and more is not either.
    more = replace(TOO_LITTLE, power_kw=5.5)
    assert (await limits_after(store, idle=[(session, more)])).least_w == 6250


async def test_a_station_that_gives_nothing_at_10_a_is_held_back_by_something_else(
    store: Store,
) -> None:
    session = await idle_at(store)
    await limits_after(store, idle=[(session, TOO_LITTLE)])
    more = replace(TOO_LITTLE, power_kw=6.25)
    assert (await limits_after(store, idle=[(session, more)])).least_w == 0


@pytest.mark.parametrize("charging_state", ["SuspendedEV", "Charging", ""])
async def test_a_car_that_takes_nothing_by_itself_teaches_nothing(
    store: Store, charging_state: str
) -> None:
    session = await idle_at(store, charging_state=charging_state)
    found = await limits_after(store, idle=[(session, TOO_LITTLE), (session, PAUSED)])
    assert (found.least_w, found.zero) == (0, "ok")


async def test_in_1_6_the_status_of_the_evse_says_who_holds_back(store: Store) -> None:
    session = await idle_at(store, charging_state="")

    def suspend(tx: Tx) -> None:
        evse = stations.get_evse(tx, "c0", session.evse_id)
        assert evse is not None
        stations.upsert_evse(tx, replace(evse, status="SuspendedEVSE"))

    await store.write(suspend)
    assert (await limits_after(store, idle=[(session, TOO_LITTLE)])).least_w == 6250


async def test_a_limit_of_somebody_else_teaches_nothing(store: Store) -> None:
    session = await idle_at(store)
    limit = LimitNotified(station_id="c0", received_at=NOW, evse_id=0, source="EMS", schedules=())
    await store.write(lambda tx: reported.put_limit(tx, limit))
    assert (await limits_after(store, idle=[(session, TOO_LITTLE)])).least_w == 0


async def test_an_operators_word_stays(store: Store) -> None:
    session = await idle_at(store)
    book = DialectBook(store=store, clock=HandClock())
    said = {"least_w": 1000.0, "zero": "ok", "cascade": "least"}
    await book.set_station("c0", said, by="t")
    found = await limits_after(
        store,
        idle=[(session, TOO_LITTLE), (session, PAUSED)],
        unscheduled=[replace(session, power_w=11_000.0, sample_at=NOW)],
    )
    assert (found.least_w, found.zero, found.cascade) == (1000.0, "ok", "least")


async def test_what_sleeps_after_a_pause_is_known_once_it_is_woken(store: Store) -> None:
    session = await idle_at(store)
    assert (await limits_after(store, idle=[(session, PAUSED)])).zero == "sleeps"
    assert await sources(store, "zero") == ["station"]
    seen = Sights(served=[(session, TOO_LITTLE)])
    learned = await store.write(lambda tx: watching.learned(tx, seen, at=NOW))
    assert learned.excused == (session,)
    assert (await limits_after(store)).zero == "sleeps"


async def test_what_was_awake_and_had_too_little_is_no_sleeper(store: Store) -> None:
    session = await idle_at(store)
    await limits_after(store, idle=[(session, PAUSED)])
    enough = replace(TOO_LITTLE, power_kw=6.0, needs_more=True)
    found = await limits_after(store, served=[(session, enough)])
    assert (found.zero, found.least_w) == ("ok", 6000)


@pytest.mark.parametrize(
    ("power_w", "sent_s", "cascade"),
    [(11_000.0, None, "tx_only"), (4_200.0, None, "least"), (11_000.0, -60.0, "least")],
    ids=["above its guard", "within its guard", "by a schedule"],
)
async def test_a_car_above_its_guard_and_without_a_schedule_shows_that_guards_do_nothing(
    store: Store, power_w: float, sent_s: float | None, cascade: str
) -> None:
    place = Depot(store, Field(guards_kw={"c0": 4.14}), HandClock())
    await place.build(limit_kw=30.0)
    session = await place.arrive("c0")
    if sent_s is not None:
        await place.plan_and_push()
    at = NOW - timedelta(seconds=sent_s or 0.0)
    drawn = replace(session, power_w=power_w, sample_at=at)
    found = await limits_after(store, unscheduled=[drawn])
    assert found.cascade == cascade
