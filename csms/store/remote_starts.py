"""Starts that were asked of stations, and what became of each: a session, or nothing.

In 2.x a station repeats our remoteStartId; in 1.6 it only presents the token that it was given, so
that a start with that token soon after is taken for the answer.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import literal_column, or_, select, update

from csms.core.model import Session
from csms.store import detail_tables as tables
from csms.store.columns import us_from
from csms.store.purging import purge
from csms.store.statements import Hot, Tx, parameter

_R = tables.remote_start

ASKED, ACCEPTED, STARTED = "asked", "accepted", "started"
REFUSED, TIMED_OUT = "refused", "timed_out"
WITHIN = timedelta(minutes=15)
"""What was asked longer ago than this has come to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStart:
    """A start that was asked of a station. `evse_id` is 0 where the station was to choose.

    `state` is "asked", "accepted", "started", "refused" or "timed_out".
    """

    command_id: int
    station_id: str
    evse_id: int
    remote_start_id: int | None
    state: str
    session_id: str
    asked_at: datetime
    settled_at: datetime | None


_COLUMNS = [_R.c[f.name] for f in fields(RemoteStart)]


def purge_starts(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of the starts that came to their end before `before`; return how many."""
    return purge(tx, _R, _R.c.settled_at < before, _R.c.state.in_((STARTED, REFUSED, TIMED_OUT)))


def add(
    tx: Tx,
    command_id: int,
    station_id: str,
    *,
    evse_id: int,
    id_token: str,
    remote_start_id: int | None,
    at: datetime,
) -> None:
    """Keep a start that is about to be asked."""
    tx.upsert(
        _R,
        ["command_id"],
        {
            "command_id": command_id,
            "station_id": station_id,
            "evse_id": evse_id,
            "token_fold": id_token.casefold(),
            "remote_start_id": remote_start_id,
            "state": ASKED,
            "session_id": "",
            "asked_at": at,
            "settled_at": None,
        },
    )


def answered(tx: Tx, command_id: int, *, is_accepted: bool, at: datetime) -> None:
    """Keep the station's answer; a session that began before it stays the outcome."""
    values: dict[str, Any] = (
        {"state": ACCEPTED}
        if is_accepted
        else {
            "state": REFUSED,
            "settled_at": at,
        }
    )
    tx.execute(
        update(_R).where(_R.c.command_id == command_id, _R.c.state == ASKED).values(**values)
    )


_PENDING = Hot(
    lambda insert: (
        select(_R.c.command_id)
        .where(
            _R.c.station_id == parameter(_R.c.station_id),
            _R.c.settled_at.is_(None),
            _R.c.token_fold == parameter(_R.c.token_fold),
            or_(_R.c.evse_id == literal_column("0"), _R.c.evse_id == parameter(_R.c.evse_id)),
            _R.c.asked_at >= parameter(_R.c.asked_at, "since"),
        )
        .order_by(_R.c.command_id)
    ),
    ("station_id", "token_fold", "evse_id", "since"),
)


def pending(tx: Tx, session: Session, *, now: datetime) -> int | None:
    """Return the command that a 1.6 session answers, None if nobody asked for it."""
    if session.id_token is None:
        return None
    row = tx.row(
        _PENDING,
        (
            session.station_id,
            session.id_token.value.casefold(),
            session.evse_id,
            us_from(now - WITHIN),
        ),
    )
    return None if row is None else int(row[0])


def started(
    tx: Tx,
    session: Session,
    *,
    at: datetime,
    command_id: int | None = None,
    remote_start_id: int | None = None,
) -> None:
    """Tie `session` to the command `command_id`, or to the newest with `remote_start_id`."""
    if command_id is None:
        command_id = tx.execute(
            select(_R.c.command_id)
            .where(_R.c.station_id == session.station_id, _R.c.remote_start_id == remote_start_id)
            .order_by(_R.c.command_id.desc())
            .limit(1)
        ).scalar()
    if command_id is None:
        return
    tx.execute(
        update(_R)
        .where(_R.c.command_id == command_id, _R.c.session_id == "")
        .values(state=STARTED, session_id=session.session_id, settled_at=at)
    )


def came_to_nothing(tx: Tx, session: Session, *, at: datetime) -> None:
    """Mark the start behind `session` as timed out: no vehicle came."""
    tx.execute(
        update(_R)
        .where(_R.c.session_id == session.session_id)
        .values(state=TIMED_OUT, settled_at=at)
    )


def freed(tx: Tx, station_id: str, evse_id: int, *, at: datetime) -> None:
    """Mark what was accepted for an EVSE that is free again without a start as timed out."""
    tx.execute(
        update(_R)
        .where(
            _R.c.station_id == station_id,
            _R.c.state == ACCEPTED,
            or_(_R.c.evse_id == 0, _R.c.evse_id == evse_id),
        )
        .values(state=TIMED_OUT, settled_at=at)
    )


def expire(tx: Tx, *, now: datetime) -> int:
    """Mark starts that nothing followed within WITHIN as timed out; return how many."""
    return int(
        tx.execute(
            update(_R)
            .where(_R.c.state.in_((ASKED, ACCEPTED)), _R.c.asked_at < now - WITHIN)
            .values(state=TIMED_OUT, settled_at=now)
        ).rowcount
    )


def of_session(tx: Tx, session_id: str) -> RemoteStart | None:
    """Return the start that `session_id` answers, None if nobody asked for it."""
    row = tx.execute(select(*_COLUMNS).where(_R.c.session_id == session_id).limit(1)).first()
    return None if row is None else RemoteStart(**row._mapping)


def list_remote_starts(tx: Tx, *, station_id: str = "", limit: int = 50) -> list[RemoteStart]:
    """Return the starts that were asked, newest first."""
    statement = select(*_COLUMNS).order_by(_R.c.command_id.desc()).limit(limit)
    if station_id:
        statement = statement.where(_R.c.station_id == station_id)
    return [RemoteStart(**row._mapping) for row in tx.execute(statement)]
