"""A station as a device: its variables in one view for all versions, states, boots, clock."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Cursor, Limit, Operator, P, Viewer
from csms.api.routes_stations import answered
from csms.api.views import Body, by_key, everything, listed, plain
from csms.core.commands import Command, Reset
from csms.core.device import KEYS, Kind, VariableName
from csms.core.device_messages import (
    ReadModel,
    ReadVariables,
    SetAvailability,
    SetNetworkProfile,
    WriteVariables,
)
from csms.service.requests import progress_share
from csms.store import boots, device_model, requests, stations
from csms.store.device_model import StoredAttribute
from csms.store.requests import DeviceRequest
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["devices"])

Text = Annotated[str, Field(max_length=50)]
Number = Annotated[int, Field(ge=0, le=1000)]
AttributeKind = Literal["", "Actual", "Target", "MinSet", "MaxSet"]


class VariableBody(Body):
    """A variable; `component` may be left out for a 1.6 configuration key."""

    component: Text = KEYS
    component_instance: Text = ""
    evse_id: Number = 0
    connector_id: Number = 0
    variable: Text = ""
    variable_instance: Text = ""

    def name(self) -> VariableName:
        """Return the variable's name."""
        return VariableName(
            component=self.component,
            component_instance=self.component_instance,
            evse_id=self.evse_id,
            connector_id=self.connector_id,
            variable=self.variable,
            variable_instance=self.variable_instance,
        )


class ValueBody(VariableBody):
    """A variable with the value it shall have."""

    variable: Annotated[str, Field(min_length=1, max_length=50)]
    value: Annotated[str, Field(max_length=2500)]


class ReadBody(Body):
    """Which variables to read; none reads every key of a 1.6 station."""

    variables: Annotated[tuple[VariableBody, ...], Field(max_length=100)] = ()
    kind: AttributeKind = ""


class WriteBody(Body):
    """Which variables to set."""

    variables: Annotated[tuple[ValueBody, ...], Field(min_length=1, max_length=100)]
    kind: AttributeKind = ""


class ReportBody(Body):
    """Which report to ask for: a base, or criteria and variables."""

    base: Literal["ConfigurationInventory", "FullInventory", "SummaryInventory"] = "FullInventory"
    criteria: Annotated[
        tuple[Literal["Active", "Available", "Enabled", "Problem"], ...], Field(max_length=4)
    ] = ()
    variables: Annotated[tuple[VariableBody, ...], Field(max_length=100)] = ()


class AvailabilityBody(Body):
    """What may be used: EVSE 0 is the whole station, connector 0 the whole EVSE."""

    is_operative: bool
    evse_id: Number = 0
    connector_id: Number = 0


class ResetBody(Body):
    """How to restart: hard at once, or when nothing charges; an EVSE alone in 2.x."""

    is_hard: bool = False
    evse_id: Number = 0


class NetworkBody(Body):
    """How a 2.x station reaches a central system from a slot of its own."""

    slot: Annotated[int, Field(ge=1, le=1000)]
    url: Annotated[str, Field(min_length=5, max_length=512, pattern="^wss?://")]
    security_profile: Annotated[int, Field(ge=1, le=3)]
    interface: Literal[
        "Wired0", "Wired1", "Wired2", "Wired3", "Wireless0", "Wireless1", "Wireless2", "Wireless3"
    ] = "Wired0"
    message_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 30


async def run(parts: P, command: Command, *, by: str) -> dict[str, object]:
    """Send a typed command; answer with its outcome and one entry per item it was about."""
    command_id, result = await parts.devices.run(command, asked_by=by)
    return {
        **answered(command_id, result, command.station_id),
        "items": plain(list(result.facts)),
    }


async def known(parts: P, station_id: str) -> str:
    """Return a station's registered id; raise UnknownStation."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    return station.station_id


def job(tx: Tx, request: DeviceRequest) -> dict[str, object]:
    """Return a request with what its station reported on it."""
    shown = plain(request)
    assert isinstance(shown, dict)
    shown["request_id"] = shown.pop("wire_id")
    shown["has_file"] = bool(shown.pop("file_path"))
    steps = requests.list_steps(tx, request.request_key)
    return {
        **shown,
        "progress_share": progress_share(request, steps),
        "steps": plain(steps),
    }


# --- variables -----------------------------------------------------------------------------------


def _variable(stored: StoredAttribute) -> dict[str, object]:
    shown = plain(stored)
    assert isinstance(shown, dict)
    del shown["name"]
    standard = stored.name.standard
    return {
        **_name(stored.name),
        "standard_name": None if standard is None else ".".join(standard),
        "is_readonly": stored.mutability == "ReadOnly",
        **shown,
    }


def _name(name: VariableName) -> dict[str, object]:
    shown = plain(name)
    assert isinstance(shown, dict)
    return shown


@router.get("/stations/{station_id}/variables")
async def list_variables(
    station_id: str,
    _: Viewer,
    parts: P,
    component: Annotated[str, Query(max_length=50)] = "",
    variable: Annotated[str, Query(max_length=50)] = "",
    limit: Limit = 200,
    cursor: Cursor = "",
) -> object:
    """List a station's variables as last read and set, 1.6 keys under one component."""

    def work(tx: Tx) -> object:
        own_id = stations.get_station(tx, station_id).station_id
        found = [
            item
            for item in device_model.list_attributes(tx, own_id)
            if _matches(item.name, component, variable)
        ]
        return by_key(found, _place, _variable, limit=limit, cursor=cursor)

    return await parts.store.read(work)


def _place(item: StoredAttribute) -> str:
    n = item.name
    return "\0".join(
        (
            n.component,
            n.component_instance,
            f"{n.evse_id:04}",
            f"{n.connector_id:04}",
            n.variable,
            n.variable_instance,
            item.kind,
        )
    )


def _matches(name: VariableName, component: str, variable: str) -> bool:
    spellings = {(name.component, name.variable), name.standard or ("", "")}
    return any(component in ("", c) and variable in ("", v) for c, v in spellings)


@router.post("/stations/{station_id}/variables/read")
async def read_variables(station_id: str, body: ReadBody, caller: Operator, parts: P) -> object:
    """Read variables now; each comes back with the station's own word on it."""
    own_id = await known(parts, station_id)
    command = ReadVariables(
        station_id=own_id, names=tuple(v.name() for v in body.variables), kind=body.kind
    )
    return await run(parts, command, by=caller.name)


@router.put("/stations/{station_id}/variables")
async def write_variables(station_id: str, body: WriteBody, caller: Operator, parts: P) -> object:
    """Set variables; each comes back with the station's own word on it."""
    own_id = await known(parts, station_id)
    values = tuple((v.name(), v.value) for v in body.variables)
    command = WriteVariables(station_id=own_id, values=values, kind=body.kind)
    return await run(parts, command, by=caller.name)


@router.post("/stations/{station_id}/reports")
async def ask_for_report(station_id: str, body: ReportBody, caller: Operator, parts: P) -> object:
    """Ask a station to report its model; the parts arrive later and are merged."""
    own_id = await known(parts, station_id)

    def build(request_id: int) -> Command:
        return ReadModel(
            station_id=own_id,
            request_id=request_id,
            base=body.base,
            criteria=body.criteria,
            names=tuple(v.name() for v in body.variables),
        )

    detail = body.model_dump(mode="json", exclude={"variables"})
    request, result = await parts.care.asking.ask(
        own_id, Kind.REPORT, build, detail=detail, by=caller.name
    )
    return {
        **answered(request.command_id or 0, result, own_id),
        "job": await parts.store.read(lambda tx: job(tx, request)),
    }


# --- states --------------------------------------------------------------------------------------


@router.get("/stations/{station_id}/device")
async def one_device(station_id: str, _: Viewer, parts: P) -> object:
    """Return how a station is: connectors as reported, availability as commanded, clock, boots."""

    def work(tx: Tx) -> dict[str, object]:
        own_id = stations.get_station(tx, station_id).station_id
        reported = [plain(s) for s in device_model.connector_states(tx, own_id)]
        for state in reported:
            assert isinstance(state, dict)
            del state["station_id"], state["order_at"]
        return {
            "station_id": own_id,
            "connectors": reported,
            "availability": plain(device_model.availability(tx, own_id)),
            "clock_offset_s": device_model.clock_offset_s(tx, own_id),
            "boots": plain(boots.list_boots(tx, own_id, limit=20)),
            "firmware": plain(boots.firmware_history(tx, own_id, limit=20)),
        }

    return await parts.store.read(work)


@router.put("/stations/{station_id}/availability")
async def set_availability(
    station_id: str, body: AvailabilityBody, caller: Operator, parts: P
) -> object:
    """Take a station, an EVSE or a connector out of use, or back into it."""
    own_id = await known(parts, station_id)
    command = SetAvailability(station_id=own_id, **body.model_dump())
    return await run(parts, command, by=caller.name)


@router.post("/stations/{station_id}/reset")
async def reset_station(station_id: str, body: ResetBody, caller: Operator, parts: P) -> object:
    """Restart a station or, in 2.x, one EVSE."""
    own_id = await known(parts, station_id)
    return await run(parts, Reset(station_id=own_id, **body.model_dump()), by=caller.name)


@router.put("/stations/{station_id}/network-profile")
async def set_network_profile(
    station_id: str, body: NetworkBody, caller: Operator, parts: P
) -> object:
    """Write one of a 2.x station's network profiles."""
    own_id = await known(parts, station_id)
    command = SetNetworkProfile(station_id=own_id, **body.model_dump())
    return await run(parts, command, by=caller.name)


# --- requests ------------------------------------------------------------------------------------


@router.get("/stations/{station_id}/jobs")
async def list_jobs(
    station_id: str,
    _: Viewer,
    parts: P,
    kind: Annotated[Kind | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List what a station was asked to report, upload or install, newest first."""

    def work(tx: Tx) -> object:
        own_id = stations.get_station(tx, station_id).station_id
        page = requests.list_requests(
            tx, station_id=own_id, kind=str(kind or ""), limit=limit, cursor=cursor
        )
        return listed(page, [job(tx, r) for r in page.items])

    return await parts.store.read(work)


@router.get("/stations/{station_id}/boots")
async def list_boots(station_id: str, _: Viewer, parts: P, limit: Limit = 50) -> object:
    """List a station's boots, newest first."""

    def work(tx: Tx) -> object:
        own_id = stations.get_station(tx, station_id).station_id
        return everything(boots.list_boots(tx, own_id, limit=limit))

    return await parts.store.read(work)
