"""Rows R11, R13, R14, R26, X07 and X13: odd frames, repeats, a stepped clock, one card twice."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.core.model import SessionState
from tests.conformance.conftest import Lab
from tests.conformance.raw import RawStation
from tests.scenarios.world import eventually

FORMAT = {"1.6": "FormationViolation", "2.0.1": "FormatViolation", "2.1": "FormatViolation"}
FRAME = {"1.6": "FormationViolation", "2.0.1": "RpcFrameworkError", "2.1": "RpcFrameworkError"}


@pytest.fixture(params=("1.6", "2.0.1", "2.1"))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def stray(station: RawStation, text: str) -> list[Any]:
    """Send a frame that is no proper call and return the answer that names it."""
    count = len(station.strays)
    await station.send(text)
    await eventually(lambda: len(station.strays) > count, f"no answer to {text:.40}")
    return station.strays[-1]


@pytest.mark.parametrize(
    ("text", "message_id"),
    [
        ("[2]", "-1"),
        ('[2,"17"]', "17"),
        ('[2,"17","Heartbeat"]', "17"),
        ('[2,"17","Heartbeat",{},{}]', "17"),
    ],
)
async def test_r11_a_call_of_the_wrong_length_is_named_by_its_id_where_it_has_one(
    lab: Lab, version: str, text: str, message_id: str
) -> None:
    async with lab.station(version) as station:
        answer = await stray(station, text)
        assert answer[:2] == [4, message_id]
        assert answer[2] == FRAME[version]
        assert "currentTime" in await station.call("Heartbeat", {})


@pytest.mark.parametrize("action", ["null", "[]", "{}", '"' + "x" * 10_000 + '"'])
async def test_r13_an_action_that_is_none_gets_an_error(
    lab: Lab, version: str, action: str
) -> None:
    async with lab.station(version) as station:
        answer = await stray(station, f'[2,"17",{action},{{}}]')
        assert answer[:2] == [4, "17"]
        assert answer[2] in ("NotImplemented", FORMAT[version], FRAME[version])
        assert "xxxx" not in answer[3], "the payload is never repeated"
        assert "currentTime" in await station.call("Heartbeat", {})


@pytest.mark.parametrize("payload", ["null", "[]", '"x"', "7"])
async def test_r14_a_payload_that_is_no_object_is_refused_by_one_rule(
    lab: Lab, version: str, payload: str
) -> None:
    """Null is no object either: it is refused like the rest, not read as {}."""
    async with lab.station(version) as station:
        answer = await stray(station, f'[2,"17","Heartbeat",{payload}]')
        assert answer[:3] == [4, "17", FORMAT[version]]
        assert "currentTime" in await station.call("Heartbeat", {})


async def started(station: RawStation, card: str, at: str, **given: Any) -> dict[str, Any]:
    """Start a transaction on EVSE 1."""
    if station.version == "1.6":
        payload = {"connectorId": 1, "idTag": card, "meterStart": 5, "timestamp": at}
        return await station.call("StartTransaction", payload, **given)
    payload = {
        "eventType": "Started",
        "timestamp": at,
        "triggerReason": "Authorized",
        "seqNo": 0,
        "transactionInfo": {"transactionId": "T-1", "chargingState": "Charging"},
        "evse": {"id": 1, "connectorId": 1},
        "idToken": {"idToken": card, "type": "ISO14443"},
    }
    return await station.call("TransactionEvent", payload, **given)


def decision(version: str, answer: dict[str, Any]) -> str:
    return str(answer["idTagInfo" if version == "1.6" else "idTokenInfo"]["status"])


async def test_r26_the_same_call_again_has_the_same_answer_and_one_effect(
    lab: Lab, version: str
) -> None:
    card = await lab.world.driver(1)
    at = now()
    async with lab.station(version) as station:
        first = await started(station, card, at, message_id="same")
        for message_id in ("same", "another"):
            again = await started(station, card, at, message_id=message_id)
            assert decision(version, again) == decision(version, first) == "Accepted"
            assert again.get("transactionId") == first.get("transactionId")
        assert len(await lab.world.sessions()) == 1
        page = await lab.get("transactions", station_id="CS-1")
        assert page["total"] == 1


async def test_x07_a_clock_that_steps_back_harms_nothing(lab: Lab, version: str) -> None:
    card = await lab.world.driver(1)
    other = await lab.world.driver(2)
    clock = lab.world.clock
    async with lab.station(version) as station, lab.station(version, "CS-2") as second:
        await started(station, card, now())
        step = clock.follow(datetime.now(UTC) - timedelta(minutes=2))
        assert step < timedelta(seconds=-110)
        told = datetime.fromisoformat((await station.call("Heartbeat", {}))["currentTime"])
        behind = datetime.now(UTC) - told
        assert timedelta(seconds=110) < behind < timedelta(seconds=130)
        assert decision(version, await started(second, other, now())) == "Accepted"
        one, two = await lab.world.sessions()
        assert one.number < two.number
        assert one.session_id != two.session_id
        for station_id in ("CS-1", "CS-2"):
            outcome = await lab.command("ClearCache", {}, station_id=station_id)
            assert outcome["outcome"] == "accepted"
        await lab.world.system.housekeeping.follow_clock()
        (event,) = await lab.world.events("clock stepped")
        assert float(str(event.event.detail["by_s"])) > 110
        told = datetime.fromisoformat((await station.call("Heartbeat", {}))["currentTime"])
        assert abs(datetime.now(UTC) - told) < timedelta(seconds=5)


@pytest.mark.parametrize("most", [1, 2])
async def test_x13_one_card_at_two_stations_is_as_its_holder_may_and_always_on_record(
    lab: Lab, version: str, most: int
) -> None:
    card = await lab.world.driver(1, max_open_sessions=most)
    async with lab.station(version) as station, lab.station(version, "CS-2") as second:
        assert decision(version, await started(station, card, now())) == "Accepted"
        word = decision(version, await started(second, card, now()))
        assert word == ("Accepted" if most == 2 else "ConcurrentTx")
        first, again = await lab.world.sessions()
        assert (first.state, first.status.value) == (SessionState.OPEN, "Accepted")
        assert again.status.value == word
        assert (await lab.get("transactions"))["total"] == 2
