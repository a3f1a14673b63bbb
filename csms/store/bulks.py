"""One thing asked of many stations: the order, and each station's own outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from csms.core.errors import NotFound
from csms.store import device_tables as tables
from csms.store.pages import Page, newest_first
from csms.store.purging import purge
from csms.store.statements import Tx

_B = tables.bulk
_I = tables.bulk_item


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """An order to many stations.

    `kind` is "command", "firmware" or "log"; `payload` is a raw command's JSON. `state` is
    "running", "done", "stopped" (too many failures) or "cancelled".
    """

    bulk_id: int
    kind: str
    action: str
    payload: str
    options: Mapping[str, object]
    at_once: int
    stop_after_failures: int
    state: str
    asked_by: str
    asked_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkItem:
    """One station's part: `state` is "waiting", "running", "done", "failed" or "skipped"."""

    bulk_id: int
    station_id: str
    place: int
    state: str
    outcome: str
    status: str
    error: str
    command_id: int | None
    request_key: int | None
    started_at: datetime | None
    finished_at: datetime | None


def add_bulk(
    tx: Tx,
    *,
    kind: str,
    action: str,
    payload: str,
    options: Mapping[str, object],
    at_once: int,
    stop_after_failures: int,
    station_ids: Sequence[str],
    by: str,
    at: datetime,
) -> int:
    """Store an order with one waiting item per station, and return its id."""
    values = {
        "kind": kind,
        "action": action,
        "payload": payload,
        "options": options,
        "at_once": at_once,
        "stop_after_failures": stop_after_failures,
        "state": "running",
        "asked_by": by,
        "asked_at": at,
    }
    bulk_id = int(tx.execute(_B.insert().values(**values).returning(_B.c.bulk_id)).scalar_one())
    tx.execute(
        _I.insert(),
        [
            {
                "bulk_id": bulk_id,
                "station_id": station_id,
                "place": place,
                "state": "waiting",
                "outcome": "",
                "status": "",
                "error": "",
            }
            for place, station_id in enumerate(station_ids)
        ],
    )
    return bulk_id


def get_bulk(tx: Tx, bulk_id: int) -> Bulk:
    """Return an order; raise NotFound."""
    row = tx.execute(select(_B).where(_B.c.bulk_id == bulk_id)).first()
    if row is None:
        raise NotFound(f"no job {bulk_id}")
    return Bulk(**row._mapping)


def list_bulks(tx: Tx, *, limit: int = 50, cursor: str = "") -> Page[Bulk]:
    """Return orders, newest first."""
    page = newest_first(tx, select(_B), key=_B.c.bulk_id, filters=[], limit=limit, cursor=cursor)
    found = tuple(Bulk(**row._mapping) for row in page.rows)
    return Page(items=found, total=page.total, cursor=page.cursor)


def running_bulks(tx: Tx) -> list[int]:
    """Return the orders that are not finished, oldest first."""
    found = tx.execute(select(_B.c.bulk_id).where(_B.c.state == "running").order_by(_B.c.bulk_id))
    return [int(row[0]) for row in found]


def list_items(tx: Tx, bulk_id: int, *, state: str = "") -> list[BulkItem]:
    """Return the stations of an order in its own order."""
    columns = [_I.c[f.name] for f in fields(BulkItem)]
    statement = select(*columns).where(_I.c.bulk_id == bulk_id).order_by(_I.c.place)
    if state:
        statement = statement.where(_I.c.state == state)
    return [BulkItem(**row._mapping) for row in tx.execute(statement)]


def counts(tx: Tx, bulk_id: int) -> dict[str, int]:
    """Return how many stations of an order are in each state."""
    found = tx.execute(
        select(_I.c.state, func.count().label("many"))
        .where(_I.c.bulk_id == bulk_id)
        .group_by(_I.c.state)
    )
    return {row.state: int(row.many) for row in found}


def purge_bulks(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of the parts of orders that ended before `before`, then the orders."""
    old = select(_B.c.bulk_id).where(_B.c.finished_at < before, _B.c.state != "running")
    return purge(tx, _I, _I.c.bulk_id.in_(old)) or purge(tx, _B, _B.c.bulk_id.in_(old))


def change_item(tx: Tx, bulk_id: int, station_id: str, **values: Any) -> None:
    """Change columns of a station's part."""
    tx.execute(
        update(_I).where(_I.c.bulk_id == bulk_id, _I.c.station_id == station_id).values(**values)
    )


def skip_waiting(tx: Tx, bulk_id: int, *, at: datetime, why: str) -> None:
    """Skip every station that has not begun."""
    tx.execute(
        update(_I)
        .where(_I.c.bulk_id == bulk_id, _I.c.state == "waiting")
        .values(state="skipped", error=why, finished_at=at)
    )


def finish_bulk(
    tx: Tx, bulk_id: int, state: str, *, options: Mapping[str, object], payload: str, at: datetime
) -> None:
    """Store how an order ended, with its options and its call as they may be kept."""
    tx.execute(
        update(_B)
        .where(_B.c.bulk_id == bulk_id)
        .values(state=state, options=options, payload=payload, finished_at=at)
    )
