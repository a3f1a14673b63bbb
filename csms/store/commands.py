"""What stations were asked, and what came of it: one row per command, stored before it is sent."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import ColumnElement, Update, and_, or_, select, update

from csms.core.commands import CommandResult, Outcome
from csms.core.errors import NotFound
from csms.core.masking import masked_text
from csms.store import tables
from csms.store.columns import json_text, us_from, us_or_none
from csms.store.pages import Page, newest_first
from csms.store.purging import purge
from csms.store.statements import Hot, Insert, Tx, parameter, parameters

_C = tables.command


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRecord:
    """A command as it is on record; `outcome` is None while nothing came of it.

    `sent_at` is None for one that waits for its station until `expires_at`, or waited in vain.
    `kind` is the command's class or a raw call's action; `payload` and `answer` are JSON text;
    `status` is the station's own word; `error` says what a CALLERROR or we had to say.
    """

    command_id: int
    station_id: str
    kind: str
    payload: str
    asked_by: str
    asked_at: datetime
    sent_at: datetime | None
    expires_at: datetime | None
    finished_at: datetime | None
    outcome: Outcome | None
    status: str
    answer: str
    error: str


_COLUMNS = [_C.c[f.name] for f in fields(CommandRecord)]


def insert_command(
    tx: Tx,
    station_id: str,
    *,
    kind: str,
    payload: str,
    asked_by: str,
    at: datetime,
    expires_at: datetime | None = None,
) -> int:
    """Store a command, secrets in its payload masked, and return its id.

    It is about to be sent, or waits for its station until `expires_at`.
    """
    waits = expires_at is not None
    at_us = us_from(at)
    row = tx.row(
        _ASK,
        (
            station_id,
            kind,
            masked_text(payload),
            asked_by,
            at_us,
            None if waits else at_us,
            us_or_none(expires_at),
            str(Outcome.WAITING) if waits else None,
            "",
            "",
            "",
        ),
    )
    assert row is not None
    return int(row[0])


_ASKED = (
    "station_id",
    "kind",
    "payload",
    "asked_by",
    "asked_at",
    "sent_at",
    "expires_at",
    "outcome",
    "status",
    "answer",
    "error",
)
_ASK = Hot(
    lambda insert: insert(_C).values(parameters(_C, _ASKED)).returning(_C.c.command_id), _ASKED
)
_ENDED = ("finished_at", "outcome", "status", "answer", "error")


def _finishing(*, only_unanswered: bool) -> Hot:
    def build(insert: Insert) -> Update:
        statement = update(_C).values(parameters(_C, _ENDED))
        statement = statement.where(_C.c.command_id == parameter(_C.c.command_id))
        return statement.where(_C.c.outcome.is_(None)) if only_unanswered else statement

    return Hot(build, (*_ENDED, "command_id"))


_FINISH, _FINISH_UNANSWERED = _finishing(only_unanswered=False), _finishing(only_unanswered=True)


def finish_command(tx: Tx, command_id: int, result: CommandResult, *, at: datetime) -> None:
    """Store what came of a command; raise NotFound for an unknown one.

    That it was sent says less than any answer, and does not take the place of one.
    """
    error = " ".join(
        part for part in (result.error_code, result.error_description, result.why_not_sent) if part
    )
    statement = _FINISH_UNANSWERED if result.outcome is Outcome.SENT else _FINISH
    answer = "" if result.answer is None else masked_text(json_text(dict(result.answer)))
    ended = (us_from(at), str(result.outcome), result.status, answer, error, command_id)
    changed = tx.run(statement, ended)
    if not changed and result.outcome is not Outcome.SENT:
        raise NotFound(f"no command {command_id}")


def finish_interrupted(tx: Tx, *, at: datetime) -> int:
    """End the commands that were on their way when the process ended; return how many.

    Whether their stations carried them out is not known. For a start, in one process.
    """
    result = CommandResult(outcome=Outcome.NO_ANSWER)
    return int(
        tx.execute(
            update(_C)
            .where(_C.c.outcome.is_(None))
            .values(finished_at=at, outcome=result.outcome, error="central system restarted")
        ).rowcount
    )


def waiting_commands(tx: Tx, station_id: str, *, now: datetime) -> list[CommandRecord]:
    """Return what waits for a station and may still be sent, oldest first."""
    found = tx.execute(
        select(*_COLUMNS)
        .where(_waits(), _C.c.station_id == station_id, _C.c.expires_at > now)
        .order_by(_C.c.command_id)
    )
    return [CommandRecord(**row._mapping) for row in found]


def take_waiting(tx: Tx, command_id: int, *, now: datetime) -> bool:
    """Mark a waiting command as sent; False if it no longer waits or has expired.

    It is on record before it goes out, so that nothing is sent twice.
    """
    return bool(
        tx.execute(
            update(_C)
            .where(_C.c.command_id == command_id, _waits(), _C.c.expires_at > now)
            .values(sent_at=now, outcome=None)
        ).rowcount
    )


def put_back(tx: Tx, command_id: int) -> None:
    """Let a command that never reached the wire wait again."""
    tx.execute(
        update(_C)
        .where(_C.c.command_id == command_id)
        .values(sent_at=None, finished_at=None, outcome=Outcome.WAITING, error="")
    )


def cancel_waiting(tx: Tx, command_id: int, *, at: datetime) -> bool:
    """Take a waiting command back; False if it no longer waits."""
    return bool(
        tx.execute(
            update(_C)
            .where(_C.c.command_id == command_id, _waits())
            .values(finished_at=at, outcome=Outcome.CANCELLED)
        ).rowcount
    )


def expire_waiting(tx: Tx, *, now: datetime) -> list[CommandRecord]:
    """End the commands whose time is over; return them as they waited."""
    over = and_(_waits(), _C.c.expires_at <= now)
    found = [CommandRecord(**row._mapping) for row in tx.execute(select(*_COLUMNS).where(over))]
    if found:
        tx.execute(update(_C).where(over).values(finished_at=now, outcome=Outcome.EXPIRED))
    return found


def _waits() -> ColumnElement[bool]:
    return _C.c.outcome == Outcome.WAITING


def purge_commands(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of commands that ended before `before`; return how many.

    Open ones stay. So do the guards of a station that is registered: they tell what it holds
    (given.py), however long ago it was sent.
    """
    return purge(
        tx,
        _C,
        _C.c.finished_at < before,
        _C.c.outcome.is_not(None),
        ~_waits(),
        or_(_C.c.kind != "SetGuard", _C.c.station_id.not_in(select(tables.station.c.station_id))),
    )


def find_command(tx: Tx, command_id: int) -> CommandRecord | None:
    """Return a command, None for one that is not on record any more."""
    row = tx.execute(select(*_COLUMNS).where(_C.c.command_id == command_id)).first()
    return None if row is None else CommandRecord(**row._mapping)


def get_command(tx: Tx, command_id: int) -> CommandRecord:
    """Return a command; raise NotFound."""
    found = find_command(tx, command_id)
    if found is None:
        raise NotFound(f"no command {command_id}")
    return found


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
