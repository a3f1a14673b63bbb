"""An open transaction, and the statements that run often enough to be worth compiling once.

SQLAlchemy costs about 40 us to execute a Core statement it has cached; the driver itself costs 3.
A `Hot` statement is built from the same tables, compiled once per dialect and handed to the
driver's own cursor as text with a tuple. It takes and returns stored values (columns.py).
"""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain
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
_ROW = re.compile(r"VALUES (\((?:\?, )*\?\))")
_UPDATE = re.compile(r"UPDATE (?P<table>\w+) SET (?P<set>.+) WHERE \w+\.(?P<key>\w+) = \?")
MOST_ROWS = 32
"""Rows in one statement: with 30 values each they stay far below SQLite's 32,766 parameters."""


def parameter(column: ColumnElement[Any], name: str = "") -> BindParameter[Any]:
    """Return the parameter of a hot statement named `name`, by default like its column."""
    label = name or str(getattr(column, "name", ""))
    # SQLAlchemy keeps the bare column names for itself inside VALUES and SET.
    return bindparam(_PREFIX + label, type_=column.type)


def parameters(table: Table, names: Sequence[str]) -> dict[str, BindParameter[Any]]:
    """Return one parameter per column in `names`, to be given to `values()`."""
    return {name: parameter(table.c[name]) for name in names}


def upsert(insert: Insert, table: Table, key: Sequence[str], names: Sequence[str]) -> Any:
    """Return the statement that inserts a row, or updates the one with the same `key` to it."""
    statement = insert(table).values(parameters(table, names))
    return statement.on_conflict_do_update(
        index_elements=list(key),
        set_={name: statement.excluded[name] for name in names if name not in key},
    )


class Hot:
    """A statement compiled once per dialect and run with a tuple in the order of `names`.

    `then` is called before the commit of a transaction that put rows off with it, with their
    number.
    """

    def __init__(
        self,
        build: Callable[[Insert], Any],
        names: Sequence[str],
        *,
        then: "Callable[[Tx, int], None] | None" = None,
    ) -> None:
        self.then = then
        self._build = build
        self._names = tuple(names)
        self._forms: dict[str, tuple[str, Callable[[Sequence[Any]], Any] | None]] = {}
        self._many: dict[int, str] = {}

    def form(self, dialect: str) -> tuple[str, Callable[[Sequence[Any]], Any] | None]:
        """Return the SQL text and how to reorder the values, None where they fit as they are."""
        found = self._forms.get(dialect)
        if found is None:
            found = self._forms[dialect] = self._compiled(dialect)
        return found

    def many(self, rows: int) -> str | None:
        """Return SQLite's text for `rows` rows in one statement, None if there is no such text.

        There is one for an INSERT of values and for an UPDATE by a key, its last value.
        """
        text = self._many.get(rows)
        if text is None:
            single, _ = self.form("sqlite")
            if (found := _ROW.search(single)) is not None:
                values = ", ".join([found[1]] * rows)
                text = single[: found.start(1)] + values + single[found.end(1) :]
            elif (found := _UPDATE.fullmatch(single)) is not None:
                text = self._many_updates(found, rows)
            else:
                return None
            self._many[rows] = text
        return text

    def _many_updates(self, single: re.Match[str], rows: int) -> str:
        # SQLite names the columns of VALUES column1, column2 and so on.
        places = map(str, range(1, len(self._names)))
        sets = re.sub(r"\?", lambda _: f"new.column{next(places)}", single["set"])
        row = f"({', '.join('?' * len(self._names))})"
        return (
            f"UPDATE {single['table']} SET {sets} FROM (VALUES {', '.join([row] * rows)}) AS new"
            f" WHERE {single['table']}.{single['key']} = new.column{len(self._names)}"
        )

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


class Postponed(Exception):
    """A statement that was put off failed: which unit asked for it is not known any more."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Tx:
    """An open transaction: the only thing of the database that a function in here sees.

    A unit of work must touch nothing but its Tx: it may be run twice, and only one run counts.
    Whoever changes remembered rows by a statement of their own has to clear `memory`.

    What is put off with `later` is written before anything else is run and before the commit, so
    nobody sees the difference but the clock: the rows of a whole group go in by one statement,
    during which the loop has the interpreter to itself.
    """

    __slots__ = ("_connection", "_cursor", "_later", "_then", "dialect", "memory")

    def __init__(self, connection: Connection, cursor: Any, memory: Memory) -> None:
        self._connection = connection
        self._cursor = cursor
        self._later: dict[Hot, list[Sequence[Any]]] = {}
        self._then: dict[Hot, int] = {}
        self.dialect = connection.dialect.name
        self.memory = memory

    def later(self, statement: Hot, values: Sequence[Any]) -> None:
        """Run a hot statement whose result nobody needs, at the latest before the commit.

        Statements put off keep their order among themselves only: rows of one must not depend on
        another's. An UPDATE must name its row by its last value; the last one for a row counts.
        """
        rows = self._later.get(statement)
        if rows is None:
            self._later[statement] = [values]
        else:
            rows.append(values)

    def catch_up(self) -> None:
        """Run what was put off; raises Postponed, from what went wrong."""
        if not self._later:
            return
        pending, self._later = self._later, {}
        try:
            for statement, rows in pending.items():
                self._run_together(statement, rows)
                if statement.then is not None:
                    self._then[statement] = self._then.get(statement, 0) + len(rows)
        except Exception as error:
            raise Postponed(error) from error

    def finish(self) -> None:
        """Run what was put off and what follows from it; raises Postponed likewise."""
        self.catch_up()
        try:
            for statement, rows in self._then.items():
                if statement.then is not None:
                    statement.then(self, rows)
        except Exception as error:
            raise Postponed(error) from error

    def _run_together(self, statement: Hot, rows: list[Sequence[Any]]) -> None:
        text, order = statement.form(self.dialect)
        if text.startswith("UPDATE"):
            rows = list({row[-1]: row for row in rows}.values())
        if order is not None:
            rows = [order(row) for row in rows]
        if self.dialect != "sqlite":
            self._cursor.executemany(text, rows)
            return
        # Each call gives the interpreter to the loop and waits to get it back, and executemany
        # does so for each row: few calls.
        for begin in range(0, len(rows), MOST_ROWS):
            chunk = rows[begin : begin + MOST_ROWS]
            together = statement.many(len(chunk)) if len(chunk) > 1 else text
            if together is None:
                self._cursor.executemany(text, chunk)
            else:
                self._cursor.execute(together, tuple(chain.from_iterable(chunk)))

    def execute(
        self, statement: Executable, values: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run a Core statement, once or for each mapping in `values`."""
        self.catch_up()
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
        self.catch_up()
        self._connection.execute(statement, list(rows))

    def run(self, statement: Hot, values: Sequence[Any]) -> int:
        """Run a hot statement and return how many rows it touched."""
        self.catch_up()
        text, order = statement.form(self.dialect)
        self._cursor.execute(text, values if order is None else order(values))
        return int(self._cursor.rowcount)

    def run_all(self, statement: Hot, rows: Sequence[Sequence[Any]]) -> None:
        """Run a hot statement once for each tuple."""
        self.catch_up()
        text, order = statement.form(self.dialect)
        self._cursor.executemany(text, rows if order is None else [order(r) for r in rows])

    def row(self, statement: Hot, values: Sequence[Any]) -> Row | None:
        """Run a hot statement and return its first row, None if it has none."""
        self.catch_up()
        text, order = statement.form(self.dialect)
        self._cursor.execute(text, values if order is None else order(values))
        found: Row | None = self._cursor.fetchone()
        return found

    def rows(self, statement: Hot, values: Sequence[Any]) -> list[Row]:
        """Run a hot statement and return all its rows."""
        self.catch_up()
        text, order = statement.form(self.dialect)
        self._cursor.execute(text, values if order is None else order(values))
        found: list[Row] = self._cursor.fetchall()
        return found
