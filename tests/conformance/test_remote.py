"""Block F of the conformance cases: remote control."""

from datetime import UTC, datetime, timedelta

from tests.conformance.conftest import Lab


async def test_f08_a_triggered_heartbeat_is_answered_with_the_right_time(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        outcome = await lab.command("TriggerMessage", {"requestedMessage": "Heartbeat"})
        assert outcome["outcome"] == "accepted"
        call = await station.called("TriggerMessage")
        assert call.payload == {"requestedMessage": "Heartbeat"}
        answer = await station.call("Heartbeat", {})
        told = datetime.fromisoformat(answer["currentTime"])
        assert abs(told - datetime.now(UTC)) < timedelta(seconds=5)
