"""Scores, recomputed by hand."""

import numpy as np
import pytest

from csms.planning.forecast_score import score


def test_scores_are_those_computed_by_hand() -> None:
    came = np.array([4.0, 0.0, 2.0, np.nan])
    mean = np.array([3.0, 1.0, 2.0, 9.0])
    naive = np.array([2.0, 2.0, 2.0, 9.0])
    quantiles = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 2.0], [0.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    result = score(came, mean, quantiles, naive)
    assert result is not None
    assert result.hours == 3
    assert result.mean_kw == 2.0
    assert result.mae_kw == pytest.approx(2 / 3)
    assert result.rmse_kw == pytest.approx((2 / 3) ** 0.5)
    assert result.bias_kw == 0.0
    assert result.naive_mae_kw == pytest.approx(4 / 3)
    assert result.naive_rmse_kw == pytest.approx((8 / 3) ** 0.5)
    assert result.mae_ratio == pytest.approx(0.5)
    assert result.rmse_ratio == pytest.approx(0.5)
    assert result.above_p90_share == pytest.approx(1 / 3)
    # Pinball by hour, P10 + P50 + P90: (0.3 + 1.0 + 0.9), (0 + 0.5 + 0.2), (0.2 + 0 + 0.2).
    assert result.wql == pytest.approx(2 * (2.2 + 0.7 + 0.4) / 9 / 2.0)


def test_a_site_without_a_week_before_has_no_score() -> None:
    nothing = np.full(3, np.nan)
    assert score(np.ones(3), np.ones(3), np.ones((3, 3)), nothing) is None


def test_ratios_to_nothing_are_not_given() -> None:
    zero = np.zeros(2)
    result = score(zero, zero, np.zeros((2, 3)), zero)
    assert result is not None
    assert result.rmse_ratio is None
    assert result.wql is None
