"""Sessions -> hourly series on a site's local wall clock.

Series come from sessions, never from the metered load: our own plans move that. A day is a row of
24 wall-clock hours: the hour that spring skips is NaN, the hour that autumn repeats holds the mean
of both, so that lags of whole days and weeks compare like with like.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from csms.core.errors import InvalidInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOUR_S = 3600
AGES = 24
"""Lead hours that are told apart in the load of cars yet to arrive; later ones equal the load."""

MIN_STAY_S = 60.0
LONGEST_DAYS = 5 * 366
UNKNOWN_KW = 3.7
"""Power assumed for a car of which nothing is known: one phase at 16 A."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One past session as the forecast needs it. `ended_at` is None while the car is plugged in.

    `max_kw` is what car and station would have drawn uncontrolled; None if unknown. `energy_kwh`
    is what was wanted: the larger of requested and delivered, so far for a car still plugged in.
    """

    site_id: str
    started_at: datetime
    ended_at: datetime | None
    energy_kwh: float
    max_kw: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LocalHours:
    """The real hours of a run of local days and their place on the wall clock.

    Bin k is [edges_s[k], edges_s[k + 1]) in seconds since 1970 and lies in row `day[k]`, column
    `hour[k]`. A day of a clock change has 23 or 25 bins (or one of half an hour, Lord Howe).
    """

    first_day: date
    time_zone: str
    edges_s: Ints
    day: Ints
    hour: Ints

    @property
    def days(self) -> int:
        """Number of local days."""
        return int(self.day[-1]) + 1

    def bin_of(self, at: datetime) -> int:
        """Return the bin that holds `at`."""
        found = int(np.searchsorted(self.edges_s, at.timestamp(), side="right")) - 1
        if not 0 <= found < len(self.day):
            raise ValueError(f"{at:%Y-%m-%dT%H:%MZ} is outside the hours that were laid out")
        return found

    def flat(self, k: int) -> int:
        """Return the wall-clock hour number (24 * row + column) of bin `k`."""
        return int(self.day[k] * 24 + self.hour[k])

    def wall(self, values: Floats) -> Floats:
        """Return (bins, ...) as (days, 24, ...): NaN where no hour exists, mean where two do."""
        shape = (self.days * 24, *values.shape[1:])
        total, count = np.zeros(shape), np.zeros(shape)
        place = self.day * 24 + self.hour
        np.add.at(total, place, np.nan_to_num(values))
        np.add.at(count, place, np.isfinite(values))
        mean = np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
        return mean.reshape(self.days, 24, *values.shape[1:])


@dataclass(frozen=True, slots=True, eq=False)
class SiteHistory:
    """What is known of one site before `known_until_s`, on the wall clock.

    `load_kw`, `arrivals` (per hour), `energy_kwh` (by hour of arrival) and `cars` (plugged in when
    the hour begins) are (days, 24); `fresh_kw` is (days, 24, AGES): the part of the load drawn by
    cars that arrived at most 0, 1, 2, ... hours before. `weekday` (Monday 0) is (days,);
    `free_around` has one day more at both ends, (days + 2,).
    """

    site_id: str
    hours: LocalHours
    load_kw: Floats
    arrivals: Floats
    energy_kwh: Floats
    cars: Floats
    fresh_kw: Floats
    weekday: Ints
    free_around: NDArray[np.bool_]
    first_seen: int
    """Wall-clock hour number of the first full day with data; the series is NaN before."""
    known_until: int
    """Wall-clock hour number of the first hour that is not known in full."""

    @property
    def free(self) -> NDArray[np.bool_]:
        """Whether a day is a weekend day or a holiday, (days,)."""
        return self.free_around[1:-1]


def zone(name: str) -> ZoneInfo:
    """Return the time zone `name`; raise InvalidInput if there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput(f"time zone {name!r} is not known; such as Europe/Oslo") from error


def checked(stays: Iterable[Stay]) -> tuple[Stay, ...]:
    """Return the stays in order of arrival; raise InvalidInput naming the row that is wrong."""
    rows = tuple(stays)
    for row, stay in enumerate(rows):
        where = f"stay {row} of site {stay.site_id!r}"
        if stay.started_at.tzinfo is None or (stay.ended_at and stay.ended_at.tzinfo is None):
            raise InvalidInput(f"{where}: started_at and ended_at need an offset from UTC")
        if stay.ended_at is not None and stay.ended_at < stay.started_at:
            raise InvalidInput(f"{where}: ended_at {stay.ended_at} is before {stay.started_at}")
        if not np.isfinite(stay.energy_kwh) or stay.energy_kwh < 0:
            raise InvalidInput(f"{where}: energy_kwh is {stay.energy_kwh}; it must be 0 or more")
        if stay.max_kw is not None and not (np.isfinite(stay.max_kw) and stay.max_kw > 0):
            raise InvalidInput(f"{where}: max_kw is {stay.max_kw}; it must be above 0, or None")
    return tuple(sorted(rows, key=lambda s: (s.started_at, s.energy_kwh, s.max_kw or 0.0)))


def local_hours(first_day: date, days: int, time_zone: str) -> LocalHours:
    """Return the real hours of `days` local days from `first_day` on."""
    midnights = pd.date_range(pd.Timestamp(first_day), periods=days + 1, freq="D").tz_localize(
        zone(time_zone),
        # Some zones change at midnight: a repeated one begins with the first, a skipped one late.
        ambiguous=np.ones(days + 1, dtype=bool),
        nonexistent="shift_forward",
    )
    # pandas 3 keeps the resolution it was given, so the unit is always named before counting.
    start_s = midnights.tz_convert("UTC").as_unit("s").asi8
    bins = -(-np.diff(start_s) // HOUR_S)
    day = np.repeat(np.arange(days), bins)
    within = np.arange(len(day)) - np.repeat(np.cumsum(bins) - bins, bins)
    begins_s = start_s[day] + within * HOUR_S
    wall = pd.to_datetime(begins_s, unit="s", utc=True).tz_convert(zone(time_zone))
    return LocalHours(
        first_day=first_day,
        time_zone=time_zone,
        edges_s=np.append(begins_s, start_s[-1]).astype(np.int64),
        day=day.astype(np.int64),
        hour=np.asarray(wall.hour, dtype=np.int64),
    )


def free_days(first_day: date, days: int, holidays: Collection[date]) -> NDArray[np.bool_]:
    """Return which of `days` days are a weekend day or one of `holidays`, (days,)."""
    ordinals = first_day.toordinal() + np.arange(days)
    is_weekend = (ordinals + 6) % 7 >= 5
    return np.asarray(is_weekend | np.isin(ordinals, [d.toordinal() for d in holidays]))


def known_at(stays: Iterable[Stay], at: datetime) -> tuple[Stay, ...]:
    """Return what a central system knows at `at`: no later arrival, no later energy, no end."""
    known = []
    for stay in stays:
        if stay.started_at >= at:
            continue
        if stay.ended_at is not None and stay.ended_at <= at:
            known.append(stay)
            continue
        hours = (at - stay.started_at).total_seconds() / HOUR_S
        so_far_kwh = min(stay.energy_kwh, (stay.max_kw or UNKNOWN_KW) * hours)
        known.append(
            Stay(
                site_id=stay.site_id,
                started_at=stay.started_at,
                ended_at=None,
                energy_kwh=so_far_kwh,
                max_kw=stay.max_kw,
            )
        )
    return tuple(known)


def _even_kw(stay: Stay) -> float:
    """Return the power that spreads the energy over the whole stay, 0 while it is not over."""
    if stay.ended_at is None:
        return 0.0
    stay_s = max((stay.ended_at - stay.started_at).total_seconds(), MIN_STAY_S)
    return stay.energy_kwh * HOUR_S / stay_s


def powers_kw(stays: Sequence[Stay]) -> Floats:
    """Return the power at which each stay's energy is laid out from plug-in, (stays,).

    Where it is unknown it is the site's median; it is raised where the energy would not fit.
    """
    known = [s.max_kw for s in stays if s.max_kw is not None]
    typical_kw = float(np.median(known)) if known else UNKNOWN_KW
    wanted = np.array([typical_kw if s.max_kw is None else s.max_kw for s in stays], dtype=float)
    return np.asarray(np.maximum(wanted, [_even_kw(s) for s in stays]))


def site_history(
    site_id: str,
    stays: Iterable[Stay],
    *,
    until: datetime,
    time_zone: str,
    holidays: Collection[date] = (),
    days_ahead: int = 0,
    keep_days: int | None = None,
) -> SiteHistory:
    """Lay out the stays that `until` knows of, from their first full local day on.

    Rows go `days_ahead` local days beyond that of `until`, to hold the hours to be forecast; what
    is not known yet is NaN. `keep_days` drops what is older.
    """
    known = known_at(checked(stays), until)
    today = until.astimezone(zone(time_zone)).date()
    oldest = known[0].started_at.astimezone(zone(time_zone)).date() if known else today
    span = min((today - oldest).days, LONGEST_DAYS if keep_days is None else keep_days)
    first_day = date.fromordinal(today.toordinal() - span)
    hours = local_hours(first_day, span + 1 + days_ahead, time_zone)
    edge_s = float(hours.edges_s[0])
    known = tuple(s for s in known if (s.ended_at or until).timestamp() > edge_s)
    now_bin = hours.bin_of(until)
    # The day of the first session began before anybody counted, so the next is the first full one.
    # A window that was cut by `keep_days` has been counted before and is full from its start.
    is_cut = (today - oldest).days > span
    seen_from = 0 if is_cut else int(np.searchsorted(hours.day, 1))
    series = _laid_out(known, hours, until)
    for values in series:
        values[:seen_from] = np.nan
        values[now_bin:] = np.nan
    # Cars plugged in are counted as the hour begins, which is known for the hour now running.
    cars = _cars(known, hours, until)
    cars[now_bin + 1 :] = np.nan
    load, arrivals, energy, fresh = (hours.wall(v) for v in series)
    ordinals = first_day.toordinal() + np.arange(hours.days)
    return SiteHistory(
        site_id=site_id,
        hours=hours,
        load_kw=load,
        arrivals=arrivals,
        energy_kwh=energy,
        cars=hours.wall(cars),
        fresh_kw=fresh,
        weekday=((ordinals + 6) % 7).astype(np.int64),
        free_around=free_days(date.fromordinal(int(ordinals[0]) - 1), hours.days + 2, holidays),
        first_seen=0 if is_cut else 24,
        known_until=hours.flat(now_bin),
    )


def _laid_out(
    stays: Sequence[Stay], hours: LocalHours, until: datetime
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return load (bins,), arrivals (bins,), energy by arrival (bins,), fresh load (bins, AGES)."""
    bins = len(hours.day)
    length_h = np.diff(hours.edges_s) / HOUR_S
    if not stays:
        return np.zeros(bins), np.zeros(bins), np.zeros(bins), np.zeros((bins, AGES))
    begins_s = np.array([s.started_at.timestamp() for s in stays])
    energy = np.array([s.energy_kwh for s in stays], dtype=float)
    power = np.maximum(powers_kw(stays), 1e-6)
    ends_s = np.minimum(begins_s + energy / power * HOUR_S, until.timestamp())
    first = np.searchsorted(hours.edges_s, begins_s, side="right") - 1
    last = np.minimum(np.searchsorted(hours.edges_s, ends_s, side="left") - 1, bins - 1)
    # One row per session and hour touched. Sums run in order of arrival, so that no later session
    # can change a bit of an earlier hour.
    touched = np.maximum(last - np.maximum(first, 0) + 1, 0)
    who = np.repeat(np.arange(len(stays)), touched)
    where = np.arange(len(who)) - np.repeat(np.cumsum(touched) - touched, touched)
    where += np.maximum(first, 0)[who]
    overlap_s = np.minimum(ends_s[who], hours.edges_s[where + 1]) - np.maximum(
        begins_s[who], hours.edges_s[where]
    )
    kwh = power[who] * np.maximum(overlap_s, 0.0) / HOUR_S
    age = np.where(first[who] < 0, AGES, np.minimum(where - first[who], AGES))
    cells = np.bincount(where * (AGES + 1) + age, weights=kwh, minlength=bins * (AGES + 1))
    by_age: Floats = cells.reshape(bins, AGES + 1) / length_h[:, None]
    inside = first >= 0
    arrivals: Floats = np.bincount(first[inside], minlength=bins) / length_h
    by_arrival: Floats = (
        np.bincount(first[inside], weights=energy[inside], minlength=bins) / length_h
    )
    fresh: Floats = np.cumsum(by_age[:, :AGES], axis=1)
    return fresh[:, -1] + by_age[:, AGES], arrivals, by_arrival, fresh


def _cars(stays: Sequence[Stay], hours: LocalHours, until: datetime) -> Floats:
    """Return the cars plugged in as each hour begins, (bins,)."""
    begins = np.sort([s.started_at.timestamp() for s in stays])
    # A car that is still there at `until` was there at every edge before it.
    gone = np.sort([(s.ended_at or datetime.max.replace(tzinfo=UTC)).timestamp() for s in stays])
    edges = hours.edges_s[:-1]
    here = np.searchsorted(begins, edges, side="left") - np.searchsorted(gone, edges, side="right")
    return here.astype(float)
