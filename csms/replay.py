"""Recorded station frames through the real gateway into a scratch store: what would we answer?"""

import asyncio
import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.client import connect

from csms.app import running
from csms.clock import Clock
from csms.core.errors import InvalidInput
from csms.core.model import Evse, OcppVersion
from csms.service.enrolment import StationRegistration
from csms.settings import (
    ApiSettings,
    ForecastSettings,
    GatewaySettings,
    PlannerSettings,
    Settings,
    StoreSettings,
)
from csms.store import journal, sessions

_ANSWER_S = 20.0
_SUBPROTOCOLS = {version.value: f"ocpp{version.value}" for version in OcppVersion}


class RecordedClock(Clock):
    """The time of the frame that is being replayed, so that no station's clock looks wrong."""

    def turn_to(self, at: datetime) -> None:
        """Show `at` from now on."""
        self._start_s += (at - self.now()).total_seconds()


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A frame and when it was said, None if nothing tells."""

    text: str
    at: datetime | None


async def replay(frames: Sequence[dict[str, Any]]) -> dict[str, object]:
    """Send each station's frames over one link, in order, waiting for each answer.

    The stations are made up as registered, nothing is sent to them unasked, and every token is
    unknown: what is shown is how the messages are understood, not who may charge.
    """
    by_station: dict[tuple[str, str], list[_Recorded]] = {}
    for item in frames:
        station_id = str(item.get("station_id") or item.get("station") or "replayed")
        version = str(item.get("version", "1.6"))
        if version not in _SUBPROTOCOLS:
            raise InvalidInput(
                f"version is {version!r}; permitted: {', '.join(sorted(_SUBPROTOCOLS))}"
            )
        frame = item["frame"]
        text = frame if isinstance(frame, str) else orjson.dumps(frame).decode()
        by_station.setdefault((station_id, version), []).append(
            _Recorded(text, _said_at(item, text))
        )
    with tempfile.TemporaryDirectory(prefix="tasco-replay-") as folder:
        return await _replay(by_station, Path(folder))


_TIMESTAMP = re.compile(r'"timestamp"\s*:\s*"([^"]+)"')


def _said_at(item: dict[str, Any], text: str) -> datetime | None:
    """Return when a frame was said: as the archive noted, else by the first time in it."""
    told = _TIMESTAMP.search(text)
    for candidate in (item.get("at"), told and told[1]):
        with contextlib.suppress(ValueError):
            at = datetime.fromisoformat(str(candidate))
            return at if at.tzinfo else at.replace(tzinfo=UTC)
    return None


async def _replay(
    by_station: dict[tuple[str, str], list[_Recorded]], folder: Path
) -> dict[str, object]:
    settings = Settings(
        store=StoreSettings(url=f"sqlite:///{folder / 'scratch.sqlite3'}"),
        gateway=GatewaySettings(port=0),
        api=ApiSettings(port=0),
        planner=PlannerSettings(automation=False),
        forecast=ForecastSettings(enabled=False),
    )
    answers: Counter[str] = Counter()
    exchanged: list[dict[str, object]] = []
    times = [f.at for found in by_station.values() for f in found if f.at is not None]
    clock = RecordedClock(start=min(times, default=None))
    async with running(settings, clock=clock) as system:
        for (station_id, version), recorded in by_station.items():
            await system.enrolment.register_station(
                StationRegistration(
                    station_id=station_id,
                    site_id="main",
                    security_profile=0,
                    evses=(Evse(station_id=station_id, evse_id=1, max_kw=22.0),),
                ),
                by="replay",
            )
            url = f"ws://127.0.0.1:{system.gateway.port}/ocpp/{station_id}"
            async with connect(url, subprotocols=[_SUBPROTOCOLS[version]]) as link:  # type: ignore[list-item]
                for frame in recorded:
                    text = frame.text
                    if frame.at is not None:
                        clock.turn_to(frame.at)
                    await link.send(text)
                    answer = await _answer(link)
                    answers[_kind(answer)] += 1
                    exchanged.append({"station_id": station_id, "in": text, "out": answer})
        page = await system.store.read(lambda tx: sessions.list_sessions(tx, limit=200))
        events = await system.store.read(lambda tx: journal.list_events(tx, limit=200))
    return {
        "stations": len(by_station),
        "frames": sum(answers.values()),
        "answers": dict(answers),
        "sessions": [
            {
                "station_id": s.station_id,
                "transaction_id": s.transaction_id,
                "state": str(s.state),
                "energy_kwh": round(s.energy_kwh, 4),
                "flags": list(s.flags),
            }
            for s in page.items
        ],
        "events": [e.event.kind for e in events.items],
        "exchanged": exchanged,
    }


async def _answer(link: Any) -> str | None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ANSWER_S):
            return str(await link.recv())
    return None


def _kind(answer: str | None) -> str:
    if answer is None:
        return "none"
    message = orjson.loads(answer)
    return "result" if message[0] == 3 else str(message[2])
