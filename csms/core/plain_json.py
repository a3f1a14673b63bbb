"""Frozen dataclasses to and from JSON, by their annotations; what is wrong is named by its path."""

import dataclasses
import json
import types
import typing
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin

from csms.core.errors import InvalidInput

T = TypeVar("T")

_AS_THEY_ARE = frozenset({float, int, str, bool, type(None)})


def dumps(value: Any) -> str:
    """Return a dataclass as one JSON object; raise ValueError for a number that is none."""

    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)


def _plain(item: Any) -> Any:
    """Return `item` as the standard library writes it; most are numbers, or rows of them."""
    kind = type(item)
    if kind in _AS_THEY_ARE:
        return item
    if isinstance(item, tuple):
        return item if _AS_THEY_ARE.issuperset(map(type, item)) else [_plain(i) for i in item]
    if isinstance(item, datetime):
        return item.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if dataclasses.is_dataclass(item):
        return {name: _plain(getattr(item, name)) for name in _names(kind)}  # type: ignore[arg-type]
    return item


@cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


def loads(cls: type[T], text: str, *, where: str) -> T:
    """Return the `cls` in `text`; raise InvalidInput naming the member that is wrong."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"not JSON: {error}") from error
    return _build(cls, raw, where)


@cache
def _members(cls: type) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the types of a dataclass's members and the names of those without a default."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    needed = (
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )
    return {f.name: hints[f.name] for f in fields}, frozenset(needed)


def _build(cls: type[T], raw: Any, where: str) -> T:
    if not isinstance(raw, dict):
        raise InvalidInput(f"{where} is {type(raw).__name__}; it must be an object")
    known, needed = _members(cls)  # type: ignore[arg-type]
    for name in raw:
        if name not in known:
            raise InvalidInput(f"{where}.{name} is not known; permitted: {', '.join(known)}")
    for name in known:
        if name in needed and name not in raw:
            raise InvalidInput(f"{where}.{name} is missing")
    return cls(**{name: _member(raw[name], known[name], f"{where}.{name}") for name in raw})


def _member(raw: Any, kind: Any, where: str) -> Any:
    of: Any = next(iter(get_args(kind)), None)
    if get_origin(kind) is types.UnionType and dataclasses.is_dataclass(of):
        return None if raw is None else _build(cast(type[Any], of), raw, where)
    if get_origin(kind) is tuple and dataclasses.is_dataclass(of):
        if not isinstance(raw, list):
            raise InvalidInput(f"{where} is {raw!r:.80}: it must be a list")
        return tuple(
            _build(cast(type[Any], of), item, f"{where}[{i}]") for i, item in enumerate(raw)
        )
    try:
        return _value(raw, kind)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{where} is {raw!r:.80}: {error}") from error


def _value(raw: Any, kind: Any) -> Any:
    args = get_args(kind)
    if get_origin(kind) is types.UnionType:
        if raw is None and type(None) in args:
            return None
        kind = next(a for a in args if a is not type(None))
        args = get_args(kind)
    if raw is None:
        raise ValueError("null is not permitted")
    if get_origin(kind) is tuple:
        if not isinstance(raw, list):
            raise ValueError("it must be a list")
        if len(args) == 2 and args[1] is not Ellipsis:
            if len(raw) != len(args):
                raise ValueError(f"it must have {len(args)} entries")
            return tuple(_value(item, of) for item, of in zip(raw, args, strict=True))
        return tuple(_value(item, args[0]) for item in raw)
    if kind is datetime:
        return _instant(raw)
    if kind is float:
        return _number(raw)
    if issubclass(kind, StrEnum):
        return kind(raw)
    if kind is int and (isinstance(raw, bool) or not isinstance(raw, int)):
        raise ValueError("it must be a whole number")
    if not isinstance(raw, kind):
        raise ValueError(f"it must be of type {kind.__name__}")
    return raw


def _number(raw: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError("it must be a number")
    return float(raw)


def _instant(raw: Any) -> datetime:
    at = datetime.fromisoformat(str(raw))
    if at.tzinfo is None:
        raise ValueError("it must be an instant with an offset, such as 2026-01-01T12:00:00Z")
    return at.astimezone(UTC)
