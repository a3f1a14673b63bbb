"""python -m simulators SCENARIO [URL]: run a scenario against a central system.

Progress goes to standard error, the summary as JSON to standard output. Exit codes: 0 well, 1
something went wrong on the wire, 2 a bad scenario or argument.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from simulators.clock import SimClock, parse_iso
from simulators.fleet import Fleet
from simulators.scenario import VERSIONS, Scenario, ScenarioError, load, packaged


def _instant(text: str) -> datetime:
    try:
        return parse_iso(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO 8601 time") from exc


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)
    names = ", ".join(packaged())
    parser.add_argument("scenario", help=f"a TOML file, or one of: {names}")
    parser.add_argument("url", nargs="?", help="ws://host:port/ocpp; without it nothing is run")
    parser.add_argument("--clock-start", type=_instant, help="simulated time at the start")
    parser.add_argument("--speed", type=float, help="simulated seconds per second")
    parser.add_argument(
        "--clock-zero", type=float, help="Unix time at which the simulated clock shows its start"
    )
    parser.add_argument("--seed", type=int, help="replaces the scenario's")
    parser.add_argument("--version", choices=VERSIONS, help="replaces the stations' versions")
    parser.add_argument("--limit-kw", type=float, help="limit to judge by, replaces the site's")
    parser.add_argument("--sample-interval-s", type=int, help="replaces the scenario's")
    parser.add_argument("--journal", type=Path, help="folder for a journal per station")
    parser.add_argument("--no-fsync", action="store_true", help="journals without fsync")
    parser.add_argument("--export-day", type=Path, help="write drivers, vehicles, trips as JSON")
    parser.add_argument("--stays", type=Path, help="write what each stay got as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser.parse_args(argv)


def _scenario(arguments: argparse.Namespace) -> Scenario:
    scenario = load(arguments.scenario, version=arguments.version, seed=arguments.seed)
    changes: dict[str, Any] = {}
    for key, name, least in (
        ("speed", "speed", 0.0),
        ("limit_kw", "limit-kw", 0.0),
        ("sample_interval_s", "sample-interval-s", 0.0),
    ):
        value = getattr(arguments, key)
        if value is None:
            continue
        if value <= least:
            raise ScenarioError(f"--{name} is {value}; it must be above {least:g}")
        changes[key] = value
    if arguments.clock_start is not None:
        changes["start"] = arguments.clock_start
    return replace(scenario, **changes)


async def _run(scenario: Scenario, arguments: argparse.Namespace) -> tuple[dict[str, Any], Fleet]:
    clock = SimClock(start=scenario.start, speed=scenario.speed, zero=arguments.clock_zero)
    fleet = Fleet(
        scenario, arguments.url, clock, journals=arguments.journal, fsync=not arguments.no_fsync
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    say = None if arguments.quiet else _say
    return await fleet.run(stop=stop, progress=say), fleet


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _runner() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        scenario = _scenario(arguments)
    except ScenarioError as exc:
        _say(str(exc))
        return 2
    if arguments.export_day:
        scenario.day.save(arguments.export_day)
    if arguments.url is None:
        if not arguments.export_day:
            _say("url is missing; give ws://host:port/ocpp, or --export-day FILE alone")
            return 2
        return 0
    summary, fleet = _runner()(_run(scenario, arguments))
    if arguments.stays:
        arguments.stays.write_text(json.dumps(fleet.stays(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    return 1 if summary["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
