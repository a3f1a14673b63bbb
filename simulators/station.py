"""A charging station without a wire: EVSEs, vehicles, transactions, meters. Pure.

Time is an argument. `Station.advance(now)` lives through everything since the last call in steps of
constant power that end at each change of a charging profile, when a vehicle wakes or is full, and
at least every `STEP_S`; so the recorded power is exact however late it is asked for.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from simulators.battery import NOTHING, Battery, Draw, Vehicle, ac_draw, dc_draw
from simulators.dialect import Dialect
from simulators.profiles import Electrics, Grant, Installed, Profile, earliest

STEP_S = 60.0


class State(StrEnum):
    """What an EVSE is doing: the states of OCPP 1.6 §4.9."""

    AVAILABLE = "Available"
    PREPARING = "Preparing"
    CHARGING = "Charging"
    SUSPENDED_EV = "SuspendedEV"
    SUSPENDED_EVSE = "SuspendedEVSE"
    FINISHING = "Finishing"
    FAULTED = "Faulted"
    UNAVAILABLE = "Unavailable"


class NotPossible(RuntimeError):
    """What was asked does not fit the state of the EVSE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvseSpec:
    """An EVSE as built. `max_kw` holds over all `phases`; `current_type` is "AC" or "DC"."""

    evse_id: int = 1
    max_kw: float = 11.0
    phases: int = 3
    current_type: str = "AC"
    voltage_v: float = 230.0
    rotation: str = "RST"
    """The site's phases behind its own, first to last; R is L1. One letter where it has one."""

    def __post_init__(self) -> None:
        if sorted(self.rotation) not in (["R"], ["S"], ["T"], ["R", "S", "T"]):
            raise ValueError(f"rotation is {self.rotation!r}; it must be R, S, T or all three")
        if len(self.rotation) < self.phases:
            raise ValueError(f"rotation is {self.rotation!r}, too short for {self.phases} phases")
        if self.current_type not in ("AC", "DC"):
            raise ValueError(f"current_type is {self.current_type!r}; permitted: AC, DC")
        if self.phases not in (1, 2, 3):
            raise ValueError(f"phases is {self.phases}; it must be 1, 2 or 3")
        if self.max_kw <= 0 or self.voltage_v <= 0:
            raise ValueError(f"max_kw is {self.max_kw}, voltage_v {self.voltage_v}; both above 0")

    @property
    def electrics(self) -> Electrics:
        """What unit conversions need."""
        return Electrics(
            voltage_v=self.voltage_v, phases=self.phases, is_dc=self.current_type == "DC"
        )

    @property
    def max_limit(self) -> float:
        """The EVSE's own limit in its own unit: W for DC, A per phase for AC."""
        watts = self.max_kw * 1000
        return watts if self.current_type == "DC" else watts / (self.phases * self.voltage_v)


@dataclass(slots=True, kw_only=True)
class Transaction:
    """A transaction as its station knows it. `transaction_id` is None until 1.6's answer came."""

    evse_id: int
    token: str
    token_kind: str
    started_at: datetime
    meter_start_wh: float
    transaction_id: str | None = None
    remote_start_id: int | None = None
    ended_at: datetime | None = None
    meter_stop_wh: float = 0.0
    stop_reason: str = ""
    stop_token: str = ""
    started_offline: bool = False
    next_seq: int = 0

    @property
    def energy_wh(self) -> float:
        """Energy between the registers at start and at end; 0 while it runs."""
        return self.meter_stop_wh - self.meter_start_wh if self.ended_at else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Constant power over [start_at, until), and the current on each of the EVSE's first phases."""

    start_at: datetime
    until: datetime
    power_w: float
    current_a: float = 0.0
    phases: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """An EVSE went into `state` at `at`."""

    evse_id: int
    at: datetime
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the meter of an EVSE says at one instant."""

    at: datetime
    energy_wh: float
    power_w: float
    current_a: float
    phases: int
    voltage_v: float
    soc: float | None
    offered: float
    is_dc: bool
    context: str = "Sample.Periodic"


def _is_alike(a: Segment, b: Segment) -> bool:
    return (a.power_w, a.current_a, a.phases) == (b.power_w, b.current_a, b.phases)


GrantAt = Callable[[int, datetime], Grant]


@dataclass(slots=True)
class Evse:
    """One EVSE: state machine, vehicle, meter."""

    spec: EvseSpec
    lived_until: datetime
    state: State = State.AVAILABLE
    battery: Battery | None = None
    transaction: Transaction | None = None
    register_wh: float = 0.0
    draw: Draw = NOTHING
    offered: float = 0.0
    is_operative: bool = True
    is_faulted: bool = False
    segments: list[Segment] = field(default_factory=list)
    changes: list[StateChange] = field(default_factory=list)
    next_change_at: datetime | None = None
    sleeps_at_zero: bool = False
    is_asleep: bool = False
    """It gives nothing until it hears of its profiles again."""
    _is_paused: bool = False
    _has_drawn: bool = False
    _wakes_at: datetime | None = None
    _is_off: bool = False
    _edges: int = 0

    def advance(self, until: datetime, grant_at: GrantAt) -> None:
        """Live through the time up to `until`."""
        while self.lived_until < until:
            change_at = self._refresh(grant_at)
            end = until if change_at is None else min(until, change_at)
            self._live_to(end)
        self._refresh(grant_at)

    def _refresh(self, grant_at: GrantAt) -> datetime | None:
        """Settle power and state at the present instant; return when this step must end."""
        at = self.lived_until
        self.next_change_at = None
        if self.transaction is None or self.battery is None:
            self.draw, self.offered = NOTHING, 0.0
            self._to(self._idle_state(), at)
            return None
        grant = grant_at(self.spec.evse_id, at)
        self.offered = 0.0 if self.is_asleep else min(grant.limit, self.spec.max_limit)
        draw = self._wanted(grant)
        self.next_change_at = change_at = grant.until
        if self._offers_nothing(grant):
            self.is_asleep = self.sleeps_at_zero and self._has_drawn
            self._is_paused, self._wakes_at, self._is_off = True, None, True
            self.draw = NOTHING
            self._to(State.SUSPENDED_EVSE, at)
            return change_at
        if self._is_paused:
            draw, wakes_at = self._woken(draw, at)
            self.next_change_at = change_at = earliest(change_at, wakes_at)
        self.draw = draw
        if draw.power_w <= 0:
            self._to(State.SUSPENDED_EV, at)
            return change_at
        self._has_drawn = True
        self._to(State.CHARGING, at)
        full_s = self.battery.seconds_until_full(draw.power_w)
        # At least a microsecond, the resolution of an instant: time must move.
        full_s = max(math.ceil(full_s * 1e6), 1) / 1e6
        self.next_change_at = earliest(change_at, at + timedelta(seconds=full_s))
        return earliest(change_at, at + timedelta(seconds=min(STEP_S, full_s)))

    def _wanted(self, grant: Grant) -> Draw:
        assert self.battery is not None
        if self.spec.current_type == "DC":
            return dc_draw(self.battery, limit_w=self.offered)
        return ac_draw(
            self.battery,
            limit_a=self.offered,
            phases=min(grant.phases, self.spec.phases),
            voltage_v=self.spec.voltage_v,
        )

    def _offers_nothing(self, grant: Grant) -> bool:
        if self.spec.current_type == "DC":
            return self.offered <= 0
        return self.offered < 6.0 or grant.phases < 1

    def _woken(self, draw: Draw, at: datetime) -> tuple[Draw, datetime | None]:
        """Return what a vehicle draws after a pause, and when it wakes if it has not yet."""
        assert self.battery is not None
        vehicle = self.battery.vehicle
        if self._has_drawn and not vehicle.resumes:
            return NOTHING, None
        if self._is_off:
            self._is_off = False
            self._edges += 1
        if self._has_drawn and self._edges < vehicle.wakes_after:
            return NOTHING, None
        if self._has_drawn and vehicle.wake_s > 0:
            if self._wakes_at is None:
                self._wakes_at = at + timedelta(seconds=vehicle.wake_s)
            if at < self._wakes_at:
                return NOTHING, self._wakes_at
        self._is_paused, self._wakes_at, self._edges = False, None, 0
        return draw, None

    def _live_to(self, end: datetime) -> None:
        seconds = (end - self.lived_until).total_seconds()
        power_w = self.draw.power_w
        if self.battery is not None and power_w > 0:
            self.battery = self.battery.charged(power_w, seconds)
            self.register_wh += power_w * seconds / 3600
            last = self.segments[-1] if self.segments else None
            segment = Segment(
                start_at=self.lived_until,
                until=end,
                power_w=power_w,
                current_a=self.draw.current_a,
                phases=self.draw.phases,
            )
            if last and last.until == self.lived_until and _is_alike(last, segment):
                self.segments[-1] = replace(last, until=end)
            else:
                self.segments.append(segment)
        self.lived_until = end

    def _idle_state(self) -> State:
        if self.is_faulted:
            return State.FAULTED
        if not self.is_operative:
            return State.UNAVAILABLE
        if self.battery is None:
            return State.AVAILABLE
        return State.FINISHING if self.state is State.FINISHING else State.PREPARING

    def _to(self, state: State, at: datetime) -> None:
        if state is not self.state:
            self.state = state
            self.changes.append(StateChange(evse_id=self.spec.evse_id, at=at, state=state))

    def reading(self, context: str = "Sample.Periodic") -> Reading:
        """Return what the meter says now."""
        return Reading(
            at=self.lived_until,
            energy_wh=self.register_wh,
            power_w=self.draw.power_w,
            current_a=self.draw.current_a,
            phases=self.draw.phases,
            voltage_v=self.spec.voltage_v,
            soc=self.battery.soc if self.battery else None,
            offered=self.offered,
            is_dc=self.spec.current_type == "DC",
            context=context,
        )

    def plugged(self, vehicle: Vehicle, soc: float) -> None:
        """Connect a vehicle."""
        if self.battery is not None:
            raise NotPossible(f"EVSE {self.spec.evse_id} already holds a vehicle")
        self.battery = Battery(vehicle=vehicle, soc=soc)
        self._is_paused = self._has_drawn = self.is_asleep = False
        self._wakes_at = None
        self._to(self._idle_state(), self.lived_until)

    def unplugged(self) -> Battery:
        """Disconnect the vehicle and return its battery."""
        battery = self.battery
        if battery is None or self.transaction is not None:
            raise NotPossible(f"EVSE {self.spec.evse_id} has nothing to unplug")
        self.battery = None
        self._to(self._idle_state(), self.lived_until)
        return battery

    def finishing(self) -> None:
        """Go to Finishing: the transaction is over, the vehicle still connected."""
        self._to(State.FINISHING, self.lived_until)


class Station:
    """All EVSEs of a station with the profiles that bind them."""

    def __init__(
        self, specs: Iterable[EvseSpec], *, now: datetime, dialect: Dialect | None = None
    ) -> None:
        self.evses = {s.evse_id: Evse(spec=s, lived_until=now) for s in specs}
        if not self.evses or 0 in self.evses:
            raise ValueError(f"EVSE ids are {sorted(self.evses)}; they must be 1 and above")
        self.installed = Installed(dialect or Dialect())
        for evse in self.evses.values():
            evse.sleeps_at_zero = self.installed.dialect.zero == "sleeps"

    def evse(self, evse_id: int) -> Evse:
        """Return an EVSE. Raises NotPossible if there is none of that number."""
        try:
            return self.evses[evse_id]
        except KeyError:
            raise NotPossible(f"EVSE is {evse_id}; there are {sorted(self.evses)}") from None

    def grant_at(self, evse_id: int, at: datetime) -> Grant:
        """Return the limit in force on an EVSE at `at`."""
        evse = self.evses[evse_id]
        transaction = evse.transaction
        return self.installed.grant(
            evse_id,
            at,
            started_at=transaction.started_at if transaction else None,
            electrics=evse.spec.electrics,
            sharers=self.sharers,
        )

    @property
    def rotations(self) -> tuple[str, ...]:
        """The phase rotation of each EVSE, by number."""
        return tuple(self.evses[i].spec.rotation for i in sorted(self.evses))

    @property
    def sharers(self) -> int:
        """How many EVSEs split the station's own maximum: those with a transaction."""
        return max(sum(1 for e in self.evses.values() if e.transaction), 1)

    @property
    def transactions(self) -> dict[int, str | None]:
        """The ongoing transactions' ids by EVSE."""
        return {
            i: e.transaction.transaction_id
            for i, e in self.evses.items()
            if e.transaction is not None
        }

    @property
    def power_w(self) -> float:
        """The power drawn at the instant last lived to."""
        return sum(e.draw.power_w for e in self.evses.values())

    @property
    def next_change_at(self) -> datetime | None:
        """When the power may change by itself, as far as is known now."""
        return earliest(*(e.next_change_at for e in self.evses.values()))

    def advance(self, now: datetime) -> None:
        """Live through the time up to `now`, on all EVSEs alike."""
        for evse in self.evses.values():
            evse.advance(now, self.grant_at)

    def wake(self) -> None:
        """Let EVSEs that sleep after a limit of 0 follow their profiles again."""
        for evse in self.evses.values():
            evse.is_asleep = False

    def taken_changes(self) -> list[StateChange]:
        """Return the changes of state since the last call, in order of time."""
        changes = [c for e in self.evses.values() for c in e.changes]
        for evse in self.evses.values():
            evse.changes.clear()
        return sorted(changes, key=lambda c: c.at)

    def plug_in(self, evse_id: int, vehicle: Vehicle, *, soc: float, now: datetime) -> None:
        """Connect a vehicle."""
        self.advance(now)
        self.evse(evse_id).plugged(vehicle, soc)

    def unplug(self, evse_id: int, *, now: datetime) -> Battery:
        """Disconnect the vehicle, whose transaction must have been ended before."""
        self.advance(now)
        return self.evse(evse_id).unplugged()

    def begin(self, evse_id: int, token: str, kind: str, *, now: datetime) -> Transaction:
        """Start a transaction on an EVSE that holds a vehicle."""
        self.advance(now)
        evse = self.evse(evse_id)
        if evse.transaction is not None:
            raise NotPossible(f"EVSE {evse_id} has a transaction already")
        if evse.battery is None:
            raise NotPossible(f"EVSE {evse_id} holds no vehicle")
        if evse.is_faulted or not evse.is_operative:
            raise NotPossible(f"EVSE {evse_id} is {evse.state}")
        evse.transaction = Transaction(
            evse_id=evse_id,
            token=token,
            token_kind=kind,
            started_at=now,
            meter_start_wh=evse.register_wh,
        )
        # The others' part of a shared maximum changes in the same instant.
        self.advance(now)
        return evse.transaction

    def end(self, evse_id: int, *, reason: str, token: str = "", now: datetime) -> Transaction:
        """End the transaction; its TxProfiles die with it."""
        self.advance(now)
        evse = self.evse(evse_id)
        transaction = evse.transaction
        if transaction is None:
            raise NotPossible(f"EVSE {evse_id} has no transaction")
        transaction.ended_at = now
        transaction.meter_stop_wh = evse.register_wh
        transaction.stop_reason, transaction.stop_token = reason, token
        evse.transaction = None
        self.installed.transaction_ended(evse_id)
        evse.finishing()
        self.advance(now)
        return transaction

    def install(self, profile: Profile, *, now: datetime) -> str | None:
        """Install a profile from `now` on; return why it is refused, if it is."""
        self.advance(now)
        reason = self.installed.refusal(
            profile, evse_ids=self.evses, transactions=self.transactions
        )
        if reason is None:
            self.installed.install(profile, self.transactions)
            self.advance(now)
        return reason

    def set_operative(self, evse_id: int, *, is_operative: bool, now: datetime) -> None:
        """Take an EVSE into or out of service; a running transaction goes on."""
        self.advance(now)
        for evse in self.evses.values() if evse_id == 0 else [self.evse(evse_id)]:
            evse.is_operative = is_operative
        self.advance(now)

    def set_faulted(self, evse_id: int, *, is_faulted: bool, now: datetime) -> None:
        """Break or repair an EVSE; a broken one must have no transaction."""
        self.advance(now)
        evse = self.evse(evse_id)
        if is_faulted and evse.transaction is not None:
            raise NotPossible(f"EVSE {evse_id} has a transaction; end it first")
        evse.is_faulted = is_faulted
        self.advance(now)
