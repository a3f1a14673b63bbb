"""A tiny central system for these tests: the simulators' outside world.

It checks every frame it gets against the published JSON schemas and remembers it; answers can be
replaced by action, and commands sent.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jsonschema_rs
import ocpp
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

SCHEMAS = Path(ocpp.__file__).parent
NOW = "2026-03-01T08:00:00Z"


@cache
def _validator(version: str, action: str, suffix: str) -> Any:
    folder = SCHEMAS / f"v{version.replace('.', '')}" / "schemas"
    name = f"{action}{suffix if version == '1.6' or suffix else 'Request'}.json"
    return jsonschema_rs.validator_for(json.loads((folder / name).read_text("utf-8-sig")))


def faults_of(version: str, action: str, payload: object, *, is_answer: bool = False) -> list[str]:
    validator = _validator(version, action, "Response" if is_answer else "")
    return [f"{action}: {e.message}" for e in validator.iter_errors(payload)]


class Centre:
    """`calls` holds (station, message id, action, payload) in the order received."""

    def __init__(self, *, token_status: Mapping[str, str] | None = None) -> None:
        self.calls: list[tuple[str, str, str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.broken: list[str] = []
        self.schema_faults: list[str] = []
        self.answers: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.links: dict[str, ServerConnection] = {}
        self.on_start: Callable[[str, str, int], list[tuple[str, dict[str, Any]]]] | None = None
        self._token_status = dict(token_status or {})
        self._pending: dict[str, asyncio.Future[Any]] = {}
        self._asked: dict[str, tuple[str, str]] = {}
        self._changed = asyncio.Condition()
        self._transactions = 100
        self._ids = 0
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            subprotocols=[Subprotocol(f"ocpp{version}") for version in ("2.1", "2.0.1", "1.6")],
            compression=None,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        if kind is None:
            assert self.schema_faults == []

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"ws://{host}:{port}/ocpp"

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        station = socket.request.path.rsplit("/", 1)[-1]
        version = (socket.subprotocol or "").removeprefix("ocpp")
        self.headers.append(dict(socket.request.headers.raw_items()))
        self.links[station] = socket
        try:
            async for text in socket:
                await self._take(socket, station, version, str(text))
        except ConnectionClosed:
            return

    async def _take(self, socket: ServerConnection, station: str, version: str, text: str) -> None:
        try:
            frame = json.loads(text)
        except ValueError:
            frame = None
        match frame:
            case [2, str(message_id), str(action), dict(payload)]:
                self.schema_faults += faults_of(version, action, payload)
                answer = self._answer(version, action, payload)
                async with self._changed:
                    self.calls.append((station, message_id, action, payload))
                    self._changed.notify_all()
                if answer is not None:
                    kind = 4 if isinstance(answer, tuple) else 3
                    rest = [*answer, {}] if isinstance(answer, tuple) else [answer]
                    await socket.send(json.dumps([kind, message_id, *rest]))
                self._command_after_start(station, action, payload, answer)
            case [3, str(message_id), dict(payload)]:
                asked_version, asked_action = self._asked[message_id]
                self.schema_faults += faults_of(
                    asked_version, asked_action, payload, is_answer=True
                )
                self._pending.pop(message_id).set_result(payload)
            case [4, str(message_id), *rest]:
                self._pending.pop(message_id).set_result(tuple(rest))
            case _:
                self.broken.append(text)

    def _command_after_start(
        self, station: str, action: str, payload: dict[str, Any], answer: Any
    ) -> None:
        if self.on_start is None or not isinstance(answer, dict):
            return
        if action == "StartTransaction":
            transaction, evse = str(answer["transactionId"]), payload["connectorId"]
        elif action == "TransactionEvent" and payload["eventType"] == "Started":
            transaction, evse = payload["transactionInfo"]["transactionId"], payload["evse"]["id"]
        else:
            return
        for name, body in self.on_start(station, transaction, evse):
            task = asyncio.create_task(self.command(station, name, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _answer(self, version: str, action: str, payload: dict[str, Any]) -> Any:
        if action in self.answers:
            return self.answers[action](payload)
        if action == "BootNotification":
            return {"status": "Accepted", "currentTime": NOW, "interval": 300}
        if action == "Heartbeat":
            return {"currentTime": NOW}
        token = payload.get("idTag") or payload.get("idToken", {}).get("idToken")
        status = self._token_status.get(token, "Accepted")
        info = {"status": status}
        if action == "Authorize":
            return {"idTagInfo" if version == "1.6" else "idTokenInfo": info}
        if action == "StartTransaction":
            self._transactions += 1
            return {"transactionId": self._transactions, "idTagInfo": info}
        if action == "TransactionEvent" and payload["eventType"] == "Started":
            return {"idTokenInfo": info}
        return {}

    async def command(
        self, station: str, action: str, payload: dict[str, Any], *, wait_s: float = 5.0
    ) -> Any:
        """Send a command and return the answer: a dict, or a tuple for a CALLERROR."""
        socket = self.links[station]
        self._ids += 1
        message_id = f"c{self._ids}"
        version = (socket.subprotocol or "").removeprefix("ocpp")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[message_id] = future
        self._asked[message_id] = (version, action)
        await socket.send(json.dumps([2, message_id, action, payload]))
        async with asyncio.timeout(wait_s):
            return await future

    def of(self, action: str) -> list[dict[str, Any]]:
        """The payloads received for an action."""
        return [payload for _, _, name, payload in self.calls if name == action]

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait until `claim` holds, looking after each call received."""
        async with asyncio.timeout(8), self._changed:
            await self._changed.wait_for(claim)


def tx_profile(
    version: str, transaction: str, limit: float, *, profile_id: int = 7, unit: str = "A"
) -> dict[str, Any]:
    """A TxProfile with one unlimited-in-time period."""
    schedule = {
        "chargingRateUnit": unit,
        "startSchedule": "2020-01-01T00:00:00Z",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}],
    }
    body: dict[str, Any] = {
        "stackLevel": 1,
        "chargingProfilePurpose": "TxProfile",
        "chargingProfileKind": "Absolute",
    }
    if version == "1.6":
        body |= {"chargingProfileId": profile_id, "transactionId": int(transaction)}
        return body | {"chargingSchedule": schedule}
    body |= {"id": profile_id, "transactionId": transaction}
    return body | {"chargingSchedule": [schedule | {"id": 1}]}


def set_profile(version: str, evse: int, profile: dict[str, Any]) -> dict[str, Any]:
    """The payload of SetChargingProfile."""
    if version == "1.6":
        return {"connectorId": evse, "csChargingProfiles": profile}
    return {"evseId": evse, "chargingProfile": profile}
