"""Handshakes (rows R01-R08) and frames on the wire (R09-R24)."""

import asyncio
import base64
import contextlib
import json
import random
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from csms.core.messages import LinkOffered, LinkRefusal
from csms.gateway.admission import Admission
from csms.gateway.config import GatewayConfig
from csms.gateway.handshake import Refusal
from tests.gateway.centre import PASSWORD
from tests.gateway.conftest import FAST, World, running

_SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
KEPT_BY_THE_SYSTEM = int(_SOMAXCONN.read_text(encoding="ascii")) if _SOMAXCONN.exists() else 0
Status = Callable[..., dict[str, Any]]


async def refused(world: World, path: str, protocols: list[str] | None, **options: Any) -> Any:
    """Return the HTTP answer of a handshake that has to fail."""
    with pytest.raises(InvalidStatus) as found:
        async with connect(world.url(path), subprotocols=protocols, **options):  # type: ignore[arg-type]
            pass
    return found.value.response


async def raw(world: World, text: bytes) -> bytes:
    """Send bytes to the port and return what comes back until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    try:
        writer.write(text)
        async with asyncio.timeout(5):
            return await reader.read(100_000)
    finally:
        writer.close()


def upgrade_request(path: str) -> str:
    """Return a whole request for a websocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: ocpp1.6\r\n\r\n"
    )


async def test_r01_an_unknown_station_gets_404(world: World, version: str) -> None:
    assert (await refused(world, "/ocpp/nobody", [version])).status_code == 404


@pytest.mark.parametrize("offer", [["ocpp1.5"], None, ["OCPP1.6"], ["ocpp0.1", "ocpp2.2"]])
async def test_r02_r03_without_a_common_subprotocol_there_is_no_upgrade(
    world: World, offer: list[str] | None
) -> None:
    assert (await refused(world, "/ocpp/CS%201", offer)).status_code == 400
    assert world.centre.reports == []


@pytest.mark.parametrize(
    ("offer", "chosen"),
    [
        (["ocpp1.6", "ocpp2.0.1"], "ocpp1.6"),
        (["ocpp2.0.1", "ocpp1.6"], "ocpp2.0.1"),
        (["ocpp2.1", "ocpp2.0.1"], "ocpp2.1"),
        (["ocpp2.0.1", "ocpp2.1"], "ocpp2.1"),
        (["ocpp1.6", "ocpp2.1"], "ocpp1.6"),
        (["ocpp0.1", "ocpp1.6"], "ocpp1.6"),
        (["ocpp1.6", "ocpp1.6"], "ocpp1.6"),
    ],
)
async def test_r03_the_order_of_the_station_chooses(
    world: World, offer: list[str], chosen: str
) -> None:
    async with connect(world.url(), subprotocols=offer) as socket:  # type: ignore[arg-type]
        assert socket.subprotocol == chosen


async def test_r04_the_subprotocol_decides_whatever_the_path_says(world: World) -> None:
    async with world.station("ocpp2.0.1", "/ocpp1.6/CS%201") as station:
        answer = await station.call("StartTransaction", {})
        assert answer[2] == "NotImplemented"


@pytest.mark.parametrize(
    "extensions",
    [
        None,
        [ClientPerMessageDeflateFactory()],
        [ClientPerMessageDeflateFactory(client_no_context_takeover=True)],
    ],
)
async def test_r05_compression_is_negotiated_without_context_takeover(
    world: World, version: str, extensions: Any
) -> None:
    async with world.station(version, extensions=extensions, compression=None) as station:
        header = station.socket.response.headers.get("Sec-WebSocket-Extensions", "")  # type: ignore[union-attr]
        assert ("permessage-deflate" in header) == (extensions is not None)
        if extensions:
            assert "server_no_context_takeover" in header
            assert "client_no_context_takeover" in header
        for _ in range(3):
            assert "currentTime" in await station.ask("Heartbeat", {})


async def test_r06_a_request_that_drips_in_is_cut_at_the_limit() -> None:
    async with running(replace(FAST, handshake_s=0.2)) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
        writer.write(b"GET /ocpp/CS-2 HTTP/1.1\r\nHost: x\r\n")
        async with asyncio.timeout(3):
            # Cut, politely or not, without an answer.
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
        writer.close()
        async with world.station() as station:
            assert "currentTime" in await station.ask("Heartbeat", {})


async def test_r07_half_open_handshakes_of_one_address_are_limited() -> None:
    config = replace(FAST, handshakes_per_address=5, limit_loopback=True, handshake_s=30)
    async with running(config) as world:
        held = [await asyncio.open_connection("127.0.0.1", world.gateway.port) for _ in range(5)]
        reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
        async with asyncio.timeout(3):
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
        writer.close()
        for _, half_open in held:
            half_open.transport.abort()
        async with asyncio.timeout(5):
            is_back = False
            while not is_back:
                # The server learns of the aborts one by one; until then it goes on refusing.
                try:
                    async with world.station() as station:
                        is_back = "currentTime" in await station.ask("Heartbeat", {})
                except (InvalidMessage, OSError):
                    await asyncio.sleep(0.01)


@pytest.mark.skipif(KEPT_BY_THE_SYSTEM < 512, reason="the system keeps no fleet for a server")
async def test_a_fleet_that_comes_in_one_moment_finds_room_for_every_handshake() -> None:
    # As many as wait for a server that was away a moment; the system keeps them for it.
    count, config = 450, replace(FAST, handshakes_open=350)
    async with running(config) as world:
        request = upgrade_request("/ocpp/nobody").encode()
        fleet = []
        for _ in range(count):
            station = socket.create_connection(("127.0.0.1", world.gateway.port), timeout=5)
            station.send(request)
            fleet.append(station)
        async with asyncio.timeout(30):
            for station in fleet:
                reader, writer = await asyncio.open_connection(sock=station)
                assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
                writer.close()


async def test_connections_that_found_no_room_keep_none_from_others() -> None:
    config = replace(FAST, handshakes_open=1, handshake_s=30)
    async with running(config) as world:
        port = world.gateway.port
        _, holds_the_room = await asyncio.open_connection("127.0.0.1", port)
        dropped = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        for reader, _ in dropped:
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
        holds_the_room.transport.abort()
        async with asyncio.timeout(5):
            is_in = False
            while not is_in:
                # The server has to learn of the abort.
                with contextlib.suppress(InvalidMessage, OSError):
                    async with world.station() as station:
                        is_in = "currentTime" in await station.ask("Heartbeat", {})
        for _, writer in dropped:
            writer.close()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/CS-2",
        "/ocpp/",
        "/ocpp//CS-2",
        "/a/b/c/d/CS-2",
        "/ocpp/../CS-2",
        "/ocpp/..",
        "/ocpp/%2e",
        "/ocpp/" + "x" * 49,
        "/ocpp/" + "x" * 4000,
        "/ocpp/%00",
        "/ocpp/%0aCS-2",
        "/ocpp/a%2Fb",
        "/ocpp/%ff%fe",
        "/ocpp/%F0%9F%98%80",
        "/ocpp/CS%252D2",
        "/ocpp/CS-2%20",
    ],
)
async def test_r08_odd_paths_are_refused_cleanly(world: World, path: str) -> None:
    assert (await refused(world, path, ["ocpp1.6"])).status_code == 404


@pytest.mark.parametrize(
    "path", ["/ocpp/CS-2", "/ocpp/CS-2/", "/a/b/c/CS-2", "/ocpp/CS%2D2", "/ocpp/CS-2?x=/CS-9"]
)
async def test_r08_the_last_segment_decoded_once_is_the_identity(world: World, path: str) -> None:
    async with world.station(path=path) as station:
        await station.ask("Heartbeat", {})
    assert [offer.station_id for offer in world.centre.of(LinkOffered)] == ["CS-2"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"no colon").decode()},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic " + base64.b64encode(b"CS-3:wrong").decode()},
    ],
)
async def test_s55_bad_credentials_get_401_and_are_told_the_scheme(
    world: World, version: str, headers: dict[str, str]
) -> None:
    response = await refused(world, "/ocpp/CS-3", [version], additional_headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("password", [PASSWORD, bytes(range(128, 148))])
async def test_passwords_are_bytes_split_off_at_the_first_colon(
    world: World, version: str, password: bytes
) -> None:
    world.centre.stations["CS-3"] = password
    value = "Basic " + base64.b64encode(b"somebody:" + password).decode()
    async with world.station(
        version, "/ocpp/CS-3", additional_headers={"authorization": value}
    ) as station:
        await station.ask("Heartbeat", {})
    assert world.centre.of(LinkOffered)[0].username == "somebody"


async def test_too_many_attempts_are_told_when_to_come_back(world: World, version: str) -> None:
    world.centre.refusal = LinkRefusal.TOO_MANY_ATTEMPTS
    response = await refused(world, "/ocpp/CS-2", [version])
    assert response.status_code == 429
    assert 5 <= int(response.headers["Retry-After"]) <= 60


async def test_more_links_than_are_admitted_wait_and_then_get_503() -> None:
    config = replace(FAST, admitted_per_s=1, admission_wait_s=0.0)
    async with running(config) as world, world.station():
        response = await refused(world, "/ocpp/CS-2", ["ocpp1.6"])
        assert response.status_code == 503
        assert 5 <= int(response.headers["Retry-After"]) <= 60


async def test_who_is_turned_away_for_load_keeps_its_turn() -> None:
    admission = Admission(GatewayConfig(admitted_per_s=20.0, admission_wait_s=0.1))
    names = [f"CS-{i:02d}" for i in range(60)]
    let_in, turned_away, told = [], Counter[str](), set[tuple[int, int | None]]()

    async def come(name: str) -> None:
        while True:
            try:
                await admission.wait(name)
            except Refusal as refusal:
                told.add((refusal.status, refusal.retry_after_s))
                turned_away[name] += 1
                # It comes back sooner than it was told to, and has to wait all the same.
                await asyncio.sleep(0.02)
            else:
                let_in.append(name)
                return

    await asyncio.gather(*(come(name) for name in names))
    assert let_in == names
    assert told == {(503, 5)}
    assert set(names[:20]).isdisjoint(turned_away)
    assert set(names[30:]) <= set(turned_away)


async def test_a_plain_request_is_told_to_upgrade_and_asks_nobody(world: World) -> None:
    answer = await raw(world, b"GET /ocpp/CS-2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 426")
    assert world.centre.reports == []


async def test_a_grant_whose_handshake_fails_is_given_back(world: World) -> None:
    request = (
        b"GET /ocpp/CS-2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Protocol: ocpp1.6\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert (await raw(world, request)).startswith(b"HTTP/1.1 400")
    assert (await world.centre.closed(1)).station_id == "CS-2"


# --- frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["not json", "{}", "[]", '"x"', "5", "null", "", "[2]", "\ufeff[2]", "[" * 100_000]
)
async def test_r09_r10_r16_a_frame_that_is_no_call_gets_an_error_with_id_minus_one(
    world: World, version: str, text: str
) -> None:
    async with world.station(version) as station:
        await station.socket.send(text)
        frame = await station.read()
        code = "FormationViolation" if version == "ocpp1.6" else "RpcFrameworkError"
        assert (frame[0], frame[1], frame[2]) == (4, "-1", code)
        assert "currentTime" in await station.ask("Heartbeat", {})


@pytest.mark.parametrize("text", ['["2","7","Heartbeat",{}]', '[7,"7","x",{}]', '[2.0,"7","x",{}]'])
async def test_r12_an_unknown_message_type_is_ignored_or_named(
    world: World, version: str, text: str
) -> None:
    async with world.station(version) as station:
        await station.socket.send(text)
        await station.send(2, "8", "Heartbeat", {})
        if version != "ocpp1.6":
            assert (await station.read())[:3] == [4, "7", "MessageTypeNotSupported"]
        assert (await station.read())[:2] == [3, "8"]


async def test_r17_a_binary_frame_ends_the_link_with_1003(world: World, version: str) -> None:
    async with world.station(version) as station:
        await station.socket.send(b'[2,"1","Heartbeat",{}]')
        assert (await station.ended())[0] == 1003


async def test_r17_invalid_utf8_ends_the_link_with_1007(world: World, version: str) -> None:
    async with world.station(version) as station:
        await station.socket.send(b"\xff\xfe", text=True)
        assert (await station.ended())[0] == 1007


async def test_r18_a_frame_at_the_limit_is_answered_and_one_above_closes_1009(
    world: World, version: str
) -> None:
    async with world.station(version, max_size=None, compression=None) as station:
        text = '[2,"1","Heartbeat",{}]'
        await station.socket.send(text + " " * ((1 << 20) - len(text)))
        assert (await station.read())[:2] == [3, "1"]
        await station.socket.send(text + " " * ((1 << 20) + 1 - len(text)))
        assert (await station.ended())[0] == 1009


async def test_r19_r20_r22_r23_faults_of_a_call_get_their_codes(
    world: World, version: str, status: Status
) -> None:
    is_16 = version == "ocpp1.6"
    good = status()
    named = "status" if is_16 else "connectorStatus"
    cases: list[tuple[str, Any, str]] = [
        ("Dance", {}, "NotImplemented"),
        ("Reset", {}, "NotSupported"),
        ("Heartbeat", [], "FormationViolation" if is_16 else "FormatViolation"),
        ("Heartbeat", {"x": 1}, "FormationViolation" if is_16 else "FormatViolation"),
        (
            "StatusNotification",
            {k: v for k, v in good.items() if k != named},
            "OccurenceConstraintViolation" if is_16 else "OccurrenceConstraintViolation",
        ),
        ("StatusNotification", good | {named: 5}, "TypeConstraintViolation"),
        ("StatusNotification", good | {named: "Broken"}, "PropertyConstraintViolation"),
        ("StatusNotification", good | {"timestamp": "1000000"}, "PropertyConstraintViolation"),
        ("StatusNotification", good | {"connectorId": -1}, "PropertyConstraintViolation"),
        ("StatusNotification", good | {"connectorId": 10**12}, "PropertyConstraintViolation"),
    ]
    async with world.station(version) as station:
        for action, payload, code in cases:
            frame = await station.call(action, payload)
            assert frame[0] == 4, (action, frame)
            # An enumerated value of the wrong type breaks two rules; either may be named.
            assert frame[2] == code or payload == good | {named: 5}, (action, payload, frame)
            assert len(frame) == 5
            assert len(frame[3]) <= 255
            assert frame[4] == {}
            assert "Broken" not in frame[3]


async def test_an_id_tag_of_21_characters_is_refused_by_its_length(world: World) -> None:
    async with world.station() as station:
        frame = await station.call("Authorize", {"idTag": "x" * 21})
        assert frame[2] == "TypeConstraintViolation"
        assert world.centre.of(LinkOffered)[0] is world.centre.reports[-1]


def malformed(rng: random.Random, status: dict[str, Any]) -> str:
    """Return a frame that is wrong in one of many ways."""
    good = json.dumps([2, f"m{rng.randrange(10**6)}", "StatusNotification", status])
    kind = rng.randrange(10)
    if kind == 0:
        return good[: rng.randrange(len(good))]
    if kind == 1:
        at = rng.randrange(len(good))
        return good[:at] + rng.choice('{}[]",:\\\x00x9e.-') + good[at + 1 :]
    if kind == 2:
        return "".join(chr(rng.choice((34, 91, 93, 123, 125, 44, 58, 50, 955))) for _ in range(40))
    if kind == 3:
        wrong = rng.choice((None, [], {}, 1.5, "x" * 300, True, -(2**40), 1e300))
        return json.dumps([2, "k", "StatusNotification", status | {rng.choice([*status]): wrong}])
    if kind == 4:
        odd = [2, "k", "StatusNotification", status, 5, None, [], {}, "x", -1, 3.5, True]
        return json.dumps([rng.choice(odd) for _ in range(rng.randrange(6))])
    if kind == 5:
        return "[" * rng.randrange(1, 3000) + "]" * rng.randrange(1, 3000)
    if kind == 6:
        return f'[2,"k","Heartbeat",{{"a":{rng.choice(("NaN", "1e999", "9" * 60, "-", "01"))}}}]'
    if kind == 7:
        return json.dumps([rng.choice((3, 4)), rng.choice(("", "-1", "zz", 4, None)), "x", "y"])
    if kind == 8:
        return f'[2,"k","{rng.choice(("Reset", "Dance", "", "DataTransfer", "Authorize"))}",{{}}]'
    return good.replace(":", rng.choice((":,", "::", ": null, ", " ")), rng.randrange(1, 3))


async def test_ten_thousand_malformed_frames_leave_the_link_alive(
    world: World, version: str, status: Status
) -> None:
    rng = random.Random(20260302)
    async with world.station(version) as station:
        for batch in range(100):
            for _ in range(100):
                await station.socket.send(malformed(rng, status()))
            await station.send(2, f"beat-{batch}", "Heartbeat", {})
            while True:
                frame = await station.read()
                if frame[1] == f"beat-{batch}":
                    break
                assert frame[0] in (3, 4)
            assert frame[0] == 3
