"""Is readiness calibrated? Weeks of real workplace sessions replayed, drivers leaving as they will.

Run: python benchmarks/readiness.py [--from 2015-09-07] [--days 14] [--limits 15 20 30]. The
departures are the recorded ones. Nobody published what these drivers had said, so statements are
made up: recorded departure less an error drawn (seed 1) from the usual ones. The planner and
readiness know only the statement, and errors drawn anew (seed 2) as the site's past. Each session
is asked about half an hour after its plug-in, and answered by whether it was met when it left.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from dataclasses import replace
from datetime import date, timedelta

import numpy as np

from csms.core.plan import Plan, PlanningCase
from csms.planning.planner import plan
from csms.planning.readiness import USUAL_ERRORS_MIN, Uncertainty, met_shares
from csms.planning.replayed_day import replay_days
from csms.planning.replayed_forecast import PastForecast
from csms.planning.visits import World, with_stated_departures
from csms.replay_day import forecast_of
from csms.replay_past import Asked, Past, past_of
from csms.settings import load

ASKED_AFTER = timedelta(minutes=30)
BANDS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.01)


def answers(
    of: Past, world: World, forecast: PastForecast, *, seed: int
) -> tuple[list[tuple[float, bool]], list[float]]:
    """Return (readiness, was met) of each session, and the CPU seconds of each look."""
    rng = np.random.default_rng(seed)
    errors = rng.choice(USUAL_ERRORS_MIN, len(of.visits))
    visits = with_stated_departures(of.visits, error_min=(-errors).tolist())
    stated = {v.visit_id: v.stated_departs_at for v in visits}
    came = {v.visit_id: v.arrives_at for v in visits}
    known = tuple(np.random.default_rng(seed + 1).choice(USUAL_ERRORS_MIN, 200).tolist())
    told: dict[str, float] = {}
    cpu_s: list[float] = []

    def watch(case: PlanningCase, made: Plan) -> None:
        asked = [
            s.session_id
            for s in case.sessions
            if s.session_id not in told and case.now_at - came[s.session_id] >= ASKED_AFTER
        ]
        if not asked:
            return
        began = time.thread_time()
        shares = met_shares(
            case,
            made,
            departs_at=[stated[s.session_id] for s in case.sessions],
            uncertain=Uncertainty(
                errors_min=known, arrivals_kw=forecast.arrivals_kw(case.now_at, case.edges_at)
            ),
        )
        cpu_s.append(time.thread_time() - began)
        told.update(
            (s.session_id, share)
            for s, share in zip(case.sessions, shares, strict=True)
            if s.session_id in asked
        )

    day = replay_days(
        visits,
        world,
        planner=lambda case: plan(case, with_reasons=False),
        reserve=lambda now: forecast.reserve(now, quantile=0.9),
        watch=watch,
    )
    return [(told[v.visit_id], v.is_met) for v in day.visits if v.visit_id in told], cpu_s


def past(first: date, days: int) -> Past:
    """Return the days of the workplace from `first` on, as those of the same weeks of 2024."""
    asked = Asked(
        file="workplace_us",
        starts_on=first,
        days=days,
        as_from=first + timedelta(weeks=470),
        shift_h=-6.0,
        time_zone="Europe/Copenhagen",
        limits_kw=(1.0,),
        tariff="dk1_prices_2024",
    )
    return asyncio.run(past_of(None, load(None, {}), asked))


def banded(found: list[tuple[float, bool]]) -> list[tuple[float, float, int, float, float]]:
    """Return lower and upper bound, sessions, mean readiness and met share of each band."""
    bands: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for share, is_met in found:
        bands[int(np.searchsorted(BANDS, share, side="right")) - 1].append((share, is_met))
    return [
        (
            BANDS[b],
            BANDS[b + 1],
            len(rows),
            float(np.mean([r for r, _ in rows])),
            float(np.mean([m for _, m in rows])),
        )
        for b, rows in sorted(bands.items())
    ]


def main() -> None:
    """Print a table."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    words.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2015, 9, 7))
    words.add_argument("--days", type=int, default=14)
    words.add_argument("--limits", type=float, nargs="+", default=[15.0, 20.0, 30.0])
    given = words.parse_args()
    chosen = past(given.first, given.days)
    forecast = forecast_of(chosen, seed=0)
    found, cpu_s = [], []
    for limit_kw in given.limits:
        world = replace(chosen.world, limit_kw=limit_kw)
        rows, took = answers(chosen, world, forecast, seed=1)
        found, cpu_s = found + rows, cpu_s + took
        print(
            f"{limit_kw:g} kW: {sum(m for _, m in rows)} of {len(rows)} met, "
            f"mean readiness {np.mean([r for r, _ in rows]):.3f}"
        )
    print("readiness      sessions   mean   met")
    for low, high, count, mean, met in banded(found):
        print(f"{low:.2f} to {min(high, 1.0):.2f} {count:11d} {mean:7.3f} {met:6.3f}")
    brier = np.mean([(r - m) ** 2 for r, m in found])
    base = np.mean([m for _, m in found])
    print(
        f"Brier score {brier:.3f}, that of the mean alone {base * (1 - base):.3f}; "
        f"CPU p50 {np.median(cpu_s) * 1000:.1f} ms, max {max(cpu_s) * 1000:.1f} ms"
    )


if __name__ == "__main__":
    main()
