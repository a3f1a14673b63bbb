"""Measure what a plan costs: CPU milliseconds per plan, and a ratio to fixed numpy work.

Run: python benchmarks/plan_time.py [repeats]. CPU time of one thread, not wall time; the ratio to
the reference, measured in the same run, is what can be compared between machines.
"""

import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np

from csms.core.plan import PlanningCase, PlanningSession
from csms.planning.planner import plan

NOW = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)


def site(cars: int, *, room_share: float, seed: int, guard_kw: float = 1.4) -> PlanningCase:
    """Return a night of `cars` cars and 96 quarter hours with hourly prices.

    `room_share` is what the guards leave, as a share of the mean power of all needs together.
    """
    rng = np.random.default_rng(seed)
    edges = tuple(NOW + timedelta(minutes=15 * k) for k in range(97))
    hourly = 0.2 + 0.12 * np.sin(np.arange(24) / 24 * 4 * np.pi) + rng.normal(0, 0.02, 24)
    sessions = []
    for i in range(cars):
        arrives = NOW + timedelta(minutes=int(rng.integers(-120, 240)))
        stay_h = float(rng.uniform(3, 16))
        phases = int(rng.choice([1, 3]))
        most = 7.36 if phases == 1 else 11.04
        need = float(min(rng.uniform(5, 45), most * stay_h * 0.9))
        sessions.append(
            PlanningSession(
                session_id=f"s{i}",
                station_id=f"st{i}",
                evse_id=1,
                available_at=arrives,
                departs_at=max(arrives, NOW) + timedelta(hours=stay_h),
                required_kwh=need,
                preferred_kwh=need + float(rng.uniform(0, 10)),
                max_kw=most,
                min_kw=1.38 * phases,
                guard_kw=guard_kw,
                phases=phases,
                priority=int(rng.integers(0, 3) == 0),
                current_kw=most if rng.random() < 0.4 else None,
            )
        )
    mean_kw = sum(s.required_kwh for s in sessions) / 14
    limit = mean_kw * room_share + cars * guard_kw + 20.0
    return PlanningCase(
        site_id="bench",
        now_at=NOW,
        edges_at=edges,
        limit_kw=(limit,) * 96,
        base_load_kw=tuple(float(v) for v in 15 + 5 * np.sin(np.arange(96) / 96 * 2 * np.pi)),
        reserved_kw=(2.0,) * 96,
        price_eur_per_kwh=tuple(float(v) for v in np.repeat(hourly, 4)),
        co2_kg_per_kwh=tuple(float(v) for v in rng.uniform(0.1, 0.5, 96)),
        demand_charge_eur_per_kw=0.0,
        sessions=tuple(sessions),
    )


def reference_ms() -> float:
    """Return the CPU time of a fixed piece of numpy work, milliseconds, the median of 20."""
    matrix = np.random.default_rng(0).normal(size=(200, 200))
    took = []
    for _ in range(20):
        start = time.thread_time()
        np.sort(matrix @ matrix, axis=0)
        np.linalg.solve(matrix, matrix[:, 0])
        took.append(time.thread_time() - start)
    return float(np.median(took) * 1e3)


def main(repeats: int) -> None:
    """Print one line per size and tightness."""
    unit = reference_ms()
    print(f"reference {unit:.2f} ms CPU")
    print("sessions  room   p50 ms   p99 ms   p50/reference  short kWh  status")
    for cars in (54, 200, 1000):
        for name, share in (("loose", 4.0), ("tight", 1.0), ("short", 0.6)):
            runs = max(repeats * 54 // cars, 3)
            took, short, statuses = [], 0.0, set()
            for seed in range(runs):
                case = site(cars, room_share=share, seed=seed)
                start = time.thread_time()
                result = plan(case)
                took.append((time.thread_time() - start) * 1e3)
                short += result.shortfall_kwh / runs
                statuses.add(result.status)
            p50, p99 = np.percentile(took, [50, 99])
            line = f"{cars:8d}  {name:5s}  {p50:7.1f}  {p99:7.1f}  {p50 / unit:13.1f}"
            print(f"{line}  {short:9.1f}  {'/'.join(sorted(statuses))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
