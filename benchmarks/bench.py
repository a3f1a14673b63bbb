"""CPU per answered message: an echo, a naive central system and TASCO in interleaved rounds.

Wall-clock rates say little on a shared machine. What is compared is the CPU of the server process
(user + system, all threads, from /proc) per answer, as ratios inside one run: every round loads
echo, naive and TASCO one after the other with the same frames. A ratio is the median of the rounds'
own ratios, because neighbours on the machine come and go between rounds. All three run throughout;
a server nobody talks to costs nothing.

Run: python benchmarks/bench.py [--quick] [--json FILE]. Exit code 1: a target is missed. A run in
which any answer was an error, a refusal or a time-out is no measurement and ends with code 2.
"""

import argparse
import json
import os
import platform
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
STATIONS = 50
PREFIX = {"2.0.1": "LB", "1.6": "LA"}
"""Stations speak one version each: the generator's identities are PREFIX00000 and so on."""
FRAME = {"2.0.1": "TransactionEvent", "1.6": "MeterValues"}
PACED_STATIONS = 500
PACED_PREFIX = "LP"
SYNCS = 100


class NoMeasurement(Exception):
    """A server or a load did not do what it must for a figure to mean something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is sent. CPU is read in ticks of 10 ms, hence so many for the fast ones."""

    rounds: int
    messages: dict[str, int]
    """Per station in the steady phase, by server."""
    leniency: float
    """A target's ratio may be missed by this factor: 1 is the target itself."""
    paced_s: float
    paced_rates: tuple[int, ...]


FULL = Effort(
    rounds=3,
    messages={"echo": 800, "naive": 20, "tasco": 200},
    leniency=1.0,
    paced_s=10.0,
    paced_rates=(50, 500),
)
QUICK = Effort(
    rounds=1,
    messages={"echo": 300, "naive": 10, "tasco": 80},
    leniency=2.0,
    paced_s=0.0,
    paced_rates=(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server under measurement."""

    name: str
    pid: int
    port: int
    database: Path | None = None
    log: Path


@dataclass(slots=True, kw_only=True)
class Cell:
    """What one server cost for one kind of frame, one entry per round."""

    cpu_us: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    rows_per_answer: dict[str, float] = field(default_factory=dict)

    @property
    def median_us(self) -> float:
        """Return the median CPU per answer, µs."""
        return statistics.median(self.cpu_us)


def ratio(over: Cell, under: Cell) -> float:
    """Return the median of the rounds' ratios of CPU per answer."""
    return statistics.median(a / b for a, b in zip(over.cpu_us, under.cpu_us, strict=True))


Cells = dict[str, dict[str, Cell]]
"""By version and server."""


# --- the disk ------------------------------------------------------------------------------------


def sync_ms(folder: Path) -> float:
    """Return the median time of a flush of 4 KiB to the disk under `folder`, ms."""
    flush = getattr(os, "fdatasync", os.fsync)
    block = os.urandom(4096)
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(block)
            file.flush()
            begun = time.perf_counter()
            flush(file.fileno())
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000


def row_counts(database: Path | None) -> dict[str, int]:
    """Return the number of rows of each table of an SQLite file."""
    if database is None:
        return {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        return {
            name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for (name,) in tables
        }


# --- the servers ---------------------------------------------------------------------------------


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` for as long as the block lasts, its output in `log`."""
    with log.open("wb") as output:
        running = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def wait_until(server: str, running: subprocess.Popen[bytes], log: Path, ready: Any) -> None:
    """Poll `ready` until it holds. Raises NoMeasurement after 60 s or when the process ends."""
    give_up_at = time.monotonic() + 60
    while not ready():
        if running.poll() is not None or time.monotonic() > give_up_at:
            raise NoMeasurement(f"{server} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Return whether anybody accepts connections on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_healthy(port: int) -> bool:
    """Return whether TASCO says that it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def baseline(
    name: str, script: str, folder: Path, database: Path | None = None
) -> Iterator[Server]:
    """Run one of the scripts beside this one."""
    port, log = free_port(), folder / f"{name}.log"
    command = [sys.executable, str(HERE / script), str(port)]
    with process(command + ([str(database)] if database else []), log) as running:
        wait_until(name, running, log, lambda: listens(port))
        yield Server(name=name, pid=running.pid, port=port, database=database, log=log)


# Plans are measured by plan_time.py. The one that fifty cars plugged in at once cause would fall
# into a few seconds of messages here and count as theirs: hence a late collect_s.
CONFIG = """\
[site.main]
limit_kw = 2000.0
[store]
url = "sqlite:///{database}"
[gateway]
port = {port}
admitted_per_s = 1000.0
frames_per_s = 0.0
[api]
port = {api_port}
[planner]
automation = false
collect_s = 60.0
[telemetry]
level = "warning"
"""


@contextmanager
def tasco(folder: Path, *, paced: bool) -> Iterator[Server]:
    """Run TASCO as an operator would, every station and its card known beforehand."""
    port, api_port, log = free_port(), free_port(), folder / "tasco.log"
    database, config = folder / "tasco.sqlite3", folder / "config.toml"
    config.write_text(CONFIG.format(database=database, port=port, api_port=api_port))
    names = [f"{prefix}{i:05d}" for prefix in PREFIX.values() for i in range(STATIONS)]
    if paced:
        names += [f"{PACED_PREFIX}{i:05d}" for i in range(PACED_STATIONS)]
    command(config, "station", "add", "--site", "main", *names)
    command(config, "token", "add", *names)
    serve = [sys.executable, "-m", "csms", "serve", "--config", str(config)]
    with process(serve, log) as running:
        wait_until("tasco", running, log, lambda: is_healthy(api_port))
        yield Server(name="tasco", pid=running.pid, port=port, database=database, log=log)


def command(config: Path, group: str, verb: str, *arguments: str) -> None:
    """Run one of TASCO's own commands."""
    done = subprocess.run(
        [sys.executable, "-m", "csms", group, verb, "--config", str(config), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise NoMeasurement(f"tasco {group} {verb} failed:\n{done.stdout}{done.stderr}")


# --- the load ------------------------------------------------------------------------------------


def load(server: Server, version: str, prefix: str, *options: str) -> dict[str, Any]:
    """Run the load generator against `server`; return its phases."""
    with tempfile.NamedTemporaryFile(dir=server.log.parent, suffix=".json") as out:
        done = subprocess.run(
            [
                *(sys.executable, str(HERE / "ocpp_load.py"), "--version", version),
                *("--url", f"ws://127.0.0.1:{server.port}/ocpp/{{id}}", "--prefix", prefix),
                # One card per station: a card can be in one session at a time.
                *("--id-token", "{id}", "--id-token-201", "{id}"),
                *("--connect-limit", "5", "--begin-limit", "10"),
                *("--server", f"server:{server.pid}", "--out", out.name, *options),
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise NoMeasurement(
                f"the load on {server.name} met errors:\n{done.stderr[-3000:]}\n"
                f"its log ends with:\n{server.log.read_text(errors='replace')[-3000:]}"
            )
        phases: dict[str, Any] = json.loads(Path(out.name).read_text())["phases"]
        return phases


def measure(server: Server, version: str, effort: Effort, cell: Cell) -> None:
    """Add one round of `server` to `cell`."""
    before = row_counts(server.database)
    messages = str(effort.messages[server.name])
    phases = load(server, version, PREFIX[version], "-n", str(STATIONS), "-m", messages)
    steady = phases["steady"]
    cell.cpu_us.append(steady["server"]["cpu_us_per_answer"])
    cell.rate.append(steady["rate"])
    cell.p50_ms.append(steady["p50_ms"])
    cell.p99_ms.append(steady["p99_ms"])
    answers = sum(phase["answers"] for phase in phases.values())
    cell.rows_per_answer = {
        table: round((rows - before.get(table, 0)) / answers, 2)
        for table, rows in row_counts(server.database).items()
        if (rows - before.get(table, 0)) / answers >= 0.01
    }


def measure_paced(server: Server, effort: Effort) -> dict[str, Any]:
    """Return CPU and latency of 500 stations that together send a fixed number a second."""
    result = {}
    for rate in effort.paced_rates:
        options = ("--rate", str(rate), "--seconds", str(effort.paced_s), "--settle", "60")
        phases = load(server, "2.0.1", PACED_PREFIX, "-n", str(PACED_STATIONS), *options)
        steady = phases["steady"]
        result[str(rate)] = {
            "cpu_us": steady["server"]["cpu_us_per_answer"],
            "p50_ms": steady["p50_ms"],
            "p99_ms": steady["p99_ms"],
            "rate": steady["rate"],
            "rss_kib_per_station": phases["connect"]["server"]["rss_kib_per_station"],
        }
    return result


# --- the verdict ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One line of the list of targets, with what was measured."""

    number: int
    says: str
    measured: float
    limit: float
    is_at_least: bool = False

    def holds(self, leniency: float = 1.0) -> bool:
        """Return whether the limit is kept, missed by at most the factor `leniency`."""
        if self.is_at_least:
            return self.measured >= self.limit / leniency
        return self.measured <= self.limit * leniency


def judged(found: Sequence[Target], leniency: float, *, digits: int = 1) -> list[Target]:
    """Print each target with its verdict; return those missed by more than `leniency`."""
    for target in found:
        sign = ">=" if target.is_at_least else "<="
        verdict = "holds" if target.holds() else "MISSED"
        print(
            f"target {target.number}: {target.says}: {target.measured:.{digits}f} "
            f"({sign} {target.limit:g}) {verdict}"
        )
    return [target for target in found if not target.holds(leniency)]


def targets(cells: Cells, paced: dict[str, Any], disk_ms: float) -> list[Target]:
    """Return the targets that this run can judge."""
    event, meter = cells["2.0.1"], cells["1.6"]
    found = [
        Target(
            number=1,
            says="TransactionEvent, durable: x echo",
            measured=ratio(event["tasco"], event["echo"]),
            limit=9.0,
        ),
        Target(
            number=2,
            says="TransactionEvent: naive / TASCO",
            measured=ratio(event["naive"], event["tasco"]),
            limit=25.0,
            is_at_least=True,
        ),
        Target(
            number=2,
            says="1.6 MeterValues: naive / TASCO",
            measured=ratio(meter["naive"], meter["tasco"]),
            limit=18.0,
            is_at_least=True,
        ),
    ]
    if "500" in paced:
        found += [
            Target(
                number=5,
                says="500/s: median answer x median fdatasync",
                measured=paced["500"]["p50_ms"] / disk_ms,
                limit=6.0,
            ),
            Target(
                number=5,
                says="500/s: CPU x closed loop",
                measured=paced["500"]["cpu_us"] / event["tasco"].median_us,
                limit=3.0,
            ),
        ]
    return found


def table(cells: Cells) -> None:
    """Print what was measured."""
    print(
        "\n| frame | server | CPU µs/answer [min-max] | x echo | naive / this | answers/s "
        "| p50 / p99 ms | rows per answer |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for version, row in cells.items():
        for name, cell in row.items():
            us = cell.median_us
            echoes = f"{ratio(cell, row['echo']):.1f}" if "echo" in row else "-"
            naives = f"{ratio(row['naive'], cell):.1f}" if "naive" in row else "-"
            rows = ", ".join(f"{n} {c:g}" for n, c in cell.rows_per_answer.items())
            print(
                f"| {FRAME[version]} {version} | {name} "
                f"| {us:,.1f} [{min(cell.cpu_us):,.1f}-{max(cell.cpu_us):,.1f}] "
                f"| {echoes} | {naives} "
                f"| {statistics.median(cell.rate):,.0f} | {statistics.median(cell.p50_ms):.1f} / "
                f"{statistics.median(cell.p99_ms):.1f} | {rows or '-'} |"
            )


def run(effort: Effort, only: Sequence[str], folder: Path) -> dict[str, Any]:
    """Measure and print; return everything measured."""
    cells: Cells = {v: {name: Cell() for name in only} for v in FRAME}
    paced: dict[str, Any] = {}
    syncs = [sync_ms(folder)]
    with ExitStack() as stack:
        servers = []
        if "echo" in only:
            servers.append(stack.enter_context(baseline("echo", "echo_server.py", folder)))
        if "naive" in only:
            database = folder / "naive.sqlite3"
            servers.append(
                stack.enter_context(baseline("naive", "naive_csms.py", folder, database))
            )
        if "tasco" in only:
            is_paced = bool(effort.paced_rates)
            servers.append(stack.enter_context(tasco(folder, paced=is_paced)))
        for version in FRAME:
            for server in servers:
                load(server, version, PREFIX[version], "-n", str(STATIONS), "-m", "5")  # warm up
            for round_ in range(effort.rounds):
                for server in servers:
                    cell = cells[version][server.name]
                    measure(server, version, effort, cell)
                    print(
                        f"{FRAME[version]} {version}, round {round_ + 1}: {server.name} "
                        f"{cell.cpu_us[-1]:,.1f} µs/answer, {cell.rate[-1]:,.0f}/s",
                        file=sys.stderr,
                    )
                syncs.append(sync_ms(folder))
        if "tasco" in only:
            paced = measure_paced(servers[-1], effort)
    return {"cells": cells, "paced": paced, "fdatasync_ms": statistics.median(syncs)}


def report(result: dict[str, Any], effort: Effort) -> list[Target]:
    """Print tables and verdicts; return the targets missed."""
    table(result["cells"])
    disk_ms = result["fdatasync_ms"]
    print(
        f"\n{STATIONS} stations in closed loop, SQLite synchronous=FULL, {effort.rounds} round(s),"
        f" Python {platform.python_version()}; fdatasync of 4 KiB: median {disk_ms:.2f} ms"
    )
    if disk_ms < 0.05:
        print("note: a flush takes no time here, this is no disk; set TMPDIR to one that is")
    for rate, row in result["paced"].items():
        print(
            f"paced, {PACED_STATIONS} stations, {rate}/s: {row['cpu_us']:,.0f} µs/answer, "
            f"p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms, "
            f"{row['rss_kib_per_station']:.0f} KiB per connection"
        )
    return judged(result["targets"], effort.leniency)


def plan_times(*, is_quick: bool) -> None:
    """Print what plans cost, by the script beside this one."""
    script, how = HERE / "plan_time.py", ["--quick"] if is_quick else []
    print(flush=True)
    subprocess.run([sys.executable, str(script), *how], cwd=ROOT, check=True)


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, half of each target")
    parser.add_argument("--rounds", type=int, help="3 unless told otherwise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured")
    parser.add_argument(
        "--only",
        action="append",
        choices=["echo", "naive", "tasco"],
        help="measure these servers only, and judge nothing",
    )
    arguments = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        parser.error("CPU is read from /proc, which this system does not have; run it on Linux")
    effort = QUICK if arguments.quick else FULL
    if arguments.rounds:
        effort = Effort(**{**asdict(effort), "rounds": arguments.rounds})
    with tempfile.TemporaryDirectory(prefix="tasco-bench-") as folder:
        try:
            result = run(effort, arguments.only or ["echo", "naive", "tasco"], Path(folder))
        except NoMeasurement as error:
            print(f"no measurement: {error}", file=sys.stderr)
            return 2
    cells, paced = result["cells"], result["paced"]
    if arguments.only:
        result["targets"] = []
    else:
        result["targets"] = targets(cells, paced, result["fdatasync_ms"])
    missed = report(result, effort)
    if not arguments.only:
        plan_times(is_quick=arguments.quick)
    if arguments.json:
        result["cells"] = {v: {n: asdict(c) for n, c in row.items()} for v, row in cells.items()}
        result["targets"] = [asdict(t) | {"holds": t.holds()} for t in result["targets"]]
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
