"""Remote starts: on record with the command, tied to the session that answers it."""

from datetime import datetime

from csms.clock import Clock
from csms.core.commands import (
    Command,
    CommandResult,
    Outcome,
    RawCall,
    StartCharging,
    integer,
)
from csms.core.messages import SessionReport, SessionStarted, StatusChanged
from csms.core.model import OcppVersion, Session
from csms.store import remote_starts
from csms.store.database import Store
from csms.store.statements import Tx

_ACTIONS = frozenset({"RemoteStartTransaction", "RequestStartTransaction"})
_UNDECIDED = frozenset({Outcome.NO_ANSWER, Outcome.SENT, Outcome.WAITING})
NO_VEHICLE = "EVConnectTimeout"


class RemoteStarts:
    """Watches commands for starts, typed or raw."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock

    def asked(self, tx: Tx, command: Command, *, at: datetime) -> None:
        """Keep a start that is about to be asked."""
        if isinstance(command, StartCharging):
            remote_starts.add(
                tx,
                command.command_id,
                command.station_id,
                evse_id=command.evse_id,
                id_token=command.id_token.value,
                remote_start_id=command.remote_start_id,
                at=at,
            )
        elif isinstance(command, RawCall) and command.action in _ACTIONS:
            _add_raw(tx, command, at=at)

    def ended(self, tx: Tx, command: Command, result: CommandResult, *, at: datetime) -> None:
        """Keep the answer; a start that was not answered may still happen."""
        is_start = isinstance(command, StartCharging) or (
            isinstance(command, RawCall) and command.action in _ACTIONS
        )
        if is_start and result.outcome not in _UNDECIDED:
            remote_starts.answered(tx, command.command_id, is_accepted=result.is_accepted, at=at)

    async def expire(self) -> None:
        """Give up starts that nothing followed."""
        now = self.clock.now()
        await self.store.write(lambda tx: remote_starts.expire(tx, now=now))


def _add_raw(tx: Tx, command: RawCall, *, at: datetime) -> None:
    payload = command.payload()
    token = payload.get("idTag", payload.get("idToken"))
    value = token.get("idToken") if isinstance(token, dict) else token
    evse_id = integer(payload.get("connectorId", payload.get("evseId", 0)))
    if not isinstance(value, str) or evse_id is None:
        # The schema refuses it before it reaches the wire, or no EVSE has that number.
        return
    remote_starts.add(
        tx,
        command.command_id,
        command.station_id,
        evse_id=evse_id,
        id_token=value,
        remote_start_id=integer(payload.get("remoteStartId")),
        at=at,
    )


def tie(tx: Tx, session: Session, report: SessionReport) -> None:
    """Tie `session` to the start that it answers, as `report` tells."""
    at = report.received_at
    if report.remote_start_id is not None:
        remote_starts.started(tx, session, at=at, remote_start_id=report.remote_start_id)
    elif report.version is OcppVersion.V16 and isinstance(report, SessionStarted):
        command_id = remote_starts.pending(tx, session, now=at)
        if command_id is not None:
            remote_starts.started(tx, session, at=at, command_id=command_id)
    if report.trigger == NO_VEHICLE:
        remote_starts.came_to_nothing(tx, session, at=at)


def freed(tx: Tx, report: StatusChanged, *, was: str) -> None:
    """Give up what was accepted for an EVSE that was being prepared and is free again."""
    if report.status == "Available" and was == "Preparing":
        remote_starts.freed(tx, report.station_id, report.evse_id, at=report.received_at)
