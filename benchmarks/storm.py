"""What it costs when every station comes back at once: a reconnect storm against a bare accept.

All sockets are cut without a close frame, then all stations come back together and boot. Each boot
is durable before it is answered, and passwords are those that the process has verified before. The
same number of stations does the same to a websockets server that only accepts them, and to the
naive central system, in interleaved rounds. What TASCO has to ask of stations that booted is not
part of the storm: it comes after the boots, and is measured by itself.

Run: python benchmarks/storm.py [--stations N] [--rounds N] [--json FILE]. Exit code 1: a target is
missed; 2: a run met errors and is no measurement.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import bench

from csms.core.model import Evse, Station
from csms.service.passwords import CredentialCheck, hash_password
from csms.store import stations
from csms.store.database import Store
from csms.store.statements import Tx

PASSWORD = "an example password"
ONE, MANY = "T1", "TM"
"""Identities of the fleet on one site, and of the one that is spread out."""
SITES = 100
LIMIT_KW = 3000.0
SITE_ROW = "[site.{name}]\nlimit_kw = {limit_kw}\n"


@dataclass(slots=True, kw_only=True)
class Storms:
    """What one fleet cost at one server, one entry per round."""

    cpu_us: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    retries: list[int] = field(default_factory=list)
    settle_us: list[float] = field(default_factory=list)
    """CPU per station after the last boot was answered, until nothing more is asked."""
    calls: list[float] = field(default_factory=list)
    """Calls that TASCO sent per station, in storm and settling together."""

    @property
    def median_us(self) -> float:
        """Return the median CPU of the storm per station, µs."""
        return statistics.median(self.cpu_us)


CONFIG = """\
{sites}
[store]
url = "sqlite:///{database}"
[gateway]
port = {port}
# The rate at which links are let in is a choice; what is measured here is what they cost.
admitted_per_s = {admitted_per_s}
[api]
port = {api_port}
[telemetry]
level = "warning"
"""


async def populate(url: str, count: int) -> None:
    """Register both fleets, all with one password."""
    credential = hash_password(PASSWORD)
    store = await Store.open(url)

    def work(tx: Tx) -> None:
        for prefix in (ONE, MANY):
            for i in range(count):
                name = f"{prefix}{i:05d}"
                site_id = "one" if prefix == ONE else f"many{i % SITES}"
                station = Station(station_id=name, site_id=site_id, security_profile=1)
                stations.register_station(tx, station, credential_hash=credential)
                stations.upsert_evse(tx, Evse(station_id=name, evse_id=1, max_kw=22.0))

    try:
        await store.write(work)
    finally:
        await store.close()


@contextmanager
def tasco(folder: Path, count: int, *, admitted_per_s: float) -> Any:
    """Run TASCO as an operator would, with automation, both fleets registered."""
    port, api_port, log = bench.free_port(), bench.free_port(), folder / "tasco.log"
    database, config = folder / "tasco.sqlite3", folder / "config.toml"
    names = ["one", *(f"many{i}" for i in range(SITES))]
    config.write_text(
        CONFIG.format(
            sites="".join(SITE_ROW.format(name=n, limit_kw=LIMIT_KW) for n in names),
            database=database,
            port=port,
            api_port=api_port,
            admitted_per_s=admitted_per_s,
        )
    )
    serve = [sys.executable, "-m", "csms", "serve", "--config", str(config)]

    def run() -> Any:
        return bench.process(serve, log)

    with run() as running:
        # Makes the sites.
        bench.wait_until("tasco", running, log, lambda: bench.is_healthy(api_port))
    asyncio.run(populate(f"sqlite:///{database}", count))
    with run() as running:
        bench.wait_until("tasco", running, log, lambda: bench.is_healthy(api_port))
        yield bench.Server(name="tasco", pid=running.pid, port=port, database=database, log=log)


def load(server: bench.Server, prefix: str, count: int, *options: str) -> dict[str, Any]:
    """Run the load generator against `server` with 1.6 stations; return its phases."""
    return bench.load(
        server,
        "1.6",
        prefix,
        *("-n", str(count), "-m", "0", "--no-transactions", "--timeout", "120", *options),
    )


def measure(server: bench.Server, fleet: str, count: int, row: Storms) -> None:
    """Add one storm of a fleet at `server` to `row`."""
    options = ["--storm"]
    if server.name == "echo":
        options += ["--bare", "--connect-limit", "100"]
    elif server.name == "naive":
        options += ["--connect-limit", "20"]
    else:
        options += ["--connect-limit", "20", "--password", PASSWORD]
        options += ["--obliging", "--settle", "600", "--quiet", "4"]
    phases = load(server, fleet, count, *options)
    storm = phases["storm"]
    row.cpu_us.append(storm["server"]["cpu_s"] / count * 1e6)
    row.wall_s.append(storm["wall_s"])
    row.retries.append(storm["errors"].get("storm retry", 0))
    if "settle" in phases:
        row.settle_us.append(phases["settle"]["server"]["cpu_s"] / count * 1e6)
        row.calls.append((storm["csms_calls"] + phases["settle"]["csms_calls"]) / count)


async def password_us(count: int) -> float:
    """Return the CPU of checking a password that was verified before, µs."""
    check, stored = CredentialCheck(), hash_password(PASSWORD)
    names = [f"{ONE}{i:05d}" for i in range(count)]
    for name in names:
        check._good[check._mark(name, PASSWORD.encode(), stored)] = None
    began = time.process_time()
    for name in names:
        if await check.verify(name, PASSWORD.encode(), (stored,)) is None:
            raise bench.NoMeasurement("a remembered password was not taken")
    return (time.process_time() - began) / count * 1e6


def targets(rows: dict[str, Storms], check_us: float) -> list[bench.Target]:
    """Return the lines of target 7."""
    bare, naive = rows["bare accept"], rows["naive"]

    def median(values: Sequence[float]) -> float:
        return statistics.median(values)

    found = []
    for name in ("TASCO, one site", f"TASCO, {SITES} sites"):
        row = rows[name]
        cpu = median([a / b for a, b in zip(row.cpu_us, bare.cpu_us, strict=True)])
        wall = median([a / b for a, b in zip(row.wall_s, naive.wall_s, strict=True)])
        found.append(
            bench.Target(
                number=7, says=f"{name}: storm, CPU x bare accept", measured=cpu, limit=4.0
            )
        )
        found.append(
            bench.Target(number=7, says=f"{name}: storm, wall x naive", measured=wall, limit=0.45)
        )
    found.append(
        bench.Target(
            number=7,
            says="password check x bare accept",
            measured=check_us / bare.median_us,
            limit=0.25,
        )
    )
    return found


def run(count: int, rounds: int, folder: Path, *, admitted_per_s: float) -> dict[str, Storms]:
    """Measure; return what each fleet cost."""
    with ExitStack() as stack:
        echo = stack.enter_context(bench.baseline("echo", "echo_server.py", folder))
        database = folder / "naive.sqlite3"
        naive = stack.enter_context(bench.baseline("naive", "naive_csms.py", folder, database))
        server = stack.enter_context(tasco(folder, count, admitted_per_s=admitted_per_s))
        for fleet in (ONE, MANY):
            # Verifies every password once, and asks every station what it never told before.
            first = ("--password", PASSWORD, "--obliging", "--settle", "600")
            load(server, fleet, count, "--connect-limit", "20", *first)
            print(f"{fleet}: all have connected and settled once", file=sys.stderr)
        cells = [
            ("bare accept", echo, "LB"),
            ("naive", naive, "LN"),
            ("TASCO, one site", server, ONE),
            (f"TASCO, {SITES} sites", server, MANY),
        ]
        rows = {name: Storms() for name, *_ in cells}
        for round_ in range(rounds):
            for name, at, fleet in cells:
                measure(at, fleet, count, rows[name])
                print(
                    f"storm of {count}, round {round_ + 1}: {name} {rows[name].cpu_us[-1]:,.0f} µs "
                    f"a station, {rows[name].wall_s[-1]:.1f} s",
                    file=sys.stderr,
                )
    return rows


def report(
    rows: dict[str, Storms], check_us: float, *, count: int, leniency: float
) -> list[bench.Target]:
    """Print what was measured; return the targets missed."""
    print(f"\n{count} stations come back at once\n")
    print(
        "| server | CPU µs/station [min-max] | x bare | wall s | retries | then, CPU µs | calls |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    bare = rows["bare accept"]
    for name, row in rows.items():
        ratios = [a / b for a, b in zip(row.cpu_us, bare.cpu_us, strict=True)]
        after = f"{statistics.median(row.settle_us):,.0f}" if row.settle_us else "-"
        calls = f"{statistics.median(row.calls):.1f}" if row.calls else "-"
        print(
            f"| {name} | {row.median_us:,.0f} [{min(row.cpu_us):,.0f}-{max(row.cpu_us):,.0f}] "
            f"| {statistics.median(ratios):.1f} | {statistics.median(row.wall_s):.1f} "
            f"| {statistics.median(row.retries):.0f} | {after} | {calls} |"
        )
    print(f"\npassword that was verified before: {check_us:.1f} µs")
    return bench.judged(targets(rows, check_us), leniency, digits=2)


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stations", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--admitted-per-s", type=float, default=1000.0)
    parser.add_argument(
        "--quick", action="store_true", help="one round of 300, half of each target"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured")
    arguments = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        parser.error("CPU is read from /proc, which this system does not have; run it on Linux")
    count = 300 if arguments.quick else arguments.stations
    rounds = 1 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory(prefix="tasco-storm-") as folder:
        try:
            rows = run(count, rounds, Path(folder), admitted_per_s=arguments.admitted_per_s)
            check_us = asyncio.run(password_us(count))
        except bench.NoMeasurement as error:
            print(f"no measurement: {error}", file=sys.stderr)
            return 2
    missed = report(rows, check_us, count=count, leniency=2.0 if arguments.quick else 1.0)
    if arguments.json:
        result = {"stations": count, "rows": {n: asdict(r) for n, r in rows.items()}}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
