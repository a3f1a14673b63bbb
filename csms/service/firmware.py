"""Firmware jobs: one per station, each with the states its station reports."""

from dataclasses import dataclass
from datetime import datetime

from csms.clock import Clock
from csms.core.commands import Command, CommandResult
from csms.core.device import Kind
from csms.core.device_messages import PublishFirmware, UpdateFirmware
from csms.core.errors import InvalidInput
from csms.service.asking import Asking
from csms.service.locations import LocationPolicy, masked_location
from csms.store.requests import DeviceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareOrder:
    """What a station is to install; without `retrieve_at` it fetches at once."""

    location: str
    retrieve_at: datetime | None = None
    install_at: datetime | None = None
    signing_certificate: str = ""
    signature: str = ""
    retries: int | None = None
    retry_interval_s: int | None = None


@dataclass(slots=True)
class Firmware:
    """Sends stations to their firmware."""

    asking: Asking
    policy: LocationPolicy
    clock: Clock

    async def check(self, order: FirmwareOrder) -> None:
        """Raise InvalidInput if nobody should be sent to this image."""
        await self.policy.check(order.location)
        if bool(order.signature) is not bool(order.signing_certificate):
            raise InvalidInput("signature and signing_certificate belong together")

    async def update(
        self, station_id: str, order: FirmwareOrder, *, by: str, bulk_id: int | None = None
    ) -> tuple[DeviceRequest, CommandResult]:
        """Let a station update its firmware; raise InvalidInput for a URL that is not allowed."""
        await self.check(order)
        retrieve_at = order.retrieve_at or self.clock.now()

        def build(request_id: int) -> Command:
            return UpdateFirmware(
                station_id=station_id,
                request_id=request_id,
                location=order.location,
                retrieve_at=retrieve_at,
                install_at=order.install_at,
                signing_certificate=order.signing_certificate,
                signature=order.signature,
                retries=order.retries,
                retry_interval_s=order.retry_interval_s,
            )

        detail: dict[str, object] = {
            "location": masked_location(order.location),
            "retrieve_at": retrieve_at.isoformat(),
            "is_signed": bool(order.signature),
        }
        if order.install_at is not None:
            detail["install_at"] = order.install_at.isoformat()
        return await self.asking.ask(
            station_id, Kind.FIRMWARE, build, detail=detail, by=by, bulk_id=bulk_id
        )

    async def publish(
        self, station_id: str, *, location: str, checksum: str, by: str
    ) -> tuple[DeviceRequest, CommandResult]:
        """Let a local controller offer an image to its stations."""
        await self.policy.check(location)

        def build(request_id: int) -> Command:
            return PublishFirmware(
                station_id=station_id, request_id=request_id, location=location, checksum=checksum
            )

        detail = {"location": masked_location(location), "checksum": checksum}
        return await self.asking.ask(station_id, Kind.PUBLISH, build, detail=detail, by=by)
