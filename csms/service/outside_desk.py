"""What stations report of profiles and limits: kept, shown, and taken into the plan.

Profiles of others are kept apart from ours and are never cleared by us.
"""

from collections.abc import Callable

from csms.core.messages import Noted
from csms.core.model import Event
from csms.core.smart import LimitNotified, ProfilesReported
from csms.service.outside import EXTERNAL
from csms.store import journal, reported, stations
from csms.store.database import Store
from csms.store.statements import Tx


class OutsideDesk:
    """Answers ReportChargingProfiles, NotifyChargingLimit and ClearedChargingLimit."""

    def __init__(
        self,
        *,
        store: Store,
        touch: Callable[[str, str], None],
        page_came: Callable[[ProfilesReported], None],
    ) -> None:
        """`page_came` hears of each page of a report once it is stored."""
        self.store = store
        self.touch = touch
        self.page_came = page_came

    async def profiles_reported(self, report: ProfilesReported) -> Noted:
        """Keep one page of the profiles that a station holds."""

        def work(tx: Tx) -> str:
            journal.add_raw_record(
                tx, report, action="ReportChargingProfiles", payload=report.payload
            )
            reported.put_profiles(tx, report)
            return stations.site_id_of_station(tx, report.station_id)

        site_id = await self.store.write(work)
        self.page_came(report)
        if any(EXTERNAL in profile for profile in report.profiles):
            self.touch(site_id, "others limit a station")
        return Noted()

    async def limit_notified(self, report: LimitNotified) -> Noted:
        """Keep what somebody else limits, or that it is over; the site is planned again."""
        is_over = report.schedules is None
        action = "ClearedChargingLimit" if is_over else "NotifyChargingLimit"

        def work(tx: Tx) -> str:
            journal.add_raw_record(tx, report, action=action, payload=report.payload)
            reported.put_limit(tx, report)
            site_id = stations.site_id_of_station(tx, report.station_id)
            journal.add_event(
                tx,
                Event(
                    at=report.received_at,
                    kind="outside limit lifted" if is_over else "outside limit",
                    level="warning" if report.is_grid_critical else "info",
                    site_id=site_id,
                    station_id=report.station_id,
                    detail={"evse_id": report.evse_id, "source": report.source},
                ),
            )
            return site_id

        self.touch(await self.store.write(work), action)
        return Noted()
