"""Trips, offers, outside series, forecasts, plans and installed schedules."""

from dataclasses import replace
from datetime import datetime

import pytest

from csms.core.commands import Outcome, Schedule, SchedulePeriod
from csms.core.errors import Conflict, NotFound
from csms.core.model import CarbonIntensity, Offer, Price, Strategy, Trip
from csms.core.plan import Plan, PlannedSession, PlanningCase, PlanningSession
from csms.store import plans, series, sessions, trips
from csms.store.database import Store
from csms.store.plans import InstalledSchedule
from csms.store.series import ForecastScore
from csms.store.statements import Tx
from tests.service.field import accepted
from tests.store.values import NOON, a_session, later

DRIVER = "did:example:driver"
HOUR = 3600


def a_trip(trip_id: str = "t1", hours: float = 8.0, **more: object) -> Trip:
    return Trip(
        **{
            "trip_id": trip_id,
            "holder_did": DRIVER,
            "departs_at": later(hours * HOUR),
            "distance_km": 120.0,
            **more,
        }
    )


def an_offer(offer_id: str = "o1", **more: object) -> Offer:
    return Offer(
        **{
            "offer_id": offer_id,
            "session_id": "s1",
            "holder_did": DRIVER,
            "site_id": "depot",
            "kind": "later_departure",
            "discount_eur": 1.5,
            "starts_at": NOON,
            "until": later(HOUR),
            "reason": "cheaper",
            "made_at": NOON,
            **more,
        }
    )


def a_case(site_id: str = "depot") -> PlanningCase:
    return PlanningCase(
        site_id=site_id,
        now_at=NOON,
        edges_at=(NOON, later(900), later(1800)),
        limit_kw=(100.0, 0.1 + 0.2),
        base_load_kw=(10.0, 10.0),
        reserved_kw=(0.0, 0.0),
        price_eur_per_kwh=(0.3, -0.01),
        co2_kg_per_kwh=(0.4, 0.4),
        sessions=(
            PlanningSession(
                session_id="s1",
                station_id="CS1",
                evse_id=1,
                available_at=NOON,
                departs_at=later(1800),
                required_kwh=5.0,
                preferred_kwh=6.0,
                max_kw=11.0,
                min_kw=4.14,
            ),
        ),
    )


def a_plan(site_id: str = "depot", made_at: datetime = NOON) -> Plan:
    return Plan(
        site_id=site_id,
        made_at=made_at,
        strategy=Strategy.OPTIMAL,
        status="optimal",
        edges_at=(NOON, later(900), later(1800)),
        sessions=(PlannedSession(session_id="s1", power_kw=(11.0, 1 / 3), shortfall_kwh=0.5),),
    )


def installed(outcome: Outcome = Outcome.ACCEPTED, **more: object) -> InstalledSchedule:
    schedule = Schedule(
        profile_id=7,
        stack_level=1,
        unit="A",
        starts_at=NOON,
        duration_s=1800,
        periods=(SchedulePeriod(start_s=0, limit=16.0), SchedulePeriod(start_s=900, limit=6.1)),
    )
    return InstalledSchedule(
        **{
            "session_id": "s1",
            "profile_id": 7,
            "schedule": schedule,
            "edges_at": (NOON, later(900), later(1800)),
            "row_kw": (11.04, 4.2),
            "sent_at": NOON,
            "outcome": outcome,
            "command_id": 3,
            "plan_id": 4,
            **more,
        }
    )


# --- trips, offers -------------------------------------------------------------------------------


async def test_the_next_trip_is_the_first_that_departs_afterwards(store: Store) -> None:
    def change(tx: Tx) -> None:
        for trip in (
            a_trip("late", 20.0),
            a_trip("soon", 2.0, preferred_soc=0.9, energy_kwh=5.0),
            a_trip("past", -1.0),
            a_trip("other", 1.0, holder_did="did:example:other"),
        ):
            trips.upsert_trip(tx, trip)

    await store.write(change)

    async def after(hours: float, holder: str = DRIVER) -> str | None:
        found = await store.read(lambda tx: trips.next_trip(tx, holder, later(hours * HOUR)))
        return None if found is None else found.trip_id

    assert await after(0) == "soon"
    assert await after(2) == "late"
    assert await after(20) is None
    assert await after(0, "") is None
    listed = await store.read(lambda tx: trips.list_trips(tx, holder_did=DRIVER, since=NOON))
    assert [trip.trip_id for trip in listed] == ["soon", "late"]


async def test_a_trip_is_changed_linked_and_deleted(store: Store) -> None:
    def change(tx: Tx) -> None:
        trips.upsert_trip(tx, a_trip())
        trips.upsert_trip(tx, a_trip(distance_km=80.0))
        trips.link_trip(tx, "t1", "s1")

    await store.write(change)
    expected = a_trip(distance_km=80.0, session_id="s1")
    assert await store.read(lambda tx: trips.get_trip(tx, "t1")) == expected
    assert await store.read(lambda tx: trips.trips_of_session(tx, "s1")) == [expected]
    await store.write(lambda tx: trips.delete_trip(tx, "t1"))
    for gone in (
        lambda tx: trips.get_trip(tx, "t1"),
        lambda tx: trips.link_trip(tx, "t1", "s1"),
        lambda tx: trips.delete_trip(tx, "t1"),
    ):
        with pytest.raises(NotFound):
            await store.write(gone)


async def test_past_stays_are_a_holders_ended_sessions_newest_first(store: Store) -> None:
    def change(tx: Tx) -> None:
        for number in range(3):
            sessions.open_session(tx, a_session(f"s{number}", energy_wh=1000.0 * number))
            sessions.close_session(tx, f"s{number}", at=later(60 * number), reason="")
        sessions.open_session(tx, a_session("open"))
        sessions.open_session(tx, a_session("anonymous", holder_did=""))

    await store.write(change)
    found = await store.read(lambda tx: trips.past_stays(tx, DRIVER, 2))
    assert [(s.energy_kwh, s.ended_at) for s in found] == [(2.0, later(120)), (1.0, later(60))]
    assert await store.read(lambda tx: trips.past_stays(tx, "", 9)) == []


async def test_an_offer_is_decided_once(store: Store) -> None:
    await store.write(lambda tx: trips.insert_offer(tx, an_offer()))

    async def decide(state: str) -> Offer:
        return await store.write(lambda tx: trips.decide_offer(tx, "o1", state, at=later(5)))

    accepted = await decide("accepted")
    assert accepted == an_offer(state="accepted", decided_at=later(5))
    assert await decide("accepted") == accepted
    with pytest.raises(Conflict, match="accepted already"):
        await decide("declined")
    with pytest.raises(NotFound):
        await store.write(lambda tx: trips.decide_offer(tx, "o9", "declined", at=NOON))


async def test_offers_are_listed_and_counted(store: Store) -> None:
    def change(tx: Tx) -> None:
        trips.insert_offer(tx, an_offer("o1"))
        trips.insert_offer(tx, an_offer("o2", made_at=later(9), session_id="s2"))
        trips.insert_offer(tx, an_offer("o3", site_id="other"))
        trips.decide_offer(tx, "o2", "declined", at=later(10))

    await store.write(change)
    listed = await store.read(lambda tx: trips.list_offers(tx, site_id="depot"))
    assert [offer.offer_id for offer in listed] == ["o2", "o1"]
    of_session = await store.read(
        lambda tx: trips.list_offers(tx, session_id="s1", state="open", holder_did=DRIVER)
    )
    assert {offer.offer_id for offer in of_session} == {"o1", "o3"}
    counts = await store.read(lambda tx: trips.offer_counts(tx, "depot", NOON, later(10)))
    assert counts == {"open": 1, "declined": 1}
    assert await store.read(lambda tx: trips.offer_counts(tx, "depot", NOON, NOON)) == {}


# --- series, forecasts ---------------------------------------------------------------------------


async def test_prices_that_hold_in_an_interval_are_found_and_replaced(store: Store) -> None:
    hours = [
        Price(starts_at=later(n * HOUR), until=later((n + 1) * HOUR), eur_per_kwh=n / 10)
        for n in range(4)
    ]

    def change(tx: Tx) -> None:
        series.upsert_prices(tx, "spot", hours)
        series.upsert_prices(tx, "spot", [replace(hours[1], eur_per_kwh=-0.05)])
        series.upsert_prices(tx, "other", hours[:1])
        series.upsert_prices(tx, "other", [])

    await store.write(change)
    found = await store.read(
        lambda tx: series.prices(tx, "spot", later(1.5 * HOUR), later(3 * HOUR))
    )
    assert found == [replace(hours[1], eur_per_kwh=-0.05), hours[2]]


async def test_carbon_intensity_is_kept_by_zone(store: Store) -> None:
    row = CarbonIntensity(starts_at=NOON, until=later(HOUR), kg_per_kwh=0.35)
    await store.write(lambda tx: series.upsert_carbon(tx, "DE", [row]))
    assert await store.read(lambda tx: series.carbon(tx, "DE", NOON, later(1))) == [row]
    assert await store.read(lambda tx: series.carbon(tx, "FR", NOON, later(1))) == []
    assert await store.read(lambda tx: series.carbon(tx, "DE", later(HOUR), later(9e4))) == []


async def test_the_newest_forecast_of_a_kind_is_found(store: Store) -> None:
    def change(tx: Tx) -> None:
        for number, kind in enumerate(("arrivals", "load", "load", "load")):
            series.insert_forecast(
                tx, "depot", kind=kind, made_at=later(min(number, 2)), body=f'"{number}"'
            )

    await store.write(change)
    newest = await store.read(lambda tx: series.latest_forecast(tx, "depot", "load"))
    assert newest is not None
    assert newest.body == '"3"'
    before = await store.read(
        lambda tx: series.latest_forecast(tx, "depot", "load", before=later(2))
    )
    assert before is not None
    assert before.body == '"1"'
    assert await store.read(lambda tx: series.latest_forecast(tx, "other", "load")) is None
    assert await store.write(lambda tx: series.purge_forecasts(tx, before=later(2))) == 2


async def test_forecast_scores_are_replaced_and_listed_by_period(store: Store) -> None:
    score = ForecastScore(site_id="depot", kind="load", measure="mae_kw", starts_at=NOON, value=3.0)

    def change(tx: Tx) -> None:
        series.upsert_scores(tx, [score, replace(score, starts_at=later(-60), value=5.0)])
        series.upsert_scores(tx, [replace(score, value=2.0), replace(score, kind="other")])

    await store.write(change)
    found = await store.read(lambda tx: series.list_scores(tx, "depot", kind="load"))
    assert [row.value for row in found] == [5.0, 2.0]
    recent = await store.read(lambda tx: series.list_scores(tx, "depot", since=NOON))
    assert [row.kind for row in recent] == ["load", "other"]


# --- plans ---------------------------------------------------------------------------------------


async def test_a_plan_comes_back_with_its_case_bit_for_bit(store: Store) -> None:
    plan_id = await store.write(
        lambda tx: plans.insert_plan(tx, a_case(), a_plan(), why="car arrived", cpu_s=0.25)
    )
    found = await store.read(lambda tx: plans.get_plan(tx, plan_id))
    assert (found.case, found.plan) == (a_case(), a_plan())
    assert (found.head.why, found.head.cpu_s, found.head.shortfall_kwh) == (
        "car arrived",
        0.25,
        0.5,
    )
    with pytest.raises(NotFound):
        await store.read(lambda tx: plans.get_plan(tx, plan_id + 1))


async def test_the_latest_plan_is_the_last_stored_of_its_site(store: Store) -> None:
    def change(tx: Tx) -> None:
        for site_id, seconds in (("depot", 0), ("depot", 60), ("other", 120)):
            plans.insert_plan(
                tx, a_case(site_id), a_plan(site_id, later(seconds)), why="", cpu_s=0.0
            )

    await store.write(change)
    latest = await store.read(lambda tx: plans.latest_plan(tx, "depot"))
    assert latest is not None
    assert latest.plan.made_at == later(60)
    assert await store.read(lambda tx: plans.latest_plan(tx, "none")) is None
    page = await store.read(lambda tx: plans.list_plans(tx, site_id="depot", limit=1))
    assert ([head.made_at for head in page.items], page.total) == ([later(60)], 2)
    rest = await store.read(
        lambda tx: plans.list_plans(tx, site_id="depot", limit=1, cursor=page.cursor)
    )
    assert ([head.made_at for head in rest.items], rest.cursor) == ([NOON], "")


async def test_purging_leaves_each_sites_newest_plan(store: Store) -> None:
    def change(tx: Tx) -> None:
        for site_id in ("depot", "depot", "other"):
            plans.insert_plan(tx, a_case(site_id), a_plan(site_id), why="", cpu_s=0.0)

    await store.write(change)
    assert await store.write(lambda tx: plans.purge_plans(tx, before=later(HOUR))) == 1
    assert (await store.read(plans.list_plans)).total == 2


async def test_the_schedule_accepted_last_is_the_one_in_force(store: Store) -> None:
    def change(tx: Tx) -> None:
        plans.insert_installed(tx, installed())
        plans.insert_installed(tx, installed(row_kw=(7.0, 7.0), sent_at=later(60)))
        plans.insert_installed(tx, installed(Outcome.REJECTED, row_kw=(1.0, 1.0)))
        plans.insert_installed(tx, installed(session_id="s2", command_id=None, plan_id=None))
        plans.insert_installed(tx, installed(Outcome.NO_ANSWER, session_id="s3"))

    await store.write(change)
    in_force = await store.read(lambda tx: accepted(tx, ["s1"])["s1"])
    assert replace(in_force, install_id=0) == installed(row_kw=(7.0, 7.0), sent_at=later(60))
    of_all = await store.read(lambda tx: accepted(tx, ["s1", "s2", "s3"]))
    assert sorted(of_all) == ["s1", "s2"]
    assert of_all["s1"] == in_force
    assert await store.read(lambda tx: accepted(tx, [])) == {}
    sent = await store.read(lambda tx: plans.list_installed(tx, "s1"))
    assert [row.outcome for row in sent] == [
        Outcome.REJECTED,
        Outcome.ACCEPTED,
        Outcome.ACCEPTED,
    ]
    assert await store.write(lambda tx: plans.purge_installed(tx, before=later(1))) == 4
