"""What every process does for itself, whatever its role: files, garbage, the signal to stop."""

import asyncio
import gc
import resource
import signal

STOP_WITHIN_S = 10.0


def stop_signal() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def quieten_collector() -> None:
    """Make the cyclic garbage collector cheap for a server: skip what stays, look less often.

    Everything a message makes is freed by reference counts; the collector only finds the rare
    cycle. With the default of 700 new objects it runs many times per group of messages and walks
    the schema, the validators and the modules each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def permit_files() -> int:
    """Let the process open as many files as the system permits it, and return how many.

    Each link is an open file, and services are started with a limit of 1,024 that they may raise
    themselves, for the sake of programs that use select().
    """
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):
        # No system takes every number that it calls its limit.
        return before
    return most
