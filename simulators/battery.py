"""Batteries and what they draw: pure functions of a state of charge and an offer.

Up to the knee a battery takes what charger, cable and vehicle allow; above it, the power falls
linearly to `tail_share` at full (the constant-voltage phase). Below 6 A per phase an AC vehicle
draws nothing (IEC 61851-1: the pilot cannot offer less). All powers are at the meter; `efficiency`
is what of it reaches the battery.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

FULL_WITHIN_KWH = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Vehicle:
    """A vehicle's charging side.

    `max_ac_kw` is the on-board charger over all its `phases`. `dc_curve` lists (soc, kW) in rising
    soc and replaces knee and tail for DC. It charges itself to `max_soc` and no further. After a
    pause it needs `wake_s` to draw again, and the pilot coming on `wakes_after` times; with
    `resumes` false it never does until replugged.
    """

    vehicle_id: str = "car"
    battery_kwh: float = 60.0
    max_ac_kw: float = 11.0
    phases: int = 3
    max_dc_kw: float = 100.0
    min_current_a: float = 6.0
    efficiency: float = 0.9
    knee_soc: float = 0.8
    tail_share: float = 0.1
    max_soc: float = 1.0
    wake_s: float = 0.0
    wakes_after: int = 1
    resumes: bool = True
    consumption_wh_per_km: float = 180.0
    dc_curve: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("battery_kwh", "max_ac_kw", "max_dc_kw", "efficiency", "max_soc"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("efficiency", "knee_soc", "tail_share", "max_soc"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in 0..1")
        if self.phases not in (1, 2, 3):
            raise ValueError(f"phases is {self.phases}; it must be 1, 2 or 3")
        if list(self.dc_curve) != sorted(self.dc_curve):
            raise ValueError("dc_curve must be in rising order of soc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a vehicle takes: total power, current per phase used, and how many phases."""

    power_w: float = 0.0
    current_a: float = 0.0
    phases: int = 0


NOTHING = Draw()


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """A vehicle with its present state of charge."""

    vehicle: Vehicle
    soc: float

    @property
    def room_kwh(self) -> float:
        """Energy at the meter until the vehicle stops charging by itself."""
        missing_kwh = (self.vehicle.max_soc - self.soc) * self.vehicle.battery_kwh
        return max(missing_kwh, 0.0) / self.vehicle.efficiency

    @property
    def is_full(self) -> bool:
        """Whether the vehicle takes no more."""
        return self.room_kwh <= FULL_WITHIN_KWH

    def charged(self, power_w: float, dt_s: float) -> "Battery":
        """Return the battery after `dt_s` at `power_w` (meter), never beyond `max_soc`."""
        stored_kwh = power_w / 1000 * dt_s / 3600 * self.vehicle.efficiency
        soc = self.soc + stored_kwh / self.vehicle.battery_kwh
        # A car that arrives above its own target keeps what it has.
        return replace(self, soc=max(min(soc, self.vehicle.max_soc), self.soc))

    def seconds_until_full(self, power_w: float) -> float:
        """Return how long the battery can take `power_w`; infinite at no power."""
        return self.room_kwh * 3_600_000 / power_w if power_w > 0 else math.inf


def acceptance_share(vehicle: Vehicle, soc: float) -> float:
    """Return the share (0..1) of full power a battery takes at `soc`."""
    if soc <= vehicle.knee_soc or vehicle.knee_soc >= 1:
        return 1.0
    beyond = min((soc - vehicle.knee_soc) / (1 - vehicle.knee_soc), 1.0)
    return 1.0 - beyond * (1.0 - vehicle.tail_share)


def ac_draw(battery: Battery, *, limit_a: float, phases: int, voltage_v: float = 230.0) -> Draw:
    """Return what a vehicle draws when offered `limit_a` on each of `phases` phases."""
    vehicle = battery.vehicle
    if battery.is_full or phases < 1 or limit_a < max(vehicle.min_current_a, 6.0):
        return NOTHING
    used = min(phases, vehicle.phases)
    onboard_a = vehicle.max_ac_kw * 1000 / (vehicle.phases * voltage_v)
    current_a = min(limit_a, onboard_a * acceptance_share(vehicle, battery.soc))
    return Draw(power_w=current_a * voltage_v * used, current_a=current_a, phases=used)


def dc_draw(battery: Battery, *, limit_w: float) -> Draw:
    """Return what a vehicle draws from a DC charger that may give `limit_w`."""
    vehicle = battery.vehicle
    if battery.is_full or limit_w <= 0:
        return NOTHING
    if vehicle.dc_curve:
        cap_w = interpolated(vehicle.dc_curve, battery.soc) * 1000
    else:
        cap_w = vehicle.max_dc_kw * 1000 * acceptance_share(vehicle, battery.soc)
    return Draw(power_w=min(limit_w, cap_w, vehicle.max_dc_kw * 1000), phases=3)


def interpolated(curve: Sequence[tuple[float, float]], at: float) -> float:
    """Return the value of a piecewise linear `curve` at `at`, level outside its ends."""
    if at <= curve[0][0]:
        return curve[0][1]
    for (left, low), (right, high) in pairwise(curve):
        if at <= right:
            return low + (high - low) * (at - left) / (right - left) if right > left else high
    return curve[-1][1]


def power_w(
    battery: Battery,
    *,
    limit_a: float | None = None,
    limit_w: float | None = None,
    phases: int = 3,
    voltage_v: float = 230.0,
    dt_s: float = 0.0,
) -> float:
    """Return the mean power over `dt_s` under one limit: amperes per phase (AC) or watts (DC).

    With `dt_s` the battery may become full on the way, which lowers the mean.
    """
    if (limit_a is None) == (limit_w is None):
        raise ValueError("give one of limit_a and limit_w")
    if limit_a is not None:
        drawn_w = ac_draw(battery, limit_a=limit_a, phases=phases, voltage_v=voltage_v).power_w
    else:
        drawn_w = dc_draw(battery, limit_w=limit_w or 0.0).power_w
    if dt_s <= 0 or drawn_w <= 0:
        return drawn_w
    return drawn_w * min(1.0, battery.seconds_until_full(drawn_w) / dt_s)
