"""Reservations as stations were asked for them, one row each from sending on."""

from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import func, literal_column, or_, select, update

from csms.core.errors import NotFound
from csms.core.model import IdToken
from csms.core.reservation import OPEN, Reservation, ReservationState
from csms.store.desk_tables import reservation as _R
from csms.store.lookup import Lookup
from csms.store.pages import Page, newest_first
from csms.store.statements import Tx

_PLAIN = [f.name for f in fields(Reservation) if f.name not in ("id_token", "group")]
_COLUMNS = [*(_R.c[n] for n in _PLAIN), _R.c.id_token, _R.c.id_token_kind, _R.c.group_token]


def _reservation(**row: Any) -> Reservation:
    return Reservation(
        **{name: row[name] for name in _PLAIN},
        id_token=IdToken(value=row["id_token"], kind=row["id_token_kind"]),
        group=row["group_token"],
    )


_OPEN_OF_STATION = Lookup(
    _reservation,
    _COLUMNS,
    by=[_R.c.station_id],
    narrow=lambda found: found.where(
        or_(*(_R.c.state == literal_column(f"'{state}'") for state in sorted(OPEN)))
    ).order_by(_R.c.number),
)


def next_id(tx: Tx) -> int:
    """Return an id that no reservation of any station has had."""
    found = tx.execute(select(func.max(_R.c.reservation_id))).scalar_one()
    return int(found or 0) + 1


def keep(tx: Tx, found: Reservation) -> None:
    """Store a reservation, replacing the station's earlier one of the same id."""
    values: dict[str, Any] = {name: getattr(found, name) for name in _PLAIN}
    values |= {
        "id_token": found.id_token.value,
        "id_token_kind": found.id_token.kind,
        "group_token": found.group,
    }
    tx.upsert(_R, ["station_id", "reservation_id"], values)


def find(tx: Tx, station_id: str, reservation_id: int) -> Reservation | None:
    """Return a station's reservation, None if it has none of that id."""
    row = tx.execute(
        select(*_COLUMNS).where(
            _R.c.station_id == station_id, _R.c.reservation_id == reservation_id
        )
    ).first()
    return None if row is None else _reservation(**row._mapping)


def get(tx: Tx, reservation_id: int, *, station_id: str = "") -> Reservation:
    """Return the newest reservation of that id, of a station if it is named; raise NotFound."""
    statement = select(*_COLUMNS).where(_R.c.reservation_id == reservation_id)
    if station_id:
        statement = statement.where(_R.c.station_id == station_id)
    row = tx.execute(statement.order_by(_R.c.number.desc())).first()
    if row is None:
        raise NotFound(f"no reservation {reservation_id}")
    return _reservation(**row._mapping)


def open_of_station(tx: Tx, station_id: str) -> list[Reservation]:
    """Return the reservations of a station that may still be used, oldest first."""
    return _OPEN_OF_STATION.all(tx, station_id)


def change(
    tx: Tx,
    found: Reservation,
    state: ReservationState,
    *,
    at: datetime,
    reason: str = "",
    session_id: str = "",
) -> None:
    """Move a reservation to `state`."""
    tx.execute(
        update(_R)
        .where(_R.c.station_id == found.station_id, _R.c.reservation_id == found.reservation_id)
        .values(state=state, reason=reason, changed_at=at, session_id=session_id)
    )


def expire(tx: Tx, *, now: datetime) -> int:
    """Close the reservations whose hour is over; return how many."""
    return int(
        tx.execute(
            update(_R)
            .where(_R.c.state.in_(list(OPEN)), _R.c.expires_at <= now)
            .values(state=ReservationState.EXPIRED, changed_at=now)
        ).rowcount
    )


def list_reservations(
    tx: Tx, *, station_id: str = "", is_open: bool = False, limit: int = 50, cursor: str = ""
) -> Page[Reservation]:
    """Return reservations, newest first."""
    filters = []
    if station_id:
        filters.append(_R.c.station_id == station_id)
    if is_open:
        filters.append(_R.c.state.in_(list(OPEN)))
    page = newest_first(
        tx,
        select(*_COLUMNS, _R.c.number),
        key=_R.c.number,
        filters=filters,
        limit=limit,
        cursor=cursor,
    )
    found = tuple(_reservation(**row._mapping) for row in page.rows)
    return Page(items=found, total=page.total, cursor=page.cursor)
