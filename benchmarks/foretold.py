"""What drivers are told they will lack, against what they lack once the day has been lived.

An instant of a real garage (garage.py, JPL's cars and Caltech's behind Caltech's transformer) or a
made-up site (plan_time.py) is planned, its first slot carried out, planned again, and so on until
all cars have left; nobody else comes, and all do what they stated. What is missing at each
departure is compared with what the first plan said.

Run: python benchmarks/foretold.py [--every 12] [--nights 8]
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from garage import snapshots
from lived import given_kwh, later
from plan_time import ROOM, site

from csms.core.plan import PlanningCase
from csms.planning.planner import plan

SHORT_KWH = 0.05


@dataclass(slots=True)
class Told:
    """What cars of many cases need, were told to lack, and lacked, kWh each."""

    need: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    lacked: list[float] = field(default_factory=list)

    def live(self, case: PlanningCase) -> None:
        """Live `case` to its end."""
        first = plan(case)
        lacks = {s.session_id: s.required_kwh for s in case.sessions}
        now, made = case, first
        while True:
            for name, kwh in given_kwh(now, made).items():
                lacks[name] -= kwh
            if now.slots < 2:
                break
            now = later(now, made)
            if not now.sessions:
                break
            made = plan(now)
        self.need += [s.required_kwh for s in case.sessions]
        self.told += [row.shortfall_kwh for row in first.sessions]
        self.lacked += [max(kwh, 0.0) for kwh in lacks.values()]


def show(name: str, cases: Iterable[PlanningCase]) -> None:
    """Live the cases and print one line."""
    found = Told()
    count = 0
    for case in cases:
        found.live(case)
        count += 1
    told, lacked = np.array(found.told), np.array(found.lacked)
    alarms = int(((told > SHORT_KWH) & (lacked <= SHORT_KWH)).sum())
    surprises = int(((told <= SHORT_KWH) & (lacked > SHORT_KWH)).sum())
    print(
        f"{name:28s}{count:6d}{len(told):6d}{sum(found.need):10.0f}{told.sum():10.1f}"
        f"{lacked.sum():10.1f}{np.abs(told - lacked).mean():9.3f}{alarms:8d}{surprises:11d}",
        flush=True,
    )


def main(argv: list[str]) -> int:
    """Print every kind of case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--every", type=int, default=12, help="every so many instants of a garage")
    parser.add_argument("--nights", type=int, default=8, help="made-up sites of each kind")
    arguments = parser.parse_args(argv)
    head = f"{'cases':>6s}{'cars':>6s}{'need kWh':>10s}{'told':>10s}{'lacked':>10s}"
    print(f"{'':28s}{head}{'apart':>9s}{'alarms':>8s}{'surprises':>11s}")
    for place in ("jpl", "caltech"):
        instants = snapshots(place, "2019-07", cap_kw=30.0, days=31, every=6)
        some = [s.quarters for s in instants][:: arguments.every]
        show(f"{place}, 30 kW", some)
    for name in ROOM:
        nights = [site(54, room_share=ROOM[name], seed=s) for s in range(arguments.nights)]
        # Nobody comes for whom anything is kept.
        show(f"54 cars, {name}", [replace(c, reserved_kw=(0.0,) * c.slots) for c in nights])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
