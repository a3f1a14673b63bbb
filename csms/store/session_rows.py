"""A session as a row and back, and the hot statements on it."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any

from sqlalchemy import TypeDecorator, or_, select, type_coerce, update

from csms.core.model import (
    Assurance,
    AuthorizationStatus,
    IdToken,
    OcppVersion,
    Session,
    SessionState,
)
from csms.store import tables
from csms.store.columns import (
    at_from,
    at_or_none,
    text_from,
    tuple_from,
    us_from,
    us_or_none,
)
from csms.store.statements import Hot, parameter, parameters

_T = tables.session

# What an index holds changes seldom. SQLite rewrites an index whenever a statement names one of
# its columns, changed or not, so these have a statement of their own that runs only on a change.
_INDEXED = ("site_id", "id_token", "holder_did", "state", "ended_at")
_MEASURED = (
    "meter_start_wh",
    "meter_last_wh",
    "energy_wh",
    "power_w",
    "current_a",
    "soc",
    "soc_wh",
    "sample_at",
    "charging_state",
    "last_seq_no",
    "flags",
)
"""What a message in the middle of a session changes."""
_PLAIN = (
    "evse_id",
    "connector_id",
    "id_token_kind",
    "status",
    "reason",
    "assurance",
    "priority",
    "started_at",
    "stop_reason",
    "is_offline_start",
    "is_estimated",
    "meter_start_wh",
    "meter_last_wh",
    "energy_wh",
    "power_w",
    "current_a",
    "soc",
    "soc_wh",
    "sample_at",
    "charging_state",
    "last_seq_no",
    "vehicle_id",
    "trip_id",
    "departs_at",
    "need_wh",
    "preferred_wh",
    "need_source",
    "remote_start_id",
    "flags",
)
_FIXED = ("session_id", "station_id", "transaction_id", "version", "received_at")
COLUMNS = ("number", *_FIXED, *_INDEXED, *_PLAIN)
"""The columns that `session_from` takes, in its order."""

_STATUSES = {str(s): s for s in AuthorizationStatus}
_ASSURANCES = {str(a): a for a in Assurance}
_STATES = {str(s): s for s in SessionState}
_VERSIONS = {str(v): v for v in OcppVersion}


def session_from(row: Sequence[Any]) -> Session:
    """Return the session whose stored values are `row`, in the order of COLUMNS."""
    id_token = None if row[7] is None else IdToken(value=row[7], kind=row[13])
    return Session(
        number=row[0],
        session_id=row[1],
        station_id=row[2],
        transaction_id=row[3],
        version=_VERSIONS[row[4]],
        received_at=at_from(row[5]),
        site_id=row[6],
        id_token=id_token,
        holder_did=row[8],
        state=_STATES[row[9]],
        ended_at=at_or_none(row[10]),
        evse_id=row[11],
        connector_id=row[12],
        status=_STATUSES[row[14]],
        reason=row[15],
        assurance=_ASSURANCES[row[16]],
        priority=row[17],
        started_at=at_from(row[18]),
        stop_reason=row[19],
        is_offline_start=bool(row[20]),
        is_estimated=bool(row[21]),
        meter_start_wh=row[22],
        meter_last_wh=row[23],
        energy_wh=row[24],
        power_w=row[25],
        current_a=tuple_from(row[26]),
        soc=row[27],
        soc_wh=row[28],
        sample_at=at_or_none(row[29]),
        charging_state=row[30],
        last_seq_no=row[31],
        vehicle_id=row[32],
        trip_id=row[33],
        departs_at=at_or_none(row[34]),
        need_wh=row[35],
        preferred_wh=row[36],
        need_source=row[37],
        remote_start_id=row[38],
        flags=tuple_from(row[39]),
    )


def fixed_values(session: Session) -> tuple[Any, ...]:
    """Return what never changes after the session is opened, without the number."""
    return (
        session.session_id,
        session.station_id,
        session.transaction_id,
        session.version,
        us_from(session.received_at),
    )


def indexed_values(session: Session) -> tuple[Any, ...]:
    """Return what the indexes hold."""
    return (
        session.site_id,
        None if session.id_token is None else session.id_token.value,
        session.holder_did,
        session.state,
        us_or_none(session.ended_at),
    )


def plain_values(session: Session) -> tuple[Any, ...]:
    """Return the rest."""
    return (
        session.evse_id,
        session.connector_id,
        "" if session.id_token is None else session.id_token.kind,
        session.status,
        session.reason,
        session.assurance,
        session.priority,
        us_from(session.started_at),
        session.stop_reason,
        session.is_offline_start,
        session.is_estimated,
        session.meter_start_wh,
        session.meter_last_wh,
        session.energy_wh,
        session.power_w,
        text_from(session.current_a),
        session.soc,
        session.soc_wh,
        us_or_none(session.sample_at),
        session.charging_state,
        session.last_seq_no,
        session.vehicle_id,
        session.trip_id,
        us_or_none(session.departs_at),
        session.need_wh,
        session.preferred_wh,
        session.need_source,
        session.remote_start_id,
        text_from(session.flags),
    )


_UNMEASURED: Callable[[dict[str, Any]], tuple[Any, ...]] = itemgetter(
    *(f.name for f in fields(Session) if f.name not in _MEASURED)
)


def is_measured_only(before: Session, after: Session) -> bool:
    """Return whether nothing differs but what `measured_values` holds."""
    # From the dict, since that takes a third of the time that attributes take.
    return _UNMEASURED(vars(before)) == _UNMEASURED(vars(after))


def measured_values(session: Session) -> tuple[Any, ...]:
    """Return what a message in the middle of a session changes."""
    return (
        session.meter_start_wh,
        session.meter_last_wh,
        session.energy_wh,
        session.power_w,
        text_from(session.current_a),
        session.soc,
        session.soc_wh,
        us_or_none(session.sample_at),
        session.charging_state,
        session.last_seq_no,
        text_from(session.flags),
    )


SELECT = select(*(_T.c[name] for name in COLUMNS))

STORED_SELECT = select(
    *(
        type_coerce(column, column.type.impl_instance).label(column.name)
        if isinstance(column.type, TypeDecorator)
        else column
        for column in (_T.c[name] for name in COLUMNS)
    )
)
"""SELECT for Core, with the stored values that `session_from` takes instead of decoded ones."""

BY_TRANSACTION = Hot(
    lambda insert: SELECT.where(
        _T.c.station_id == parameter(_T.c.station_id),
        _T.c.transaction_id == parameter(_T.c.transaction_id),
    ),
    ("station_id", "transaction_id"),
)
BY_START = Hot(
    lambda insert: SELECT.where(
        _T.c.station_id == parameter(_T.c.station_id),
        _T.c.start_key == parameter(_T.c.start_key),
    ),
    ("station_id", "start_key"),
)
BY_ID = Hot(
    lambda insert: SELECT.where(_T.c.session_id == parameter(_T.c.session_id)), ("session_id",)
)
OF_SITE = Hot(
    lambda insert: SELECT.where(
        _T.c.site_id == parameter(_T.c.site_id), _T.c.state == parameter(_T.c.state)
    ).order_by(_T.c.number),
    ("site_id", "state"),
)
OF_HOLDER = Hot(
    lambda insert: SELECT.where(
        _T.c.holder_did == parameter(_T.c.holder_did), _T.c.state == parameter(_T.c.state)
    ).order_by(_T.c.number),
    ("holder_did", "state"),
)
ON_EVSE = Hot(
    lambda insert: SELECT.where(
        _T.c.station_id == parameter(_T.c.station_id),
        _T.c.evse_id == parameter(_T.c.evse_id),
        _T.c.state == parameter(_T.c.state),
    ).order_by(_T.c.number.desc()),
    ("station_id", "evse_id", "state"),
)
ENDED = Hot(
    lambda insert: SELECT.where(
        _T.c.site_id == parameter(_T.c.site_id),
        _T.c.ended_at >= parameter(_T.c.ended_at, "since"),
        _T.c.ended_at < parameter(_T.c.ended_at, "until"),
    ).order_by(_T.c.ended_at, _T.c.number),
    ("site_id", "since", "until"),
)
OVERLAPPING = Hot(
    lambda insert: SELECT.where(
        _T.c.site_id == parameter(_T.c.site_id),
        _T.c.started_at < parameter(_T.c.started_at, "until"),
        or_(_T.c.ended_at.is_(None), _T.c.ended_at > parameter(_T.c.ended_at, "since")),
    ).order_by(_T.c.number),
    ("site_id", "until", "since"),
)

_NEW = (*_FIXED, *_INDEXED, *_PLAIN, "start_key")
INSERT = Hot(
    lambda insert: insert(_T).values(parameters(_T, _NEW)).returning(_T.c.number),
    _NEW,
)
NAME = Hot(
    lambda insert: (
        update(_T)
        .values(transaction_id=parameter(_T.c.transaction_id))
        .where(_T.c.number == parameter(_T.c.number))
    ),
    ("transaction_id", "number"),
)
UPDATE = Hot(
    lambda insert: (
        update(_T).values(parameters(_T, _PLAIN)).where(_T.c.number == parameter(_T.c.number))
    ),
    (*_PLAIN, "number"),
)
UPDATE_MEASURED = Hot(
    lambda insert: (
        update(_T).values(parameters(_T, _MEASURED)).where(_T.c.number == parameter(_T.c.number))
    ),
    (*_MEASURED, "number"),
)
UPDATE_INDEXED = Hot(
    lambda insert: (
        update(_T)
        .values(parameters(_T, _INDEXED))
        .where(
            _T.c.number == parameter(_T.c.number),
            or_(*(_T.c[name].is_distinct_from(parameter(_T.c[name])) for name in _INDEXED)),
        )
    ),
    (*_INDEXED, "number"),
)
