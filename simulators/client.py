"""The station's side of OCPP, as far as both versions share it.

A client builds payloads and answers commands; it owns no socket. What a command sets off (a remote
start, a reset) is returned with its answer and happens after the answer has left.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from simulators.link import Answer
from simulators.profiles import PURPOSES, ProfileInvalid, converted, parsed
from simulators.station import NotPossible, Reading, State, Transaction

if TYPE_CHECKING:
    from simulators.simulated import SimulatedStation

Payload = dict[str, Any]
Body = Mapping[str, Any]


class Malformed(ValueError):
    """A command whose payload does not have its action's shape."""


def needed(body: Body, name: str, kind: type) -> Any:
    """Return a member that must be there. Raises Malformed."""
    value = body.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Malformed(f"{name} is {value!r}; it must be {kind.__name__}")
    return value


def optional(body: Body, name: str, kind: type) -> Any:
    """Return a member that may be missing. Raises Malformed if it is of another kind."""
    return None if body.get(name) is None else needed(body, name, kind)


def is_silent_about(body: Body, most: int) -> bool:
    """Return whether a SetChargingProfile has more periods than its station bears at all."""
    profile = body.get("csChargingProfiles") or body.get("chargingProfile") or {}
    schedules = profile.get("chargingSchedule", ())
    first = schedules if isinstance(schedules, Mapping) else next(iter(schedules), {})
    return most > 0 and len(first.get("chargingSchedulePeriod", ())) > most


def shaped(told: Payload, shape: str) -> Payload:
    """Return a composite schedule in the shape of a dialect (see Dialect.composite)."""
    period = {"startPeriod": 0, "numberPhases": 3}
    shapes: dict[str, list[Payload]] = {
        "empty": [],
        "minus_one": [{**period, "limit": -1}],
        "default": [{**period, "limit": 48}],
    }
    if shape in shapes:
        told["chargingSchedulePeriod"] = shapes[shape]
    elif shape == "first_second":
        first, *others = told["chargingSchedulePeriod"]
        moved = {**first, "startPeriod": 1}
        told["chargingSchedulePeriod"] = [{**period, "limit": 48}, moved, *others]
    elif shape == "none":
        told["_none"] = True
    return told


class Client(ABC):
    """One version's names for everything a station says and hears."""

    version: str
    subprotocol: str
    format_error: str
    own_same_level: str

    def __init__(self, host: "SimulatedStation") -> None:
        self.host = host

    # --- what the station says ---------------------------------------------------------------

    @abstractmethod
    def boot(self, reason: str) -> tuple[str, Payload]:
        """BootNotification."""

    @abstractmethod
    def status(self, evse_id: int, state: State, at: datetime) -> tuple[str, Payload]:
        """StatusNotification."""

    @abstractmethod
    def authorize(self, token: str, kind: str) -> tuple[str, Payload]:
        """Authorize."""

    @abstractmethod
    def token_status(self, answer: Body) -> str | None:
        """Return the decision in an answer about a token, None if it holds none."""

    @abstractmethod
    def started(self, tx: Transaction, reading: Reading) -> tuple[str, Callable[[], Payload]]:
        """Say that a transaction starts."""

    @abstractmethod
    def was_started(self, tx: Transaction, answer: Body) -> None:
        """Take what the answer to a start says about the transaction."""

    @abstractmethod
    def updated(
        self, tx: Transaction, reading: Reading, trigger: str
    ) -> tuple[str, Callable[[], Payload]]:
        """Say what a running transaction's meter says."""

    @abstractmethod
    def state_changed(
        self, tx: Transaction, state: State, at: datetime
    ) -> tuple[str, Callable[[], Payload]] | None:
        """Say that charging went on or paused, where the version has a word for it."""

    @abstractmethod
    def ended(self, tx: Transaction, reading: Reading) -> tuple[str, Callable[[], Payload]]:
        """Say that a transaction ends."""

    @abstractmethod
    def meter_values(self, evse_id: int, reading: Reading) -> tuple[str, Payload]:
        """MeterValues outside a transaction."""

    # --- what the station hears ----------------------------------------------------------------

    @abstractmethod
    def handlers(self) -> Mapping[str, Callable[[Body], Answer]]:
        """Return the commands this version knows."""

    def answer(self, action: str, body: Body) -> Answer:
        """Answer a command."""
        silent_above = self.host.station.installed.dialect.silent_above
        if action == "SetChargingProfile" and is_silent_about(body, silent_above):
            return Answer(is_silent=True)
        handler = self.handlers().get(action)
        if handler is None:
            return Answer(error=("NotImplemented", f"{action} is not known here"))
        try:
            return handler(body)
        except (Malformed, ProfileInvalid) as exc:
            return Answer(error=(self.format_error, str(exc)[:255]))

    def install_profile(self, evse_id: int, body: Body) -> tuple[str, str]:
        """Install a profile; return the status and, if refused, the reason."""
        host = self.host
        now = host.now()
        profile = parsed(body, evse_id=evse_id, at=now, dialect=host.station.installed.dialect)
        fate = host.faults.profile_fate()
        if fate == "refuse":
            return "Rejected", "InternalError"
        if fate == "ignore":
            return "Accepted", ""
        reason = host.station.install(profile, now=now)
        host.profile_changed()
        return ("Rejected", reason) if reason else ("Accepted", "")

    def clear_profiles(
        self,
        *,
        profile_id: int | None,
        evse_id: int | None,
        purpose: str | None,
        stack_level: int | None,
    ) -> str:
        """Clear what matches and return Accepted, or Unknown if nothing did."""
        host = self.host
        if purpose is not None and purpose not in PURPOSES:
            raise Malformed(f"chargingProfilePurpose is {purpose!r}")
        host.station.advance(host.now())
        removed = host.station.installed.clear(
            profile_id=profile_id,
            evse_id=evse_id,
            purpose=None if purpose is None else PURPOSES[purpose],
            stack_level=stack_level,
        )
        host.station.advance(host.now())
        host.profile_changed()
        return "Accepted" if removed else "Unknown"

    def composite(self, evse_id: int, duration_s: int, unit: str | None) -> Payload | None:
        """Return the composite schedule from now on, None if the EVSE or unit is not known.

        For EVSE 0 it is what all EVSEs together may take.
        """
        host = self.host
        dialect = host.station.installed.dialect
        evses = host.station.evses
        if evse_id not in evses and evse_id != 0:
            return None
        evse = evses[evse_id or min(evses)]
        e = evse.spec.electrics
        unit = unit or (dialect.rate_units[0] if e.unit not in dialect.rate_units else e.unit)
        if unit not in dialect.rate_units:
            return None
        now = host.now()
        host.station.advance(now)
        periods = host.station.installed.composite(
            evse_id,
            now,
            duration_s,
            started_at=evse.transaction.started_at if evse.transaction else None,
            electrics=e,
            unlimited=sum(x.spec.max_limit for i, x in evses.items() if evse_id in (0, i)),
            sharers=host.station.sharers if evse_id else 1,
        )
        told = {
            "duration": duration_s,
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": [
                {
                    "startPeriod": int(p.start_s),
                    "limit": round(converted(p.limit, e.unit, unit, phases=p.phases, e=e), 1),
                    "numberPhases": p.phases or 3,
                }
                for p in periods
            ],
            "_start": now,
        }
        return shaped(told, dialect.composite)

    def begin_remotely(
        self, *, evse_id: int | None, token: str, kind: str, profile: Body | None, remote_id: int
    ) -> Answer | None:
        """Return the acceptance of a remote start, None if no EVSE can take it."""
        host = self.host
        evse_id = evse_id if evse_id is not None else host.free_evse()
        evse = host.station.evses.get(evse_id) if evse_id is not None else None
        if evse is None or evse_id is None or evse.transaction is not None or not evse.is_operative:
            return None
        if profile is not None:
            parsed(profile, evse_id=evse_id, at=host.now())
        start = partial(
            host.remote_start, evse_id, token, kind=kind, profile=profile, remote_id=remote_id
        )
        return Answer(payload={"status": "Accepted"}, then=[start])

    def stop_remotely(self, transaction_id: str) -> Answer:
        """Answer a remote stop."""
        for evse_id, known in self.host.station.transactions.items():
            if known is not None and known == transaction_id:
                stop = partial(self.host.remote_stop, evse_id)
                return Answer(payload={"status": "Accepted"}, then=[stop])
        return Answer(payload={"status": "Rejected"})

    def unlock(self, evse_id: int) -> bool | None:
        """Return whether the connector could be unlocked, None if there is no such one."""
        if evse_id not in self.host.station.evses:
            return None
        return self.host.station.evses[evse_id].transaction is None

    def set_availability(self, evse_id: int, *, is_operative: bool) -> str:
        """Take an EVSE, or with 0 the station, into or out of service."""
        host = self.host
        try:
            host.station.set_operative(evse_id, is_operative=is_operative, now=host.now())
        except NotPossible:
            return "Rejected"
        host.publish()
        concerned = [
            e for i, e in host.station.evses.items() if evse_id in (0, i) and e.transaction
        ]
        return "Scheduled" if concerned and not is_operative else "Accepted"

    def take_list(self, version: int, *, is_full: bool, entries: Mapping[str, str | None]) -> str:
        """Replace or change the local list; an entry without status removes a token."""
        host = self.host
        if not host.settings.list_enabled:
            return "NotSupported" if self.version == "1.6" else "Failed"
        if not is_full and version <= host.list_version:
            return "VersionMismatch"
        if is_full:
            host.local_list.clear()
        for token, status in entries.items():
            if status is None:
                host.local_list.pop(token.lower(), None)
            else:
                host.local_list[token.lower()] = status
        host.list_version = version
        return "Accepted"
