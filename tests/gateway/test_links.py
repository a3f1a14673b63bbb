"""Order, turns and ends of links (conformance rows R25-R39)."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from csms.core.commands import (
    ClearSchedule,
    CommandResult,
    Configure,
    Outcome,
    RawCall,
    Reset,
    Schedule,
    SchedulePeriod,
    SetSchedule,
    StopCharging,
    Trigger,
)
from csms.core.messages import (
    CENTRE_OUT,
    LinkClosed,
    LinkOffered,
    Report,
    SecurityNoticed,
    SessionStarted,
    StationBooted,
    StationSeen,
    StatusChanged,
)
from csms.core.model import OcppVersion
from tests.gateway.centre import NOW, PASSWORD
from tests.gateway.conftest import FAST, World, running

START = {"connectorId": 1, "idTag": "T1", "meterStart": 5, "timestamp": "2026-03-02T12:00:00Z"}
Status = Callable[..., dict[str, Any]]


def schedule(limit: float = 16.1) -> Schedule:
    return Schedule(
        profile_id=7,
        stack_level=1,
        unit="A",
        starts_at=NOW,
        duration_s=3600,
        periods=(SchedulePeriod(start_s=0, limit=limit),),
    )


def set_schedule(limit: float = 16.1, evse_id: int = 1) -> SetSchedule:
    return SetSchedule(
        station_id="CS 1", evse_id=evse_id, transaction_id="101", schedule=schedule(limit)
    )


def limit_of(frame: list[Any]) -> float:
    """Return the first limit in a 1.6 SetChargingProfile."""
    periods = frame[3]["csChargingProfiles"]["chargingSchedule"]["chargingSchedulePeriod"]
    return float(periods[0]["limit"])


async def test_r25_two_calls_sent_at_once_are_answered_in_order(
    world: World, version: str, status: Status
) -> None:
    async with world.station(version) as station:
        await station.send(2, "a", "StatusNotification", status(1))
        await station.send(2, "b", "Heartbeat", {})
        assert (await station.read())[:2] == [3, "a"]
        assert (await station.read())[:2] == [3, "b"]


async def test_answers_of_every_length_arrive_whole(world: World) -> None:
    # Up to 125 bytes a websocket frame has its length in one byte, then in three.
    incomplete = {
        "evseId": 1,
        "meterValue": [{"timestamp": "2026-03-02T12:00:00Z", "sampledValue": [{}]}],
    }
    lengths = set()
    async with world.station("ocpp2.0.1") as station:
        for length in range(1, 37):
            await station.send(2, "m" * length, "MeterValues", incomplete)
            async with asyncio.timeout(5):
                text = await station.socket.recv()
            assert json.loads(text)[:2] == [4, "m" * length]
            lengths.add(len(text))
    assert {125, 126} <= lengths


async def test_r27_the_same_id_with_other_content_is_a_new_call(
    world: World, version: str, status: Status
) -> None:
    async with world.station(version) as station:
        await station.send(2, "a", "StatusNotification", status(1))
        await station.send(2, "a", "StatusNotification", status(2))
        await station.read()
        await station.read()
    assert [r.evse_id for r in world.centre.of(StatusChanged)] == [1, 2]


async def test_a_command_waits_until_the_station_is_answered(world: World) -> None:
    released, asked = asyncio.Event(), asyncio.Event()
    given: list[asyncio.Task[CommandResult]] = []

    def hold(report: Report[Any]) -> Any:
        if isinstance(report, SessionStarted):
            given.append(world.command(set_schedule()))
            asked.set()
            return released.wait()
        return None

    world.centre.before = hold
    async with world.station() as station:
        await station.send(2, "s", "StartTransaction", START)
        async with asyncio.timeout(5):
            await asked.wait()
        released.set()
        answer = await station.read()
        assert answer[:2] == [3, "s"]
        assert answer[2]["transactionId"] == 101
        call = await station.answer({"status": "Accepted"})
        assert call[2] == "SetChargingProfile"
        assert (await given[0]).is_accepted


async def test_a_handler_that_commands_its_own_station_is_refused_at_once(world: World) -> None:
    results: list[CommandResult] = []

    async def misbehave() -> None:
        results.append(await world.bus.command(Reset(station_id="CS 1")))

    world.centre.before = lambda report: misbehave() if isinstance(report, SessionStarted) else None
    async with world.station() as station:
        assert "transactionId" in await station.ask("StartTransaction", START)
    assert results[0].outcome is Outcome.NOT_SENT


async def test_a_task_of_a_handler_that_waits_for_its_command_cannot_hold_the_link_for_ever(
    world: World,
) -> None:
    results: list[CommandResult] = []

    async def misbehave() -> None:
        results.append(await world.command(Reset(station_id="CS 1", wait_s=0.1)))

    world.centre.before = lambda report: misbehave() if isinstance(report, SessionStarted) else None
    async with world.station() as station:
        assert "transactionId" in await station.ask("StartTransaction", START)
    assert (results[0].outcome, results[0].why_not_sent) == (Outcome.NOT_SENT, "busy")


async def test_r28_the_second_command_waits_for_the_answer_to_the_first(
    world: World, version: str
) -> None:
    async with world.station(version) as station:
        first = world.command(Reset(station_id="CS 1"))
        call = await station.read()
        second = world.command(Reset(station_id="CS 1", is_hard=True))
        # Whatever the second sent would stand before this answer.
        assert (await station.call("Heartbeat", {}))[0] == 3
        await station.send(3, call[1], {"status": "Accepted"})
        assert (await first).is_accepted
        await station.answer({"status": "Rejected"})
        assert (await second).outcome is Outcome.REJECTED


async def test_r29_a_time_out_frees_the_link_and_the_late_answer_matches_nothing(
    world: World, version: str
) -> None:
    async with world.station(version) as station:
        unanswered = world.command(Reset(station_id="CS 1", wait_s=0.05))
        first = await station.read()
        assert (await unanswered).outcome is Outcome.NO_ANSWER
        result = world.command(Reset(station_id="CS 1", wait_s=2))
        second = await station.read()
        await station.send(3, first[1], {"status": "Rejected"})
        await station.send(3, second[1], {"status": "Accepted"})
        assert (await result).is_accepted


async def test_no_wait_means_the_outcome_is_sent(world: World, version: str) -> None:
    async with world.station(version) as station:
        result = await world.command(Reset(station_id="CS 1", wait_s=0))
        assert result.outcome is Outcome.SENT
        await station.answer({"status": "Accepted"})


@pytest.mark.parametrize(
    ("frame", "outcome", "code"),
    [
        (["NotSupported", "no", {}], Outcome.NOT_SUPPORTED, "NotSupported"),
        (["NotImplemented", "", {}], Outcome.NOT_SUPPORTED, "NotImplemented"),
        (["Whatever", "x" * 2000, {"a": 1}], Outcome.CALL_ERROR, "Whatever"),
        (["GenericError", "four elements"], Outcome.CALL_ERROR, "GenericError"),
        (["GenericError", "", None], Outcome.CALL_ERROR, "GenericError"),
        (["GenericError", "", "details as text"], Outcome.CALL_ERROR, "GenericError"),
        ([], Outcome.CALL_ERROR, ""),
    ],
)
async def test_r30_any_callerror_is_an_outcome(
    world: World, version: str, frame: list[Any], outcome: Outcome, code: str
) -> None:
    async with world.station(version) as station:
        result = world.command(Reset(station_id="CS 1"))
        call = await station.read()
        await station.send(4, call[1], *frame)
        assert ((await result).outcome, (await result).error_code) == (outcome, code)
        assert "currentTime" in await station.ask("Heartbeat", {})


async def test_r31_an_answer_that_breaks_the_schema_is_kept_as_it_came(
    world: World, version: str
) -> None:
    async with world.station(version) as station:
        result = world.command(Reset(station_id="CS 1"))
        await station.answer({"status": "Perhaps", "extra": 1})
        assert (await result).outcome is Outcome.INVALID_ANSWER
        assert (await result).answer == {"status": "Perhaps", "extra": 1}
        if version == "ocpp2.1":
            assert (await station.read())[:3:2] == [5, "PropertyConstraintViolation"]
        for odd in (["Accepted"], None, "Accepted"):
            again = world.command(Reset(station_id="CS 1"))
            call = await station.answer(odd)
            assert (await again).outcome is Outcome.INVALID_ANSWER
            if version == "ocpp2.1":
                complaint = await station.read()
                assert complaint[:3] == [5, call[1], "TypeConstraintViolation"]
                assert len(complaint[3]) <= 255
                assert complaint[4] == {}


async def test_r32_calls_that_cross_are_both_answered(
    world: World, version: str, status: Status
) -> None:
    async with world.station(version) as station:
        result = world.command(Reset(station_id="CS 1"))
        call = await station.read()
        for number in range(5):
            await station.send(2, f"x{number}", "StatusNotification", status())
        assert [(await station.read())[1] for _ in range(5)] == [f"x{n}" for n in range(5)]
        await station.send(3, call[1], {"status": "Accepted"})
        assert (await result).is_accepted


async def test_an_answer_is_read_behind_calls_that_are_still_waiting_to_be_answered(
    world: World, status: Status, version: str
) -> None:
    released = asyncio.Event()
    world.centre.before = lambda report: (
        released.wait() if isinstance(report, StatusChanged) else None
    )
    async with world.station(version) as station:
        result = world.command(Reset(station_id="CS 1"))
        call = await station.read()
        await station.send(2, "held", "StatusNotification", status())
        await station.send(3, call[1], {"status": "Accepted"})
        async with asyncio.timeout(5):
            assert (await result).is_accepted
        released.set()
        assert (await station.read())[:2] == [3, "held"]


async def test_the_newest_schedule_of_an_evse_takes_the_place_of_the_queued_one(
    world: World,
) -> None:
    async with world.station() as station:
        blocker = world.command(Reset(station_id="CS 1"))
        call = await station.read()
        older = world.command(set_schedule(10))
        other = world.command(set_schedule(11, evse_id=2))
        newest = world.command(set_schedule(12))
        async with asyncio.timeout(5):
            assert (await older).outcome is Outcome.SUPERSEDED
        await station.send(3, call[1], {"status": "Accepted"})
        limits = [limit_of(await station.answer({"status": "Accepted"})) for _ in range(2)]
        assert limits == [11, 12]
        assert all([(await t).is_accepted for t in (blocker, other, newest)])


async def test_a_full_queue_refuses_and_the_end_of_the_link_ends_every_call(world: World) -> None:
    async with world.station() as station:
        pending = world.command(Reset(station_id="CS 1"))
        await station.read()
        queued = [world.command(Reset(station_id="CS 1")) for _ in range(21)]
        refused, _ = await asyncio.wait(queued, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert [t.result().why_not_sent for t in refused] == ["queue full"]
    assert (await pending).outcome is Outcome.NO_ANSWER
    for task in queued:
        if task not in refused:
            assert ((await task).outcome, (await task).why_not_sent) == (
                Outcome.NOT_SENT,
                "offline",
            )


async def test_a_command_without_its_link_is_not_sent(world: World) -> None:
    offline = await world.bus.command(Reset(station_id="CS 1"))
    assert (offline.outcome, offline.why_not_sent) == (Outcome.NOT_SENT, "offline")
    async with world.station() as station:
        await station.ask("Heartbeat", {})
        other = await world.bus.command(Reset(station_id="CS 1", link_id=99))
        assert (other.outcome, other.why_not_sent) == (Outcome.NOT_SENT, "other link")
        raw = RawCall(
            station_id="CS 1",
            action="Reset",
            payload_json='{"type":"OnIdle"}',
            version=OcppVersion.V201,
        )
        wrong = await world.bus.command(raw)
        assert (wrong.outcome, wrong.why_not_sent) == (Outcome.NOT_SENT, "wrong version")
        unsayable = await world.bus.command(
            StopCharging(station_id="CS 1", transaction_id="not a number")
        )
        assert unsayable.outcome is Outcome.NOT_SENT
        assert unsayable.why_not_sent.startswith("not valid")


async def test_r33_the_newer_link_takes_over_and_the_late_end_of_the_old_one_harms_nothing(
    world: World, version: str
) -> None:
    async with world.station(version) as old, world.station(version) as new:
        assert (await old.ended())[0] == 1000
        assert (await world.centre.closed(1)).link_id == 1
        result = world.command(Reset(station_id="CS 1"))
        await new.answer({"status": "Accepted"})
        assert (await result).is_accepted
        assert [link.link_id for link in world.gateway.links()] == [2]


async def test_r34_a_second_link_with_a_wrong_password_leaves_the_first_alone(
    world: World, version: str
) -> None:
    right = {"Authorization": "Basic " + _basic("CS-3", PASSWORD)}
    wrong = {"Authorization": "Basic " + _basic("CS-3", b"wrong")}
    async with world.station(version, "/ocpp/CS-3", additional_headers=right) as station:
        with pytest.raises(InvalidStatus) as refused:
            async with world.station(version, "/ocpp/CS-3", additional_headers=wrong):
                pass
        assert refused.value.response.status_code == 401
        assert "currentTime" in await station.ask("Heartbeat", {})


def _basic(user: str, password: bytes) -> str:
    return b64encode(user.encode() + b":" + password).decode()


async def test_r35_two_clients_that_fight_for_one_identity_are_slowed_down() -> None:
    async with running(replace(FAST, takeovers_per_minute=3)) as world:
        refused = []
        stations = []
        for _ in range(8):
            try:
                context = world.station()
                stations.append((context, await context.__aenter__()))
            except InvalidStatus as error:
                refused.append(error.response)
        assert [response.status_code for response in refused] == [429] * 4
        assert all(int(response.headers["Retry-After"]) >= 5 for response in refused)
        told = await world.centre.wait_for(SecurityNoticed, 4)
        assert [t.kind for t in told] == ["link taken over"] * 3 + ["identity is fought over"]
        last = stations[-1][1]
        assert "currentTime" in await last.ask("Heartbeat", {})
        for context, _ in stations:
            await context.__aexit__(None, None, None)


async def test_r38_a_stop_finishes_what_is_open_and_closes_with_1001(version: str) -> None:
    async with running() as world, world.station(version) as station:
        released, asked = asyncio.Event(), asyncio.Event()

        def hold(report: Report[Any]) -> Any:
            if isinstance(report, StationBooted):
                asked.set()
                return released.wait()
            return None

        world.centre.before = hold
        boot = (
            {"chargePointVendor": "V", "chargePointModel": "M"}
            if version == "ocpp1.6"
            else {"reason": "PowerUp", "chargingStation": {"vendorName": "V", "model": "M"}}
        )
        await station.send(2, "b", "BootNotification", boot)
        async with asyncio.timeout(5):
            await asked.wait()
        stopping = asyncio.create_task(world.gateway.stop())
        await asyncio.sleep(0)
        await station.send(2, "c", "Heartbeat", {})
        released.set()
        assert (await station.read())[:2] == [3, "b"]
        assert (await station.ended())[0] == 1001
        await stopping
        assert world.gateway.links() == ()
        assert len(world.centre.of(LinkClosed)) == 1


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, ""), (3000, "r" * 120)])
async def test_r39_a_close_of_the_station_is_reported_once(
    world: World, version: str, code: int, reason: str
) -> None:
    async with world.station(version) as station:
        await station.socket.close(code, reason)
    report = await world.centre.closed(1)
    assert report.reason.startswith(str(code))
    assert len(world.centre.of(LinkClosed)) == 1


async def test_r39_a_station_that_vanishes_is_reported(world: World, version: str) -> None:
    async with world.station(version) as station:
        station.socket.transport.abort()
        assert (await world.centre.closed(1)).reason


async def test_while_the_store_is_out_nothing_is_answered_and_nobody_is_let_in(
    world: World, version: str, status: Status
) -> None:
    async with world.station(version) as station, world.station(version, "/x/CS-2") as idle:
        world.centre.is_out = True
        await station.send(2, "s", "StatusNotification", status())
        assert (await station.ended())[0] == 1013
        await idle.send(2, "h", "Heartbeat", {})
        assert (await idle.ended())[0] == 1013
        with pytest.raises(InvalidStatus) as refused:
            async with world.station(version):
                pass
        assert refused.value.response.status_code == 503
        assert 5 <= int(refused.value.response.headers["Retry-After"]) <= 60
        assert [frame for frame in world.seen if frame[1] == "out"] == []
        world.centre.is_out = False
        await asyncio.sleep(FAST.outage_probe_s)
        async with world.station(version) as back:
            assert "currentTime" in await back.ask("Heartbeat", {})


async def test_a_centre_that_takes_too_long_counts_as_out(version: str, status: Status) -> None:
    async with running(replace(FAST, ask_s=0.2)) as world, world.station(version) as station:
        never = asyncio.Event()
        world.centre.before = lambda report: (
            never.wait() if isinstance(report, StatusChanged) else None
        )
        async with world.station(version, "/x/CS-2") as other:
            await station.send(2, "s", "StatusNotification", status())
            # Asked in between and answered: only the one that waits is given up.
            assert "currentTime" in await other.ask("Heartbeat", {})
            assert (await station.ended())[0] == 1013
            assert [f for f in world.seen if f[:2] == ("CS 1", "out")] == []
            world.centre.before = None
            await asyncio.sleep(FAST.outage_probe_s)
            assert "currentTime" in await other.ask("Heartbeat", {})


@pytest.mark.parametrize(("returns", "code"), [(True, 1013), (False, 1006)])
async def test_a_station_that_dislikes_close_frames_is_cut_without_one(
    returns: bool, code: int
) -> None:
    async with running(FAST) as world:
        world.centre.returns_after_close = returns
        async with world.station() as station:
            world.centre.is_out = True
            await station.send(2, "s", "StatusNotification", {})
            assert (await station.read())[0] == 4
            await station.send(2, "a", "Authorize", {"idTag": "T"})
            assert (await station.ended())[0] == code
        # Its end could not be kept: it is told once the centre is back.
        assert world.centre.of(LinkClosed) == []
        world.centre.is_out = False
        assert (await world.centre.closed(1)).reason == CENTRE_OUT


@pytest.mark.parametrize(("returns", "code"), [(True, 1001), (False, 1006)])
async def test_a_stop_sends_a_close_frame_to_those_that_bear_one(returns: bool, code: int) -> None:
    async with running(FAST) as world:
        world.centre.returns_after_close = returns
        async with world.station() as station:
            await world.gateway.stop()
            assert (await station.ended())[0] == code


async def test_a_failure_of_one_message_is_an_internal_error_and_the_link_lives(
    world: World, version: str, status: Status
) -> None:
    def fail(report: Report[Any]) -> None:
        if isinstance(report, StatusChanged):
            raise ZeroDivisionError("secret detail")

    world.centre.before = fail
    async with world.station(version) as station:
        frame = await station.call("StatusNotification", status())
        assert frame[2] == "InternalError"
        assert "secret" not in json.dumps(frame)
        assert "currentTime" in await station.ask("Heartbeat", {})


async def test_before_acceptance_only_boot_and_what_was_triggered_is_served(
    world: World, version: str, status: Status
) -> None:
    boot = (
        {"chargePointVendor": "V", "chargePointModel": "M"}
        if version == "ocpp1.6"
        else {"reason": "PowerUp", "chargingStation": {"vendorName": "V", "model": "M"}}
    )
    world.centre.boot_status = "Pending"
    async with world.station(version) as station:
        assert (await station.ask("BootNotification", boot))["status"] == "Pending"
        assert (await station.call("StatusNotification", status()))[2] == "SecurityError"
        assert (await station.call("Heartbeat", {}))[2] == "SecurityError"
        assert world.centre.of(StatusChanged) == []
        key = "HeartbeatInterval" if version == "ocpp1.6" else "AuthCtrlr.Enabled"
        configured = world.command(Configure(station_id="CS 1", values=((key, "60"),)))
        await station.answer(
            {"status": "Accepted"}
            if version == "ocpp1.6"
            else {
                "setVariableResult": [
                    {
                        "attributeStatus": "Accepted",
                        "component": {"name": "AuthCtrlr"},
                        "variable": {"name": "Enabled"},
                    }
                ]
            }
        )
        assert (await configured).is_accepted
        triggered = world.command(Trigger(station_id="CS 1", message="StatusNotification"))
        await station.answer({"status": "Accepted"})
        assert (await triggered).is_accepted
        assert await station.ask("StatusNotification", status()) == {}
        world.centre.boot_status = "Accepted"
        assert (await station.ask("BootNotification", boot))["status"] == "Accepted"
        assert "currentTime" in await station.ask("Heartbeat", {})


async def test_a_station_that_is_not_registered_has_to_boot_first(
    world: World, version: str, status: Status
) -> None:
    world.centre.is_registered = False
    async with world.station(version) as station:
        assert (await station.call("StatusNotification", status()))[2] == "SecurityError"


async def test_a_reconnect_without_boot_is_served(
    world: World, version: str, status: Status
) -> None:
    async with world.station(version) as station:
        assert await station.ask("StatusNotification", status()) == {}


async def test_heartbeats_reach_the_centre_once_in_a_while_only(version: str) -> None:
    async with running(replace(FAST, seen_every_s=0.2)) as world:
        async with world.station(version) as station:
            for _ in range(20):
                assert "currentTime" in await station.ask("Heartbeat", {})
            before = len(world.centre.of(StationSeen))
            await asyncio.sleep(0.25)
            for _ in range(5):
                await station.ask("Heartbeat", {})
            assert len(world.centre.of(StationSeen)) == before + 1


async def test_the_gateway_answers_with_its_clock(world: World, version: str) -> None:
    async with world.station(version) as station:
        text = (await station.ask("Heartbeat", {}))["currentTime"]
    assert timedelta(0) <= datetime.fromisoformat(text) - NOW < timedelta(minutes=1)
    assert text.endswith("Z")


async def test_r37_a_silent_station_is_dropped_and_one_that_only_talks_stays() -> None:
    async with running(replace(FAST, ping_s=0.2)) as world:
        async with world.station() as talker, world.station(path="/ocpp/CS-2") as silent:
            for station in (talker, silent):
                # Neither answers a ping from now on.
                station.socket.protocol.send_pong = lambda data: None  # type: ignore[method-assign]
            silent.socket.transport.pause_reading()
            for _ in range(16):
                assert "currentTime" in await talker.ask("Heartbeat", {})
                await asyncio.sleep(0.05)
            await world.centre.closed(2)
            assert [link.station_id for link in world.gateway.links()] == ["CS 1"]
            silent.socket.transport.abort()


async def test_a_fast_station_is_slowed_but_never_refused() -> None:
    async with running(replace(FAST, frames_per_s=100, frames_burst=10)) as world:
        async with world.station() as station:
            began = asyncio.get_running_loop().time()
            for number in range(30):
                await station.send(2, str(number), "Heartbeat", {})
            for number in range(30):
                assert (await station.read())[:2] == [3, str(number)]
            assert asyncio.get_running_loop().time() - began >= 0.15


async def test_clearing_a_profile_that_is_gone_is_a_success(world: World, version: str) -> None:
    async with world.station(version) as station:
        result = world.command(ClearSchedule(station_id="CS 1", profile_id=7))
        await station.answer({"status": "Unknown"})
        assert ((await result).is_accepted, (await result).status) == (True, "Unknown")


async def test_offers_carry_what_the_centre_decides_by(world: World, version: str) -> None:
    headers = {"Authorization": "Basic " + _basic("CS-3", PASSWORD)}
    async with world.station(version, "/ocpp/CS-3", additional_headers=headers) as station:
        await station.ask("Heartbeat", {})
    offer = world.centre.of(LinkOffered)[0]
    assert (offer.username, offer.password, offer.is_loopback, offer.is_tls) == (
        "CS-3",
        PASSWORD,
        True,
        False,
    )
    assert offer.version.value == version.removeprefix("ocpp")


async def test_r36_a_station_that_stops_reading_is_dropped_after_the_send_limit() -> None:
    async with running(replace(FAST, send_s=0.3)) as world:
        stuck = world.station(max_queue=1, compression=None)
        async with stuck as station, world.station(path="/o/CS-2") as other:
            station.socket.transport.pause_reading()
            data = json.dumps({"vendorId": "v", "data": "x" * 900_000})
            raw = RawCall(station_id="CS 1", action="DataTransfer", payload_json=data, wait_s=0.01)
            result = CommandResult(outcome=Outcome.NO_ANSWER)
            async with asyncio.timeout(8):
                # Until the kernel's buffers are full, each is written and has no answer.
                while result.why_not_sent != "offline":
                    result = await world.bus.command(raw)
            assert result.outcome is Outcome.NOT_SENT
            assert (await world.centre.closed(1)).reason == "send time-out"
            assert "currentTime" in await other.ask("Heartbeat", {})
