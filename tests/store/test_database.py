"""Writing in groups, and what happens when the database cannot."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from csms.core.device import VariableFact, VariableName
from csms.core.errors import ConfigError, NotFound, StoreUnavailable, UnknownStation
from csms.core.model import Evse
from csms.store import device_model, stations
from csms.store.database import MAX_GROUP, Store
from csms.store.statements import Tx
from tests.store.values import NOON, a_site, until


def add_site(site_id: str) -> Callable[[Tx], str]:
    """Return a unit that stores a site and returns its id."""

    def work(tx: Tx) -> str:
        stations.upsert_site(tx, a_site(site_id=site_id))
        return site_id

    return work


def ids(tx: Tx) -> list[str]:
    return [site.site_id for site in stations.list_sites(tx)]


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


async def test_a_write_returns_what_its_work_returned(store: Store) -> None:
    assert await store.write(add_site("a")) == "a"


async def test_another_connection_sees_the_row_when_the_write_returns(
    store: Store, database_url: str
) -> None:
    await store.write(add_site("a"))
    connect = sqlite3.connect if database_url.startswith("sqlite") else psycopg.connect
    other = connect(
        str(path_of(database_url)) if database_url.startswith("sqlite") else database_url
    )
    found = other.cursor().execute("SELECT site_id FROM site").fetchall()
    other.close()
    assert found == [("a",)]


class Gate:
    """A unit that keeps the writer busy until it is opened, so that others have to queue."""

    def __init__(self, store: Store) -> None:
        self._entered, self._open = threading.Event(), threading.Event()
        self._task = asyncio.create_task(store.write(self._hold))

    def _hold(self, tx: Tx) -> None:
        self._entered.set()
        assert self._open.wait(8), "nobody opened the gate"

    async def closed(self) -> None:
        await asyncio.to_thread(self._entered.wait, 8)

    async def open(self) -> None:
        self._open.set()
        await self._task


async def test_units_that_wait_together_share_one_commit(store: Store) -> None:
    before = store.commits
    gate = Gate(store)
    await gate.closed()
    others = [asyncio.create_task(store.write(add_site(f"{n:03}"))) for n in range(100)]
    await until(lambda: store.queued == 100)
    await gate.open()
    await asyncio.gather(*others)
    assert store.commits - before == 2
    assert len(await store.read(ids)) == 100


async def test_a_group_is_bounded(store: Store) -> None:
    before = store.commits
    gate = Gate(store)
    await gate.closed()
    others = [asyncio.create_task(store.write(lambda tx: None)) for _ in range(MAX_GROUP + 1)]
    await until(lambda: store.queued == MAX_GROUP + 1)
    await gate.open()
    await asyncio.gather(*others)
    assert store.commits - before == 3


async def test_a_queue_that_is_full_refuses_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csms.store.database.MAX_QUEUED", 5)
    gate = Gate(store)
    await gate.closed()
    others = [asyncio.create_task(store.write(add_site(f"{n}"))) for n in range(5)]
    await until(lambda: store.queued == 5)
    with pytest.raises(StoreUnavailable, match="5 writes are waiting"):
        await store.write(add_site("too many"))
    await gate.open()
    await asyncio.gather(*others)
    assert await store.read(ids) == ["0", "1", "2", "3", "4"]


async def test_units_of_a_group_run_in_the_order_they_were_queued(store: Store) -> None:
    seen: list[int] = []
    await asyncio.gather(*(store.write(lambda tx, n=n: seen.append(n)) for n in range(50)))
    assert seen == list(range(50))


async def test_one_bad_unit_fails_alone(store: Store) -> None:
    def bad(tx: Tx) -> None:
        stations.upsert_site(tx, a_site(site_id="half done"))
        raise NotFound("this one is bad")

    results = await asyncio.gather(
        *(store.write(add_site(f"before {n}")) for n in range(3)),
        store.write(bad),
        *(store.write(add_site(f"after {n}")) for n in range(3)),
        return_exceptions=True,
    )
    assert [r for r in results if isinstance(r, BaseException)] == [results[3]]
    assert isinstance(results[3], NotFound)
    assert await store.read(ids) == [
        *(f"after {n}" for n in range(3)),
        *(f"before {n}" for n in range(3)),
    ]


async def test_what_is_about_a_station_that_was_removed_is_told_so(store: Store) -> None:
    fact = VariableFact(name=VariableName(component="C", variable="V"), status="Accepted")
    results = await asyncio.gather(
        store.write(add_site("a")),
        store.write(
            lambda tx: stations.upsert_evse(tx, Evse(station_id="gone", evse_id=1, max_kw=1))
        ),
        store.write(lambda tx: device_model.put_fact(tx, "gone", fact, at=NOON)),
        store.write(add_site("b")),
        return_exceptions=True,
    )
    assert [type(r) for r in results] == [str, UnknownStation, UnknownStation, str]
    assert await store.read(ids) == ["a", "b"]
    assert store.is_healthy


async def test_a_unit_whose_statement_is_wrong_fails_alone(store: Store) -> None:
    results = await asyncio.gather(
        store.write(add_site("a")),
        store.write(lambda tx: tx.execute(text("SELECT nothing FROM nowhere"))),
        store.write(add_site("b")),
        return_exceptions=True,
    )
    assert results[0] == "a"
    assert "nowhere" in str(results[1])
    assert results[2] == "b"
    assert await store.read(ids) == ["a", "b"]
    assert store.is_healthy


async def test_many_bad_units_do_not_keep_the_good_ones_from_being_stored(store: Store) -> None:
    def bad(tx: Tx) -> None:
        raise NotFound("bad")

    results = await asyncio.gather(
        *(store.write(bad if n % 3 else add_site(f"{n:02}")) for n in range(60)),
        return_exceptions=True,
    )
    assert sum(isinstance(r, NotFound) for r in results) == 40
    assert await store.read(ids) == [f"{n:02}" for n in range(0, 60, 3)]


async def test_reading_cannot_write(store: Store) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"):
        await store.read(add_site("a"))
    assert await store.read(ids) == []


async def test_a_read_sees_one_state_of_the_database(store: Store) -> None:
    loop = asyncio.get_running_loop()

    def twice(tx: Tx) -> tuple[int, int]:
        first = len(ids(tx))
        asyncio.run_coroutine_threadsafe(store.write(add_site("between")), loop).result(5)
        return first, len(ids(tx))

    assert await store.read(twice) == (0, 0)
    assert await store.read(ids) == ["between"]


async def test_what_a_caller_no_longer_waits_for_is_stored_all_the_same(store: Store) -> None:
    task = asyncio.create_task(store.write(add_site("a")))
    await asyncio.sleep(0)
    task.cancel()
    await store.write(add_site("b"))
    assert await store.read(ids) == ["a", "b"]


async def test_closing_writes_what_is_queued(database_url: str) -> None:
    store = await Store.open(database_url)
    tasks = [asyncio.create_task(store.write(add_site(f"{n:02}"))) for n in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*tasks) == [f"{n:02}" for n in range(20)]
    again = await Store.open(database_url)
    assert len(await again.read(ids)) == 20
    await again.close()


async def test_a_closed_store_takes_nothing(database_url: str) -> None:
    store = await Store.open(database_url)
    await store.close()
    await store.close()
    assert not store.is_healthy
    with pytest.raises(StoreUnavailable):
        await store.write(add_site("a"))
    with pytest.raises(StoreUnavailable):
        await store.read(ids)


# --- the database is locked, away or failing -----------------------------------------------------


async def test_a_locked_sqlite_delays_a_write(sqlite_url: str) -> None:
    store = await Store.open(sqlite_url, hold_s=10)
    other = lock(sqlite_url)
    waiting = asyncio.create_task(store.write(add_site("a")))
    await until(lambda: not store.is_healthy)
    assert not waiting.done()
    other.rollback()
    assert await asyncio.wait_for(waiting, 5) == "a"
    assert store.is_healthy
    await store.close()


async def test_a_sqlite_locked_for_too_long_refuses_and_then_recovers_by_itself(
    sqlite_url: str,
) -> None:
    store = await Store.open(sqlite_url, hold_s=0.2)
    other = lock(sqlite_url)
    with pytest.raises(StoreUnavailable, match="locked"):
        await asyncio.wait_for(store.write(add_site("a")), 5)
    assert not store.is_healthy
    assert await store.read(ids) == []
    other.rollback()
    # Nobody writes: the store tries by itself.
    await until(lambda: store.is_healthy)
    assert await store.write(add_site("b")) == "b"
    assert await store.read(ids) == ["b"]
    assert not store.failed.is_set()
    await store.close()


def lock(url: str) -> sqlite3.Connection:
    other = sqlite3.connect(path_of(url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


async def test_a_locked_table_in_postgresql_delays_a_write(postgres_url: str) -> None:
    store = await Store.open(postgres_url, hold_s=10)
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE site IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(store.write(add_site("a")))
        await until(lambda: not store.is_healthy)
        assert not waiting.done()
        other.rollback()
    assert await asyncio.wait_for(waiting, 8) == "a"
    assert store.is_healthy
    await store.close()


async def test_a_lost_postgresql_connection_is_made_again(postgres_url: str) -> None:
    store = await Store.open(postgres_url)
    await store.write(add_site("a"))
    assert await store.read(ids) == ["a"]
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await asyncio.wait_for(store.write(add_site("b")), 10) == "b"
    assert await asyncio.wait_for(store.read(ids), 10) == ["a", "b"]
    assert store.is_healthy
    await store.close()


# --- opening -------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "sqlite:///:memory:", "nonsense"])
async def test_a_url_that_is_no_store_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"\[store\] url"):
        await Store.open(url)


async def test_a_file_in_a_directory_that_is_not_there_is_a_configuration_error(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match="not a directory"):
        await Store.open(f"sqlite:///{tmp_path / 'missing' / 'tasco.db'}")


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        await Store.open("postgresql://tasco:secret@127.0.0.1:1/tasco")
