"""One centre leads on a store, and one that is gone is replaced."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from csms.core.errors import Conflict
from csms.service.tenure import CENTRE, Tenure, clear_left_over
from csms.store import leases
from csms.store.database import Store

LEASE_S = 1.0


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """Yield an open store on each database."""
    store = await Store.open(database_url)
    yield store
    await store.close()


def a_tenure(store: Store, holder: str) -> Tenure:
    return Tenure(store, holder, lease_s=LEASE_S)


async def holder(store: Store) -> str:
    found = await store.read(lambda tx: leases.get_lease(tx, CENTRE))
    return "" if found is None else found.holder


async def test_a_second_centre_is_refused_while_the_first_lives(store: Store) -> None:
    first = a_tenure(store, "one")
    await first.take()
    living = asyncio.create_task(first.run())
    with pytest.raises(Conflict, match="one is the centre of this store"):
        await a_tenure(store, "two").take()
    with pytest.raises(Conflict):
        await clear_left_over(store, lease_s=LEASE_S)
    assert first.holds()
    living.cancel()


async def test_a_centre_that_was_killed_is_replaced_after_its_lease(store: Store) -> None:
    killed, second = a_tenure(store, "one"), a_tenure(store, "two")
    await killed.take()
    began = time.monotonic()
    await second.take()
    assert LEASE_S <= time.monotonic() - began < LEASE_S + 5
    assert second.holds()
    # Were it only asleep, it would decide nothing since long, and end when it wakes.
    assert not killed.holds()
    with pytest.raises(Conflict):
        await killed.run()
    assert await holder(store) == "two"


async def test_a_lease_that_was_released_is_taken_at_once(store: Store) -> None:
    first = a_tenure(store, "one")
    await first.take()
    await first.release()
    assert not first.holds()
    began = time.monotonic()
    await a_tenure(store, "two").take()
    assert time.monotonic() - began < LEASE_S / 2


async def test_of_two_that_come_at_once_one_leads(store: Store) -> None:
    await a_tenure(store, "killed").take()

    async def lead(tenure: Tenure) -> None:
        await tenure.take()
        await tenure.run()

    both = {name: a_tenure(store, name) for name in ("one", "two")}
    tasks = {name: asyncio.create_task(lead(t)) for name, t in both.items()}
    done, _ = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED, timeout=10)
    (refused,) = done
    assert isinstance(refused.exception(), Conflict)
    leads = await holder(store)
    assert [name for name, t in both.items() if t.holds()] == [leads]
    tasks[leads].cancel()


async def test_a_single_process_clears_the_lease_of_a_centre_that_is_gone(store: Store) -> None:
    await clear_left_over(store, lease_s=LEASE_S)
    await a_tenure(store, "killed").take()
    await clear_left_over(store, lease_s=LEASE_S)
    assert await holder(store) == ""


async def test_beats_move_with_each_renewal(store: Store) -> None:
    first = a_tenure(store, "one")
    await first.take()
    living = asyncio.create_task(first.run())
    async with asyncio.timeout(10):
        while True:
            found = await store.read(lambda tx: leases.get_lease(tx, CENTRE))
            if found is not None and found.beats > 3:
                break
            await asyncio.sleep(0.05)
    living.cancel()
