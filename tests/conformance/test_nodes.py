"""Order, time and outage: X05, a station between two nodes of the central system."""

import asyncio

import pytest

from csms.core.model import SessionState
from tests.conformance.raw import linked
from tests.scenarios.nodes import Place, move, two_nodes, url_of
from tests.scenarios.test_lost_links import charging, is_clean
from tests.scenarios.world import VERSIONS, card_of, eventually


@pytest.fixture
def place(database_url: str, nats_server: str, prefix: str) -> Place:
    return Place(database_url, nats_server, prefix)


@pytest.mark.parametrize("version", VERSIONS)
async def test_x05_a_station_that_moves_to_another_node_keeps_its_session_and_is_reached_there(
    place: Place, version: str
) -> None:
    async with two_nodes(place.settings()) as (world, one, two):
        station = await charging(world, version, boots=True)
        number = (await world.session()).transaction_id
        station.cut()
        sent = len(station.received)
        move(station, url_of(two))
        await station.reconnect()
        await eventually(lambda: not one.gateway.links(), "the old node still has the link")
        assert [link.station_id for link in two.gateway.links()] == ["c1"]
        async with world.operator() as operator:
            # The plan reaches it at the new node, and so does what an operator asks.
            await operator.patch("/api/v1/sites/main", json={"limit_kw": 6.0})
            await station.wait_for_command("SetChargingProfile", 30.0, after=sent)
            await eventually(lambda: station.power_w(1) <= 6000, "the new plan does not reach it")
            action = "TriggerMessage"
            body = {"action": action, "payload": {"requestedMessage": "Heartbeat"}, "wait_s": 10}
            told = await operator.post("/api/v1/stations/c1/commands", json=body)
        assert told.json()["outcome"] == "accepted", told.text
        await station.wait_for_command(action, 30.0, after=sent)
        tx = await station.stop(1, token=card_of(1))
        await station.unplug(1)
        await station.drained()
        session = await world.session()
        assert session.transaction_id == tx.transaction_id == number
        assert session.state is SessionState.ENDED
        assert session.energy_wh == pytest.approx(tx.energy_wh, abs=1.0)
        await is_clean(world)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_x05_a_link_that_was_left_standing_at_the_other_node_is_ended_and_never_commanded(
    place: Place, version: str
) -> None:
    async with two_nodes(place.settings()) as (world, one, two):
        await world.register("CS-1")
        async with linked(url_of(one), "CS-1", version) as older:
            assert (await older.boot())["status"] == "Accepted"
            # What the station was asked when it came up is over before it moves.
            await world.guarded("CS-1")
            before = len(older.calls)
            async with linked(url_of(two), "CS-1", version) as newer, world.operator() as operator:
                code, why = await older.ended()
                assert (code, why) == (1008, "a newer link exists elsewhere")
                body = {"action": "ClearCache", "payload": {}, "wait_s": 10}
                told = await operator.post("/api/v1/stations/CS-1/commands", json=body)
                assert told.json()["outcome"] == "accepted", told.text
                await newer.called("ClearCache")
                assert await asyncio.wait_for(newer.boot(), 10)
                assert len(older.calls) == before
