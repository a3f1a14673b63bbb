"""Smart charging's own reports and commands: schedules and limits beyond those we set.

They are kinds of csms.core.messages' Report and Command, in a module of their own for size.
"""

from dataclasses import dataclass
from datetime import datetime

from csms.core.commands import Command, Schedule, SchedulePeriod
from csms.core.messages import NeedReply, Noted, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleProposed(Report[NeedReply]):
    """NotifyEVChargingSchedule: how the car means to use its profile, offsets from `starts_at`."""

    evse_id: int
    starts_at: datetime
    unit: str
    duration_s: int | None
    periods: tuple[SchedulePeriod, ...]
    payload: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilesReported(Report[Noted]):
    """ReportChargingProfiles: one page of the profiles an EVSE holds, in OCPP shape as JSON.

    `source` is who set them (CSO is us). `request_id` is that of the question.
    """

    request_id: int
    evse_id: int
    source: str
    profiles: tuple[str, ...]
    is_last: bool
    payload: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitNotified(Report[Noted]):
    """NotifyChargingLimit and ClearedChargingLimit: somebody else limits an EVSE, 0 the station.

    `schedules` are theirs, empty where the station does not tell them; None when the limit of
    `source` is lifted.
    """

    evse_id: int
    source: str
    is_grid_critical: bool = False
    schedules: tuple[Schedule, ...] | None = None
    payload: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadComposite(Command):
    """Ask for the limit in force on an EVSE over time; the answer is CommandResult.composite."""

    evse_id: int
    duration_s: int
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProfiles(Command):
    """Ask for all profiles a station holds, whoever set them; they come as ProfilesReported.

    `number` is that of the question, which each page repeats.
    """

    number: int
