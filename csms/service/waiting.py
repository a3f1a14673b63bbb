"""Commands to stations that are away: they wait with an expiry, and are sent once.

What an operator asked of a station that was not linked goes out when it is back, in the order
asked, unless its time is over or it was taken back. A charging profile never waits: by the time
the station is back the plan behind it is old (architecture.md 4).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from csms.clock import Clock
from csms.core.commands import Outcome, RawCall
from csms.core.errors import Conflict, InvalidInput
from csms.core.masking import holds_secret
from csms.core.messages import CommandAnswered, Noted
from csms.core.model import Event
from csms.service.devices import Devices
from csms.store import commands, journal, stations
from csms.store.commands import CommandRecord
from csms.store.database import Store
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

MAX_WAIT = timedelta(days=30)
MAX_WAITING = 100
"""Commands that may wait for one station."""
_SCHEDULES = frozenset({"SetChargingProfile", "UpdateDynamicSchedule"})
_PROFILE_MEMBERS = frozenset({"chargingProfile", "csChargingProfiles"})


@dataclass(slots=True)
class WaitingRoom:
    """Keeps commands for stations that are away, and sends them when they are back."""

    store: Store
    clock: Clock
    devices: Devices

    async def keep(self, command: RawCall, *, asked_by: str, wait: timedelta) -> CommandRecord:
        """Let `command` wait for its station; return its record.

        Raises InvalidInput for a time that is not above 0 and at most 30 days, or for a charging
        profile; Conflict where too many wait already.
        """
        check_wait(command, wait)
        now = self.clock.now()

        def work(tx: Tx) -> CommandRecord:
            if len(commands.waiting_commands(tx, command.station_id, now=now)) >= MAX_WAITING:
                raise Conflict(f"{MAX_WAITING} commands wait for {command.station_id} already")
            command_id = commands.insert_command(
                tx,
                command.station_id,
                kind=command.action,
                payload=command.payload_json,
                asked_by=asked_by,
                at=now,
                expires_at=now + wait,
            )
            return commands.get_command(tx, command_id)

        return await self.store.write(work)

    async def send(self, station_id: str) -> int:
        """Send what waits for a station that is back, oldest first; return how many went out."""
        now = self.clock.now()
        found = await self.store.read(lambda tx: commands.waiting_commands(tx, station_id, now=now))
        sent = 0
        for record in found:
            if not await self._send(record):
                break
            sent += 1
        return sent

    async def _send(self, record: CommandRecord) -> bool:
        """Send one command; False if the station is away again, so that it waits on."""
        now = self.clock.now()
        command = replace(_call(record), wait_s=self.devices.wait_s)

        def take(tx: Tx) -> bool:
            if not commands.take_waiting(tx, record.command_id, now=now):
                return False
            self.devices.note_asked(tx, command, at=now)
            return True

        if not await self.store.write(take):
            return True
        result = await self.devices.send(command)
        if result.outcome is Outcome.NOT_SENT and result.why_not_sent == "offline":
            await self.store.write(lambda tx: commands.put_back(tx, record.command_id))
            return False
        log.info(
            "waiting command sent",
            station_id=record.station_id,
            action=record.kind,
            outcome=str(result.outcome),
        )
        return True

    async def cancel(self, command_id: int) -> CommandRecord:
        """Take a waiting command back; raise NotFound, or Conflict if it no longer waits."""
        now = self.clock.now()

        def work(tx: Tx) -> CommandRecord:
            done = commands.cancel_waiting(tx, command_id, at=now)
            record = commands.get_command(tx, command_id)
            if not done:
                raise Conflict(f"command {command_id} does not wait: {record.outcome or 'sent'}")
            return record

        return await self.store.write(work)

    async def expire(self) -> None:
        """End the commands whose station did not come back in time, each with an event."""
        now = self.clock.now()

        def work(tx: Tx) -> None:
            for record in commands.expire_waiting(tx, now=now):
                journal.add_event(tx, _expired(tx, record, now))

        await self.store.write(work)

    async def answered(self, report: CommandAnswered) -> Noted:
        """Keep an answer for which whoever asked does not wait any more."""
        at = report.received_at

        def work(tx: Tx) -> None:
            record = commands.get_command(tx, report.command_id)
            self.devices.note_ended(tx, _call(record), report.result, at=at)
            if report.is_late:
                late = replace(report.result, outcome=Outcome.LATE)
                commands.finish_command(tx, report.command_id, late, at=at)

        await self.store.write(work)
        return Noted()


def check_wait(command: RawCall, wait: timedelta) -> None:
    """Raise InvalidInput for a command that may not wait, or not so long."""
    if not timedelta(0) < wait <= MAX_WAIT:
        raise InvalidInput(
            f"expires_s is {wait.total_seconds():g}; it must be above 0 and at most "
            f"{MAX_WAIT.total_seconds():g}"
        )
    payload = command.payload()
    if holds_secret(command.payload_json):
        raise InvalidInput(
            f"{command.action} with a password cannot wait: it would have to be kept in clear"
        )
    if command.action in _SCHEDULES or _PROFILE_MEMBERS & payload.keys():
        raise InvalidInput(
            f"{command.action} with a charging profile cannot wait: it would be sent when its "
            "plan is old"
        )


def _call(record: CommandRecord) -> RawCall:
    return RawCall(
        station_id=record.station_id,
        action=record.kind,
        payload_json=record.payload,
        command_id=record.command_id,
    )


def _expired(tx: Tx, record: CommandRecord, now: datetime) -> Event:
    return Event(
        at=now,
        kind="command expired",
        level="warning",
        site_id=stations.site_id_of_station(tx, record.station_id),
        station_id=record.station_id,
        detail={"command_id": record.command_id, "action": record.kind, "by": record.asked_by},
    )
