"""Runs every part in one TaskGroup on one event loop, and stops them in order."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import structlog

from csms.assembly import System, build
from csms.clock import Clock
from csms.core.errors import ConfigError, StoreUnavailable
from csms.gateway_setup import clock_from
from csms.opening import open_store
from csms.process import STOP_WITHIN_S, permit_files, quieten_collector, stop_signal
from csms.service.recovery import give_up_silent, settle_interrupted
from csms.service.returns import Returns
from csms.service.tenure import clear_left_over
from csms.settings import Settings
from csms.store import access
from csms.store.database import Store

log = structlog.get_logger(__name__)


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise ConfigError(
            f"api: cannot listen on {host}:{port}: {error.strerror}; choose another api.port"
        ) from error


def _timetable(system: System) -> None:
    """Put every job on the timetable (architecture.md 8)."""
    settings, jobs = system.settings, system.jobs

    async def slot() -> None:
        for site_id in settings.site:
            system.replanner.slot_begins(site_id)

    jobs.every("replan", slot, period_s=settings.planner.slot_s, before_s=20)
    jobs.every("prices", system.market.fetch, period_s=3600, before_s=300)
    jobs.every("fold energy", system.housekeeping.fold, period_s=900)
    jobs.every("follow clock", system.housekeeping.follow_clock, period_s=10)

    async def certificates() -> None:
        system.metrics.certificates_ending.set(await system.certificates.watch())

    jobs.every("certificates", certificates, period_s=3600)

    async def silent_jobs() -> None:
        now = system.clock.now()
        for request_key in await system.store.write(lambda tx: give_up_silent(tx, now=now)):
            system.care.bulk.job_moved(request_key)

    jobs.every("silent jobs", silent_jobs, period_s=3600)
    jobs.every("quiet sessions", system.housekeeping.close_quiet, period_s=60)
    jobs.every("silent stations", system.central.look_for_silence, period_s=60)
    returns = Returns(store=system.store, clock=system.clock)
    jobs.every("stations that stay away", returns.look, period_s=60)
    jobs.every("read back", system.central.read_back.look_again, period_s=60)
    jobs.every("closed uploads", system.care.logs.purge, period_s=86400)
    jobs.every("waiting commands", system.waiting.expire, period_s=60)
    jobs.every("reservations", system.reservations.expire, period_s=60)
    jobs.every("local lists", system.local_lists.refresh, period_s=60)
    jobs.every("remote starts", system.remote.expire, period_s=60)
    jobs.every("allowances", system.allowances.count, period_s=60)
    jobs.every("offers", system.housekeeping.expire_offers, period_s=300)
    jobs.every("meters", system.meters.look, period_s=60)
    jobs.every("purge", system.housekeeping.purge, period_s=86400)
    if settings.forecast.enabled:
        jobs.every("forecast", system.forecasting.refresh, period_s=900)
        jobs.daily("train", system.forecasting.train_all, at=settings.forecast.train_at)


@contextlib.asynccontextmanager
async def running(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[System]:
    """Run the whole system; the body runs once both ports are open.

    Leaving the body stops everything in order: no new links, open calls finished, links closed
    1001, the store drained. Raises StoreUnavailable if the store fails for good meanwhile, Conflict
    where a centre with gateways of its own lives on the store.
    """
    clock = clock or clock_from(settings)
    store = await open_store(settings)
    try:
        await clear_left_over(store)
        async with alive(build(settings, store, clock)) as system:
            yield system
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def alive(
    system: System,
    *,
    lives: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
    finish: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[System]:
    """Run a system that was built; `lives` run beside its own parts, to be ended by `finish`."""
    settings, store = system.settings, system.store
    # A process that was killed left links and calls open on record; there is only this one.
    started_at = system.clock.now()
    await store.write(lambda tx: settle_interrupted(tx, at=started_at))
    await system.enrolment.keep_names()
    listener = _listener(settings.api.host, settings.api.port)
    if system.stations is not None:
        await system.stations.start()
    try:
        async with asyncio.TaskGroup() as group:
            # The API ends by itself once told to, its listener closed: it is not cancelled.
            group.create_task(system.api.serve(sockets=[listener]), name="api")
            tasks = [group.create_task(live()) for live in lives]
            tasks.append(group.create_task(system.replanner.run(), name="replanner"))
            tasks.append(group.create_task(_watch_store(store), name="store watch"))
            await system.api.ready.wait()
            await _begin(system)
            try:
                yield system
            finally:
                await _stop(system)
                if finish is not None:
                    await finish()
                for task in tasks:
                    task.cancel()
    finally:
        listener.close()
        if system.stations is not None:
            await system.stations.stop()
        await system.background.stop()
        await asyncio.to_thread(system.frames.close)


async def _begin(system: System) -> None:
    """Begin what needs the ports to be open."""
    _name_uploads(system)
    await system.care.bulk.resume()
    _timetable(system)
    system.jobs.start()
    system.background.start("prices", system.market.fetch)
    if system.settings.forecast.enabled:
        # pandas and scikit-learn take a second to load: after the ports are open.
        system.background.start("first forecast", system.forecasting.train_all)


def _name_uploads(system: System) -> None:
    """Let stations upload to the API's own address where no other is configured."""
    logs, host = system.care.logs, system.settings.api.host
    if not logs.options.public_url:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{system.api_port}"
        logs.options = replace(logs.options, public_url=url)


async def _stop(system: System) -> None:
    system.jobs.stop()
    system.notices.close()
    system.frames.end_readers()
    system.api.should_exit = True
    if system.stations is None:
        return
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await system.gateway.stop()
    except TimeoutError:
        # They come back by themselves, and what they were answered is stored.
        log.warning("links cut", links=system.gateway.cut(), after_s=STOP_WITHIN_S)


async def _watch_store(store: Store) -> None:
    await store.failed.wait()
    raise StoreUnavailable("the store failed for good; restart to recover")


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then stop cleanly within 10 s."""
    open_files, stop = permit_files(), stop_signal()
    async with running(settings) as system:
        quieten_collector()
        log.info(
            "tasco runs",
            stations=f"ws://{settings.gateway.host}:{system.gateway.port}/ocpp/<station id>",
            api=f"http://{settings.api.host}:{system.api_port}/",
            sites=len(settings.site),
            open_files=open_files,
        )
        await say_who_can_log_in(system)
        await stop.wait()
        log.info("stopping")


async def say_who_can_log_in(system: System) -> None:
    """Tell whoever has just set this up how to get in."""
    if not await system.store.read(access.list_api_tokens):
        log.warning(
            "nobody can log in yet", make_a_token="tasco api-token add LABEL --role operator"
        )
