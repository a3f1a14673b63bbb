"""Charging load of a site, hour by hour: the model and its fall-backs.

A small gradient-boosted model learns the *scaled deviation* from the day-type profile, one for all
sites; where history is too short for it the profile answers, and where there is none the level
does. Columns come from csms.planning.forecast_features.
"""

from enum import StrEnum
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils.parallel import _get_threadpool_controller
from sklearn.utils.validation import check_is_fitted

from csms.core.errors import InvalidInput
from csms.planning.forecast_features import BASE, FEATURES, QUANTILES
from csms.planning.forecast_series import Floats

COLUMNS = (*BASE, *FEATURES)
QUANTILE_COLUMNS = tuple(f"p{int(q * 100)}_kw" for q in QUANTILES)

# A flat level says nothing of the spread; an exponential distribution is the plainest that has
# only a mean, and its P90 (2.3 times the mean) is near what sparse sites show.
_LEVEL_QUANTILES = -np.log(1.0 - np.array(QUANTILES))


class Stage(StrEnum):
    """What a forecast came from, best first."""

    BOOSTED = "boosted"
    PROFILE = "profile"
    LIKE_SITES = "like_sites"
    LEVEL = "level"


class LoadForecast(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Mean and quantiles of an hourly series of many sites, in kW (or per hour, for arrivals).

    `fit(X, y)` takes the columns COLUMNS, one row per hour, origin and site, indexed by hour start
    (UTC); rows of an unknown `y` or level are left out. With fewer than `least_rows` usable rows
    no trees are grown and the profile answers. It always runs on one thread: with several, the
    barriers of the threads cost more than they bring on a shared machine.
    """

    def __init__(
        self,
        *,
        max_iter: int = 120,
        learning_rate: float = 0.05,
        max_leaf_nodes: int = 8,
        max_bins: int = 31,
        min_samples_leaf: int = 200,
        l2_regularization: float = 1.0,
        least_rows: int = 2000,
        least_days: float = 28.0,
        with_quantiles: bool = True,
        random_state: int = 0,
    ) -> None:
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.max_leaf_nodes = max_leaf_nodes
        self.max_bins = max_bins
        self.min_samples_leaf = min_samples_leaf
        self.l2_regularization = l2_regularization
        self.least_rows = least_rows
        self.least_days = least_days
        self.with_quantiles = with_quantiles
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: "pd.Series[float]") -> Self:
        """Grow the trees for the mean and, if asked for, the quantiles; return self."""
        columns, usable = _columns(X), self._has_trees(X)
        target = np.asarray(y, dtype=float)
        if target.shape != (len(columns),):
            raise ValueError(f"y has shape {target.shape}; it must be ({len(columns)},)")
        usable &= np.isfinite(target) & np.isfinite(columns["profile_kw"].to_numpy())
        self.feature_names_in_ = np.array(COLUMNS, dtype=object)
        self.n_features_in_ = len(COLUMNS)
        self.rows_ = int(usable.sum())
        self.mean_: HistGradientBoostingRegressor | None = None
        self.quantiles_: tuple[HistGradientBoostingRegressor, ...] = ()
        self.cuts_: list[Floats] = []
        if self.rows_ < self.least_rows:
            return self
        kept = columns[usable]
        level = kept["level_kw"].to_numpy()
        deviation = (target[usable] - kept["profile_kw"].to_numpy()) / level
        values = kept[list(FEATURES)].to_numpy(dtype=float)
        self.cuts_ = _cuts(values, self.max_bins)
        seen = _binned(values, self.cuts_)
        with _get_threadpool_controller().limit(limits=1, user_api="openmp"):
            self.mean_ = self._trees("squared_error").fit(seen, deviation, sample_weight=level)
            if self.with_quantiles:
                self.quantiles_ = tuple(
                    self._trees("quantile", q).fit(seen, deviation, sample_weight=level)
                    for q in QUANTILES
                )
        return self

    def predict(self, X: pd.DataFrame) -> Floats:
        """Return the mean of each row, never negative, (rows,)."""
        check_is_fitted(self, "rows_")
        columns = _columns(X)
        base = _first_known(columns["profile_kw"], columns["level_kw"])
        trees = [] if self.mean_ is None else [self.mean_]
        return np.asarray(self._corrected(columns, base[:, None], trees)[:, 0])

    def predict_quantiles(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return P10, P50 and P90 of each row: columns QUANTILES in order, never crossing."""
        check_is_fitted(self, "rows_")
        columns = _columns(X)
        level = np.nan_to_num(columns["level_kw"].to_numpy())
        mean = _first_known(columns["profile_kw"], columns["level_kw"])
        own = columns[list(QUANTILE_COLUMNS)].to_numpy(dtype=float)
        flat = np.where(np.isfinite(mean), mean, level)[:, None] * _LEVEL_QUANTILES
        result = np.where(np.isfinite(own), own, flat)
        rows = self._has_trees(columns) & np.isfinite(columns["profile_kw"].to_numpy())
        if self.quantiles_:
            profile = np.repeat(columns["profile_kw"].to_numpy()[:, None], len(QUANTILES), axis=1)
            boosted = self._corrected(columns, profile, list(self.quantiles_))
            result[rows] = boosted[rows]
        return pd.DataFrame(
            np.sort(np.maximum(result, 0.0), axis=1), index=X.index, columns=list(QUANTILES)
        )

    def stages(self, X: pd.DataFrame) -> "pd.Series[str]":
        """Return which stage answers each row."""
        check_is_fitted(self, "rows_")
        columns = _columns(X)
        has_profile = np.isfinite(columns["profile_kw"].to_numpy())
        stage = np.where(has_profile, Stage.PROFILE.value, Stage.LEVEL.value)
        if self.mean_ is not None:
            stage = np.where(self._has_trees(columns) & has_profile, Stage.BOOSTED.value, stage)
        return pd.Series(stage, index=X.index, dtype="str")

    def _has_trees(self, columns: pd.DataFrame) -> NDArray[np.bool_]:
        level = columns["level_kw"].to_numpy(dtype=float)
        days = columns["history_days"].to_numpy(dtype=float)
        return np.asarray(np.isfinite(level) & (level > 0) & (days >= self.least_days))

    def _corrected(
        self, columns: pd.DataFrame, base: Floats, trees: list[HistGradientBoostingRegressor]
    ) -> Floats:
        """Return base (rows, trees) plus what the trees say of each row that may ask them."""
        result = np.nan_to_num(base)
        rows = self._has_trees(columns) & np.isfinite(base[:, 0])
        if trees and rows.any():
            seen = _binned(columns.loc[rows, list(FEATURES)].to_numpy(dtype=float), self.cuts_)
            level = columns.loc[rows, "level_kw"].to_numpy(dtype=float)
            with _get_threadpool_controller().limit(limits=1, user_api="openmp"):
                for i, tree in enumerate(trees):
                    result[rows, i] += tree.predict(seen) * level
        return np.maximum(result, 0.0)

    def _trees(self, loss: str, quantile: float | None = None) -> HistGradientBoostingRegressor:
        return HistGradientBoostingRegressor(
            loss=loss,
            quantile=quantile,
            max_iter=self.max_iter,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.max_leaf_nodes,
            max_bins=self.max_bins,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2_regularization,
            early_stopping=False,
            random_state=self.random_state,
        )


def _cuts(values: Floats, bins: int) -> list[Floats]:
    """Return where to cut each column so that the bins hold as many rows each."""
    # Cut once for all models of a fit: with sample weights each would do it anew, which took as
    # long as growing its trees.
    shares = np.linspace(0, 1, bins + 1)[1:-1]
    known = [column[np.isfinite(column)] for column in values.T]
    return [np.unique(np.quantile(k, shares)) if len(k) else np.empty(0) for k in known]


def _binned(values: Floats, cuts: list[Floats]) -> Floats:
    """Return the bin number of each value, NaN where it is not known."""
    binned = [
        np.searchsorted(c, column, side="right") for c, column in zip(cuts, values.T, strict=True)
    ]
    return np.where(np.isfinite(values), np.column_stack(binned), np.nan)


def _columns(X: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in COLUMNS if name not in X.columns]
    if missing:
        raise InvalidInput(f"forecast columns are missing: {', '.join(missing)}")
    return X


def _first_known(first: "pd.Series[float]", second: "pd.Series[float]") -> Floats:
    a, b = first.to_numpy(dtype=float), second.to_numpy(dtype=float)
    return np.where(np.isfinite(a), a, b)
