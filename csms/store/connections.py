"""Engines for both databases, and what a failure of theirs means.

SQLite: WAL, synchronous=FULL, foreign keys, one connection that writes and begins IMMEDIATE
(with the default deferred BEGIN, ten concurrent read-then-write transactions gave nine "database
is locked"). PostgreSQL: psycopg, synchronous_commit=on, and time limits on everything that could
hang, since the one writer must never wait for ever.
"""

import sqlite3
from enum import Enum
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, NullPool, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from csms.core.errors import ConfigError

READERS = 4
_LOCK_WAIT_S = 1.0
"""Longest wait for somebody else's lock before the attempt counts as failed and is repeated."""

_PASSING_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
_FOREIGN_KEY_VIOLATION = "23503"
_PG_OPTIONS = (
    "-c synchronous_commit=on -c timezone=UTC -c statement_timeout=10s"
    " -c lock_timeout=1s -c idle_in_transaction_session_timeout=60s"
)
_PG_CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class Fault(Enum):
    """What a failed statement or commit says about the database."""

    WORK = "the work is at fault; others are not concerned"
    BUSY = "passes by itself; the connection is sound"
    LOST = "may pass; the connection is not to be used again"


def parsed(url: str) -> URL:
    """Return `url` with its driver; raise ConfigError if it is neither SQLite nor PostgreSQL."""
    try:
        found = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            "[store] url cannot be read; it must be sqlite:////path/to/file or postgresql://..."
        ) from error
    kind = found.drivername.split("+")[0]
    if kind == "sqlite":
        if not found.database or found.database == ":memory:":
            raise ConfigError("[store] url names no file; it must be sqlite:////path/to/file")
        folder = Path(found.database).parent
        if not folder.is_dir():
            raise ConfigError(f"[store] url is in {folder}, which is not a directory")
        return found.set(drivername="sqlite+pysqlite")
    if kind in ("postgresql", "postgres"):
        return found.set(drivername="postgresql+psycopg")
    raise ConfigError(
        f"[store] url is for {kind}; it must be sqlite:////path/to/file or postgresql://..."
    )


def writing_engine(url: URL) -> Engine:
    """Return the engine of the one connection that writes."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url,
            poolclass=NullPool,
            connect_args={
                "timeout": _LOCK_WAIT_S,
                "check_same_thread": False,
                # One text for each number of rows that comes together, for each hot statement.
                "cached_statements": 512,
            },
        )
        event.listen(engine, "connect", _prepare_sqlite_writer)
        return engine
    engine = create_engine(
        url, poolclass=NullPool, connect_args={**_PG_CONNECT, "options": _PG_OPTIONS}
    )
    event.listen(engine, "connect", _prepare_postgres)
    return engine


def reading_engine(url: URL) -> Engine:
    """Return the engine of the connections that only read, one snapshot per transaction."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=READERS,
            max_overflow=0,
            connect_args={"timeout": 5.0, "check_same_thread": False},
        )
        event.listen(engine, "connect", _prepare_sqlite_reader)
        return engine
    only_reads = " -c default_transaction_read_only=on"
    snapshot = " -c default_transaction_isolation=repeatable\\ read"
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=READERS,
        max_overflow=0,
        connect_args={**_PG_CONNECT, "options": _PG_OPTIONS + only_reads + snapshot},
    )
    event.listen(engine, "connect", _prepare_postgres)
    return engine


def fault_of(error: BaseException, raw: Any) -> Fault:
    """Return what `error`, raised while `raw` was the driver's connection, means."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code not in _PASSING_SQLITE:
            return Fault.WORK
        waits = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        return Fault.BUSY if waits else Fault.LOST
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return Fault.LOST
    names = {kind.__name__ for kind in type(cause).__mro__}
    # psycopg: OperationalError holds lost connections, shutdowns, lock and statement time-outs,
    # deadlocks, serialization failures and a full disk. A standby refuses writes by its own class.
    if not hasattr(cause, "sqlstate"):
        return Fault.WORK
    if getattr(raw, "closed", False):
        return Fault.LOST
    if names & {"OperationalError", "ReadOnlySqlTransaction", "InterfaceError"}:
        keeps = names & {
            "LockNotAvailable",
            "DeadlockDetected",
            "SerializationFailure",
            "QueryCanceled",
        }
        return Fault.BUSY if keeps else Fault.LOST
    return Fault.WORK


def said(error: BaseException) -> str:
    """Return the driver's own words about `error`, on one line."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(cause).split())


def is_of_removed(error: BaseException) -> bool:
    """Return whether a row names a parent that is not there; every parent is a station."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0)
        return bool(code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY)
    return bool(getattr(cause, "sqlstate", "") == _FOREIGN_KEY_VIOLATION)


def is_full(error: BaseException) -> bool:
    """Return whether SQLite had no room to write (ENOSPC from a write, never from a flush)."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", 0)
    return isinstance(cause, sqlite3.Error) and code == sqlite3.SQLITE_FULL


def _prepare_postgres(connection: Any, _record: object) -> None:
    """Let texts with U+0000 be kept, which PostgreSQL refuses: U+FFFD stands in its place."""
    plain: Any = connection.adapters.get_dumper(str, "s")

    class Text:
        format, oid = plain.format, plain.oid

        def __init__(self, cls: type, context: Any = None) -> None:
            inner = plain(cls, context)
            self._dump, self.quote, self.get_key = inner.dump, inner.quote, inner.get_key

        def dump(self, obj: str) -> Any:
            return self._dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)

        def upgrade(self, obj: str, format: Any) -> Any:
            return self

    connection.adapters.register_dumper(str, Text)


def _prepare_sqlite_writer(connection: sqlite3.Connection, _record: object) -> None:
    # None leaves BEGIN to us: the driver's own would be deferred, and take the lock too late.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-16384",
        "journal_size_limit=67108864",
        # 16 MB: a page that several groups change is copied back once, not once per group.
        "wal_autocheckpoint=4000",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _prepare_sqlite_reader(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("query_only=ON", "foreign_keys=ON", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}").close()
