"""One thing asked of many stations: a few at once, a result per station, stopped when it fails.

The order and each station's part are on record, so a restart goes on where it was: what was on its
way without an id of its own is not sent twice, it counts as failed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from csms.clock import Clock
from csms.core.commands import CommandResult, Outcome, RawCall
from csms.core.errors import InvalidInput, TascoError
from csms.core.masking import masked_text
from csms.core.model import LinkState, OcppVersion, Station
from csms.service.background import Background
from csms.service.devices import Devices
from csms.service.firmware import Firmware, FirmwareOrder
from csms.service.locations import masked_location
from csms.service.logs import LogOrder, Logs
from csms.service.waiting import WaitingRoom, check_wait
from csms.store import bulks, requests, stations
from csms.store.bulks import Bulk, BulkItem
from csms.store.database import Store
from csms.store.requests import DeviceRequest
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

MAX_STATIONS = 10_000
_LOOK_AGAIN_S = 30.0
"""A job's news comes by itself; this is for news that another process heard."""
_GOOD = frozenset({Outcome.ACCEPTED, Outcome.SENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class StationFilter:
    """Which stations are meant: those that match every field given; none given means all."""

    site_id: str = ""
    vendor: str = ""
    model: str = ""
    firmware_version: str = ""
    version: str = ""
    is_online: bool | None = None

    def takes(self, station: Station) -> bool:
        """Return whether `station` is meant."""
        words = ("site_id", "vendor", "model", "firmware_version")
        return (
            all(getattr(self, w) in ("", getattr(station, w)) for w in words)
            and self.version in ("", station.version)
            and self.is_online in (None, station.link_state is LinkState.ONLINE)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many stations at once, and after how many failures no further one (0: never)."""

    at_once: int = 10
    stop_after_failures: int = 0


class BulkRunner:
    """Works orders off in the background."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        devices: Devices,
        firmware: Firmware,
        logs: Logs,
        waiting: WaitingRoom,
        background: Background,
    ) -> None:
        self.store = store
        self.clock = clock
        self.devices = devices
        self.firmware = firmware
        self.logs = logs
        self.waiting = waiting
        self.background = background
        self._watched: dict[int, asyncio.Event] = {}

    async def chosen(
        self, station_ids: Sequence[str] | None, wanted: StationFilter | None
    ) -> list[str]:
        """Return the stations meant, by id; raise UnknownStation, or InvalidInput for none."""

        def work(tx: Tx) -> list[str]:
            if station_ids is not None:
                named = [stations.get_station(tx, i).station_id for i in station_ids]
                return list(dict.fromkeys(named))
            known = stations.list_stations(tx)
            return [s.station_id for s in known if (wanted or StationFilter()).takes(s)]

        found = await self.store.read(work)
        if not found:
            raise InvalidInput("no station is meant; name stations, or a filter that some match")
        if len(found) > MAX_STATIONS:
            raise InvalidInput(f"{len(found)} stations are meant; at most {MAX_STATIONS} at once")
        return found

    async def command(
        self,
        station_ids: Sequence[str],
        *,
        action: str,
        payload: str,
        wait_s: float,
        version: OcppVersion | None,
        pace: Pace,
        by: str,
        expires_s: float | None = None,
    ) -> int:
        """Send one raw command to many stations; return the order's id.

        With `expires_s` it waits that long for each station that is away. Raises InvalidInput for
        a command that may not wait.
        """
        options: dict[str, object] = {"wait_s": wait_s, "version": version}
        if expires_s is not None:
            call = RawCall(station_id="", action=action, payload_json=payload)
            check_wait(call, timedelta(seconds=expires_s))
            options["expires_s"] = expires_s
        return await self._begin("command", station_ids, pace, options, by, action, payload)

    async def update_firmware(
        self, station_ids: Sequence[str], order: FirmwareOrder, *, pace: Pace, by: str
    ) -> int:
        """Update the firmware of many stations; raise InvalidInput for a URL not allowed."""
        await self.firmware.check(order)
        return await self._begin("firmware", station_ids, pace, _plain(asdict(order)), by)

    async def collect_logs(
        self, station_ids: Sequence[str], order: LogOrder, *, pace: Pace, by: str
    ) -> int:
        """Collect a log of many stations."""
        if order.location:
            await self.logs.policy.check(order.location)
        return await self._begin("log", station_ids, pace, _plain(asdict(order)), by)

    async def _begin(
        self,
        kind: str,
        station_ids: Sequence[str],
        pace: Pace,
        options: dict[str, object],
        by: str,
        action: str = "",
        payload: str = "",
    ) -> int:
        now = self.clock.now()
        bulk_id = await self.store.write(
            lambda tx: bulks.add_bulk(
                tx,
                kind=kind,
                action=action,
                payload=payload,
                options=options,
                at_once=pace.at_once,
                stop_after_failures=pace.stop_after_failures,
                station_ids=station_ids,
                by=by,
                at=now,
            )
        )
        self._start(bulk_id)
        return bulk_id

    async def resume(self) -> None:
        """Go on with what was under way when the process ended."""
        for bulk_id in await self.store.read(bulks.running_bulks):
            self._start(bulk_id)

    async def cancel(self, bulk_id: int) -> None:
        """Begin with no further station; what is under way ends by itself."""
        now = self.clock.now()

        def work(tx: Tx) -> None:
            bulk = bulks.get_bulk(tx, bulk_id)
            if bulk.state == "running":
                bulks.skip_waiting(tx, bulk_id, at=now, why="cancelled")
                _finish(tx, bulk, "cancelled", at=now)

        await self.store.write(work)

    def job_moved(self, request_key: int) -> None:
        """Look at a job again: its station reported something."""
        event = self._watched.get(request_key)
        if event is not None:
            event.set()

    # --- the work --------------------------------------------------------------------------------

    def _start(self, bulk_id: int) -> None:
        self.background.start(f"bulk {bulk_id}", lambda: self._work(bulk_id))

    async def _work(self, bulk_id: int) -> None:
        bulk = await self.store.read(lambda tx: bulks.get_bulk(tx, bulk_id))
        items = await self.store.read(lambda tx: bulks.list_items(tx, bulk_id))
        left = [item for item in items if item.state in ("waiting", "running")]
        queue = iter(left)

        async def worker() -> None:
            for item in queue:
                if await self._may_go_on(bulk_id, item):
                    await self._one(bulk, item)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(bulk.at_once, len(left))):
                group.create_task(worker())
        now = self.clock.now()

        def end(tx: Tx) -> None:
            latest = bulks.get_bulk(tx, bulk_id)
            if latest.state == "running":
                _finish(tx, latest, "done", at=now)

        await self.store.write(end)

    async def _may_go_on(self, bulk_id: int, item: BulkItem) -> bool:
        """Return whether a station's turn still counts; stop the order where too many failed."""
        now = self.clock.now()

        def work(tx: Tx) -> bool:
            bulk = bulks.get_bulk(tx, bulk_id)
            failed = bulks.counts(tx, bulk_id).get("failed", 0)
            if bulk.state == "running" and 0 < bulk.stop_after_failures <= failed:
                why = f"{failed} stations failed"
                bulks.skip_waiting(tx, bulk_id, at=now, why=why)
                _finish(tx, bulk, "stopped", at=now)
                bulk = replace(bulk, state="stopped")
            if item.state == "running":
                return True
            if bulk.state != "running":
                return False
            bulks.change_item(tx, bulk_id, item.station_id, state="running", started_at=now)
            return True

        return await self.store.write(work)

    async def _one(self, bulk: Bulk, item: BulkItem) -> None:
        """Do one station's part; whatever goes wrong is its outcome."""
        try:
            values = await self._outcome(bulk, item)
        except TascoError as error:
            values = {"state": "failed", "outcome": "not_sent", "error": str(error)}
        now = self.clock.now()
        await self.store.write(
            lambda tx: bulks.change_item(
                tx, bulk.bulk_id, item.station_id, finished_at=now, **values
            )
        )

    async def _outcome(self, bulk: Bulk, item: BulkItem) -> dict[str, Any]:
        if item.state == "running":
            # From before a restart: a job is still watched, a command's answer is lost.
            if item.request_key is None:
                return {"state": "failed", "error": "the central system restarted meanwhile"}
            return await self._watch(item.request_key)
        if bulk.kind == "command":
            return await self._command(bulk, item)
        ask = self._job(bulk, item)
        request, result = await ask()
        await self.store.write(
            lambda tx: bulks.change_item(
                tx,
                bulk.bulk_id,
                item.station_id,
                request_key=request.request_key,
                command_id=request.command_id,
                outcome=str(result.outcome),
                status=result.status,
            )
        )
        if result.outcome not in _GOOD:
            return _failed(result)
        return await self._watch(request.request_key)

    async def _command(self, bulk: Bulk, item: BulkItem) -> dict[str, Any]:
        version = bulk.options.get("version")
        wait_s = bulk.options.get("wait_s", 30.0)
        call = RawCall(
            station_id=item.station_id,
            action=bulk.action,
            payload_json=bulk.payload,
            version=None if version is None else OcppVersion(str(version)),
            wait_s=float(str(wait_s)),
        )
        if "expires_s" in bulk.options and await self._is_away(item.station_id):
            wait = timedelta(seconds=float(str(bulk.options["expires_s"])))
            record = await self.waiting.keep(call, asked_by=bulk.asked_by, wait=wait)
            # Its turn is over: what becomes of it is the command's own story.
            return {
                "state": "done",
                "outcome": str(Outcome.WAITING),
                "command_id": record.command_id,
            }
        command_id, result = await self.devices.run(call, asked_by=bulk.asked_by)
        found = {"command_id": command_id, "outcome": str(result.outcome), "status": result.status}
        if result.outcome in _GOOD:
            return {**found, "state": "done"}
        return {**found, **_failed(result)}

    async def _is_away(self, station_id: str) -> bool:
        station = await self.store.read(lambda tx: stations.get_station(tx, station_id))
        return station.link_state is not LinkState.ONLINE

    def _job(
        self, bulk: Bulk, item: BulkItem
    ) -> Callable[[], Awaitable[tuple[DeviceRequest, CommandResult]]]:
        options = _instants(bulk.options)
        by, key = bulk.asked_by, bulk.bulk_id
        if bulk.kind == "firmware":
            order = FirmwareOrder(**options)
            return lambda: self.firmware.update(item.station_id, order, by=by, bulk_id=key)
        wanted = LogOrder(**options)
        return lambda: self.logs.collect(item.station_id, wanted, by=by, bulk_id=key)

    async def _watch(self, request_key: int) -> dict[str, Any]:
        """Wait until a job has ended, and return how."""
        event = self._watched[request_key] = asyncio.Event()
        try:
            while True:
                event.clear()
                request = await self.store.read(lambda tx: requests.get_request(tx, request_key))
                if request.state not in requests.OPEN:
                    state = "done" if request.state == "done" else "failed"
                    return {"state": state, "status": request.status}
                try:
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await event.wait()
                except TimeoutError:
                    continue
        finally:
            del self._watched[request_key]


def _finish(tx: Tx, bulk: Bulk, state: str, *, at: datetime) -> None:
    """End an order; a login in its URL and a password in its call are not kept any longer."""
    options = dict(bulk.options)
    if isinstance(options.get("location"), str):
        options["location"] = masked_location(str(options["location"]))
    bulks.finish_bulk(
        tx, bulk.bulk_id, state, options=options, payload=masked_text(bulk.payload), at=at
    )


def _failed(result: CommandResult) -> dict[str, Any]:
    error = result.error_code or result.why_not_sent or result.error_description
    return {"state": "failed", "status": result.status, "error": error}


_INSTANTS = ("retrieve_at", "install_at", "oldest_at", "latest_at")


def _plain(options: dict[str, Any]) -> dict[str, object]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in options.items()
    }


def _instants(options: Any) -> dict[str, Any]:
    return {
        name: datetime.fromisoformat(value) if name in _INSTANTS and value else value
        for name, value in options.items()
    }
