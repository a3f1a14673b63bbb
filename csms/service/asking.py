"""Asks a station for something that comes later, under a request id that is on record first."""

from collections.abc import Callable, Mapping
from datetime import datetime

from csms.clock import Clock
from csms.core.commands import Command, CommandResult, Outcome, RawCall
from csms.core.device import Kind
from csms.service import requests
from csms.service.device_desk import keep_fact
from csms.service.devices import Devices
from csms.store import commands, stations
from csms.store import requests as kept
from csms.store.database import Store
from csms.store.requests import DeviceRequest
from csms.store.statements import Tx


class Asking:
    """Makes requests with an id, and keeps what any command, typed or raw, told of a device."""

    def __init__(self, *, store: Store, devices: Devices, clock: Clock) -> None:
        self.store = store
        self.devices = devices
        self.clock = clock

    async def ask(
        self,
        station_id: str,
        kind: Kind,
        build: Callable[[int], Command],
        *,
        detail: Mapping[str, object],
        by: str,
        bulk_id: int | None = None,
    ) -> tuple[DeviceRequest, CommandResult]:
        """Put a request on record, send what `build` makes of its id, and return both.

        The record comes first: parts of the answer may arrive before the answer itself.
        """
        now = self.clock.now()
        made = await self.store.write(
            lambda tx: kept.add_request(
                tx, station_id, kind, detail=detail, by=by, at=now, bulk_id=bulk_id
            )
        )
        return await self.send(made, build, by=by)

    async def send(
        self, made: DeviceRequest, build: Callable[[int], Command], *, by: str
    ) -> tuple[DeviceRequest, CommandResult]:
        """Send a request that is on record."""
        _, result = await self.devices.run(build(made.request_key), asked_by=by)
        request = await self.store.read(lambda tx: kept.get_request(tx, made.request_key))
        return request, result

    # --- as a watcher of commands ----------------------------------------------------------------

    def asked(self, tx: Tx, command: Command, *, at: datetime) -> None:
        """Note the request that a raw call makes."""
        if isinstance(command, RawCall):
            requests.expect(tx, command, by="raw command", at=at)

    def ended(self, tx: Tx, command: Command, result: CommandResult, *, at: datetime) -> None:
        """Keep what call and answer said together, and how a request was taken."""
        if result.outcome is Outcome.SENT:
            return
        if result.facts and stations.find_station(tx, command.station_id) is not None:
            # One that was removed while it answered has no place to keep its facts in.
            by = commands.get_command(tx, command.command_id).asked_by
            for fact in result.facts:
                keep_fact(tx, command.station_id, fact, by=by, at=at)
        request_key = requests.key_of(tx, command)
        if request_key is not None:
            requests.answered(tx, request_key, result, command_id=command.command_id, at=at)
