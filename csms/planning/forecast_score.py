"""How good a forecast was: rolling origins, next to what last week alone would have said.

Rank the mean by RMSE and bias and the distribution by WQL; the absolute error alone rewards
"always zero" where arrivals are sparse.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csms.planning.forecast_features import (
    QUANTILES,
    WEEK,
    Rows,
    Target,
    frame,
    rows_for,
    target,
    truth,
)
from csms.planning.forecast_series import Floats, SiteHistory

SCORE_ORIGIN_HOURS = (0, 12)
SCORE_LEADS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Errors over `hours` forecast hours, in kW; ratios are to seasonal naive on the same hours.

    `bias_kw` is forecast less truth. `wql` is twice the mean pinball loss at P10, P50 and P90 over
    the mean load, `above_p90_share` should be near 0.10. A ratio is None where its divisor is 0.
    """

    hours: int
    mean_kw: float
    mae_kw: float
    rmse_kw: float
    bias_kw: float
    wql: float | None
    above_p90_share: float
    naive_mae_kw: float
    naive_rmse_kw: float
    mae_ratio: float | None
    rmse_ratio: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The hours of a site on which forecasts are compared: columns, truth and last week's value."""

    columns: pd.DataFrame
    truth_kw: Floats
    naive_kw: Floats


def score(
    truth_kw: Floats, mean_kw: Floats, quantiles_kw: Floats, naive_kw: Floats
) -> Score | None:
    """Return the errors of a forecast, None where no hour has both a truth and a week before.

    All arrays are (hours,), `quantiles_kw` is (hours, 3): P10, P50, P90.
    """
    known = np.isfinite(truth_kw) & np.isfinite(naive_kw)
    if not known.any():
        return None
    came, mean, naive = truth_kw[known], mean_kw[known], naive_kw[known]
    quantiles = quantiles_kw[known]
    error, naive_error = mean - came, naive - came
    miss = came[:, None] - quantiles
    share = np.array(QUANTILES)
    pinball = float(np.maximum(share * miss, (share - 1) * miss).mean())
    mae, rmse = float(np.abs(error).mean()), float(np.sqrt((error**2).mean()))
    naive_mae = float(np.abs(naive_error).mean())
    naive_rmse = float(np.sqrt((naive_error**2).mean()))
    mean_kw_came = float(came.mean())
    return Score(
        hours=int(known.sum()),
        mean_kw=mean_kw_came,
        mae_kw=mae,
        rmse_kw=rmse,
        bias_kw=float(error.mean()),
        wql=2 * pinball / mean_kw_came if mean_kw_came > 0 else None,
        above_p90_share=float((miss[:, 2] > 0).mean()),
        naive_mae_kw=naive_mae,
        naive_rmse_kw=naive_rmse,
        mae_ratio=mae / naive_mae if naive_mae > 0 else None,
        rmse_ratio=rmse / naive_rmse if naive_rmse > 0 else None,
    )


def scoring_origins(history: SiteHistory, days: int) -> Sequence[int]:
    """Return the midnights and noons of the last `days` days whose 24 hours are known in full."""
    last = history.known_until - SCORE_LEADS
    first = max(history.known_until - days * 24, history.first_seen + 24)
    return [
        o for o in range(max(first, 0), last + 1) if o % 24 in SCORE_ORIGIN_HOURS and o >= first
    ]


def window(aim: Target, origins: Sequence[int]) -> Window:
    """Return what a model is shown at each of `origins`, and what came of it."""
    rows = rows_for(np.array(origins, dtype=np.int64), np.arange(SCORE_LEADS), aim.values.shape[2])
    return Window(
        columns=frame(aim, rows),
        truth_kw=truth(aim, rows),
        naive_kw=truth(aim, Rows(rows.at - WEEK, rows.origin, rows.lead, rows.age)),
    )


def load_window(history: SiteHistory, days: int) -> Window | None:
    """Return the scoring window of a site's load, None while there is not one known day."""
    origins = scoring_origins(history, days)
    return window(target(history, "load"), origins) if origins else None
