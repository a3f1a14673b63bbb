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

WAIT_S = 15.0
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
    "ClearChargingProfile": {"status": "Unknown"},
    "GetChargingProfiles": {"status": "NoProfiles"},
    "GetDiagnostics": {},
    "UpdateFirmware": {},
    "GetTransactionStatus": {"messagesInQueue": False},
    "GetInstalledCertificateIds": {"status": "NotFound"},
    "CostUpdated": {},
    "UnpublishFirmware": {"status": "Unpublished"},
}
"""What is not listed is answered with the status Accepted."""


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
        if answer is SILENCE:
            return
        if isinstance(answer, CallError):
            await self.send([4, call.message_id, answer.code, answer.description, answer.details])
        else:
            await self.send([3, call.message_id, answer])

    def _default(self, action: str) -> Answer:
        if action == "GetLocalListVersion":
            return {"listVersion" if self.version == "1.6" else "versionNumber": 0}
        return DEFAULT_ANSWERS.get(action, {"status": "Accepted"})

    def _check(self, action: str, payload: Any, *, is_answer: bool) -> None:
        for error in _validator(self.version, action, is_answer=is_answer).iter_errors(payload):
            self.problems.append(f"{action}: {error.message}: {payload}")


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
    assert not station.problems, station.problems
