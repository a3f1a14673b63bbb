"""What is known at an origin, as numbers: the day-type profile and the columns of the model.

Every column uses hours before its origin only. Values are divided by the site's 28-day mean, so
that one model serves sites of all sizes without learning which is which.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from csms.planning.forecast_series import Floats, Ints, SiteHistory

WEEK = 168
PROFILE_DAYS = 42
HALF_LIFE_DAYS = 14.0
SAME_WEEKDAY_WEIGHT = 3.0
QUANTILES = (0.1, 0.5, 0.9)

FEATURES = (
    "profile",
    "lag_1w",
    "lag_2w",
    "lag_3w",
    "lag_4w",
    "lags_mean",
    "lags_mean_3h",
    "week_at_hour",
    "level_7d",
    "last_24h",
    "surprise_24h",
    "surprise_6h",
    "last_1h",
    "last_2h",
    "last_3h",
    "cars",
    "cars_surprise",
    "hour",
    "weekday",
    "is_free",
    "is_free_before",
    "is_free_after",
    "is_year_end",
    "season_sin",
    "season_cos",
    "lead",
    "origin_hour",
    "level_log",
)
"""Columns the trees see; all but the calendar are relative to the 28-day mean."""

BASE = ("level_kw", "profile_kw", "p10_kw", "p50_kw", "p90_kw", "history_days")
"""Columns that turn the trees' answer into kW and stand in for it where history is short."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One hourly series of a site to be forecast: `values` is (days, 24, ages).

    The load of cars that arrive after the origin differs with the lead time and has AGES of them;
    every other series has one.
    """

    history: SiteHistory
    values: Floats
    level_of: Floats
    """(days, 24): the series whose lags and levels describe the site."""


def target(history: SiteHistory, name: str) -> Target:
    """Return the series `name` of a site: "load", "fresh", "arrivals" or "energy"."""
    series = {
        "load": history.load_kw,
        "fresh": history.load_kw,
        "arrivals": history.arrivals,
        "energy": history.energy_kwh,
    }[name]
    values = history.fresh_kw if name == "fresh" else series[:, :, None]
    return Target(history=history, values=values, level_of=series)


def day_weights(history: SiteHistory, days: Ints, least_age: int) -> Floats:
    """Return how much each past day counts for each of `days`, (days asked, days of history).

    Last six weeks, same day type only, halved every two weeks, three times for the same weekday.
    A day without its like in the window looks at all days.
    """
    age = days[:, None] - np.arange(history.hours.days)[None, :]
    weight = np.where((age >= least_age) & (age <= PROFILE_DAYS), 0.5 ** (age / HALF_LIFE_DAYS), 0)
    weight = weight * np.where(
        history.weekday[days][:, None] == history.weekday[None, :], SAME_WEEKDAY_WEIGHT, 1.0
    )
    alike = weight * (history.free[days][:, None] == history.free[None, :])
    seen = np.isfinite(history.load_kw).any(axis=1)
    lonely = (alike * seen).sum(axis=1) <= 0
    return np.asarray(np.where(lonely[:, None], weight, alike))


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Which hours are asked for, from which origins: arrays of one length.

    `at` and `origin` are wall-clock hour numbers of the history, `lead` the whole hours between
    them, `age` the index into the target's ages.
    """

    at: Ints
    origin: Ints
    lead: Ints
    age: Ints


def rows_for(origins: Ints, leads: Ints, ages: int) -> Rows:
    """Return every lead of every origin, origins slowest."""
    origin = np.repeat(origins, len(leads))
    lead = np.tile(leads, len(origins))
    return Rows(at=origin + lead, origin=origin, lead=lead, age=np.minimum(lead, ages - 1))


def profile(aim: Target, rows: Rows) -> Floats:
    """Return the day-type profile of each row, NaN where there is no history, (rows,)."""
    result = np.full(len(rows.at), np.nan)
    day, hour = np.divmod(rows.at, 24)
    # Hours of the same clock time lie before the origin from this many days back.
    least_ages = rows.lead // 24 + 1
    known = np.isfinite(aim.values)
    filled = np.where(known, aim.values, 0.0).reshape(len(aim.values), -1)
    known_f = known.reshape(len(aim.values), -1).astype(float)
    place = hour * aim.values.shape[2] + rows.age
    for least_age in np.unique(least_ages):
        mine = least_ages == least_age
        days, back = np.unique(day[mine], return_inverse=True)
        weight = day_weights(aim.history, days, int(least_age))
        total, mass = weight @ filled, weight @ known_f
        mean = np.divide(total, mass, out=np.full(total.shape, np.nan), where=mass > 0)
        result[mine] = mean[back, place[mine]]
    return result


def profile_quantiles(aim: Target, rows: Rows) -> Floats:
    """Return weighted quantiles of like days at the hour and its neighbours, (rows, quantiles)."""
    result = np.full((len(rows.at), len(QUANTILES)), np.nan)
    day, hour = np.divmod(rows.at, 24)
    least_ages = rows.lead // 24 + 1
    window = np.arange(-PROFILE_DAYS, 0)
    flat = aim.values.reshape(-1, aim.values.shape[2])
    for least_age in np.unique(least_ages):
        mine = np.flatnonzero(least_ages == least_age)
        days, back = np.unique(day[mine], return_inverse=True)
        weight = day_weights(aim.history, days, int(least_age))[back]
        past = day[mine][:, None] + window[None, :]
        inside = past >= 0
        past = np.maximum(past, 0)
        w = np.take_along_axis(weight, past, axis=1) * inside
        values, masses = [], []
        for step in (-1, 0, 1):
            at = past * 24 + hour[mine][:, None] + step
            usable = (at >= 0) & (at < rows.origin[mine][:, None])
            v = flat[np.clip(at, 0, len(flat) - 1), rows.age[mine][:, None]]
            masses.append(np.where(usable & np.isfinite(v), w, 0.0))
            values.append(np.nan_to_num(v))
        result[mine] = _weighted_quantiles(np.hstack(values), np.hstack(masses))
    return result


def _weighted_quantiles(values: Floats, weights: Floats) -> Floats:
    order = np.argsort(values, axis=1, kind="stable")
    v = np.take_along_axis(values, order, axis=1)
    mass = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    total = mass[:, -1:]
    found = []
    for q in QUANTILES:
        index = np.argmax(mass >= q * total - 1e-12, axis=1)
        found.append(np.where(total[:, 0] > 0, v[np.arange(len(v)), index], np.nan))
    return np.stack(found, axis=1)


class _Past:
    """Sums over wall-clock hours of one series, NaN hours left out."""

    def __init__(self, series: Floats) -> None:
        self.flat = series.reshape(-1)
        self._total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(self.flat))])
        self._count = np.concatenate([[0], np.cumsum(np.isfinite(self.flat))])

    def at(self, hours: Ints) -> Floats:
        """Return the values at `hours`, NaN outside the series."""
        inside = (hours >= 0) & (hours < len(self.flat))
        return np.where(inside, self.flat[np.clip(hours, 0, len(self.flat) - 1)], np.nan)

    def mean(self, since: Ints, until: Ints) -> Floats:
        """Return the mean over [since, until), NaN where nothing is known."""
        low, high = (np.clip(x, 0, len(self.flat)) for x in (since, until))
        count = self._count[high] - self._count[low]
        total = self._total[high] - self._total[low]
        return np.asarray(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0))


def _nanmean(parts: list[Floats]) -> Floats:
    stacked = np.stack(parts)
    known = np.isfinite(stacked)
    count = known.sum(axis=0)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _by_origin(past: _Past, origins: Ints, scale: Floats) -> dict[str, Floats]:
    """Return the columns that depend on the origin alone, (origins,) each."""

    def surprise(hours: int) -> Floats:
        recent = past.mean(origins - hours, origins)
        usual = _nanmean(
            [past.mean(origins - hours - w * WEEK, origins - w * WEEK) for w in (1, 2, 3, 4)]
        )
        return (recent - usual) / scale

    return {
        "level_7d": past.mean(origins - WEEK, origins) / scale,
        "last_24h": past.mean(origins - 24, origins) / scale,
        "surprise_24h": surprise(24),
        "surprise_6h": surprise(6),
        "last_1h": past.at(origins - 1) / scale,
        "last_2h": past.at(origins - 2) / scale,
        "last_3h": past.at(origins - 3) / scale,
    }


def _of_cars(history: SiteHistory, origins: Ints) -> dict[str, Floats]:
    past = _Past(history.cars)
    here = past.at(origins)
    scale = past.mean(origins - 4 * WEEK, origins)
    scale = np.where(scale > 0, scale, np.nan)
    usual = _nanmean([past.at(origins - w * WEEK) for w in (1, 2, 3, 4)])
    return {"cars": here / scale, "cars_surprise": (here - usual) / scale}


def _calendar(history: SiteHistory, rows: Rows) -> dict[str, Floats]:
    day, hour = np.divmod(rows.at, 24)
    first = history.hours.first_day.toordinal()
    dates = pd.to_datetime(
        (first + np.arange(history.hours.days) - 719163), unit="D", origin="unix"
    )
    year_end = ((dates.month == 12) & (dates.day >= 23)) | ((dates.month == 1) & (dates.day == 1))
    turn = 2 * np.pi * np.asarray(dates.day_of_year, dtype=float) / 365.25
    free = history.free_around
    columns: dict[str, NDArray[np.generic]] = {
        "hour": hour,
        "weekday": history.weekday[day],
        "is_free": free[day + 1],
        "is_free_before": free[day],
        "is_free_after": free[day + 2],
        "is_year_end": np.asarray(year_end)[day],
        "season_sin": np.sin(turn)[day],
        "season_cos": np.cos(turn)[day],
        # Skill is the same from one day to three (measured), so later leads answer as the last.
        "lead": np.minimum(rows.lead, 23),
        "origin_hour": rows.origin % 24,
    }
    return {name: np.asarray(values, dtype=float) for name, values in columns.items()}


def frame(aim: Target, rows: Rows, *, with_quantiles: bool = True) -> pd.DataFrame:
    """Return the model's columns BASE and FEATURES for each row, indexed by hour start (UTC)."""
    past = _Past(aim.level_of)
    origins, back = np.unique(rows.origin, return_inverse=True)
    level = past.mean(origins - 4 * WEEK, origins)
    positive = np.where(level > 0, level, np.nan)
    scale = positive[back]
    lags = [past.at(rows.at - w * WEEK) for w in (1, 2, 3, 4)]
    around = [past.at(rows.at - w * WEEK + step) for w in (1, 2, 3, 4) for step in (-1, 0, 1)]
    first_back = (rows.lead // 24 + 1) * 24
    week = [past.at(rows.at - first_back - 24 * d) for d in range(7)]
    shape = profile(aim, rows)
    quantiles = np.full((len(shape), 3), np.nan)
    if with_quantiles:
        quantiles = profile_quantiles(aim, rows)
    counted = past.mean(np.zeros_like(origins), origins)
    seen = np.maximum(origins - aim.history.first_seen, 0) / 24.0
    columns: dict[str, Floats] = {
        "level_kw": np.where(np.isfinite(level), level, counted)[back],
        "profile_kw": shape,
        **{f"p{int(q * 100)}_kw": quantiles[:, i] for i, q in enumerate(QUANTILES)},
        "history_days": seen[back],
        "profile": shape / scale,
        **{f"lag_{w}w": lag / scale for w, lag in zip((1, 2, 3, 4), lags, strict=True)},
        "lags_mean": _nanmean(lags) / scale,
        "lags_mean_3h": _nanmean(around) / scale,
        "week_at_hour": _nanmean(week) / scale,
        **{
            name: values[back]
            for name, values in _by_origin(
                past, origins, np.where(level > 0, level, np.nan)
            ).items()
        },
        **{name: values[back] for name, values in _of_cars(aim.history, origins).items()},
        **_calendar(aim.history, rows),
        "level_log": np.log(scale),
    }
    return pd.DataFrame(
        {name: columns[name] for name in (*BASE, *FEATURES)}, index=_hour_starts(aim.history, rows)
    )


def _hour_starts(history: SiteHistory, rows: Rows) -> pd.DatetimeIndex:
    place = history.hours.day * 24 + history.hours.hour
    first = np.searchsorted(place, rows.at)
    first = np.minimum(first, len(place) - 1)
    index = pd.to_datetime(history.hours.edges_s[first], unit="s", utc=True)
    return pd.DatetimeIndex(index, name="hour_at")


def truth(aim: Target, rows: Rows) -> Floats:
    """Return what came, NaN where it is not known, (rows,)."""
    flat = aim.values.reshape(-1, aim.values.shape[2])
    inside = (rows.at >= 0) & (rows.at < len(flat))
    return np.where(inside, flat[np.clip(rows.at, 0, len(flat) - 1), rows.age], np.nan)
