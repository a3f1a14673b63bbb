"""Measure the forecast's skill on real sessions, by the protocol of rolling origins.

Target: uncontrolled load, 24 h ahead, origins 00 and 12 local, 12 weeks, models refitted every 28
days on the 52 weeks before, sites with at least 5 kWh a day in the 8 weeks before. Ratios are to
seasonal naive (same hour last week) on the same hours; climatology is the last 8 same weekdays
with the hours beside (24 values).

    python benchmarks/forecast_skill.py [--data DIR]

DIR holds one folder per set with a sessions.csv.gz (site_id, start_utc, end_utc, energy_kwh,
power_kw). Without it the small extract of the tests is measured, whose bars do not apply.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from csms.planning.forecast import LoadForecast
from csms.planning.forecast_features import QUANTILES, WEEK, Rows, frame, rows_for, target, truth
from csms.planning.forecast_series import SiteHistory, Stay, site_history, zone
from csms.planning.forecast_site import training_rows

EXTRACT = Path(__file__).parent.parent / "tests" / "data" / "forecast"
REFIT_DAYS = 28
TRAIN_DAYS = 364


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """A data set: where it is, when its test starts, and its bars (site, total, WQL, P50 MAE)."""

    folder: str
    extract: str
    zone: str
    country: str
    start: date
    extract_start: date
    bars: tuple[float, float, float, float]


SETS = (
    Set(
        folder="norway_residential",
        extract="norway",
        zone="Europe/Oslo",
        country="NO",
        start=date(2019, 11, 4),
        extract_start=date(2019, 11, 4),
        bars=(0.79, 0.83, 0.96, 0.80),
    ),
    Set(
        folder="boulder_public",
        extract="boulder",
        zone="America/Denver",
        country="US",
        start=date(2019, 10, 7),
        extract_start=date(2019, 10, 7),
        bars=(0.73, 0.72, 1.00, 0.74),
    ),
    Set(
        folder="perth_kinross_public",
        extract="",
        zone="Europe/London",
        country="GB",
        start=date(2019, 6, 3),
        extract_start=date(2019, 6, 3),
        bars=(0.75, 0.75, 1.00, 0.77),
    ),
)


def easter(year: int) -> date:
    """Return Easter Sunday (anonymous Gregorian computus)."""
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (b - (b + 8) // 25 + 1) // 3
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)


def holidays(country: str) -> list[date]:
    """Return the national holidays of 2016 to 2021."""

    def nth(year: int, month: int, weekday: int, n: int) -> date:
        first = date(year, month, 1)
        return first + timedelta((weekday - first.weekday()) % 7 + 7 * (n - 1))

    days: list[date] = []
    for year in range(2016, 2022):
        about_easter = {n: easter(year) + timedelta(n) for n in (-3, -2, 1, 39, 50)}
        fixed = {
            "NO": ((1, 1), (5, 1), (5, 17), (12, 24), (12, 25), (12, 26)),
            "GB": ((1, 1), (1, 2), (12, 25), (12, 26)),
            "US": ((1, 1), (7, 4), (12, 25)),
        }[country]
        days += [date(year, month, day) for month, day in fixed]
        if country == "NO":
            days += about_easter.values()
        elif country == "GB":
            days.append(about_easter[-2])
        else:
            thanks = nth(year, 11, 3, 4)
            last_may = nth(year, 6, 0, 1) - timedelta(7)
            days += [nth(year, 1, 0, 3), nth(year, 2, 0, 3), last_may, nth(year, 9, 0, 1)]
            days += [thanks, thanks + timedelta(1)]
    return days


def read(path: Path) -> dict[str, list[Stay]]:
    """Return the stays of each site in a CSV file."""
    stays: dict[str, list[Stay]] = {}
    for row in pd.read_csv(path).itertuples():
        stays.setdefault(row.site_id, []).append(
            Stay(
                site_id=row.site_id,
                started_at=datetime.fromisoformat(row.start_utc),
                ended_at=datetime.fromisoformat(row.end_utc),
                energy_kwh=row.energy_kwh,
                max_kw=row.power_kw if row.power_kw > 0 else None,
            )
        )
    return stays


def fitted(histories: Mapping[str, SiteHistory], at: date) -> LoadForecast:
    """Return the load model as trained in the night before `at`."""
    parts = []
    for history in histories.values():
        until = (at - history.hours.first_day).days * 24
        days = np.arange(max(until // 24 - TRAIN_DAYS, 0), max(until // 24, 0))
        origins = np.sort(np.concatenate([days * 24, days * 24 + 12]))
        parts.append(
            training_rows(history, "load", until=until, train_days=TRAIN_DAYS, origins=origins)
        )
    columns = pd.concat([c for c, _ in parts])
    came = pd.Series(np.concatenate([t for _, t in parts]), index=columns.index)
    return LoadForecast().fit(columns, came)


def answers(model: LoadForecast, history: SiteHistory, start: date, days: int) -> pd.DataFrame:
    """Return truth, forecasts and yardsticks of `days` days from `start` at one site."""
    first = (start - history.hours.first_day).days
    origins = [o for d in range(first, first + days) for o in (d * 24, d * 24 + 12)]
    aim = target(history, "load")
    rows = rows_for(np.array(origins), np.arange(24), 1)

    def at(back: int) -> np.ndarray:
        return truth(aim, Rows(rows.at - back, rows.origin, rows.lead, rows.age))

    columns = frame(aim, rows)
    climate = np.stack([at(WEEK * w + s) for w in range(1, 9) for s in (-1, 0, 1)])
    result = pd.DataFrame(
        {
            "site": history.site_id,
            "origin": rows.origin + 24 * history.hours.first_day.toordinal(),
            "lead": rows.lead,
            "y": truth(aim, rows),
            "naive": at(WEEK),
            "profile": columns["profile_kw"].to_numpy(),
            "mean": model.predict(columns),
        }
    )
    quantiles = model.predict_quantiles(columns).to_numpy()
    for i, q in enumerate(QUANTILES):
        result[f"q{i}"] = quantiles[:, i]
        result[f"c{i}"] = np.nanquantile(climate, q, axis=0)
    return result[np.isfinite(result["y"]) & np.isfinite(result["naive"])]


def rmse(table: pd.DataFrame, name: str) -> float:
    """Return the RMSE of one column."""
    return float(np.sqrt(((table[name] - table["y"]) ** 2).mean()))


def wql(table: pd.DataFrame, prefix: str) -> float:
    """Return twice the mean pinball loss over the mean load."""
    loss = []
    for i, q in enumerate(QUANTILES):
        miss = table["y"] - table[f"{prefix}{i}"]
        loss.append(np.maximum(q * miss, (q - 1) * miss).mean())
    return float(2 * np.mean(loss) / table["y"].mean())


def report(name: str, table: pd.DataFrame, bars: tuple[float, ...] | None) -> None:
    """Print the ratios of a set next to its bars."""
    total = table.groupby(["origin", "lead"])[["y", "naive", "profile", "mean"]].sum()
    site = rmse(table, "mean") / rmse(table, "naive")
    found = {
        "site RMSE / naive": site,
        "total RMSE / naive": rmse(total, "mean") / rmse(total, "naive"),
        "WQL / climatology": wql(table, "q") / wql(table, "c"),
        "P50 MAE / naive": float(
            (table["q1"] - table["y"]).abs().mean() / (table["naive"] - table["y"]).abs().mean()
        ),
    }
    print(f"{name}: {table['site'].nunique()} sites, {len(table)} hours")
    for i, (what, value) in enumerate(found.items()):
        bar = f"bar {bars[i]:.2f} {'met' if value <= bars[i] else 'MISSED'}" if bars else ""
        print(f"  {what:28} {value:.3f}  {bar}")
    bias = float((table["mean"] - table["y"]).mean() / table["y"].mean())
    above = float((table["y"] > table["q2"]).mean())
    print(f"  {'bias of the mean':28} {bias:+.3f}  bar 0.10 {_met(abs(bias) <= 0.10)}")
    print(f"  {'share above P90':28} {above:.3f}  bar 0.06-0.13 {_met(0.06 <= above <= 0.13)}")
    to_profile = rmse(table, "mean") / rmse(table, "profile")
    print(f"  {'site RMSE / profile':28} {to_profile:.3f}  bar 1.03 {_met(to_profile <= 1.03)}")


def _met(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def measure(one: Set, path: Path, start: date, weeks: int) -> pd.DataFrame:
    """Return every answer of the protocol on one set."""
    until = datetime.combine(start + timedelta(weeks=weeks), datetime.min.time(), zone(one.zone))
    free = holidays(one.country)
    histories = {
        site_id: site_history(site_id, stays, until=until, time_zone=one.zone, holidays=free)
        for site_id, stays in read(path).items()
    }
    # A site enters with the first refit that finds two weeks of its history.
    used, tables = [], []
    for site_id, history in histories.items():
        first = (start - history.hours.first_day).days
        if first >= 14 and np.nansum(history.load_kw[max(first - 56, 0) : first]) >= 5 * 56:
            used.append(site_id)
    for offset in range(0, weeks * 7, REFIT_DAYS):
        at = start + timedelta(offset)
        began = time.process_time()
        model = fitted(histories, at)
        took_s = time.process_time() - began
        print(f"  {one.folder} {at}: {model.rows_} rows, columns and fit {took_s:.1f} s CPU")
        days = min(REFIT_DAYS, weeks * 7 - offset)
        # The last day's noon origin ends beyond the data; its unknown hours are left out.
        days -= 1 if offset + days >= weeks * 7 else 0
        tables += [answers(model, histories[site_id], at, days) for site_id in used]
    return pd.concat(tables)


def main() -> None:
    """Measure every set that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the full data sets")
    parser.add_argument("--weeks", type=int, default=12)
    chosen = parser.parse_args()
    for one in SETS:
        if chosen.data:
            path, start = chosen.data / one.folder / "sessions.csv.gz", one.start
        else:
            path, start = EXTRACT / f"{one.extract}.csv.gz", one.extract_start
        if not path.exists():
            print(f"{one.folder}: no sessions here, left out")
            continue
        table = measure(one, path, start, chosen.weeks)
        report(one.folder, table, one.bars if chosen.data else None)


if __name__ == "__main__":
    main()
