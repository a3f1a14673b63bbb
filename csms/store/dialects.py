"""Dialects as kept: one row per item, source, and the station or model that it is about."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from csms.core.dialect import ASKED, DialectItem, Value, limits_of, winners
from csms.core.model import Station, StationLimits
from csms.store import smart_tables as tables
from csms.store import stations
from csms.store.columns import json_text
from csms.store.lookup import Lookup
from csms.store.statements import Tx

_D = tables.dialect_item
_KEY = ["station_id", "vendor", "model", "firmware", "name", "source"]


def put_item(tx: Tx, item: DialectItem) -> None:
    """Store an item, replacing what was stored of the same name and source."""
    values = {name: getattr(item, name) for name in DialectItem.__dataclass_fields__}
    tx.upsert(_D, _KEY, {**values, "value": json_text(item.value)})


def drop_item(
    tx: Tx,
    name: str,
    source: str,
    *,
    station_id: str = "",
    vendor: str = "",
    model: str = "",
    firmware: str | None = "",
) -> bool:
    """Delete an item, of every firmware with None; return whether there was one."""
    statement = delete(_D).where(
        _D.c.name == name,
        _D.c.source == source,
        _D.c.station_id == station_id,
        _D.c.vendor == vendor,
        _D.c.model == model,
    )
    if firmware is not None:
        statement = statement.where(_D.c.firmware == firmware)
    return bool(tx.execute(statement).rowcount)


def items_for(tx: Tx, station: Station) -> list[DialectItem]:
    """Return every item of a station and of its model, of whatever firmware."""
    of_model = _OF_MODEL.all(tx, "", station.vendor, station.model)
    return _OF_STATION.all(tx, station.station_id) + of_model


def asked_at(tx: Tx, station_id: str, *, firmware: str) -> datetime | None:
    """Return when a station with this firmware last told what it takes, None if never."""
    found: datetime | None = tx.execute(
        select(_D.c.at)
        .where(
            _D.c.station_id == station_id,
            _D.c.firmware == firmware,
            _D.c.source == ASKED,
        )
        .order_by(_D.c.at.desc())
        .limit(1)
    ).scalar()
    return found


def items_of_models(tx: Tx) -> list[DialectItem]:
    """Return every item that belongs to a model."""
    found = tx.execute(
        select(_D)
        .where(_D.c.station_id == "")
        .order_by(_D.c.vendor, _D.c.model, _D.c.firmware, _D.c.name, _D.c.source)
    )
    return [_item(**row._mapping) for row in found]


def resolve(tx: Tx, station: Station) -> StationLimits:
    """Store and return what the rest of the system goes by for a station."""
    found = limits_of(winners(items_for(tx, station), station))
    # How often a dynamic profile is asked for is no item: it is kept elsewhere (2.1).
    limits = replace(found, dynamic_s=station.limits.dynamic_s)
    if limits != station.limits:
        stations.set_limits(tx, station.station_id, limits)
    return limits


def resolve_model(tx: Tx, vendor: str, model: str) -> None:
    """Do what `resolve` does for every station of a model."""
    for station in stations.stations_of_model(tx, vendor, model):
        resolve(tx, station)


def _item(*, value: str, **values: Any) -> DialectItem:
    found: Any = json.loads(value)
    kept: Value = tuple(found) if isinstance(found, list) else found
    return DialectItem(value=kept, **values)


_OF_STATION = Lookup(_item, list(_D.c), by=[_D.c.station_id])
_OF_MODEL = Lookup(_item, list(_D.c), by=[_D.c.station_id, _D.c.vendor, _D.c.model])
