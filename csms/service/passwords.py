"""Station passwords: how they are checked, and how a station gets a new one.

Passwords are Argon2id. A verified one is remembered as an HMAC under a key made at start, bound to
the station and its stored hash, so that a reconnect storm costs microseconds a station and a
changed password forgets it (reliability.md 2).

A new password is on record as pending before it is sent. Until the station has used or refused
it either one works; once the station has accepted it, the old one is dead.
"""

import asyncio
import hmac
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from csms.bus import Bus
from csms.core.commands import Command, CommandResult, Configure, EndLink, Outcome, RawCall
from csms.core.errors import Conflict
from csms.core.masking import MASK, is_secret_setting, masked_text
from csms.core.model import Event, LinkState, OcppVersion, Station
from csms.service.devices import Devices
from csms.store import journal, links, stations
from csms.store.statements import Tx

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

_FREE_ATTEMPTS = 5
_FIRST_DELAY_S = 5.0
_LONGEST_DELAY_S = 300.0
_REMEMBERED = 50_000
_SENT_REMEMBERED = 1_000
"""Commands with a password whose answer may still come late."""

KEY_BYTES = 20
"""Length of a generated 1.6 AuthorizationKey; the whitepaper asks for 16 to 20."""
PASSWORD_CHARACTERS = 40
"""Length of a generated 2.x password: the most that 2.0.1 stations have to take."""
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
_HEX_KEY = re.compile(rb"(?:[0-9a-fA-F]{2}){16,20}")
_UNCERTAIN = frozenset({Outcome.NO_ANSWER, Outcome.SENT, Outcome.INVALID_ANSWER})
_KEY_16 = "AuthorizationKey"
_VARIABLE = "SecurityCtrlr.BasicAuthPassword"


def hash_password(password: str) -> str:
    """Return the Argon2id hash to store for `password`; takes about 18 ms.

    The hex digits of a 1.6 AuthorizationKey count in either case, so they are kept in lower case.
    """
    if _HEX_KEY.fullmatch(password.encode()):
        password = password.lower()
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

    async def verify(self, station_id: str, password: bytes, hashes: tuple[str, ...]) -> str | None:
        """Return the one of the stored `hashes` that `password` matches, None if it matches none.

        A 1.6 AuthorizationKey set as hex arrives as its raw bytes from some stations and as the
        hex text from others; both spellings of one key are accepted.
        """
        for stored in hashes:
            mark = self._mark(station_id, password, stored)
            if mark in self._good:
                self._good.move_to_end(mark)
                return stored
        for stored in hashes:
            if await asyncio.to_thread(_matches, stored, password):
                self._good[self._mark(station_id, password, stored)] = None
                while len(self._good) > _REMEMBERED:
                    self._good.popitem(last=False)
                return stored
        return None

    def remembers(self, station_id: str, password: bytes, hashes: tuple[str, ...]) -> bool:
        """Return whether `password` is known to match one of the stored `hashes`."""
        return any(self._mark(station_id, password, stored) in self._good for stored in hashes)

    def _mark(self, station_id: str, password: bytes, stored: str) -> bytes:
        text = b"\0".join((station_id.encode(), stored.encode(), password))
        return hmac.digest(self._key, text, "sha256")


def _matches(stored: str, password: bytes) -> bool:
    spellings = [password]
    if _HEX_KEY.fullmatch(password):
        # As a key it is kept in lower case; and the key may have been given as the text it spells.
        spellings = [password.lower(), bytes.fromhex(password.decode("ascii"))]
    elif 16 <= len(password) <= KEY_BYTES:
        spellings.append(password.hex().encode())
    for spelling in spellings:
        try:
            if _HASHER.verify(stored, spelling):
                return True
        except (Argon2Error, InvalidHashError):
            continue
    return False


def password_in(command: Command) -> str | None:
    """Return the new Basic password that `command` gives its station, None if it gives none."""
    if isinstance(command, Configure):
        given = dict(command.values)
        return given.get(_KEY_16) or given.get(_VARIABLE)
    if not isinstance(command, RawCall) or command.action not in _CARRIERS:
        return None
    found = _CARRIERS[command.action](command.payload())
    return found if isinstance(found, str) and found != MASK else None


def _of_key(payload: Mapping[str, object]) -> object:
    is_key = str(payload.get("key", "")).casefold() == _KEY_16.casefold()
    return payload.get("value") if is_key else None


def _of_variable(payload: Mapping[str, object]) -> object:
    items = payload.get("setVariableData")
    for item in items if isinstance(items, list) else ():
        parts = [item.get(n) for n in ("component", "variable")] if isinstance(item, dict) else []
        names = [str(part.get("name", "")) if isinstance(part, dict) else "" for part in parts]
        if ".".join(names).casefold() == _VARIABLE.casefold():
            return item.get("attributeValue")
    return None


def _of_network_profile(payload: Mapping[str, object]) -> object:
    connection = payload.get("connectionData")
    return connection.get("basicAuthPassword") if isinstance(connection, dict) else None


_CARRIERS: Mapping[str, Callable[[Mapping[str, object]], object]] = {
    "ChangeConfiguration": _of_key,
    "SetVariables": _of_variable,
    "SetNetworkProfile": _of_network_profile,
}


def _status_of_password(result: CommandResult) -> str:
    """Return the station's word on the password alone; it may have been sent beside others."""
    listed = (result.answer or {}).get("setVariableResult")
    for item in listed if isinstance(listed, list) else ():
        variable = item.get("variable") if isinstance(item, dict) else None
        if isinstance(variable, dict) and is_secret_setting(str(variable.get("name", ""))):
            return str(item.get("attributeStatus", ""))
    return result.status


def profile_in(command: Command) -> int | None:
    """Return the security profile that `command` tells its station to use, None if none."""
    if isinstance(command, Configure):
        value: object = dict(command.values).get("SecurityProfile")
    elif isinstance(command, RawCall) and command.action in (
        "ChangeConfiguration",
        "SetNetworkProfile",
    ):
        payload = command.payload()
        try:
            value = (
                payload["connectionData"]["securityProfile"]
                if command.action == "SetNetworkProfile"
                else payload["value"] * (payload["key"].casefold() == "securityprofile")
            )
        except (LookupError, TypeError, AttributeError):
            return None
    else:
        return None
    text = str(value)
    return int(text) if text in ("1", "2", "3") else None


class Passwords:
    """Gives stations new passwords, and keeps in step with what they took.

    It watches every command, so that a password or a profile an operator sends by hand counts as
    well.
    """

    def __init__(self, *, bus: Bus, devices: Devices) -> None:
        self.bus = bus
        self.devices = devices
        self._hashes: dict[str, str] = {}
        self._sent: OrderedDict[int, str] = OrderedDict()
        """The hash of what each command carries, until its station's word on it: the record of
        a command is masked, and a late answer is about its own password only. No answer comes
        late over a restart, since links end with it."""

    def asked(self, tx: Tx, command: Command, *, at: datetime) -> None:
        """Put a password on record before it is sent."""
        password = password_in(command)
        if password is not None:
            pending = self._hashes.get(password) or hash_password(password)
            links.add_pending_credential(tx, command.station_id, pending)
            self._sent[command.command_id] = pending
            while len(self._sent) > _SENT_REMEMBERED:
                self._sent.popitem(last=False)

    def ended(self, tx: Tx, command: Command, result: CommandResult, *, at: datetime) -> None:
        """Put a password in force that the station took, forget one that it refused."""
        profile = profile_in(command)
        if profile is not None and result.is_accepted:
            stations.ask_profile(tx, command.station_id, profile)
        if not _carries_password(command):
            return
        if result.outcome in _UNCERTAIN:
            # Nobody knows: until it is used either one works.
            return
        status = _status_of_password(result)
        is_later = isinstance(command, RawCall) and command.action == "SetNetworkProfile"
        pending = self._sent.pop(command.command_id, "")
        if not pending or status == "RebootRequired" or (is_later and status == "Accepted"):
            # It takes effect later, and then it is used.
            return
        is_in_force = status == "Accepted"
        if is_in_force:
            if not links.confirm_credential(tx, command.station_id, pending):
                # A newer one has taken its place.
                return
        else:
            links.drop_pending_credential(tx, command.station_id, pending)
        journal.add_event(
            tx,
            Event(
                at=at,
                kind="password changed" if is_in_force else "password refused by station",
                level="info" if is_in_force else "warning",
                site_id=stations.site_id_of_station(tx, command.station_id),
                station_id=command.station_id,
                detail={"outcome": str(result.outcome), "status": status},
            ),
        )

    async def rotate(self, station: Station, *, by: str) -> tuple[int, CommandResult]:
        """Give a linked station a fresh password; return the command's record and its result.

        Raises Conflict for a station that is away: a password cannot wait.
        """
        if station.link_state is not LinkState.ONLINE or station.version is None:
            raise Conflict(f"station {station.station_id} is not connected; a password cannot wait")
        if station.version is OcppVersion.V16:
            name, made = _KEY_16, secrets.token_hex(KEY_BYTES)
        else:
            name = _VARIABLE
            made = "".join(secrets.choice(_ALPHABET) for _ in range(PASSWORD_CHARACTERS))
        # Hashed before the transaction: 18 ms of it would hold up everybody's records.
        self._hashes[made] = await asyncio.to_thread(hash_password, made)
        try:
            command = Configure(station_id=station.station_id, values=((name, made),))
            return await self.devices.run(command, asked_by=by)
        finally:
            del self._hashes[made]

    async def end_link(self, station_id: str, reason: str) -> None:
        """Close a station's link whose credential is no longer good."""
        await self.bus.command(EndLink(station_id=station_id, reason=reason))


def _carries_password(command: Command) -> bool:
    """Return whether a command carries a password, also as it is on record: masked."""
    if isinstance(command, RawCall):
        return command.action in _CARRIERS and MASK in masked_text(command.payload_json)
    return password_in(command) is not None
