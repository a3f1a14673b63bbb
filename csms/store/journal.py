"""What is kept as it came: messages without a rule of their own, vendor data, events."""

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import select

from csms.core.masking import masked_text
from csms.core.messages import RecordReceived, Report, VendorMessage
from csms.core.model import Event, OcppVersion
from csms.store import tables
from csms.store.pages import Page, newest_first
from csms.store.purging import purge
from csms.store.statements import Tx

_R = tables.record
_V = tables.vendor_message
_E = tables.event


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A message as it came."""

    record_id: int
    station_id: str
    version: OcppVersion
    action: str
    payload: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVendorMessage:
    """A DataTransfer and the status it was answered with; `message_key` is ours."""

    message_key: int
    station_id: str
    vendor_id: str
    message_id: str
    data: str | None
    status: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event with the number it is stored under."""

    event_id: int
    event: Event


# --- messages as they came -----------------------------------------------------------------------


def add_record(tx: Tx, report: RecordReceived) -> None:
    """Keep a message as it came, but for secrets in it."""
    row = {
        "station_id": report.station_id,
        "version": report.version,
        "action": report.action,
        "payload": masked_text(report.payload),
        "at": report.received_at,
    }
    tx.execute(_R.insert(), [row])


def add_raw_record(tx: Tx, report: Report[Any], *, action: str, payload: str) -> None:
    """Keep a message that has a report of its own as it came, too."""
    version = tx.execute(
        select(tables.station.c.version).where(tables.station.c.station_id == report.station_id)
    ).scalar()
    row = {
        "station_id": report.station_id,
        "version": version or OcppVersion.V201,
        "action": action,
        "payload": masked_text(payload),
        "at": report.received_at,
    }
    tx.execute(_R.insert(), [row])


def list_records(
    tx: Tx, *, station_id: str = "", action: str = "", limit: int = 50, cursor: str = ""
) -> Page[StoredRecord]:
    """Return kept messages, newest first."""
    filters = []
    if station_id:
        filters.append(_R.c.station_id == station_id)
    if action:
        filters.append(_R.c.action == action)
    columns = [_R.c[f.name] for f in fields(StoredRecord)]
    page = newest_first(
        tx, select(*columns), key=_R.c.record_id, filters=filters, limit=limit, cursor=cursor
    )
    found = tuple(StoredRecord(**row._mapping) for row in page.rows)
    return Page(items=found, total=page.total, cursor=page.cursor)


# --- vendor data ---------------------------------------------------------------------------------


def add_vendor_message(tx: Tx, report: VendorMessage, *, status: str) -> None:
    """Keep a DataTransfer with the status it is answered with."""
    row = {
        "station_id": report.station_id,
        "vendor_id": report.vendor_id,
        "message_id": report.message_id,
        "data": report.data,
        "status": status,
        "at": report.received_at,
    }
    tx.execute(_V.insert(), [row])


def list_vendor_messages(
    tx: Tx, *, station_id: str = "", vendor_id: str = "", limit: int = 50, cursor: str = ""
) -> Page[StoredVendorMessage]:
    """Return vendor data, newest first."""
    filters = []
    if station_id:
        filters.append(_V.c.station_id == station_id)
    if vendor_id:
        filters.append(_V.c.vendor_id == vendor_id)
    columns = [_V.c[f.name] for f in fields(StoredVendorMessage)]
    page = newest_first(
        tx, select(*columns), key=_V.c.message_key, filters=filters, limit=limit, cursor=cursor
    )
    found = tuple(StoredVendorMessage(**row._mapping) for row in page.rows)
    return Page(items=found, total=page.total, cursor=page.cursor)


# --- events --------------------------------------------------------------------------------------


def add_event(tx: Tx, event: Event) -> None:
    """Keep an event for operators."""
    tx.execute(_E.insert(), [asdict(event)])


def list_events(
    tx: Tx,
    *,
    site_id: str = "",
    station_id: str = "",
    session_id: str = "",
    kind: str = "",
    level: str = "",
    limit: int = 50,
    cursor: str = "",
) -> Page[StoredEvent]:
    """Return events, newest first."""
    wanted = {
        "site_id": site_id,
        "station_id": station_id,
        "session_id": session_id,
        "kind": kind,
        "level": level,
    }
    filters = [_E.c[name] == value for name, value in wanted.items() if value]
    page = newest_first(
        tx, select(_E), key=_E.c.event_id, filters=filters, limit=limit, cursor=cursor
    )
    found = []
    for row in page.rows:
        values = dict(row._mapping)
        found.append(StoredEvent(event_id=values.pop("event_id"), event=Event(**values)))
    return Page(items=tuple(found), total=page.total, cursor=page.cursor)


def purge_journal(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of messages, vendor data and events older than `before`; return how many."""
    return sum(purge(tx, table, table.c.at < before) for table in (_R, _V, _E))
