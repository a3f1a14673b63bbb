"""A station's variables, monitors and states: what it said last, and what was last asked of it."""

from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import delete, literal_column, select, update

from csms.core.device import (
    Attribute,
    AvailabilityFact,
    Monitor,
    VariableFact,
    VariableName,
)
from csms.store import bounds
from csms.store import device_tables as tables
from csms.store.columns import us_from
from csms.store.statements import Hot, Tx, parameter, upsert

_A = tables.device_attribute
_M = tables.device_monitor
_C = tables.connector_state
_W = tables.commanded_availability
_T = tables.station_clock
_KEY = ("station_id", *tables.NAME, "kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttribute:
    """An attribute of a variable as last read (`status` is the station's word on reading it).

    `set_value`, `set_status` and `set_at` are those of the last attempt to set it.
    """

    name: VariableName
    kind: str
    value: str | None
    mutability: str
    data_type: str
    unit: str
    min_limit: float | None
    max_limit: float | None
    values_list: str
    supports_monitoring: bool
    read_at: datetime | None
    status: str
    set_value: str | None
    set_status: str
    set_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorState:
    """What a connector said last. `at` is by the station, `corrected_at` by our clock."""

    station_id: str
    evse_id: int
    connector_id: int
    status: str
    source: str
    at: datetime
    corrected_at: datetime
    received_at: datetime
    order_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandedAvailability:
    """What availability was last asked for. `status` is the station's own word."""

    evse_id: int
    connector_id: int
    is_operative: bool
    status: str
    asked_by: str
    asked_at: datetime


def _name_of(values: dict[str, Any]) -> VariableName:
    return VariableName(**{part: values.pop(part) for part in tables.NAME})


# --- variables -----------------------------------------------------------------------------------


def put_attributes(
    tx: Tx, station_id: str, attributes: Iterable[Attribute], *, at: datetime
) -> None:
    """Store attributes as reported; what was known of attempts to set them stays."""
    rows: dict[Hashable, dict[str, Any]] = {}
    for attribute in attributes:
        values = asdict(attribute)
        row = {"station_id": station_id, **values.pop("name"), **values}
        rows[tuple(row[k] for k in _KEY[1:])] = row | {"read_at": at, "status": "Accepted"}
    kept = bounds.fitting(tx, _A, _KEY[1:], rows, most=bounds.MAX_ATTRIBUTES)
    if not kept:
        return
    statement = tx.insert(_A)
    rest = {name: statement.excluded[name] for name in kept[0] if name not in _KEY}
    statement = statement.on_conflict_do_update(index_elements=list(_KEY), set_=rest)
    tx.execute(statement, [{**row, "set_status": ""} for row in kept])


def put_fact(tx: Tx, station_id: str, fact: VariableFact, *, at: datetime) -> None:
    """Store what came of reading or setting one variable; the rest of what is known stays."""
    key = {"station_id": station_id, **asdict(fact.name), "kind": fact.kind}
    values: dict[str, Any] = {}
    if fact.is_set:
        values |= {"set_value": fact.value, "set_status": fact.status, "set_at": at}
        if fact.status == "Accepted":
            values |= {"value": fact.value, "read_at": at, "status": "Accepted"}
    else:
        values |= {"status": fact.status, "read_at": at}
        if fact.status == "Accepted":
            values["value"] = fact.value
    if fact.mutability:
        values["mutability"] = fact.mutability
    new = {
        "mutability": "",
        "data_type": "",
        "unit": "",
        "values_list": "",
        "supports_monitoring": False,
        "status": "",
        "set_status": "",
    }
    statement = tx.insert(_A).values(**{**new, **key, **values})
    tx.execute(statement.on_conflict_do_update(index_elements=list(_KEY), set_=values))


def list_attributes(tx: Tx, station_id: str) -> list[StoredAttribute]:
    """Return all that is known of a station's variables, by component and variable."""
    found = tx.execute(
        select(_A).where(_A.c.station_id == station_id).order_by(*(_A.c[k] for k in _KEY[1:]))
    )
    items = []
    for row in found:
        values = dict(row._mapping)
        del values["station_id"]
        items.append(StoredAttribute(name=_name_of(values), **values))
    return items


# --- monitors ------------------------------------------------------------------------------------


def put_monitors(tx: Tx, station_id: str, monitors: Iterable[Monitor], *, at: datetime) -> None:
    """Store monitors that a station has; one without a number yet is left out."""
    rows: dict[Hashable, dict[str, Any]] = {}
    for monitor in monitors:
        values = asdict(monitor)
        row = {"station_id": station_id, **values.pop("name"), **values, "at": at}
        if monitor.monitor_id is not None:
            rows[(monitor.monitor_id,)] = row
    kept = bounds.fitting(tx, _M, ["monitor_id"], rows, most=bounds.MAX_MONITORS)
    tx.upsert_all(_M, ["station_id", "monitor_id"], kept)


def delete_monitor(tx: Tx, station_id: str, monitor_id: int) -> None:
    """Forget a monitor that a station no longer has."""
    tx.execute(delete(_M).where(_M.c.station_id == station_id, _M.c.monitor_id == monitor_id))


def list_monitors(tx: Tx, station_id: str) -> list[tuple[Monitor, datetime]]:
    """Return a station's monitors by number, each with when it was heard of last."""
    found = tx.execute(select(_M).where(_M.c.station_id == station_id).order_by(_M.c.monitor_id))
    items = []
    for row in found:
        values = dict(row._mapping)
        del values["station_id"]
        at = values.pop("at")
        items.append((Monitor(name=_name_of(values), **values), at))
    return items


def severities(tx: Tx, station_id: str) -> dict[int, int]:
    """Return monitor id -> severity."""
    found = tx.execute(select(_M.c.monitor_id, _M.c.severity).where(_M.c.station_id == station_id))
    return {int(row.monitor_id): int(row.severity) for row in found}


# --- states --------------------------------------------------------------------------------------


def newest_state(tx: Tx, state: ConnectorState) -> bool:
    """Store a connector's state unless one by a later time is known; return whether it counts."""
    row = tx.row(_ORDER, (state.station_id, state.evse_id, state.connector_id))
    order_us = us_from(state.order_at)
    if row is not None and row[0] > order_us:
        return False
    if row is None and not bounds.has_room(tx, _C, state.station_id, most=bounds.MAX_CONNECTORS):
        return False
    values = [getattr(state, name) for name in _STATE]
    values[-4:] = [us_from(at) for at in values[-4:]]
    tx.run(_KEEP_STATE, values)
    return True


_CONNECTOR = ("station_id", "evse_id", "connector_id")
_STATE = tuple(f.name for f in fields(ConnectorState))
assert _STATE[-4:] == ("at", "corrected_at", "received_at", "order_at")
_ORDER = Hot(
    lambda insert: select(_C.c.order_at).where(
        *(_C.c[name] == parameter(_C.c[name]) for name in _CONNECTOR)
    ),
    _CONNECTOR,
)
_KEEP_STATE = Hot(lambda insert: upsert(insert, _C, _CONNECTOR, _STATE), _STATE)


def reset_order(tx: Tx, station_id: str) -> None:
    """Let the next state of each connector count whatever its time: the clock began anew."""
    tx.run(_RESET, (0, station_id))


_RESET = Hot(
    lambda insert: (
        update(_C)
        .values(order_at=parameter(_C.c.order_at))
        .where(_C.c.station_id == parameter(_C.c.station_id))
    ),
    ("order_at", "station_id"),
)


def connector_states(tx: Tx, station_id: str) -> list[ConnectorState]:
    """Return a station's connectors by EVSE and number."""
    found = tx.execute(
        select(_C).where(_C.c.station_id == station_id).order_by(_C.c.evse_id, _C.c.connector_id)
    )
    return [ConnectorState(**row._mapping) for row in found]


def put_availability(
    tx: Tx, station_id: str, fact: AvailabilityFact, *, by: str, at: datetime
) -> None:
    """Store what was asked of the station, an EVSE or a connector; what is inside it follows."""
    inside = [_W.c.station_id == station_id]
    if fact.evse_id:
        inside.append(_W.c.evse_id == fact.evse_id)
    if fact.connector_id:
        inside.append(_W.c.connector_id == fact.connector_id)
    if fact.status in ("Accepted", "Scheduled"):
        tx.execute(delete(_W).where(*inside))
    row = {"station_id": station_id, **asdict(fact), "asked_by": by, "asked_at": at}
    tx.upsert(_W, ["station_id", "evse_id", "connector_id"], row)


def availability(tx: Tx, station_id: str) -> list[CommandedAvailability]:
    """Return what was asked for, the whole station first."""
    columns = [_W.c[f.name] for f in fields(CommandedAvailability)]
    found = tx.execute(
        select(*columns)
        .where(_W.c.station_id == station_id)
        .order_by(_W.c.evse_id, _W.c.connector_id)
    )
    return [CommandedAvailability(**row._mapping) for row in found]


def settle_availability(tx: Tx, station_id: str, evse_id: int, *, is_operative: bool) -> None:
    """Note that what was scheduled has come about: the EVSE says that it is so."""
    tx.run(_COME_ABOUT, ("Accepted", station_id, evse_id, "Scheduled", is_operative))


_COME_ABOUT = Hot(
    lambda insert: (
        update(_W)
        .values(status=parameter(_W.c.status))
        .where(_W.c.station_id == parameter(_W.c.station_id))
        .where((_W.c.evse_id == literal_column("0")) | (_W.c.evse_id == parameter(_W.c.evse_id)))
        .where(_W.c.status == parameter(_W.c.status, "was"))
        .where(_W.c.is_operative == parameter(_W.c.is_operative))
    ),
    ("status", "station_id", "evse_id", "was", "is_operative"),
)


# --- clocks --------------------------------------------------------------------------------------


def set_clock_offset(tx: Tx, station_id: str, offset_s: float, *, at: datetime) -> None:
    """Store how far a station's clock is behind ours."""
    row = {"station_id": station_id, "offset_s": offset_s, "measured_at": at}
    tx.upsert(_T, ["station_id"], row)


def clock_offset_s(tx: Tx, station_id: str) -> float:
    """Return how far a station's clock is behind ours, 0.0 while that is not known."""
    row = tx.row(_OFFSET, (station_id,))
    return 0.0 if row is None else float(row[0])


_OFFSET = Hot(
    lambda insert: select(_T.c.offset_s).where(_T.c.station_id == parameter(_T.c.station_id)),
    ("station_id",),
)
