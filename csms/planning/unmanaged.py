"""What draws beside the cars in each slot: measured now, forecast, assumed, or the worst case.

A load bounds what cars get, so each slot takes a value that is seldom passed: a reading and a
margin in the running slot, the high value of a forecast, a high quantile of the same hours of past
weeks. A meter that fell silent is no sign of a small load: all that may ever draw there counts.
Own generation only makes energy cheaper, so its slots take what is expected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from math import ceil
from zoneinfo import ZoneInfo

from csms.core.metering import Expected, Quarter, Reading
from csms.core.units import slot_starts

MARGIN_SHARE = 0.1
MARGIN_KW = 0.5
"""A reading counts with a tenth more, at least half a kilowatt: what it may rise by unseen."""
NEAR = timedelta(hours=1)
"""What is measured now is not expected to be gone within the hour."""
WEEKS = 4
AROUND = timedelta(hours=1)
SUNNY_DAYS = 7
VOLTAGE_V = 230.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is known of the load at a site's connection or on a circuit.

    `worst_kw` and `worst_a` (one number per phase, or none) are the most that draws there, as
    configured: what counts where no `meter` tells. `quarters` are by start. `name` is for people.
    """

    name: str
    worst_kw: float
    worst_a: tuple[float, ...] = ()
    meter: str = ""
    reading: Reading | None = None
    quarters: Mapping[datetime, Quarter] = field(default_factory=dict)
    expected: tuple[Expected, ...] = ()
    voltage_v: float = VOLTAGE_V

    @property
    def is_known(self) -> bool:
        """Whether anything but the configuration tells of it."""
        return bool(self.meter or self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmanaged:
    """A load per slot: `power_kw` is (slots,), `current_a` (3, slots), or empty: spread evenly."""

    power_kw: tuple[float, ...]
    current_a: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class _Load:
    """One value for a slot; currents of L1 to L3, or none."""

    kw: float
    a: tuple[float, ...] = ()


def is_silent(reading: Reading | None, *, now: datetime, stale: timedelta) -> bool:
    """Return whether a meter's newest reading says nothing about now."""
    return reading is None or now - reading.at > stale


def with_margin(reading: Reading) -> Reading:
    """Return what a reading counts as: what the load may have risen to before the next one."""
    margin_kw = max(MARGIN_KW, MARGIN_SHARE * reading.power_kw)
    least_a = MARGIN_KW * 1000.0 / (3 * VOLTAGE_V)
    return Reading(
        at=reading.at,
        power_kw=reading.power_kw + margin_kw,
        current_a=tuple(a + max(least_a, MARGIN_SHARE * a) for a in reading.current_a),
    )


def changes_room(reading: Reading, before: Reading | None) -> bool:
    """Return whether a reading has left what the one `before` was counted as.

    Half the margin either way: with the other half, a plan made of any reading in between holds.
    """
    if before is None or len(reading.current_a) != len(before.current_a):
        return True
    counted = with_margin(before)
    values = zip(
        (reading.power_kw, *reading.current_a),
        (before.power_kw, *before.current_a),
        (counted.power_kw, *counted.current_a),
        strict=True,
    )
    return any(abs(new - old) > (most - old) / 2 + 1e-9 for new, old, most in values)


def load_of(
    place: Place,
    edges_at: tuple[datetime, ...],
    *,
    now: datetime,
    stale: timedelta,
    quantile: float,
    time_zone: str,
    notes: list[str],
) -> Unmanaged:
    """Return what draws at a place in each slot; every fallback is named in `notes`."""
    worst = _Load(place.worst_kw, place.worst_a)
    if not place.meter:
        rows = [_of_forecast(place.expected, a, b) or worst for a, b in pairwise(edges_at)]
        return _series(rows, place)
    if is_silent(place.reading, now=now, stale=stale):
        last = place.reading
        since = "never told anything" if last is None else f"silent since {last.at:%m-%dT%H:%MZ}"
        if last is not None:
            counted = with_margin(last)
            worst = _highest(worst, _Load(counted.power_kw, counted.current_a))
        notes.append(
            f"meter {place.meter} {since}: load of {place.name} is {worst.kw:.4g} kW, its worst"
        )
        told = [_of_forecast(place.expected, a, b) for a, b in pairwise(edges_at)]
        return _series([worst if f is None else _highest(worst, f) for f in told], place)
    assert place.reading is not None
    counted = with_margin(place.reading)
    measured = _Load(counted.power_kw, counted.current_a)
    past = _Past(place.quarters, quantile=quantile, time_zone=time_zone)
    rows, assumed = [], dict[str, datetime]()
    for start, end in pairwise(edges_at):
        if start <= now:
            rows.append(measured)
            continue
        found = _of_forecast(place.expected, start, end)
        if found is None:
            found = past.of(start, end)
            assumed.setdefault("the same hours of past weeks" if found else "what it is now", start)
        found = found or measured
        rows.append(_highest(found, measured) if start < now + NEAR else found)
    notes += [
        f"load of {place.name} from {at:%m-%dT%H:%MZ} assumed from {what}"
        for what, at in assumed.items()
    ]
    return _series(rows, place)


def solar_of(
    place: Place,
    edges_at: tuple[datetime, ...],
    *,
    now: datetime,
    stale: timedelta,
    time_zone: str,
    notes: list[str],
) -> tuple[float, ...]:
    """Return what a site generates in each slot, (slots,) kW; () where nothing ever told of it."""
    if not place.is_known:
        return ()
    silent = not place.meter or is_silent(place.reading, now=now, stale=stale)
    rows, assumed_from = [], None
    for start, end in pairwise(edges_at):
        if start <= now and not silent and place.reading is not None:
            rows.append(place.reading.power_kw)
            continue
        found = _mean(place.expected, start, end)
        if found is None:
            assumed_from = assumed_from or start
            found = _as_on_past_days(place.quarters, start, end, time_zone)
        rows.append(found)
    if assumed_from is not None:
        notes.append(
            f"own generation from {assumed_from:%m-%dT%H:%MZ} assumed as at that time of past days"
        )
    return tuple(rows)


def past_ranges(
    edges_at: tuple[datetime, ...], *, time_zone: str
) -> tuple[tuple[datetime, datetime], ...]:
    """Return the times of past weeks that tell of the slots: what to look up for `load_of`."""
    return tuple(
        (
            _same_time(edges_at[0], days=7 * week, time_zone=time_zone) - AROUND,
            _same_time(edges_at[-1], days=7 * week, time_zone=time_zone) + AROUND,
        )
        for week in range(1, WEEKS + 1)
    )


def past_days(
    edges_at: tuple[datetime, ...], *, time_zone: str
) -> tuple[tuple[datetime, datetime], ...]:
    """Return the times of past days that tell of the slots: what to look up for `solar_of`."""
    days = range(1, SUNNY_DAYS + 1)
    whole = edges_at[-1] - edges_at[0]
    first = _same_time(edges_at[0], days=days[-1], time_zone=time_zone) - AROUND
    return ((first, edges_at[0] + min(whole, AROUND)),)


class _Past:
    """Quarter hours of the same weekday and time in past weeks, by their high quantile."""

    def __init__(
        self, quarters: Mapping[datetime, Quarter], *, quantile: float, time_zone: str
    ) -> None:
        self.quarters, self.quantile, self.time_zone = quarters, quantile, time_zone

    def of(self, start: datetime, end: datetime) -> _Load | None:
        """Return the load of a slot, None where no past week tells of it."""
        near = []
        for week in range(1, WEEKS + 1):
            shift = start - _same_time(start, days=7 * week, time_zone=self.time_zone)
            for at in slot_starts(start - shift - AROUND, end - shift + AROUND):
                quarter = self.quarters.get(at)
                if quarter is not None:
                    near.append(quarter)
        if not near:
            return None
        phases = [q.most_a for q in near if q.most_a]
        return _Load(
            self._high([q.most_kw for q in near]),
            tuple(self._high(row) for row in zip(*phases, strict=True)),
        )

    def _high(self, values: Sequence[float]) -> float:
        ordered = sorted(values)
        return ordered[max(ceil(self.quantile * len(ordered)) - 1, 0)]


def _same_time(at: datetime, *, days: int, time_zone: str) -> datetime:
    """Return the instant with the same time of the clock `days` days before."""
    zone = ZoneInfo(time_zone)
    local = at.astimezone(zone).replace(tzinfo=None) - timedelta(days=days)
    return local.replace(tzinfo=zone).astimezone(at.tzinfo)


def _as_on_past_days(
    quarters: Mapping[datetime, Quarter], start: datetime, end: datetime, time_zone: str
) -> float:
    found = []
    for day in range(1, SUNNY_DAYS + 1):
        shift = start - _same_time(start, days=day, time_zone=time_zone)
        for at in slot_starts(start - shift, end - shift):
            if at in quarters:
                found.append(quarters[at].mean_kw)
    return sum(found) / len(found) if found else 0.0


def _of_forecast(points: Sequence[Expected], start: datetime, end: datetime) -> _Load | None:
    """Return the highest that is expected in a slot, None where a part of it is not covered.

    A point without a high value counts with the margin of a reading.
    """
    touching = [p for p in points if p.starts_at < end and start < p.until]
    covered = sum((min(p.until, end) - max(p.starts_at, start)).total_seconds() for p in touching)
    if covered < (end - start).total_seconds() - 1e-6:
        return None
    most = (
        p.high_kw
        if p.high_kw is not None
        else p.power_kw + max(MARGIN_KW, MARGIN_SHARE * p.power_kw)
        for p in touching
    )
    return _Load(max(most))


def _mean(points: Sequence[Expected], start: datetime, end: datetime) -> float | None:
    total = covered = 0.0
    for point in points:
        inside = (min(point.until, end) - max(point.starts_at, start)).total_seconds()
        if inside > 0:
            total, covered = total + inside * point.power_kw, covered + inside
    return total / covered if covered else None


def _highest(one: _Load, two: _Load) -> _Load:
    phases = tuple(map(max, one.a, two.a)) if one.a and two.a else one.a or two.a
    return _Load(max(one.kw, two.kw), phases)


def _series(rows: Sequence[_Load], place: Place) -> Unmanaged:
    """Return the slots as series; where phases are not told, they share power as they did last."""
    power = tuple(row.kw for row in rows)
    known = place.reading.current_a if place.reading is not None else ()
    known = known or place.worst_a
    if not any(row.a for row in rows) and not known:
        return Unmanaged(power_kw=power)
    total = sum(known)
    shares = tuple(a / total for a in known) if total > 0 else (1 / 3,) * 3
    per_kw = 1000.0 / place.voltage_v
    phases = [row.a or tuple(row.kw * per_kw * share for share in shares) for row in rows]
    return Unmanaged(power_kw=power, current_a=tuple(zip(*phases, strict=True)))
