"""Look-ups that run often, such as at each start of a session: compiled once, decoded by column.

SQLAlchemy builds, compares and compiles a statement each time it is written down, and looks up
how to decode its rows; that takes ten times as long as the database does.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Boolean, ColumnElement, Select, TypeDecorator, select
from sqlalchemy.types import TypeEngine

from csms.store.statements import Hot, Row, Tx, parameter

T = TypeVar("T")


class Lookup(Generic[T]):
    """A SELECT of `columns` whose rows become `kind`, by the columns' names.

    It is looked for by the columns `by`; `narrow` adds more conditions or an order, with
    parameters (statements.parameter) named `also`. All take stored values, in that order.
    """

    def __init__(
        self,
        kind: Callable[..., T],
        columns: Sequence[ColumnElement[Any]],
        *,
        by: Sequence[ColumnElement[Any]],
        narrow: Callable[[Select[Any]], Select[Any]] = lambda found: found,
        also: Sequence[str] = (),
    ) -> None:
        self._kind = kind
        self._names = [str(getattr(column, "name", "")) for column in columns]
        self._decoders = [
            (name, decoder)
            for name, column in zip(self._names, columns, strict=True)
            if (decoder := _decoder(column.type)) is not None
        ]
        found = select(*columns).where(*(column == parameter(column) for column in by))
        names = [str(getattr(column, "name", "")) for column in by]
        self._statement = Hot(lambda insert: narrow(found), [*names, *also])

    def first(self, tx: Tx, *values: Any) -> T | None:
        """Return the first found, None if nothing is."""
        row = tx.row(self._statement, values)
        return None if row is None else self._made(row)

    def all(self, tx: Tx, *values: Any) -> list[T]:
        """Return all that are found."""
        return [self._made(row) for row in tx.rows(self._statement, values)]

    def _made(self, row: Row) -> T:
        found = dict(zip(self._names, row, strict=True))
        for name, decoder in self._decoders:
            found[name] = decoder(found[name])
        return self._kind(**found)


def _decoder(kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return what makes a value of a stored one, None where they are the same."""
    if isinstance(kind, TypeDecorator):
        # None of ours looks at the dialect.
        return lambda value: kind.process_result_value(value, None)  # type: ignore[arg-type]
    return _flag if isinstance(kind, Boolean) else None


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)
