"""Log jobs, and the place where stations put their files.

A place is opened for one job, known by a token of 256 random bits of which only the hash is kept,
closes with the first whole file, and stays open for a short time at the longest. A file's name is
ours; what the station calls it is only shown.
"""

import asyncio
import contextlib
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from csms.clock import Clock
from csms.core.commands import Command, CommandResult
from csms.core.device import Kind
from csms.core.device_messages import UploadLog
from csms.core.errors import InvalidInput, NotFound
from csms.core.model import Event
from csms.service.asking import Asking
from csms.service.locations import LocationPolicy, masked_location
from csms.store import journal, requests, stations
from csms.store.database import Store
from csms.store.requests import DeviceRequest, Upload
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,119}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class TooLarge(Exception):
    """A file is over the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOrder:
    """Which log a station is to upload; without a location it comes to us."""

    log_type: str = "DiagnosticsLog"
    location: str = ""
    oldest_at: datetime | None = None
    latest_at: datetime | None = None
    retries: int | None = None
    retry_interval_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions:
    """Where files go: `public_url` is how stations reach our API, without a trailing slash."""

    folder: Path
    public_url: str
    max_bytes: int = 200_000_000
    open_for: timedelta = timedelta(hours=1)
    kept: timedelta = timedelta(days=90)


class Logs:
    """Asks stations for their logs and takes the files."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        asking: Asking,
        policy: LocationPolicy,
        options: UploadOptions,
    ) -> None:
        self.store = store
        self.clock = clock
        self.asking = asking
        self.policy = policy
        self.options = options

    async def collect(
        self, station_id: str, order: LogOrder, *, by: str, bulk_id: int | None = None
    ) -> tuple[DeviceRequest, CommandResult]:
        """Let a station upload a log; raise InvalidInput for a URL that is not allowed."""
        token = "" if order.location else secrets.token_urlsafe(32)
        location = order.location or f"{self.options.public_url}/uploads/{token}"
        if order.location:
            await self.policy.check(location)
        now = self.clock.now()
        detail = {"log_type": order.log_type, "location": masked_location(location)}

        def work(tx: Tx) -> DeviceRequest:
            made = requests.add_request(
                tx, station_id, Kind.LOG, detail=detail, by=by, at=now, bulk_id=bulk_id
            )
            if token:
                requests.add_upload(
                    tx,
                    token_hash=_hash(token),
                    request_key=made.request_key,
                    expires_at=now + self.options.open_for,
                )
            return made

        def build(request_id: int) -> Command:
            return UploadLog(
                station_id=station_id,
                request_id=request_id,
                location=location,
                log_type=order.log_type,
                oldest_at=order.oldest_at,
                latest_at=order.latest_at,
                retries=order.retries,
                retry_interval_s=order.retry_interval_s,
            )

        return await self.asking.send(await self.store.write(work), build, by=by)

    async def receive(self, token: str, name: str, chunks: AsyncIterator[bytes]) -> int:
        """Take a file for an open place and return its size in bytes.

        Raises NotFound for a token that opens nothing (unknown, used or too old: one answer for
        all), InvalidInput for a name that could not be a file's, TooLarge over the limit. What
        fails leaves the place open for the station's next attempt.
        """
        if name and not _NAME.fullmatch(name):
            raise InvalidInput("the file's name may hold letters, digits, dot, dash and space")
        place = await self._take(token)
        try:
            path, size = await self._write(place, name, chunks)
        except BaseException:
            await self.store.write(lambda tx: requests.release_upload(tx, place.token_hash))
            raise
        now = self.clock.now()

        def work(tx: Tx) -> DeviceRequest:
            values: dict[str, object] = {"file_path": path.name, "file_bytes": size}
            request = requests.get_request(tx, place.request_key)
            if name or not request.file_name:
                values["file_name"] = name or path.name
            requests.change_request(tx, place.request_key, **values)
            journal.add_event(
                tx,
                Event(
                    at=now,
                    kind="log received",
                    site_id=stations.site_id_of_station(tx, request.station_id),
                    station_id=request.station_id,
                    detail={"job": place.request_key, "bytes": size},
                ),
            )
            return request

        request = await self.store.write(work)
        log.info("log received", station_id=request.station_id, job=place.request_key, bytes=size)
        return size

    async def _take(self, token: str) -> Upload:
        now = self.clock.now()
        place = await self.store.write(lambda tx: requests.take_upload(tx, _hash(token), now=now))
        if place is None:
            raise NotFound("no such place for a file")
        return place

    async def _write(
        self, place: Upload, name: str, chunks: AsyncIterator[bytes]
    ) -> tuple[Path, int]:
        folder = self.options.folder
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        safe = _UNSAFE.sub("_", name) or "log"
        path = folder / f"{place.request_key}-{safe}"
        part = path.with_name(f"{place.request_key}.part")
        size = 0
        try:
            out = await asyncio.to_thread(part.open, "wb")
            with contextlib.closing(out):
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self.options.max_bytes:
                        raise TooLarge
                    await asyncio.to_thread(out.write, chunk)
            await asyncio.to_thread(part.replace, path)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)
        return path, size

    def file_of(self, request: DeviceRequest) -> Path:
        """Return the file of a job; raise NotFound while there is none."""
        path = self.options.folder / request.file_path
        if not request.file_path or not path.is_file():
            raise NotFound(f"job {request.request_key} has no file")
        return path

    async def purge(self) -> None:
        """Forget places that closed a day ago, delete files that are older than they are kept."""
        now = self.clock.now()
        before = now - timedelta(days=1)
        while await self.store.write(lambda tx: requests.purge_uploads(tx, before=before)):
            pass
        oldest = now - self.options.kept
        while old := await self.store.read(lambda tx: requests.old_files(tx, before=oldest)):
            for path in old.values():
                await asyncio.to_thread((self.options.folder / path).unlink, missing_ok=True)
            # Afterwards: a process that dies in between finds them again.
            await self.store.write(lambda tx, keys=tuple(old): requests.forget_files(tx, keys))  # type: ignore[misc]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
