"""One thing asked of many stations, with a result per station (K7)."""

import json
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, TypeAdapter, ValidationError

from csms.api.auth import GuardedRoute
from csms.api.parts import Cursor, Limit, Operator, P, Viewer
from csms.api.payload import members
from csms.api.routes_device_jobs import FirmwareBody, LogBody
from csms.api.routes_stations import body_text, call_from, expires_in
from csms.api.views import Body, Id, Name, listed, plain
from csms.core.commands import Outcome
from csms.core.errors import InvalidInput
from csms.core.model import OcppVersion
from csms.service.bulk import Pace, StationFilter
from csms.service.locations import masked_location
from csms.store import bulks, commands
from csms.store.bulks import Bulk, BulkItem
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["bulk"])

_OWN = ("stations", "filter", "at_once", "stop_after_failures")
_COMMAND = ("action", "payload", "version", "wait_s", "expires_s")


class FilterBody(Body):
    """Which stations are meant: those that match every field given; none given means all."""

    site_id: Name = ""
    vendor: Name = ""
    model: Name = ""
    firmware_version: Name = ""
    version: OcppVersion | None = None
    is_online: bool | None = None

    def wanted(self) -> StationFilter:
        """Return the filter as the service takes it."""
        given = self.model_dump(exclude={"version"})
        return StationFilter(**given, version=str(self.version or ""))


class Order(Body):
    """Which stations, how many at once, and when to stop; `stations` or `filter`, not both."""

    stations: Annotated[tuple[Id, ...], Field(min_length=1, max_length=10_000)] | None = None
    filter: FilterBody | None = None
    at_once: Annotated[int, Field(ge=1, le=500)] = 10
    stop_after_failures: Annotated[int, Field(ge=0, le=10_000)] = 0

    def pace(self) -> Pace:
        """Return how fast the order may go."""
        return Pace(at_once=self.at_once, stop_after_failures=self.stop_after_failures)


class FirmwareOrderBody(Order):
    """A firmware campaign."""

    firmware: FirmwareBody


class LogOrderBody(Order):
    """A log of each of many stations."""

    log: LogBody


async def _chosen(parts: P, order: Order) -> list[str]:
    if (order.stations is None) is (order.filter is None):
        raise InvalidInput('give either stations or filter; {"filter": {}} means every station')
    wanted = None if order.filter is None else order.filter.wanted()
    return await parts.care.bulk.chosen(order.stations, wanted)


@router.post("/commands", status_code=202)
async def command_many(request: Request, caller: Operator, parts: P) -> object:
    """Send one raw command to many stations; the campaign it makes tells each one's outcome.

    The body is that of a station's command with `stations` (ids) or `filter`, `at_once` and
    `stop_after_failures`. With `expires_s` it waits that long for each station that is away.
    """
    body = members(await body_text(request))
    unknown = [name for name in body if name not in (*_OWN, *_COMMAND)]
    if unknown:
        permitted = ", ".join((*_OWN, *_COMMAND))
        raise InvalidInput(f"{unknown[0]} is not known; permitted: {permitted}")
    try:
        order = TypeAdapter(Order).validate_python(
            {name: json.loads(body[name]) for name in _OWN if name in body}
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{where}: {first['msg']}") from error
    call = call_from("", body)
    bulk_id = await parts.care.bulk.command(
        await _chosen(parts, order),
        action=call.action,
        payload=call.payload_json,
        wait_s=call.wait_s,
        version=call.version,
        expires_s=expires_in(body),
        pace=order.pace(),
        by=caller.name,
    )
    return await parts.store.read(lambda tx: _campaign(tx, bulks.get_bulk(tx, bulk_id)))


@router.post("/campaigns/firmware", status_code=202)
async def update_many(body: FirmwareOrderBody, caller: Operator, parts: P) -> object:
    """Update the firmware of many stations, a few at once; the campaign tells how far it is."""
    bulk_id = await parts.care.bulk.update_firmware(
        await _chosen(parts, body), body.firmware.order(), pace=body.pace(), by=caller.name
    )
    return await parts.store.read(lambda tx: _campaign(tx, bulks.get_bulk(tx, bulk_id)))


@router.post("/campaigns/logs", status_code=202)
async def collect_many(body: LogOrderBody, caller: Operator, parts: P) -> object:
    """Collect a log of many stations, a few at once."""
    bulk_id = await parts.care.bulk.collect_logs(
        await _chosen(parts, body), body.log.order(), pace=body.pace(), by=caller.name
    )
    return await parts.store.read(lambda tx: _campaign(tx, bulks.get_bulk(tx, bulk_id)))


@router.get("/campaigns")
async def list_campaigns(_: Viewer, parts: P, limit: Limit = 50, cursor: Cursor = "") -> object:
    """List what was asked of many stations, newest first."""

    def work(tx: Tx) -> object:
        page = bulks.list_bulks(tx, limit=limit, cursor=cursor)
        return listed(page, [_campaign(tx, b) for b in page.items])

    return await parts.store.read(work)


@router.get("/campaigns/{bulk_id}")
async def one_campaign(bulk_id: int, _: Viewer, parts: P) -> object:
    """Return a campaign with each station's outcome."""

    def work(tx: Tx) -> dict[str, object]:
        shown = _campaign(tx, bulks.get_bulk(tx, bulk_id))
        items = [_latest(tx, item) for item in bulks.list_items(tx, bulk_id)]
        return {**shown, "stations": plain(items)}

    return await parts.store.read(work)


@router.post("/campaigns/{bulk_id}/cancel")
async def cancel_campaign(bulk_id: int, _: Operator, parts: P) -> object:
    """Begin with no further station; what is under way ends by itself."""
    await parts.care.bulk.cancel(bulk_id)
    return await parts.store.read(lambda tx: _campaign(tx, bulks.get_bulk(tx, bulk_id)))


def _latest(tx: Tx, item: BulkItem) -> BulkItem:
    """Return a station's part with what has become of a command that waited for it."""
    if item.outcome != Outcome.WAITING or item.command_id is None:
        return item
    record = commands.find_command(tx, item.command_id)
    if record is None:
        return item
    outcome = item.outcome if record.outcome is None else str(record.outcome)
    return replace(item, outcome=outcome, status=record.status, error=record.error)


def _campaign(tx: Tx, bulk: Bulk) -> dict[str, object]:
    shown = plain(bulk)
    assert isinstance(shown, dict)
    # Each station's command has it, with its secrets masked.
    del shown["payload"]
    options: dict[str, Any] = dict(bulk.options)
    if isinstance(options.get("location"), str):
        options["location"] = masked_location(options["location"])
    counts = bulks.counts(tx, bulk.bulk_id)
    total = sum(counts.values())
    ended = sum(counts.get(state, 0) for state in ("done", "failed", "skipped"))
    return {
        **shown,
        "options": options,
        "counts": counts,
        "progress_share": ended / total if total else 1.0,
    }
