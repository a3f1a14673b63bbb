"""Boots: what a station says of itself each time, which firmware it has had, whether it loops."""

from datetime import timedelta

from csms.core.messages import StationBooted
from csms.core.model import Event, Station
from csms.store import alerts, boots, device_model, journal, stations
from csms.store.boots import Boot
from csms.store.statements import Tx

LOOP_BOOTS = 5
LOOP_WITHIN = timedelta(minutes=10)
"""A station that boots this often within this time is shown as looping."""
_LOOP = "Boot.Loop"


def keep_boot(tx: Tx, report: StationBooted, *, before: Station) -> Station:
    """Keep a boot and what it tells; return the station, which was as `before` until then.

    A boot begins the order of connector states anew: what the station says next counts, whatever
    its clock showed before.
    """
    station = stations.boot(tx, report, before=before)
    boots.add_boot(
        tx,
        report.station_id,
        Boot(
            at=report.received_at,
            reason=report.reason,
            firmware_version=report.firmware_version,
            status=station.registration,
        ),
    )
    device_model.reset_order(tx, report.station_id)
    if before.firmware_version and before.firmware_version != report.firmware_version:
        journal.add_event(
            tx,
            Event(
                at=report.received_at,
                kind="firmware changed",
                site_id=station.site_id,
                station_id=station.station_id,
                detail={"from": before.firmware_version, "to": report.firmware_version},
            ),
        )
    _note_loop(tx, station, report)
    return station


def _note_loop(tx: Tx, station: Station, report: StationBooted) -> None:
    at = report.received_at
    count = boots.boots_since(tx, station.station_id, at - LOOP_WITHIN)
    if count < LOOP_BOOTS:
        if count == 1:
            alerts.close_alert(tx, station_id=station.station_id, subject=_LOOP, at=at)
        return
    alerts.open_alert(
        tx,
        site_id=station.site_id,
        station_id=station.station_id,
        subject=_LOOP,
        detail=f"{count} boots within {LOOP_WITHIN.total_seconds() / 60:g} minutes",
        at=at,
    )
