"""One state per connector, whatever message tells it: StatusNotification, or NotifyEvent on its
AvailabilityState. The newest by the station's time counts, the later received breaks ties."""

from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from csms.core.messages import StatusChanged
from csms.core.model import Evse
from csms.service import remote
from csms.service.clocks import corrected, heard
from csms.store import alerts, bounds, device_model, stations, tables
from csms.store.device_model import ConnectorState
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

UNKNOWN_EVSE_KW = 22.0
"""What an EVSE that nobody described is taken to deliver: the most an AC socket usually does."""

_INOPERATIVE = frozenset({"Unavailable", "Faulted"})
_NO_ERROR = frozenset({"", "NoError"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of a state: whether it is the newest, and whether its EVSE was unknown."""

    is_newest: bool
    is_new_evse: bool


def keep_state(tx: Tx, report: StatusChanged, *, source: str = "StatusNotification") -> Kept:
    """Keep what a connector says of itself, and what follows for alerts and for what was asked."""
    offset_s = heard(
        tx,
        report.station_id,
        link_id=report.link_id,
        at=report.at,
        received_at=report.received_at,
    )
    at = corrected(report.at, offset_s=offset_s, received_at=report.received_at)
    before = stations.get_evse(tx, report.station_id, report.evse_id)
    if before is None and not bounds.has_room(
        tx, tables.evse, report.station_id, most=bounds.MAX_EVSES
    ):
        # Each EVSE takes a share of the site's power from all others.
        log.warning("too many EVSEs", station_id=report.station_id, evse_id=report.evse_id)
        return Kept(is_newest=False, is_new_evse=False)
    is_newest = device_model.newest_state(
        tx,
        ConnectorState(
            station_id=report.station_id,
            evse_id=report.evse_id,
            connector_id=report.connector_id,
            status=report.status,
            source=source,
            at=report.at,
            corrected_at=at,
            received_at=report.received_at,
            order_at=at,
        ),
    )
    if is_newest:
        others = stations.evses_of_station(tx, report.station_id)
        model = others[0] if others else Evse(station_id="", evse_id=1, max_kw=UNKNOWN_EVSE_KW)
        default = replace(
            model, station_id=report.station_id, evse_id=report.evse_id, guard_kw=None
        )
        stations.set_status(tx, replace(report, at=at), default=default)
        _follow(tx, report, at)
        remote.freed(tx, report, was="" if before is None else before.status)
    return Kept(is_newest=is_newest, is_new_evse=bool(report.evse_id) and before is None)


def _follow(tx: Tx, report: StatusChanged, at: datetime) -> None:
    if report.evse_id:
        device_model.settle_availability(
            tx,
            report.station_id,
            report.evse_id,
            is_operative=report.status not in _INOPERATIVE,
        )
    place = {"evse_id": report.evse_id, "connector_id": report.connector_id}
    code = report.error_code
    is_fault = report.status == "Faulted" or code not in _NO_ERROR
    subject = f"Status.{code if code not in _NO_ERROR else 'Faulted'}"
    if not is_fault:
        alerts.close_alerts_like(tx, station_id=report.station_id, prefix="Status.", at=at, **place)
        return
    words = (report.status, report.info, report.vendor_error_code)
    alerts.open_alert(
        tx,
        site_id=stations.site_id_of_station(tx, report.station_id),
        station_id=report.station_id,
        subject=subject,
        detail=" ".join(word for word in words if word),
        at=at,
        **place,
    )
