"""What stations noticed, as they told it, and the alerts that are open because of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from csms.core.device import StationEvent, VariableName
from csms.store import bounds
from csms.store import device_tables as tables
from csms.store.columns import us_from
from csms.store.pages import Page, newest_first
from csms.store.purging import purge
from csms.store.statements import Hot, Tx, parameter

_E = tables.device_event
_A = tables.alert


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStationEvent:
    """An event with its three times and the severity of the monitor that raised it."""

    event_key: int
    station_id: str
    event: StationEvent
    corrected_at: datetime
    received_at: datetime
    severity: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something at a station that wants attention, open while `closed_at` is None.

    `subject` says what ("ConnectorPlugRetentionLock.Problem"), `detail` the station's own words.
    Severity runs from 0 (danger) to 9 (debug), None where nobody said one.
    """

    alert_id: int
    site_id: str
    station_id: str
    evse_id: int
    connector_id: int
    subject: str
    detail: str
    severity: int | None
    event_id: int | None
    cause_id: int | None
    opened_at: datetime
    closed_at: datetime | None


def add_event(
    tx: Tx,
    station_id: str,
    event: StationEvent,
    *,
    corrected_at: datetime,
    received_at: datetime,
    severity: int | None,
) -> bool:
    """Keep an event; return False if the same one is kept already."""
    values = asdict(event)
    row = {
        "station_id": station_id,
        **values.pop("name"),
        **values,
        "corrected_at": corrected_at,
        "received_at": received_at,
        "severity": severity,
    }
    statement = (
        tx.insert(_E)
        .values(**row)
        .on_conflict_do_nothing(index_elements=["station_id", "event_id", "at"])
        .returning(_E.c.event_key)
    )
    return tx.execute(statement).first() is not None


def list_events(
    tx: Tx, *, station_id: str, limit: int = 50, cursor: str = ""
) -> Page[StoredStationEvent]:
    """Return a station's events, newest first."""
    page = newest_first(
        tx,
        select(_E),
        key=_E.c.event_key,
        filters=[_E.c.station_id == station_id],
        limit=limit,
        cursor=cursor,
    )
    items = tuple(_event(row._mapping) for row in page.rows)
    return Page(items=items, total=page.total, cursor=page.cursor)


def _event(mapping: Mapping[str, Any]) -> StoredStationEvent:
    values = dict(mapping)
    name = VariableName(**{part: values.pop(part) for part in tables.NAME})
    outer = {
        key: values.pop(key)
        for key in ("event_key", "station_id", "corrected_at", "received_at", "severity")
    }
    return StoredStationEvent(event=StationEvent(name=name, **values), **outer)


def purge_events(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of events older than `before`, of alerts closed before; return how many."""
    return purge(tx, _E, _E.c.received_at < before) + purge(tx, _A, _A.c.closed_at < before)


# --- alerts --------------------------------------------------------------------------------------


def open_alert(
    tx: Tx,
    *,
    site_id: str,
    station_id: str,
    subject: str,
    at: datetime,
    evse_id: int = 0,
    connector_id: int = 0,
    detail: str = "",
    severity: int | None = None,
    event_id: int | None = None,
    cause_id: int | None = None,
) -> bool:
    """Open an alert, or bring up to date the one that is open; return whether it is new."""
    row = {
        "detail": detail,
        "severity": severity,
        "event_id": event_id,
        "cause_id": cause_id,
    }
    changed = tx.execute(
        update(_A).where(*_open(station_id, evse_id, connector_id, subject)).values(**row)
    ).rowcount
    if changed:
        return False
    is_open = _A.c.closed_at.is_(None)
    if not bounds.has_room(tx, _A, station_id, is_open, most=bounds.MAX_OPEN_ALERTS):
        return False
    tx.execute(
        _A.insert().values(
            site_id=site_id,
            station_id=station_id,
            evse_id=evse_id,
            connector_id=connector_id,
            subject=subject,
            opened_at=at,
            **row,
        )
    )
    return True


def close_alert(
    tx: Tx,
    *,
    station_id: str,
    subject: str,
    at: datetime,
    evse_id: int = 0,
    connector_id: int = 0,
) -> bool:
    """Close the open alert on a subject; return whether there was one."""
    return bool(tx.run(_CLOSE, (us_from(at), station_id, evse_id, connector_id, subject)))


_PLACE = ("station_id", "evse_id", "connector_id", "subject")
_CLOSE = Hot(
    lambda insert: (
        update(_A)
        .values(closed_at=parameter(_A.c.closed_at))
        .where(*(_A.c[name] == parameter(_A.c[name]) for name in _PLACE), _A.c.closed_at.is_(None))
    ),
    ("closed_at", *_PLACE),
)


def close_everywhere(tx: Tx, *, subject: str, at: datetime) -> None:
    """Close the open alerts on a subject at all stations."""
    tx.execute(
        update(_A).where(_A.c.subject == subject, _A.c.closed_at.is_(None)).values(closed_at=at)
    )


def close_alerts_like(
    tx: Tx, *, station_id: str, prefix: str, evse_id: int, connector_id: int, at: datetime
) -> None:
    """Close the open alerts of a connector whose subject begins with `prefix`."""
    pattern = prefix.replace("/", "//").replace("%", "/%").replace("_", "/_") + "%"
    tx.run(_CLOSE_LIKE, (us_from(at), station_id, evse_id, connector_id, pattern))


_CLOSE_LIKE = Hot(
    lambda insert: (
        update(_A)
        .values(closed_at=parameter(_A.c.closed_at))
        .where(*(_A.c[name] == parameter(_A.c[name]) for name in _PLACE[:-1]))
        .where(_A.c.subject.like(parameter(_A.c.subject), escape="/"), _A.c.closed_at.is_(None))
    ),
    ("closed_at", *_PLACE),
)


def _open(station_id: str, evse_id: int, connector_id: int, subject: str) -> list[Any]:
    return [
        _A.c.station_id == station_id,
        _A.c.evse_id == evse_id,
        _A.c.connector_id == connector_id,
        _A.c.subject == subject,
        _A.c.closed_at.is_(None),
    ]


def list_alerts(
    tx: Tx,
    *,
    station_id: str = "",
    site_id: str = "",
    is_open: bool | None = None,
    limit: int = 50,
    cursor: str = "",
) -> Page[Alert]:
    """Return alerts, newest first; open ones, closed ones or (None) both."""
    filters: list[Any] = []
    if station_id:
        filters.append(_A.c.station_id == station_id)
    if site_id:
        filters.append(_A.c.site_id == site_id)
    if is_open is not None:
        filters.append(_A.c.closed_at.is_(None) if is_open else _A.c.closed_at.is_not(None))
    page = newest_first(
        tx,
        select(*(_A.c[f.name] for f in fields(Alert))),
        key=_A.c.alert_id,
        filters=filters,
        limit=limit,
        cursor=cursor,
    )
    found = tuple(Alert(**row._mapping) for row in page.rows)
    return Page(items=found, total=page.total, cursor=page.cursor)
