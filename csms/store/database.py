"""The store: one thread writes, a few read, and an answer follows the commit that holds it.

The writer takes all units that are queued, runs them in one transaction and commits once, so the
disk's flush is shared; groups form by themselves while the previous flush runs. The loop is woken
once per group. What a failure means is decided here and nowhere else:

- a unit that raises fails alone: what came before it is committed, what comes after goes on;
- a database that is locked, full or away is tried again until a unit has waited `hold_s`;
- a SQLite flush that failed is never tried again, since which pages reached the disk is unknown:
  the store stops for good, `failed` is set, and the process has to recover by restarting;
- a PostgreSQL commit that was cut off may or may not have happened: the units run again, and
  unique keys make the second time harmless.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from csms.core.errors import StoreUnavailable, UnknownStation
from csms.store.connections import (
    READERS,
    Fault,
    fault_of,
    is_full,
    is_of_removed,
    parsed,
    reading_engine,
    said,
    writing_engine,
)
from csms.store.schema import upgrade
from csms.store.statements import Memory, Postponed, Tx

T = TypeVar("T")

log = logging.getLogger(__name__)

MAX_GROUP = 500
MAX_QUEUED = 20_000
MAX_REMEMBERED = 20_000
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 1.0
_UNKNOWN = -1


class _Unit:
    """A piece of work, who waits for it, and what came of it."""

    __slots__ = ("error", "future", "is_settled", "queued_at", "result", "tries", "work")

    def __init__(self, work: Callable[[Tx], Any], future: "asyncio.Future[Any]") -> None:
        self.work = work
        self.future = future
        self.queued_at = time.monotonic()
        self.result: Any = None
        self.error: Exception | None = None
        self.tries = 0
        self.is_settled = False


class _Passing(Exception):
    """The database cannot take the group now; nothing of it is recorded as far as we know."""


class _FlushFailed(Exception):
    """A commit failed in a way that leaves unknown what is on disk."""


class Store:
    """An open database. Made by `open`; belongs to the event loop it was opened in."""

    def __init__(self, writing: Engine, reading: Engine, *, hold_s: float, window_s: float) -> None:
        """Start the writer; `open` is the way to get here."""
        self.failed = asyncio.Event()
        """Set when the store has stopped for good; the process has to leave service."""
        self.commits = 0
        self.units = 0
        self.last_commit_s = 0.0
        self._hold_s = hold_s
        self._window_s = window_s
        self._loop = asyncio.get_running_loop()
        # Units go from list to list: `_fresh` is the loop's, `_rest` and `_group` the writer's.
        self._fresh: list[_Unit] = []
        self._rest: list[_Unit] = []
        self._came = 0
        self._taken = 0
        self._has_ended = False
        self._queue: SimpleQueue[list[_Unit] | None] = SimpleQueue()
        self._is_healthy = True
        self._is_closed = False
        self._why = ""
        self._delay_s = _FIRST_DELAY_S
        self._group: list[_Unit] = []
        self._writer = _Writer(writing)
        self._reading = reading
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")
        self._thread = threading.Thread(target=self._work, name="store-write", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, url: str, *, hold_s: float = 15.0, window_s: float = 0.0) -> "Store":
        """Bring the schema of `url` up to date and return the open store.

        `hold_s` is how long a write waits for a database that cannot take it; `window_s` how long
        the writer waits for company after the first unit (0: groups form by themselves).
        Raises ConfigError for a URL or a schema that cannot be used, StoreUnavailable if the
        database cannot be reached.
        """
        place = parsed(url)
        writing = writing_engine(place)
        try:
            await asyncio.to_thread(upgrade, writing)
        except DBAPIError as error:
            writing.dispose()
            raise StoreUnavailable(f"the database cannot be opened: {said(error)}") from error
        return cls(writing, reading_engine(place), hold_s=hold_s, window_s=window_s)

    @property
    def is_healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self._is_healthy and not self.failed.is_set() and not self._is_closed

    @property
    def queued(self) -> int:
        """How many units wait for the writer."""
        return self._came - self._taken

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction and return its result once that is durable.

        `work` runs in the writer's thread. It touches nothing but its Tx and may run twice, once
        in a group that is rolled back. What it raises is raised here, with nothing of it stored.
        Raises StoreUnavailable if nothing could be recorded in time, UnknownStation if the work is
        about a station that was removed meanwhile.
        """
        if self.failed.is_set() or self._is_closed:
            raise StoreUnavailable(self._why or "the store is closed")
        if self.queued >= MAX_QUEUED:
            raise StoreUnavailable(f"{MAX_QUEUED} writes are waiting already")
        future: asyncio.Future[T] = self._loop.create_future()
        self._fresh.append(_Unit(work, future))
        self._came += 1
        if len(self._fresh) == 1:
            # What this turn of the loop brings goes over together: the writer is woken once, and
            # does not begin on the first while the loop reads the others.
            self._loop.call_soon(self._hand_over)
        return await future

    def _hand_over(self) -> None:
        if self._fresh:
            self._queue.put(self._fresh)
            self._fresh = []
            if self._has_ended:
                self._refuse(self._left(), self._why)

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on one snapshot of the database, on a connection that cannot write.

        `work` runs in a reader's thread; it may run twice. Raises StoreUnavailable if the
        database cannot be read.
        """
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        return await self._loop.run_in_executor(self._readers, self._read, work)

    async def close(self) -> None:
        """Write what is queued, then close; later writes and reads get StoreUnavailable."""
        if self._is_closed:
            return
        self._is_closed = True
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._reading.dispose()

    # --- the reading threads -------------------------------------------------------------------

    def _read(self, work: Callable[[Tx], T]) -> T:
        try:
            return self._read_once(work)
        except _Passing:
            log.info("store reads again after a fault")
        try:
            return self._read_once(work)
        except _Passing as error:
            raise StoreUnavailable(f"the database cannot be read: {error}") from error

    def _read_once(self, work: Callable[[Tx], T]) -> T:
        raw: Any = None
        connection: Connection | None = None
        try:
            connection = self._reading.connect()
            raw = connection.connection.driver_connection
            cursor = raw.cursor()
            try:
                if connection.dialect.name == "sqlite":
                    cursor.execute("BEGIN")
                return work(Tx(connection, cursor, Memory(0)))
            finally:
                cursor.close()
        except Exception as error:
            fault = fault_of(error, raw)
            if fault is Fault.WORK:
                raise
            if fault is Fault.LOST and connection is not None:
                # What broke one idle connection (a restart) broke the others.
                connection.invalidate()
                self._reading.dispose()
            raise _Passing(said(error)) from error
        finally:
            if connection is not None:
                # Returning a connection to its pool rolls back: a snapshot has nothing to commit.
                connection.close()

    # --- the writing thread --------------------------------------------------------------------

    def _work(self) -> None:
        try:
            closing = False
            while not closing:
                group, closing = self._take()
                if group:
                    self._record(group)
                elif not self._is_healthy and not closing:
                    self._record([])
        except _FlushFailed as error:
            log.critical("store failed", extra={"why": str(error)})
            self._give_up(f"a flush to disk failed ({error}); restart to recover")
        except BaseException as error:
            log.critical("store writer ended", exc_info=True)
            self._give_up(f"the writer ended: {error}")
        finally:
            self._writer.close()

    def _take(self) -> tuple[list[_Unit], bool]:
        """Return everything that is queued, after waiting for the first, and whether to end."""
        group, self._rest = self._rest, []
        closing = False
        try:
            while len(group) < MAX_GROUP and not closing:
                if group:
                    units = self._queue.get_nowait()
                else:
                    # A store that failed tries by itself whether it can write again.
                    units = self._queue.get(timeout=None if self._is_healthy else self._delay_s)
                    if self._window_s:
                        time.sleep(self._window_s)
                closing = units is None
                group += units or ()
        except Empty:
            pass
        self._rest = group[MAX_GROUP:]
        del group[MAX_GROUP:]
        self._taken += len(group)
        return group, closing

    def _record(self, group: list[_Unit]) -> None:
        """Settle every unit of `group`, in order; an empty group is a test of health."""
        self._group = group
        work = deque([group])
        while work:
            units = work.popleft()
            try:
                bad = self._attempt(units)
            except _Passing as error:
                self._weaken(str(error))
                left = self._without_expired(units)
                if left:
                    work.appendleft(left)
                    time.sleep(self._delay_s)
                    self._delay_s = min(self._delay_s * 2, _LONGEST_DELAY_S)
                continue
            if bad is None:
                self._recover()
                self._settle(units)
            elif len(units) == 1:
                self._settle(units)
            elif bad == _UNKNOWN:
                work.extendleft([unit] for unit in reversed(units))
            else:
                parts = units[:bad], units[bad : bad + 1], units[bad + 1 :]
                work.extendleft(part for part in reversed(parts) if part)

    def _attempt(self, units: list[_Unit]) -> int | None:
        """Run and commit `units`; return the place of one that raised, after a rollback.

        The place is _UNKNOWN where a statement put off by one of several units failed.
        """
        writer = self._writer
        began = time.monotonic()
        place = 0
        try:
            tx = writer.begin()
            if not units:
                writer.probe()
            while place < len(units):
                units[place].error = None
                units[place].result = units[place].work(tx)
                place += 1
            tx.finish()
        except Exception as error:
            cause = error.cause if isinstance(error, Postponed) else error
            if writer.abandon(cause) is not Fault.WORK:
                raise _Passing(said(cause)) from error
            if not units:
                raise
            if isinstance(error, Postponed):
                if len(units) > 1:
                    # Whose it was shows when each unit has a transaction of its own.
                    return _UNKNOWN
                place = 0
            unit = units[place]
            # A station may be removed at any moment, also while it is being written about.
            gone = is_of_removed(cause)
            unit.error = UnknownStation("the station was removed") if gone else cause
            unit.tries += 1
            if isinstance(cause, IntegrityError) and len(units) == 1 and unit.tries < 3:
                # Another node may have stored the same thing first; the next look will find it.
                return self._attempt(units)
            return place
        writer.commit()
        self.commits += 1
        self.units += len(units)
        self.last_commit_s = time.monotonic() - began
        return None

    def _weaken(self, why: str) -> None:
        if self._is_healthy:
            log.warning("store cannot write", extra={"why": why})
        self._why = f"the database cannot take a write: {why}"
        self._is_healthy = False

    def _recover(self) -> None:
        if not self._is_healthy:
            log.info("store writes again")
            self._is_healthy = True
            self._why = ""
            self._delay_s = _FIRST_DELAY_S

    def _without_expired(self, units: list[_Unit]) -> list[_Unit]:
        oldest = time.monotonic() - self._hold_s
        expired = [unit for unit in units if unit.queued_at <= oldest]
        if expired:
            self._refuse(expired, self._why)
        return [unit for unit in units if unit.queued_at > oldest]

    def _refuse(self, units: list[_Unit], why: str) -> None:
        for unit in units:
            unit.error = StoreUnavailable(why)
        self._settle(units)

    def _give_up(self, why: str) -> None:
        self._why = why
        self._is_healthy = False
        self._has_ended = True
        waiting = [unit for unit in self._group if not unit.is_settled]
        self._tell(self.failed.set)
        self._refuse(waiting + self._rest + self._left(), why)

    def _left(self) -> list[_Unit]:
        """Return what is in the queue and nobody will take any more."""
        left: list[_Unit] = []
        while True:
            try:
                left += self._queue.get_nowait() or ()
            except Empty:
                return left

    def _settle(self, units: list[_Unit]) -> None:
        for unit in units:
            unit.is_settled = True
        if units:
            self._tell(lambda: _answer(units))

    def _tell(self, what: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:
            # The loop is gone, and with it whoever waited.
            log.warning("store outlived its event loop")


def _answer(units: list[_Unit]) -> None:
    for unit in units:
        if unit.future.done():
            continue
        if unit.error is None:
            unit.future.set_result(unit.result)
        else:
            unit.future.set_exception(unit.error)


class _Writer:
    """The one connection that writes, made again when it was lost."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._raw: Any = None
        self._cursor: Any = None
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._memory = Memory(MAX_REMEMBERED)
        self._version = -1

    def begin(self) -> Tx:
        if self._connection is None:
            self._connection = self._engine.connect()
            self._raw = self._connection.connection.driver_connection
            self._cursor = self._raw.cursor()
        if self._is_sqlite:
            self._cursor.execute("BEGIN IMMEDIATE")
            # Changes when another connection has written, such as the command line's.
            version = self._cursor.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:
                self._version = version
                self._memory.clear()
        else:
            # Other nodes write too; nothing read before this transaction can be relied on.
            self._memory.clear()
        return Tx(self._connection, self._cursor, self._memory)

    def probe(self) -> None:
        """Make the transaction one that has to reach the disk."""
        self._cursor.execute("UPDATE probe SET writes = (writes + 1) % 1000000")

    def commit(self) -> None:
        """Commit durably; raise _Passing or _FlushFailed."""
        try:
            self._raw.commit()
            self._memory.committed()
        except Exception as error:
            full = is_full(error)
            self.drop()
            if self._is_sqlite and not full:
                raise _FlushFailed(said(error)) from error
            # Full: SQLite was told by a write, before any flush, so nothing is half known; a new
            # connection overwrites the unfinished frames. PostgreSQL: unknown, and idempotent.
            raise _Passing(said(error)) from error
        connection = self._connection
        if connection is not None and connection.in_transaction():
            connection.commit()

    def abandon(self, error: Exception) -> Fault:
        """Roll back after `error` and return what it means."""
        self._memory.rolled_back()
        fault = fault_of(error, self._raw)
        if fault is Fault.LOST or self._connection is None:
            self.drop()
            return fault
        try:
            self._raw.rollback()
            if self._connection.in_transaction():
                self._connection.rollback()
        except Exception as second:
            log.warning("store rollback failed", extra={"why": said(second)})
            self.drop()
            return Fault.LOST if fault is Fault.WORK else fault
        return fault

    def drop(self) -> None:
        """Forget a connection that is not to be used again."""
        self._memory.clear()
        self._version = -1
        connection, self._connection = self._connection, None
        cursor, self._cursor = self._cursor, None
        self._raw = None
        if connection is not None:
            try:
                # A cursor that an error still refers to would keep SQLite's lock.
                if cursor is not None:
                    cursor.close()
                connection.invalidate()
                connection.close()
            except Exception as error:
                log.warning("store connection did not close", extra={"why": str(error)})

    def close(self) -> None:
        """Close the connection in good order."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                self._cursor.close()
                connection.close()
        except Exception as error:
            log.warning("store connection did not close", extra={"why": str(error)})
        self._engine.dispose()
