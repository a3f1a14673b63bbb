"""Values over time as providers publish them, and the laws every parser's result has to keep.

A result is a list of slots [start, until) in UTC, in order, without overlap. A gap stays a gap.
What cannot be read, or cannot be true, is refused with the provider's and the field's name.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from csms.core.errors import ProviderError

HOUR: Final = timedelta(hours=1)
MAX_SLOTS: Final = 5000
MAX_SPAN: Final = timedelta(days=62)
MAX_EUR_PER_KWH: Final = 10.0
"""Beyond the harmonised limits of the European day-ahead markets (about 5 EUR/kWh)."""
MAX_KG_PER_KWH: Final = 3.0
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A value in [starts_at, until); `until` None means until further notice."""

    starts_at: datetime
    until: datetime | None
    value: float


class Reader:
    """Takes an answer apart and names what does not fit: `<provider>: data[3].price is 'x'; …`."""

    def __init__(self, provider: str) -> None:
        self.provider = provider

    def error(self, where: str, found: object, right: str) -> ProviderError:
        """Return the error for `found` at `where`."""
        return ProviderError(f"{self.provider}: {where} is {found!r:.60}; it must be {right}")

    def members(self, raw: object, where: str) -> Mapping[str, object]:
        """Return `raw` if it is an object."""
        if not isinstance(raw, Mapping):
            raise self.error(where, raw, "an object")
        return raw

    def items(self, raw: object, where: str) -> Sequence[object]:
        """Return `raw` if it is a list of bearable length."""
        if not isinstance(raw, list):
            raise self.error(where, raw, "a list")
        if len(raw) > MAX_SLOTS:
            raise ProviderError(
                f"{self.provider}: {where} has {len(raw)} entries; at most {MAX_SLOTS}"
            )
        return raw

    def objects(self, raw: object, where: str) -> Iterable[tuple[str, Mapping[str, object]]]:
        """Yield (where, object) for each entry of a list of objects."""
        for index, entry in enumerate(self.items(raw, where)):
            yield f"{where}[{index}]", self.members(entry, f"{where}[{index}]")

    def of_area(self, records: object, area: str) -> Iterable[tuple[str, Mapping[str, object]]]:
        """Yield the entries of `records` whose PriceArea is `area`.

        Records of other areas only are a mistake in the configuration; no records are not.
        """
        found = list(self.objects(records, "records"))
        areas = sorted({str(record.get("PriceArea")) for _, record in found})
        if areas and area not in areas:
            raise self.error("PriceArea", ", ".join(areas), f"{area!r} in some record")
        return [(where, record) for where, record in found if record.get("PriceArea") == area]

    def number(self, raw: object, where: str, *, is_text: bool = False) -> float:
        """Return `raw` as a finite number; `is_text` for formats that write numbers as text."""
        if is_text and isinstance(raw, str):
            try:
                raw = float(raw)
            except ValueError:
                raise self.error(where, raw, "a decimal number") from None
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            raise self.error(where, raw, "a number")
        # Compared first: an integer of 400 digits has no float at all.
        if not -1e15 < raw < 1e15:
            raise self.error(where, raw, "a number of bearable size")
        return float(raw)

    def instant(self, raw: object, where: str, *, is_utc: bool = False) -> datetime:
        """Return an ISO 8601 instant in UTC; `is_utc` for formats that leave the mark out."""
        try:
            at = datetime.fromisoformat(raw) if isinstance(raw, str) else None
        except ValueError:
            at = None
        if at is not None and at.tzinfo is None and is_utc:
            at = at.replace(tzinfo=UTC)
        if at is None or at.tzinfo is None:
            raise self.error(where, raw, "an instant such as 2026-01-01T12:00:00Z")
        try:
            return self._plausible(at.astimezone(UTC), raw, where)
        except OverflowError:
            raise self.error(where, raw, "an instant of this century") from None

    def epoch(self, raw: object, where: str, *, per_s: int = 1) -> datetime:
        """Return a Unix time counted in 1/`per_s` seconds."""
        seconds = self.number(raw, where) / per_s
        try:
            return self._plausible(datetime.fromtimestamp(seconds, UTC), raw, where)
        except (OverflowError, OSError, ValueError):
            raise self.error(where, raw, "a Unix time of this century") from None

    def _plausible(self, at: datetime, raw: object, where: str) -> datetime:
        if not _EARLIEST <= at < _LATEST:
            raise self.error(where, raw, "an instant of this century")
        return at

    def with_ends(
        self, points: Sequence[tuple[datetime, float]], *, usual: timedelta, where: str
    ) -> list[Slot]:
        """Return slots for values that carry their start only.

        Each lasts as long as the smallest step between two of them (`usual` for a single one), so
        that a missing value leaves a gap instead of stretching the one before.
        """
        starts = sorted({at for at, _ in points})
        steps = [later - earlier for earlier, later in pairwise(starts)]
        step = min(steps, default=usual)
        if step > timedelta(days=1):
            raise self.error(where, str(step), "a step of at most a day")
        return [Slot(starts_at=at, until=at + step, value=value) for at, value in points]

    def ordered(
        self, slots: Iterable[Slot], *, low: float, high: float, unit: str, is_open: bool = False
    ) -> list[Slot]:
        """Return `slots` in order, checked for range, span and overlap.

        The same slot twice with the same value counts once. `is_open` leaves out
        the span, for recordings and for prices that hold until further notice.
        """
        found: list[Slot] = []
        for slot in sorted(slots, key=lambda s: s.starts_at):
            at = f"the value at {slot.starts_at:%Y-%m-%dT%H:%MZ}"
            if not math.isfinite(slot.value) or not low <= slot.value <= high:
                raise self.error(at, slot.value, f"between {low:g} and {high:g} {unit}")
            if slot.until is not None and slot.until <= slot.starts_at:
                raise self.error(f"the end of {at}", slot.until.isoformat(), "after its start")
            if not is_open and (slot.until is None or slot.until - slot.starts_at > timedelta(1)):
                raise self.error(f"the end of {at}", str(slot.until), "within a day of its start")
            last = found[-1] if found else None
            if last is not None and last == slot:
                continue
            if last is not None and (last.until is None or last.until > slot.starts_at):
                raise ProviderError(
                    f"{self.provider}: two values at {slot.starts_at:%Y-%m-%dT%H:%MZ}: "
                    f"{last.value:g} and {slot.value:g} {unit}"
                )
            found.append(slot)
        if is_open:
            return found
        if len(found) > MAX_SLOTS:
            raise ProviderError(f"{self.provider}: {len(found)} values; at most {MAX_SLOTS}")
        if found and found[-1].starts_at - found[0].starts_at > MAX_SPAN:
            raise ProviderError(
                f"{self.provider}: values from {found[0].starts_at:%Y-%m-%d} to "
                f"{found[-1].starts_at:%Y-%m-%d}; they must span at most {MAX_SPAN.days} days"
            )
        return found


def averaged(slots: Sequence[Slot], *, slot_s: int = 900) -> list[Slot]:
    """Return the mean of `slots` per slot of `slot_s`, aligned to the Unix epoch."""
    groups: dict[int, list[float]] = {}
    for slot in slots:
        groups.setdefault(int(slot.starts_at.timestamp()) // slot_s, []).append(slot.value)
    return [
        Slot(
            starts_at=datetime.fromtimestamp(number * slot_s, UTC),
            until=datetime.fromtimestamp((number + 1) * slot_s, UTC),
            value=sum(values) / len(values),
        )
        for number, values in sorted(groups.items())
    ]


def holding(slots: Iterable[Slot], start: datetime, until: datetime) -> list[Slot]:
    """Return the slots that hold at some time in [start, until), whole.

    They are not cut to the window: who asks again later must be given the same slots again.
    Those of more than a day, or until further notice, come in the whole hours of the window.
    """
    found: list[Slot] = []
    for slot in slots:
        if slot.starts_at >= until or (slot.until is not None and slot.until <= start):
            continue
        if slot.until is not None and slot.until - slot.starts_at <= timedelta(days=1):
            found.append(slot)
            continue
        for starts_at, ends_at in whole_hours(start, until):
            starts_at = max(starts_at, slot.starts_at)
            ends_at = ends_at if slot.until is None else min(ends_at, slot.until)
            if starts_at < ends_at:
                found.append(replace(slot, starts_at=starts_at, until=ends_at))
    return found


def whole_hours(start: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the hours of UTC that have a part in [start, until)."""
    at = datetime.fromtimestamp(int(start.timestamp()) // 3600 * 3600, UTC)
    while at < until and start < until:
        yield at, at + HOUR
        at += HOUR


def converted(slots: Iterable[Slot], convert: Callable[[float], float]) -> list[Slot]:
    """Return `slots` with `convert` applied to each value."""
    return [replace(slot, value=convert(slot.value)) for slot in slots]
