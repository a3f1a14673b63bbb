"""The planner against its peers in the simulator acnportal, on real sessions.

Run: python benchmarks/acn.py [--site jpl] [--caps 20 40] [--scenarios II V] ... ; --help lists all.
Every algorithm sees the same sessions in the same run; `optimum` knows them in advance and has
ideal cars. July 2019 is for tuning, September is what is reported. Who has ACN-Data's own file of
September 2018 compares with the published table: --sessions FILE --month 2018-09.

CPU times are of one thread, for decisions with more than 25 cars; ratios measured in one process
are what can be compared between machines.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from acn_world import (
    LONGEST_STAY,
    PERIOD_MIN,
    SCENARIOS,
    Month,
    Scenario,
    Score,
    bundled,
    from_acn_data,
    network,
    run,
)
from acnportal.acnsim.interface import InfrastructureInfo, SessionInfo
from peers import ConvexMpc, offline, sorted_peer, uncontrolled

from csms.planning.acn import AcnOptions, AcnScheduler

REVENUE = 0.30
Factory = Callable[[Scenario], Any]


def ours(**options: Any) -> Factory:
    """Return a maker of the planner as a scheduler with these options."""

    def make(scenario: Scenario) -> Any:
        return AcnScheduler(AcnOptions(has_tail=scenario.has_tail, **options))

    return make


def convex(**options: Any) -> Factory:
    """Return a maker of the convex MPC with these options."""

    def make(scenario: Scenario) -> Any:
        return ConvexMpc(is_integer=scenario.is_integer, has_estimator=scenario.has_tail, **options)

    return make


def by_order(name: str) -> Factory:
    """Return a maker of one of acnportal's own algorithms."""
    return lambda scenario: sorted_peer(name, is_integer=scenario.is_integer)


THROUGHPUT: dict[str, Factory] = {
    "ours": ours(),
    "ours, no pauses": ours(never_pause=True),
    "convex MPC": convex(),
    "LLF": by_order("LLF"),
    "EDF": by_order("EDF"),
    "RR": by_order("RR"),
}


def profits(hint_kw: float) -> dict[str, Factory]:
    """Return the algorithms compared by profit; `hint_kw` is a peak taken for granted."""
    priced: dict[str, Any] = {"revenue_per_kwh": REVENUE, "peak_hint_kw": hint_kw}
    return {
        "ours": ours(**priced),
        "ours, no pauses": ours(never_pause=True, **priced),
        "convex MPC": convex(is_cost=True, peak_hint_kw=hint_kw),
        "LLF": by_order("LLF"),
        "uncontrolled": lambda _: uncontrolled(),
    }


def delivered_table(
    month: Month, *, caps: list[float], scenarios: list[str], names: list[str]
) -> Iterator[Score]:
    """Print the share of energy delivered per algorithm and transformer; yield every score."""
    print(f"\n{month.name}: {len(month.stays)} sessions, {month.requested_kwh:.1f} kWh")
    print("% delivered (pauses per session)")
    head = "".join(f"{cap:>15g}" for cap in caps)
    print(f"{'kW':24s}{head}{'CPU ms':>10s}{'p99':>8s}{'over':>6s}")
    best = [100 * offline(month, cap_kw=cap).delivered for cap in caps]
    print(f"{'optimum':24s}" + "".join(f"{share:>15.2f}" for share in best), flush=True)
    for key in scenarios:
        scenario = SCENARIOS[key]
        for name in names:
            print(f"{key + ' ' + name:24s}", end="", flush=True)
            scores = []
            for cap in caps:
                found = run(month, THROUGHPUT[name](scenario), cap_kw=cap, scenario=scenario)
                print(f"{100 * found.delivered:>8.2f} ({found.pauses:4.2f})", end="", flush=True)
                scores.append(found)
            print(_tail(scores), flush=True)
            yield from scores


def profit_table(
    month: Month, *, cap_kw: float, hint_kw: float, scenarios: list[str], names: list[str]
) -> Iterator[Score]:
    """Print the operator's profit per algorithm; yield every score."""
    print(f"\n{month.name}: profit at {cap_kw:g} kW, $; peak hint {hint_kw:.2f} kW")
    columns = ("profit", "energy %", "peak kW", "energy $", "demand $", "pauses")
    print(f"{'':24s}" + "".join(f"{c:>10s}" for c in columns) + f"{'CPU ms':>10s}{'p99':>8s}")
    best = offline(month, cap_kw=cap_kw, is_cost=True)
    print(f"{'optimum':24s}{best.profit:>10.2f}{100 * best.delivered:>10.2f}{best.peak_kw:>10.2f}")
    makers = profits(hint_kw)
    for key in scenarios:
        scenario = SCENARIOS[key]
        for name in (n for n in names if n in makers):
            found = run(month, makers[name](scenario), cap_kw=cap_kw, scenario=scenario)
            values = (found.profit, 100 * found.delivered, found.peak_kw)
            values += (found.energy_cost, found.demand_charge, found.pauses)
            row = "".join(f"{v:>10.2f}" for v in values)
            print(f"{key + ' ' + name:24s}{row}{_tail([found])}", flush=True)
            yield found


def _tail(scores: list[Score]) -> str:
    cpu = np.mean([s.cpu_ms for s in scores])
    p99 = max(s.cpu_p99_ms for s in scores)
    return f"{cpu:>10.2f}{p99:>8.2f}{sum(s.violations for s in scores):>6d}"


class Snapshot:
    """One instant as acnportal's interface shows it: `cars` that all arrived just now."""

    current_time = 0
    current_datetime = datetime(2019, 9, 9, 9, 0)  # noqa: DTZ001 - as the simulator has it
    period = PERIOD_MIN

    def __init__(self, month: Month, *, cars: int, horizon: int, cap_kw: float, seed: int) -> None:
        random = np.random.default_rng(seed)
        self._network = network(cap_kw, is_integer=True)
        stations = list(self._network.station_ids)[:cars]
        picked = random.choice(len(month.stays), size=len(stations), replace=False)
        self._sessions = []
        for station, at in zip(stations, picked.tolist(), strict=True):
            stay = month.stays[at]
            # The last car stays the whole horizon, so that both see one of this length.
            steps = horizon if station == stations[-1] else stay.departure - stay.arrival
            steps = min(steps, horizon)
            self._sessions.append(
                SessionInfo(station, stay.session_id, stay.energy_kwh, 0.0, 0, steps)
            )

    last_applied_pilot_signals: dict[str, float] = {}  # noqa: RUF012
    last_actual_charging_rate: dict[str, float] = {}  # noqa: RUF012

    def active_sessions(self) -> list[Any]:
        """Return fresh copies: schedulers write into them."""
        return [
            SessionInfo(s.station_id, s.session_id, s.requested_energy, 0.0, 0, s.departure)
            for s in self._sessions
        ]

    def infrastructure_info(self) -> Any:
        """Return the network."""
        net = self._network
        return InfrastructureInfo(
            net.constraint_matrix,
            net.magnitudes,
            net._phase_angles,
            net._voltages,
            net.constraint_index,
            net.station_ids,
            net.max_pilot_signals,
            net.min_pilot_signals,
            net.allowable_rates,
            net.is_continuous,
        )


def speed_table(month: Month, *, repeats: int, solver: str = "CLARABEL") -> float:
    """Print CPU per decision on the same snapshots; return the ratio at 54 cars and 144 steps."""
    print(f"\nCPU ms per decision, {repeats} snapshots of {month.name} at 40 kW, {solver}")
    print(f"{'cars x steps':>14s}{'convex MPC':>12s}{'ours':>8s}{'ratio':>8s}")
    ratio = 0.0
    for cars, horizon in ((25, LONGEST_STAY), (54, 96), (54, LONGEST_STAY)):
        took: dict[str, list[float]] = {"theirs": [], "ours": []}
        for seed in range(repeats):
            snapshot = Snapshot(month, cars=cars, horizon=horizon, cap_kw=40.0, seed=seed)
            mine, theirs = AcnScheduler(), ConvexMpc(is_integer=True, solver=solver)
            for name, scheduler in (("ours", mine), ("theirs", theirs)):
                scheduler.register_interface(snapshot)
                sessions = snapshot.active_sessions()
                if isinstance(scheduler, AcnScheduler):
                    # The network is read once per simulation, not per decision.
                    scheduler.case(sessions)
                start = time.process_time()
                scheduler.schedule(sessions)
                took[name].append((time.process_time() - start) * 1e3)
        slow, fast = float(np.median(took["theirs"])), float(np.median(took["ours"]))
        ratio = slow / fast
        print(f"{cars:>8d} x {horizon:<4d}{slow:>11.1f}{fast:>8.2f}{ratio:>8.1f}", flush=True)
    return ratio


def _month(arguments: argparse.Namespace, month: str) -> Month:
    if arguments.sessions:
        return from_acn_data(arguments.sessions, month)
    return bundled(arguments.site, month)


def main(argv: list[str]) -> int:
    """Print the tables asked for; return 1 if any schedule of ours passed a limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--site", choices=("caltech", "jpl"), default="jpl")
    parser.add_argument("--month", default="2019-09", help="2019-07 (tuning), -08 or -09")
    parser.add_argument("--sessions", type=Path, help="a JSON file of ACN-Data instead")
    parser.add_argument("--first-day", type=int, default=0)
    parser.add_argument("--days", type=int, help="so many days instead of the month")
    parser.add_argument("--caps", type=float, nargs="+", default=[20, 30, 40, 50, 60, 80, 150])
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS))
    parser.add_argument("--algorithms", nargs="+", default=list(THROUGHPUT))
    parser.add_argument("--tables", nargs="+", default=["delivered", "profit", "speed"])
    parser.add_argument("--hint-kw", type=float, help="peak hint; the last month's optimum if not")
    parser.add_argument("--repeats", type=int, default=10, help="snapshots of the speed table")
    arguments = parser.parse_args(argv)
    month = _month(arguments, arguments.month)
    if arguments.days:
        month = month.days(arguments.first_day, arguments.days)
    over = 0
    if "delivered" in arguments.tables:
        scores = delivered_table(
            month,
            caps=arguments.caps,
            scenarios=arguments.scenarios,
            names=[n for n in arguments.algorithms if n in THROUGHPUT],
        )
        over += sum(score.violations for score in scores)
    if "profit" in arguments.tables:
        hint_kw = arguments.hint_kw
        if hint_kw is None:
            year, number = map(int, arguments.month.split("-"))
            before = f"{year - (number == 1)}-{(number + 10) % 12 + 1:02d}"
            hint_kw = offline(_month(arguments, before), cap_kw=150, is_cost=True).peak_kw
        scores = profit_table(
            month,
            cap_kw=150,
            hint_kw=hint_kw,
            scenarios=arguments.scenarios,
            names=arguments.algorithms,
        )
        over += sum(score.violations for score in scores)
    if "speed" in arguments.tables:
        speed_table(month, repeats=arguments.repeats)
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
