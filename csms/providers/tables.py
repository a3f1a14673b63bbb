"""Recorded values from CSV, plain or gzipped: the start of the interval, then one column each.

Stamps are UTC, with or without a mark. The file is read once, in a thread.
"""

import asyncio
import csv
import gzip
import io
from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Final

from csms.core.errors import ConfigError, ProviderError
from csms.providers.options import Recording
from csms.providers.slots import Reader, Slot, holding

DATASETS: Final[Mapping[str, str]] = {
    "dk1_prices_2024": "energinet/dayahead_eur_mwh_hourly_2024_dk1.csv.gz",
    "dk1_co2_2024": "energinet/co2_g_kwh_hourly_2024_dk1.csv.gz",
}
WEEK: Final = timedelta(weeks=1)
YEAR: Final = 52 * WEEK
MAX_BYTES: Final = 50_000_000


class Table:
    """One column of a recording as slots, in the file's own unit."""

    def __init__(self, recording: Recording, *, provider: str) -> None:
        """Raise ConfigError if the file or the data set does not exist."""
        self._recording = recording
        self._read = Reader(provider)
        self._slots: list[Slot] | None = None
        if recording.dataset is not None and recording.dataset not in DATASETS:
            raise ConfigError(
                f"{provider}: dataset is {recording.dataset!r}; permitted: {', '.join(DATASETS)}"
            )
        if recording.path is not None and not recording.path.is_file():
            raise ConfigError(f"{provider}: path is {recording.path}; it must be a readable file")

    async def slots(self, start: datetime, until: datetime) -> list[Slot]:
        """Return the values that hold in [start, until), whole.

        Raises ProviderError for an unreadable file.
        """
        if self._slots is None:
            self._slots = await asyncio.to_thread(self._load)
        recorded = self._slots
        if not recorded:
            return []
        first, end = recorded[0].starts_at, recorded[-1].until
        assert end is not None
        found = _shifted(recorded, self._recording.shift(), start, until)
        if not self._recording.replay or (first <= start and until <= end):
            return found
        period = min((end - first) // WEEK * WEEK, YEAR)
        if period < WEEK:
            raise ProviderError(f"{self._read.provider}: a replay needs a recording of a week")
        cycle = [slot for slot in recorded if slot.starts_at < first + period]
        before = _repeated(cycle, period, start, min(until, first))
        return before + found + _repeated(cycle, period, max(start, end), until)

    def _load(self) -> list[Slot]:
        rows = csv.reader(io.StringIO(self._text()))
        header = next(rows, [])
        wanted = self._recording.column or (header[1] if len(header) > 1 else "")
        if wanted not in header[1:]:
            raise self._read.error("column", wanted, f"one of {', '.join(header[1:])}")
        column = header.index(wanted)
        points = []
        for row in rows:
            where = f"line {rows.line_num}"
            if len(row) != len(header):
                raise self._read.error(where, f"{len(row)} values", f"{len(header)} values")
            if row[column] == "":
                continue
            at = self._read.instant(row[0], f"{where}, {header[0]}", is_utc=True)
            value = self._read.number(row[column], f"{where}, {wanted}", is_text=True)
            points.append((at, value))
        slots = self._read.with_ends(points, usual=timedelta(hours=1), where=header[0])
        slots.sort(key=lambda slot: slot.starts_at)
        for earlier, later in pairwise(slots):
            if later.starts_at == earlier.starts_at:
                raise self._read.error(header[0], later.starts_at.isoformat(), "there only once")
        return slots

    def _text(self) -> str:
        recording = self._recording
        try:
            if recording.dataset is not None:
                home = resources.files("csms.providers") / "data"
                data, name = (home / DATASETS[recording.dataset]).read_bytes(), ".gz"
            else:
                path = recording.path or Path()
                data, name = path.read_bytes(), path.name
            if name.endswith(".gz"):
                with gzip.open(io.BytesIO(data)) as unpacked:
                    data = unpacked.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise self._read.error("the file", f"over {MAX_BYTES} bytes", "smaller")
            return data.decode("utf-8-sig")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ProviderError(f"{self._read.provider}: cannot be read: {error}") from error


def _repeated(cycle: list[Slot], period: timedelta, start: datetime, until: datetime) -> list[Slot]:
    found: list[Slot] = []
    turn = (start - cycle[0].starts_at) // period
    while start < until and cycle[0].starts_at + turn * period < until:
        found += _shifted(cycle, turn * period, start, until)
        turn += 1
    return found


def _shifted(slots: list[Slot], shift: timedelta, start: datetime, until: datetime) -> list[Slot]:
    return [
        Slot(
            starts_at=slot.starts_at + shift,
            until=None if slot.until is None else slot.until + shift,
            value=slot.value,
        )
        for slot in holding(slots, start - shift, until - shift)
    ]
