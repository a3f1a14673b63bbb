"""The planner as a scheduler of acnportal, on a three-phase transformer small enough to reckon."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from csms.core.plan import Plan, PlanningCase
from csms.planning.acn import AcnOptions, AcnScheduler
from csms.planning.grid import Grid, grid_of
from csms.planning.planner import plan

ANGLES = {"AB": 30.0, "BC": -90.0, "CA": 150.0}


@dataclass(kw_only=True)
class Session:
    """A plugged-in car as the simulator shows it; times are steps."""

    station_id: str
    session_id: str
    requested_energy: float = 40.0
    energy_delivered: float = 0.0
    arrival: int = 0
    departure: int = 96

    @property
    def estimated_departure(self) -> int:
        return self.departure

    @property
    def remaining_demand(self) -> float:
        return self.requested_energy - self.energy_delivered


@dataclass(kw_only=True)
class Site:
    """A wye secondary of `cap_kw` with stations named by their lines, such as AB1."""

    station_ids: Sequence[str]
    cap_kw: float = 30.0
    pilots: tuple[float, ...] | None = tuple(float(a) for a in range(6, 33))

    @property
    def constraint_matrix(self) -> Any:
        lines = [
            {"AB": 1.0, "CA": -1.0},
            {"BC": 1.0, "AB": -1.0},
            {"CA": 1.0, "BC": -1.0},
        ]
        secondary = np.array([[row.get(s[:2], 0.0) for s in self.station_ids] for row in lines])
        primary = (secondary - np.roll(secondary, 1, axis=0)) / 4
        return np.vstack([secondary, primary])

    @property
    def constraint_limits(self) -> Any:
        return np.repeat([self.cap_kw * 1000 / 3 / 120, self.cap_kw * 1000 / 3 / 277], 3)

    constraint_ids = ("secondary A", "secondary B", "secondary C", "primary A", "B", "C")

    @property
    def phases(self) -> Any:
        return np.array([ANGLES[s[:2]] for s in self.station_ids])

    @property
    def voltages(self) -> Any:
        return np.full(len(self.station_ids), 208.0)

    @property
    def max_pilot(self) -> Any:
        return np.full(len(self.station_ids), 32.0)

    @property
    def min_pilot(self) -> Any:
        return np.full(len(self.station_ids), self.pilots[0] if self.pilots else 0.0)

    @property
    def allowable_pilots(self) -> Any:
        return [(0.0, *self.pilots) if self.pilots else (0.0, 32.0)] * len(self.station_ids)

    @property
    def is_continuous(self) -> Any:
        return np.full(len(self.station_ids), self.pilots is None)

    def over_a(self, pilots: dict[str, list[float]]) -> float:
        """By how much the worst limit is passed, A."""
        now = np.array([pilots.get(s, [0.0])[0] for s in self.station_ids])
        flow = self.constraint_matrix @ (now * np.exp(1j * np.deg2rad(self.phases)))
        return float((np.abs(flow) - self.constraint_limits).max())


@dataclass(kw_only=True)
class World:
    """What the simulator's interface says at one step."""

    site: Site
    sessions: list[Session]
    current_time: int = 0
    period: float = 5
    last_applied_pilot_signals: dict[str, float] = field(default_factory=dict)
    last_actual_charging_rate: dict[str, float] = field(default_factory=dict)
    prices: tuple[float, ...] = ()
    peak_a: float = 0.0

    @property
    def current_datetime(self) -> datetime:
        return datetime(2019, 9, 9, 9, 0)  # noqa: DTZ001 - the simulator's clock has no zone

    def active_sessions(self) -> list[Session]:
        return self.sessions

    def infrastructure_info(self) -> Site:
        return self.site

    def get_prices(self, length: int, start: int | None = None) -> Any:
        return np.array(self.prices[:length])

    def get_demand_charge(self, start: int | None = None) -> float:
        return 15.51

    def get_prev_peak(self) -> float:
        return self.peak_a


def _world(*stations: str, **site: Any) -> World:
    return World(
        site=Site(station_ids=stations, **site),
        sessions=[Session(station_id=s, session_id=f"car-{s}") for s in stations],
    )


def _run(world: World, options: AcnOptions | None = None) -> dict[str, list[float]]:
    scheduler = AcnScheduler(options)
    scheduler.register_interface(world)
    return scheduler.run()


def _sum_a(pilots: dict[str, list[float]], lines: str) -> float:
    return sum(p[0] for s, p in pilots.items() if s.startswith(lines))


def test_cars_on_one_pair_of_lines_share_what_that_pair_can_carry() -> None:
    world = _world("AB1", "AB2", "AB3", pilots=None)
    pilots = _run(world)
    # Scenario 8 of the design: primary 36.101 A, of which one pair loads two windings by half.
    assert _sum_a(pilots, "AB") == pytest.approx(72.202, abs=0.01)
    assert world.site.over_a(pilots) <= 1e-6


def test_cars_spread_over_all_pairs_use_the_whole_transformer() -> None:
    world = _world("AB1", "AB2", "BC1", "BC2", "CA1", "CA2", pilots=None)
    pilots = _run(world)
    total_kw = sum(p[0] for p in pilots.values()) * 0.208
    assert total_kw == pytest.approx(30.02, abs=0.15)
    assert world.site.over_a(pilots) <= 1e-6


def test_pilots_are_those_that_the_station_knows() -> None:
    world = _world("AB1", "AB2", "AB3", "BC1", pilots=(8.0, 16.0, 24.0, 32.0))
    pilots = _run(world)
    assert all(p[0] in (0.0, 8.0, 16.0, 24.0, 32.0) for p in pilots.values())
    assert 48.0 <= _sum_a(pilots, "AB") <= 72.2
    assert world.site.over_a(pilots) <= 1e-6


def _transformer() -> tuple[World, Grid]:
    world = _world(*(f"{pair}{i}" for pair in ANGLES for i in range(4)), pilots=None)
    scheduler = AcnScheduler()
    scheduler.register_interface(world)
    return world, grid_of(scheduler.case(world.sessions))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_fills_the_limits_that_are_seen_fills_the_transformer(seed: int) -> None:
    world, grid = _transformer()
    power_kw = np.random.default_rng(seed).random(12)[:, None] ** 4 * np.ones(grid.shape)
    power_kw /= (grid.taken(power_kw) / grid.room).max()
    pilots = {
        s.station_id: [float(kw) / 0.208]
        for s, kw in zip(world.sessions, power_kw[:, 0], strict=True)
    }
    # Circles are drawn as polygons inside them: that costs 0.14 % at most.
    assert -0.0014 * 83.34 <= world.site.over_a(pilots) <= 1e-6


def test_sides_of_circles_that_others_keep_together_are_not_put_to_the_solver() -> None:
    _, grid = _transformer()
    assert 2 * len(grid.rows) < len(grid.limits.name)


def test_a_site_far_too_small_fills_its_limits_with_whole_amperes() -> None:
    world = _world(*(f"{lines}{i}" for lines in ANGLES for i in range(8)), cap_kw=20.0)
    pilots = _run(world)
    assert world.site.over_a(pilots) <= 1e-6
    assert all(p[0] == 0.0 or p[0] in range(6, 33) for p in pilots.values())
    # 55.556 A on each line, 32.075 A from each pair: rounding leaves no room for one ampere more.
    assert _sum_a(pilots, "AB") + _sum_a(pilots, "BC") + _sum_a(pilots, "CA") >= 95.0
    for station in pilots:
        if pilots[station][0] > 0:
            assert world.site.over_a({**pilots, station: [pilots[station][0] + 1.0]}) > 0


def test_a_car_that_draws_less_than_its_pilot_leaves_the_rest_to_others() -> None:
    world = _world("AB1", "AB2", "AB3", pilots=None)
    world.current_time = 1
    world.last_applied_pilot_signals = {"car-AB1": 30.0, "car-AB2": 21.0, "car-AB3": 21.2}
    world.last_actual_charging_rate = {"car-AB1": 10.0, "car-AB2": 21.0, "car-AB3": 21.2}
    pilots = _run(world)
    assert pilots["AB1"][0] <= 11.0 + 1e-6
    assert pilots["AB2"][0] + pilots["AB3"][0] >= 61.0


def test_a_car_that_draws_all_of_its_bound_is_tried_with_more() -> None:
    world = _world("AB1", pilots=None)
    scheduler = AcnScheduler()
    scheduler.register_interface(world)
    world.current_time = 1
    world.last_applied_pilot_signals = {"car-AB1": 32.0}
    world.last_actual_charging_rate = {"car-AB1": 10.0}
    first = scheduler.run()["AB1"][0]
    world.current_time = 2
    world.last_applied_pilot_signals = {"car-AB1": first}
    world.last_actual_charging_rate = {"car-AB1": first}
    assert scheduler.run()["AB1"][0] > first


def test_a_peak_counts_what_a_tail_draws_and_a_limit_its_pilot() -> None:
    drawn = {"last_applied_pilot_signals": {"car-AB1": 11.0, "car-AB2": 11.0}}
    drawn["last_actual_charging_rate"] = {"car-AB1": 10.4, "car-AB2": 11.0}
    world = _world("AB1", "AB2", pilots=tuple(range(6, 33)))
    world = replace(world, current_time=1, prices=(0.29,) * 96, **drawn)
    sold = AcnOptions(revenue_per_kwh=0.30, peak_hint_kw=30.4 * 0.208)
    assert _run(world, sold) == {"AB1": [11.0], "AB2": [20.0]}
    # Cars between two lines may have 2.4 times a transformer's limit of 12.7 A: 30.4 A.
    world = replace(world, site=replace(world.site, cap_kw=30.4 / 72.202 * 30.0), prices=())
    pilots = _run(world)
    assert pilots["AB1"][0] + pilots["AB2"][0] == 30.0
    assert world.site.over_a(pilots) <= 0


def test_what_cars_draw_is_not_looked_at_where_they_take_all_they_are_given() -> None:
    world = _world("AB1", pilots=None)
    world.current_time = 1
    world.last_applied_pilot_signals = {"car-AB1": 32.0}
    world.last_actual_charging_rate = {"car-AB1": 10.0}
    assert _run(world, AcnOptions(has_tail=False))["AB1"][0] == pytest.approx(32.0)


def test_energy_is_sold_in_the_cheap_hours_and_not_above_its_price() -> None:
    world = _world("AB1", pilots=None)
    world.sessions[0].requested_energy = 10.0
    world.prices = (0.25,) * 48 + (0.05,) * 48
    sold = AcnOptions(revenue_per_kwh=0.30, peak_hint_kw=50.0)
    assert _run(world, sold)["AB1"][0] == 0.0
    world.prices = (0.05,) * 48 + (0.25,) * 48
    assert _run(world, sold)["AB1"][0] == pytest.approx(32.0)
    world.prices = (0.45,) * 96
    assert _run(world, sold)["AB1"][0] == 0.0


def test_every_step_is_one_case_whose_first_slot_is_the_step() -> None:
    seen: list[PlanningCase] = []

    def planner(case: PlanningCase) -> Plan:
        seen.append(case)
        return plan(case)

    scheduler = AcnScheduler(planner=planner)
    scheduler.register_interface(_world("AB1", "CA1"))
    scheduler.run()
    (case,) = seen
    assert case.hours()[0] == pytest.approx(5 / 60)
    assert sum(case.hours()) == pytest.approx(8.0)
    assert {row.row_id for row in case.limit_rows} == set(Site.constraint_ids)
    assert PlanningCase.from_json(case.to_json()) == case


def test_nobody_there_means_nothing_to_say() -> None:
    world = _world("AB1")
    world.sessions = []
    assert _run(world) == {}
    with pytest.raises(ValueError, match="no interface"):
        AcnScheduler().run()
