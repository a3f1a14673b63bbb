"""Requests with an id of their own: reports in parts, logs, firmware; and files that come of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from csms.core.device import Kind
from csms.core.errors import NotFound
from csms.store import device_tables as tables
from csms.store.pages import Page, newest_first
from csms.store.purging import BATCH, purge
from csms.store.statements import Tx

_R = tables.device_request
_P = tables.request_part
_S = tables.request_step
_U = tables.upload

OPEN = ("asked", "accepted", "running")
"""States of a request of which more may come."""
MAX_PARTS = 10_000
"""Parts kept of one answer: a report of a variable each of the largest model has fewer."""
MAX_STEPS = 500
"""Statuses kept of one job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """A request and what came of it.

    `state` is "asked", "accepted", "running", "done", "failed", "cancelled" or "empty" (the
    station had nothing to tell); `status` is the station's own last word. `wire_id` is the
    requestId as sent, None in the messages of 1.6 that have none.
    """

    request_key: int
    station_id: str
    kind: Kind
    wire_id: int | None
    bulk_id: int | None
    state: str
    status: str
    detail: Mapping[str, object]
    asked_by: str
    asked_at: datetime
    finished_at: datetime | None
    command_id: int | None
    file_name: str
    file_path: str
    file_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of an answer; `content` is JSON, or a customer's text."""

    seq_no: int
    is_last: bool
    generated_at: datetime
    received_at: datetime
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStep:
    """A status that a station reported on a job."""

    status: str
    detail: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A place to which one file may be sent once, until `expires_at`."""

    token_hash: str
    request_key: int
    expires_at: datetime
    used_at: datetime | None


_COLUMNS = [_R.c[f.name] for f in fields(DeviceRequest)]


def _request(row: Any) -> DeviceRequest:
    values = dict(row._mapping)
    return DeviceRequest(**{**values, "kind": Kind(values["kind"])})


def add_request(
    tx: Tx,
    station_id: str,
    kind: Kind,
    *,
    detail: Mapping[str, object],
    by: str,
    at: datetime,
    wire_id: int | None = None,
    bulk_id: int | None = None,
) -> DeviceRequest:
    """Store a request that is about to be sent and return it; its key is its id on the wire
    unless the caller names another."""
    statement = (
        _R.insert()
        .values(
            station_id=station_id,
            kind=str(kind),
            wire_id=wire_id,
            bulk_id=bulk_id,
            state="asked",
            status="",
            detail=detail,
            asked_by=by,
            asked_at=at,
            file_name="",
            file_path="",
        )
        .returning(_R.c.request_key)
    )
    key = int(tx.execute(statement).scalar_one())
    if wire_id is None:
        tx.execute(update(_R).where(_R.c.request_key == key).values(wire_id=key))
    return get_request(tx, key)


def get_request(tx: Tx, request_key: int) -> DeviceRequest:
    """Return a request; raise NotFound."""
    row = tx.execute(select(*_COLUMNS).where(_R.c.request_key == request_key)).first()
    if row is None:
        raise NotFound(f"no request {request_key}")
    return _request(row)


def find_request(
    tx: Tx, station_id: str, kind: Kind, wire_id: int | None, *, is_open: bool = False
) -> DeviceRequest | None:
    """Return the newest request of a station with this id, of any id where it is None."""
    statement = select(*_COLUMNS).where(_R.c.station_id == station_id, _R.c.kind == str(kind))
    if wire_id is not None:
        statement = statement.where(_R.c.wire_id == wire_id)
    if is_open:
        statement = statement.where(_R.c.state.in_(OPEN))
    row = tx.execute(statement.order_by(_R.c.request_key.desc()).limit(1)).first()
    return None if row is None else _request(row)


def open_requests(tx: Tx, station_id: str, kind: Kind) -> list[DeviceRequest]:
    """Return a station's requests of which more may come, oldest first."""
    found = tx.execute(
        select(*_COLUMNS)
        .where(_R.c.station_id == station_id, _R.c.kind == str(kind), _R.c.state.in_(OPEN))
        .order_by(_R.c.request_key)
    )
    return [_request(row) for row in found]


def running(tx: Tx, kind: Kind) -> dict[str, str]:
    """Return the stations that have begun a request of `kind`, each with its last word on it."""
    found = tx.execute(
        select(_R.c.station_id, _R.c.status)
        .where(_R.c.kind == str(kind), _R.c.state == "running")
        .order_by(_R.c.request_key)
    )
    return {row.station_id: row.status for row in found}


def change_request(tx: Tx, request_key: int, **values: Any) -> None:
    """Change columns of a request."""
    tx.execute(update(_R).where(_R.c.request_key == request_key).values(**values))


def fail_unsent(tx: Tx, *, at: datetime, why: str) -> int:
    """End the requests whose stations never said whether they took them; return how many.

    For a start, in one process: nobody waits for that answer any more. What a station reports on
    such a request all the same is kept with it.
    """
    return int(
        tx.execute(
            update(_R)
            .where(_R.c.state == "asked")
            .values(state="failed", status=why, finished_at=at)
        ).rowcount
    )


def all_open(tx: Tx, *, asked_before: datetime) -> list[DeviceRequest]:
    """Return the requests asked before an instant of which more may come, oldest first."""
    found = tx.execute(
        select(*_COLUMNS)
        .where(_R.c.state.in_(OPEN), _R.c.asked_at < asked_before)
        .order_by(_R.c.request_key)
    )
    return [_request(row) for row in found]


def list_requests(
    tx: Tx,
    *,
    station_id: str = "",
    kind: str = "",
    state: str = "",
    bulk_id: int | None = None,
    limit: int = 50,
    cursor: str = "",
) -> Page[DeviceRequest]:
    """Return requests, newest first."""
    wanted = {"station_id": station_id, "kind": kind, "state": state}
    filters = [_R.c[name] == value for name, value in wanted.items() if value]
    if bulk_id is not None:
        filters.append(_R.c.bulk_id == bulk_id)
    page = newest_first(
        tx, select(*_COLUMNS), key=_R.c.request_key, filters=filters, limit=limit, cursor=cursor
    )
    return Page(
        items=tuple(_request(row) for row in page.rows), total=page.total, cursor=page.cursor
    )


def purge_requests(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of what belongs to requests that ended before `before`; return how many rows.

    Open ones stay, and those that have a file (`old_files`) until it is gone.
    """
    old = select(_R.c.request_key).where(
        _R.c.finished_at < before, _R.c.state.not_in(OPEN), _R.c.file_path == ""
    )
    for table in (_P, _S, _U):
        if gone := purge(tx, table, table.c.request_key.in_(old)):
            return gone
    return purge(tx, _R, _R.c.request_key.in_(old))


def old_files(tx: Tx, *, before: datetime) -> dict[int, str]:
    """Return request -> path of its file for a batch of those that ended before `before`."""
    found = tx.execute(
        select(_R.c.request_key, _R.c.file_path)
        .where(_R.c.finished_at < before, _R.c.file_path != "")
        .limit(BATCH)
    )
    return {row.request_key: row.file_path for row in found}


def forget_files(tx: Tx, request_keys: Sequence[int]) -> None:
    """Note that files of requests are gone; their names and sizes stay on record."""
    tx.execute(update(_R).where(_R.c.request_key.in_(request_keys)).values(file_path=""))


# --- parts and steps -----------------------------------------------------------------------------


def put_part(tx: Tx, request_key: int, part: Part) -> bool:
    """Keep a part; return whether all parts are there now. A repeated part changes nothing.

    A part beyond `MAX_PARTS` is not kept: no report of a sane station comes near it.
    """
    if part.seq_no >= MAX_PARTS:
        return False
    tx.execute(
        tx.insert(_P)
        .values(
            request_key=request_key,
            seq_no=part.seq_no,
            is_last=part.is_last,
            generated_at=part.generated_at,
            received_at=part.received_at,
            content=part.content,
        )
        .on_conflict_do_nothing(index_elements=["request_key", "seq_no"])
    )
    # Counted in the database: a station chooses the numbers, and how many there are.
    mine = _P.c.request_key == request_key
    last = tx.execute(select(func.min(_P.c.seq_no)).where(mine, _P.c.is_last)).scalar()
    if last is None:
        return False
    found = select(func.count()).select_from(_P).where(mine, _P.c.seq_no <= last)
    return int(tx.execute(found).scalar_one()) == int(last) + 1


def list_parts(tx: Tx, request_key: int) -> list[Part]:
    """Return the parts there are, in order."""
    columns = [_P.c[f.name] for f in fields(Part)]
    found = tx.execute(
        select(*columns).where(_P.c.request_key == request_key).order_by(_P.c.seq_no)
    )
    return [Part(**row._mapping) for row in found]


def add_step(tx: Tx, request_key: int, step: RequestStep) -> None:
    """Keep a reported status."""
    tx.execute(
        _S.insert().values(
            request_key=request_key,
            status=step.status,
            detail=step.detail,
            received_at=step.received_at,
        )
    )


def list_steps(tx: Tx, request_key: int) -> list[RequestStep]:
    """Return the statuses of a job as they came."""
    columns = [_S.c[f.name] for f in fields(RequestStep)]
    found = tx.execute(
        select(*columns).where(_S.c.request_key == request_key).order_by(_S.c.step_id)
    )
    return [RequestStep(**row._mapping) for row in found]


# --- uploads -------------------------------------------------------------------------------------


def add_upload(tx: Tx, *, token_hash: str, request_key: int, expires_at: datetime) -> None:
    """Open a place for one file."""
    tx.execute(
        _U.insert().values(token_hash=token_hash, request_key=request_key, expires_at=expires_at)
    )


def take_upload(tx: Tx, token_hash: str, *, now: datetime) -> Upload | None:
    """Use up an open place and return it; None if it is unknown, used or too old."""
    row = tx.execute(
        update(_U)
        .where(_U.c.token_hash == token_hash, _U.c.used_at.is_(None), _U.c.expires_at > now)
        .values(used_at=now)
        .returning(*(_U.c[f.name] for f in fields(Upload)))
    ).first()
    return None if row is None else Upload(**row._mapping)


def release_upload(tx: Tx, token_hash: str) -> None:
    """Open a place again whose file did not arrive whole."""
    tx.execute(update(_U).where(_U.c.token_hash == token_hash).values(used_at=None))


def reopen_uploads(tx: Tx) -> int:
    """Open the places again whose file was on its way when the process ended; return how many."""
    arrived = select(_R.c.request_key).where(_R.c.file_path != "")
    return int(
        tx.execute(
            update(_U)
            .where(_U.c.used_at.is_not(None), _U.c.request_key.not_in(arrived))
            .values(used_at=None)
        ).rowcount
    )


def purge_uploads(tx: Tx, *, before: datetime) -> int:
    """Forget a batch of places that closed before `before`; return how many."""
    return purge(tx, _U, _U.c.expires_at < before)
