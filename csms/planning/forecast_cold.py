"""Forecasts for sites with little history: the shape of like sites at the site's own level.

After three days this reaches what the own profile reaches after two weeks at public sites, and
does harm where the sites are unlike; so the trainer lets both compete as soon as they can.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csms.planning.forecast import QUANTILE_COLUMNS, Stage
from csms.planning.forecast_features import QUANTILES, target
from csms.planning.forecast_series import Floats, SiteHistory

TARGETS = ("load", "fresh", "arrivals", "energy")
COLD_DAYS = 28.0
"""Days of history below which like sites are asked."""

SHAPE_DAYS = 56
BLEND_DAYS = 14.0
"""Days of own history that weigh as much as all like sites together."""

COMMON_SESSION_KWH = 12.0
"""Turns a declared energy into cars where no site has told how much a car takes."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A usual day relative to the site's mean load: work days row 0, free days row 1.

    `mean` is (2, 24, ages), `quantiles` (2, 24, ages, 3).
    """

    mean: Floats
    quantiles: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """A mean per hour to start from, worth `days` of the site's own history."""

    level: float
    days: float


def shapes_of(history: SiteHistory) -> dict[str, Shape]:
    """Return the usual day of a site for every target; empty where it is too young to tell."""
    if history.known_until - history.first_seen < COLD_DAYS * 24:
        return {}
    last = history.known_until // 24
    days = slice(max(last - SHAPE_DAYS, history.first_seen // 24), last)
    shapes = {}
    for name in TARGETS:
        aim = target(history, name)
        level = float(np.nanmean(aim.level_of[days]))
        if not level > 0:
            return {}
        rows = [aim.values[days][history.free[days] == is_free] for is_free in (False, True)]
        shapes[name] = Shape(
            np.stack([np.nan_to_num(_mean_day(r)) / level for r in rows]),
            np.stack([np.nan_to_num(_quantile_day(r)) / level for r in rows]),
        )
    return shapes


def _mean_day(rows: Floats) -> Floats:
    known = np.isfinite(rows)
    total = np.where(known, rows, 0.0).sum(axis=0)
    return np.asarray(total / np.maximum(known.sum(axis=0), 1))


def _quantile_day(rows: Floats) -> Floats:
    around = np.concatenate([np.roll(rows, step, axis=1) for step in (-1, 0, 1)])
    # The hour skipped by a clock change is filled with what the hour usually has.
    around = np.where(np.isfinite(around), around, _mean_day(around))
    return np.asarray(np.quantile(around, QUANTILES, axis=0).transpose(1, 2, 0))


def mean_shapes(shapes: Sequence[dict[str, Shape]]) -> dict[str, Shape]:
    """Return the mean of several sites' days; empty if there are none."""
    if not shapes:
        return {}
    return {
        name: Shape(
            np.mean([s[name].mean for s in shapes], axis=0),
            np.mean([s[name].quantiles for s in shapes], axis=0),
        )
        for name in TARGETS
    }


def assumed_levels(
    others: Sequence[SiteHistory], declared_kwh_per_day: float | None
) -> dict[str, Assumed]:
    """Return what to assume before there is history: as declared, else as the `others` have."""
    usual = dict.fromkeys(TARGETS, 0.0)
    for name in TARGETS if others else ():
        usual[name] = float(np.mean([np.nanmean(target(h, name).level_of) for h in others]))
    if declared_kwh_per_day is None:
        return {name: Assumed(level=usual[name], days=0.5) for name in TARGETS}
    hourly = declared_kwh_per_day / 24
    if usual["energy"] > 0:
        arrivals = hourly * usual["arrivals"] / usual["energy"]
    else:
        arrivals = hourly / COMMON_SESSION_KWH
    levels = {"load": hourly, "fresh": hourly, "energy": hourly, "arrivals": arrivals}
    return {name: Assumed(level=level, days=3.0) for name, level in levels.items()}


def answered_by(
    columns: pd.DataFrame, *, stage: Stage, like: Shape | None, assumed: Assumed
) -> pd.DataFrame:
    """Return `columns` turned so that LoadForecast answers with `stage`."""
    own = columns["level_kw"].to_numpy(dtype=float)
    days = np.where(np.isfinite(own), columns["history_days"].to_numpy(dtype=float), 0.0)
    weight = days + assumed.days
    level = (days * np.nan_to_num(own) + assumed.days * assumed.level) / weight
    if stage is Stage.BOOSTED:
        return columns.assign(level_kw=np.where(np.isfinite(own), own, assumed.level))
    columns = columns.assign(level_kw=level, history_days=0.0)
    if stage is Stage.PROFILE:
        return columns
    if stage is Stage.LEVEL or like is None:
        return columns.assign(profile_kw=np.nan, **dict.fromkeys(QUANTILE_COLUMNS, np.nan))
    free = columns["is_free"].to_numpy(dtype=int)
    hour = columns["hour"].to_numpy(dtype=int)
    age = np.minimum(columns["lead"].to_numpy(dtype=int), like.mean.shape[2] - 1)
    pooled = np.column_stack([like.mean[free, hour, age], like.quantiles[free, hour, age]])
    names = ["profile_kw", *QUANTILE_COLUMNS]
    mine = columns[names].to_numpy(dtype=float)
    own_share = np.where(np.isfinite(mine), (days / (days + BLEND_DAYS))[:, None], 0.0)
    blended = own_share * np.nan_to_num(mine) + (1 - own_share) * pooled * level[:, None]
    return columns.assign(**{name: blended[:, i] for i, name in enumerate(names)})
