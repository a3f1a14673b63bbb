"""What a station sent and was answered, one JSON line each: the evidence of a run.

A transaction message is on disk before its frame leaves. Lines carry `n`, `wall` (Unix time), `at`
(station time), `station`, `version`, `link` (number of the connection) and `dir`: "sent" or "got"
with the `frame`, "up" and "down" for the link, "drop" with the `frame` for a message given up, and
"summary" with a transaction.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from simulators.clock import iso

TRANSACTIONAL = frozenset(
    {"StartTransaction", "StopTransaction", "TransactionEvent", "MeterValues"}
)


class Journal:
    """A station's journal: in a file, or in memory without a path."""

    def __init__(
        self,
        *,
        station_id: str,
        version: str,
        now: Callable[[], datetime],
        path: Path | None = None,
        fsync: bool = True,
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        self._head = {"station": station_id, "version": version}
        self._now = now
        self._fsync = fsync
        self._file: IO[str] | None = None
        self._n = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")

    def _write(self, direction: str, link: int, fields: Mapping[str, Any], *, sync: bool) -> None:
        self._n += 1
        line = {
            "n": self._n,
            "wall": round(time.time(), 6),
            "at": iso(self._now()),
            **self._head,
            "link": link,
            "dir": direction,
            **fields,
        }
        if self._file is None:
            self.lines.append(line)
            return
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()
        if sync and self._fsync:
            os.fsync(self._file.fileno())

    def sent(self, frame: Sequence[Any], *, link: int) -> None:
        """Write down a frame that is about to leave."""
        is_transactional = frame[0] == 2 and frame[2] in TRANSACTIONAL
        self._write("sent", link, {"frame": list(frame)}, sync=is_transactional)

    def got(self, frame: Sequence[Any], *, link: int) -> None:
        """Write down a frame that came."""
        self._write("got", link, {"frame": list(frame)}, sync=False)

    def link(self, direction: str, *, link: int) -> None:
        """Write down that a link came up ("up") or went away ("down")."""
        self._write(direction, link, {}, sync=False)

    def dropped(self, action: str, payload: Mapping[str, Any]) -> None:
        """Write down a message whose attempts are used up."""
        self._write("drop", 0, {"frame": [2, "", action, dict(payload)]}, sync=True)

    def summary(self, transaction: Mapping[str, Any]) -> None:
        """Write down a finished transaction."""
        self._write("summary", 0, {"transaction": dict(transaction)}, sync=False)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
