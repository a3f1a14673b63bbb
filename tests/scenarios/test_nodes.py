"""Nodes that go away and come back: the centre, a gateway, NATS between them."""

import asyncio
import contextlib
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from csms.core.errors import Conflict
from csms.core.model import SessionState
from csms.gateway_node import GatewayNode, running_gateway
from csms.opening import open_store
from csms.service.authority import CSMS_ROOT
from csms.service.tenure import CENTRE
from csms.settings import GatewaySettings, Settings
from csms.status_port import StatusPort
from csms.store import leases
from csms.telemetry import Metrics
from tests.authorities import an_authority, server_files
from tests.brokers import Broker
from tests.conformance.raw import RawStation, linked
from tests.scenarios.nodes import (
    CONFIG,
    NodeProcess,
    Place,
    a_centre,
    a_gateway,
    move,
    node_process,
    url_of,
)
from tests.scenarios.test_lost_links import charging, is_clean, online
from tests.scenarios.world import World, card_of, eventually

HEAVY = ("sqlalchemy", "alembic", "numpy", "pandas", "sklearn", "highspy", "fastapi", "httpx")


@pytest.fixture
def place(sqlite_url: str, nats_server: str, prefix: str) -> Place:
    return Place(sqlite_url, nats_server, prefix)


@contextlib.asynccontextmanager
async def booted(world: World, url: str, **given: Any) -> AsyncIterator[RawStation]:
    """Yield a station of this world that is linked at `url` and was accepted."""
    await world.register("CS-1")
    async with linked(url, "CS-1", "2.0.1", **given) as station:
        await station.boot()
        yield station


@contextlib.asynccontextmanager
async def left_alone(given: Settings) -> AsyncIterator[tuple[GatewayNode, RawStation]]:
    """Yield a gateway with a station whose centre has gone."""
    async with contextlib.AsyncExitStack() as stack:
        async with a_centre(given) as world:
            node = await stack.enter_async_context(a_gateway(given))
            station = await stack.enter_async_context(booted(world, url_of(node)))
        yield node, station


# --- the centre ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_what_was_said_while_the_centre_was_away_is_replayed_and_adds_up(
    place: Place, version: str
) -> None:
    given = place.settings()
    async with contextlib.AsyncExitStack() as stack:
        async with a_centre(given) as world:
            node = await stack.enter_async_context(a_gateway(given))
            world.node_url = url_of(node)
            station = await charging(world, version, boots=True)
            world.stations.clear()
        # It still charges, and has nobody to tell.
        await eventually(lambda: not node.bus.is_reached)
        tx = await station.stop(1, token=card_of(1))
        await station.unplug(1)
        async with a_centre(given) as world:
            world.stations.append(station)
            await station.drained(60.0)
            await eventually(lambda: online(world), "the station is not back")
            session = await world.session()
            assert session.transaction_id == tx.transaction_id
            assert session.state is SessionState.ENDED
            assert session.energy_wh == pytest.approx(tx.energy_wh, abs=1.0)
            await is_clean(world)


async def test_a_link_that_a_new_centre_does_not_know_is_ended_though_nothing_is_said(
    place: Place,
) -> None:
    given = place.settings()
    async with left_alone(given) as (_, station), a_centre(given):
        assert (await station.ended())[0] == 1013


async def test_without_a_centre_nobody_is_let_in_or_answered(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csms.bus.gateway_end._HOLD_S", 0.5)
    async with left_alone(place.settings()) as (node, station):
        await eventually(lambda: not node.bus.is_reached)
        asked = asyncio.create_task(
            station.call("Authorize", {"idToken": {"idToken": card_of(1), "type": "ISO14443"}})
        )
        assert (await station.ended())[0] == 1013
        asked.cancel()
        with pytest.raises(InvalidStatus) as refused:
            async with linked(url_of(node), "CS-1", "2.0.1"):
                pass
        assert refused.value.response.status_code == 503
        assert int(refused.value.response.headers["Retry-After"]) > 0


async def test_a_second_centre_is_refused_and_the_first_goes_on(
    place: Place, tmp_path: Path
) -> None:
    given = place.settings()
    async with a_centre(given) as world:
        with pytest.raises(Conflict, match="is the centre of this store"):
            async with a_centre(given):
                pass
        async with node_process(tmp_path, place, "central") as second:
            assert await second.exit_code() == 2
            assert "one leads at a time: stop it first" in second.said()
        await world.register("CS-1")


async def test_a_centre_that_another_has_replaced_ends_and_says_why(
    place: Place, tmp_path: Path
) -> None:
    async with node_process(tmp_path, place, "central") as slept:
        await slept.open()
        store = await open_store(place.settings())
        try:
            over = await store.read(lambda tx: leases.get_lease(tx, CENTRE))
            assert await store.write(lambda tx: leases.take_lease(tx, CENTRE, "another", over=over))
        finally:
            await store.close()
        assert await slept.exit_code() == 2
        assert "another centre leads on this store by now" in slept.said()
        assert "Traceback" not in slept.said()


async def test_a_centre_that_was_killed_is_replaced_and_stations_come_back(
    place: Place, tmp_path: Path
) -> None:
    given = place.settings()
    async with a_centre(given) as world:
        await world.register("CS-1")
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(running_gateway(given))
        async with node_process(tmp_path, place, "central") as killed:
            await killed.open()
            await eventually(lambda: node.bus.is_reached)
            station = await stack.enter_async_context(linked(url_of(node), "CS-1", "1.6"))
            await station.boot()
            await killed.end(signal.SIGKILL)
        async with node_process(tmp_path, place, "central") as second:
            await second.open()
            assert (await station.ended())[0] == 1013
            async with linked(url_of(node), "CS-1", "1.6") as again:
                assert (await again.boot())["status"] == "Accepted"
            async with asyncio.timeout(10):
                assert await second.end(signal.SIGTERM) == 0


# --- a gateway -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_a_gateway_that_is_killed_is_missed_and_its_station_goes_on_at_another(
    place: Place, tmp_path: Path, version: str
) -> None:
    given = place.settings()
    async with a_centre(given) as world, a_gateway(given) as other:
        async with node_process(tmp_path, place, "gateway") as killed:
            await killed.open()
            world.node_url = killed.url
            station = await charging(world, version, boots=True)
            number = (await world.session()).transaction_id
            station.link.keeps_up = False
            await killed.end(signal.SIGKILL)
        await eventually(lambda: world.events("gateway lost"), within_s=20.0)
        await eventually(lambda: _is_away(world), "the lost gateway is not noticed", within_s=20.0)
        move(station, url_of(other))
        await station.reconnect()
        await eventually(lambda: online(world))
        tx = await station.stop(1, token=card_of(1))
        await station.unplug(1)
        await station.drained()
        session = await world.session()
        assert session.transaction_id == tx.transaction_id == number
        assert session.energy_wh == pytest.approx(tx.energy_wh, abs=1.0)
        await is_clean(world)


async def _is_away(world: World) -> bool:
    return not await online(world)


@contextlib.asynccontextmanager
async def station_of_a_process(
    world: World, place: Place, folder: Path
) -> AsyncIterator[tuple[NodeProcess, RawStation]]:
    """Yield a gateway that is a process of its own, and a station that is linked to it."""
    async with node_process(folder, place, "gateway") as node:
        await node.open()
        async with booted(world, node.url, open_timeout=30) as station:
            yield node, station


async def ends_well(node: NodeProcess, station: RawStation) -> None:
    """Stop a gateway: it must end within ten seconds, and send its station away."""
    async with asyncio.timeout(10):
        assert await node.end(signal.SIGTERM) == 0
    assert (await station.ended())[0] == 1001


async def test_a_gateway_stops_within_ten_seconds_and_sends_its_stations_away(
    place: Place, tmp_path: Path
) -> None:
    async with a_centre(place.settings()) as world:
        async with station_of_a_process(world, place, tmp_path) as (node, station):
            await eventually(lambda: online(world, "CS-1"))
            await ends_well(node, station)
        assert not await online(world, "CS-1")


async def test_a_gateway_stops_within_ten_seconds_though_nats_is_away(
    place: Place, broker: Broker, tmp_path: Path
) -> None:
    away = replace(place, nats=broker.url)
    async with a_centre(place.settings()) as world:
        async with station_of_a_process(world, away, tmp_path) as (node, station):
            await broker.cut()
            await ends_well(node, station)
        await eventually(lambda: _is_away(world), "the gateway is not missed", within_s=20.0)


async def test_a_gateway_loads_neither_store_nor_planner_nor_api(
    place: Place, tmp_path: Path
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        CONFIG.format(nats=place.nats, prefix=place.prefix, store=place.store, ocpp=0, api=0)
    )
    code = f"""
import os, signal, sys
import csms.gateway_node as node
from csms.cli import app

inner = node.quieten_collector

def started() -> None:
    # It runs: the ports are open and all that it loads is loaded.
    inner()
    os.kill(os.getpid(), signal.SIGTERM)

node.quieten_collector = started
app(["serve", "--role", "gateway", "--config", {str(config)!r}], standalone_mode=False)
print("loaded", *(name for name in {HEAVY!r} if name in sys.modules))
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, complained = await process.communicate()
    assert said.decode().split("\n")[-2:] == ["loaded", ""], complained.decode()


async def test_health_and_metrics_of_a_gateway(place: Place) -> None:
    given = place.settings(gateway=GatewaySettings(port=0, status_port=0))
    async with running_gateway(given) as node, httpx.AsyncClient() as client:
        assert node.status is not None
        url = f"http://127.0.0.1:{node.status.port}"
        assert (await client.get(f"{url}/health")).status_code == 503
        assert (await client.get(f"{url}/health/alive")).status_code == 200
        async with a_centre(place.settings()) as world:
            await eventually(lambda: node.bus.is_reached)
            assert (await client.get(f"{url}/health")).json() == {"status": "ready"}
            async with booted(world, url_of(node)):
                text = (await client.get(f"{url}/metrics")).text
                assert 'tasco_links{version="2.0.1"} 1.0' in text
                async with world.operator() as operator:
                    text = (await operator.get("/metrics")).text
                assert "tasco_gateways 1.0" in text
                assert "tasco_bus_connected 1.0" in text
        assert (await client.get(f"{url}/nothing")).status_code == 404
        assert (await client.post(f"{url}/metrics")).status_code == 405


async def test_who_says_nothing_to_the_status_port_holds_up_no_stop() -> None:
    status = StatusPort("127.0.0.1", 0, Metrics(), lambda: "")
    await status.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", status.port)
    writer.write(b"GET /health")
    await eventually(lambda: status.connections)
    async with asyncio.timeout(1.0):
        await status.stop()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


async def test_frames_that_pass_a_gateway_are_in_the_archive(place: Place) -> None:
    given = place.settings()
    async with a_centre(given) as world, a_gateway(given) as node, world.operator() as operator:

        async def kept() -> bool:
            found = await operator.get("/api/v1/stations/CS-1/frames")
            return "BootNotification" in found.text and "Accepted" in found.text

        async with booted(world, url_of(node)):
            await eventually(kept, "the frames are not kept")


async def test_a_frame_that_nobody_can_look_through_ends_no_gateway(place: Place) -> None:
    given = place.settings()
    async with a_centre(given) as world, a_gateway(given) as node:
        async with booted(world, url_of(node)) as station:
            await station.socket.send('[2,"1","password",' + "[" * 100_000)
            await eventually(lambda: not node.frames.waiting)
            await station.call("Heartbeat", {})


@contextlib.asynccontextmanager
async def secure_node(place: Place, folder: Path) -> AsyncIterator[tuple[World, str, str]]:
    authority = an_authority(folder)
    chain, key = server_files(authority, folder)
    files = {"tls_certificate_file": chain, "tls_key_file": key}
    given = place.settings(gateway=GatewaySettings(port=0, tls_port=0, **files))
    async with a_centre(place.settings()) as world, a_gateway(given) as node:
        url = f"wss://localhost:{node.gateway.tls_port}/ocpp"
        yield world, url, authority.load(CSMS_ROOT).pem


async def test_a_password_is_checked_by_the_centre_and_tls_ends_at_the_gateway(
    place: Place, tmp_path: Path
) -> None:
    password = "päss:word and 16 more"
    async with secure_node(place, tmp_path) as (world, url, root):
        await world.register("CS-1", password=password)
        trusting = {"ssl": ssl.create_default_context(cadata=root)}
        async with linked(url, "CS-1", "2.0.1", password=password, **trusting) as station:
            assert (await station.boot())["status"] == "Accepted"
        with pytest.raises(InvalidStatus) as refused:
            async with linked(url, "CS-1", "2.0.1", password="another of 16 letters", **trusting):
                pass
        assert refused.value.response.status_code == 401


# --- NATS ----------------------------------------------------------------------------------------


async def test_nats_goes_and_comes_back_and_a_session_keeps_all_its_energy(
    place: Place, broker: Broker
) -> None:
    given = replace(place, nats=broker.url).settings()
    async with a_centre(given) as world, a_gateway(given) as node:
        world.node_url = url_of(node)
        station = await charging(world, "2.0.1", boots=True)
        await broker.cut()
        await eventually(lambda: not node.bus.is_reached)
        tx = await station.stop(1, token=card_of(1))
        await station.unplug(1)
        await broker.restore()
        await station.drained(60.0)
        session = await world.session()
        assert session.transaction_id == tx.transaction_id
        assert session.state is SessionState.ENDED
        assert session.energy_wh == pytest.approx(tx.energy_wh, abs=1.0)
        await is_clean(world)
