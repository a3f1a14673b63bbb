"""Security of stations: their passwords, their certificates, and what they report of both."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Limit, Operator, P, Viewer
from csms.api.routes_stations import answered
from csms.api.views import everything, plain
from csms.core.security import HashData
from csms.store import certificates, stations
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["security"])

Use = Literal[
    "V2GRootCertificate",
    "MORootCertificate",
    "CSMSRootCertificate",
    "ManufacturerRootCertificate",
    "OEMRootCertificate",
]
ListedUse = Literal[
    "V2GRootCertificate",
    "MORootCertificate",
    "CSMSRootCertificate",
    "V2GCertificateChain",
    "ManufacturerRootCertificate",
    "OEMRootCertificate",
]
_Hash = Annotated[str, Field(max_length=128)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InstallBody(_Body):
    """A certificate for a station's trust store, by its use in the words of 2.x."""

    kind: Use
    certificate: Annotated[str, Field(min_length=1, max_length=10_000)]


class ListBody(_Body):
    """Which certificates to ask for; none asks for all."""

    kinds: tuple[ListedUse, ...] = ()


class HashBody(_Body):
    """A certificate as its station lists it."""

    hash_algorithm: Literal["SHA256", "SHA384", "SHA512"]
    issuer_name_hash: _Hash
    issuer_key_hash: _Hash
    serial_number: Annotated[str, Field(max_length=40)]


class RenewBody(_Body):
    """Which certificate a station is asked to renew."""

    kind: Literal["ChargingStationCertificate", "V2GCertificate"] = "ChargingStationCertificate"


@router.post("/stations/{station_id}/password/rotate")
async def rotate_password(station_id: str, caller: Operator, parts: P) -> object:
    """Give a connected station a fresh random password; nobody is shown it."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    command_id, result = await parts.passwords.rotate(station, by=caller.name)
    return answered(command_id, result, station.station_id)


@router.get("/stations/{station_id}/certificates")
async def list_certificates(station_id: str, _: Viewer, parts: P) -> object:
    """Return a station's own certificates, newest first, and what it trusts, as last known."""

    def work(tx: Tx) -> dict[str, object]:
        real_id = stations.get_station(tx, station_id).station_id
        return {
            "own": plain(certificates.list_certificates(tx, real_id)),
            "installed": plain(certificates.list_installed(tx, real_id)),
        }

    return await parts.store.read(work)


@router.post("/stations/{station_id}/certificates/install")
async def install_certificate(
    station_id: str, body: InstallBody, caller: Operator, parts: P
) -> object:
    """Put a certificate into a station's trust store."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    command_id, result = await parts.certificates.install(
        station.station_id, kind=body.kind, certificate=body.certificate, by=caller.name
    )
    return answered(command_id, result, station.station_id)


@router.post("/stations/{station_id}/certificates/read")
async def read_certificates(station_id: str, body: ListBody, caller: Operator, parts: P) -> object:
    """Ask a station what it trusts and keep what it lists."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    command_id, result = await parts.certificates.read(station, kinds=body.kinds, by=caller.name)
    shown = answered(command_id, result, station.station_id)
    kept = await parts.store.read(lambda tx: certificates.list_installed(tx, station.station_id))
    return {**shown, "installed": plain(kept)}


@router.post("/stations/{station_id}/certificates/delete")
async def delete_certificate(station_id: str, body: HashBody, caller: Operator, parts: P) -> object:
    """Take a certificate out of a station's trust store, named as the station lists it."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    command_id, result = await parts.certificates.delete(
        station.station_id, named=HashData(**body.model_dump()), by=caller.name
    )
    return answered(command_id, result, station.station_id)


@router.post("/stations/{station_id}/certificates/renew")
async def renew_certificate(station_id: str, body: RenewBody, caller: Operator, parts: P) -> object:
    """Ask a station for a certificate request, which is then signed and sent."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    command_id, result = await parts.certificates.renew(
        station.station_id, kind=body.kind, by=caller.name
    )
    return answered(command_id, result, station.station_id)


@router.post("/certificates/{certificate_id}/revoke")
async def revoke_certificate(certificate_id: int, caller: Operator, parts: P) -> object:
    """Take a station's certificate back: its link ends, and it opens none any more."""
    return plain(await parts.certificates.revoke(certificate_id, by=caller.name))


@router.get("/security-events")
async def list_security_events(
    _: Viewer,
    parts: P,
    station_id: Annotated[str, Query(max_length=100)] = "",
    before: datetime | None = None,
    limit: Limit = 50,
) -> object:
    """List what stations report of their security, by the stations' own times, newest first."""
    return everything(
        await parts.store.read(
            lambda tx: certificates.list_security_events(
                tx, station_id=station_id, before=before, limit=limit
            )
        )
    )
