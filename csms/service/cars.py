"""One car on a site: what is known of it, what it can take, what its station lets it have now."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from math import inf, isfinite

from csms.core.commands import Schedule
from csms.core.model import Evse, Holder, Session, Site, Station, Trip, Vehicle
from csms.planning.learning import STALE
from csms.planning.profile import row_of
from csms.store.plans import InstalledSchedule
from csms.store.reported import CarHabit, ChargingNeed

_FEWER_PHASES = 0.7
"""Roundings make a schedule less than its row by a few percent; a phase less makes it a third."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A moment at which schedules began to allow power, or ceased to."""

    at: datetime
    is_on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Car:
    """One open session with everything known about it."""

    session: Session
    station: Station
    evse: Evse
    vehicle: Vehicle | None
    holder: Holder | None
    trip: Trip | None
    installed: InstalledSchedule | None
    turn: Turn | None = None
    """When its schedules last let it charge after a pause or paused it; None: not of late."""
    is_prioritised: bool = False
    """Its driver charges at full power, whatever the plan (2.1)."""
    doubtful: tuple[InstalledSchedule, ...] = ()
    """Schedules the station may hold instead: never answered, or accepted before it restarted."""
    refused: tuple[Schedule, ...] = ()
    """Schedules its station refused since it last accepted one: not to be sent again."""
    wish: ChargingNeed | None = None
    """What the car itself said of its needs (2.0.1 NotifyEVChargingNeeds)."""
    habit: CarHabit | None = None
    counts_phases: bool = False
    """The site has fuses of its own, so that currents per phase count and not only power."""
    cap_kw: float | None = None
    """What somebody else lets it have now (NotifyChargingLimit), kW; None without a limit."""

    @property
    def is_dc(self) -> bool:
        """Whether it charges with direct current."""
        return self.evse.current_type == "DC" or (self.wish is not None and self.wish.is_dc)


def is_stale(session: Session, now: datetime) -> bool:
    """Return whether a session's last sample says nothing about now, though it once drew power."""
    return bool(session.power_w) and (session.sample_at is None or now - session.sample_at > STALE)


def drawn_kw(session: Session) -> float:
    """Return what a session was last seen to draw, kW."""
    drawn_kw = (session.power_w or 0.0) / 1000.0
    return max(drawn_kw, 0.0) if isfinite(drawn_kw) else 0.0


def guard_kw(evse: Evse, station: Station) -> float:
    """Return the power an EVSE may draw without a schedule of ours, kW."""
    if station.limits.cascade == "tx_only":
        # It takes guards and obeys none: only a transaction's profile limits a car there.
        return evse.max_kw
    if evse.guard_kw is not None:
        return min(evse.guard_kw, evse.max_kw)
    # A station that comes back without a boot is as real as one that boots.
    was_here = station.booted_at is not None or station.linked_at is not None
    return evse.max_kw if was_here else 0.0


def own_guard_kw(car: Car) -> float:
    """Return the power a car may draw without a schedule of ours, kW."""
    return on_phases_kw(car, guard_kw(car.evse, car.station))


def on_phases_kw(car: Car, evse_kw: float) -> float:
    """Return what of an EVSE's power a car can draw on the phases that it uses, kW.

    Its EVSE limits the current of each phase. Where nobody saw how many the car uses, power counts
    in full; on a site with fuses the current counts, on all three phases.
    """
    if car.is_dc or not (car.counts_phases or is_seen(car)):
        return evse_kw
    return evse_kw * usable_phases(car) / car.evse.phases


def is_seen(car: Car) -> bool:
    """Return whether the number of phases that a car uses is known, not only told."""
    seen = car.habit is not None and car.habit.phases is not None
    return seen or usable_phases(car) == car.evse.phases


def in_force_kw(car: Car, site: Site, edges_at: tuple[datetime, ...]) -> tuple[float, ...]:
    """Return the most a car's station lets it draw if we say nothing more, (slots,) kW.

    Where more than one schedule may be in force, the larger counts in each slot. A car without a
    schedule that is seen to draw more than its guard counts with that.
    """
    without = own_guard_kw(car)
    found = [_allowed_kw(known, edges_at, without=without) for known in car.doubtful]
    if car.installed is not None:
        found.append(_held_kw(car, car.installed, site, edges_at, without=without))
    else:
        found.append((max(without, drawn_kw(car.session)),) * (len(edges_at) - 1))
    most = (max(column) for column in zip(*found, strict=True))
    return tuple(min(kw, max(car.evse.max_kw, drawn_kw(car.session))) for kw in most)


def _held_kw(
    car: Car,
    installed: InstalledSchedule,
    site: Site,
    edges_at: tuple[datetime, ...],
    *,
    without: float,
) -> tuple[float, ...]:
    """Return the row of a schedule, or what it really lets a car on fewer phases have.

    Amperes are per phase: a car that turned out to charge on one of three takes a third of the row.
    """
    row = _allowed_kw(installed, edges_at, without=without)
    if car.habit is None or car.habit.phases is None or car.is_dc:
        return row
    real = row_of(
        installed.schedule,
        edges_at=edges_at,
        phases=usable_phases(car),
        voltage_v=site.voltage_v,
        after_kw=without,
    )
    return tuple(b if b < a * _FEWER_PHASES else a for a, b in zip(row, real, strict=True))


def last_turn(followed: Sequence[InstalledSchedule], now: datetime) -> Turn | None:
    """Return when schedules, accepted one after the other, last began or ceased to allow power.

    None if they never did, so far as they reach back.
    """
    ends = [*(later.sent_at for later in followed[1:]), now]
    turn, was_on = None, None
    for known, until in zip(followed, ends, strict=False):
        for (starts, end), kw in zip(pairwise(known.edges_at), known.row_kw, strict=False):
            if end <= known.sent_at or starts >= until:
                continue
            if was_on is not None and was_on != (kw > 0):
                turn = Turn(at=max(starts, known.sent_at), is_on=kw > 0)
            was_on = kw > 0
    return turn


def least_kw(car: Car, site: Site, edges_at: tuple[datetime, ...]) -> tuple[float, ...]:
    """Return the least a car's station may allow now, whichever schedule it holds, (slots,) kW."""
    without = own_guard_kw(car)
    held = [*car.doubtful, *([car.installed] if car.installed is not None else [])]
    found = [
        row_of(
            known.schedule,
            edges_at=edges_at,
            phases=usable_phases(car),
            voltage_v=site.voltage_v,
            after_kw=without,
        )
        for known in held
    ]
    if car.installed is None:
        found.append((without,) * (len(edges_at) - 1))
    return tuple(min(column) for column in zip(*found, strict=True))


def _allowed_kw(
    known: InstalledSchedule, edges_at: tuple[datetime, ...], *, without: float
) -> tuple[float, ...]:
    rows = list(zip(known.edges_at, known.edges_at[1:], known.row_kw, strict=False))
    found = []
    for start, end in pairwise(edges_at):
        during = [kw for begins, ends, kw in rows if begins < end and start < ends]
        if not rows or end > known.edges_at[-1]:
            # The schedule runs out within the slot: then the guard holds.
            during.append(without)
        found.append(max(during, default=without))
    return tuple(found)


def followed_kw(car: Car, site: Site, edges_at: tuple[datetime, ...]) -> tuple[float, ...]:
    """Return the row of the one schedule that is surely in force, as far as it reaches."""
    if car.installed is None or car.doubtful:
        return ()
    reach = sum(end <= car.installed.edges_at[-1] for end in edges_at[1:])
    if not reach:
        return ()
    return row_of(
        car.installed.schedule,
        edges_at=edges_at[: reach + 1],
        phases=usable_phases(car),
        voltage_v=site.voltage_v,
        after_kw=own_guard_kw(car),
    )


def usable_phases(car: Car) -> int:
    """Return how many phases charge: what was seen, else the least of EVSE, vehicle and wish."""
    if car.is_dc:
        return car.evse.phases
    if car.habit is not None and car.habit.phases is not None:
        return min(car.evse.phases, car.habit.phases)
    told = [car.evse.phases]
    if car.vehicle is not None:
        told.append(car.vehicle.phases)
    if car.wish is not None:
        told.append(car.wish.phases)
    return min(told)


def max_kw(car: Car, voltage_v: float = 230.0) -> float:
    """Return the most a car can take at its EVSE, kW."""
    if car.is_dc:
        most_kw = car.evse.max_kw
        if car.vehicle is not None:
            most_kw = min(most_kw, car.vehicle.max_dc_kw)
        if car.wish is not None and car.wish.max_power_w:
            most_kw = min(most_kw, car.wish.max_power_w / 1000.0)
        return most_kw
    # An AC EVSE limits the current of each phase: a car on one phase of three gets a third.
    phases = usable_phases(car)
    most_kw = car.evse.max_kw * phases / car.evse.phases
    if car.vehicle is not None:
        most_kw = min(most_kw, car.vehicle.max_kw)
    if car.wish is not None and car.wish.max_current_a:
        most_kw = min(most_kw, car.wish.max_current_a * phases * voltage_v / 1000.0)
    return most_kw


def sound(car: Car, notes: list[str]) -> Car:
    """Return `car` without a vehicle or trip whose numbers are none: one record stops no site."""
    vehicle, trip = car.vehicle, car.trip
    if vehicle is not None and not _is_sound(vehicle):
        notes.append(f"vehicle of {car.session.session_id} has impossible figures: not used")
        vehicle = None
    told = (
        (trip.distance_km, trip.energy_kwh, trip.reserve_share, trip.preferred_soc) if trip else ()
    )
    if not all(isfinite(number) for number in told if number is not None):
        notes.append(f"trip of {car.session.session_id} has impossible figures: not used")
        trip = None
    return replace(car, vehicle=vehicle, trip=trip)


def _is_sound(vehicle: Vehicle) -> bool:
    positive = (
        vehicle.battery_kwh,
        vehicle.max_kw,
        vehicle.max_dc_kw,
        vehicle.phases,
        vehicle.min_current_a,
        vehicle.efficiency,
        vehicle.max_soc,
    )
    others = (vehicle.consumption_wh_per_km, vehicle.soc or 0.0)
    return all(0 < n < inf for n in positive) and all(0 <= n < inf for n in others)
