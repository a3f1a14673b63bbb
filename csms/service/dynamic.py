"""What OCPP 2.1 adds to smart charging: dynamic profiles that ask, and priority charging.

A pull is answered from the schedule that is in force, never by planning: five hundred stations may
ask in one second, and each limit was counted by the site when it was accepted.
"""

from dataclasses import dataclass
from datetime import timedelta

from csms.clock import Clock
from csms.core.commands import CommandResult, Schedule, SchedulePeriod, SetPriority
from csms.core.errors import Conflict, InvalidInput
from csms.core.messages import DynamicPulled, DynamicReply
from csms.core.model import Evse, OcppVersion, Site, Station
from csms.core.terms import Abilities
from csms.core.units import a_from_w, floor_to
from csms.planning.dynamic import limit_at
from csms.service.cases import priority_kw
from csms.service.devices import Devices
from csms.store import plans, stations, terms
from csms.store.database import Store
from csms.store.statements import Tx

PRIORITY_PROFILE_ID = 950_000
"""Our PriorityCharging profiles: this plus the EVSE, between the guards' ids and the plans'."""

PRIORITY = "PriorityCharging"
MIN_EVERY_S, MAX_EVERY_S = 5, 900
_PAST = timedelta(seconds=2)


@dataclass(slots=True)
class Dynamics:
    """Answers stations that ask for their limit; gives those that know priority its profile."""

    store: Store
    clock: Clock
    devices: Devices

    async def pulled(self, report: DynamicPulled) -> DynamicReply:
        """Return the limit of now of a dynamic profile of ours, None for any other."""
        found = await self.store.read(
            lambda tx: plans.running_schedule(tx, report.station_id, report.profile_id)
        )
        if found is None or found.schedule.update_every_s is None:
            return DynamicReply()
        return DynamicReply(limit=limit_at(found.schedule, report.received_at).limit)

    async def settle(self, station_id: str) -> None:
        """Give each EVSE of a station that knows priority charging the profile for it."""
        loaded = await self.store.read(lambda tx: _load(tx, station_id))
        if loaded is None:
            return
        station, site, evses, able = loaded
        is_ours = self.devices.automation and station.automation
        if not (is_ours and station.limits.supports_profiles and PRIORITY in able):
            return
        for evse in evses:
            await self._set_priority(station, site, evse)

    async def _set_priority(self, station: Station, site: Site, evse: Evse) -> CommandResult:
        power_w = priority_kw(evse, site) * 1000.0
        units = ("W", "A") if evse.current_type == "DC" else station.limits.units
        unit = next((u for u in units if u in station.limits.units), station.limits.units[0])
        if unit == "A":
            current_a = a_from_w(power_w, phases=evse.phases, voltage_v=site.voltage_v)
            limit = floor_to(current_a, max(station.limits.step_a, 0.1))
        else:
            limit = floor_to(power_w, max(station.limits.step_w, 1.0))
        schedule = Schedule(
            profile_id=PRIORITY_PROFILE_ID + evse.evse_id,
            stack_level=0,
            unit=unit,
            starts_at=(self.clock.now() - _PAST).replace(microsecond=0),
            duration_s=None,
            periods=(
                SchedulePeriod(start_s=0, limit=limit, phases=evse.phases if unit == "W" else None),
            ),
        )
        command = SetPriority(
            station_id=station.station_id, evse_id=evse.evse_id, schedule=schedule
        )
        _, result = await self.devices.run(command, asked_by="tasco")
        return result

    async def switch(self, station_id: str, *, every_s: int) -> Station:
        """Send a station dynamic profiles, asked for every `every_s`, or with 0 whole schedules.

        Raises InvalidInput for an interval that is none, Conflict for a station that cannot.
        """
        if every_s and not MIN_EVERY_S <= every_s <= MAX_EVERY_S:
            raise InvalidInput(
                f"every_s is {every_s}; it must be 0, or from {MIN_EVERY_S} to {MAX_EVERY_S}"
            )

        def work(tx: Tx) -> Station:
            station = stations.get_station(tx, station_id)
            able = terms.abilities(tx, station.station_id)
            is_able = station.version is OcppVersion.V21 and able.dynamic_profiles
            if every_s and not is_able:
                raise Conflict(f"station {station.station_id} knows no dynamic profiles")
            stations.set_dynamic(tx, station.station_id, every_s=every_s)
            return stations.get_station(tx, station.station_id)

        return await self.store.write(work)


def _load(tx: Tx, station_id: str) -> tuple[Station, Site, tuple[Evse, ...], frozenset[str]] | None:
    station = stations.find_station(tx, station_id)
    if station is None or station.version is not OcppVersion.V21:
        return None
    able: Abilities = terms.abilities(tx, station.station_id)
    return (
        station,
        stations.get_site(tx, station.site_id),
        tuple(stations.evses_of_station(tx, station.station_id)),
        able.additional_purposes,
    )
