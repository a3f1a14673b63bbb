"""What stations were asked, and what came of it: one row per command, stored before it is sent."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import select, update

from csms.core.errors import NotFound
from csms.core.messages import CommandResult, Outcome
from csms.store import tables
from csms.store.columns import json_text
from csms.store.pages import Page, newest_first
from csms.store.statements import Tx

_C = tables.command


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRecord:
    """A command as it is on record; `outcome` is None while nothing came of it.

    `kind` is the command's class or a raw call's action; `payload` and `answer` are JSON text;
    `status` is the station's own word; `error` says what a CALLERROR or we had to say.
    """

    command_id: int
    station_id: str
    kind: str
    payload: str
    asked_by: str
    asked_at: datetime
    finished_at: datetime | None
    outcome: Outcome | None
    status: str
    answer: str
    error: str


_COLUMNS = [_C.c[f.name] for f in fields(CommandRecord)]


def insert_command(
    tx: Tx, station_id: str, *, kind: str, payload: str, asked_by: str, at: datetime
) -> int:
    """Store a command that is about to be sent, and return its id."""
    statement = _C.insert().values(
        station_id=station_id,
        kind=kind,
        payload=payload,
        asked_by=asked_by,
        asked_at=at,
        status="",
        answer="",
        error="",
    )
    return int(tx.execute(statement.returning(_C.c.command_id)).scalar_one())


def finish_command(tx: Tx, command_id: int, result: CommandResult, *, at: datetime) -> None:
    """Store what came of a command; raise NotFound for an unknown one."""
    error = " ".join(
        part for part in (result.error_code, result.error_description, result.why_not_sent) if part
    )
    changed = tx.execute(
        update(_C)
        .where(_C.c.command_id == command_id)
        .values(
            finished_at=at,
            outcome=result.outcome,
            status=result.status,
            answer="" if result.answer is None else json_text(dict(result.answer)),
            error=error,
        )
    ).rowcount
    if not changed:
        raise NotFound(f"no command {command_id}")


def get_command(tx: Tx, command_id: int) -> CommandRecord:
    """Return a command; raise NotFound."""
    row = tx.execute(select(*_COLUMNS).where(_C.c.command_id == command_id)).first()
    if row is None:
        raise NotFound(f"no command {command_id}")
    return CommandRecord(**row._mapping)


def list_commands(
    tx: Tx, *, station_id: str = "", kind: str = "", limit: int = 50, cursor: str = ""
) -> Page[CommandRecord]:
    """Return commands, newest first."""
    filters = []
    if station_id:
        filters.append(_C.c.station_id == station_id)
    if kind:
        filters.append(_C.c.kind == kind)
    page = newest_first(
        tx, select(*_COLUMNS), key=_C.c.command_id, filters=filters, limit=limit, cursor=cursor
    )
    found = tuple(CommandRecord(**row._mapping) for row in page.rows)
    return Page(items=found, total=page.total, cursor=page.cursor)
