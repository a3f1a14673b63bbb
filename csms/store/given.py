"""What stations should hold: the guards they accepted last, by the commands on record."""

import json
from dataclasses import dataclass
from datetime import datetime

from csms.core.commands import Outcome, Schedule
from csms.store import commands
from csms.store.columns import us_from
from csms.store.reported import schedule_from
from csms.store.statements import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenGuard:
    """A guard that a station accepted."""

    evse_id: int
    schedule: Schedule
    taken_at: datetime


def guards_given(tx: Tx, station_id: str, *, evses: int) -> list[GivenGuard]:
    """Return the guard that a station accepted last for each of its EVSEs, 0 the station itself.

    One that was asked for since and not accepted leaves open what holds: it is left out.
    """
    page = commands.list_commands(tx, station_id=station_id, kind="SetGuard", limit=4 * (evses + 1))
    found: dict[int, GivenGuard | None] = {}
    for record in page.items:
        payload = json.loads(record.payload)
        evse_id = int(payload["evse_id"])
        if evse_id in found:
            continue
        found[evse_id] = None
        if record.outcome is Outcome.ACCEPTED:
            told = payload["schedule"]
            starts_at = us_from(datetime.fromisoformat(told["starts_at"]))
            schedule = schedule_from({**told, "starts_at": starts_at})
            taken_at = record.finished_at or record.asked_at
            found[evse_id] = GivenGuard(evse_id=evse_id, schedule=schedule, taken_at=taken_at)
    return [guard for guard in found.values() if guard is not None]
