"""What each station holds of the local authorization list, as far as it told us."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from csms.core.local_list import ListEntry, ListLimits
from csms.core.model import LinkState, Station
from csms.store import stations, tables
from csms.store.desk_tables import local_list as _L
from csms.store.desk_tables import local_list_entry as _E
from csms.store.statements import Tx

_S = tables.station
IN_STEP, BEHIND, REFUSED, NOT_SUPPORTED = "in step", "behind", "refused", "not supported"
NO_LIMITS = ListLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalList:
    """A station's list. `version` is the station's; `is_ours` says that we know what it holds.

    `state` is "in step", "behind", "refused" or "not supported"; `detail` is the station's word.
    `link_id` is the link on which its version was last asked for.
    """

    station_id: str
    version: int = 0
    is_ours: bool = False
    state: str = "behind"
    detail: str = ""
    firmware_version: str = ""
    limits: ListLimits = NO_LIMITS
    link_id: int = 0
    checked_at: datetime


_PLAIN = [f.name for f in fields(LocalList) if f.name != "limits"]
_LIMITS = [f.name for f in fields(ListLimits)]


def find(tx: Tx, station_id: str) -> LocalList | None:
    """Return a station's list, None before it was first looked at."""
    row = tx.execute(
        select(*(_L.c[n] for n in (*_PLAIN, *_LIMITS))).where(_L.c.station_id == station_id)
    ).first()
    return None if row is None else _list(row._mapping)


def of_linked(tx: Tx, *, all_of_them: bool) -> list[tuple[Station, LocalList | None]]:
    """Return the linked stations that lists are kept for, each with its list.

    Unless all are asked for, only those whose list is not in step or was looked at on an earlier
    link, or that had none with another firmware: nearly always nobody.
    """
    statement = (
        select(_S.c.station_id, *(_L.c[n].label(f"list_{n}") for n in (*_PLAIN, *_LIMITS)))
        .select_from(_S.outerjoin(_L, _L.c.station_id == _S.c.station_id))
        .where(
            _S.c.link_state == LinkState.ONLINE,
            _S.c.automation.is_(True),
            _S.c.registration == "Accepted",
        )
        .order_by(_S.c.station_id)
    )
    if not all_of_them:
        has_none = _L.c.state == NOT_SUPPORTED
        statement = statement.where(
            _L.c.station_id.is_(None)
            | (has_none & (_L.c.firmware_version != _S.c.firmware_version))
            | (~has_none & ((_L.c.link_id != _S.c.link_id) | (_L.c.state != IN_STEP)))
        )
    rows = tx.execute(statement).all()
    return [(stations.get_station(tx, row.station_id), _joined(row._mapping)) for row in rows]


def _joined(row: Any) -> LocalList | None:
    if row["list_station_id"] is None:
        return None
    return _list({name: row[f"list_{name}"] for name in (*_PLAIN, *_LIMITS)})


def keep(tx: Tx, found: LocalList) -> None:
    """Store a station's list without its entries."""
    values: dict[str, Any] = {name: getattr(found, name) for name in _PLAIN}
    values |= {name: getattr(found.limits, name) for name in _LIMITS}
    tx.upsert(_L, ["station_id"], values)


def entries(tx: Tx, station_id: str) -> dict[tuple[str, str], ListEntry]:
    """Return what a station holds."""
    found = tx.execute(
        select(_E).where(_E.c.station_id == station_id).order_by(_E.c.kind, _E.c.value)
    )
    held = (
        ListEntry(
            value=row.value,
            kind=row.kind,
            status=row.status,
            expires_at=row.expires_at,
            group=row.group_token,
        )
        for row in found
    )
    return {entry.key: entry for entry in held}


def put_entries(
    tx: Tx,
    station_id: str,
    given: Iterable[ListEntry],
    *,
    removed: Iterable[ListEntry] = (),
    is_full: bool = False,
) -> None:
    """Store what a station took: a full list replaces all it held."""
    if is_full:
        tx.execute(delete(_E).where(_E.c.station_id == station_id))
    for entry in removed:
        tx.execute(
            delete(_E).where(
                _E.c.station_id == station_id, _E.c.kind == entry.kind, _E.c.value == entry.value
            )
        )
    rows = [
        {
            "station_id": station_id,
            "kind": e.kind,
            "value": e.value,
            "status": e.status,
            "expires_at": e.expires_at,
            "group_token": e.group,
        }
        for e in given
    ]
    tx.upsert_all(_E, ["station_id", "kind", "value"], rows)


def _list(row: Any) -> LocalList:
    return LocalList(
        **{name: row[name] for name in _PLAIN},
        limits=ListLimits(**{name: row[name] for name in _LIMITS}),
    )
