"""Requests with an id of their own: what becomes of them as answers, parts and statuses arrive.

Statuses come late, twice, out of order and for ids nobody gave; a job only ever moves towards its
end. A status without an id (1.6 has none) belongs to the newest open job of its kind.
"""

from datetime import datetime
from typing import Any

import structlog

from csms.core.commands import Command, CommandResult, Outcome, RawCall, integer
from csms.core.device import Kind, RequestFact
from csms.core.device_messages import JobReported, PartReceived
from csms.core.model import Event
from csms.store import journal, requests
from csms.store.requests import DeviceRequest, Part, RequestStep
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

DONE = frozenset({"Installed", "Uploaded", "Published"})
FAILED = frozenset(
    {
        "DownloadFailed",
        "InstallationFailed",
        "InstallVerificationFailed",
        "InvalidSignature",
        "InvalidChecksum",
        "PublishFailed",
        "UploadFailed",
        "UploadFailure",
        "BadMessage",
        "NotSupportedOperation",
        "PermissionDenied",
    }
)
CANCELLED = frozenset({"AcceptedCanceled"})
_SAYS_NOTHING = frozenset({"Idle"})

PROGRESS: dict[str, float] = {
    "DownloadScheduled": 0.05,
    "Downloading": 0.1,
    "DownloadPaused": 0.1,
    "Downloaded": 0.4,
    "SignatureVerified": 0.5,
    "ChecksumVerified": 0.6,
    "InstallScheduled": 0.55,
    "Installing": 0.6,
    "InstallRebooting": 0.8,
    "Uploading": 0.3,
}
"""How far a job is (0..1) by the furthest status it has reported."""

_KIND_OF = {
    "GetBaseReport": Kind.REPORT,
    "GetReport": Kind.REPORT,
    "GetMonitoringReport": Kind.MONITORS,
    "CustomerInformation": Kind.CUSTOMER,
    "GetLog": Kind.LOG,
    "GetDiagnostics": Kind.LOG,
    "UpdateFirmware": Kind.FIRMWARE,
    "SignedUpdateFirmware": Kind.FIRMWARE,
    "PublishFirmware": Kind.PUBLISH,
}


def _named(command: RawCall) -> tuple[Kind, int | None] | None:
    """Return the kind and the id of the request in a raw call, None if it makes none."""
    kind = _KIND_OF.get(command.action)
    if kind is None:
        return None
    payload = command.payload()
    wire_id = integer(payload.get("requestId"))
    if wire_id is not None:
        return kind, wire_id
    # The 1.6 messages without an id are told by their kind alone.
    return (kind, None) if command.action in ("GetDiagnostics", "UpdateFirmware") else None


def expect(tx: Tx, command: RawCall, *, by: str, at: datetime) -> None:
    """Note the request in a raw call, so that what comes of it is known."""
    named = _named(command)
    if named is None:
        return
    kind, wire_id = named
    detail = {"action": command.action}
    requests.add_request(tx, command.station_id, kind, detail=detail, by=by, at=at, wire_id=wire_id)


def key_of(tx: Tx, command: Command) -> int | None:
    """Return the key of the request that `command` made, None if it makes none."""
    if not isinstance(command, RawCall):
        found = getattr(command, "request_id", None)
        return found if isinstance(found, int) else None
    named = _named(command)
    if named is None:
        return None
    kind, wire_id = named
    request = requests.find_request(tx, command.station_id, kind, wire_id)
    return None if request is None else request.request_key


def answered(
    tx: Tx, request_key: int, result: CommandResult, *, command_id: int, at: datetime
) -> None:
    """Store how a station took a request; what it reported meanwhile is not undone."""
    request = requests.get_request(tx, request_key)
    fact = next((f for f in result.facts if isinstance(f, RequestFact)), None)
    values: dict[str, Any] = {"command_id": command_id}
    status = result.status or result.error_code or result.why_not_sent or str(result.outcome)
    if fact is not None and fact.file_name:
        values["file_name"] = fact.file_name
    if result.outcome in (Outcome.ACCEPTED, Outcome.SENT):
        if fact is not None and fact.status in CANCELLED:
            _cancel_others(tx, request, at=at)
        if request.state == "asked":
            values |= {"state": "accepted", "status": result.status}
        if fact is None and request.kind is Kind.REPORT:
            # 1.6 has no reports: the answer was the whole configuration.
            values |= {"state": "done", "finished_at": at}
    elif request.state in requests.OPEN:
        is_empty = result.status == "EmptyResultSet"
        state = "empty" if is_empty else "failed"
        values |= {"state": state, "status": status, "finished_at": at}
    requests.change_request(tx, request_key, **values)


def _cancel_others(tx: Tx, request: DeviceRequest, *, at: datetime) -> None:
    for other in requests.open_requests(tx, request.station_id, request.kind):
        if other.request_key != request.request_key:
            requests.change_request(
                tx, other.request_key, state="cancelled", status="AcceptedCanceled", finished_at=at
            )


def progressed(tx: Tx, report: JobReported) -> int | None:
    """Store a status of a job and return the job's key, None if the status belongs to none."""
    is_open = report.request_id is None
    request = requests.find_request(
        tx, report.station_id, report.kind, report.request_id, is_open=is_open
    )
    if request is None or report.status in _SAYS_NOTHING:
        if request is None and report.status not in _SAYS_NOTHING:
            unknown(tx, report.station_id, report.action, report.request_id, report.received_at)
        return None
    step = RequestStep(status=report.status, detail=report.detail, received_at=report.received_at)
    steps = requests.list_steps(tx, request.request_key)
    if steps and steps[-1].status == step.status and steps[-1].detail == step.detail:
        return request.request_key
    if len(steps) < requests.MAX_STEPS:
        requests.add_step(tx, request.request_key, step)
    state = _state(request.state, report.status)
    if state is not None:
        ended = state not in requests.OPEN
        requests.change_request(
            tx,
            request.request_key,
            state=state,
            status=_furthest(report.status, [s.status for s in steps], ended=ended),
            finished_at=report.received_at if ended else None,
        )
    return request.request_key


def _state(known: str, status: str) -> str | None:
    """Return the state a job is in after `status`, None if it stays as it is."""
    if status in DONE:
        return "done"
    if known not in requests.OPEN:
        # What came out of order after the end is kept as a step and changes nothing.
        return None
    if status in FAILED:
        return "failed"
    return "cancelled" if status in CANCELLED else "running"


def _furthest(status: str, before: list[str], *, ended: bool) -> str:
    if ended:
        return status
    return max([*before, status], key=lambda s: PROGRESS.get(s, 0.0))


def progress_share(request: DeviceRequest, steps: list[RequestStep]) -> float:
    """Return how far a job is, 0..1; what failed stays where it was."""
    if request.state == "done":
        return 1.0
    return max((PROGRESS.get(step.status, 0.0) for step in steps), default=0.0)


def part_arrived(tx: Tx, report: PartReceived, kind: Kind, content: str) -> bool:
    """Keep one part of an answer; return whether anybody asked for it."""
    request = requests.find_request(tx, report.station_id, kind, report.request_id)
    if request is None:
        unknown(tx, report.station_id, report.action, report.request_id, report.received_at)
        return False
    is_whole = requests.put_part(
        tx,
        request.request_key,
        Part(
            seq_no=report.seq_no,
            is_last=report.is_last,
            generated_at=report.generated_at,
            received_at=report.received_at,
            content=content,
        ),
    )
    if is_whole and request.state != "done":
        requests.change_request(
            tx, request.request_key, state="done", finished_at=report.received_at
        )
    elif not is_whole and request.state in ("asked", "accepted"):
        requests.change_request(tx, request.request_key, state="running")
    return True


def unknown(tx: Tx, station_id: str, action: str, request_id: int | None, at: datetime) -> None:
    """Note that a station reported on a request that nobody made."""
    journal.add_event(
        tx,
        Event(
            at=at,
            kind="report on unknown request",
            level="warning",
            station_id=station_id,
            detail={"action": action, "request_id": request_id},
        ),
    )
