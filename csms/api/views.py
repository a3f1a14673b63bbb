"""What the API takes and says: operator units, instants with an offset, unknown fields refused."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from csms.core.commands import CommandResult
from csms.core.errors import InvalidInput
from csms.core.model import Session, Strategy, TokenRecord
from csms.core.session import is_final
from csms.store.pages import Page
from csms.telemetry import token_hint

T = TypeVar("T")

Name = Annotated[str, Field(max_length=200)]
Id = Annotated[str, Field(min_length=1, max_length=255)]
Kw = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
PositiveKw = Annotated[float, Field(gt=0, le=4_000, allow_inf_nan=False)]
Kwh = Annotated[float, Field(ge=0, le=5_000, allow_inf_nan=False)]
Minute = Annotated[int, Field(ge=0, le=1440)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def plain(value: object) -> object:
    """Return `value` as JSON-ready data: dataclasses become objects, instants end in Z.

    Sequences of dataclasses become lists; a number that JSON cannot hold becomes null.
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def listed(page: Page[Any], items: Sequence[object]) -> dict[str, object]:
    """Return a page of a list: its items, the total, and the cursor of the next page."""
    return {"items": list(items), "total": page.total, "cursor": page.cursor or None}


def everything(items: object) -> dict[str, object]:
    """Return a list that is short enough to be one page."""
    shown = plain(items)
    assert isinstance(shown, list)
    return {"items": shown, "total": len(shown), "cursor": None}


def by_key(
    items: Sequence[T],
    key: Callable[[T], str],
    show: Callable[[T], object],
    *,
    limit: int,
    cursor: str,
) -> dict[str, object]:
    """Return a page of `items`, which rise by `key`; the cursor hides the last key shown."""
    after = ""
    if cursor:
        try:
            after = base64.urlsafe_b64decode(cursor.encode()).decode()
        except ValueError as error:
            raise InvalidInput(
                "cursor is none of ours; it must come from the page before"
            ) from error
    left = [item for item in items if key(item) > after] if after else list(items)
    shown = left[:limit]
    more = len(left) > limit
    following = base64.urlsafe_b64encode(key(shown[-1]).encode()).decode() if more else None
    return {"items": [show(item) for item in shown], "total": len(items), "cursor": following}


class Body(BaseModel):
    """A request body; a field that is not listed is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SiteChange(Body):
    """What of a site may change while it runs; what is left out stays."""

    name: Name | None = None
    limit_kw: Kw | None = None
    base_load_kw: Kw | None = None
    meter: Annotated[str, Field(max_length=60)] | None = None
    solar_meter: Annotated[str, Field(max_length=60)] | None = None
    meter_stale_s: Annotated[float, Field(ge=10, le=86400)] | None = None
    load_quantile: Annotated[float, Field(ge=0.5, le=1)] | None = None
    export_eur_per_kwh: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = None
    guard_share: Share | None = None
    strategy: Strategy | None = None
    revenue_per_kwh: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None


class EvseBody(Body):
    """One place to charge, where more is known than the station will say."""

    evse_id: Annotated[int, Field(ge=1, le=1000)]
    max_kw: PositiveKw
    phases: Literal[1, 2, 3] = 3
    current_type: Literal["AC", "DC"] = "AC"
    connector_type: Name = "cType2"


class StationBody(Body):
    """A station registered before it connects (K16)."""

    station_id: Annotated[str, Field(min_length=1, max_length=48)]
    site_id: Id
    name: Name = ""
    password: Annotated[str, Field(min_length=16, max_length=40)] | None = None
    security_profile: Annotated[int, Field(ge=0, le=3)] = 1
    serial_number: Annotated[str, Field(max_length=50)] = ""
    is_approved: bool = True
    uid_byte_order_reversed: bool = False
    evses: Annotated[tuple[EvseBody, ...], Field(max_length=100)] = ()


class StationChange(Body):
    """What of a station may change; what is left out stays."""

    name: Name | None = None
    automation: bool | None = None
    is_approved: bool | None = None
    password: Annotated[str, Field(min_length=16, max_length=40)] | None = None
    security_profile: Annotated[int, Field(ge=0, le=3)] | None = None
    serial_number: Annotated[str, Field(max_length=50)] | None = None
    heartbeat_interval_s: Annotated[int, Field(ge=10, le=86_400)] | None = None
    circuit_id: Annotated[str, Field(max_length=60)] | None = None
    phase_rotation: Annotated[str, Field(max_length=20)] | None = None


class HolderBody(Body):
    """A holder: a driver, or a vehicle or fleet without one."""

    did: Id
    kind: Annotated[str, Field(max_length=40)] = "driver"
    name: Name = ""
    state: Literal["active", "disabled"] = "active"
    organisation: Name = ""
    allowed_sites: Annotated[tuple[Id, ...], Field(max_length=1000)] = ()
    priority: Annotated[int, Field(ge=-9, le=9)] = 0
    carbon_conscious: bool = False
    max_price_per_kwh: Annotated[float, Field(allow_inf_nan=False)] | None = None
    vehicle_id: Annotated[str, Field(max_length=255)] = ""
    max_open_sessions: Annotated[int, Field(ge=1, le=1000)] = 1


class CredentialBody(Body):
    """A claim about a holder, as stored: nobody verified it. `hours` are minutes of the day."""

    credential_id: Id
    subject: Id
    kind: Id
    issuer: Name = ""
    organisation: Name = ""
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None
    status: Literal["valid", "suspended", "revoked"] = "valid"
    sites: Annotated[tuple[Id, ...], Field(max_length=1000)] = ()
    evse_ids: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=1000)] = ()
    hours: Annotated[tuple[tuple[Minute, Minute], ...], Field(max_length=24)] = ()
    priority: Annotated[int, Field(ge=-9, le=9)] = 0
    allowance_kwh: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = None


class CredentialStatus(Body):
    """Whether a claim counts."""

    status: Literal["valid", "suspended", "revoked"]


class VehicleBody(Body):
    """A battery on wheels."""

    vehicle_id: Id
    name: Name = ""
    battery_kwh: Annotated[float, Field(ge=0.5, le=5_000)] = 60.0
    consumption_wh_per_km: Annotated[float, Field(ge=1, le=20_000)] = 180.0
    max_kw: PositiveKw = 11.0
    max_dc_kw: PositiveKw = 100.0
    phases: Literal[1, 2, 3] = 3
    min_current_a: Annotated[float, Field(ge=6, le=80)] = 6.0
    efficiency: Annotated[float, Field(gt=0.3, le=1)] = 0.9
    soc: Share | None = None
    max_soc: Annotated[float, Field(gt=0, le=1)] = 1.0
    owner_did: Annotated[str, Field(max_length=255)] = ""


class TripBody(Body):
    """A departure with a need, in kilometres or in kWh into the battery."""

    holder_did: Id
    vehicle_id: Annotated[str, Field(max_length=255)] = ""
    departs_at: AwareDatetime
    distance_km: Annotated[float, Field(ge=0, le=5_000, allow_inf_nan=False)] | None = None
    energy_kwh: Kwh | None = None
    reserve_share: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.2
    preferred_soc: Share | None = None


class TokenBody(Body):
    """A token that stands for a holder (K15); without a DID it is a plain token of its own."""

    value: Id
    kind: Annotated[str, Field(max_length=40)] = ""
    did: Annotated[str, Field(max_length=255)] = ""
    state: Literal["active", "blocked", "suspended", "lost"] = "active"
    assurance: Literal["A0", "A1", "A2", "A3"] = "A0"
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None


class Closing(Body):
    """Why a leftover transaction is closed (K17)."""

    reason: Annotated[str, Field(min_length=3, max_length=200)]


class ApiTokenBody(Body):
    """A token for the API itself."""

    role: Literal["viewer", "operator"] = "viewer"
    label: Annotated[str, Field(max_length=100)] = ""


def transaction(session: Session) -> dict[str, object]:
    """Return a session as the OCPP transaction it is tied to (K10)."""
    return {
        "session_id": session.session_id,
        "transaction_id": session.transaction_id,
        "station_id": session.station_id,
        "evse_id": session.evse_id or None,
        "connector_id": session.connector_id or None,
        "version": str(session.version),
        "id_token": session.id_token.value if session.id_token else None,
        "id_token_kind": session.id_token.kind if session.id_token else None,
        "authorization": str(session.status),
        "started_at": plain(session.started_at),
        "received_at": plain(session.received_at),
        "stopped_at": plain(session.ended_at),
        "stop_reason": session.stop_reason or None,
        "charging_state": session.charging_state or None,
        "remote_start_id": session.remote_start_id,
        "is_offline_start": session.is_offline_start,
        "is_estimated": session.is_estimated,
        "is_final": is_final(session),
        "meter_start_wh": session.meter_start_wh,
        "meter_last_wh": session.meter_last_wh,
        "energy_wh": session.energy_wh,
        "flags": list(session.flags),
    }


def token(record: TokenRecord) -> dict[str, object]:
    """Return an enrolled token; the value is what an operator typed in, so it may be shown."""
    shown = plain(record)
    assert isinstance(shown, dict)
    return {**shown, "hint": token_hint(record.value)}


def outcome(command_id: int, result: CommandResult) -> dict[str, object]:
    """Return what came of a command (K2), with the station's own answer."""
    return {
        "command_id": command_id,
        "outcome": str(result.outcome),
        "status": result.status or None,
        "error_code": result.error_code or None,
        "error_description": result.error_description or None,
        "answer": None if result.answer is None else dict(result.answer),
    }
