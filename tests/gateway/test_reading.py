"""Messages arrive whole, however their bytes are cut, and what is no message ends the link."""

import gc
import json
from itertools import cycle

import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from csms.gateway.handshake import StationConnection
from tests.gateway.conftest import World


@pytest.fixture(params=[None, (1,), (2,), (4, 3), (2, 4, 1000)], ids=str)
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bytes reach the gateway as they came, or in pieces of these sizes in turn."""
    sizes: tuple[int, ...] | None = request.param
    if sizes is None:
        return
    whole = StationConnection.data_received

    def in_pieces(connection: StationConnection, data: bytes) -> None:
        for size in cycle(sizes):
            whole(connection, data[:size])
            data = data[size:]
            if not data:
                return

    monkeypatch.setattr(StationConnection, "data_received", in_pieces)


def beat(message_id: str, spaces: int = 0) -> str:
    return json.dumps([2, message_id, "Heartbeat", {}]) + " " * spaces


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_messages_are_answered_in_order_however_they_are_cut(
    world: World, compression: str | None
) -> None:
    async with world.station("ocpp2.0.1", compression=compression) as station:
        socket, asked = station.socket, []
        for number, spaces in enumerate((0, 80, 200, 20_000, 0, 70_000, 5)):
            await socket.send(beat(f"{number}", spaces))
            await socket.send([beat(f"{number} in", 9)[:7], beat(f"{number} in", 9)[7:]])
            await socket.ping()
            asked += [f"{number}", f"{number} in"]
        for message_id in asked:
            assert (await station.read())[:2] == [3, message_id]
        await socket.send(beat("é" * 36))
        assert (await station.read())[:2] == [3, "é" * 36]


@pytest.mark.usefixtures("cut")
async def test_several_messages_in_one_piece_are_all_answered(world: World) -> None:
    async with world.station("ocpp1.6", compression=None) as station:
        frames = [Frame(Opcode.TEXT, beat(f"{n}", 60 * n).encode()) for n in range(9)]
        station.socket.transport.write(b"".join(f.serialize(mask=True) for f in frames))
        for number in range(9):
            assert (await station.read())[:2] == [3, f"{number}"]


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Frame(Opcode.TEXT, b"\xff\xfe no text").serialize(mask=True), 1007),
        (Frame(Opcode.TEXT, beat("1").encode()).serialize(mask=False), 1002),
        (b"\xc1\x81" + bytes(4) + b"[", 1002),
        (Frame(Opcode.CONT, b"[").serialize(mask=True), 1002),
        (Frame(Opcode.TEXT, b"[", fin=False).serialize(mask=True) * 2, 1002),
        # A length in more bytes than it needs: 5 in three.
        (b"\x81\xfe\x00\x05" + bytes(4) + b"[2,1]", None),
    ],
    ids=["no text", "not masked", "reserved bit", "nothing goes on", "not ended", "long length"],
)
async def test_what_is_no_text_ends_the_link_as_the_library_says(
    world: World, frame: bytes, code: int | None
) -> None:
    async with world.station("ocpp2.0.1", compression=None) as station:
        station.socket.transport.write(frame)
        if code is None:
            # Allowed by some readers, refused by others: ours takes it as the library does.
            assert (await station.read())[0] == 4
        else:
            assert (await station.ended())[0] == code


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_an_idle_link_keeps_no_request(world: World, compression: str | None) -> None:
    def requests() -> int:
        gc.collect()
        return sum(type(thing) is Request and bool(thing.path) for thing in gc.get_objects())

    before = requests()
    async with world.station("ocpp2.0.1", compression=compression) as station:
        await station.socket.send(beat("1"))
        assert (await station.read())[:2] == [3, "1"]
        # The station's own, which its library keeps.
        assert requests() == before + 1


async def test_a_message_behind_one_that_waits_is_not_lost(world: World) -> None:
    async with world.station("ocpp2.0.1", compression=None) as station:
        for number in range(40):
            await station.socket.send(beat(f"{number}", number))
        for number in range(40):
            assert (await station.read())[:2] == [3, f"{number}"]
