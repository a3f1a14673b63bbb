"""What few messages say of a session, and meter messages as they came."""

from dataclasses import dataclass, fields
from datetime import datetime
from hashlib import blake2b
from typing import Any

from sqlalchemy import select

from csms.core.messages import MeterReported
from csms.store import detail_tables as tables
from csms.store.purging import purge
from csms.store.statements import Tx

_D = tables.session_detail
_M = tables.meter_message


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDetail:
    """Rarely said and rarely read; None where nobody said it.

    `total_cost` is what the station was told that the transaction costs, in the site's currency.
    """

    reservation_id: int | None = None
    phases_used: int | None = None
    cable_max_current_a: float | None = None
    total_cost: float | None = None


_FIELDS = tuple(f.name for f in fields(SessionDetail))


def note(tx: Tx, session_number: int, **said: Any) -> None:
    """Keep the fields of SessionDetail in `said`; the others stay as they are."""
    tx.upsert(_D, ["session_number"], {"session_number": session_number, **said})


def detail_of(tx: Tx, session_number: int) -> SessionDetail:
    """Return what is known beside the session's own row."""
    row = tx.execute(
        select(*(_D.c[name] for name in _FIELDS)).where(_D.c.session_number == session_number)
    ).first()
    return SessionDetail() if row is None else SessionDetail(**row._mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterMessage:
    """Meter values outside a transaction as they came."""

    evse_id: int
    received_at: datetime
    payload: str


def keep_meter_message(tx: Tx, report: MeterReported) -> None:
    """Keep the message of `report` once, however often it comes."""
    digest = blake2b(report.payload.encode(), digest_size=16).hexdigest()
    values = {
        "station_id": report.station_id,
        "evse_id": report.evse_id,
        "digest": digest,
        "received_at": report.received_at,
        "payload": report.payload,
    }
    statement = tx.insert(_M).values(values)
    tx.execute(statement.on_conflict_do_nothing(index_elements=["station_id", "digest"]))


def purge_meter_messages(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of meter messages that came before `before`; return how many."""
    return purge(tx, _M, _M.c.received_at < before)


def meter_messages(
    tx: Tx, station_id: str, *, evse_id: int | None = None, limit: int = 100
) -> list[MeterMessage]:
    """Return the newest meter messages of a station, or of one of its EVSEs, oldest first."""
    statement = select(_M.c.evse_id, _M.c.received_at, _M.c.payload).where(
        _M.c.station_id == station_id
    )
    if evse_id is not None:
        statement = statement.where(_M.c.evse_id == evse_id)
    found = tx.execute(statement.order_by(_M.c.message_key.desc()).limit(limit)).all()
    return [MeterMessage(**row._mapping) for row in reversed(found)]
