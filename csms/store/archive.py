"""What was said: every frame of every station, as it went over the wire (K8 of api.md).

Frames are appended to segment files beside the store, by a thread, once a second; a frame that
waits is lost with the process, since none is a record that anybody was promised. Segments are
read newest first and deleted by age and by size. Passwords never reach a file.
"""

import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from csms.core.errors import InvalidInput
from csms.core.masking import masked_text

SEGMENT_BYTES: Final = 16 * 2**20
_FLUSH_S: Final = 1.0
_OF_A_METER: Final = re.compile(
    r'\s*\[\s*2\s*,\s*"[^"\\]*"\s*,\s*"(?:TransactionEvent|MeterValues)"\s*,'
).match
"""Tells a call of a meter by its action. The message id before it is the station's to choose."""
_WAITING_FRAMES: Final = 100_000
"""Frames that may wait for the disk; more are dropped and counted."""
_NAME: Final = "frames-{:020d}.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame: `direction` is "in" from the station or "out" to it."""

    at: datetime
    station_id: str
    direction: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A call with its answer, or a frame that is neither.

    `action` is "" where no call is known; `answer` is None while there is none.
    """

    frame: Frame
    action: str = ""
    message_id: str = ""
    answer: Frame | None = None


class FrameArchive:
    """Appends frames to segments, and finds them again. Any thread may add and read."""

    def __init__(self, folder: Path, *, max_bytes: int, max_age: timedelta) -> None:
        """Open the archive in `folder`; keep at most `max_bytes`, nothing older than `max_age`."""
        self.folder = folder
        self.dropped = 0
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._waiting: deque[tuple[float, str, str, str]] = deque()
        self._writing = threading.Lock()
        self._segment: Path | None = None
        self._segment_bytes = 0
        self._stopped = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="frame archive", daemon=True)
        self._thread.start()

    def add(self, at: float, station_id: str, direction: str, text: str) -> None:
        """Take a frame seen at `at` (seconds since 1970); it is on disk a moment later."""
        if len(self._waiting) < _WAITING_FRAMES:
            self._waiting.append((at, station_id, direction, text))
        else:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits and stop."""
        self._stopped.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._stopped.wait(_FLUSH_S):
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            count = len(self._waiting)
            if not count:
                return
            lines = [_line(*self._waiting.popleft()) for _ in range(count)]
            data = "".join(lines).encode("utf-8", "surrogatepass")
            if self._segment is None or self._segment_bytes + len(data) > SEGMENT_BYTES:
                started_us = int(lines[0].partition("\t")[0])
                self._segment = self.folder / _NAME.format(started_us)
                self._segment_bytes = self._segment.stat().st_size if self._segment.exists() else 0
                self._thin_out(started_us)
            with self._segment.open("ab") as file:
                file.write(data)
            self._segment_bytes += len(data)

    def _thin_out(self, now_us: int) -> None:
        """Delete the oldest segments while there is too much, and those that are too old."""
        segments = self._segments()
        sizes = {s: s.stat().st_size for s in segments}
        total = sum(sizes.values()) + SEGMENT_BYTES
        oldest_us = now_us - int(self._max_age.total_seconds() * 1e6)
        # A segment ends where the next begins.
        for segment, following in pairwise(segments):
            if total <= self._max_bytes and _started_us(following) >= oldest_us:
                break
            total -= sizes[segment]
            segment.unlink()

    def _segments(self) -> list[Path]:
        return sorted(self.folder.glob("frames-*.log"))

    def frames(
        self,
        *,
        station_id: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        oldest_first: bool = False,
    ) -> Iterator[Frame]:
        """Yield frames, newest first unless told otherwise: of a station, in [since, until)."""
        self.flush()
        since_us = 0 if since is None else _us(since)
        until_us = 2**63 if until is None else _us(until)
        segments = self._segments()
        ends = [*(_started_us(s) for s in segments[1:]), 2**63]
        order = 1 if oldest_first else -1
        for segment, ends_us in list(zip(segments, ends, strict=True))[::order]:
            if _started_us(segment) < until_us and ends_us >= since_us:
                for found in _found_in(segment, station_id)[::order]:
                    if since_us <= _us(found.at) < until_us:
                        yield found

    def exchanges(
        self,
        *,
        station_id: str,
        action: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
    ) -> list[Exchange]:
        """Return a station's calls with their answers, newest first, and what is neither.

        With `action` only its calls. An answer belongs to the nearest earlier call of the other
        side with its message id, since stations start their ids over.
        """
        answers: dict[tuple[str, str], Frame] = {}
        found: list[Exchange] = []
        for frame in self.frames(station_id=station_id, since=since, until=until):
            kind, message_id, called = _head(frame.text)
            if kind in (3, 4):
                answers[frame.direction, message_id] = frame
                continue
            other = "out" if frame.direction == "in" else "in"
            answer = answers.pop((other, message_id), None) if kind == 2 else None
            if action and called != action:
                continue
            found.append(Exchange(frame=frame, action=called, message_id=message_id, answer=answer))
            if len(found) == limit:
                break
        return found


def _found_in(segment: Path, station_id: str) -> list[Frame]:
    """Return the frames of a segment in order, of one station if it is named."""
    try:
        data = segment.read_bytes()
    except FileNotFoundError:
        # Thinned out since it was listed.
        return []
    needle = f"\t{_escaped(station_id)}\t".encode() if station_id else b""
    if needle not in data:
        return []
    lines = [line for line in data.split(b"\n") if line and needle in line]
    found = [_frame(line) for line in lines]
    return [f for f in found if not station_id or f.station_id == station_id]


def _may_hold_secret(text: str) -> bool:
    # Nearly every frame is one of a meter, which has no room for a secret.
    if _OF_A_METER(text) is not None:
        return False
    # Spelled out, since a loop over some words costs as much as the search.
    folded = text.lower()
    return (
        "@" in folded
        or "password" in folded
        or "authorizationkey" in folded
        or "simpin" in folded
        or "vpn" in folded
        or "/uploads/" in folded
        or "\\u00" in folded
    )


def _line(at: float, station_id: str, direction: str, text: str) -> str:
    if _may_hold_secret(text):
        text = masked_text(text)
    return f"{int(at * 1e6)}\t{_escaped(station_id)}\t{direction}\t{_escaped(text)}\n"


def _escaped(text: str) -> str:
    if "\n" in text or "\t" in text or "\\" in text:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return text


_ESCAPE: Final = re.compile(r"\\(.)")


def _plain(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), text)


def _frame(line: bytes) -> Frame:
    at, station_id, direction, text = line.decode("utf-8", "surrogatepass").split("\t", 3)
    return Frame(
        at=datetime.fromtimestamp(int(at) / 1e6, UTC),
        station_id=_plain(station_id),
        direction=direction,
        text=_plain(text),
    )


def _head(text: str) -> tuple[int, str, str]:
    """Return kind, message id and action of a frame; 0 and "" for what cannot be read."""
    try:
        parts = json.loads(text)
    except ValueError:
        return 0, "", ""
    if not isinstance(parts, list) or len(parts) < 3 or not isinstance(parts[0], int):
        return 0, "", ""
    action = parts[2] if parts[0] in (2, 6) and isinstance(parts[2], str) else ""
    return parts[0], str(parts[1]), action


def _us(at: datetime) -> int:
    try:
        return int(at.timestamp() * 1e6)
    except (OverflowError, ValueError) as error:
        raise InvalidInput(f"{at} is no time that frames can have") from error


def _started_us(segment: Path) -> int:
    return int(segment.stem.rpartition("-")[2])
