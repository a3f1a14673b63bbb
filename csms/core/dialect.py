"""What one make of station takes of charging profiles, item by item, each with its source.

An item is said by the station ("asked"), was found out by a refusal or the meter ("learned"), or
is set by an operator ("operator"). It belongs to a station, or to all stations of one vendor,
model and firmware; what nobody knows is assumed (StationLimits).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from math import isfinite

from csms.core.errors import InvalidInput
from csms.core.model import Station, StationLimits

OPERATOR, LEARNED, ASKED, ASSUMED = "operator", "learned", "asked", "assumed"

Value = bool | int | float | str | tuple[str, ...]

ZERO = ("ok", "sleeps", "ends_session")
SAME_ID = ("replaces", "clear_first")
CASCADE = ("least", "tx_only", "default_only", "max_only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One thing found out about a station; `is_of_model` says that its like will do the same."""

    name: str
    value: Value
    why: str
    is_of_model: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectItem:
    """One item. `station_id` "" makes it the model's; an empty `firmware` holds for every one."""

    name: str
    value: Value
    source: str
    at: datetime
    why: str = ""
    vendor: str = ""
    model: str = ""
    firmware: str = ""
    station_id: str = ""


def _whole(least: int, most: int) -> Callable[[object], Value]:
    def check(value: object) -> Value:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"a whole number between {least} and {most}")
        return value

    return check


def _number(least: float, most: float) -> Callable[[object], Value]:
    def check(value: object) -> Value:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not isfinite(value) or not least <= value <= most:  # type: ignore[arg-type, operator]
            raise ValueError(f"a number between {least:g} and {most:g}")
        return float(value)  # type: ignore[arg-type]

    return check


def _one_of(words: tuple[str, ...]) -> Callable[[object], Value]:
    def check(value: object) -> Value:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return value

    return check


def _flag(value: object) -> Value:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _units(value: object) -> Value:
    found = tuple(value) if isinstance(value, list | tuple) else ()
    if not found or len(found) > 2 or len(set(found)) < len(found) or not set(found) <= {"A", "W"}:
        raise ValueError("a list of A, W or both, the preferred one first")
    return found


def _text(value: object) -> Value:
    if not isinstance(value, str) or len(value) > 200:
        raise ValueError("a text of at most 200 characters")
    return value


ITEMS: Mapping[str, Callable[[object], Value]] = {
    "units": _units,
    "max_periods": _whole(1, 1_000_000_000),
    "max_stack_level": _whole(0, 1_000_000_000),
    "max_profiles": _whole(1, 1_000_000_000),
    "step_a": _number(0.1, 32.0),
    "step_w": _number(1.0, 100_000.0),
    "least_w": _number(0.0, 100_000.0),
    "supports_profiles": _flag,
    "zero": _one_of(ZERO),
    "same_id": _one_of(SAME_ID),
    "cascade": _one_of(CASCADE),
    "returns_after_close": _flag,
    "switches_phases": _flag,
    "significant_share": _number(0.0, 1.0),
    "phase_rotation": _text,
}
"""Every item with what checks it; the names are fields of StationLimits."""

_NARROWED = ("max_periods", "max_stack_level", "max_profiles")
"""Of what a station says and what was learned, the smaller counts."""


def checked(name: str, value: object) -> Value:
    """Return `value` as item `name` holds it; raise InvalidInput naming what is permitted."""
    if name not in ITEMS:
        raise InvalidInput(f"{name} is no item of a dialect; permitted: {', '.join(ITEMS)}")
    try:
        return ITEMS[name](value)
    except ValueError as error:
        raise InvalidInput(f"{name} is {value!r:.60}; it must be {error}") from None


def is_for(item: DialectItem, station: Station) -> bool:
    """Return whether an item says something about `station` as it is now."""
    if item.station_id:
        # What was learned of another firmware is history; what an operator set stays.
        return item.station_id == station.station_id and item.firmware in (
            "",
            station.firmware_version,
        )
    return (
        bool(item.vendor)
        and (item.vendor, item.model) == (station.vendor, station.model)
        and item.firmware in ("", station.firmware_version)
    )


def winners(items: Iterable[DialectItem], station: Station) -> dict[str, DialectItem]:
    """Return the item that counts for each name that somebody said something about.

    An operator's word goes before what was learned, that before what the station says; the
    station's own before its model's.
    """
    by_name: dict[str, list[DialectItem]] = {}
    for item in items:
        if item.name in ITEMS and is_for(item, station):
            by_name.setdefault(item.name, []).append(item)
    found = {name: max(those, key=_rank) for name, those in by_name.items()}
    for name in _NARROWED:
        winner = found.get(name)
        if winner is not None and winner.source == LEARNED:
            said = [i for i in by_name[name] if i.source == ASKED and i.station_id]
            found[name] = min([winner, *said], key=lambda i: i.value)
    return found


def _rank(item: DialectItem) -> tuple[int, bool, bool, datetime]:
    order = {OPERATOR: 3, LEARNED: 2, ASKED: 1}
    return order.get(item.source, 0), bool(item.station_id), bool(item.firmware), item.at


def limits_of(items: Mapping[str, DialectItem]) -> StationLimits:
    """Return what the rest of the system goes by."""
    known = {f.name for f in fields(StationLimits)}
    values = {name: item.value for name, item in items.items() if name in known}
    sources = {item.source for item in items.values()}
    best = next((s for s in (OPERATOR, LEARNED, ASKED) if s in sources), ASSUMED)
    return StationLimits(source=best, **values)  # type: ignore[arg-type]
