"""Monitors, what they noticed, alerts, and what a station holds of a customer."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Cursor, Limit, Operator, P, Viewer
from csms.api.routes_devices import VariableBody, job, known, run
from csms.api.routes_stations import answered
from csms.api.views import Body, everything, listed, plain
from csms.core.commands import Command
from csms.core.device import Kind, Monitor
from csms.core.device_messages import (
    ClearMonitors,
    ReadCustomer,
    ReadMonitors,
    SetMonitoringBase,
    SetMonitoringLevel,
    SetMonitors,
)
from csms.core.errors import InvalidInput
from csms.store import alerts, device_model, requests, stations
from csms.store.statements import Tx
from csms.telemetry import token_hint

router = APIRouter(route_class=GuardedRoute, tags=["diagnostics"])

Severity = Annotated[int, Field(ge=0, le=9)]
MonitorId = Annotated[int, Field(ge=0, lt=2**31)]


class MonitorBody(VariableBody):
    """A monitor to set on a variable."""

    component: Annotated[str, Field(min_length=1, max_length=50)]
    variable: Annotated[str, Field(min_length=1, max_length=50)]
    kind: Literal["UpperThreshold", "LowerThreshold", "Delta", "Periodic", "PeriodicClockAligned"]
    value: Annotated[float, Field(allow_inf_nan=False)]
    severity: Severity = 8
    monitor_id: MonitorId | None = None
    is_transaction_only: bool = False


class MonitorsBody(Body):
    """Monitors to set."""

    monitors: Annotated[tuple[MonitorBody, ...], Field(min_length=1, max_length=100)]


class MonitorReportBody(Body):
    """Which monitors to report: by kind, by variable, or all."""

    criteria: Annotated[
        tuple[Literal["ThresholdMonitoring", "DeltaMonitoring", "PeriodicMonitoring"], ...],
        Field(max_length=3),
    ] = ()
    variables: Annotated[tuple[VariableBody, ...], Field(max_length=100)] = ()


class ClearBody(Body):
    """Monitors to clear, by the station's numbers."""

    monitor_ids: Annotated[tuple[MonitorId, ...], Field(min_length=1, max_length=100)]


class MonitoringBody(Body):
    """What a station monitors at all, and from which severity on it reports."""

    base: Literal["All", "FactoryDefault", "HardWiredOnly"] | None = None
    level: Severity | None = None


class CertificateHash(Body):
    """A customer's certificate, by its hashes."""

    hash_algorithm: Literal["SHA256", "SHA384", "SHA512"]
    issuer_name_hash: Annotated[str, Field(min_length=1, max_length=128)]
    issuer_key_hash: Annotated[str, Field(min_length=1, max_length=128)]
    serial_number: Annotated[str, Field(min_length=1, max_length=40)]


class CustomerBody(Body):
    """Whose data to report or clear; exactly one of the three says whose."""

    report: bool = True
    clear: bool = False
    id_token: Annotated[str, Field(max_length=255)] = ""
    id_token_kind: Annotated[str, Field(max_length=20)] = ""
    customer_identifier: Annotated[str, Field(max_length=64)] = ""
    certificate: CertificateHash | None = None


# --- monitors ------------------------------------------------------------------------------------


@router.get("/stations/{station_id}/monitors")
async def list_monitors(station_id: str, _: Viewer, parts: P) -> object:
    """List the monitors a station is known to have."""

    def work(tx: Tx) -> object:
        own_id = stations.get_station(tx, station_id).station_id
        found = []
        for monitor, at in device_model.list_monitors(tx, own_id):
            shown = plain(monitor)
            assert isinstance(shown, dict)
            name = shown.pop("name")
            found.append({**name, **shown, "at": at})
        return everything(found)

    return await parts.store.read(work)


@router.post("/stations/{station_id}/monitors")
async def set_monitors(station_id: str, body: MonitorsBody, caller: Operator, parts: P) -> object:
    """Set monitors; each comes back with the number the station gave it."""
    own_id = await known(parts, station_id)
    monitors = tuple(
        Monitor(
            name=m.name(),
            kind=m.kind,
            value=m.value,
            severity=m.severity,
            monitor_id=m.monitor_id,
            is_transaction_only=m.is_transaction_only,
        )
        for m in body.monitors
    )
    return await run(parts, SetMonitors(station_id=own_id, monitors=monitors), by=caller.name)


@router.post("/stations/{station_id}/monitors/clear")
async def clear_monitors(station_id: str, body: ClearBody, caller: Operator, parts: P) -> object:
    """Clear monitors; each comes back with the station's own word on it."""
    own_id = await known(parts, station_id)
    command = ClearMonitors(station_id=own_id, monitor_ids=body.monitor_ids)
    return await run(parts, command, by=caller.name)


@router.post("/stations/{station_id}/monitors/report")
async def report_monitors(
    station_id: str, body: MonitorReportBody, caller: Operator, parts: P
) -> object:
    """Ask a station which monitors it has; the parts arrive later and are merged."""
    own_id = await known(parts, station_id)

    def build(request_id: int) -> Command:
        return ReadMonitors(
            station_id=own_id,
            request_id=request_id,
            criteria=body.criteria,
            names=tuple(v.name() for v in body.variables),
        )

    request, result = await parts.care.asking.ask(
        own_id, Kind.MONITORS, build, detail={"criteria": list(body.criteria)}, by=caller.name
    )
    return {
        **answered(request.command_id or 0, result, own_id),
        "job": await parts.store.read(lambda tx: job(tx, request)),
    }


@router.put("/stations/{station_id}/monitoring")
async def set_monitoring(
    station_id: str, body: MonitoringBody, caller: Operator, parts: P
) -> object:
    """Set a station's monitoring base, or the severity from which on it reports."""
    own_id = await known(parts, station_id)
    if (body.base is None) is (body.level is None):
        raise InvalidInput("give either base or level; a station takes them one by one")
    if body.base is not None:
        return await run(
            parts, SetMonitoringBase(station_id=own_id, base=body.base), by=caller.name
        )
    command = SetMonitoringLevel(station_id=own_id, severity=body.level or 0)
    return await run(parts, command, by=caller.name)


# --- events and alerts ---------------------------------------------------------------------------


@router.get("/stations/{station_id}/device-events")
async def list_device_events(
    station_id: str, _: Viewer, parts: P, limit: Limit = 50, cursor: Cursor = ""
) -> object:
    """List what a station's monitors and hardware noticed, with all three times, newest first."""

    def work(tx: Tx) -> object:
        own_id = stations.get_station(tx, station_id).station_id
        page = alerts.list_events(tx, station_id=own_id, limit=limit, cursor=cursor)
        return listed(page, [_event(e) for e in page.items])

    return await parts.store.read(work)


def _event(stored: alerts.StoredStationEvent) -> dict[str, object]:
    shown, inner = plain(stored), plain(stored.event)
    assert isinstance(shown, dict)
    assert isinstance(inner, dict)
    del shown["event"]
    name = inner.pop("name")
    return {**shown, **name, **inner}


@router.get("/alerts")
async def list_alerts(
    _: Viewer,
    parts: P,
    station_id: Annotated[str, Query(max_length=100)] = "",
    site_id: Annotated[str, Query(max_length=100)] = "",
    is_open: Annotated[bool | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List alerts, open and closed, newest first."""

    def work(tx: Tx) -> object:
        page = alerts.list_alerts(
            tx,
            station_id=station_id,
            site_id=site_id,
            is_open=is_open,
            limit=limit,
            cursor=cursor,
        )
        return listed(page, [plain(a) for a in page.items])

    return await parts.store.read(work)


# --- customers -----------------------------------------------------------------------------------


@router.post("/stations/{station_id}/customer-information")
async def ask_for_customer(
    station_id: str, body: CustomerBody, caller: Operator, parts: P
) -> object:
    """Ask what a station holds of a customer, have it cleared, or both."""
    own_id = await known(parts, station_id)
    given = (bool(body.id_token), bool(body.customer_identifier), body.certificate is not None)
    if sum(given) != 1:
        raise InvalidInput("give exactly one of id_token, customer_identifier and certificate")
    certificate = body.certificate
    hashes = None
    if certificate is not None:
        hashes = {
            "hashAlgorithm": certificate.hash_algorithm,
            "issuerNameHash": certificate.issuer_name_hash,
            "issuerKeyHash": certificate.issuer_key_hash,
            "serialNumber": certificate.serial_number,
        }

    def build(request_id: int) -> Command:
        return ReadCustomer(
            station_id=own_id,
            request_id=request_id,
            is_report=body.report,
            is_clear=body.clear,
            id_token=body.id_token,
            id_token_kind=body.id_token_kind,
            certificate=hashes,
            customer_identifier=body.customer_identifier,
        )

    detail = {"report": body.report, "clear": body.clear}
    if body.id_token:
        detail["token"] = token_hint(body.id_token)  # type: ignore[assignment]
    request, result = await parts.care.asking.ask(
        own_id, Kind.CUSTOMER, build, detail=detail, by=caller.name
    )
    return {
        **answered(request.command_id or 0, result, own_id),
        "job": await parts.store.read(lambda tx: job(tx, request)),
    }


@router.get("/customer-information/{request_key}")
async def customer_information(request_key: int, _: Operator, parts: P) -> object:
    """Return what a station told of a customer; for operators only."""

    def work(tx: Tx) -> object:
        request = requests.get_request(tx, request_key)
        if request.kind is not Kind.CUSTOMER:
            raise InvalidInput(f"request {request_key} is not about a customer")
        text = "".join(part.content for part in requests.list_parts(tx, request_key))
        return {**job(tx, request), "data": text or None}

    return await parts.store.read(work)
