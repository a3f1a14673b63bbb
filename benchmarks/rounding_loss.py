"""What rounding to whole amperes costs: the step that is carried out, against the relaxed optimum.

The first slot is fixed at the rounded powers and the program is solved again for all later ones:
what that optimum is worse than the first, as a share of what all that is given is worth. Later
slots of a plan are rounded as well, but planned again before they come. Cases are instants of a
real garage under 30 kW (garage.py) and the made-up sites of plan_time.py.

Run: python benchmarks/rounding_loss.py [--days 20] [--every 9]
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from garage import snapshots
from plan_time import ROOM, site

from csms.core.plan import PlanningCase
from csms.planning.blocks import blocks_of
from csms.planning.dwell import with_dwell
from csms.planning.grid import grid_of
from csms.planning.rounding import rows_of
from csms.planning.solver import solve

BAR_PERCENT = 0.05
LEAST_SHARE = 0.997
"""How far below the rounded powers the program may stay: its polygons lie inside the circles."""


def loss_percent(case: PlanningCase) -> float | None:
    """Return what rounding the first slot of `case` costs, %; None if it passes a polygon."""
    grid = with_dwell(grid_of(case))
    blocks = blocks_of(grid)
    best = solve(grid, blocks)
    first = slice(0, int(blocks.lengths[0]))
    rows = rows_of(grid, blocks, best)
    cap_kw, floor_kw = grid.cap_kw.copy(), grid.floor_kw.copy()
    cap_kw[:, first], floor_kw[:, first] = rows[:, first], LEAST_SHARE * rows[:, first]
    after = solve(replace(grid, cap_kw=cap_kw, floor_kw=floor_kw), blocks)
    if not after.is_solved or best.weights is None:
        return None
    weights = best.weights
    worth = (weights.due * weights.due_kwh).sum() + weights.later * grid.later_kwh.sum()
    worth += (np.maximum(weights.extra, 0.0) * grid.extra_kwh).sum()
    lost = after.objective - best.objective
    return float(100.0 * lost / max(worth - best.objective, 1e-2))


def show(name: str, cases: Iterable[PlanningCase]) -> bool:
    """Print one line; return whether the mean keeps the bar."""
    found = [loss_percent(case) for case in cases]
    losses = np.array([loss for loss in found if loss is not None])
    mean = float(losses.mean())
    values = f"{np.median(losses):9.4f}{mean:9.4f}{losses.max():9.4f}"
    verdict = "yes" if mean <= BAR_PERCENT else "NO"
    print(
        f"{name:44s}{len(losses):6d}{len(found) - len(losses):8d}{values}{verdict:>7s}", flush=True
    )
    return mean <= BAR_PERCENT


def main(argv: list[str]) -> int:
    """Print every kind of case; return 1 if one loses more than the bar on average."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--days", type=int, default=20, help="days of July 2019 of each garage")
    parser.add_argument("--every", type=int, default=9, help="steps of 5 minutes between instants")
    arguments = parser.parse_args(argv)
    head = f"{'cases':>6s}{'unsolved':>8s}{'median':>9s}{'mean':>9s}{'most':>9s}{'holds':>7s}"
    print(f"{f'loss of the first slot, %, bar {BAR_PERCENT:g}':44s}{head}")
    holds = True
    for place in ("caltech", "jpl"):
        found = list(
            snapshots(place, "2019-07", cap_kw=30.0, days=arguments.days, every=arguments.every)
        )
        for name, cases in (
            ("no prices", [s.throughput for s in found]),
            ("prices and peak", [s.priced for s in found]),
            ("quarter hours", [replace(s.quarters, avoids_pauses=False) for s in found]),
            ("quarter hours, pauses avoided", [s.quarters for s in found]),
        ):
            holds &= show(f"{place}, {name}", cases)
    for name, share in ROOM.items():
        holds &= show(f"54 cars, {name}", [site(54, room_share=share, seed=s) for s in range(20)])
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
