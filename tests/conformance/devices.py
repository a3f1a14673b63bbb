"""What the tests of devices share: typed calls at the API, sessions, payloads."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from csms.clock import Clock
from tests.conformance.conftest import Lab
from tests.conformance.raw import RawStation
from tests.scenarios.world import eventually, living, settings


@contextlib.asynccontextmanager
async def lab_with(url: str, *, clock: Clock | None = None, **sections: Any) -> AsyncIterator[Lab]:
    """A lab whose configuration has other sections, or whose clock is another."""
    given = settings(url, **sections)
    async with living(given, clock=clock) as world, world.operator() as api:
        yield Lab(world, api)


async def do(
    lab: Lab, method: str, path: str, *, status: int | None = None, **body: Any
) -> dict[str, Any]:
    """Call the API as an operator and return its answer; fail unless it is what is expected."""
    found = await lab.api.request(method, f"/api/v1/{path}", json=body)
    if status is None:
        assert found.is_success, found.text
    else:
        assert found.status_code == status, found.text
    answer: dict[str, Any] = found.json()
    return answer


def when(delta_s: float = 0.0) -> str:
    """Return an instant of now, or `delta_s` from it, as a station writes it."""
    return (datetime.now(UTC) + timedelta(seconds=delta_s)).isoformat().replace("+00:00", "Z")


def variable(component: str, name: str, evse_id: int = 0, connector_id: int = 0) -> dict[str, Any]:
    """Return component and variable as 2.x spells them."""
    found: dict[str, Any] = {"component": {"name": component}, "variable": {"name": name}}
    if evse_id:
        found["component"]["evse"] = {"id": evse_id}
        if connector_id:
            found["component"]["evse"]["connectorId"] = connector_id
    return found


async def status(station: RawStation, word: str, evse_id: int = 1, at: str = "") -> None:
    """Report the state of an EVSE's first connector."""
    if station.version == "1.6":
        payload = {"connectorId": evse_id, "status": word, "errorCode": "NoError"}
        await station.call("StatusNotification", payload | {"timestamp": at or when()})
        return
    payload_2 = {"evseId": evse_id, "connectorId": 1, "connectorStatus": word}
    await station.call("StatusNotification", payload_2 | {"timestamp": at or when()})


async def charge(lab: Lab, station: RawStation, *, evse_id: int = 1, number: int = 1) -> str:
    """Begin a session of a driver and return its transaction id."""
    card = await lab.world.driver(number)
    return await begin(station, card, evse_id=evse_id)


async def begin(station: RawStation, card: str, *, evse_id: int = 1, at: str = "") -> str:
    """Begin a session with an enrolled card and return its transaction id."""
    await status(station, "Preparing" if station.version == "1.6" else "Occupied", evse_id, at)
    if station.version == "1.6":
        start = {"connectorId": evse_id, "idTag": card, "meterStart": 1000}
        answer = await station.call("StartTransaction", start | {"timestamp": at or when()})
        assert answer["idTagInfo"]["status"] == "Accepted"
        return str(answer["transactionId"])
    transaction_id = f"tx-{evse_id}"
    answer = await station.call(
        "TransactionEvent",
        event("Started", transaction_id, 0, evse_id=evse_id, at=at, wh=1000)
        | {"triggerReason": "Authorized", "idToken": {"idToken": card, "type": "ISO14443"}},
    )
    assert answer["idTokenInfo"]["status"] == "Accepted"
    return transaction_id


def event(
    kind: str, transaction_id: str, seq_no: int, *, evse_id: int = 1, at: str = "", wh: int = 1000
) -> dict[str, Any]:
    """Return a TransactionEvent with one register value."""
    at = at or when()
    sample = {"value": wh, "unitOfMeasure": {"unit": "Wh"}}
    return {
        "eventType": kind,
        "timestamp": at,
        "triggerReason": "MeterValuePeriodic",
        "seqNo": seq_no,
        "transactionInfo": {"transactionId": transaction_id, "chargingState": "Charging"},
        "evse": {"id": evse_id, "connectorId": 1},
        "meterValue": [{"timestamp": at, "sampledValue": [sample]}],
    }


async def end(
    station: RawStation, transaction_id: str, reason: str, *, evse_id: int = 1, wh: int = 3000
) -> None:
    """End a session of 2.0.1 with a reset's words, or any other's."""
    ended = event("Ended", transaction_id, 1, evse_id=evse_id, wh=wh)
    ended["transactionInfo"]["stoppedReason"] = reason
    trigger = "ResetCommand" if "Reset" in reason else "EVDeparted"
    await station.call("TransactionEvent", ended | {"triggerReason": trigger})


async def job_in(lab: Lab, key: int, state: str) -> dict[str, Any]:
    """Wait until a job is in a state and return it."""

    async def there() -> dict[str, Any] | None:
        found: dict[str, Any] = await lab.get(f"jobs/{key}")
        return found if found["state"] == state else None

    found: dict[str, Any] = await eventually(there, f"job {key} is not {state}")
    return found


async def evse(lab: Lab, evse_id: int = 1) -> dict[str, Any]:
    """Return an EVSE as the API shows it."""
    station = await lab.get("stations/CS-1")
    return next(e for e in station["evses"] if e["evse_id"] == evse_id)
