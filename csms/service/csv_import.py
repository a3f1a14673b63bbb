"""CSV files of holders, vehicles, trips and tokens -> values, all of a file or none of it.

The first line names the columns, in any order; they are the names the API uses. Lists are
separated by "|". An empty cell is the field's default. Every message names line and column.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from csms.core.errors import InvalidInput
from csms.core.model import Assurance, Holder, TokenRecord, Trip, Vehicle

T = TypeVar("T")
Read = Callable[[str], Any]

KINDS = ("holders", "vehicles", "trips", "tokens")
MAX_ROWS = 20_000


def _text(most: int = 255) -> Read:
    def read(cell: str) -> str:
        if len(cell) > most:
            raise ValueError(f"it has {len(cell)} characters; it may have {most}")
        return cell

    return read


def _number(low: float, high: float) -> Read:
    def read(cell: str) -> float:
        value = float(cell)
        if not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"it must be between {low:g} and {high:g}")
        return value

    return read


def _whole(low: int, high: int) -> Read:
    def read(cell: str) -> int:
        value = int(cell)
        if not low <= value <= high:
            raise ValueError(f"it must be between {low} and {high}")
        return value

    return read


def _word(*permitted: str) -> Read:
    def read(cell: str) -> str:
        if cell not in permitted:
            raise ValueError(f"permitted: {', '.join(permitted)}")
        return cell

    return read


def _flag(cell: str) -> bool:
    if cell.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError("it must be true or false")
    return cell.lower() in ("true", "yes", "1")


def _instant(cell: str) -> datetime:
    at = datetime.fromisoformat(cell)
    if at.tzinfo is None:
        raise ValueError("it must have an offset, such as 2026-01-31T07:30:00+01:00")
    return at.astimezone(UTC)


def _list(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split("|") if part.strip())


HOLDER: Mapping[str, Read] = {
    "did": _text(),
    "kind": _text(40),
    "name": _text(200),
    "state": _word("active", "disabled"),
    "organisation": _text(200),
    "allowed_sites": _list,
    "priority": _whole(-9, 9),
    "carbon_conscious": _flag,
    "max_price_per_kwh": _number(-10, 100),
    "vehicle_id": _text(),
    "max_open_sessions": _whole(1, 1000),
}
VEHICLE: Mapping[str, Read] = {
    "vehicle_id": _text(),
    "name": _text(200),
    "battery_kwh": _number(0.5, 5_000),
    "consumption_wh_per_km": _number(1, 20_000),
    "max_kw": _number(0.1, 4_000),
    "max_dc_kw": _number(0.1, 4_000),
    "phases": _whole(1, 3),
    "min_current_a": _number(6, 80),
    "efficiency": _number(0.3, 1),
    "soc": _number(0, 1),
    "max_soc": _number(0.01, 1),
    "owner_did": _text(),
}
TRIP: Mapping[str, Read] = {
    "trip_id": _text(),
    "holder_did": _text(),
    "vehicle_id": _text(),
    "departs_at": _instant,
    "distance_km": _number(0, 5_000),
    "energy_kwh": _number(0, 5_000),
    "reserve_share": _number(0, 2),
    "preferred_soc": _number(0, 1),
}
TOKEN: Mapping[str, Read] = {
    "value": _text(),
    "kind": _text(40),
    "did": _text(),
    "state": _word("active", "blocked", "suspended", "lost"),
    "assurance": Assurance,
    "valid_from": _instant,
    "valid_until": _instant,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row with the line it stands on, for messages."""

    number: int
    values: Mapping[str, Any]


def holders(text: str) -> list[Holder]:
    """Return the holders of a CSV file; raise InvalidInput naming line and column."""
    return _built(text, HOLDER, ("did",), lambda values: Holder(**values))


def vehicles(text: str, *, now: datetime) -> list[Vehicle]:
    """Return the vehicles of a CSV file; a state of charge counts from `now`."""

    def build(values: Mapping[str, Any]) -> Vehicle:
        vehicle = Vehicle(**values)
        if vehicle.soc is None:
            return vehicle
        return replace(vehicle, soc_at=now, soc_source="declared")

    return _built(text, VEHICLE, ("vehicle_id",), build)


def trips(text: str, *, new_id: Callable[[], str]) -> list[Trip]:
    """Return the trips of a CSV file; those without an id get a new one."""

    def build(values: Mapping[str, Any]) -> Trip:
        return Trip(**{"trip_id": values.get("trip_id") or new_id(), **values})

    return _built(text, TRIP, ("holder_did", "departs_at"), build)


def tokens(text: str) -> list[TokenRecord]:
    """Return the tokens of a CSV file as typed in; they are not normalised yet."""
    return _built(
        text, TOKEN, ("value",), lambda values: TokenRecord(**{"kind": "", "did": "", **values})
    )


def _built(
    text: str,
    columns: Mapping[str, Read],
    required: Sequence[str],
    build: Callable[[Mapping[str, Any]], T],
) -> list[T]:
    return [build(line.values) for line in _lines(text, columns, required)]


def _lines(text: str, columns: Mapping[str, Read], required: Sequence[str]) -> list[Line]:
    # Spreadsheets of half of Europe write semicolons, and a byte-order mark before the first name.
    text = text.removeprefix("\ufeff")
    head = text.split("\n", 1)[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num}: {error}") from error
    if not rows:
        raise InvalidInput("the file is empty; its first line must name the columns")
    names = [name.strip() for name in rows[0][1]]
    for name in names:
        if name not in columns:
            raise InvalidInput(f"column {name!r:.40} is not known; permitted: {', '.join(columns)}")
        if names.count(name) > 1:
            raise InvalidInput(f"column {name} is given twice")
    for name in required:
        if name not in names:
            raise InvalidInput(f"column {name} is missing")
    if len(rows) - 1 > MAX_ROWS:
        raise InvalidInput(f"the file has {len(rows) - 1} rows; it may have {MAX_ROWS}")
    return [_line(number, names, row, columns, required) for number, row in rows[1:]]


def _line(
    number: int,
    names: Sequence[str],
    row: Sequence[str],
    columns: Mapping[str, Read],
    required: Sequence[str],
) -> Line:
    if len(row) != len(names):
        raise InvalidInput(f"line {number} has {len(row)} cells; it must have {len(names)}")
    values: dict[str, Any] = {}
    for name, raw in zip(names, row, strict=True):
        cell = raw.strip()
        if not cell:
            continue
        try:
            values[name] = columns[name](cell)
        except ValueError as error:
            raise InvalidInput(f"line {number}, {name} is {cell!r:.60}: {error}") from error
    for name in required:
        if name not in values:
            raise InvalidInput(f"line {number}: {name} is empty")
    return Line(number=number, values=values)
