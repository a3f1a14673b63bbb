"""Scenario 22: random sites, whatever they hold, get a plan that keeps every limit.

Each site is made from its seed alone. TASCO_TEST_SITES says how many (`make fuzz-planner`).
"""

import os
from dataclasses import replace
from datetime import timedelta
from math import nan

import numpy as np
import pytest

from csms.core.circuit import Cap, Circuit
from csms.core.model import Strategy
from csms.core.plan import PlanningCase, PlanningSession
from csms.planning.planner import plan
from tests.planning.cases import NOW, at, broken_laws, case

SITES = int(os.environ.get("TASCO_TEST_SITES", "240"))
PARTS = 8
"""The sites are tested in so many parts, so that they can run side by side."""


def random_site(seed: int) -> PlanningCase:
    """Return a site with nested circuits, cars of every kind, and what is missing or wrong."""
    rng = np.random.default_rng(seed)
    slots = int(rng.integers(1, 40))
    circuits = _circuits(rng, slots)
    names = ["", *(c.circuit_id for c in circuits), "unknown"]
    cars = [_car(rng, f"c{i}", slots, names) for i in range(int(rng.integers(0, 14)))]
    price = rng.uniform(-0.2, 0.6, slots).round(3)
    base = rng.uniform(0, 15, slots)
    if rng.random() < 0.2:
        price[rng.integers(slots)], base[rng.integers(slots)] = nan, nan
    caps = ()
    if rng.random() < 0.3:
        start = float(rng.uniform(-1, 6))
        caps = (
            Cap(
                source="grid operator",
                circuit_id=str(rng.choice(names)),
                starts_at=at(start),
                ends_at=at(start + float(rng.uniform(0, 4))),
                limit_kw=float(rng.choice([0.0, 5.0, 20.0])),
                limit_a=float(rng.choice([0.0, 16.0, 40.0])),
            ),
        )
    return case(
        *cars,
        slots=slots,
        limit_kw=[float(v) for v in rng.choice([0.0, 10.0, 30.0, 80.0, 200.0]) * np.ones(slots)],
        base_kw=base.tolist(),
        reserved_kw=float(rng.choice([0.0, 4.0])),
        price=price.tolist(),
        co2=rng.uniform(0, 0.8, slots).tolist(),
        strategy=Strategy.OPTIMAL if rng.random() < 0.7 else Strategy(rng.choice(list(Strategy))),
        idle_guard_kw=float(rng.choice([0.0, 4.14])),
        demand_charge_eur_per_kw=float(rng.choice([0.0, 0.0, 8.0])),
        billed_peak_kw=float(rng.choice([0.0, 20.0])),
        peak_hint_kw=float(rng.choice([0.0, 15.0])),
        days_left=float(rng.integers(1, 31)),
        solar_kw=tuple(rng.uniform(0, 20, slots)) if rng.random() < 0.3 else (),
        circuits=circuits,
        caps=caps,
    )


def _circuits(rng: np.random.Generator, slots: int) -> tuple[Circuit, ...]:
    found: list[Circuit] = []
    for i in range(int(rng.integers(0, 7))):
        parents = ["", *(c.circuit_id for c in found)]
        in_amperes = rng.random() < 0.7
        found.append(
            Circuit(
                circuit_id=f"k{i}",
                parent_id=str(rng.choice(parents)),
                limit_a=tuple((float(rng.choice([0, 16, 32, 63, 125])),) for _ in range(3))
                if in_amperes
                else (),
                limit_kw=() if in_amperes else tuple(rng.uniform(0, 60, slots)),
                load_a=tuple((float(rng.choice([0, 0, 5, 20])),) for _ in range(3))
                if in_amperes
                else (),
            )
        )
    return tuple(found)


def _car(rng: np.random.Generator, name: str, slots: int, circuits: list[str]) -> PlanningSession:
    phases = int(rng.choice([1, 3]))
    arrives = float(rng.uniform(-5, 8))
    # One in ten has no window at all, or left before it came.
    stays = float(rng.uniform(0.1, 14)) if rng.random() < 0.9 else float(rng.choice([0.0, -2.0]))
    required = float(rng.choice([0.0, rng.uniform(0, 50)]))
    least = 1.38 * phases
    kind = rng.random()
    return PlanningSession(
        session_id=name,
        station_id=f"station-{name}",
        evse_id=1,
        available_at=at(arrives),
        departs_at=at(arrives + stays),
        required_kwh=required,
        preferred_kwh=required + float(rng.choice([0.0, 10.0])),
        max_kw=float(rng.choice([1.0, 3.68, 7.36])) if phases == 1 else 11.04,
        min_kw=least,
        guard_kw=float(rng.choice([0.0, least])),
        phases=phases,
        phases_used=(int(rng.integers(1, 4)),) if phases == 1 and rng.random() < 0.7 else (),
        circuit_id=str(rng.choice(circuits)),
        priority=int(rng.integers(0, 3)),
        current_kw=float(rng.choice([0.0, 7.0])) if rng.random() < 0.5 else None,
        fixed_kw=tuple(rng.uniform(0, 9, slots)) if kind < 0.1 else None,
        step_a=float(rng.choice([0.0, 1.0])),
        levels_a=(8.0, 16.0, 24.0, 32.0) if 0.1 < kind < 0.2 else (),
        never_pause=bool(rng.random() < 0.2),
        guaranteed_slots=int(rng.choice([0, 0, 3])),
        since_on_at=NOW - timedelta(minutes=5) if rng.random() < 0.2 else None,
        max_periods=int(rng.choice([0, 4])),
        delivered_kwh=float(rng.choice([0.0, 6.0])),
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_scenario_22_random_sites_keep_every_limit(part: int) -> None:
    for seed in range(part, SITES, PARTS):
        of = random_site(seed)
        made = plan(of)
        assert broken_laws(of, made) == [], seed
        assert made.status in {"optimal", "rule"}, seed
        assert made.to_json() == plan(of).to_json(), seed


@pytest.mark.parametrize("strategy", Strategy)
def test_every_strategy_keeps_the_limits_of_the_same_sites(strategy: Strategy) -> None:
    for seed in range(0, SITES, PARTS):
        of = replace(random_site(seed), strategy=strategy)
        assert broken_laws(of, plan(of)) == [], seed


@pytest.mark.parametrize("part", range(PARTS))
def test_scenario_22_the_fallback_serves_almost_as_much_where_power_suffices(part: int) -> None:
    asked, given = 0.0, 0.0
    for seed in range(part, SITES, PARTS):
        of = replace(random_site(seed), strategy=Strategy.OPTIMAL)
        best = plan(of)
        instead = plan(of, iteration_limit=0)
        assert broken_laws(of, instead) == [], seed
        if best.shortfall_kwh == 0.0:
            asked += sum(s.required_kwh for s in of.sessions)
            given += sum(s.required_kwh for s in of.sessions) - instead.shortfall_kwh
    assert given >= 0.95 * asked
