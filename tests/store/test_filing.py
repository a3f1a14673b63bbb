"""What is filed late is found as if it had been filed at once, before and after."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select, text

from csms.store import energy, filing, filing_tables, samples, sessions, tables
from csms.store.database import Store
from csms.store.sessions import EventStored
from csms.store.statements import Tx
from tests.store.values import NOON, TRANSACTION, a_sample, a_session, an_update, later

OTHER = "another-transaction"


async def bring(store: Store, numbers: range, *, transaction_id: str = TRANSACTION) -> None:
    """Store one update and one sample for each number, ten in a group."""
    session_id = f"s-{transaction_id}"

    def work(tx: Tx, some: range) -> None:
        session = sessions.by_transaction(tx, "CS1", transaction_id)
        if session is None:
            session = sessions.open_session(
                tx, a_session(session_id, transaction_id=transaction_id, meter_start_wh=0.0)
            )
        for number in some:
            sessions.append_event(tx, an_update(number, transaction_id=transaction_id))
            samples.append_samples(tx, session, [a_sample(number, energy_wh=float(number))])

    for first in range(numbers.start, numbers.stop, 10):
        some = range(first, min(first + 10, numbers.stop))
        await store.write(lambda tx, n=some: work(tx, n))


async def waiting(store: Store) -> tuple[int, int]:
    """Return how many messages and samples are not filed yet."""

    def count(tx: Tx) -> tuple[int, int]:
        found = tx.execute(
            select(
                select(func.count()).select_from(tables.session_event).scalar_subquery()
                - select(func.count()).select_from(filing_tables.event_key).scalar_subquery(),
                select(func.count()).select_from(filing_tables.sample_tail).scalar_subquery(),
            )
        ).one()
        return int(found[0]), int(found[1])

    return await store.read(count)


async def test_everything_is_found_by_transaction_and_session_however_much_came(
    store: Store,
) -> None:
    many = filing.MOST + 35
    await bring(store, range(40), transaction_id=OTHER)
    await bring(store, range(many))
    await bring(store, range(40, 60), transaction_id=OTHER)
    for name, count in ((TRANSACTION, many), (OTHER, 60)):
        events = await store.read(lambda tx, n=name: sessions.events_of(tx, "CS1", n))
        assert [event.seq_no for event in events] == list(range(count))
        kept = await store.read(lambda tx, n=name: samples.samples(tx, f"s-{n}"))
        assert kept == [a_sample(number, energy_wh=float(number)) for number in range(count)]
        assert await store.read(lambda tx, n=name: sessions.missing_numbers(tx, "CS1", n)) == 0


async def test_a_part_of_the_samples_is_the_same_part_wherever_they_are(store: Store) -> None:
    await bring(store, range(filing.MOST - 5))
    # One that was offline brings old samples after the newer ones were filed.
    await bring(store, range(filing.MOST, filing.MOST + 20))
    await bring(store, range(filing.MOST - 5, filing.MOST))

    async def within(since: int, until: int, limit: int = 1_000) -> list[float | None]:
        found = await store.read(
            lambda tx: samples.samples(
                tx, f"s-{TRANSACTION}", since=later(since), until=later(until), limit=limit
            )
        )
        return [sample.energy_wh for sample in found]

    last = filing.MOST + 20
    assert await within(last - 30, last) == [float(n) for n in range(last - 30, last)]
    assert await within(last - 30, last, 12) == [float(n) for n in range(last - 30, last - 18)]
    assert await within(0, 5) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert await within(last, last + 9) == []


async def test_a_repeat_and_a_conflict_are_known_filed_or_not(store: Store) -> None:
    await bring(store, range(filing.MOST + 15))
    for number in (3, filing.MOST + 7):
        report = an_update(number)
        again = await store.write(lambda tx, r=report: sessions.append_event(tx, r))
        assert again is EventStored.REPEAT
        other = replace(report, digest=f"other {number}")
        stored = await store.write(lambda tx, r=other: sessions.append_event(tx, r))
        assert stored is EventStored.CONFLICT
    events = await store.read(lambda tx: sessions.events_of(tx, "CS1", TRANSACTION))
    assert len(events) == filing.MOST + 17
    assert [e.seq_no for e in events if e.is_conflict] == [3, filing.MOST + 7]


async def test_the_first_of_two_samples_of_an_instant_stays(store: Store) -> None:
    await bring(store, range(10))
    session = await store.read(lambda tx: sessions.by_transaction(tx, "CS1", TRANSACTION))
    assert session is not None
    twin = a_sample(4, energy_wh=99.0)
    for _ in range(2):
        await store.write(lambda tx: samples.append_samples(tx, session, [twin, twin]))
        kept = await store.read(lambda tx: samples.samples(tx, f"s-{TRANSACTION}"))
        assert [sample.energy_wh for sample in kept] == [float(n) for n in range(10)]
        # Filed by the fold; the second round meets the filed one.
        await store.write(lambda tx: energy.fold_energy(tx, "depot", NOON, later(900)))


async def test_no_more_waits_than_may_wait_also_after_a_restart(sqlite_url: str) -> None:
    store = await Store.open(sqlite_url)
    await bring(store, range(filing.MOST - 20))
    assert await waiting(store) == (filing.MOST - 20, filing.MOST - 20)
    await store.close()
    store = await Store.open(sqlite_url)
    await bring(store, range(filing.MOST - 20, filing.MOST))
    # The first message of a transaction after a start files what waited, to know what was said.
    assert await waiting(store) == (20, 0)
    await bring(store, range(filing.MOST, filing.MOST * 2))
    events, left = await waiting(store)
    assert events < filing.MOST
    assert left == 0
    filed = text("SELECT up_to - (SELECT max(event_id) FROM event_key) FROM filed")
    assert await store.read(lambda tx: tx.execute(filed).scalar_one()) == 0
    await store.close()


async def test_a_group_that_fails_files_nothing_and_loses_nothing(sqlite_url: str) -> None:
    store = await Store.open(sqlite_url)
    await bring(store, range(filing.MOST - 10))

    def broken(tx: Tx) -> None:
        filing.file_events(tx)
        filing.file_samples(tx)
        raise RuntimeError("after filing")

    with pytest.raises(RuntimeError, match="after filing"):
        await store.write(broken)
    assert await waiting(store) == (filing.MOST - 10, filing.MOST - 10)
    await bring(store, range(filing.MOST - 10, filing.MOST))
    assert await waiting(store) == (0, 0)
    kept = await store.read(lambda tx: samples.samples(tx, f"s-{TRANSACTION}"))
    assert len(kept) == filing.MOST
    await store.close()
