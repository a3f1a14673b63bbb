"""Links that go away, processes that restart, messages that repeat or come in the wrong order.

What the store holds is judged by the stations' journals (simulators/oracle.py).
"""

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from csms.core.model import LinkState, SessionState
from csms.settings import GatewaySettings
from csms.store import stations
from simulators.battery import Vehicle
from simulators.clock import iso
from simulators.faults import FaultPlan
from simulators.simulated import SimulatedStation
from simulators.variables import Settings as StationSettings
from tests.databases import pace
from tests.scenarios.world import (
    VERSIONS,
    World,
    card_of,
    closed,
    eventually,
    living,
    settings,
)

CAR = Vehicle(battery_kwh=60.0)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def charging(world: World, version: str, **given: Any) -> SimulatedStation:
    """Return a station c1 whose car charges with a plan."""
    await world.register("c1")
    card = await world.driver(1, departs_in=timedelta(hours=5), energy_kwh=20.0)
    station = world.station("c1", version, **given)
    await station.power_up()
    await station.ready()
    await world.guarded("c1")
    await station.plug_in(1, CAR, soc=0.2)
    assert await station.present(card) == "Accepted"
    await eventually(lambda: station.power_w(1) > 0, "it does not charge")
    return station


async def online(world: World, station_id: str = "c1") -> bool:
    known = await world.store.read(lambda tx: stations.find_station(tx, station_id))
    return known is not None and known.link_state is LinkState.ONLINE


async def is_clean(world: World) -> None:
    verdict = await world.verdict()
    assert verdict.is_clean, verdict
    assert not verdict.dropped
    for station in world.stations:
        assert not station.link.errors, station.link.errors


async def test_what_happened_offline_is_replayed_and_adds_up(
    version: str, database_url: str
) -> None:
    async with living(settings(database_url), speed=pace(database_url, 600)) as world:
        station = await charging(world, version, boots=True)
        station.cut()
        gone_at = world.clock.now()
        await eventually(lambda: world.clock.now() - gone_at > timedelta(minutes=12))
        station.station.advance(station.now())
        tx = await station.stop(1, token=card_of(1))
        await station.unplug(1)
        assert (await world.session()).state is SessionState.OPEN
        boots = [line for line in station.journal.lines if "BootNotification" in str(line)]  # type: ignore[union-attr]
        await station.reconnect()
        await station.drained()
        session = await world.session()
        assert session.state is SessionState.ENDED
        assert session.energy_wh == pytest.approx(tx.energy_wh, abs=1.0)
        assert session.ended_at is not None
        assert abs(session.ended_at - (tx.ended_at or gone_at)) < timedelta(seconds=1)
        assert boots == [
            line
            for line in station.journal.lines  # type: ignore[union-attr]
            if "BootNotification" in str(line)
        ], "it booted again on its reconnect"
        await is_clean(world)


async def test_a_session_that_began_and_ended_offline_is_kept_whole(
    version: str, database_url: str
) -> None:
    async with living(settings(database_url), speed=pace(database_url, 600)) as world:
        await world.register("c1")
        card = await world.driver(1)
        station = world.station("c1", version, boots=True)
        await world.charges_cut_off(station, card, CAR, lasting=timedelta(minutes=15))
        tx = await station.stop(1, token=card)
        await station.unplug(1)
        await station.reconnect()
        await station.drained()
        session = await world.session()
        assert session.state is SessionState.ENDED
        assert session.is_offline_start
        assert session.energy_wh == pytest.approx(tx.energy_wh, abs=1.0)
        assert abs(session.started_at - tx.started_at) < timedelta(seconds=1)
        await is_clean(world)


async def test_a_restart_finds_its_sessions_and_plans_them_again(
    version: str, database_url: str
) -> None:
    async with living(settings(database_url)) as world:
        station = await charging(world, version, boots=True)
        number = (await world.session()).transaction_id
        world.stations.clear()
        sent = len(station.received)
        port = world.system.gateway.port
    assert not station.is_online
    given = settings(database_url)
    gateway = given.gateway.model_copy(update={"port": port})
    async with living(given.model_copy(update={"gateway": gateway})) as world:
        world.stations.append(station)
        await eventually(lambda: station.is_online, "it does not come back")
        await eventually(lambda: online(world))
        # A reconnect brings no boot; the guards are set all the same.
        await station.wait_for_command("SetChargingProfile", after=sent)
        async with world.operator() as operator:
            await operator.patch("/api/v1/sites/main", json={"limit_kw": 6.0})
        await eventually(lambda: station.power_w(1) <= 6000, "the new plan does not reach it")
        tx = await station.stop(1, token=card_of(1))
        await station.unplug(1)
        await station.drained()
        session = await world.session()
        assert session.transaction_id == tx.transaction_id == number
        assert session.state is SessionState.ENDED
        assert session.energy_wh == pytest.approx(tx.energy_wh, abs=1.0)
        assert station.station.evse(1).transaction is None
        await is_clean(world)


async def test_repeats_and_broken_frames_change_nothing(version: str, database_url: str) -> None:
    faults = FaultPlan(duplicate_share=0.3, duplicate_new_id_share=0.3, malformed_share=0.1)
    async with living(settings(database_url), speed=pace(database_url, 300)) as world:
        station = await charging(world, version, faults=faults, boots=True, seed=11)
        for _ in range(3):
            if station.station.evse(1).transaction is None:
                await station.start(1, card_of(1))
            started_at = world.clock.now()
            await eventually(lambda at=started_at: world.clock.now() - at > timedelta(minutes=4))  # type: ignore[misc]
            await station.stop(1, token=card_of(1))
        await station.unplug(1)
        await station.drained()
        found = await world.sessions()
        assert len(found) == 3
        assert all(s.state is SessionState.ENDED for s in found)
        verdict = await world.verdict()
        assert verdict.is_clean, verdict
        assert station.faults.counts["duplicate"] > 2
        assert station.faults.counts["duplicate_new"] > 2
        assert await online(world)


async def test_links_that_break_at_random_lose_and_double_nothing(
    version: str, sqlite_url: str
) -> None:
    faults = FaultPlan(drop_share=0.15, outage_s=60.0, duplicate_new_id_share=0.1)
    # At this speed a link that breaks once an hour looks like one that flaps.
    quick = GatewaySettings(port=0, links_per_minute=10_000)
    async with living(settings(sqlite_url, gateway=quick), speed=600) as world:
        for number in range(1, 5):
            await world.register(f"c{number}")
            await world.driver(number, departs_in=timedelta(hours=5), energy_kwh=20.0)
        given = {"faults": faults, "boots": True, "seed": 5}
        found = [world.station(f"c{n}", version, **given) for n in range(1, 5)]
        for station in found:
            station.settings.accepts_unknown_offline = True

        async def live(number: int, station: SimulatedStation) -> None:
            await station.power_up()
            await station.ready()
            await station.plug_in(1, CAR, soc=0.2)
            await station.start(1, card_of(number))
            begun_at = world.clock.now()
            await eventually(lambda: world.clock.now() - begun_at > timedelta(minutes=25))
            await station.stop(1, token=card_of(number))
            await station.unplug(1)
            await station.drained()

        await asyncio.gather(*(live(n, s) for n, s in enumerate(found, start=1)))
        assert sum(s.faults.counts.get("drop", 0) for s in found) > 3
        assert all(s.state is SessionState.ENDED for s in await world.sessions())
        await is_clean(world)


# --- messages said by hand -----------------------------------------------------------------------


def event(
    kind: str, seq_no: int, at: datetime, energy_wh: float, *, tx: str = "tx-1", **more: Any
) -> dict[str, Any]:
    """Return a TransactionEvent of 2.0.1."""
    triggers = {
        "Started": "Authorized",
        "Updated": "MeterValuePeriodic",
        "Ended": "StopAuthorized",
    }
    return {
        "eventType": kind,
        "timestamp": iso(at),
        "triggerReason": triggers[kind],
        "seqNo": seq_no,
        "transactionInfo": {"transactionId": tx},
        "evse": {"id": 1, "connectorId": 1},
        "meterValue": [
            {
                "timestamp": iso(at),
                "sampledValue": [
                    {
                        "value": energy_wh,
                        "measurand": "Energy.Active.Import.Register",
                        "unitOfMeasure": {"unit": "Wh"},
                    }
                ],
            }
        ],
        **more,
    }


async def said_in_order(world: World, order: list[int]) -> None:
    """Say the four events of a transaction of 900 Wh in `order`, and each of them twice."""
    begun_at = world.clock.now() - timedelta(minutes=4)
    token = {"idToken": card_of(1), "type": "ISO14443"}
    messages = [
        event("Started", 0, begun_at, 1000.0, idToken=token),
        event("Updated", 1, begun_at + timedelta(minutes=1), 1300.0),
        event("Updated", 2, begun_at + timedelta(minutes=2), 1600.0),
        event("Ended", 3, begun_at + timedelta(minutes=3), 1900.0, idToken=token),
    ]
    async with world.station("c1", "2.0.1") as station:
        await station.boot()
        for index in order:
            await station.call("TransactionEvent", messages[index])
        for index in reversed(order):
            await station.call("TransactionEvent", messages[index])


@pytest.mark.parametrize(
    "order",
    [[0, 1, 2, 3], [0, 3, 1, 2], [3, 0, 1, 2], [1, 0, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]],
    ids=lambda order: "".join(map(str, order)),
)
async def test_events_in_any_order_give_the_same_session(order: list[int], sqlite_url: str) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        await world.driver(1)
        await said_in_order(world, order)
        session = await world.session()
        assert session.state is SessionState.ENDED
        assert session.energy_wh == pytest.approx(900.0)
        assert session.meter_start_wh == pytest.approx(1000.0)
        assert "start_missing" not in session.flags
        assert session.ended_at is not None
        assert session.ended_at - session.started_at == timedelta(minutes=3)
        assert session.id_token is not None
        assert session.holder_did.endswith("d1")
        verdict = await world.verdict()
        assert verdict.is_clean, verdict


async def test_the_same_number_with_other_content_is_kept_as_a_conflict(sqlite_url: str) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        await world.driver(1)
        now = world.clock.now() - timedelta(minutes=5)
        async with world.station("c1", "2.0.1") as station:
            await station.boot()
            await station.call("TransactionEvent", event("Started", 0, now, 0.0))
            for wh in (100.0, 200.0):
                later = now + timedelta(seconds=wh)
                await station.call("TransactionEvent", event("Updated", 1, later, wh))
        session = await world.session()
        assert "seq_no_conflict" in session.flags
        assert session.energy_wh == pytest.approx(200.0)


def stop_of(transaction_id: int, at: datetime, **more: Any) -> dict[str, Any]:
    """Return a StopTransaction of 1.6."""
    return {"transactionId": transaction_id, "meterStop": 500, "timestamp": iso(at), **more}


def start_at(at: datetime, *, meter: int = 0, evse_id: int = 1) -> dict[str, Any]:
    """Return a StartTransaction of 1.6 with driver 1's card."""
    return {
        "connectorId": evse_id,
        "idTag": card_of(1),
        "meterStart": meter,
        "timestamp": iso(at),
    }


@pytest.mark.parametrize("number", [0, -1, 987654])
async def test_s62_a_stop_for_an_unknown_transaction_is_answered_and_kept(
    number: int, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        await world.driver(1)
        now = world.clock.now()
        async with world.station("c1", "1.6") as station:
            await station.boot()
            for _ in range(2):
                assert isinstance(await station.call("StopTransaction", stop_of(number, now)), dict)
        assert await world.sessions() == []
        (kept,) = await world.orphans()
        assert (kept.action, kept.transaction_id) == ("StopTransaction", str(number))
        assert await world.events("message for unknown transaction")


@pytest.mark.parametrize("number", [0, -1])
async def test_s62_a_stop_without_an_id_ends_the_one_session_that_began_offline(
    number: int, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        await world.driver(1)
        now = world.clock.now()
        async with world.station("c1", "1.6") as station:
            await station.boot()
            long_ago = now - timedelta(hours=2)
            await station.call("StartTransaction", start_at(long_ago))
            await station.call("StopTransaction", stop_of(number, now))
        session = await world.session()
        assert session.state is SessionState.ENDED
        assert session.energy_wh == pytest.approx(500.0)
        assert await world.orphans() == []


async def test_s65_a_stop_ends_nothing_at_another_station(sqlite_url: str) -> None:
    async with living(settings(sqlite_url)) as world:
        for station_id in ("c1", "c2"):
            await world.register(station_id)
        await world.driver(1)
        now = world.clock.now()
        async with world.station("c1", "1.6") as one, world.station("c2", "1.6") as other:
            await one.boot()
            await other.boot()
            started = await one.call("StartTransaction", start_at(now))
            await other.call("StopTransaction", stop_of(started["transactionId"], now))
        assert (await world.session()).state is SessionState.OPEN
        assert [o.station_id for o in await world.orphans()] == ["c2"]


async def test_an_end_of_an_unknown_transaction_in_201_is_kept_as_a_session(
    sqlite_url: str,
) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        await world.driver(1)
        now = world.clock.now()
        async with world.station("c1", "2.0.1") as station:
            await station.boot()
            await station.call("TransactionEvent", event("Ended", 7, now, 5000.0))
        session = await world.session()
        assert session.state is SessionState.ENDED
        assert session.energy_wh == 0
        assert "start_missing" in session.flags


async def test_s60_a_start_said_again_has_the_same_number(sqlite_url: str) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        await world.driver(1)
        now = world.clock.now()
        async with world.station("c1", "1.6") as station:
            await station.boot()
            answers = [await station.call("StartTransaction", start_at(now)) for _ in range(3)]
        assert len({a["transactionId"] for a in answers}) == 1
        assert {a["idTagInfo"]["status"] for a in answers} == {"Accepted"}
        assert len(await world.sessions()) == 1


async def test_outage_f37_starts_of_a_station_without_a_clock_stay_apart(sqlite_url: str) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        await world.driver(1)
        epoch = datetime.fromisoformat("1970-01-01T00:00:00Z")
        numbers = []
        async with world.station("c1", "1.6") as station:
            await station.boot()
            for meter in (0, 500):
                answer = await station.call("StartTransaction", start_at(epoch, meter=meter))
                numbers.append(answer["transactionId"])
                stop = stop_of(answer["transactionId"], epoch) | {"meterStop": meter + 500}
                await station.call("StopTransaction", stop)
        found = await world.sessions()
        assert [s.transaction_id for s in found] == [str(n) for n in numbers]
        assert [s.energy_wh for s in found] == [500.0, 500.0]
        for session in found:
            assert "clock_unset" in session.flags
            assert session.started_at.year > 2010
            assert session.ended_at is not None
            assert session.ended_at >= session.started_at


async def test_s61_numbers_rise_over_a_restart(sqlite_url: str) -> None:
    numbers: list[int] = []
    for round_ in range(2):
        async with living(settings(sqlite_url)) as world:
            if not round_:
                await world.register("c1")
            async with world.station("c1", "1.6") as station:
                await station.boot()
                for _ in range(3):
                    at = world.clock.now()
                    answer = await station.call("StartTransaction", start_at(at))
                    numbers.append(answer["transactionId"])
    assert numbers == sorted(set(numbers))
    assert 0 < numbers[0] <= numbers[-1] < 2**31


async def test_s64_values_of_a_closed_session_join_it_and_of_a_foreign_one_do_not(
    sqlite_url: str,
) -> None:
    async with living(settings(sqlite_url)) as world:
        for station_id in ("c1", "c2"):
            await world.register(station_id)
        await world.driver(1)
        now = world.clock.now()

        def values(number: int, wh: int) -> Mapping[str, Any]:
            value = {"value": str(wh), "measurand": "Energy.Active.Import.Register", "unit": "Wh"}
            at = iso(now + timedelta(seconds=30))
            return {
                "connectorId": 1,
                "transactionId": number,
                "meterValue": [{"timestamp": at, "sampledValue": [value]}],
            }

        async with world.station("c1", "1.6") as one, world.station("c2", "1.6") as other:
            await one.boot()
            await other.boot()
            number = (await one.call("StartTransaction", start_at(now)))["transactionId"]
            await one.call("StopTransaction", stop_of(number, now + timedelta(minutes=1)))
            assert await one.call("MeterValues", values(number, 250)) == {}
            assert await other.call("MeterValues", values(number, 99_000)) == {}
        session = await world.session()
        assert session.state is SessionState.ENDED
        assert session.energy_wh == pytest.approx(500.0)
        assert [o.station_id for o in await world.orphans()] == ["c2"]


@pytest.mark.parametrize("stop_wh", [0, 400])
async def test_s66_a_register_that_falls_gives_no_negative_energy(
    stop_wh: int, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        await world.driver(1)
        now = world.clock.now() - timedelta(minutes=2)
        async with world.station("c1", "1.6") as station:
            await station.boot()
            answer = await station.call("StartTransaction", start_at(now, meter=1000))
            stop = stop_of(answer["transactionId"], now + timedelta(minutes=1))
            await station.call("StopTransaction", stop | {"meterStop": stop_wh})
        session = await world.session()
        assert session.state is SessionState.ENDED
        assert session.energy_wh == 0
        assert "register_fell" in session.flags


async def test_outage_f16_a_link_that_is_taken_over_is_not_ended_by_the_old_one(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        old = world.station("c1", version)
        await old.link.connect()
        await old.boot()
        old.link.keeps_up = False
        async with world.station("c1", version) as new:
            await new.boot()
            await eventually(lambda: not old.link.is_up, "the old link lives on")
            assert await online(world)
            answer = await new.call("Heartbeat", {})
            assert answer["currentTime"]
        await eventually(lambda: _offline(world), "the station is still shown online")


async def _offline(world: World) -> bool:
    return not await online(world)


async def test_a_stop_that_stations_do_not_answer_cuts_them_in_the_end(
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("csms.app.STOP_WITHIN_S", 0.2)
    async with contextlib.AsyncExitStack() as stack:
        async with living(settings(sqlite_url)) as world:
            await world.register("c1")
            deaf = await stack.enter_async_context(
                connect(f"{world.url}/c1", subprotocols=[Subprotocol("ocpp1.6")])
            )
            await eventually(lambda: online(world))
            deaf.transport.pause_reading()
        deaf.transport.abort()
    # Where it goes depends on whether a test before set the log up as a command does.
    assert "links cut" in capsys.readouterr().out + caplog.text


async def test_x01_a_long_queue_is_stored_once_in_order(version: str, sqlite_url: str) -> None:
    async with living(settings(sqlite_url), speed=3000) as world:
        station = await charging(
            world, version, boots=True, settings=StationSettings(sample_interval_s=60)
        )
        station.cut()
        await eventually(lambda: len(station.outbox.waiting) > 100, "the queue stays short")
        plans_before = await world.newest_plan()
        await station.stop(1, token=card_of(1))
        await station.reconnect()
        await station.drained()
        assert plans_before is not None
        await is_clean(world)
        assert (await world.session()).state is SessionState.ENDED
        kept = (await world.verdict()).answered
        assert kept > 100
        await closed(world.stations)
        world.stations.clear()
