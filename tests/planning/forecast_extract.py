"""The real sessions of tests/data/forecast as stays."""

import csv
import gzip
import io
from datetime import UTC, date, datetime
from pathlib import Path

from csms.planning.forecast_series import Stay

FOLDER = Path(__file__).parent.parent / "data" / "forecast"

NORWAY_FREE = (
    date(2019, 4, 18), date(2019, 4, 19), date(2019, 4, 22), date(2019, 5, 1), date(2019, 5, 17),
    date(2019, 5, 30), date(2019, 6, 10), date(2019, 12, 24), date(2019, 12, 25),
    date(2019, 12, 26), date(2020, 1, 1),
)  # fmt: skip


def sessions(name: str) -> dict[str, list[Stay]]:
    """Return the stays of each site in `name`.csv.gz."""
    text = gzip.decompress((FOLDER / f"{name}.csv.gz").read_bytes()).decode()
    stays: dict[str, list[Stay]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        stays.setdefault(row["site_id"], []).append(
            Stay(
                site_id=row["site_id"],
                started_at=datetime.fromisoformat(row["start_utc"]).astimezone(UTC),
                ended_at=datetime.fromisoformat(row["end_utc"]).astimezone(UTC),
                energy_kwh=float(row["energy_kwh"]),
                max_kw=float(row["power_kw"]),
            )
        )
    return stays
