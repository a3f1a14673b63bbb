"""TLS of the station port on both event loops: served, refused with its reason, and limited."""

import asyncio
import contextlib
import gc
import os
import resource
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake

from csms.core.messages import LinkOffered, SecurityNoticed
from csms.gateway.config import GatewayConfig
from csms.gateway.handshake import StationConnection
from csms.gateway.tls import Seldom, server_context
from csms.identity import ca
from csms.service.authority import CSMS_ROOT, STATION_ROOT, LocalAuthority
from tests.authorities import an_authority, server_files
from tests.gateway.conftest import FAST, World, running

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    return an_authority(tmp_path)


def serving(authority: LocalAuthority, folder: Path, **given: Any) -> GatewayConfig:
    """Return a gateway's numbers with TLS, its certificate made by `authority`."""
    context = server_context(
        [server_files(authority, folder)],
        station_ca_files=[authority.folder / f"{STATION_ROOT}.pem"],
    )
    return replace(FAST, tls=context, **given)


def trusting(authority: LocalAuthority, holding: ca.Authority | None = None) -> ssl.SSLContext:
    """Return a station's TLS; `holding` is a root, whose own certificate it shows."""
    context = ssl.create_default_context(cadata=authority.load(CSMS_ROOT).pem)
    if holding is not None:
        file = authority.folder / "client.pem"
        file.write_text(holding.pem + ca.key_pem(holding.key))
        context.load_cert_chain(file)
    return context


async def beat(world: World, tls: ssl.SSLContext) -> None:
    """Connect, send a heartbeat at once, and read its answer."""
    url = f"wss://localhost:{world.gateway.tls_port}/ocpp/CS-2"
    async with connect(url, ssl=tls, subprotocols=["ocpp1.6"]) as socket:  # type: ignore[list-item]
        await socket.send('[2,"1","Heartbeat",{}]')
        assert (await socket.recv()).startswith('[3,"1"')


@RUNNERS
def test_a_station_is_served_with_tls_and_one_that_nobody_vouches_for_is_not(
    run: Callable[[Any], None], authority: LocalAuthority, tmp_path: Path
) -> None:
    config = serving(authority, tmp_path)
    stranger = ca.new_root(name="x", operator="x", now=datetime.now(UTC), days=1)

    async def scenario() -> None:
        async with running(config) as world:
            assert world.gateway.port == world.gateway.tls_port
            await beat(world, trusting(authority))
            assert [o.is_tls for o in world.centre.of(LinkOffered)] == [True]
            for _ in range(3):
                with pytest.raises((InvalidHandshake, OSError, EOFError)):
                    await beat(world, trusting(authority, stranger))
            # A flood of the same refusal is one event a minute.
            told = await world.centre.wait_for(SecurityNoticed)
            assert [(t.kind, t.detail["address"]) for t in told] == [
                ("client certificate refused", "127.0.0.1")
            ]
            await beat(world, trusting(authority))

    run(scenario())


@RUNNERS
def test_a_plain_port_and_one_with_tls_lie_side_by_side(
    run: Callable[[Any], None], authority: LocalAuthority, tmp_path: Path
) -> None:
    config = serving(authority, tmp_path, tls_port=0)

    async def scenario() -> None:
        async with running(config) as world:
            await beat(world, trusting(authority))
            async with world.station("ocpp1.6", "/ocpp/CS-2") as station:
                await station.ask("Heartbeat", {})
            assert [o.is_tls for o in world.centre.of(LinkOffered)] == [True, False]

    run(scenario())


@RUNNERS
@pytest.mark.parametrize("is_secure", [True, False])
def test_a_connection_that_ended_is_freed_without_the_collector(
    run: Callable[[Any], None], is_secure: bool, authority: LocalAuthority, tmp_path: Path
) -> None:
    # The process lets the collector look at what is old hardly ever.
    config = serving(authority, tmp_path, tls_port=0)

    def held() -> int:
        return sum(issubclass(type(thing), StationConnection) for thing in gc.get_objects())

    async def scenario() -> None:
        async with running(config) as world:
            if is_secure:
                await beat(world, trusting(authority))
            else:
                async with world.station("ocpp1.6", "/ocpp/CS-2") as station:
                    await station.ask("Heartbeat", {})
            async with asyncio.timeout(5):
                while held() > before:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    gc.collect()
    before = held()
    gc.disable()
    try:
        run(scenario())
    finally:
        gc.enable()


@RUNNERS
def test_half_open_tls_handshakes_are_cut_and_count_for_their_address(
    run: Callable[[Any], None], authority: LocalAuthority, tmp_path: Path
) -> None:
    config = serving(
        authority, tmp_path, handshakes_per_address=2, limit_loopback=True, handshake_s=0.5
    )

    async def scenario() -> None:
        async with running(config) as world:
            held = [
                await asyncio.open_connection("127.0.0.1", world.gateway.port) for _ in range(2)
            ]
            for _, writer in held:
                writer.write(b"\x16\x03\x01\x02")
            third, writing = await asyncio.open_connection("127.0.0.1", world.gateway.port)
            async with asyncio.timeout(0.4):
                assert await _ended(third)
            writing.close()
            async with asyncio.timeout(5):
                for reader, writing in held:
                    assert await _ended(reader)
                    writing.close()
            await beat(world, trusting(authority))

    run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="counts files in /proc")
@RUNNERS
def test_a_connection_for_which_no_file_is_left_keeps_no_room(
    run: Callable[[Any], None], authority: LocalAuthority, tmp_path: Path
) -> None:
    config = serving(authority, tmp_path, handshakes_open=1)

    async def scenario() -> None:
        async with running(config) as world:
            with socket.socket() as station:
                station.setblocking(False)
                address = ("127.0.0.1", world.gateway.port)
                with _one_file_left():
                    await asyncio.get_running_loop().sock_connect(station, address)
                    async with asyncio.timeout(5):
                        with contextlib.suppress(ConnectionResetError):
                            assert not await asyncio.get_running_loop().sock_recv(station, 1)
            await beat(world, trusting(authority))

    run(scenario())


@contextlib.contextmanager
def _one_file_left() -> Iterator[None]:
    """Let the process open one more file than it has, and no other."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    held = [os.dup(0)]
    while held[-1] <= highest:
        held.append(os.dup(0))
    free = held.pop()
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for file in held:
            os.close(file)


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


def test_what_is_seldom_told_is_told_once_a_minute_for_each_key() -> None:
    seldom = Seldom()
    assert [seldom.may(at, "a") for at in (0.0, 1.0, 59.9, 60.0, 61.0)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert seldom.may(1.0, "b")
