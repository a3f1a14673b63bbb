"""Sessions and the transaction messages they are made of.

What arrives twice is stored once, by unique key, and a transaction id is always looked up under
the station that named it: an id given to another station ends nothing here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, func, literal_column, select

from csms.core.errors import Conflict, UnknownSession
from csms.core.messages import SessionReport, SessionStarted, SessionUpdated
from csms.core.model import OcppVersion, Session, SessionState
from csms.store import filing, tables
from csms.store import session_rows as rows
from csms.store.columns import EPOCH, at_from, text_from, us_from
from csms.store.filing_tables import event_key
from csms.store.pages import Page, newest_first
from csms.store.statements import Hot, Tx, parameter, parameters

_T = tables.session
_E = tables.session_event
_K = event_key
_O = tables.orphan


class EventStored(Enum):
    """What storing a transaction message found."""

    NEW = "new"
    REPEAT = "repeat"
    """The same content is on record already; nothing was stored."""
    CONFLICT = "conflict"
    """Stored, and marked: the same number came before with other content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """A transaction message as it is on record; `seq_no` is None in 1.6."""

    event_id: int
    station_id: str
    transaction_id: str
    seq_no: int | None
    action: str
    at: datetime
    received_at: datetime
    trigger: str
    is_offline: bool
    is_conflict: bool
    payload: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A message about a transaction that is not on record."""

    orphan_id: int
    station_id: str
    transaction_id: str
    action: str
    at: datetime
    received_at: datetime
    payload: str


# --- opening -------------------------------------------------------------------------------------


def start_key(report: SessionStarted) -> str:
    """Return what a 1.6 start is known by under its station.

    The meter reading is part of it because stations without a clock send 1970 for each start.
    """
    token = "" if report.id_token is None else report.id_token.value
    return f"{report.evse_id} {us_from(report.at)} {report.meter_start_wh!r} {token}"


def find_start(tx: Tx, report: SessionStarted) -> Session | None:
    """Return the session that `report` started when it came before, None if it is new."""
    if report.version is OcppVersion.V16:
        found = tx.row(rows.BY_START, (report.station_id, start_key(report)))
        return None if found is None else rows.session_from(found)
    return by_transaction(tx, report.station_id, report.transaction_id)


def open_session(tx: Tx, session: Session, *, report: SessionStarted | None = None) -> Session:
    """Store a new session and return it with its number; in 1.6 also with its transaction id.

    The number is positive, below 2^31, rises and is never used twice, also when its row is gone.
    `report` is the 1.6 start it came from, by which a repeat will be known; look with `find_start`
    first. Raises an integrity error if the station has the transaction already.
    """
    is_numbered = session.version is OcppVersion.V16 and report is not None
    key = start_key(report) if is_numbered and report is not None else None
    # The number is known only after the insert; until then a value no station can send holds the
    # place, and the transaction hides it from everybody else.
    draft = replace(session, transaction_id=f"\n{session.session_id}") if is_numbered else session
    values = (
        *rows.fixed_values(draft),
        *rows.indexed_values(draft),
        *rows.plain_values(draft),
        key,
    )
    row = tx.row(rows.INSERT, values)
    assert row is not None, "INSERT ... RETURNING returned no row"
    number = int(row[0])
    if not is_numbered:
        return _remembered(tx, replace(session, number=number))
    tx.run(rows.NAME, (str(number), number))
    return _remembered(tx, replace(session, number=number, transaction_id=str(number)))


def save(tx: Tx, session: Session) -> None:
    """Store a session's fields, but those it keeps for good: ids, station, version, `received_at`.

    Raises UnknownSession if it was never opened.
    """
    before: Session | None = tx.memory.get((session.station_id, session.transaction_id))
    if (
        before is not None
        and before.number == session.number
        and rows.is_measured_only(before, session)
    ):
        tx.later(rows.UPDATE_MEASURED, (*rows.measured_values(session), session.number))
        _remembered(tx, session)
        return
    if not tx.run(rows.UPDATE, (*rows.plain_values(session), session.number)):
        raise UnknownSession(f"no session {session.session_id}")
    indexed = rows.indexed_values(session)
    if before is None or before.number != session.number or rows.indexed_values(before) != indexed:
        tx.run(rows.UPDATE_INDEXED, (*indexed, session.number))
    _remembered(tx, session)


def close_session(tx: Tx, session_id: str, *, at: datetime, reason: str) -> Session:
    """End a session that its station will not end, and return it.

    Raises UnknownSession, or Conflict if it has ended already.
    """
    session = get(tx, session_id)
    if session.state is SessionState.ENDED:
        raise Conflict(f"session {session_id} ended at {session.ended_at}")
    ended = replace(session, state=SessionState.ENDED, ended_at=at, stop_reason=reason, power_w=0.0)
    save(tx, ended)
    return ended


# --- finding -------------------------------------------------------------------------------------


def get(tx: Tx, session_id: str) -> Session:
    """Return the session `session_id`; raise UnknownSession."""
    found = tx.row(rows.BY_ID, (session_id,))
    if found is None:
        raise UnknownSession(f"no session {session_id}")
    return rows.session_from(found)


def by_transaction(tx: Tx, station_id: str, transaction_id: str) -> Session | None:
    """Return the session of a station's transaction; never that of another station."""
    known: Session | None = tx.memory.get((station_id, transaction_id))
    if known is not None:
        return known
    found = tx.row(rows.BY_TRANSACTION, (station_id, transaction_id))
    return None if found is None else _remembered(tx, rows.session_from(found))


def _remembered(tx: Tx, session: Session) -> Session:
    """Keep an open session at hand for the next message of its transaction."""
    key = (session.station_id, session.transaction_id)
    if session.state is SessionState.OPEN:
        tx.memory.put(key, session)
    else:
        tx.memory.forget(key)
    return session


def open_sessions_of_site(tx: Tx, site_id: str) -> list[Session]:
    """Return the open sessions of a site, oldest first."""
    return [rows.session_from(r) for r in tx.rows(rows.OF_SITE, (site_id, SessionState.OPEN))]


def open_sessions_of_holder(tx: Tx, holder_did: str) -> list[Session]:
    """Return the open sessions of a holder, oldest first; none for the empty DID."""
    if not holder_did:
        return []
    found = tx.rows(rows.OF_HOLDER, (holder_did, SessionState.OPEN))
    return [rows.session_from(r) for r in found]


def open_sessions_of_token(tx: Tx, spellings: Sequence[str]) -> list[Session]:
    """Return the open sessions begun with a token in one of its spellings, oldest first."""
    statement = rows.STORED_SELECT.where(
        _T.c.id_token.in_(spellings), _T.c.state == SessionState.OPEN
    ).order_by(_T.c.number)
    return [rows.session_from(tuple(r)) for r in tx.execute(statement)]


def open_session_on_evse(tx: Tx, station_id: str, evse_id: int) -> Session | None:
    """Return the newest open session on an EVSE."""
    found = tx.row(rows.ON_EVSE, (station_id, evse_id, SessionState.OPEN))
    return None if found is None else rows.session_from(found)


def finished_sessions(tx: Tx, site_id: str, since: datetime, until: datetime) -> list[Session]:
    """Return the sessions of a site that ended in [since, until), in that order."""
    found = tx.rows(rows.ENDED, (site_id, us_from(since), us_from(until)))
    return [rows.session_from(r) for r in found]


def overlapping_sessions(tx: Tx, site_id: str, since: datetime, until: datetime) -> list[Session]:
    """Return the sessions of a site that were open at some time in [since, until)."""
    found = tx.rows(rows.OVERLAPPING, (site_id, us_from(until), us_from(since)))
    return [rows.session_from(r) for r in found]


def list_transactions(
    tx: Tx,
    *,
    station_id: str = "",
    id_token: str = "",
    open_: bool | None = None,
    limit: int = 50,
    cursor: str = "",
) -> Page[Session]:
    """Return OCPP transactions, newest first; `id_token` is the token as presented."""
    filters: list[ColumnElement[bool]] = []
    if station_id:
        filters.append(_T.c.station_id == station_id)
    if id_token:
        filters.append(_T.c.id_token == id_token)
    if open_ is not None:
        filters.append(_T.c.state == (SessionState.OPEN if open_ else SessionState.ENDED))
    return _page(tx, filters, limit=limit, cursor=cursor)


def list_sessions(
    tx: Tx,
    *,
    site_id: str = "",
    holder_did: str = "",
    state: SessionState | None = None,
    limit: int = 50,
    cursor: str = "",
) -> Page[Session]:
    """Return sessions, newest first."""
    filters: list[ColumnElement[bool]] = []
    if site_id:
        filters.append(_T.c.site_id == site_id)
    if holder_did:
        filters.append(_T.c.holder_did == holder_did)
    if state is not None:
        filters.append(_T.c.state == state)
    return _page(tx, filters, limit=limit, cursor=cursor)


def _page(tx: Tx, filters: list[Any], *, limit: int, cursor: str) -> Page[Session]:
    page = newest_first(
        tx,
        rows.STORED_SELECT,
        key=_T.c.number,
        filters=filters,
        limit=limit,
        cursor=cursor,
    )
    found = tuple(rows.session_from(tuple(r)) for r in page.rows)
    return Page(items=found, total=page.total, cursor=page.cursor)


# --- transaction messages ------------------------------------------------------------------------

_EVENT = (
    "station_id",
    "transaction_id",
    "seq_no",
    "digest",
    "action",
    "at",
    "received_at",
    "trigger",
    "is_offline",
    "payload",
    "flags",
)
# A number that came before with other content is a conflict; -1 stands for no number at all.
_INSERT_EVENT = Hot(
    lambda insert: (
        insert(_E)
        .values(
            **parameters(_E, _EVENT),
            is_conflict=select(_E.c.event_id)
            .where(
                parameter(_E.c.seq_no) >= literal_column("0"),
                _E.c.station_id == parameter(_E.c.station_id),
                _E.c.transaction_id == parameter(_E.c.transaction_id),
                _E.c.seq_no == parameter(_E.c.seq_no),
            )
            .correlate(None)
            .exists(),
        )
        .on_conflict_do_nothing(index_elements=["station_id", "transaction_id", "seq_no", "digest"])
        .returning(_E.c.is_conflict)
    ),
    _EVENT,
)
_NEW_EVENT = (*_EVENT, "is_conflict")
_APPEND_EVENT = Hot(
    lambda insert: insert(_E).values(parameters(_E, _NEW_EVENT)),
    _NEW_EVENT,
    then=filing.events_came,
)
_OF_TRANSACTION = (
    _K.c.station_id == parameter(_K.c.station_id),
    _K.c.transaction_id == parameter(_K.c.transaction_id),
)
_OF_NUMBER = (*_OF_TRANSACTION, _K.c.seq_no == parameter(_K.c.seq_no))
_IS_KNOWN = Hot(
    lambda insert: select(_K.c.event_id).where(*_OF_NUMBER, _K.c.digest == parameter(_K.c.digest)),
    ("station_id", "transaction_id", "seq_no", "digest"),
)
_IS_TAKEN = Hot(
    lambda insert: select(_K.c.event_id).where(*_OF_NUMBER),
    ("station_id", "transaction_id", "seq_no"),
)
_LATEST = Hot(
    lambda insert: select(func.max(_E.c.seq_no), func.max(_E.c.at)).where(
        _E.c.event_id.in_(select(_K.c.event_id).where(*_OF_TRANSACTION))
    ),
    ("station_id", "transaction_id"),
)


def append_event(tx: Tx, report: SessionReport, *, transaction_id: str = "") -> EventStored:
    """Store a transaction message once, and say whether it is new, a repeat or a conflict.

    `transaction_id` replaces the report's own, for the 1.6 start that has none yet. In 2.0.1 a
    message is known by station, transaction and number, its content compared by digest; in 1.6 by
    station, transaction and digest.
    """
    transaction_id = transaction_id or report.transaction_id
    values = (
        report.station_id,
        transaction_id,
        -1 if report.seq_no is None else report.seq_no,
        report.digest,
        report.action,
        us_from(report.at),
        us_from(report.received_at),
        report.trigger,
        report.is_offline,
        report.payload,
        text_from(report.flags),
    )
    if tx.dialect != "sqlite":
        row = tx.row(_INSERT_EVENT, values)
        if row is None:
            return EventStored.REPEAT
        return EventStored.CONFLICT if row[0] else EventStored.NEW
    is_conflict = False
    if not _comes_after_all(tx, report, transaction_id):
        filing.file_events(tx)
        if tx.row(_IS_KNOWN, values[:4]) is not None:
            return EventStored.REPEAT
        is_conflict = values[2] >= 0 and tx.row(_IS_TAKEN, values[:3]) is not None
    tx.later(_APPEND_EVENT, (*values, is_conflict))
    return EventStored.CONFLICT if is_conflict else EventStored.NEW


def _comes_after_all(tx: Tx, report: SessionReport, transaction_id: str) -> bool:
    """Return whether nothing on record can be the same message, without looking for it.

    It is so for a number above all numbers of its transaction; in 1.6 for a time after all its
    times, since a repeat has the time of the first. Only an update without a sample has no time
    of its own. Highest number and time are remembered from message to message. In SQLite only:
    elsewhere other nodes write too.
    """
    if report.seq_no is None and not report.samples and isinstance(report, SessionUpdated):
        return False
    key = ("latest event", report.station_id, transaction_id)
    known: tuple[int, datetime] | None = tx.memory.get(key)
    if known is None:
        filing.file_events(tx)
        found = tx.row(_LATEST, (report.station_id, transaction_id))
        assert found is not None, "an aggregate returned no row"
        known = (-1, EPOCH) if found[0] is None else (found[0], at_from(found[1]))
    highest, latest_at = known
    number = -1 if report.seq_no is None else report.seq_no
    tx.memory.put(key, (max(number, highest), max(report.at, latest_at)))
    return number > highest if report.seq_no is not None else report.at > latest_at


def events_of(tx: Tx, station_id: str, transaction_id: str) -> list[StoredEvent]:
    """Return the messages of a transaction by number, then in the order they came."""
    found = tx.execute(
        select(_E)
        .where(filing.is_of_transaction(tx, station_id, transaction_id))
        .order_by(_E.c.seq_no, _E.c.event_id)
    )
    return [
        StoredEvent(
            event_id=row.event_id,
            station_id=row.station_id,
            transaction_id=row.transaction_id,
            seq_no=None if row.seq_no < 0 else row.seq_no,
            action=row.action,
            at=row.at,
            received_at=row.received_at,
            trigger=row.trigger,
            is_offline=row.is_offline,
            is_conflict=row.is_conflict,
            payload=row.payload,
            flags=row.flags,
        )
        for row in found
    ]


def missing_numbers(tx: Tx, station_id: str, transaction_id: str) -> int:
    """Return how many messages of a 2.0.1 transaction are still to come, as its numbers tell.

    Stations begin at 0 or 1, so what precedes the lowest number is not counted.
    """
    found = tx.execute(
        select(_E.c.seq_no)
        .where(filing.is_of_transaction(tx, station_id, transaction_id), _E.c.seq_no >= 0)
        .distinct()
    )
    numbers = [int(n) for n in found.scalars()]
    return max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0


def with_message(tx: Tx, station_id: str, digest: str) -> Session | None:
    """Return which of a station's latest transactions has a message of this content."""
    latest = list_transactions(tx, station_id=station_id, limit=20).items
    found = tx.execute(
        select(_E.c.transaction_id).where(
            _E.c.station_id == station_id,
            _E.c.transaction_id.in_([s.transaction_id for s in latest]),
            _E.c.digest == digest,
        )
    ).scalar()
    return next((s for s in latest if s.transaction_id == found), None)


def station_of_number(tx: Tx, transaction_id: str) -> str:
    """Return the station of a 1.6 transaction, whoever it is, "" if there is none."""
    if not transaction_id.isdecimal() or len(transaction_id) > 10:
        return ""
    found = tx.execute(
        select(_T.c.station_id).where(
            _T.c.number == int(transaction_id), _T.c.version == OcppVersion.V16
        )
    ).scalar()
    return found or ""


def keep_orphan(tx: Tx, report: SessionReport) -> bool:
    """Keep a message about an unknown transaction; return False if it is kept already."""
    statement = (
        tx.insert(_O)
        .values(
            station_id=report.station_id,
            transaction_id=report.transaction_id,
            digest=report.digest,
            action=report.action,
            at=report.at,
            received_at=report.received_at,
            payload=report.payload,
        )
        .on_conflict_do_nothing(index_elements=["station_id", "transaction_id", "digest"])
        .returning(_O.c.orphan_id)
    )
    return tx.execute(statement).first() is not None


def list_orphans(
    tx: Tx, *, station_id: str = "", limit: int = 50, cursor: str = ""
) -> Page[Orphan]:
    """Return the orphans, newest first."""
    columns = [_O.c[name] for name in Orphan.__dataclass_fields__]
    filters = [_O.c.station_id == station_id] if station_id else []
    page = newest_first(
        tx, select(*columns), key=_O.c.orphan_id, filters=filters, limit=limit, cursor=cursor
    )
    found = tuple(Orphan(**row._mapping) for row in page.rows)
    return Page(items=found, total=page.total, cursor=page.cursor)
