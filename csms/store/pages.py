"""A page of a list, newest first."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, Select, func, select

from csms.core.errors import InvalidInput
from csms.store.statements import Tx

T = TypeVar("T")

MAX_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Part of a list: `total` counts the whole list, `cursor` asks for what follows.

    `cursor` is "" on the last page; its text means nothing to whoever passes it back.
    """

    items: tuple[T, ...]
    total: int
    cursor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPage:
    """Rows of a page before they become values."""

    rows: list[Any]
    total: int
    cursor: str


def newest_first(
    tx: Tx,
    statement: Select[Any],
    *,
    key: Column[Any],
    filters: list[ColumnElement[bool]],
    limit: int,
    cursor: str,
) -> RowPage:
    """Return a page of `statement` by falling `key`, an integer that rises with every row.

    The key has to be selected. Raises InvalidInput for a cursor that is none of ours.
    """
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidInput(f"cursor is {cursor[:20]!r}; it must come from the page before")
    counted = select(func.count()).select_from(key.table).where(*filters)
    total = int(tx.execute(counted).scalar_one())
    size = max(1, min(limit, MAX_PAGE))
    statement = statement.where(*filters).order_by(key.desc()).limit(size + 1)
    if cursor:
        statement = statement.where(key < int(cursor))
    rows = list(tx.execute(statement))
    more = len(rows) > size
    rows = rows[:size]
    return RowPage(rows=rows, total=total, cursor=str(rows[-1]._mapping[key]) if more else "")
