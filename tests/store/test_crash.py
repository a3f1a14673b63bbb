"""What was acknowledged is there after a kill -9, and a flush that failed ends the service."""

import asyncio
import random
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from csms.core.errors import StoreUnavailable
from csms.store import samples, sessions
from csms.store.database import Store
from csms.store.statements import Tx
from tests.store.values import until
from tests.store.writer import CALLERS, record

ROOT = Path(__file__).parent.parent.parent


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.store.writer",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def acknowledged_before_a_kill(url: str, seed: int) -> set[tuple[int, int]]:
    """Return the events that a writer said were stored, before it was killed in mid-work."""
    writer = await start(url)
    assert writer.stdout is not None
    async with asyncio.timeout(20):
        assert await writer.stdout.readline() == b"ready\n"
        lines = [
            await writer.stdout.readline() for _ in range(random.Random(seed).randint(300, 900))
        ]
        writer.kill()
        lines += (await writer.stdout.read()).splitlines(keepends=True)
        await writer.wait()
    return {(int(line.split()[0]), int(line.split()[1])) for line in lines if line.endswith(b"\n")}


def stored(tx: Tx) -> list[tuple[int, int]]:
    return [
        (caller, event.seq_no)
        for caller in range(CALLERS)
        for event in sessions.events_of(tx, "CS1", f"tx-{caller}")
        if event.seq_no is not None
    ]


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_acknowledged_event_survives_a_kill_and_comes_back_once(
    database_url: str, seed: int
) -> None:
    acknowledged = await acknowledged_before_a_kill(database_url, seed)
    assert len(acknowledged) >= 300
    store = await Store.open(database_url)
    found = await store.read(stored)
    assert acknowledged - set(found) == set(), f"seed {seed}"
    # A station sends again what it got no answer for, and also what it did.
    again = sorted(acknowledged | set(found))
    await asyncio.gather(*(store.write(lambda tx, c=c, n=n: record(tx, c, n)) for c, n in again))
    assert sorted(await store.read(stored)) == again
    for caller in range(CALLERS):
        of_caller = sum(c == caller for c, _ in again)
        kept = await store.read(lambda tx, c=caller: samples.samples(tx, f"s-{c}"))
        assert len(kept) == of_caller
    await store.close()


async def test_a_failed_flush_ends_the_service_and_a_restart_recovers(sqlite_url: str) -> None:
    writer = await start(sqlite_url, "short")
    async with asyncio.timeout(20):
        out, err = await writer.communicate()
    assert writer.returncode == 0, err
    first, failed, second = out.decode().splitlines()
    assert "a flush to disk failed" in first
    assert failed == "failed False"
    assert "a flush to disk failed" in second
    store = await Store.open(sqlite_url)
    found = await store.read(lambda tx: sessions.events_of(tx, "CS1", "tx-0"))
    assert [event.seq_no for event in found] == [0]
    await store.write(lambda tx: record(tx, 0, 1))
    await store.close()


async def test_a_full_database_refuses_after_a_while_and_recovers_with_room(
    sqlite_url: str,
) -> None:
    store = await Store.open(sqlite_url, hold_s=0.2)
    await store.write(lambda tx: record(tx, 0, 0))

    def without_room(tx: Tx) -> None:
        tx.execute(text("PRAGMA max_page_count = 1"))
        for number in range(1, 500):
            record(tx, 0, number)

    with pytest.raises(StoreUnavailable, match="full"):
        await store.write(without_room)
    assert not store.failed.is_set()
    await until(lambda: store.is_healthy)
    await store.write(lambda tx: record(tx, 0, 1))
    found = await store.read(lambda tx: sessions.events_of(tx, "CS1", "tx-0"))
    assert [event.seq_no for event in found] == [0, 1]
    await store.close()
