"""What the server process holds: by itself, for an idle connection, for a station that has left.

Each way of connecting gets a process of its own, on a database in which every station is known.
A first fleet comes, boots, is asked what TASCO asks of a station that boots, and falls silent: what
the process grew by is the price of idle connections. It leaves, and a second fleet of the same size
with other identities comes: that takes the room the first one gave back, so what the process grows
by once more is what is kept of a station that has left. A small fleet comes and goes before the
first, so that nothing that is loaded or made once counts as a station's.

A gateway node is measured in the same way with its centre beside it, where a nats-server is on the
path; what the centre holds is that of one process without links.

The process by itself is measured when its ports are open, after the first plan, which loads the
planner's libraries, and with forecasts, which load pandas and scikit-learn.

Run: python benchmarks/memory.py [--stations N] [--only MODE] [--json FILE]. Exit code 1: a target
is missed; 2: a run met errors and is no measurement.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import bench
import nodes

from csms.core.model import Evse, Station
from csms.opening import open_store
from csms.service.authority import LocalAuthority
from csms.settings import Settings, load
from csms.store import stations
from csms.store.statements import Tx

KIB_A_MIB = 1024
PER_SITE = 100
"""Stations of one site."""
WARMING = 100
FIRST, SECOND, BEFORE = "MA", "MB", "MW"
"""Identities of the two fleets that are measured, and of the one that comes before."""
SETTLED_S = 5.0
SETTLED_KIB = 64
GIVE_UP_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One way for stations to connect, and what an idle connection may take."""

    name: str
    limit_kib: float
    version: str = "1.6"
    is_secure: bool = False
    is_node: bool = False
    options: tuple[str, ...] = ()
    """For the load generator."""


MODES = (
    Mode(name="plain, 1.6", limit_kib=24.0),
    Mode(name="plain, 2.0.1", limit_kib=24.0, version="2.0.1"),
    Mode(name="deflate, 1.6", limit_kib=28.0, options=("--websockets", "--deflate")),
    Mode(name="TLS, 1.6", limit_kib=60.0, is_secure=True),
    Mode(name="gateway node, 1.6", limit_kib=24.0, is_node=True),
)
BARE = "websockets alone"
BASE_LIMIT_MIB = 80.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one server held; `base_mib` before anybody came, `warm_mib` after the small fleet."""

    base_mib: float
    warm_mib: float
    connection_kib: float
    station_kib: float


CONFIG = """\
{sites}
[store]
url = "sqlite:///{database}"
[gateway]
port = {port}
admitted_per_s = 1000.0
{tls}
[api]
port = {api_port}
[forecast]
enabled = {forecast}
[telemetry]
level = "warning"
"""
TLS = """\
tls_certificate_file = "{ca}/server-ec.pem"
tls_key_file = "{ca}/server-ec.key"
[security]
ca_folder = "{ca}"
operator = "benchmark"
"""


def rss_kib(pid: int) -> int:
    """Return the resident memory of a process, KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise bench.NoMeasurement(f"process {pid} has no memory")


def settled_kib(pid: int) -> int:
    """Return the resident memory once it has not moved for `SETTLED_S`, KiB."""
    give_up_at = time.monotonic() + GIVE_UP_S
    last, since = rss_kib(pid), time.monotonic()
    while time.monotonic() < min(give_up_at, since + SETTLED_S):
        time.sleep(0.2)
        now = rss_kib(pid)
        if abs(now - last) > SETTLED_KIB:
            last, since = now, time.monotonic()
    return rss_kib(pid)


async def populate(settings: Settings, count: int) -> None:
    """Make the database and register all fleets, each spread over all sites."""
    sites = list(settings.site)
    fleets = ((BEFORE, WARMING), (FIRST, count), (SECOND, count))
    store = await open_store(settings)

    def work(tx: Tx) -> None:
        for prefix, size in fleets:
            for i in range(size):
                name, site_id = f"{prefix}{i:05d}", sites[i % len(sites)]
                stations.register_station(tx, Station(station_id=name, site_id=site_id))
                stations.upsert_evse(tx, Evse(station_id=name, evse_id=1, max_kw=22.0))

    try:
        await store.write(work)
    finally:
        await store.close()


@contextmanager
def tasco(
    folder: Path, count: int, *, is_secure: bool, forecast: bool, is_node: bool = False
) -> Iterator[bench.Server]:
    """Run TASCO as an operator would, on a database that it has opened before.

    With `is_node` the server is a gateway node, whose centre runs as well.
    """
    port, api_port, log = bench.free_port(), bench.free_port(), folder / "tasco.log"
    database, config = folder / "tasco.sqlite3", folder / "config.toml"
    sites = [f"site{i}" for i in range(max(count // PER_SITE, 1))]
    ca = folder / "ca"
    config.write_text(
        CONFIG.format(
            sites="\n".join(f"[site.{name}]\nlimit_kw = 3000.0" for name in sites),
            database=database,
            port=port,
            api_port=api_port,
            tls=TLS.format(ca=ca) if is_secure else "",
            forecast=str(forecast).lower(),
        )
    )
    if is_secure:
        LocalAuthority(folder=ca, operator="benchmark").create(now=datetime.now(UTC), days=30)
        bench.command(config, "ca", "server", "127.0.0.1")
    asyncio.run(populate(load(config), count))
    if is_node:
        with nodes.serving(config, folder, port=port, api_port=api_port) as running_nodes:
            yield running_nodes.gateway
        return
    serve = [sys.executable, "-m", "csms", "serve", "--config", str(config)]
    with bench.process(serve, log) as running:
        bench.wait_until("tasco", running, log, lambda: bench.is_healthy(api_port))
        yield bench.Server(name="tasco", pid=running.pid, port=port, database=database, log=log)


def come(server: bench.Server, mode: Mode, folder: Path, prefix: str, count: int) -> float:
    """Let a fleet come, boot and fall silent; return the process's memory then, MiB."""
    scheme = "wss" if mode.is_secure else "ws"
    options = ["--url", f"{scheme}://127.0.0.1:{server.port}/ocpp/{{id}}", *mode.options]
    if mode.is_secure:
        options += ["--cafile", str(folder / "ca" / "csms-root.pem")]
    if server.name != "echo":
        options += ["--obliging", "--settle", "600"]
    phases = bench.load(
        server,
        mode.version,
        prefix,
        *("-n", str(count), "-m", "0", "--no-transactions", "--connect-limit", "20"),
        *("--idle", str(SETTLED_S), "--timeout", "120", *options),
    )
    last = phases["settle" if server.name != "echo" else "idle"]
    if last["live"] != count:
        raise bench.NoMeasurement(f"{count - last['live']} of {count} stations were lost")
    return float(last["server"]["rss_mib"])


def measure(server: bench.Server, mode: Mode, folder: Path, count: int) -> Held:
    """Let the fleets come and go."""
    base = settled_kib(server.pid)
    come(server, mode, folder, BEFORE, WARMING)
    warm = settled_kib(server.pid)
    first = come(server, mode, folder, FIRST, count)
    settled_kib(server.pid)
    second = come(server, mode, folder, SECOND, count)
    return Held(
        base_mib=base / KIB_A_MIB,
        warm_mib=warm / KIB_A_MIB,
        connection_kib=(first * KIB_A_MIB - warm) / count,
        station_kib=(second - first) * KIB_A_MIB / count,
    )


def run(count: int, modes: Sequence[Mode]) -> dict[str, Held]:
    """Measure every mode; return what was held."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="tasco-memory-") as name:
        folder = Path(name)
        with bench.baseline("echo", "echo_server.py", folder) as echo:
            found[BARE] = measure(echo, MODES[0], folder, count)
    for mode in modes:
        with tempfile.TemporaryDirectory(prefix="tasco-memory-") as name:
            folder = Path(name)
            with tasco(
                folder, count, is_secure=mode.is_secure, forecast=False, is_node=mode.is_node
            ) as server:
                found[mode.name] = measure(server, mode, folder, count)
        held = found[mode.name]
        print(f"{mode.name}: {held.connection_kib:.1f} KiB a connection", file=sys.stderr)
    return found


def with_forecast() -> float:
    """Return what the process holds once it has forecast, MiB."""
    with tempfile.TemporaryDirectory(prefix="tasco-memory-") as name:
        folder = Path(name)
        with tasco(folder, PER_SITE, is_secure=False, forecast=True) as server:
            return settled_kib(server.pid) / KIB_A_MIB


def targets(found: dict[str, Held], modes: Sequence[Mode]) -> list[bench.Target]:
    """Return the lines of target 6."""
    lines = [
        bench.Target(
            number=6,
            says=f"{mode.name}: KiB per idle connection",
            measured=found[mode.name].connection_kib,
            limit=mode.limit_kib,
        )
        for mode in modes
    ]
    for says, is_node in (("process", False), ("gateway node", True)):
        bases = [found[mode.name].base_mib for mode in modes if mode.is_node is is_node]
        if bases:
            what = f"{says} by itself, MiB"
            lines.append(
                bench.Target(number=6, says=what, measured=max(bases), limit=BASE_LIMIT_MIB)
            )
    return lines


def report(
    found: dict[str, Held], modes: Sequence[Mode], forecast_mib: float, count: int, leniency: float
) -> list[bench.Target]:
    """Print what was measured; return the targets missed."""
    print(f"\n{count} idle stations\n")
    print("| server | by itself, MiB | warm, MiB | KiB/connection | KiB/station that left |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, held in found.items():
        print(
            f"| {name} | {held.base_mib:.0f} | {held.warm_mib:.0f} | {held.connection_kib:.1f} "
            f"| {held.station_kib:.1f} |"
        )
    print(f"\nby itself, with forecasts (pandas, scikit-learn): {forecast_mib:.0f} MiB")
    return bench.judged(targets(found, modes), leniency)


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stations", type=int, default=2000)
    parser.add_argument("--only", action="append", choices=[m.name for m in MODES])
    parser.add_argument("--quick", action="store_true", help="300 stations, half of each target")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured")
    arguments = parser.parse_args()
    if not Path("/proc/self/status").exists():
        parser.error("memory is read from /proc, which this system does not have; run it on Linux")
    count = 300 if arguments.quick else arguments.stations
    modes = [m for m in MODES if not arguments.only or m.name in arguments.only]
    if not nodes.has_nats() and any(m.is_node for m in modes):
        print("nats-server is not on the path: no gateway node is measured", file=sys.stderr)
        modes = [m for m in modes if not m.is_node]
    try:
        found = run(count, modes)
        forecast_mib = with_forecast()
    except bench.NoMeasurement as error:
        print(f"no measurement: {error}", file=sys.stderr)
        return 2
    missed = report(found, modes, forecast_mib, count, 2.0 if arguments.quick else 1.0)
    if arguments.json:
        result = {"stations": count, "held": {n: asdict(h) for n, h in found.items()}}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
