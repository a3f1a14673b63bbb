"""Charging profiles as a station stacks them, for OCPP 1.6, 2.0.1 and 2.1: pure.

The limit in force is the least of the station's own (ChargePointMaxProfile or
ChargingStationMaxProfile), any external constraint, and the transaction's: its TxProfile where one
covers the instant, else the TxDefaultProfile. Within a purpose the highest stack level that is
active wins; a TxDefaultProfile of the EVSE itself goes before the one for all EVSEs
(OCPP 1.6 §3.13, OCPP 2.0.1 K01). While priority charging is on, the PriorityCharging profile takes
the place of the transaction's (OCPP 2.1 K21).
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any

from simulators.clock import parse_iso
from simulators.dialect import Dialect

DAY_S = 86_400


class Purpose(StrEnum):
    """What a profile limits, in 2.0.1's words."""

    STATION_MAX = "ChargingStationMaxProfile"
    EXTERNAL = "ChargingStationExternalConstraints"
    TX_DEFAULT = "TxDefaultProfile"
    TX = "TxProfile"
    PRIORITY = "PriorityCharging"


PURPOSES = {p.value: p for p in Purpose} | {"ChargePointMaxProfile": Purpose.STATION_MAX}


class ProfileInvalid(ValueError):
    """A profile that does not have the shape the specification gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `start_s` after the schedule's start, `limit` holds, in the schedule's unit."""

    start_s: float
    limit: float
    phases: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An installed charging profile. `unit` is "A" (per phase) or "W" (all phases together)."""

    profile_id: int
    purpose: Purpose
    stack_level: int = 0
    kind: str = "Absolute"
    recurrency: str = ""
    unit: str = "A"
    periods: tuple[Period, ...]
    start_at: datetime | None = None
    duration_s: float | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    transaction_id: str | None = None
    evse_id: int = 0
    installed_at: datetime | None = None
    body: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Electrics:
    """What conversions between A and W need to know of an EVSE."""

    voltage_v: float = 230.0
    phases: int = 3
    is_dc: bool = False

    @property
    def unit(self) -> str:
        """The unit in which this EVSE obeys."""
        return "W" if self.is_dc else "A"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The limit in force in the EVSE's unit, infinite without any, until it may change."""

    limit: float = math.inf
    phases: int = 3
    until: datetime | None = None


def parsed(
    body: Mapping[str, Any], *, evse_id: int, at: datetime, dialect: Dialect | None = None
) -> Profile:
    """Return the profile in a SetChargingProfile of either version, as `dialect` reads it.

    Raises ProfileInvalid if a member is missing, of the wrong kind, or out of order.
    """
    dialect = dialect or Dialect()
    try:
        schedules = body["chargingSchedule"]
        schedule = schedules if isinstance(schedules, Mapping) else schedules[0]
        purpose = PURPOSES[body["chargingProfilePurpose"]]
        transaction = body.get("transactionId")
        profile = Profile(
            profile_id=int(
                body["chargingProfileId"] if "chargingProfileId" in body else body["id"]
            ),
            purpose=purpose,
            stack_level=int(body["stackLevel"]),
            kind=str(body["chargingProfileKind"]),
            recurrency=str(body.get("recurrencyKind", "")),
            unit=str(schedule["chargingRateUnit"]),
            periods=tuple(_period(p) for p in schedule["chargingSchedulePeriod"]),
            start_at=_start(schedule.get("startSchedule"), dialect),
            duration_s=_number(schedule.get("duration")),
            valid_from=_instant(body.get("validFrom")),
            valid_to=_instant(body.get("validTo")),
            transaction_id=None if transaction is None else str(transaction),
            evse_id=evse_id,
            installed_at=at,
            body=body,
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as exc:
        raise ProfileInvalid(f"charging profile: {type(exc).__name__} {exc}") from exc
    if profile.unit not in ("A", "W"):
        raise ProfileInvalid(f"chargingRateUnit is {profile.unit!r}; permitted: A, W")
    if profile.kind not in ("Absolute", "Recurring", "Relative", "Dynamic"):
        raise ProfileInvalid(f"chargingProfileKind is {profile.kind!r}")
    if profile.kind == "Recurring" and profile.recurrency not in ("Daily", "Weekly"):
        raise ProfileInvalid(f"recurrencyKind is {profile.recurrency!r}; permitted: Daily, Weekly")
    if profile.kind == "Dynamic" and len(profile.periods) != 1:
        raise ProfileInvalid("a Dynamic profile has one period")
    starts = [p.start_s for p in profile.periods]
    is_ordered = bool(starts) and starts[0] == 0 and all(a < b for a, b in pairwise(starts))
    if not is_ordered and not (dialect.accepts_disorder and starts):
        raise ProfileInvalid("startPeriod must begin at 0 and rise")
    if not dialect.fractions and any(p.limit != int(p.limit) for p in profile.periods):
        raise ProfileInvalid("limit: value is not a multipleOf 0.1")
    if dialect.level_error and profile.stack_level > dialect.max_stack_level:
        raise ProfileInvalid(f"stackLevel {profile.stack_level} is out of range")
    return profile


NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""When a schedule begins whose start a station cannot read."""


def _start(text: object, dialect: Dialect) -> datetime | None:
    if text is None or dialect.offset_start == "ok" or str(text).upper().endswith("Z"):
        return _instant(text)
    if dialect.offset_start == "error" or not re.search(r"[+-]\d\d:?\d\d$", str(text)):
        raise ValueError(f"startSchedule {text!r} is no time in UTC")
    return NEVER


def _period(body: Mapping[str, Any]) -> Period:
    phases = body.get("numberPhases")
    limit = float(body["limit"])
    if not 0 <= limit < math.inf:
        raise ValueError(f"limit {limit}")
    return Period(
        start_s=float(body["startPeriod"]),
        limit=limit,
        phases=None if phases is None else int(phases),
    )


def _instant(text: object) -> datetime | None:
    return None if text is None else parse_iso(str(text))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def active(
    profile: Profile, at: datetime, *, started_at: datetime | None
) -> tuple[Period | None, datetime | None]:
    """Return the period of `profile` in force at `at`, and when that may change next."""
    if profile.valid_to is not None and at >= profile.valid_to:
        return None, None
    if profile.valid_from is not None and at < profile.valid_from:
        return None, profile.valid_from
    base = profile.start_at if profile.kind != "Relative" else None
    if profile.kind == "Dynamic":
        base = profile.installed_at
    if base is None:
        # Without a start a schedule counts from the start of charging; a station's own maximum
        # has no such start and counts from when it was set.
        base = profile.installed_at if profile.purpose is Purpose.STATION_MAX else started_at
    if base is None:
        return None, None
    if at < base:
        return None, base
    cycle_s = None
    if profile.kind == "Recurring":
        cycle_s = DAY_S * (7 if profile.recurrency == "Weekly" else 1)
        base += timedelta(seconds=cycle_s * ((at - base) // timedelta(seconds=cycle_s)))
    offset_s = (at - base).total_seconds()
    ends = [e for e in (cycle_s, profile.duration_s) if e is not None]
    end_s = min(ends) if ends else None
    if end_s is not None and offset_s >= end_s:
        following = None if cycle_s is None else base + timedelta(seconds=cycle_s)
        return None, earliest(following, profile.valid_to)
    current = None
    following_s = end_s
    for period in profile.periods:
        if period.start_s > offset_s:
            following_s = period.start_s if end_s is None else min(period.start_s, end_s)
            break
        current = period
    following = None if following_s is None else base + timedelta(seconds=following_s)
    return current, earliest(following, profile.valid_to)


def earliest(*instants: datetime | None) -> datetime | None:
    """Return the first of the instants that are given."""
    return min((i for i in instants if i is not None), default=None)


def converted(limit: float, unit: str, to: str, *, phases: int | None, e: Electrics) -> float:
    """Return `limit` in the unit `to`; a missing numberPhases is 3 (OCPP 1.6 §7.14)."""
    if unit == to:
        return limit
    factor = e.voltage_v * (phases or 3)
    return limit / factor if to == "A" else limit * factor


@dataclass(slots=True)
class Installed:
    """The profiles a station holds."""

    dialect: Dialect = field(default_factory=Dialect)
    profiles: list[Profile] = field(default_factory=list)
    priority_evses: set[int] = field(default_factory=set)
    """EVSEs on which priority charging is on."""

    def refusal(
        self, profile: Profile, *, evse_ids: Iterable[int], transactions: Mapping[int, str | None]
    ) -> str | None:
        """Return why `profile` is refused, None if it may be installed.

        `transactions` holds the ongoing transaction's id by EVSE.
        """
        dialect = self.dialect
        evses = set(evse_ids)
        if profile.evse_id != 0 and profile.evse_id not in evses:
            return "UnknownEvse"
        if profile.purpose in dialect.refused_purposes:
            return "InvalidProfile"
        if profile.unit not in dialect.rate_units:
            return "UnsupportedRateUnit"
        if len(profile.periods) > dialect.max_periods:
            return "TooManyPeriods"
        if not 0 <= profile.stack_level <= dialect.max_stack_level:
            return "InvalidStackLevel"
        if profile.purpose is Purpose.STATION_MAX:
            if profile.evse_id != 0 or profile.kind == "Relative":
                return "InvalidProfile"
        elif profile.purpose is Purpose.EXTERNAL:
            return "InvalidProfile"
        elif profile.purpose is Purpose.TX:
            reason = self._tx_refusal(profile, transactions)
            if reason:
                return reason
        if dialect.strict and profile.kind == "Absolute" and profile.start_at is None:
            return "InvalidSchedule"
        holds = any(p.profile_id == profile.profile_id for p in self.profiles)
        if holds and dialect.same_id == "refuse":
            return "DuplicateProfile"
        rival = self._rival(profile)
        if rival is not None and dialect.same_level == "refuse":
            return "InvalidStackLevel"
        known = any(p.profile_id == profile.profile_id for p in self.profiles)
        if not known and rival is None and len(self.profiles) >= dialect.max_profiles:
            return "TooManyProfiles"
        return None

    def _tx_refusal(self, profile: Profile, transactions: Mapping[int, str | None]) -> str | None:
        if self.dialect.unknown_transaction == "ignore" and not self._is_known(
            profile, transactions
        ):
            return None
        if profile.evse_id not in transactions:
            return "TxNotFound"
        if profile.transaction_id is None:
            return "InvalidProfile" if self.dialect.strict else None
        return None if profile.transaction_id == transactions[profile.evse_id] else "TxNotFound"

    @staticmethod
    def _is_known(profile: Profile, transactions: Mapping[int, str | None]) -> bool:
        running = transactions.get(profile.evse_id)
        return running is not None and profile.transaction_id in (None, running)

    def _rival(self, profile: Profile) -> Profile | None:
        for other in self.profiles:
            if (
                other.profile_id != profile.profile_id
                and other.purpose is profile.purpose
                and other.stack_level == profile.stack_level
                and other.evse_id == profile.evse_id
            ):
                return other
        return None

    def install(
        self, profile: Profile, transactions: Mapping[int, str | None] | None = None
    ) -> None:
        """Keep `profile`: the same id replaces, and so does the same purpose, level and EVSE."""
        if (
            self.dialect.unknown_transaction == "ignore"
            and profile.purpose is Purpose.TX
            and transactions is not None
            and not self._is_known(profile, transactions)
        ):
            return
        rival = self._rival(profile)
        if rival is not None and self.dialect.same_level == "keep_old":
            return
        self.profiles = [
            p for p in self.profiles if p.profile_id != profile.profile_id and p is not rival
        ]
        self.profiles.append(profile)

    def clear(
        self,
        *,
        profile_id: int | None = None,
        evse_id: int | None = None,
        purpose: Purpose | None = None,
        stack_level: int | None = None,
    ) -> int:
        """Remove what matches, an id alone or all criteria together; return how many."""

        def matches(p: Profile) -> bool:
            if profile_id is not None:
                return p.profile_id == profile_id
            return (
                (evse_id is None or p.evse_id == evse_id)
                and (purpose is None or p.purpose is purpose)
                and (stack_level is None or p.stack_level == stack_level)
            )

        before = len(self.profiles)
        self.profiles = [p for p in self.profiles if not matches(p)]
        return before - len(self.profiles)

    def of_id(self, profile_id: int) -> Profile | None:
        """Return the profile of this id, None if there is none."""
        return next((p for p in self.profiles if p.profile_id == profile_id), None)

    def update(self, profile: Profile, limit: float, *, at: datetime) -> None:
        """Let another limit hold in a Dynamic profile from `at` on."""
        periods = (replace(profile.periods[0], limit=limit),)
        newer = replace(profile, periods=periods, installed_at=at)
        self.profiles = [newer if p is profile else p for p in self.profiles]

    def priority_profile(self, evse_id: int) -> Profile | None:
        """Return the PriorityCharging profile for `evse_id`, None if there is none."""
        found = [p for p in self.profiles if p.purpose is Purpose.PRIORITY]
        return next((p for p in found if p.evse_id in (evse_id, 0)), None)

    def transaction_ended(self, evse_id: int) -> None:
        """Forget the TxProfiles of the transaction that ended on `evse_id`."""
        self.priority_evses.discard(evse_id)
        self.profiles = [
            p for p in self.profiles if not (p.purpose is Purpose.TX and p.evse_id == evse_id)
        ]

    def grant(
        self,
        evse_id: int,
        at: datetime,
        *,
        started_at: datetime | None,
        electrics: Electrics,
        sharers: int = 1,
    ) -> Grant:
        """Return the limit on `evse_id` at `at`; EVSE 0 is the station as a whole.

        `sharers` EVSEs split the station's own maximum in equal parts.
        """
        unit = electrics.unit
        limit, phases = math.inf, electrics.phases
        until: datetime | None = None
        at, wakes_at = self._felt(at)
        for candidates, share in self._layers(evse_id):
            period, owner, change = self._winner(candidates, at, started_at)
            until = earliest(until, change)
            if period is None or owner is None:
                continue
            value = converted(period.limit, owner.unit, unit, phases=period.phases, e=electrics)
            limit = min(limit, value / (sharers if share else 1))
            if period.phases is not None and not share:
                phases = min(phases, period.phases)
        if self.dialect.whole_amperes and unit == "A" and limit < math.inf:
            limit = math.floor(limit + 1e-9)
        least = converted(self.dialect.least_w, "W", unit, phases=phases, e=electrics)
        if limit < least:
            limit = 0.0
        if until is not None:
            until += timedelta(seconds=self.dialect.effect_delay_s)
            if self.dialect.whole_second_clock and until.microsecond:
                until = until.replace(microsecond=0) + timedelta(seconds=1)
        return Grant(limit=limit, phases=phases, until=earliest(until, wakes_at))

    def _felt(self, at: datetime) -> tuple[datetime, datetime | None]:
        """Return the instant whose limits are felt at `at`, and when a second may change them."""
        at -= timedelta(seconds=self.dialect.effect_delay_s)
        if not self.dialect.whole_second_clock or not at.microsecond:
            return at, None
        whole = at.replace(microsecond=0)
        return whole, whole + timedelta(seconds=1 + self.dialect.effect_delay_s)

    def _layers(self, evse_id: int) -> list[tuple[list[list[Profile]], bool]]:
        """The independent layers; in each, groups in the order in which they take precedence."""

        def of(purpose: Purpose, evse: int) -> list[Profile]:
            found = [p for p in self.profiles if p.purpose is purpose and p.evse_id == evse]
            return sorted(found, key=lambda p: -p.stack_level)

        whole: list[tuple[list[list[Profile]], bool]] = [
            ([of(Purpose.STATION_MAX, 0)], True),
            ([of(Purpose.EXTERNAL, 0)], True),
        ]
        if evse_id == 0:
            return whole
        if self.dialect.cascade == "max_only":
            return whole
        if self.dialect.cascade == "tx_only":
            return [([of(Purpose.TX, evse_id)], False)]
        own = [
            of(Purpose.TX, evse_id),
            of(Purpose.TX_DEFAULT, evse_id),
            of(Purpose.TX_DEFAULT, 0),
        ]
        if evse_id in self.priority_evses:
            own = [of(Purpose.PRIORITY, evse_id), of(Purpose.PRIORITY, 0), *own]
        return [*whole, (own, False)]

    @staticmethod
    def _winner(
        groups: list[list[Profile]], at: datetime, started_at: datetime | None
    ) -> tuple[Period | None, Profile | None, datetime | None]:
        until: datetime | None = None
        for group in groups:
            for profile in group:
                period, change = active(profile, at, started_at=started_at)
                until = earliest(until, change)
                if period is not None:
                    return period, profile, until
        return None, None, until

    def composite(
        self,
        evse_id: int,
        start: datetime,
        duration_s: float,
        *,
        started_at: datetime | None,
        electrics: Electrics,
        unlimited: float,
        sharers: int = 1,
    ) -> list[Period]:
        """Return the limits over [start, start + duration_s) in the EVSE's unit.

        `unlimited` stands where no profile limits; equal neighbours are merged.
        """
        periods: list[Period] = []
        at, end = start, start + timedelta(seconds=duration_s)
        while at < end:
            grant = self.grant(
                evse_id, at, started_at=started_at, electrics=electrics, sharers=sharers
            )
            period = Period(
                start_s=(at - start).total_seconds(),
                limit=min(grant.limit, unlimited),
                phases=grant.phases,
            )
            if not periods or replace(period, start_s=periods[-1].start_s) != periods[-1]:
                periods.append(period)
            if grant.until is None:
                break
            at = grant.until
        return periods
