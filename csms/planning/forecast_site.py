"""Train the forecasts of all sites, keep the better model per site, and answer for one origin.

The newest `holdout_days` are not trained on: they choose what answers each site (the boosted
model, the profile, like sites, or the model that answered so far) and give the score shown next
to it. What is scored is what answers, so a score is never that of a model refitted since.
"""

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import sklearn

from csms.core.errors import InvalidInput, UnknownSite
from csms.planning.forecast import LoadForecast, Stage
from csms.planning.forecast_cold import (
    COLD_DAYS,
    TARGETS,
    Assumed,
    Shape,
    answered_by,
    assumed_levels,
    mean_shapes,
    shapes_of,
)
from csms.planning.forecast_features import (
    QUANTILES,
    Rows,
    Target,
    frame,
    rows_for,
    target,
    truth,
)
from csms.planning.forecast_score import Score, Window, load_window, score
from csms.planning.forecast_series import (
    HOUR_S,
    Floats,
    Ints,
    SiteHistory,
    Stay,
    checked,
    known_at,
    site_history,
)

FORMAT_VERSION = 1
KEEP_DAYS = 63
LONGEST_HOURS = 120
PROFILE_DAYS = 7.0
LEVEL_DAYS = 3.0
WITH_QUANTILES = ("load", "fresh")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """What the operator knows beyond the sessions.

    `holidays` are free days besides weekends; `declared_kwh_per_day` stands in for a site without
    history; `train_days` and `holdout_days` count back from now; `trees` per model.
    """

    holidays: tuple[date, ...] = ()
    declared_kwh_per_day: Mapping[str, float] = field(default_factory=dict)
    train_days: int = 364
    holdout_days: int = 14
    trees: int = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSeries:
    """A site's next hours as seen at `origin_at`; every series is (hours,).

    `hours_at` are hour starts, UTC. `arrivals` (cars) and `energy_kwh` (by hour of arrival) are
    means, `load_kw` the mean uncontrolled load with its quantiles. `fresh_*` is the part of the
    load from cars that arrive after the origin: those present are planned one by one. `stage`
    says what answered, `trained_until` where its training ended, `score` how it did lately.
    """

    site_id: str
    origin_at: datetime
    hours_at: tuple[datetime, ...]
    arrivals: tuple[float, ...]
    energy_kwh: tuple[float, ...]
    load_kw: tuple[float, ...]
    p10_kw: tuple[float, ...]
    p50_kw: tuple[float, ...]
    p90_kw: tuple[float, ...]
    fresh_kw: tuple[float, ...]
    fresh_p10_kw: tuple[float, ...]
    fresh_p50_kw: tuple[float, ...]
    fresh_p90_kw: tuple[float, ...]
    stage: Stage
    trained_at: datetime
    trained_until: datetime
    history_days: float
    score: Score | None


@dataclass(frozen=True, slots=True, eq=False)
class FittedModels:
    """One generation of models, for every site: target name -> model."""

    by_target: dict[str, LoadForecast]
    trained_at: datetime
    trained_until: datetime


@dataclass(frozen=True, slots=True, eq=False)
class SiteState:
    """What answers one site, and the sessions its next forecast starts from."""

    site_id: str
    time_zone: str
    stage: Stage
    models: FittedModels
    score: Score | None
    like: dict[str, Shape]
    levels: dict[str, Assumed]
    """Mean per hour to assume where the site has no history of its own, by target."""
    stays: tuple[Stay, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedForecast:
    """The result of `train`: picklable, see `dumps` and `loads`."""

    trained_at: datetime
    holidays: tuple[date, ...]
    sites: dict[str, SiteState]
    refused: tuple[str, ...] = ()
    """Sites whose new model scored worse than the old one, which therefore stays."""

    def predict(
        self,
        site_id: str,
        *,
        origin: datetime,
        hours: int = 24,
        stays: Iterable[Stay] | None = None,
    ) -> ForecastSeries:
        """Return the forecast of the hour that holds `origin` and the `hours` - 1 after it.

        `stays` are the site's sessions of the last nine weeks where there are newer ones than the
        training saw. Nothing that becomes known after `origin` is used. Raises UnknownSite for a
        site that was not trained (train it without sessions), ValueError for `hours` beyond 1..120.
        """
        state = self.sites.get(site_id)
        if state is None:
            raise UnknownSite(f"no forecast was trained for site {site_id!r}")
        if not 1 <= hours <= LONGEST_HOURS:
            raise ValueError(f"hours is {hours}; it must be 1..{LONGEST_HOURS}")
        history = site_history(
            site_id,
            state.stays if stays is None else stays,
            until=origin,
            time_zone=state.time_zone,
            holidays=self.holidays,
            days_ahead=hours // 24 + 2,
            keep_days=KEEP_DAYS,
        )
        return _series(state, history, origin, hours)


def train(
    stays_by_site: Mapping[str, Iterable[Stay]],
    *,
    now: datetime,
    time_zone: str | Mapping[str, str],
    seed: int = 0,
    options: TrainingOptions = TrainingOptions(),
    champion: TrainedForecast | None = None,
) -> TrainedForecast:
    """Fit all sites together and choose what answers each.

    Give every site, those without sessions with an empty list; a group of sites whose common
    peak matters is one more site. Raises InvalidInput naming the session that is wrong. The same
    input and `seed` give the same result.
    """
    histories: dict[str, SiteHistory] = {}
    recent: dict[str, tuple[Stay, ...]] = {}
    for site_id, stays in sorted(stays_by_site.items()):
        known = checked(stays)
        histories[site_id] = site_history(
            site_id,
            known,
            until=now,
            time_zone=_zone_of(site_id, time_zone),
            holidays=options.holidays,
            keep_days=options.train_days + KEEP_DAYS,
        )
        since = now - timedelta(days=KEEP_DAYS + 7)
        recent[site_id] = tuple(s for s in known_at(known, now) if (s.ended_at or now) > since)
    models = _fitted(histories, now=now, seed=seed, options=options)
    shapes = {site_id: shapes_of(history) for site_id, history in histories.items()}
    sites: dict[str, SiteState] = {}
    refused: list[str] = []
    for site_id, history in histories.items():
        others = {s: shape for s, shape in shapes.items() if s != site_id and shape}
        state = SiteState(
            site_id=site_id,
            time_zone=_zone_of(site_id, time_zone),
            stage=Stage.BOOSTED,
            models=models,
            score=None,
            like=mean_shapes(list(others.values())),
            levels=assumed_levels(
                [histories[s] for s in others], options.declared_kwh_per_day.get(site_id)
            ),
            stays=recent[site_id],
        )
        old = champion.sites.get(site_id) if champion else None
        sites[site_id] = _chosen(state, history, options.holdout_days, old)
        if sites[site_id].models is not models:
            refused.append(site_id)
    return TrainedForecast(
        trained_at=now, holidays=options.holidays, sites=sites, refused=tuple(refused)
    )


def reserved_kw(
    series: ForecastSeries, edges_at: tuple[datetime, ...], *, quantile: float = 0.9
) -> tuple[float, ...]:
    """Return the headroom to keep in each slot for cars yet to arrive, kW, (edges - 1,).

    `quantile` (0.1..0.9) is interpolated between P10, P50 and P90. Slots, or parts of them, that
    the forecast does not cover reserve nothing.
    """
    if not QUANTILES[0] <= quantile <= QUANTILES[-1]:
        raise ValueError(f"quantile is {quantile}; it must be {QUANTILES[0]}..{QUANTILES[-1]}")
    table = np.array([series.fresh_p10_kw, series.fresh_p50_kw, series.fresh_p90_kw])
    hourly = [float(np.interp(quantile, QUANTILES, column)) for column in table.T]
    starts = np.array([at.timestamp() for at in series.hours_at])
    ends = np.append(starts[1:], starts[-1] + 3600.0)
    edges = [at.timestamp() for at in edges_at]
    result = []
    for begin, end in pairwise(edges):
        overlap = np.clip(np.minimum(ends, end) - np.maximum(starts, begin), 0.0, None)
        result.append(float(overlap @ hourly) / (end - begin))
    return tuple(result)


def dumps(trained: TrainedForecast) -> bytes:
    """Return `trained` as bytes: a version line, then a pickle."""
    return _header() + pickle.dumps(trained, protocol=5)


def loads(content: bytes) -> TrainedForecast:
    """Return what `dumps` wrote; raise InvalidInput if another version wrote it (train anew).

    A pickle runs code: read only what this installation has written itself.
    """
    if not content.startswith(_header()):
        found = content.split(b"\n", 1)[0][:60]
        raise InvalidInput(f"forecast of another version {found!r}; train anew")
    trained = pickle.loads(content[len(_header()) :])
    if not isinstance(trained, TrainedForecast):
        raise InvalidInput(f"not a trained forecast: {type(trained).__name__}")
    return trained


def _header() -> bytes:
    # scikit-learn does not promise that trees of one release work in another.
    return f"tasco-forecast {FORMAT_VERSION} scikit-learn {sklearn.__version__}\n".encode()


def _zone_of(site_id: str, time_zone: str | Mapping[str, str]) -> str:
    if isinstance(time_zone, str):
        return time_zone
    if site_id not in time_zone:
        raise InvalidInput(f"no time zone is given for site {site_id!r}")
    return time_zone[site_id]


def training_rows(
    history: SiteHistory, name: str, *, until: int, train_days: int, origins: Ints | None = None
) -> tuple[pd.DataFrame, Floats]:
    """Return columns and truth of the origins whose 24 hours end by wall-clock hour `until`.

    One origin a day, seven hours later each day, so that all hours of all weekdays occur (half
    the rows of midnight and noon of each day, and as good within 0.005 in RMSE).
    """
    aim = target(history, name)
    if origins is None:
        days = np.arange(max(until // 24 - train_days, 0), max(until // 24, 0))
        origins = days * 24 + (days + history.hours.first_day.toordinal()) * 7 % 24
    origins = origins[(origins + 24 <= until) & (origins >= history.first_seen + COLD_DAYS * 24)]
    rows = rows_for(origins.astype(np.int64), np.arange(24), aim.values.shape[2])
    return frame(aim, rows, with_quantiles=False), truth(aim, rows)


def _fitted(
    histories: Mapping[str, SiteHistory], *, now: datetime, seed: int, options: TrainingOptions
) -> FittedModels:
    models = {}
    for name in TARGETS:
        parts = [
            training_rows(
                history,
                name,
                until=history.known_until - options.holdout_days * 24,
                train_days=options.train_days,
            )
            for history in histories.values()
        ]
        model = LoadForecast(
            max_iter=options.trees, with_quantiles=name in WITH_QUANTILES, random_state=seed
        )
        parts = [(columns, came) for columns, came in parts if len(columns)]
        if parts:
            columns = pd.concat([c for c, _ in parts])
            came = pd.Series(np.concatenate([t for _, t in parts]), index=columns.index)
        else:
            columns, came = _no_rows(), pd.Series(dtype=float)
        models[name] = model.fit(columns, came)
    until = now - timedelta(days=options.holdout_days)
    return FittedModels(by_target=models, trained_at=now, trained_until=until)


def _no_rows() -> pd.DataFrame:
    nothing = site_history("", (), until=datetime(2000, 1, 1, tzinfo=UTC), time_zone="UTC")
    return frame(target(nothing, "load"), rows_for(np.array([], dtype=np.int64), np.arange(24), 1))


def _candidates(state: SiteState, days: float) -> list[Stage]:
    """Return the stages that may answer a site with `days` of history, preferred first."""
    if days >= COLD_DAYS:
        has_trees = state.models.by_target["load"].mean_ is not None
        return [Stage.BOOSTED, Stage.PROFILE] if has_trees else [Stage.PROFILE]
    if state.like:
        return [Stage.LIKE_SITES, Stage.PROFILE] if days >= PROFILE_DAYS else [Stage.LIKE_SITES]
    return [Stage.PROFILE] if days >= LEVEL_DAYS else [Stage.LEVEL]


def _chosen(
    state: SiteState, history: SiteHistory, holdout_days: int, old: SiteState | None
) -> SiteState:
    """Return `state` with the stage that scored best, or with the old model if that did better."""
    days = max(history.known_until - history.first_seen, 0) / 24
    seen = load_window(history, holdout_days)
    rivals = [replace(state, stage=stage) for stage in _candidates(state, days)]
    has_trees = Stage.BOOSTED in [rival.stage for rival in rivals]
    if old is not None and old.stage is Stage.BOOSTED and has_trees:
        rivals.append(replace(state, stage=Stage.BOOSTED, models=old.models))
    if seen is None:
        return rivals[0]
    rivals = [replace(rival, score=_scored(rival, seen)) for rival in rivals]
    # min keeps the first of equals: the old model stays only where it is really better.
    return min(rivals, key=lambda r: np.inf if r.score is None else r.score.rmse_kw)


def _scored(state: SiteState, seen: Window) -> Score | None:
    columns = _turned(state, "load", seen.columns)
    model = state.models.by_target["load"]
    quantiles = model.predict_quantiles(columns).to_numpy()
    return score(seen.truth_kw, model.predict(columns), quantiles, seen.naive_kw)


def _turned(state: SiteState, name: str, columns: pd.DataFrame) -> pd.DataFrame:
    return answered_by(
        columns,
        stage=state.stage,
        like=state.like.get(name),
        assumed=state.levels[name],
    )


def _series(state: SiteState, history: SiteHistory, origin: datetime, hours: int) -> ForecastSeries:
    first = history.hours.bin_of(origin)
    bins = slice(first, first + hours)
    at = history.hours.day[bins] * 24 + history.hours.hour[bins]
    starts_s = history.hours.edges_s[bins]
    start = history.hours.flat(first)
    lead = np.maximum(at - start, 0)
    means: dict[str, Floats] = {}
    quantiles: dict[str, Floats] = {}
    stages = state.stage
    for name in TARGETS:
        aim = target(history, name)
        age = np.minimum(lead, aim.values.shape[2] - 1)
        rows = Rows(at=at, origin=np.full_like(at, start), lead=lead, age=age)
        mean, spread, stage = _answer(state, name, aim, rows)
        if name == "fresh":
            passed = (origin.timestamp() - float(starts_s[0])) / HOUR_S
            mean, spread = _without_running_hour(state, aim, rows, passed, (mean, spread))
        if name == "load":
            stages = stage
        means[name], quantiles[name] = mean, spread
    load, fresh = quantiles["load"].T.tolist(), quantiles["fresh"].T.tolist()
    return ForecastSeries(
        site_id=state.site_id,
        origin_at=origin,
        hours_at=tuple(datetime.fromtimestamp(int(s), UTC) for s in starts_s),
        arrivals=tuple(means["arrivals"].tolist()),
        energy_kwh=tuple(means["energy"].tolist()),
        load_kw=tuple(means["load"].tolist()),
        p10_kw=tuple(load[0]),
        p50_kw=tuple(load[1]),
        p90_kw=tuple(load[2]),
        fresh_kw=tuple(means["fresh"].tolist()),
        fresh_p10_kw=tuple(fresh[0]),
        fresh_p50_kw=tuple(fresh[1]),
        fresh_p90_kw=tuple(fresh[2]),
        stage=stages,
        trained_at=state.models.trained_at,
        trained_until=state.models.trained_until,
        history_days=max(history.known_until - history.first_seen, 0) / 24,
        score=state.score,
    )


def _answer(state: SiteState, name: str, aim: Target, rows: Rows) -> tuple[Floats, Floats, Stage]:
    """Return mean (rows,), quantiles (rows, 3) and what answered."""
    columns = _turned(state, name, frame(aim, rows, with_quantiles=name in WITH_QUANTILES))
    model = state.models.by_target[name]
    stage = state.stage
    if stage is Stage.BOOSTED:
        # A site that fell silent for four weeks has no level for the trees to scale.
        stage = Stage(str(model.stages(columns).iloc[0]))
    if name not in WITH_QUANTILES:
        return model.predict(columns), np.empty((0, len(QUANTILES))), stage
    return model.predict(columns), model.predict_quantiles(columns).to_numpy(), stage


def _without_running_hour(
    state: SiteState, aim: Target, rows: Rows, passed: float, whole: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Return the fresh load without the cars of the running hour's `passed` share (0..1).

    Between "arrived since the hour began" and "since the next hour" the load of later cars is
    taken to fall evenly; in the running hour itself it falls to nothing.
    """
    if passed <= 0:
        return whole
    lead = np.maximum(rows.lead - 1, 0)
    later = replace(rows, lead=lead, age=np.minimum(lead, rows.age))
    mean, spread, _ = _answer(state, "fresh", aim, later)
    is_running = rows.lead == 0
    mean = np.where(is_running, 0.0, mean)
    spread = np.where(is_running[:, None], 0.0, spread)
    return (1 - passed) * whole[0] + passed * mean, (1 - passed) * whole[1] + passed * spread
