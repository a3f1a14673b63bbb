"""Guards of a site worked out once for many stations, and never from an older look at the store."""

import asyncio
from pathlib import Path

import pytest

from csms.core.model import Evse, Site, Station
from csms.planning.guard import guards
from csms.service.guard_book import GuardBook
from csms.store import stations
from csms.store.database import Store
from csms.store.statements import Tx

COUNT = 60


def _fill(tx: Tx) -> None:
    stations.upsert_site(tx, Site(site_id="depot", limit_kw=900.0))
    for number in range(COUNT):
        _add(tx, number)


def _add(tx: Tx, number: int) -> None:
    station_id = f"C{number:03}"
    stations.register_station(tx, Station(station_id=station_id, site_id="depot"))
    stations.upsert_evse(tx, Evse(station_id=station_id, evse_id=1, max_kw=22.0))


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    opened = await Store.open(f"sqlite:///{tmp_path / 'book.sqlite3'}")
    await opened.write(_fill)
    return opened


async def test_many_that_ask_at_once_share_a_look_and_get_what_each_would_alone(
    store: Store,
) -> None:
    book = GuardBook(store, window_s=0.0)
    found = await asyncio.gather(*(book.of_station("depot", f"C{n:03}") for n in range(COUNT)))
    site, evses = await store.read(
        lambda tx: (stations.get_site(tx, "depot"), stations.evses_of_site(tx, "depot"))
    )
    assert [g for own in found for g in own] == list(guards(site, evses))
    assert book.looks <= 2
    assert book.fits == 1
    await store.close()


async def test_what_was_stored_before_the_question_always_counts(store: Store) -> None:
    book = GuardBook(store, window_s=0.0)
    (before,) = await book.of_station("depot", "C000")

    async def joined(number: int) -> None:
        await store.write(lambda tx: _add(tx, number))
        (own,) = await book.of_station("depot", f"C{number:03}")
        assert own.station_id == f"C{number:03}"

    await asyncio.gather(*(joined(COUNT + n) for n in range(20)))
    await store.write(lambda tx: stations.set_site_limit(tx, "depot", 5.0))
    (after,) = await book.of_station("depot", "C000")
    assert before.power_kw > after.power_kw == 0.0
    await store.close()
