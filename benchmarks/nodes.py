"""What a message costs when gateway and centre are nodes that meet on NATS, beside one process.

Both run throughout, on databases of their own, and are loaded one after the other in each round
with the same frames. CPU is that of all processes: gateway, centre and the NATS server, which is
one of our own. What is compared is CPU per answer within a round; the rest is context.

Run: python benchmarks/nodes.py [--rounds N] [--messages M] [--json FILE]. It needs nats-server on
the path. Exit code 2: a run met errors and is no measurement.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench

ONE, NODES = "one process", "gateway + centre + NATS"
NODE_CONFIG = """\
{config}
[bus]
type = "nats"
url = "nats://127.0.0.1:{nats_port}"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Running nodes; stations connect to `gateway`."""

    gateway: bench.Server
    centre_pid: int
    nats_pid: int


def has_nats() -> bool:
    """Return whether a NATS server can be started."""
    return shutil.which("nats-server") is not None


@contextmanager
def serving(config: Path, folder: Path, *, port: int, api_port: int) -> Iterator[Nodes]:
    """Run NATS, a centre and a gateway on one configuration without [bus]."""
    nats_port, log = bench.free_port(), folder / "gateway.log"
    nodes = folder / "nodes.toml"
    nodes.write_text(NODE_CONFIG.format(config=config.read_text(), nats_port=nats_port))
    nats = ["nats-server", "-a", "127.0.0.1", "-p", str(nats_port)]
    serve = [sys.executable, "-m", "csms", "serve", "--config", str(nodes), "--role"]
    nats_log, centre_log = folder / "nats.log", folder / "centre.log"
    with (
        bench.process(nats, nats_log) as broker,
        bench.process([*serve, "central"], centre_log) as centre,
        bench.process([*serve, "gateway"], log) as gateway,
    ):
        bench.wait_until("nats-server", broker, nats_log, lambda: bench.listens(nats_port))
        bench.wait_until("centre", centre, centre_log, lambda: bench.is_healthy(api_port))
        bench.wait_until("gateway", gateway, log, lambda: bench.listens(port))
        yield Nodes(
            gateway=bench.Server(name="gateway", pid=gateway.pid, port=port, log=log),
            centre_pid=centre.pid,
            nats_pid=broker.pid,
        )


@contextmanager
def benched(folder: Path) -> Iterator[Nodes]:
    """Run nodes on what bench.py runs one process on."""
    port, api_port, config = bench.free_port(), bench.free_port(), folder / "config.toml"
    database = folder / "tasco.sqlite3"
    config.write_text(bench.CONFIG.format(database=database, port=port, api_port=api_port))
    names = [f"{prefix}{i:05d}" for prefix in bench.PREFIX.values() for i in range(bench.STATIONS)]
    bench.command(config, "station", "add", "--site", "main", *names)
    bench.command(config, "token", "add", *names)
    with serving(config, folder, port=port, api_port=api_port) as nodes:
        yield nodes


def steady(server: bench.Server, version: str, messages: int, *others: str) -> dict[str, Any]:
    """Return the steady phase of one load."""
    watched = [part for other in others for part in ("--server", other)]
    options = ("-n", str(bench.STATIONS), "-m", str(messages), *watched)
    phase: dict[str, Any] = bench.load(server, version, bench.PREFIX[version], *options)["steady"]
    return phase


def run(rounds: int, messages: int) -> dict[str, Any]:
    """Measure both in interleaved rounds; return every round."""
    found: dict[str, Any] = {v: {ONE: [], NODES: []} for v in bench.FRAME}
    with (
        tempfile.TemporaryDirectory(prefix="tasco-one-") as one,
        tempfile.TemporaryDirectory(prefix="tasco-nodes-") as several,
        bench.tasco(Path(one), paced=False) as server,
        benched(Path(several)) as nodes,
    ):
        others = (f"centre:{nodes.centre_pid}", f"nats:{nodes.nats_pid}")
        for number in range(rounds):
            for version in bench.FRAME:
                found[version][ONE].append(steady(server, version, messages))
                found[version][NODES].append(steady(nodes.gateway, version, messages, *others))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return found


def report(found: dict[str, Any]) -> None:
    """Print what was measured: medians, and the median of the rounds' ratios."""
    flush_ms = bench.sync_ms(Path(tempfile.gettempdir()))
    print(f"\n{bench.STATIONS} stations, closed loop, {flush_ms:.1f} ms a flush\n")
    print("| frame | in | CPU µs/answer | of it centre | NATS | x one | answers/s | p50 / p99 ms |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for version, cells in found.items():
        single = [phase["server"]["cpu_us_per_answer"] for phase in cells[ONE]]
        for name, phases in cells.items():
            parts = {
                part: [p[part]["cpu_us_per_answer"] for p in phases if part in p]
                for part in ("server", "centre", "nats")
            }
            sums = [sum(of_round) for of_round in zip(*filter(None, parts.values()), strict=True)]
            shown = {k: f"{statistics.median(v):.0f}" if v else "-" for k, v in parts.items()}
            times = statistics.median(a / b for a, b in zip(sums, single, strict=True))
            rate, p50, p99 = (
                statistics.median(p[key] for p in phases) for key in ("rate", "p50_ms", "p99_ms")
            )
            print(
                f"| {bench.FRAME[version]} {version} | {name} | {statistics.median(sums):.0f} "
                f"| {shown['centre']} | {shown['nats']} | {times:.2f} | {rate:,.0f} "
                f"| {p50:.1f} / {p99:.1f} |"
            )


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=200, help="of each station in a round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured")
    arguments = parser.parse_args()
    if not has_nats():
        parser.error("nats-server is not on the path")
    try:
        found = run(arguments.rounds, arguments.messages)
    except bench.NoMeasurement as error:
        print(f"no measurement: {error}", file=sys.stderr)
        return 2
    report(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
