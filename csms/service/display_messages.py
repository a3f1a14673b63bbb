"""Messages on the displays of stations, whoever set them: installed, replaced, cleared, reported.

SetDisplayMessage and ClearDisplayMessage are watched, raw ones as well; NotifyDisplayMessages of a
request without filters replaces what was known (OCPP 2.0.1 block O).
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from csms.core.commands import Command, CommandResult, RawCall
from csms.core.messages import RecordReceived
from csms.store import display_messages
from csms.store.display_messages import DisplayMessage
from csms.store.statements import Tx

_FILTERS = ("id", "priority", "state")


@dataclass(slots=True)
class DisplayMessages:
    """Keeps what stations show."""

    _whole: dict[tuple[str, int], bool] = field(default_factory=dict)
    """Requests without filters under way, and whether their first part has come."""

    def asked(self, tx: Tx, command: Command, *, at: datetime) -> None:
        """Remember a request for all messages: its report replaces what is known."""
        if isinstance(command, RawCall) and command.action == "GetDisplayMessages":
            payload = command.payload()
            if not any(name in payload for name in _FILTERS) and "requestId" in payload:
                self._whole[command.station_id, payload["requestId"]] = False

    def ended(self, tx: Tx, command: Command, result: CommandResult, *, at: datetime) -> None:
        """Keep what the station made of a message."""
        if not isinstance(command, RawCall):
            return
        payload = command.payload()
        if command.action == "SetDisplayMessage" and result.is_accepted:
            _keep(tx, command.station_id, payload["message"], at)
        elif command.action == "ClearDisplayMessage" and result.status in ("Accepted", "Unknown"):
            display_messages.remove(tx, command.station_id, payload["id"])
        elif command.action == "GetDisplayMessages" and result.status == "Unknown":
            if self._whole.pop((command.station_id, payload["requestId"]), None) is not None:
                display_messages.remove_all(tx, command.station_id)

    def reported(self, tx: Tx, report: RecordReceived) -> None:
        """Keep a part of NotifyDisplayMessages."""
        payload = json.loads(report.payload)
        key = report.station_id, payload["requestId"]
        if self._whole.get(key) is False:
            display_messages.remove_all(tx, report.station_id)
            self._whole[key] = True
        for message in payload.get("messageInfo", ()):
            _keep(tx, report.station_id, message, report.received_at)
        if not payload.get("tbc", False):
            self._whole.pop(key, None)


def _keep(tx: Tx, station_id: str, message: dict[str, Any], at: datetime) -> None:
    display_messages.keep(
        tx,
        DisplayMessage(
            station_id=station_id,
            message_id=message["id"],
            transaction_id=message.get("transactionId", ""),
            payload=json.dumps(message, separators=(",", ":")),
            set_at=at,
        ),
    )
