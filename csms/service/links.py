"""Links: who may connect, what a boot is answered, and which stations are there.

Passwords are Argon2id. A verified one is remembered as an HMAC under a key made at start, bound to
the station and its stored hash, so that a reconnect storm costs microseconds a station and a
changed password forgets it (reliability.md 2).
"""

import asyncio
import hashlib
import hmac
import os
from collections import OrderedDict
from dataclasses import dataclass, field, replace

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from csms.clock import Clock
from csms.core.messages import (
    BootReply,
    LinkClosed,
    LinkOffered,
    LinkRefusal,
    LinkReply,
    Noted,
    StationBooted,
    StationSeen,
    StatusChanged,
)
from csms.core.model import Event, Evse, Station
from csms.service import remote
from csms.store import journal, links, stations
from csms.store.database import Store
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
UNKNOWN_EVSE_KW = 22.0
"""What an EVSE that nobody described is taken to deliver: the most an AC socket usually does."""

_FREE_ATTEMPTS = 5
_FIRST_DELAY_S = 5.0
_LONGEST_DELAY_S = 300.0
_REMEMBERED = 50_000


def hash_password(password: str) -> str:
    """Return the Argon2id hash to store for `password`; takes about 18 ms."""
    return _HASHER.hash(password)


@dataclass(slots=True)
class _Attempts:
    failed: int = 0
    blocked_until: float = 0.0


@dataclass(slots=True)
class CredentialCheck:
    """Verifies station passwords, remembers good ones and slows down guessing.

    Attempts are limited per (station, address): the right password from another address always
    works, whatever an attacker does.
    """

    _key: bytes = field(default_factory=lambda: os.urandom(32))
    _good: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    _attempts: OrderedDict[tuple[str, str], _Attempts] = field(default_factory=OrderedDict)

    def is_blocked(self, station_id: str, address: str, now_s: float) -> bool:
        """Return whether this pair has to wait before its next attempt."""
        attempts = self._attempts.get((station_id, address))
        return attempts is not None and now_s < attempts.blocked_until

    def failed(self, station_id: str, address: str, now_s: float) -> None:
        """Count a failed attempt."""
        attempts = self._attempts.setdefault((station_id, address), _Attempts())
        self._attempts.move_to_end((station_id, address))
        attempts.failed += 1
        over = attempts.failed - _FREE_ATTEMPTS
        if over >= 0:
            delay_s = min(_FIRST_DELAY_S * 2.0 ** min(over, 10), _LONGEST_DELAY_S)
            attempts.blocked_until = now_s + delay_s
        while len(self._attempts) > _REMEMBERED:
            self._attempts.popitem(last=False)

    async def verify(self, station_id: str, password: bytes, hashes: tuple[str, ...]) -> bool:
        """Return whether `password` matches one of the stored `hashes`.

        A 1.6 AuthorizationKey set as hex arrives as its raw bytes from some stations and as the
        hex text from others; both spellings of one key are accepted.
        """
        for stored in hashes:
            mark = self._mark(station_id, password, stored)
            if mark in self._good:
                self._good.move_to_end(mark)
                return True
        for stored in hashes:
            if await asyncio.to_thread(_matches, stored, password):
                self._good[self._mark(station_id, password, stored)] = None
                while len(self._good) > _REMEMBERED:
                    self._good.popitem(last=False)
                return True
        return False

    def _mark(self, station_id: str, password: bytes, stored: str) -> bytes:
        text = b"\0".join((station_id.encode(), stored.encode(), password))
        return hmac.new(self._key, text, hashlib.sha256).digest()


def _matches(stored: str, password: bytes) -> bool:
    spellings = [password]
    if not password.isascii() or not password.decode("ascii").isprintable():
        spellings += [password.hex().encode(), password.hex().upper().encode()]
    for spelling in spellings:
        try:
            if _HASHER.verify(stored, spelling):
                return True
        except (Argon2Error, InvalidHashError):
            continue
    return False


class LinkDesk:
    """Answers what concerns a station as such: its link, its boot, its connectors' states."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        allow_profile_0: bool,
    ) -> None:
        self.store = store
        self.clock = clock
        self.allow_profile_0 = allow_profile_0
        self.credentials = CredentialCheck()

    async def offered(self, report: LinkOffered) -> LinkReply:
        """Decide on a handshake; a granted link has its id before the station hears of it."""
        station, hashes = await self.store.read(lambda tx: _known(tx, report.station_id))
        if station is None:
            await self.store.write(
                lambda tx: links.note_unknown_station(
                    tx,
                    report.station_id,
                    remote_address=report.remote_address,
                    at=report.received_at,
                )
            )
            return LinkReply(refusal=LinkRefusal.UNKNOWN_STATION)
        refusal = await self._check(report, station.station_id, hashes)
        if refusal is not None:
            log.warning(
                "station refused",
                station_id=station.station_id,
                why=refusal.value,
                address=report.remote_address,
            )
            return LinkReply(refusal=refusal)
        link_id = await self.store.write(
            lambda tx: links.open_link(
                tx,
                station.station_id,
                version=report.version,
                remote_address=report.remote_address,
                at=report.received_at,
            )
        )
        return LinkReply(
            station_id=station.station_id,
            link_id=link_id,
            heartbeat_interval_s=station.heartbeat_interval_s,
            is_registered=station.registration == "Accepted",
        )

    async def _check(
        self, report: LinkOffered, station_id: str, hashes: tuple[str, ...]
    ) -> LinkRefusal | None:
        if not hashes:
            if report.is_loopback or self.allow_profile_0:
                return None
            return LinkRefusal.PROFILE_TOO_LOW
        now_s = asyncio.get_running_loop().time()
        if self.credentials.is_blocked(station_id, report.remote_address, now_s):
            return LinkRefusal.TOO_MANY_ATTEMPTS
        is_right = (
            report.password is not None
            and (report.username or "").casefold() == station_id.casefold()
            and await self.credentials.verify(station_id, report.password, hashes)
        )
        if is_right:
            return None
        self.credentials.failed(station_id, report.remote_address, now_s)
        await self.store.write(
            lambda tx: journal.add_event(
                tx,
                Event(
                    at=report.received_at,
                    kind="credential refused",
                    level="warning",
                    station_id=station_id,
                    detail={"address": report.remote_address},
                ),
            )
        )
        return LinkRefusal.BAD_CREDENTIAL

    async def closed(self, report: LinkClosed) -> bool:
        """Mark the station away, unless a newer link has taken over; return whether it is away."""
        return await self.store.write(
            lambda tx: links.close_link(
                tx, report.station_id, report.link_id, at=report.received_at, reason=report.reason
            )
        )

    async def seen(self, report: StationSeen) -> Noted:
        """Keep when the station was last heard of."""
        await self.store.write(lambda tx: stations.seen(tx, report.station_id, report.received_at))
        return Noted()

    async def booted(self, report: StationBooted) -> BootReply:
        """Keep what the station says of itself; it is Accepted unless the operator decided else."""

        station = await self.store.write(lambda tx: stations.boot(tx, report))
        return BootReply(
            status=station.registration,
            at=self.clock.now(),
            interval_s=station.heartbeat_interval_s,
        )

    async def status_changed(self, report: StatusChanged) -> bool:
        """Keep the state of a connector; return whether its EVSE was not known before."""

        def work(tx: Tx) -> bool:
            before = stations.get_evse(tx, report.station_id, report.evse_id)
            is_new = bool(report.evse_id) and before is None
            others = stations.evses_of_station(tx, report.station_id)
            model = others[0] if others else Evse(station_id="", evse_id=1, max_kw=UNKNOWN_EVSE_KW)
            default = replace(
                model, station_id=report.station_id, evse_id=report.evse_id, guard_kw=None
            )
            stations.set_status(tx, report, default=default)
            remote.freed(tx, report, was="" if before is None else before.status)
            return is_new

        return await self.store.write(work)


def _known(tx: Tx, station_id: str) -> tuple[Station | None, tuple[str, ...]]:
    """Return a station and the hashes of the passwords it may use: in force and pending."""
    station = stations.find_station(tx, station_id)
    if station is None:
        return None, ()
    kept = links.get_credential(tx, station.station_id)
    return station, tuple(h for h in (kept.credential_hash, kept.pending_hash) if h)
