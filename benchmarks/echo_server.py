"""The floor of the benchmark: websockets + uvloop, every frame sent back as it came.

A frame differs from the received one in its first digit only (`[2,` becomes `[3,`), which is what
makes a load generator that counts CALLRESULTs take it for an answer. The few calls whose answer
the generator reads (a boot, a 1.6 start) are answered properly; they are not part of the steady
phase that is measured.
"""

import argparse
import json

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

READ_BY_THE_STATION = ('"BootNotification"', '"StartTransaction"')
ANSWER = {
    "status": "Accepted",
    "currentTime": "2026-01-01T00:00:00Z",
    "interval": 300,
    "transactionId": 1,
    "idTagInfo": {"status": "Accepted"},
}


async def echo(connection: ServerConnection) -> None:
    """Answer every frame of one station with itself."""
    try:
        async for frame in connection:
            assert isinstance(frame, str)
            if any(action in frame[:80] for action in READ_BY_THE_STATION):
                await connection.send(json.dumps([3, json.loads(frame)[1], ANSWER]))
            else:
                await connection.send("[3" + frame[2:])
    except ConnectionClosed:
        pass  # the generator cuts its connections


async def main(port: int) -> None:
    """Serve until the process is ended."""
    async with serve(
        echo, "127.0.0.1", port, subprotocols=["ocpp1.6", "ocpp2.0.1"], compression=None
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    uvloop.run(main(parser.parse_args().port))
