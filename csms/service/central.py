"""The centre's end of the bus: each report goes to its desk, and is answered by one reply."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from csms.core.device import Kind
from csms.core.device_messages import (
    CustomerReported,
    EventsReported,
    JobReported,
    MonitorsReported,
    VariablesReported,
)
from csms.core.messages import (
    BootReply,
    CommandAnswered,
    DynamicPulled,
    LinkClosed,
    LinkOffered,
    MeterReported,
    NeedReported,
    Noted,
    Notice,
    PriorityChanged,
    RecordReceived,
    Report,
    SecurityNoticed,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
    StationBooted,
    StationSeen,
    StatusChanged,
    TokenPresented,
    VendorMessage,
    VendorReply,
)
from csms.core.model import OcppVersion
from csms.core.security_messages import (
    CertificateAsked,
    ContractAsked,
    SecurityEventReported,
    StatusAsked,
)
from csms.core.smart import LimitNotified, ProfilesReported, ScheduleProposed
from csms.service.aftercare import Aftercare
from csms.service.authorization import Authorizer
from csms.service.background import Background
from csms.service.certificates import Certificates
from csms.service.charging import Charging
from csms.service.contracts import Contracts
from csms.service.device_desk import DeviceDesk
from csms.service.devices import Devices
from csms.service.display_messages import DisplayMessages
from csms.service.dynamic import Dynamics
from csms.service.links import LinkDesk
from csms.service.needs import Needs
from csms.service.outside_desk import OutsideDesk
from csms.service.read_back import ReadBack
from csms.service.reservations import Reservations, is_out_of_order
from csms.service.settling import Due, Settling
from csms.service.silence import Silence
from csms.service.terms import TermsDesk
from csms.service.waiting import WaitingRoom
from csms.store import journal, stations
from csms.store.database import Store
from csms.store.statements import Tx

R = TypeVar("R", covariant=True)

_KNOWN_LINKS = 50_000
_OF_NO_LINK = frozenset({LinkOffered, LinkClosed, SecurityNoticed})
"""Reports that do not say that a station speaks."""


class Central:
    """Answers every report; what follows from one happens after its answer, in the background."""

    def __init__(
        self,
        *,
        store: Store,
        links: LinkDesk,
        authorizer: Authorizer,
        charging: Charging,
        devices: Devices,
        device_desk: DeviceDesk,
        silence: Silence,
        waiting: WaitingRoom,
        reservations: Reservations,
        displays: DisplayMessages,
        terms: TermsDesk,
        aftercare: Aftercare,
        dynamics: Dynamics,
        read_back: ReadBack,
        certificates: Certificates,
        contracts: Contracts,
        background: Background,
        touch: Callable[[str, str], None],
        notify: Callable[[Notice], None],
    ) -> None:
        self.store = store
        self.links = links
        self.devices = devices
        self.device_desk = device_desk
        self.silence = silence
        self.waiting = waiting
        self.reservations = reservations
        self.terms = terms
        self.aftercare = aftercare
        self.dynamics = dynamics
        self.read_back = read_back
        self.certificates = certificates
        self.contracts = contracts
        self.background = background
        self.touch = touch
        self.notify = notify
        self.settling = Settling(self._settle, background)
        self._up: OrderedDict[str, int] = OrderedDict()
        needs = Needs(store=store, changed=charging.changed, automation=devices.automation)
        outside = OutsideDesk(store=store, touch=touch, page_came=read_back.page_came)
        desks: dict[type[Report[Any]], Callable[[Any], Awaitable[Any]]] = {
            LinkOffered: links.offered,
            LinkClosed: self._closed,
            SecurityNoticed: links.noticed,
            CertificateAsked: certificates.asked,
            StatusAsked: contracts.asked,
            ContractAsked: contracts.requested,
            SecurityEventReported: certificates.security_event,
            StationSeen: links.seen,
            StationBooted: self._booted,
            StatusChanged: self._status_changed,
            TokenPresented: lambda report: terms.presented(report, authorizer.presented),
            SessionStarted: charging.reported,
            SessionUpdated: charging.reported,
            SessionEnded: charging.reported,
            MeterReported: charging.metered,
            NeedReported: lambda report: terms.need_reported(report, needs.reported),
            ScheduleProposed: needs.proposed,
            ProfilesReported: outside.profiles_reported,
            LimitNotified: outside.limit_notified,
            PriorityChanged: terms.priority_changed,
            DynamicPulled: dynamics.pulled,
            VendorMessage: self._vendor,
            RecordReceived: self._record,
            CommandAnswered: waiting.answered,
            VariablesReported: device_desk.variables,
            MonitorsReported: device_desk.monitors,
            CustomerReported: device_desk.customer,
            JobReported: self._job,
            EventsReported: self._device_events,
        }
        self._keepers: Mapping[str, Callable[[Tx, RecordReceived], None]] = {
            "NotifyDisplayMessages": displays.reported,
            "ReservationStatusUpdate": reservations.updated,
            "NotifySettlement": terms.settled,
            "NotifyDERAlarm": terms.grid_alarm,
        }
        self._desks: Mapping[type[Report[Any]], Callable[[Any], Awaitable[Any]]] = desks

    async def handle(self, report: Report[R]) -> R:
        """Answer `report`; raises StoreUnavailable when it could not be recorded."""
        reply = await self._desks[type(report)](report)
        if type(report) not in _OF_NO_LINK:
            self._is_up(report)
            self.silence.heard_at[report.station_id] = report.received_at
            if self.silence.silent and report.station_id in self.silence.silent:
                await self._heard_again(report.station_id)
        return cast(R, reply)

    def _is_up(self, report: Report[Any]) -> None:
        """Settle a station on the first report of each link; a reconnect brings no boot."""
        station_id = report.station_id
        if self._up.get(station_id) == report.link_id:
            return
        self._up[station_id] = report.link_id
        self._up.move_to_end(station_id)
        while len(self._up) > _KNOWN_LINKS:
            self._up.popitem(last=False)
        if not isinstance(report, StationBooted):
            self._came_up(station_id, "station back", is_new=False)

    def _came_up(self, station_id: str, why: str, *, is_new: bool) -> None:
        site_id = self.links.site_ids.get(station_id, "")
        self.settling.came_up(station_id, why, is_new=is_new, site_id=site_id)

    async def _settle(self, station_id: str, due: Due) -> None:
        station = await self.devices.settle(station_id, is_new=due.is_new)
        if station.version is OcppVersion.V21:
            await self.terms.settle(station_id)
            await self.dynamics.settle(station_id)
        await self.waiting.send(station_id)
        if station.version is not OcppVersion.V16:
            await self.aftercare.station_up(station_id)
        self.read_back.came_up(station_id)
        await self.certificates.station_up(station_id)
        self.touch(station.site_id, due.why)

    async def _booted(self, report: StationBooted) -> BootReply:
        reply = await self.links.booted(report)
        if reply.status == "Accepted":
            self._came_up(report.station_id, "station booted", is_new=True)
        await self._show(report.station_id, "station", {"event": "booted"})
        return reply

    async def _status_changed(self, report: StatusChanged) -> Noted:
        is_new = await self.links.status_changed(report)
        if is_new:
            self._came_up(report.station_id, "new EVSE", is_new=True)
        if is_out_of_order(report):
            self.background.start(
                f"reservations of {report.station_id} {report.evse_id}",
                lambda: self.reservations.give_up(report),
            )
        await self._show(
            report.station_id, "station", {"evse_id": report.evse_id, "status": report.status}
        )
        return Noted()

    async def _device_events(self, report: EventsReported) -> Noted:
        if await self.device_desk.events(report):
            self._came_up(report.station_id, "new EVSE", is_new=True)
        await self._show(report.station_id, "station", {"event": "device event"})
        return Noted()

    async def look_for_silence(self) -> None:
        """Show stations that say nothing any more as offline, and plan without them."""
        for station in await self.silence.look():
            self.touch(station.site_id, "station silent")
            await self._show(station.station_id, "station", {"event": "silent"})

    async def _heard_again(self, station_id: str) -> None:
        station = await self.silence.heard_again(station_id)
        if station is not None:
            self.touch(station.site_id, "station heard again")
            await self._show(station_id, "station", {"event": "heard again"})

    async def _closed(self, report: LinkClosed) -> Noted:
        was_current = await self.links.closed(report)
        if was_current:
            self._up.pop(report.station_id, None)
            self.silence.gone(report.station_id)
            self.read_back.gone(report.station_id)
            self.touch(await self._site_of(report.station_id), "station away")
            await self._show(report.station_id, "station", {"event": "away"})
            self.links.site_ids.pop(report.station_id, None)
        return Noted()

    async def _vendor(self, report: VendorMessage) -> VendorReply:
        """Keep a DataTransfer; no vendor's messages are understood yet, and it is told so."""
        reply = VendorReply(status="UnknownVendorId")
        await self.store.write(
            lambda tx: journal.add_vendor_message(tx, report, status=reply.status)
        )
        return reply

    async def _record(self, report: RecordReceived) -> Noted:
        keeper = self._keepers.get(report.action)

        def work(tx: Tx) -> None:
            journal.add_record(tx, report)
            if keeper is not None:
                keeper(tx, report)

        await self.store.write(work)
        return Noted()

    async def _job(self, report: JobReported) -> Noted:
        """Move a job on; a firmware update takes EVSEs out of service, which plans know."""
        noted = await self.device_desk.job(report)
        if report.kind is Kind.FIRMWARE:
            self.touch(await self._site_of(report.station_id), "firmware update")
        return noted

    async def _site_of(self, station_id: str) -> str:
        """Return the station's site, looked up once per link; "" if it is not registered."""
        site_id = self.links.site_ids.get(station_id)
        if site_id is None:
            site_id = await self.store.read(lambda tx: stations.site_id_of_station(tx, station_id))
            self.links.site_ids[station_id] = site_id
        return site_id

    async def _show(self, station_id: str, kind: str, detail: Mapping[str, object]) -> None:
        self.notify(
            Notice(
                kind=kind,
                site_id=await self._site_of(station_id),
                at=self.links.clock.now(),
                detail={"station_id": station_id, **detail},
            )
        )
