"""Answers what stations report about themselves: their model, monitors, events and jobs."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from csms.core.device import (
    AvailabilityFact,
    Fact,
    Kind,
    MonitorClearedFact,
    MonitorFact,
    StationEvent,
    VariableFact,
)
from csms.core.device_messages import (
    CustomerReported,
    EventsReported,
    JobReported,
    MonitorsReported,
    VariablesReported,
)
from csms.core.messages import Noted, StatusChanged
from csms.service import requests
from csms.service.clocks import corrected, heard
from csms.service.states import keep_state
from csms.store import alerts, device_model, journal, stations
from csms.store.database import Store
from csms.store.statements import Tx

_STATE = "AvailabilityState"
_PLACES = frozenset({"Connector", "EVSE", "ChargingStation"})


class DeviceDesk:
    """Keeps what stations report about themselves.

    `job_moved` is called with the key of each job that has news.
    """

    def __init__(
        self,
        *,
        store: Store,
        job_moved: Callable[[int], None],
    ) -> None:
        self.store = store
        self.job_moved = job_moved

    async def variables(self, report: VariablesReported) -> Noted:
        """Merge a part of a report into the station's model, whoever asked for it."""

        def work(tx: Tx) -> None:
            self._heard(tx, report, report.generated_at)
            journal.add_record(tx, report)
            content = json.dumps([asdict(a) for a in report.attributes])
            requests.part_arrived(tx, report, Kind.REPORT, content)
            device_model.put_attributes(
                tx, report.station_id, report.attributes, at=report.received_at
            )

        await self.store.write(work)
        return Noted()

    async def monitors(self, report: MonitorsReported) -> Noted:
        """Merge a part of a monitoring report into what is known of the station's monitors."""

        def work(tx: Tx) -> None:
            self._heard(tx, report, report.generated_at)
            journal.add_record(tx, report)
            content = json.dumps([asdict(m) for m in report.monitors])
            requests.part_arrived(tx, report, Kind.MONITORS, content)
            device_model.put_monitors(tx, report.station_id, report.monitors, at=report.received_at)

        await self.store.write(work)
        return Noted()

    async def customer(self, report: CustomerReported) -> Noted:
        """Keep what a station holds of a customer with its request, and nowhere else."""
        await self.store.write(
            lambda tx: requests.part_arrived(tx, report, Kind.CUSTOMER, report.data)
        )
        return Noted()

    async def job(self, report: JobReported) -> Noted:
        """Move a firmware, log or publishing job on."""

        def work(tx: Tx) -> int | None:
            journal.add_record(tx, report)
            return requests.progressed(tx, report)

        key = await self.store.write(work)
        if key is not None:
            self.job_moved(key)
        return Noted()

    async def events(self, report: EventsReported) -> bool:
        """Keep events with their three times; open and close the alerts they are about.

        Returns whether they told of an EVSE that nobody knew.
        """

        def work(tx: Tx) -> bool:
            offset_s = self._heard(tx, report, report.generated_at)
            journal.add_record(tx, report)
            severities = device_model.severities(tx, report.station_id)
            site_id = stations.site_id_of_station(tx, report.station_id)
            is_new_evse = False
            for event in report.events:
                at = corrected(event.at, offset_s=offset_s, received_at=report.received_at)
                severity = severities.get(event.monitor_id or 0)
                is_new = alerts.add_event(
                    tx,
                    report.station_id,
                    event,
                    corrected_at=at,
                    received_at=report.received_at,
                    severity=severity,
                )
                if not is_new:
                    continue
                if event.name.variable == _STATE and event.name.component in _PLACES:
                    is_new_evse |= self._state(tx, report, event)
                else:
                    _alert(tx, site_id, report.station_id, event, at=at, severity=severity)
            return is_new_evse

        return await self.store.write(work)

    def _heard(self, tx: Tx, report: Any, generated_at: datetime) -> float:
        return heard(
            tx,
            report.station_id,
            link_id=report.link_id,
            at=generated_at,
            received_at=report.received_at,
        )

    def _state(self, tx: Tx, report: EventsReported, event: StationEvent) -> bool:
        kept = keep_state(
            tx,
            StatusChanged(
                station_id=report.station_id,
                link_id=report.link_id,
                received_at=report.received_at,
                at=event.at,
                evse_id=event.name.evse_id,
                connector_id=event.name.connector_id or 1,
                status=event.actual_value,
                info=event.tech_info,
            ),
            source="NotifyEvent",
        )
        return kept.is_new_evse


def _alert(
    tx: Tx,
    site_id: str,
    station_id: str,
    event: StationEvent,
    *,
    at: datetime,
    severity: int | None,
) -> None:
    """Open or close the alert on what `event` is about.

    A variable named Problem says by its value whether there is one; anything else is a problem
    while a monitor alerts (2.0.1 N07), until the same is said to be cleared.
    """
    name = event.name
    place: dict[str, Any] = {
        "station_id": station_id,
        "evse_id": name.evse_id,
        "connector_id": name.connector_id,
        "subject": f"{name.component}.{name.variable}",
        "at": at,
    }
    is_problem = name.variable == "Problem"
    is_over = event.is_cleared or (is_problem and event.actual_value.lower() == "false")
    if is_over:
        alerts.close_alert(tx, **place)
    elif event.trigger == "Alerting" or is_problem:
        words = (event.actual_value, event.tech_code, event.tech_info)
        alerts.open_alert(
            tx,
            site_id=site_id,
            detail=" ".join(word for word in words if word),
            severity=severity,
            event_id=event.event_id,
            cause_id=event.cause_id,
            **place,
        )


def keep_fact(tx: Tx, station_id: str, fact: Fact, *, by: str, at: datetime) -> None:
    """Keep what a call of ours and its answer said together."""
    match fact:
        case VariableFact():
            device_model.put_fact(tx, station_id, fact, at=at)
        case AvailabilityFact():
            device_model.put_availability(tx, station_id, fact, by=by, at=at)
        case MonitorFact() if fact.status == "Accepted":
            device_model.put_monitors(tx, station_id, [fact.monitor], at=at)
        case MonitorClearedFact() if fact.status in ("Accepted", "NotFound"):
            device_model.delete_monitor(tx, station_id, fact.monitor_id)
