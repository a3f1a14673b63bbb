"""What keeps stations in order, as one part: reports about themselves, firmware, logs, bulk."""

from dataclasses import dataclass

from csms.clock import Clock
from csms.core.commands import Trigger
from csms.core.model import Station
from csms.service.asking import Asking
from csms.service.background import Background
from csms.service.bulk import BulkRunner
from csms.service.device_desk import DeviceDesk
from csms.service.devices import Devices
from csms.service.firmware import Firmware
from csms.service.locations import LocationPolicy
from csms.service.logs import Logs, UploadOptions
from csms.service.silence import Silence
from csms.service.waiting import WaitingRoom
from csms.store.database import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """The services around a station as a device."""

    asking: Asking
    desk: DeviceDesk
    firmware: Firmware
    logs: Logs
    bulk: BulkRunner
    silence: Silence

    async def invite(self, station: Station) -> None:
        """Ask a station that was just approved to boot; not where hands are off it."""
        devices = self.asking.devices
        if devices.automation and station.automation:
            command = Trigger(station_id=station.station_id, message="BootNotification", wait_s=0.0)
            await devices.run(command, asked_by="tasco")


def care_for(
    *,
    store: Store,
    devices: Devices,
    clock: Clock,
    waiting: WaitingRoom,
    background: Background,
    policy: LocationPolicy,
    uploads: UploadOptions,
) -> Care:
    """Return the services, wired, and watching every command of `devices`."""
    asking = Asking(store=store, devices=devices, clock=clock)
    devices.watchers.append(asking)
    firmware = Firmware(asking=asking, policy=policy, clock=clock)
    logs = Logs(store=store, clock=clock, asking=asking, policy=policy, options=uploads)
    bulk = BulkRunner(
        store=store,
        clock=clock,
        devices=devices,
        firmware=firmware,
        logs=logs,
        waiting=waiting,
        background=background,
    )
    return Care(
        asking=asking,
        desk=DeviceDesk(store=store, job_moved=bulk.job_moved),
        firmware=firmware,
        logs=logs,
        bulk=bulk,
        silence=Silence(store=store, clock=clock),
    )
