"""Golden frames: the core journey of both versions, byte for byte on the wire.

A file holds one frame a line: ">" from the station, "<" to it, "!" a command given through the bus
by its name below. Message ids of our own calls are random and stand as ID.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from csms.core.commands import (
    ClearSchedule,
    Command,
    CommandResult,
    Configure,
    ReadLimits,
    Reset,
    Schedule,
    SchedulePeriod,
    SetGuard,
    SetSchedule,
    StartCharging,
    StopCharging,
    Trigger,
    Unlock,
)
from csms.core.model import IdToken
from tests.gateway.centre import NOW
from tests.gateway.conftest import World

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = sorted(GOLDEN.glob("ocpp*/*.frames"))
LINES = {path: path.read_text(encoding="utf-8").splitlines() for path in FILES}

_SCHEDULE = Schedule(
    profile_id=1001,
    stack_level=2,
    unit="A",
    starts_at=NOW.replace(microsecond=999_999),
    duration_s=7200,
    periods=(
        SchedulePeriod(start_s=0, limit=16.1, phases=3),
        SchedulePeriod(start_s=900, limit=16.1000000001),
        SchedulePeriod(start_s=1800, limit=6.0),
        SchedulePeriod(start_s=2700, limit=0.0),
    ),
    min_rate=6.0,
)
_ME = {"station_id": "CS 1"}


def commands(transaction_id: str) -> dict[str, Command]:
    """Return the commands a file may name."""
    is_16 = transaction_id.isdigit()
    key = "HeartbeatInterval" if is_16 else "OCPPCommCtrlr.MessageTimeout[Default]"
    token = IdToken(value="TASCO0123456789ABCDE")
    return {
        "set_schedule": SetSchedule(
            **_ME, evse_id=1, transaction_id=transaction_id, schedule=_SCHEDULE
        ),
        "clear_schedule": ClearSchedule(**_ME, profile_id=1001),
        "set_guard_station": SetGuard(**_ME, evse_id=0, schedule=_SCHEDULE),
        "set_guard_evse": SetGuard(**_ME, evse_id=1, schedule=_SCHEDULE),
        "start_charging": StartCharging(
            **_ME, evse_id=1, id_token=token, remote_start_id=5, schedule=_SCHEDULE
        ),
        "stop_charging": StopCharging(**_ME, transaction_id=transaction_id),
        "read_limits": ReadLimits(**_ME),
        "configure": Configure(**_ME, values=((key, "60"),)),
        "reset_hard": Reset(**_ME, is_hard=True),
        "reset_soft": Reset(**_ME),
        "trigger": Trigger(**_ME, message="StatusNotification", evse_id=1),
        "unlock": Unlock(**_ME, evse_id=1),
    }


def plain(text: str) -> str:
    """Return a frame of ours with its random id and its clock taken out."""
    text = re.sub(r'^\[2,"[0-9a-f]{8}-\d+"', '[2,"ID"', text)
    return re.sub(r'"currentTime":"2026-03-02T12:0\d:\d\d\.\d{3}Z"', '"currentTime":"NOW"', text)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
async def test_the_journey_is_on_the_wire_as_recorded(world: World, path: Path) -> None:
    is_16 = path.parent.name == "ocpp16"
    subprotocol = "ocpp1.6" if is_16 else "ocpp2.0.1"
    known = commands("101" if is_16 else "tx-7d6f")
    async with world.station(subprotocol) as station:
        given: Any = None
        our_id = ""
        for line in LINES[path]:
            mark, _, frame = line.partition(" ")
            if mark == "!":
                given = world.command(known[frame.strip()])
            elif mark == "<":
                text = await station.socket.recv()
                assert isinstance(text, str)
                assert plain(text) == frame
                our_id = str(json.loads(text)[1])
            elif mark == ">":
                await station.socket.send(frame.replace('"ID"', f'"{our_id}"'))
            elif mark == "=":
                result: CommandResult = await given
                assert f"{result.outcome.value} {result.status}".strip() == frame


def test_both_versions_have_their_journey() -> None:
    assert {path.parent.name for path in FILES} == {"ocpp16", "ocpp201"}
