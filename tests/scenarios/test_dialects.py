"""Stations of different makes end at the amperes they were meant to have, under one limit."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest

from csms.core.model import StationLimits
from csms.settings import GatewaySettings, PlannerSettings
from csms.store import reported, stations
from simulators.battery import Vehicle
from simulators.dialect import Dialect
from simulators.power import peak_w, seconds_above
from simulators.simulated import SimulatedStation
from tests.scenarios.world import VERSIONS, World, eventually, living, settings

CAR = Vehicle(battery_kwh=60.0)
PER_A_KW = 3 * 0.23


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def quick(url: str, limit_kw: float) -> Any:
    """Settings in which a station that is silent is given up after a second."""
    gateway = GatewaySettings(port=0, command_timeout_s=3.0)
    return settings(url, limit_kw=limit_kw, gateway=gateway)


async def charging(
    world: World, number: int, version: str, dialect: Dialect, **given: Any
) -> SimulatedStation:
    """Return a station that is up and charges a car in need."""
    await world.register(f"c{number}")
    card = await world.driver(number, departs_in=timedelta(hours=5), energy_kwh=40.0)
    station = world.station(f"c{number}", version, boots=True, dialect=dialect, **given)
    await station.power_up()
    await station.ready()
    await world.guarded(f"c{number}")
    await station.plug_in(1, CAR, soc=0.2)
    assert await station.present(card) == "Accepted"
    return station


async def limits_of(world: World, station_id: str) -> StationLimits:
    found = await world.store.read(lambda tx: stations.get_station(tx, station_id))
    return found.limits


async def planned_a(world: World, station_id: str) -> float | None:
    """Return the current that the newest plan gives a station's car now."""
    known = await world.plan()
    if known is None:
        return None
    case, plan = known
    place = next((s for s in case.sessions if s.station_id == station_id), None)
    row = None if place is None else plan.row(place.session_id)
    return None if row is None else row.power_kw[0] / PER_A_KW


async def are_as_planned(world: World, found: Sequence[SimulatedStation]) -> bool:
    """Return whether each station offers on its EVSE what is planned for it."""
    for station in found:
        wanted = await planned_a(world, station.station_id)
        station.station.advance(station.now())
        offered = station.station.evse(1).offered
        if wanted is None or not wanted - 1.0 <= offered <= wanted + 0.01:
            return False
    return True


FOUR = {
    "W only": Dialect(rate_units=("W",)),
    "A, whole amperes, 2 periods": Dialect(rate_units=("A",), whole_amperes=True, max_periods=2),
    "every id but once": Dialect(same_id="refuse", tells_limits=False),
    "silent above 3 periods": Dialect(max_periods=1000, silent_above=3),
}


async def test_four_dialects_end_at_the_wanted_amperes_under_one_limit(
    version: str, sqlite_url: str
) -> None:
    async with living(quick(sqlite_url, 32.0), speed=60) as world:
        found = [
            await charging(world, n, version, dialect)
            for n, dialect in enumerate(FOUR.values(), start=1)
        ]

        async def all_as_planned() -> bool:
            if not await are_as_planned(world, found):
                return False
            return sum(s.station.evse(1).offered for s in found) * PER_A_KW > 26.0

        async def has_learned() -> bool:
            return (await limits_of(world, "c4")).max_periods <= 3

        # A station at rest is as planned at once; what it does not answer shows after a while.
        await eventually(has_learned, "its silence taught nothing", within_s=90)
        await eventually(all_as_planned, "not every station is at what was planned", within_s=90)
        assert sum(s.station.evse(1).offered for s in found) * PER_A_KW <= 32.0
        course = world.course()
        assert peak_w(course) > 20_000
        assert seconds_above(course, 32_000) == 0
        learned = {s.station_id: await limits_of(world, s.station_id) for s in found}
        assert learned["c1"].units == ("W",)
        assert (learned["c2"].units, learned["c2"].max_periods) == (("A",), 2)
        assert learned["c3"].same_id == "clear_first"
        async with world.operator() as api:
            answer = await api.get("/api/v1/stations/c4/dialect")
        items = {item["name"]: item for item in answer.json()["items"]}
        assert items["max_periods"]["source"] == "learned"
        assert "no answer to" in items["max_periods"]["why"]
        assert {s["source"] for s in items["max_periods"]["says"]} == {"asked", "learned"}


ODD = {
    "whole numbers": (Dialect(rate_units=("A",), fractions=False), {"step_a": 1.0}),
    "an error for a level too high": (
        Dialect(max_stack_level=0, level_error=True, tells_limits=False),
        {"max_stack_level": 0},
    ),
}


@pytest.mark.parametrize(("dialect", "taught"), ODD.values(), ids=ODD)
async def test_a_refusal_that_says_why_teaches_what_it_names(
    version: str, dialect: Dialect, taught: dict[str, Any], sqlite_url: str
) -> None:
    # 8 kW are 11.59 A on each of three phases: no whole number, and nothing else is in the way.
    async with living(quick(sqlite_url, 8.0), speed=60) as world:
        station = await charging(world, 1, version, dialect)

        async def is_as_planned() -> bool:
            wanted = await planned_a(world, "c1")
            offered = station.station.evse(1).offered
            return wanted is not None and wanted - 1.0 <= offered <= wanted + 0.01 and offered > 10

        await eventually(is_as_planned, "it is not at what was planned", within_s=60)
        limits = asdict(await limits_of(world, "c1"))
        assert {name: limits[name] for name in taught} == taught
        refused = [c for c in await world.commands("c1") if c.outcome == "call_error"]
        assert refused, "nothing was refused, so nothing was learned"
        course = world.course()
        assert seconds_above(course, 8000) == 0, [(s.start_at, s.power_w) for s in course][:9]


CASCADES = {
    "only defaults are taken": (Dialect(refused_purposes=("TxProfile",)), "default_only"),
    "only a maximum is taken": (
        Dialect(refused_purposes=("TxProfile", "TxDefaultProfile")),
        "max_only",
    ),
    "only a maximum is obeyed": (Dialect(cascade="max_only"), "max_only"),
}


@pytest.mark.parametrize(("dialect", "cascade"), CASCADES.values(), ids=CASCADES)
async def test_a_plan_goes_out_under_the_purpose_that_its_station_goes_by(
    version: str, dialect: Dialect, cascade: str, sqlite_url: str
) -> None:
    async with living(quick(sqlite_url, 8.0), speed=120) as world:
        station = await charging(world, 1, version, dialect)

        async def is_as_planned() -> bool:
            station.station.advance(station.now())
            offered = station.station.evse(1).offered
            known = await world.plan()
            limits = await limits_of(world, "c1")
            rows = () if known is None else known[0].sessions
            is_controlled = any(s.fixed_kw is None for s in rows)
            return limits.cascade == cascade and is_controlled and 10.0 <= offered <= 11.6

        await eventually(is_as_planned, "it is not at what was planned", within_s=120)

        async def is_settled() -> bool:
            async with world.operator() as api:
                answer = await api.get("/api/v1/stations/c1/dialect")
            items = {item["name"]: item for item in answer.json()["items"]}
            assert items["max_periods"]["source"] != "learned"
            cascades = [s for s in items["cascade"]["says"] if s["of"] == "model"]
            return [(s["value"], s["source"]) for s in cascades] == [(cascade, "learned")]

        await eventually(is_settled, "it is not kept for the model", within_s=60)
        settled_at = world.clock.now()
        # A plan that is no TxProfile does not wait for the next car.
        await station.unplug(1)
        await eventually(
            lambda: all(p.profile_id < 1_000_000 for p in station.station.installed.profiles),
            "the plan is left behind",
        )
        await station.plug_in(1, CAR, soc=0.2)
        card = await world.driver(2, departs_in=timedelta(hours=5), energy_kwh=40.0)
        assert await station.present(card) == "Accepted"
        await eventually(is_as_planned, "the next car is not planned", within_s=60)
        course = [s for s in world.course() if s.start_at > settled_at]
        assert seconds_above(course, 8000) == 0


async def test_a_station_that_ends_a_session_at_0_a_gets_none_again(
    version: str, sqlite_url: str
) -> None:
    dear = {"starts": "16:00", "until": "20:00", "eur_per_kwh": 0.9}
    tariff = {"type": "time_of_use", "eur_per_kwh": 0.05, "bands": (dear,)}
    given = settings(sqlite_url, limit_kw=30.0, tariff={"default": tariff})
    async with living(given, speed=60) as world:

        async def is_priced() -> bool:
            head = await world.newest_plan()
            return head is not None and "new prices" in head.why

        await eventually(is_priced, "no prices came")
        dialect = Dialect(zero="ends_session")
        await world.register("c1")
        card = await world.driver(1, departs_in=timedelta(hours=10), energy_kwh=20.0)
        station = world.station("c1", version, boots=True, dialect=dialect)
        await station.power_up()
        await station.ready()
        await world.guarded("c1")
        await station.plug_in(1, CAR, soc=0.2)
        assert await station.present(card) == "Accepted"

        async def has_learned() -> bool:
            return (await limits_of(world, "c1")).zero == "ends_session"

        await eventually(has_learned, "nothing was learned of the end", within_s=30)
        await eventually(lambda: station.finished, "the session goes on")
        (learned,) = await world.events("dialect learned")
        assert learned.event.detail["item"] == "zero"
        # The next car waits for the cheap hours at its least current.
        await station.unplug(1)
        await station.plug_in(1, CAR, soc=0.2)
        assert await station.present(card) == "Accepted"

        async def is_planned() -> bool:
            rows = await planned_a(world, "c1")
            return rows is not None and len(await world.sessions()) == 2

        await eventually(is_planned, "the second car is not planned")
        began_at = world.clock.now()
        await eventually(lambda: world.clock.now() - began_at > timedelta(minutes=20), within_s=40)
        assert len(station.finished) == 1
        assert station.station.evse(1).offered == pytest.approx(6.0, abs=0.2)


COMPOSITES = ("none", "empty", "minus_one", "default", "first_second")


async def test_whatever_a_composite_schedule_says_the_plan_is_kept_and_the_limit_holds(
    version: str, sqlite_url: str
) -> None:
    planner = PlannerSettings(collect_s=0.1, read_back_after_s=20, read_back_every_s=60)
    async with living(settings(sqlite_url, limit_kw=25.0, planner=planner), speed=60) as world:
        found = [
            await charging(world, n, version, Dialect(composite=shape))
            for n, shape in enumerate(COMPOSITES, start=1)
        ]

        async def all_read() -> bool:
            asked = [await world.commands(s.station_id, "ReadComposite") for s in found]
            return all(len([c for c in those if c.finished_at]) >= 3 for those in asked)

        await eventually(all_read, "composite schedules were not read three times", within_s=60)

        await eventually(
            lambda: are_as_planned(world, found),
            "not every station is at what was planned",
            within_s=60,
        )
        assert seconds_above(world.course(), 25_000) == 0


async def said_of_model(world: World, item: str) -> list[tuple[Any, str]]:
    """Return what is said of an item for every station like c1."""
    async with world.operator() as api:
        answer = await api.get("/api/v1/stations/c1/dialect")
    (found,) = [i for i in answer.json()["items"] if i["name"] == item]
    return [(s["value"], s["source"]) for s in found["says"] if s["of"] == "model"]


async def test_a_station_that_gives_nothing_below_a_power_is_given_more_or_nothing(
    version: str, sqlite_url: str
) -> None:
    # 7.2 A are too little for a station that begins at 8 A.
    async with living(quick(sqlite_url, 5.0), speed=20) as world:
        station = await charging(world, 1, version, Dialect(least_w=5520.0))

        async def is_suspected() -> bool:
            return (await limits_of(world, "c1")).least_w > 0

        await eventually(is_suspected, "nothing was learned of its silence", within_s=150)
        assert not station.station.evse(1).segments
        assert await said_of_model(world, "least_w") == []
        async with world.operator() as api:
            assert (await api.patch("/api/v1/sites/main", json={"limit_kw": 8})).is_success

        async def is_known() -> bool:
            return [s for _, s in await said_of_model(world, "least_w")] == ["learned"]

        await eventually(is_known, "it is not kept for the model", within_s=150)
        assert 5520.0 <= (await limits_of(world, "c1")).least_w <= 6900.0
        assert await said_of_model(world, "zero") == []
        known = await world.plan()
        assert known is not None
        (mine,) = known[0].sessions
        assert mine.min_kw >= 5.52
        assert not mine.never_pause
        assert seconds_above(world.course(), 8_000) == 0


def dear_for_half_an_hour(url: str) -> Any:
    bands = ({"starts": "16:30", "until": "17:00", "eur_per_kwh": 0.9},)
    tariff = {"type": "time_of_use", "eur_per_kwh": 0.05, "bands": bands}
    return settings(url, limit_kw=30.0, tariff={"default": tariff})


# In 2.1 a dynamic profile is told anew each time its limit moves, and nobody sleeps.
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_a_station_that_sleeps_at_0_a_is_woken_once_and_never_paused_again(
    version: str, sqlite_url: str
) -> None:
    async with living(dear_for_half_an_hour(sqlite_url), speed=120) as world:

        async def is_priced() -> bool:
            head = await world.newest_plan()
            return head is not None and "new prices" in head.why

        await eventually(is_priced, "no prices came")
        station = await charging(world, 1, version, Dialect(zero="sleeps"))

        async def is_known() -> bool:
            return await said_of_model(world, "zero") == [("sleeps", "learned")]

        await eventually(lambda: station.station.evse(1).is_asleep, "it never slept", within_s=60)
        await eventually(is_known, "it is not kept for the model", within_s=60)
        assert (await limits_of(world, "c1")).zero == "sleeps"
        assert await said_of_model(world, "least_w") == []
        habits = await world.store.read(lambda tx: reported.habits_of(tx, ["v1"]))
        assert not any(habit.never_pause for habit in habits.values()), "its car is blamed"
        known = await world.plan()
        assert known is not None
        assert all(s.never_pause for s in known[0].sessions)


async def test_a_station_that_obeys_no_guard_is_counted_in_full_without_a_schedule(
    version: str, sqlite_url: str
) -> None:
    async with living(quick(sqlite_url, 30.0), speed=120) as world:
        await world.register("c1")
        card = await world.driver(1, departs_in=timedelta(hours=5), energy_kwh=40.0)
        dialect = Dialect(cascade="tx_only")
        station = world.station("c1", version, boots=True, dialect=dialect)
        await world.charges_cut_off(station, card, CAR, lasting=timedelta(minutes=5))
        await station.reconnect()
        await station.drained()

        async def has_learned() -> bool:
            return (await limits_of(world, "c1")).cascade == "tx_only"

        await eventually(has_learned, "nothing was learned of its guard", within_s=30)

        async def is_counted() -> bool:
            known = await world.plan()
            return known is not None and any(s.guard_kw > 10.9 for s in known[0].sessions)

        await eventually(is_counted, "its guard counts still", within_s=30)
        # Its transaction's profile it obeys.
        await eventually(
            lambda: any(p.purpose == "TxProfile" for p in station.station.installed.profiles)
        )
        assert seconds_above(world.course(), 30_000) == 0


async def test_what_was_refused_is_never_sent_again_unchanged(
    version: str, sqlite_url: str
) -> None:
    dialect = Dialect(max_periods=1, tells_limits=False, rate_units=("W",))
    async with living(quick(sqlite_url, 20.0), speed=60) as world:
        station = await charging(world, 1, version, dialect)

        async def is_taken() -> bool:
            asked = await world.commands("c1", "SetSchedule")
            installed = station.station.installed.profiles
            return any(p.purpose == "TxProfile" for p in installed) and any(
                c.outcome == "accepted" for c in asked
            )

        await eventually(is_taken, "no profile was taken", within_s=90)
        sent = [
            json.loads(c.payload)["schedule"]
            for c in await world.commands("c1", "SetSchedule")
            if c.outcome in ("rejected", "call_error", "accepted")
        ]
        spelled = [(s["unit"], s["stack_level"], s["profile_id"], len(s["periods"])) for s in sent]
        assert len(spelled) > 1
        assert len(set(spelled)) == len(spelled), spelled


async def test_a_new_firmware_is_asked_anew(version: str, sqlite_url: str) -> None:
    async with living(quick(sqlite_url, 20.0)) as world:
        await world.register("c1")
        old = world.station("c1", version, boots=True, dialect=Dialect(supports_profiles=False))
        await old.power_up()
        await old.ready()
        await eventually(lambda: _without(world), "it is still taken to know profiles")
        await old.close()
        world.stations.remove(old)
        new = world.station("c1", version, boots=True, firmware="2.0")
        await new.power_up()
        await new.ready()

        async def is_known_to_support() -> bool:
            return (await limits_of(world, "c1")).supports_profiles

        await eventually(is_known_to_support, "the new firmware was not asked")
        await world.guarded("c1")


async def _without(world: World) -> bool:
    return not (await limits_of(world, "c1")).supports_profiles


async def test_an_operator_has_the_last_word_and_may_take_it_back(
    version: str, sqlite_url: str
) -> None:
    async with living(quick(sqlite_url, 20.0)) as world, world.operator() as api:
        await world.register("c1")
        station = world.station("c1", version, boots=True, vendor="Acme", model="One")
        await station.power_up()
        await station.ready()
        await world.guarded("c1")
        path = "/api/v1/stations/c1/dialect"
        answer = await api.put(path, json={"items": {"max_periods": 4, "units": ["W"]}})
        assert answer.status_code == 200, answer.text
        limits = await limits_of(world, "c1")
        assert (limits.max_periods, limits.units, limits.source) == (4, ("W",), "operator")
        assert (await api.put(path, json={"items": {"max_periods": 0}})).status_code == 422
        assert (await api.put(path, json={"items": {"speed": 1}})).status_code == 422
        await api.put(path, json={"items": {"max_periods": None, "units": None}})
        limits = await limits_of(world, "c1")
        assert (limits.max_periods, limits.units) == (24, ("A", "W"))
        body = {"vendor": "Acme", "model": "One", "items": {"step_a": 1.0}}
        assert (await api.put("/api/v1/dialects", json=body)).status_code == 200
        assert (await limits_of(world, "c1")).step_a == 1.0
        (model,) = (
            m for m in (await api.get("/api/v1/dialects")).json()["items"] if m["firmware"] == ""
        )
        assert [(i["name"], i["value"], i["source"]) for i in model["items"]] == [
            ("step_a", 1.0, "operator")
        ]


def test_every_item_of_a_dialect_is_a_limit() -> None:
    from csms.core.dialect import ITEMS

    assert set(ITEMS) == set(asdict(StationLimits())) - {"source", "dynamic_s"}
