"""Firmware and log jobs of one station, and the files that come of them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from pydantic import AwareDatetime, Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Cursor, Limit, Operator, P, Viewer
from csms.api.routes_devices import job, known, run
from csms.api.routes_stations import answered
from csms.api.views import Body, listed, plain
from csms.core.commands import CommandResult
from csms.core.device import Kind
from csms.core.device_messages import UnpublishFirmware
from csms.service.firmware import FirmwareOrder
from csms.service.logs import LogOrder
from csms.store import requests
from csms.store.requests import DeviceRequest
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["jobs"])

Location = Annotated[str, Field(min_length=1, max_length=512)]
Retries = Annotated[int, Field(ge=0, le=100)]
Seconds = Annotated[int, Field(ge=0, le=86_400)]
Checksum = Annotated[str, Field(min_length=1, max_length=32)]


class FirmwareBody(Body):
    """An image to install; without `retrieve_at` the station fetches it at once."""

    location: Location
    retrieve_at: AwareDatetime | None = None
    install_at: AwareDatetime | None = None
    signing_certificate: Annotated[str, Field(max_length=5500)] = ""
    signature: Annotated[str, Field(max_length=800)] = ""
    retries: Retries | None = None
    retry_interval_s: Seconds | None = None

    def order(self) -> FirmwareOrder:
        """Return the order as the service takes it."""
        return FirmwareOrder(**self.model_dump())


class LogBody(Body):
    """A log to upload; without `location` it comes to a one-time place of ours."""

    log_type: Literal["DiagnosticsLog", "SecurityLog", "DataCollectorLog"] = "DiagnosticsLog"
    location: Annotated[str, Field(max_length=512)] = ""
    oldest_at: AwareDatetime | None = None
    latest_at: AwareDatetime | None = None
    retries: Retries | None = None
    retry_interval_s: Seconds | None = None

    def order(self) -> LogOrder:
        """Return the order as the service takes it."""
        return LogOrder(**self.model_dump())


class PublishBody(Body):
    """An image that a local controller offers to its stations."""

    location: Location
    checksum: Checksum


async def _shown(
    parts: P, asked: tuple[DeviceRequest, CommandResult], station_id: str
) -> dict[str, object]:
    request, result = asked
    outcome: dict[str, Any] = answered(request.command_id or 0, result, station_id)
    return {**outcome, "job": await parts.store.read(lambda tx: job(tx, request))}


@router.post("/stations/{station_id}/firmware")
async def update_firmware(
    station_id: str, body: FirmwareBody, caller: Operator, parts: P
) -> object:
    """Let a station update its firmware; the job tells how far it is."""
    own_id = await known(parts, station_id)
    asked = await parts.care.firmware.update(own_id, body.order(), by=caller.name)
    return await _shown(parts, asked, own_id)


@router.post("/stations/{station_id}/firmware/publish")
async def publish_firmware(
    station_id: str, body: PublishBody, caller: Operator, parts: P
) -> object:
    """Let a local controller publish an image to its stations."""
    own_id = await known(parts, station_id)
    asked = await parts.care.firmware.publish(
        own_id, location=body.location, checksum=body.checksum, by=caller.name
    )
    return await _shown(parts, asked, own_id)


@router.delete("/stations/{station_id}/firmware/publish")
async def unpublish_firmware(
    station_id: str,
    checksum: Annotated[str, Query(min_length=1, max_length=32)],
    caller: Operator,
    parts: P,
) -> object:
    """Let a local controller offer an image no longer."""
    own_id = await known(parts, station_id)
    command = UnpublishFirmware(station_id=own_id, checksum=checksum)
    return await run(parts, command, by=caller.name)


@router.post("/stations/{station_id}/logs")
async def collect_log(station_id: str, body: LogBody, caller: Operator, parts: P) -> object:
    """Let a station upload a log, to us unless another place is named."""
    own_id = await known(parts, station_id)
    asked = await parts.care.logs.collect(own_id, body.order(), by=caller.name)
    return await _shown(parts, asked, own_id)


@router.get("/jobs")
async def list_all_jobs(
    _: Viewer,
    parts: P,
    kind: Annotated[Kind | None, Query()] = None,
    state: Annotated[str, Query(max_length=20)] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List the jobs of all stations, newest first."""

    def work(tx: Tx) -> object:
        page = requests.list_requests(
            tx, kind=str(kind or ""), state=state, limit=limit, cursor=cursor
        )
        return listed(page, [job(tx, r) for r in page.items])

    return await parts.store.read(work)


@router.get("/jobs/{request_key}")
async def one_job(request_key: int, _: Viewer, parts: P) -> object:
    """Return a job with every status its station reported, and the parts of a report."""

    def work(tx: Tx) -> dict[str, object]:
        request = requests.get_request(tx, request_key)
        shown = job(tx, request)
        if request.kind in (Kind.REPORT, Kind.MONITORS):
            parts_kept = requests.list_parts(tx, request_key)
            shown["parts"] = [
                {"seq_no": p.seq_no, "is_last": p.is_last, "received_at": plain(p.received_at)}
                for p in parts_kept
            ]
        return shown

    return await parts.store.read(work)


@router.get("/jobs/{request_key}/file")
async def job_file(request_key: int, _: Operator, parts: P) -> FileResponse:
    """Return the file that came of a log job."""
    request = await parts.store.read(lambda tx: requests.get_request(tx, request_key))
    path = parts.care.logs.file_of(request)
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=path.name,
        content_disposition_type="attachment",
    )
