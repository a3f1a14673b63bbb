"""The forecast on real sessions: skill, honesty about the future, fall-backs."""

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from csms.core.errors import InvalidInput, UnknownSite
from csms.planning.forecast import COLUMNS, LoadForecast, Stage
from csms.planning.forecast_features import QUANTILES, frame, profile, rows_for, target, truth
from csms.planning.forecast_score import score, window
from csms.planning.forecast_series import Stay, known_at, site_history
from csms.planning.forecast_site import (
    ForecastSeries,
    TrainedForecast,
    TrainingOptions,
    dumps,
    loads,
    reserved_kw,
    train,
)
from tests.planning.forecast_extract import NORWAY_FREE, sessions

OSLO = "Europe/Oslo"
NOW = datetime(2020, 1, 20, 12, 20, tzinfo=UTC)
OPTIONS = TrainingOptions(holidays=NORWAY_FREE, trees=30)
FEW_TREES = TrainingOptions(holidays=NORWAY_FREE, trees=8, train_days=120)
NORWAY = sessions("norway")
A_FEW = {"garage": NORWAY["BAR"]}


@pytest.fixture(scope="module")
def trained() -> TrainedForecast:
    return train(NORWAY, now=NOW, time_zone=OSLO, options=OPTIONS)


def quantiles(series: ForecastSeries) -> np.ndarray:
    return np.array([series.p10_kw, series.p50_kw, series.p90_kw])


def test_sites_with_history_are_answered_by_a_trained_model_that_beats_last_week(
    trained: TrainedForecast,
) -> None:
    for site_id in NORWAY:
        series = trained.predict(site_id, origin=NOW)
        assert series.stage in {Stage.BOOSTED, Stage.PROFILE}
        assert series.score is not None
        assert series.score.rmse_ratio is not None
        assert series.score.rmse_ratio < 0.9
        assert series.trained_until == NOW - timedelta(days=OPTIONS.holdout_days)
        assert series.trained_at == NOW


def _rolling_ratio(stays: dict[str, list[Stay]]) -> float:
    """Return the RMSE ratio to seasonal naive over the last six weeks, all sites together."""
    until = datetime(2020, 1, 27, tzinfo=ZoneInfo(OSLO))
    train_parts, test_parts = [], []
    for site_id, own in stays.items():
        history = site_history(site_id, own, until=until, time_zone=OSLO, holidays=NORWAY_FREE)
        aim = target(history, "load")
        split = history.hours.days - 43
        origins = np.array([24 * d + (d * 7) % 24 for d in range(29, split - 1)])
        rows = rows_for(origins, np.arange(24), 1)
        train_parts.append((frame(aim, rows, with_quantiles=False), truth(aim, rows)))
        test_parts.append(window(aim, [24 * d for d in range(split, split + 42)]))
    columns = pd.concat([c for c, _ in train_parts])
    model = LoadForecast(with_quantiles=False)
    model.fit(columns, pd.Series(np.concatenate([y for _, y in train_parts])))
    assert model.mean_ is not None
    shown = pd.concat([w.columns for w in test_parts])
    mean = model.predict(shown)
    result = score(
        np.concatenate([w.truth_kw for w in test_parts]),
        mean,
        model.predict_quantiles(shown).to_numpy(),
        np.concatenate([w.naive_kw for w in test_parts]),
    )
    assert result is not None
    assert result.rmse_ratio is not None
    return result.rmse_ratio


def _with_shuffled_days(stays: Iterable[Stay]) -> list[Stay]:
    """Return the stays with whole days exchanged and the clock of each day turned at random."""
    random_ = random.Random(7)
    rows = list(stays)
    days = sorted({s.started_at.date() for s in rows})
    order = days[:]
    random_.shuffle(order)
    moved = {
        day: timedelta(days=(to - day).days, hours=random_.randrange(-12, 12))
        for day, to in zip(days, order, strict=True)
    }
    result = []
    for s in rows:
        by = moved[s.started_at.date()]
        end = None if s.ended_at is None else s.ended_at + by
        result.append(replace(s, started_at=s.started_at + by, ended_at=end))
    return result


def test_the_skill_is_in_the_days_and_hours_and_vanishes_when_they_are_shuffled() -> None:
    real = _rolling_ratio(NORWAY)
    shuffled = {site_id: _with_shuffled_days(s) for site_id, s in NORWAY.items()}
    assert real < 0.85
    # Against naive, even the mean of pure noise looks well (1/sqrt(2)); so here the yardstick is
    # the share of variance explained.
    assert _explained(NORWAY) > 0.2
    assert _explained(shuffled) < 0.05


def _explained(stays: dict[str, list[Stay]]) -> float:
    """Return the share of variance the profile explains over the last six weeks, mean of sites."""
    until = datetime(2020, 1, 27, tzinfo=ZoneInfo(OSLO))
    shares = []
    for site_id, own in stays.items():
        history = site_history(site_id, own, until=until, time_zone=OSLO)
        aim = target(history, "load")
        split = history.hours.days - 43
        rows = rows_for(np.array([24 * d for d in range(split, split + 42)]), np.arange(24), 1)
        came, guess = truth(aim, rows), profile(aim, rows)
        shares.append(1 - np.mean((came - guess) ** 2) / np.var(came))
    return float(np.mean(shares))


def test_changing_every_session_after_the_origin_leaves_the_forecast_bit_identical(
    trained: TrainedForecast,
) -> None:
    origin = NOW - timedelta(days=3)
    for site_id, stays in NORWAY.items():
        changed = []
        for s in stays:
            if s.started_at >= origin:
                changed.append(replace(s, energy_kwh=s.energy_kwh * 7 + 50, max_kw=99.0))
            elif s.ended_at is not None and s.ended_at > origin:
                changed.append(replace(s, ended_at=s.ended_at + timedelta(hours=9)))
            else:
                changed.append(s)
        invented = replace(stays[0], started_at=origin, ended_at=origin + timedelta(hours=1))
        as_was = trained.predict(site_id, origin=origin, hours=48, stays=stays)
        as_is = trained.predict(site_id, origin=origin, hours=48, stays=[*changed, invented])
        assert as_was == as_is
        cut = trained.predict(site_id, origin=origin, hours=48, stays=known_at(stays, origin))
        assert cut == as_was


def test_training_uses_nothing_after_now() -> None:
    later = [replace(s, energy_kwh=500.0) if s.started_at >= NOW else s for s in A_FEW["garage"]]
    one = train(A_FEW, now=NOW, time_zone=OSLO, options=FEW_TREES).predict("garage", origin=NOW)
    two = train({"garage": later}, now=NOW, time_zone=OSLO, options=FEW_TREES).predict(
        "garage", origin=NOW
    )
    assert one == two


def test_a_row_of_the_scoring_window_is_what_a_live_forecast_sees() -> None:
    stays = NORWAY["ASK"]
    origin = datetime(2020, 1, 8, 11, tzinfo=UTC)
    later = origin + timedelta(days=10)
    whole = site_history("ASK", stays, until=later, time_zone=OSLO, holidays=NORWAY_FREE)
    live = site_history(
        "ASK", stays, until=origin, time_zone=OSLO, holidays=NORWAY_FREE, days_ahead=2
    )
    at = np.array([live.known_until])
    rows = rows_for(at, np.arange(24), 1)
    for name in ("load", "arrivals"):
        then = frame(target(whole, name), rows)
        now = frame(target(live, name), rows)
        np.testing.assert_allclose(then.to_numpy(), now.to_numpy(), rtol=1e-6, atol=1e-6)


def test_the_same_seed_gives_the_same_forecast() -> None:
    first, second = (
        train(A_FEW, now=NOW, time_zone=OSLO, seed=5, options=FEW_TREES) for _ in range(2)
    )
    assert first.predict("garage", origin=NOW) == second.predict("garage", origin=NOW)


def test_quantiles_never_cross_and_nothing_is_negative(trained: TrainedForecast) -> None:
    for site_id in NORWAY:
        for hours_back in range(0, 24 * 6, 17):
            series = trained.predict(site_id, origin=NOW - timedelta(hours=hours_back), hours=72)
            load = quantiles(series)
            fresh = np.array([series.fresh_p10_kw, series.fresh_p50_kw, series.fresh_p90_kw])
            for rows in (load, fresh):
                assert (np.diff(rows, axis=0) >= 0).all()
                assert rows.min() >= 0
            assert min(series.load_kw + series.fresh_kw + series.arrivals) >= 0
            assert np.isfinite(load).all()


def test_clock_changes_are_forecast_in_real_hours(trained: TrainedForecast) -> None:
    for origin, last in (
        (datetime(2019, 10, 26, 22, tzinfo=UTC), datetime(2019, 10, 27, 22, tzinfo=UTC)),
        (datetime(2019, 10, 27, 0, tzinfo=UTC), datetime(2019, 10, 28, 0, tzinfo=UTC)),
        (datetime(2020, 3, 28, 23, tzinfo=UTC), datetime(2020, 3, 29, 23, tzinfo=UTC)),
    ):
        series = trained.predict("ASK", origin=origin, hours=25, stays=NORWAY["ASK"])
        assert series.hours_at[0] == origin
        assert series.hours_at[-1] == last
        steps = {b - a for a, b in zip(series.hours_at, series.hours_at[1:], strict=False)}
        assert steps == {timedelta(hours=1)}
        assert np.isfinite(series.load_kw).all()


def test_the_load_of_cars_yet_to_arrive_starts_at_nothing_and_grows_to_the_whole(
    trained: TrainedForecast,
) -> None:
    origin = datetime(2020, 1, 15, 17, tzinfo=UTC)
    series = trained.predict("ASK", origin=origin, hours=24)
    assert series.fresh_kw[0] < 0.6 * series.load_kw[0]
    assert sum(series.fresh_kw[18:]) == pytest.approx(sum(series.load_kw[18:]), rel=0.25)
    half = trained.predict("ASK", origin=origin + timedelta(minutes=59), hours=24)
    assert half.fresh_kw[0] < 0.1 * series.fresh_kw[0] + 1e-9


def test_reserved_headroom_follows_the_hours_of_the_forecast(trained: TrainedForecast) -> None:
    origin = datetime(2020, 1, 15, 17, 20, tzinfo=UTC)
    series = trained.predict("ASK", origin=origin, hours=3)
    edges = (origin, *(datetime(2020, 1, 15, h, m, tzinfo=UTC) for h, m in
                       ((17, 30), (18, 30), (19, 30), (20, 30), (21, 30))))  # fmt: skip
    kept = reserved_kw(series, edges)
    p90 = series.fresh_p90_kw
    assert kept[0] == pytest.approx(p90[0])
    assert kept[1] == pytest.approx((p90[0] + p90[1]) / 2)
    assert kept[3] == pytest.approx(p90[2] / 2), "half of the slot is beyond the forecast"
    assert kept[4] == 0.0
    assert all(a <= b for a, b in zip(reserved_kw(series, edges, quantile=0.5), kept, strict=True))
    with pytest.raises(ValueError, match=r"quantile is 0\.95"):
        reserved_kw(series, edges, quantile=0.95)


def test_no_history_is_answered_from_what_is_declared() -> None:
    options = TrainingOptions(declared_kwh_per_day={"new": 48.0})
    series = train({"new": []}, now=NOW, time_zone=OSLO, options=options).predict("new", origin=NOW)
    assert series.stage is Stage.LEVEL
    assert series.load_kw == pytest.approx([2.0] * 24)
    assert series.history_days == 0
    assert series.score is None
    assert sum(series.energy_kwh) == pytest.approx(48.0)
    assert series.p10_kw[0] < series.p50_kw[0] < series.load_kw[0] < series.p90_kw[0]


def test_nothing_at_all_is_answered_with_nothing() -> None:
    series = train({"new": []}, now=NOW, time_zone=OSLO, options=FEW_TREES).predict(
        "new", origin=NOW
    )
    assert series.stage is Stage.LEVEL
    assert set(series.load_kw) == {0.0}


@pytest.mark.parametrize("days", [0, 0.1, 1, 2, 5, 10, 20, 40, 80])
def test_any_amount_of_history_is_answered_by_the_stage_it_allows(days: float) -> None:
    stays = [s for s in NORWAY["BAR"] if NOW - timedelta(days=days) <= s.started_at]
    series = train({"garage": stays}, now=NOW, time_zone=OSLO, options=FEW_TREES).predict(
        "garage", origin=NOW
    )
    assert np.isfinite(quantiles(series)).all()
    assert len(series.load_kw) == 24
    expected = {Stage.LEVEL} if days < 3 else {Stage.PROFILE}
    assert series.stage in (expected if days < 80 else {Stage.PROFILE, Stage.BOOSTED})


def test_one_session_and_sessions_of_the_future_are_no_trouble() -> None:
    one = NORWAY["BAR"][:1]
    future = [replace(one[0], started_at=NOW + timedelta(days=1), ended_at=None)]
    for stays in (one, future, [*one, *future]):
        series = train({"garage": stays}, now=NOW, time_zone=OSLO, options=FEW_TREES).predict(
            "garage", origin=NOW
        )
        assert np.isfinite(series.load_kw).all()


def test_a_young_site_takes_the_shape_of_like_sites_at_its_own_level() -> None:
    stays = dict(NORWAY)
    stays["BAR"] = [s for s in NORWAY["BAR"] if s.started_at >= NOW - timedelta(days=5)]
    cold = train(stays, now=NOW, time_zone=OSLO, options=OPTIONS)
    series = cold.predict("BAR", origin=NOW, hours=24)
    assert series.stage is Stage.LIKE_SITES
    evening, night = np.argsort(series.load_kw)[-1], np.argsort(series.load_kw)[0]
    assert 14 <= series.hours_at[evening].hour <= 22
    assert 2 <= series.hours_at[night].hour <= 12
    usual = cold.predict("ASK", origin=NOW, hours=24)
    assert sum(series.load_kw) < 0.7 * sum(usual.load_kw)


def test_the_old_model_stays_only_where_the_new_one_scores_worse() -> None:
    two = {site_id: NORWAY[site_id] for site_id in ("BAR",)}
    change = NOW - timedelta(days=FEW_TREES.holdout_days)
    # What the new model learns from has its days turned round; what it is judged on has not.
    turned = {
        site_id: [
            s if s.ended_at is None or s.started_at >= change
            else replace(
                s,
                started_at=s.started_at - timedelta(hours=12),
                ended_at=s.ended_at - timedelta(hours=12),
            )
            for s in stays
        ]
        for site_id, stays in two.items()
    }  # fmt: skip
    old = train(two, now=NOW, time_zone=OSLO, options=FEW_TREES)
    alone = train(turned, now=NOW, time_zone=OSLO, options=FEW_TREES)
    both = train(turned, now=NOW, time_zone=OSLO, options=FEW_TREES, champion=old)
    assert both.refused
    for site_id in two:
        chosen, without = both.sites[site_id].score, alone.sites[site_id].score
        assert chosen is not None
        assert without is not None
        assert chosen.rmse_kw <= without.rmse_kw
        assert (chosen.rmse_kw < without.rmse_kw) == (site_id in both.refused)
    same = train(two, now=NOW, time_zone=OSLO, options=FEW_TREES, champion=old)
    assert same.refused == (), "an equal model replaces the old one"


def test_a_trained_forecast_survives_being_stored(trained: TrainedForecast) -> None:
    again = loads(dumps(trained))
    assert again.predict("TRO", origin=NOW) == trained.predict("TRO", origin=NOW)
    with pytest.raises(InvalidInput, match="another version"):
        loads(b"tasco-forecast 0 scikit-learn 0.1\n" + dumps(trained)[40:])


def test_unknown_sites_zones_and_horizons_are_refused(trained: TrainedForecast) -> None:
    with pytest.raises(UnknownSite, match="nowhere"):
        trained.predict("nowhere", origin=NOW)
    with pytest.raises(ValueError, match="hours is 0"):
        trained.predict("ASK", origin=NOW, hours=0)
    with pytest.raises(InvalidInput, match="no time zone"):
        train({"a": []}, now=NOW, time_zone={})
    bad = replace(NORWAY["BAR"][0], energy_kwh=float("nan"))
    with pytest.raises(InvalidInput, match="stay 0 of site 'BAR': energy_kwh is nan"):
        train({"BAR": [bad]}, now=NOW, time_zone=OSLO, options=FEW_TREES)


def test_the_model_follows_the_conventions_of_scikit_learn() -> None:
    model = LoadForecast(max_iter=7, random_state=3)
    assert clone(model).get_params() == model.get_params()
    history = site_history("BAR", NORWAY["BAR"], until=NOW, time_zone=OSLO)
    aim = target(history, "load")
    rows = rows_for(np.arange(30, 45) * 24, np.arange(24), 1)
    columns = frame(aim, rows)
    with pytest.raises(NotFittedError):
        model.predict(columns)
    came = pd.Series(truth(aim, rows), index=columns.index)
    assert model.fit(columns, came) is model
    assert list(model.feature_names_in_) == list(COLUMNS)
    assert model.mean_ is None, "too few rows for trees"
    assert set(model.stages(columns)) == {Stage.PROFILE}
    assert model.stages(columns).dtype == "str"
    np.testing.assert_allclose(model.predict(columns), columns["profile_kw"])
    assert list(model.predict_quantiles(columns).columns) == list(QUANTILES)
    assert str(columns.index.tz) == "UTC"
    with pytest.raises(InvalidInput, match="level_kw"):
        model.predict(columns.drop(columns="level_kw"))
    assert isinstance(model.score(columns, came), float)
