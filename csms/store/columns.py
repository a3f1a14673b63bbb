"""Column types, and the conversions the hot statements do by hand.

Instants are integer microseconds since the Unix epoch, UTC: exact, ordered, the same on both
databases. Tuples and objects are JSON text; the empty tuple is the empty text, which is what
most rows hold.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Identity,
    Integer,
    MetaData,
    Text,
    TypeDecorator,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode

Serial = BigInteger().with_variant(Integer, "sqlite")
"""Type of a generated key; SQLite numbers rows only for a column that is INTEGER by name."""


def us_from(at: datetime) -> int:
    """Return the microseconds from the epoch to `at`; raise ValueError for a naive instant."""
    if at.tzinfo is None:
        raise ValueError(f"{at} has no zone; instants in the store are aware")
    return (at - EPOCH) // _MICROSECOND


def at_from(us: int) -> datetime:
    """Return the instant `us` microseconds after the epoch, UTC."""
    return EPOCH + timedelta(microseconds=us)


def us_or_none(at: datetime | None) -> int | None:
    """Return `us_from(at)`, None for None."""
    return None if at is None else us_from(at)


def at_or_none(us: int | None) -> datetime | None:
    """Return `at_from(us)`, None for None."""
    return None if us is None else at_from(us)


_float_text = float.__repr__


def text_from(values: tuple[Any, ...]) -> str:
    """Return a tuple as JSON text, "" for the empty one; raise ValueError for NaN, infinity."""
    if not values:
        return ""
    if type(values[0]) is not float:
        return _encode(values)
    # What nearly every sample holds: JSON spells a float as Python does, in half its time.
    try:
        text = ",".join(map(_float_text, values))
    except TypeError:
        return _encode(values)
    return f"[{text}]" if "n" not in text else _encode(values)


def tuple_from(text: str) -> tuple[Any, ...]:
    """Return what `text_from` took; lists inside become tuples."""
    return tuple(_frozen(item) for item in json.loads(text)) if text else ()


def json_text(value: object) -> str:
    """Return `value` as compact JSON; raise ValueError for NaN and infinities."""
    return _encode(value)


def _frozen(item: Any) -> Any:
    return tuple(_frozen(i) for i in item) if isinstance(item, list) else item


class Instant(TypeDecorator[datetime]):
    """An aware datetime kept as microseconds since the epoch."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return what is stored."""
        return us_or_none(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return the instant, UTC."""
        return at_or_none(value)


class Values(TypeDecorator[tuple[Any, ...]]):
    """A tuple of plain values kept as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[Any, ...] | None, dialect: Dialect) -> str | None:
        """Return what is stored."""
        return None if value is None else text_from(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[Any, ...] | None:
        """Return the tuple."""
        return None if value is None else tuple_from(value)


class JsonObject(TypeDecorator[Mapping[str, object]]):
    """A mapping kept as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(
        self, value: Mapping[str, object] | None, dialect: Dialect
    ) -> str | None:
        """Return what is stored."""
        return None if value is None else _encode(dict(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, object] | None:
        """Return the mapping."""
        if value is None:
            return None
        found = json.loads(value)
        return found if isinstance(found, dict) else {}


class Word(TypeDecorator[StrEnum]):
    """A member of one enumeration kept as its text."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        """Return what is stored."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        """Return the member."""
        return None if value is None else self.kind(value)


# --- the parts tables are made of ----------------------------------------------------------------

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def text_column(name: str, **more: Any) -> Column[str]:
    """Return a text column that is never NULL."""
    return Column(name, Text, nullable=False, **more)


def int_column(name: str, **more: Any) -> Column[int]:
    """Return an integer column that is never NULL."""
    return Column(name, Integer, nullable=False, **more)


def float_column(name: str, **more: Any) -> Column[float]:
    """Return a floating-point column that is never NULL."""
    return Column(name, Float, nullable=False, **more)


def flag_column(name: str) -> Column[bool]:
    """Return a boolean column that is never NULL."""
    return Column(name, Boolean, nullable=False)


def instant_column(name: str, **more: Any) -> Column[Any]:
    """Return an instant that is never NULL."""
    return Column(name, Instant, nullable=False, **more)


def nullable_column(name: str, kind: Any) -> Column[Any]:
    """Return a column in which NULL says that nothing is known."""
    return Column(name, kind, nullable=True)


def serial_column(name: str = "id") -> Column[int]:
    """Return a generated key."""
    return Column(name, Serial, Identity(), primary_key=True)
