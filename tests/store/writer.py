"""A process of its own that writes transaction events until it is killed: see test_crash.py.

`python -m tests.store.writer URL` prints "ready", then the number of each event after its write
returned. `... URL short` leaves no room in the file's size limit before it writes on.
"""

import asyncio
import os
import resource
import sys

from csms.core.errors import StoreUnavailable
from csms.store import samples, sessions
from csms.store.database import Store
from csms.store.statements import Tx
from tests.store.values import a_sample, a_session, an_update

CALLERS = 20


def say(line: str) -> None:
    """Print so that it is out when this returns: what is printed must survive a kill."""
    os.write(1, f"{line}\n".encode())


def record(tx: Tx, caller: int, number: int) -> None:
    """Store event `number` of a caller's session, which is opened when it is not there."""
    transaction = f"tx-{caller}"
    session = sessions.by_transaction(tx, "CS1", transaction)
    if session is None:
        session = sessions.open_session(tx, a_session(f"s-{caller}", transaction_id=transaction))
    report = an_update(number, transaction_id=transaction, samples=(a_sample(number),))
    if sessions.append_event(tx, report) is sessions.EventStored.NEW:
        samples.append_samples(tx, session, report.samples)


async def call(store: Store, caller: int) -> None:
    """Write one event after the other, and say each that was acknowledged."""
    for number in range(1_000_000):
        await store.write(lambda tx, number=number: record(tx, caller, number))
        say(f"{caller} {number}")


async def until_killed(url: str) -> None:
    """Write with several callers at once."""
    store = await Store.open(url)
    say("ready")
    await asyncio.gather(*(call(store, caller) for caller in range(CALLERS)))


async def until_short_of_room(url: str) -> None:
    """Write until the operating system refuses to let the file grow."""
    store = await Store.open(url, hold_s=5.0)
    await store.write(lambda tx: record(tx, 0, 0))
    size = os.stat(url.removeprefix("sqlite:///") + "-wal").st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        await store.write(lambda tx: record(tx, 0, 1))
    except StoreUnavailable as error:
        say(f"refused {error}")
    async with asyncio.timeout(5):
        await store.failed.wait()
    say(f"failed {store.is_healthy}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        await store.write(lambda tx: record(tx, 0, 2))
    except StoreUnavailable as error:
        say(f"refused {error}")
    await store.close()


if __name__ == "__main__":
    asyncio.run((until_short_of_room if "short" in sys.argv else until_killed)(sys.argv[1]))
