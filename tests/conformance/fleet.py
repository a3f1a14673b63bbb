"""Stations that come back after a restart, in a process of their own (X09).

Ten thousand links are twenty thousand open files, more than one process is given by many systems,
and the stations' own work is not to be taken for the server's. The process reads its orders, one
JSON line, says "ready", and begins when it reads another line. From then on it says, one JSON line
each time that changes, how many stations are back. They stay until its input ends. It fails where
a station was refused for anything but load, or was sent what the version's schema does not allow.
"""

import asyncio
import contextlib
import json
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from websockets.exceptions import InvalidMessage, InvalidStatus

from tests.conformance.raw import linked

MOST_IN_ONE = 5000
"""Stations of one process: a second core then serves half of ten thousand."""
AFTER_A_DROP_S = 2.0
SAYS_EVERY_S = 0.1
LIMIT_S = 60.0
"""The longest a process of stations may take to begin, and to end."""
_LONGEST_LINE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Orders:
    """Who comes back where, evenly over `within_s`."""

    url: str
    names: Sequence[str]
    told: Mapping[str, Mapping[str, Any]]
    """The TransactionEvents of those that charged, and go on."""
    within_s: float


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many stations are back, and what happened to them on the way."""

    back: int = 0
    told_later: int = 0
    """Stations that were told to come back later."""
    most_often: int = 0
    """How often one of them was, though it came when it was told to."""
    no_room: int = 0
    """Stations that were dropped: there was no room for another handshake."""


# --- the stations' process -----------------------------------------------------------------------


@dataclass
class Stations:
    """Stations that come back as real ones do, and what became of each."""

    orders: Orders
    back: set[str] = field(default_factory=set)
    crowded_out: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def tally(self) -> Tally:
        """Return what has become of them so far."""
        return Tally(
            back=len(self.back),
            told_later=len(self.crowded_out),
            most_often=max(self.crowded_out.values(), default=0),
            no_room=len(self.dropped),
        )

    async def come_back(self, name: str, at: float, done: asyncio.Event) -> None:
        """Connect at `at` (loop time), boot, say what was said while away, stay until `done`."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(0.0, at - loop.time()))
            try:
                async with linked(
                    self.orders.url, name, "2.0.1", open_timeout=120, compression=None
                ) as station:
                    assert (await station.boot())["status"] == "Accepted"
                    if name in self.orders.told:
                        await station.call("TransactionEvent", self.orders.told[name])
                    self.back.add(name)
                    await done.wait()
                    return
            except InvalidStatus as refused:
                answer = refused.response
            except InvalidMessage:
                # So many handshakes are open that there is no room for another.
                self.dropped[name] += 1
                at = loop.time() + AFTER_A_DROP_S
                continue
            # It fails here where it was refused for anything but load.
            self.crowded_out[name] += {503: 1}[answer.status_code]
            at = loop.time() + int(answer.headers["Retry-After"])


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _tell(stations: Stations) -> None:
    said = None
    while True:
        tally = stations.tally()
        if tally != said:
            said = tally
            _say(asdict(tally))
        await asyncio.sleep(SAYS_EVERY_S)


async def _play() -> None:
    loop = asyncio.get_running_loop()
    given = asyncio.StreamReader(limit=_LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(given), sys.stdin)
    orders = Orders(**json.loads(await given.readline()))
    stations, done = Stations(orders), asyncio.Event()
    _say("ready")
    await given.readline()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_tell(stations))
        for i, name in enumerate(orders.names):
            at = began + orders.within_s * i / len(orders.names)
            group.create_task(stations.come_back(name, at, done))
        await given.read()
        telling.cancel()
        done.set()


def permit_files() -> int:
    """Let this process open as many files as the system permits it; return how many."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


# --- the test's end of it ------------------------------------------------------------------------


class Fleet:
    """The test's end of the stations' processes."""

    def __init__(self, shares: Mapping[asyncio.subprocess.Process, Orders]) -> None:
        self._shares = shares
        self._said = dict.fromkeys(shares, Tally())

    def tally(self) -> Tally:
        """Return what has become of all stations so far."""
        said = self._said.values()
        return Tally(
            back=sum(t.back for t in said),
            told_later=sum(t.told_later for t in said),
            most_often=max(t.most_often for t in said),
            no_room=sum(t.no_room for t in said),
        )

    async def come_back(self) -> None:
        """Let the stations come back; return when all have, fail where a process of theirs does."""
        for process in self._shares:
            _stdin(process).write(b"\n")
        async with asyncio.TaskGroup() as group:
            for process in self._shares:
                group.create_task(self._listen(process))

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        while self._said[process].back < len(self._shares[process].names):
            self._said[process] = Tally(**await _line(process))


@contextlib.asynccontextmanager
async def fleet(orders: Orders) -> AsyncIterator[Fleet]:
    """Start the processes of the stations, and end them; fails where one of them failed."""
    count = -(-len(orders.names) // MOST_IN_ONE)
    shares = []
    for n in range(count):
        names = orders.names[n::count]
        told = {name: orders.told[name] for name in names if name in orders.told}
        shares.append(replace(orders, names=names, told=told))
    started: dict[asyncio.subprocess.Process, Orders] = {}
    try:
        for share in shares:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            started[process] = share
            _stdin(process).write(json.dumps(asdict(share)).encode() + b"\n")
        async with asyncio.timeout(LIMIT_S):
            for process in started:
                assert await _line(process) == "ready"
        yield Fleet(started)
        for process in started:
            _stdin(process).close()
        async with asyncio.timeout(LIMIT_S):
            assert [await process.wait() for process in started] == [0] * count
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _stdin(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    assert process.stdin is not None
    return process.stdin


async def _line(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line, "a process of stations has failed; it says above why"
    return json.loads(line)


if __name__ == "__main__":
    permit_files()
    asyncio.run(_play())
