"""A station's end of a link, spelled out: what it calls, and what it answers to our calls.

Every frame that TASCO sends is checked against the version's own schema files, whatever a test
looks at: rule 2 of what holds in every case.
"""

import asyncio
import base64
import contextlib
import importlib.resources
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jsonschema_rs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

WAIT_S = 30.0
SUBPROTOCOLS = {"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1", "2.1": "ocpp2.1"}
_PACKAGES = {"1.6": "ocpp.v16", "2.0.1": "ocpp.v201", "2.1": "ocpp.v21"}
Answer = Mapping[str, Any] | Callable[[dict[str, Any]], Any]


class Refused(Exception):
    """A CALLERROR that TASCO sent, with its code."""

    def __init__(self, code: str, description: str, details: Any) -> None:
        super().__init__(f"{code}: {description}")
        self.code, self.description, self.details = code, description, details


@dataclass(frozen=True)
class CallError:
    """A CALLERROR that the station answers with."""

    code: str = "NotSupported"
    description: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


SILENCE = object()
"""As an answer: the station never answers this call."""


@dataclass(frozen=True)
class Called:
    """A CALL of TASCO that arrived."""

    action: str
    payload: dict[str, Any]
    message_id: str


@cache
def _validator(version: str, action: str, *, is_answer: bool) -> Any:
    suffix = "Response" if is_answer else ("" if version == "1.6" else "Request")
    folder = importlib.resources.files(_PACKAGES[version]) / "schemas"
    return jsonschema_rs.validator_for(
        json.loads((folder / f"{action}{suffix}.json").read_text(encoding="utf-8-sig"))
    )


def _per_item(members: str, result: str, status: str, value: str | None) -> Answer:
    def answer(payload: dict[str, Any]) -> dict[str, Any]:
        keep = ("component", "variable", "attributeType")
        items = [{k: i[k] for k in keep if k in i} for i in payload[members]]
        extra = {} if value is None else {"attributeValue": value}
        return {result: [{"attributeStatus": status, **extra, **item} for item in items]}

    return answer


DEFAULT_ANSWERS: Mapping[str, Answer] = {
    "GetConfiguration": {"configurationKey": []},
    "GetVariables": _per_item("getVariableData", "getVariableResult", "UnknownVariable", None),
    "SetVariables": _per_item("setVariableData", "setVariableResult", "Accepted", None),
    "UnlockConnector": {"status": "Unlocked"},
    "GetDiagnostics": {},
    "UpdateFirmware": {},
    "GetTransactionStatus": {"messagesInQueue": False},
    "GetInstalledCertificateIds": {"status": "NotFound"},
    "CostUpdated": {},
    "UnpublishFirmware": {"status": "Unpublished"},
}
"""What is not listed is answered with the status Accepted; profiles are kept and reported."""


class RawStation:
    """The station's end. `answers` says what it answers to an action; see DEFAULT_ANSWERS."""

    def __init__(self, socket: ClientConnection, version: str, answers: dict[str, Answer]) -> None:
        self.socket, self.version, self.answers = socket, version, answers
        self.calls: list[Called] = []
        """Every CALL of TASCO so far."""
        self.problems: list[str] = []
        """What TASCO sent against the version's schema or out of turn."""
        self.strays: list[list[Any]] = []
        """Answers to nothing that this station asked, such as those with the id "-1"."""
        self.profiles: list[tuple[int, dict[str, Any]]] = []
        """EVSE and charging profile, as accepted and not cleared since."""
        self._reports: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, tuple[str, asyncio.Future[list[Any]]]] = {}
        self._taken = 0
        self._news = asyncio.Condition()
        self._ids = itertools.count(1)

    # --- what the station says

    async def call(
        self, action: str, payload: Mapping[str, Any], *, message_id: str | None = None
    ) -> dict[str, Any]:
        """Make a call and return the payload of its answer; raise Refused for a CALLERROR."""
        message_id = message_id or f"raw-{next(self._ids)}"
        future = asyncio.get_running_loop().create_future()
        self._waiting[message_id] = (action, future)
        await self.send([2, message_id, action, payload])
        async with asyncio.timeout(WAIT_S):
            frame = await future
        if frame[0] == 4:
            raise Refused(frame[2], frame[3], frame[4])
        found: dict[str, Any] = frame[2]
        return found

    async def send(self, frame: Any) -> None:
        """Put a frame on the wire, text as it is and anything else as compact JSON."""
        text = frame if isinstance(frame, str | bytes) else json.dumps(frame, separators=(",", ":"))
        await self.socket.send(text)

    async def boot(self, **given: Any) -> dict[str, Any]:
        """Send a BootNotification; `given` replaces members of the station's description."""
        if self.version == "1.6":
            payload = {
                "chargePointVendor": "Vendor",
                "chargePointModel": "Model",
                "firmwareVersion": "1.0",
                **given,
            }
        else:
            reason = given.pop("reason", "PowerUp")
            station = {"vendorName": "Vendor", "model": "Model", "firmwareVersion": "1.0", **given}
            payload = {"reason": reason, "chargingStation": station}
        return await self.call("BootNotification", payload)

    # --- what TASCO says

    async def called(self, action: str, *, within_s: float = WAIT_S) -> Called:
        """Return the next CALL of `action` that no earlier `called` returned or passed over."""
        async with asyncio.timeout(within_s), self._news:
            while True:
                while self._taken < len(self.calls):
                    found = self.calls[self._taken]
                    self._taken += 1
                    if found.action == action:
                        return found
                await self._news.wait()

    def seen(self, action: str) -> list[Called]:
        """Return every CALL of `action` so far."""
        return [c for c in self.calls if c.action == action]

    async def ended(self) -> tuple[int | None, str]:
        """Return close code and reason once the link is over."""
        async with asyncio.timeout(WAIT_S):
            await self.socket.wait_closed()
        return self.socket.close_code, self.socket.close_reason or ""

    # --- reading

    async def read(self) -> None:
        """Read and answer until the link ends."""
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                await self._take(json.loads(text))

    async def _take(self, frame: list[Any]) -> None:
        kind, message_id = frame[0], frame[1]
        if kind == 2:
            await self._called(Called(frame[2], frame[3], message_id))
            return
        action, future = self._waiting.pop(message_id, ("", None))
        if future is None:
            self.strays.append(frame)
            return
        if kind == 3:
            self._check(action, frame[2], is_answer=True)
        elif len(frame) != 5 or len(frame[3]) > 255 or not isinstance(frame[4], dict):
            self.problems.append(f"not a CALLERROR: {frame}")
        if not future.done():
            future.set_result(frame)

    async def _called(self, call: Called) -> None:
        self._check(call.action, call.payload, is_answer=False)
        async with self._news:
            self.calls.append(call)
            self._news.notify_all()
        answer = self.answers.get(call.action) or self._default(call.action)
        if callable(answer):
            answer = answer(call.payload)
        if call.action == "SetChargingProfile" and answer == {"status": "Accepted"}:
            self._install(call.payload)
        if answer is SILENCE:
            return
        if isinstance(answer, CallError):
            await self.send([4, call.message_id, answer.code, answer.description, answer.details])
        else:
            await self.send([3, call.message_id, answer])

    def _default(self, action: str) -> Answer:
        if action == "GetLocalListVersion":
            return {"listVersion" if self.version == "1.6" else "versionNumber": 0}
        if action == "ClearChargingProfile":
            return self._clear
        if action == "GetChargingProfiles":
            return self._report
        return DEFAULT_ANSWERS.get(action, {"status": "Accepted"})

    # --- profiles, as an honest station holds them

    def _install(self, payload: dict[str, Any]) -> None:
        evse_id = int(payload.get("connectorId", payload.get("evseId", 0)))
        profile = payload.get("csChargingProfiles") or payload["chargingProfile"]
        self.profiles = [p for p in self.profiles if number_of(p[1]) != number_of(profile)]
        self.profiles.append((evse_id, profile))

    def _matches(self, evse_id: int, profile: dict[str, Any], wanted: dict[str, Any]) -> bool:
        ids = wanted.get("chargingProfileId", wanted.get("id"))
        ids = ids if isinstance(ids, list) or ids is None else [ids]
        return (
            (ids is None or number_of(profile) in ids)
            and evse_id == wanted.get("evseId", wanted.get("connectorId", evse_id))
            and all(
                profile[name] == wanted.get(name, profile[name])
                for name in ("chargingProfilePurpose", "stackLevel")
            )
            and "CSO" in wanted.get("chargingLimitSource", ["CSO"])
        )

    def _clear(self, payload: dict[str, Any]) -> dict[str, Any]:
        wanted = payload | payload.get("chargingProfileCriteria", {})
        gone = [p for p in self.profiles if self._matches(*p, wanted)]
        self.profiles = [p for p in self.profiles if p not in gone]
        return {"status": "Accepted" if gone else "Unknown"}

    def _report(self, payload: dict[str, Any]) -> dict[str, Any]:
        wanted = payload["chargingProfile"] | {k: v for k, v in payload.items() if k == "evseId"}
        found = [p for p in self.profiles if self._matches(*p, wanted)]
        if not found:
            return {"status": "NoProfiles"}
        task = asyncio.create_task(self._tell(payload["requestId"], found))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)
        return {"status": "Accepted"}

    async def _tell(self, request_id: int, found: list[tuple[int, dict[str, Any]]]) -> None:
        by_evse: dict[int, list[dict[str, Any]]] = {}
        for evse_id, profile in found:
            by_evse.setdefault(evse_id, []).append(profile)
        with contextlib.suppress(ConnectionClosed):
            for left, (evse_id, profiles) in zip(
                range(len(by_evse) - 1, -1, -1), by_evse.items(), strict=True
            ):
                page = {
                    "requestId": request_id,
                    "chargingLimitSource": "CSO",
                    "evseId": evse_id,
                    "chargingProfile": profiles,
                    "tbc": left > 0,
                }
                await self.call("ReportChargingProfiles", page)

    def _check(self, action: str, payload: Any, *, is_answer: bool) -> None:
        for error in _validator(self.version, action, is_answer=is_answer).iter_errors(payload):
            self.problems.append(f"{action}: {error.message}: {payload}")


def number_of(profile: Mapping[str, Any]) -> int:
    """Return a charging profile's id in either version's spelling."""
    return int(profile.get("id", profile.get("chargingProfileId", 0)))


def basic(user: str, password: str | bytes) -> dict[str, str]:
    """Return the header of Basic authentication."""
    raw = password if isinstance(password, bytes) else password.encode()
    return {"Authorization": "Basic " + base64.b64encode(user.encode() + b":" + raw).decode()}


@contextlib.asynccontextmanager
async def linked(
    url: str,
    station_id: str,
    version: str,
    *,
    password: str | bytes = "",
    answers: Mapping[str, Answer] | None = None,
    offers: Sequence[str] = (),
    **options: Any,
) -> AsyncIterator[RawStation]:
    """Connect a station; fail at the end if TASCO sent anything against the version's schema."""
    if password:
        options["additional_headers"] = basic(station_id, password)
    options = {"ping_interval": None, "close_timeout": 1, **options}
    protocols: Any = offers or [SUBPROTOCOLS[version]]
    async with connect(f"{url}/{station_id}", subprotocols=protocols, **options) as socket:
        station = RawStation(socket, version, dict(answers or {}))
        reader = asyncio.create_task(station.read())
        try:
            yield station
        finally:
            await socket.close()
            await reader
            for task in station._reports:
                task.cancel()
    assert not station.problems, station.problems
