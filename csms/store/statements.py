"""An open transaction, and the statements that run often enough to be worth compiling once.

SQLAlchemy costs about 40 us to execute a Core statement it has cached; the driver itself costs 3.
A `Hot` statement is built from the same tables, compiled once per dialect and handed to the
driver's own cursor as text with a tuple. It takes and returns stored values (columns.py).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    CursorResult,
    Dialect,
    Executable,
    Table,
    bindparam,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

Row = tuple[Any, ...]
Insert = Callable[[Table], Any]
"""The dialect's own `insert`, which alone knows ON CONFLICT."""

_INSERTS: Mapping[str, Insert] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_PREFIX = "p_"


def parameter(column: ColumnElement[Any], name: str = "") -> BindParameter[Any]:
    """Return the parameter of a hot statement named `name`, by default like its column."""
    label = name or str(getattr(column, "name", ""))
    # SQLAlchemy keeps the bare column names for itself inside VALUES and SET.
    return bindparam(_PREFIX + label, type_=column.type)


def parameters(table: Table, names: Sequence[str]) -> dict[str, BindParameter[Any]]:
    """Return one parameter per column in `names`, to be given to `values()`."""
    return {name: parameter(table.c[name]) for name in names}


class Hot:
    """A statement compiled once per dialect and run with a tuple in the order of `names`."""

    def __init__(self, build: Callable[[Insert], Any], names: Sequence[str]) -> None:
        self._build = build
        self._names = tuple(names)
        self._forms: dict[str, tuple[str, Callable[[Sequence[Any]], Any] | None]] = {}

    def form(self, dialect: str) -> tuple[str, Callable[[Sequence[Any]], Any] | None]:
        """Return the SQL text and how to reorder the values, None where they fit as they are."""
        found = self._forms.get(dialect)
        if found is None:
            found = self._forms[dialect] = self._compiled(dialect)
        return found

    def _compiled(self, dialect: str) -> tuple[str, Callable[[Sequence[Any]], Any] | None]:
        compiler: Dialect = (
            SQLiteDialect_pysqlite(paramstyle="qmark")
            if dialect == "sqlite"
            else PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]
        )
        compiled = self._build(_INSERTS[dialect]).compile(dialect=compiler)
        order = [name.removeprefix(_PREFIX) for name in compiled.positiontup or ()]
        if set(order) != set(self._names):
            raise ValueError(f"the statement takes {order}, not {self._names}")
        if tuple(order) == self._names:
            return str(compiled), None
        places = [self._names.index(name) for name in order]
        return str(compiled), itemgetter(*places)


class Memory:
    """Values last read or written through the one writing connection, so as not to read them again.

    Holds nothing that a rollback undid (`rolled_back`) and is emptied when anybody else may have
    written (`clear`): the writer sees to both.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: dict[Hashable, Any] = {}
        self._touched: list[Hashable] = []

    def get(self, key: Hashable) -> Any:
        """Return the value of `key`, None if it is not remembered."""
        return self._values.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        """Remember `value`; the longest remembered goes when there are too many."""
        self._values[key] = value
        self._touched.append(key)
        if len(self._values) > self._size:
            del self._values[next(iter(self._values))]

    def forget(self, key: Hashable) -> None:
        """Remember `key` no longer."""
        self._values.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._touched.clear()

    def committed(self) -> None:
        """Keep what the transaction did."""
        self._touched.clear()

    def rolled_back(self) -> None:
        """Forget what the transaction did."""
        for key in self._touched:
            self._values.pop(key, None)
        self._touched.clear()


class Tx:
    """An open transaction: the only thing of the database that a function in here sees.

    A unit of work must touch nothing but its Tx: it may be run twice, and only one run counts.
    Whoever changes remembered rows by a statement of their own has to clear `memory`.
    """

    __slots__ = ("_connection", "_cursor", "dialect", "memory")

    def __init__(self, connection: Connection, cursor: Any, memory: Memory) -> None:
        self._connection = connection
        self._cursor = cursor
        self.dialect = connection.dialect.name
        self.memory = memory

    def execute(
        self, statement: Executable, values: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run a Core statement, once or for each mapping in `values`."""
        result: CursorResult[Any] = self._connection.execute(statement, values)
        return result

    def insert(self, table: Table) -> Any:
        """Return the dialect's insert statement, which has `on_conflict_do_update`."""
        return _INSERTS[self.dialect](table)

    def upsert(self, table: Table, key: Sequence[str], values: Mapping[str, Any]) -> None:
        """Insert `values`, or update the row with the same `key` to them."""
        self.upsert_all(table, key, [values])

    def upsert_all(
        self, table: Table, key: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Upsert every mapping in `rows`; all must name the same columns."""
        if not rows:
            return
        statement = self.insert(table)
        rest = {name: statement.excluded[name] for name in rows[0] if name not in key}
        statement = (
            statement.on_conflict_do_update(index_elements=list(key), set_=rest)
            if rest
            else statement.on_conflict_do_nothing(index_elements=list(key))
        )
        self._connection.execute(statement, list(rows))

    def run(self, statement: Hot, values: Sequence[Any]) -> int:
        """Run a hot statement and return how many rows it touched."""
        text, order = statement.form(self.dialect)
        self._cursor.execute(text, values if order is None else order(values))
        return int(self._cursor.rowcount)

    def run_all(self, statement: Hot, rows: Sequence[Sequence[Any]]) -> None:
        """Run a hot statement once for each tuple."""
        text, order = statement.form(self.dialect)
        self._cursor.executemany(text, rows if order is None else [order(r) for r in rows])

    def row(self, statement: Hot, values: Sequence[Any]) -> Row | None:
        """Run a hot statement and return its first row, None if it has none."""
        text, order = statement.form(self.dialect)
        self._cursor.execute(text, values if order is None else order(values))
        found: Row | None = self._cursor.fetchone()
        return found

    def rows(self, statement: Hot, values: Sequence[Any]) -> list[Row]:
        """Run a hot statement and return all its rows."""
        text, order = statement.form(self.dialect)
        self._cursor.execute(text, values if order is None else order(values))
        found: list[Row] = self._cursor.fetchall()
        return found
