"""The bus between processes: a centre and gateways on a real NATS server."""

import asyncio
import contextlib
import random
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from csms import bus_setup
from csms.bus import envelope
from csms.bus.centre_end import CentreEnd
from csms.bus.envelope import packed, unpacked
from csms.bus.gateway_end import GatewayEnd
from csms.bus.nats import Line, LineDown, LineOptions, NobodyThere
from csms.clock import Clock
from csms.core.commands import Command, CommandResult, EndLink, Outcome, Reset
from csms.core.errors import BusError, LinkUnknown, StoreUnavailable, TascoError, UnknownStation
from csms.core.messages import (
    LinkClosed,
    LinkOffered,
    LinkReply,
    Noted,
    Notice,
    Report,
    SecurityNoticed,
    StationSeen,
    VendorMessage,
    VendorReply,
)
from csms.core.model import OcppVersion
from csms.service.authority import CSMS_ROOT
from csms.settings import BusSettings, Settings
from tests.authorities import an_authority, server_files
from tests.brokers import Broker
from tests.scenarios.world import eventually, free_port

R = TypeVar("R")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def offered(station_id: str = "CS-1") -> LinkOffered:
    return LinkOffered(station_id=station_id, received_at=NOON, version=OcppVersion.V201)


def seen(link_id: int = 0, station_id: str = "CS-1") -> StationSeen:
    return StationSeen(station_id=station_id, received_at=NOON, link_id=link_id)


class Centre:
    """Grants every link and notes what it hears."""

    def __init__(self, first_link_id: int = 1) -> None:
        self.heard: list[Report[Any]] = []
        self.fails_with: Exception | None = None
        self.waits_for: asyncio.Event | None = None
        self.adds = ""
        self._next = first_link_id

    def of(self, kind: type[R]) -> list[R]:
        """Return what it heard of a kind."""
        return [report for report in self.heard if isinstance(report, kind)]

    async def handle(self, report: Report[Any]) -> Any:
        if self.waits_for is not None:
            await self.waits_for.wait()
        if self.fails_with is not None:
            raise self.fails_with
        self.heard.append(report)
        if isinstance(report, LinkOffered):
            self._next += 1
            return LinkReply(station_id=report.station_id, link_id=self._next - 1)
        if isinstance(report, VendorMessage):
            return VendorReply(status="Accepted", data=(report.data or "") + self.adds)
        return Noted()


class Gateway:
    """Carries out what it is told, once it may."""

    def __init__(self) -> None:
        self.told: list[Command] = []
        self.unknown: list[tuple[int, tuple[int, ...]]] = []
        self.link_ids: set[int] = set()
        self.may = asyncio.Event()
        self.may.set()
        self.fails_with: Exception | None = None
        self.answer: dict[str, object] | None = None

    async def execute(self, command: Command) -> CommandResult:
        self.told.append(command)
        await self.may.wait()
        if self.fails_with is not None:
            raise self.fails_with
        return CommandResult(
            outcome=Outcome.ACCEPTED, status=command.station_id, answer=self.answer
        )

    def end_unknown(self, up_to: int, others: Collection[int] = ()) -> int:
        self.unknown.append((up_to, tuple(others)))
        ended = {k for k in self.link_ids if k <= up_to or k in others}
        self.link_ids -= ended
        return len(ended)


@contextlib.asynccontextmanager
async def running(*lives: Callable[[], Any]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(live()) for live in lives]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def a_centre(
    options: LineOptions,
    centre: Centre,
    *,
    newest_link_id: int = 0,
    name: str = "centre",
    **given: Any,
) -> AsyncIterator[CentreEnd]:
    line = Line(options, node=f"{name}-{id(centre)}")
    end = CentreEnd(line, Clock(), newest_link_id=newest_link_id, **given)
    end.attach_centre(centre)
    async with running(line.run, end.run):
        await line.wait_up()
        yield end
        await end.finish()


@contextlib.asynccontextmanager
async def a_gateway(
    options: LineOptions, gateway: Gateway, *, name: str = "g1"
) -> AsyncIterator[GatewayEnd]:
    line = Line(options, node=name)
    end = GatewayEnd(line, Clock(), name=name)
    end.attach_gateway(gateway, lambda: gateway.link_ids)
    async with running(line.run, end.run):
        await line.wait_up()
        yield end


async def granted(end: GatewayEnd, gateway: Gateway, station_id: str = "CS-1") -> int:
    reply = await end.ask(offered(station_id))
    gateway.link_ids.add(reply.link_id)
    return reply.link_id


@contextlib.asynccontextmanager
async def a_link(options: LineOptions, gateway: Gateway, **at: Any) -> AsyncIterator[CentreEnd]:
    """Yield a centre's end that has a station behind `gateway`, whose line goes by `at`."""
    async with (
        a_centre(options, Centre()) as centre_end,
        a_gateway(replace(options, **at), gateway) as end,
    ):
        await granted(end, gateway)
        yield centre_end


# --- reports -------------------------------------------------------------------------------------


async def test_a_report_gets_the_reply_of_its_kind(line_options: LineOptions) -> None:
    centre, gateway = Centre(), Gateway()
    async with a_centre(line_options, centre), a_gateway(line_options, gateway) as end:
        link_id = await granted(end, gateway)
        message = VendorMessage(
            station_id="CS-1", received_at=NOON, link_id=link_id, vendor_id="v", data="x" * 900_000
        )
        reply = await end.ask(message)
    assert reply == VendorReply(status="Accepted", data="x" * 900_000)
    assert centre.heard == [offered(), message]


@pytest.mark.parametrize(
    "error",
    [StoreUnavailable("full"), UnknownStation("no station CS-1")],
    ids=["store", "station"],
)
async def test_an_error_of_the_centre_reaches_who_asked(
    line_options: LineOptions, error: TascoError
) -> None:
    centre, gateway = Centre(), Gateway()
    centre.fails_with = error
    async with a_centre(line_options, centre), a_gateway(line_options, gateway) as end:
        with pytest.raises(type(error), match=str(error)):
            await end.ask(offered())


async def test_a_reply_that_nats_does_not_take_is_an_error_at_once(
    line_options: LineOptions,
) -> None:
    centre, gateway = Centre(), Gateway()
    async with a_centre(line_options, centre), a_gateway(line_options, gateway) as end:
        link_id = await granted(end, gateway)
        centre.adds = random.Random(1).randbytes(1_500_000).hex()
        message = VendorMessage(
            station_id="CS-1", received_at=NOON, link_id=link_id, vendor_id="v", data="x"
        )
        async with asyncio.timeout(5.0):
            with pytest.raises(TascoError, match="max_payload"):
                await end.ask(message)


async def test_a_report_waits_for_a_centre_that_comes_soon(line_options: LineOptions) -> None:
    centre, gateway = Centre(), Gateway()
    async with a_gateway(line_options, gateway) as end:
        asked = asyncio.create_task(end.ask(offered()))
        await eventually(lambda: end.why_not == "no centre answers")
        async with a_centre(line_options, centre):
            assert (await asked).link_id == 1
    assert centre.heard == [offered()]


async def test_without_a_centre_a_report_is_given_up_and_nothing_decided(
    line_options: LineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csms.bus.gateway_end._HOLD_S", 0.5)
    async with a_gateway(line_options, Gateway()) as end:
        with pytest.raises(BusError):
            await end.ask(offered())
        assert not end.is_reached


async def test_what_a_centre_that_is_killed_was_asked_is_given_up_soon(
    line_options: LineOptions,
) -> None:
    centre, gateway = Centre(), Gateway()
    line = Line(line_options, node="killed")
    centre_end = CentreEnd(line, Clock(), newest_link_id=0)
    centre_end.attach_centre(centre)
    async with a_gateway(line_options, gateway) as end:
        async with running(line.run, centre_end.run):
            link_id = await granted(end, gateway)
            centre.waits_for = asyncio.Event()
            asked = asyncio.create_task(end.ask(seen(link_id)))
            await asyncio.wait([asked], timeout=0.3)
        async with asyncio.timeout(5):
            with pytest.raises(BusError):
                await asked


async def test_what_a_centre_that_stops_has_heard_is_still_answered(
    line_options: LineOptions,
) -> None:
    centre, gateway = Centre(), Gateway()
    line = Line(line_options, node="stopping")
    centre_end = CentreEnd(line, Clock(), newest_link_id=0)
    centre_end.attach_centre(centre)
    async with a_gateway(line_options, gateway) as end, running(line.run, centre_end.run):
        link_id = await granted(end, gateway)
        asked = [asyncio.create_task(end.ask(seen(link_id))) for _ in range(200)]
        await eventually(lambda: len(centre.heard) > 1)
        await line.hush()
        await centre_end.finish()
        done = await asyncio.gather(*asked, return_exceptions=True)
    # What it had not heard was told so at once, by NATS.
    assert all(reply == Noted() or isinstance(reply, BusError) for reply in done)
    assert sum(reply == Noted() for reply in done) == len(centre.heard) - 1


async def test_a_centre_without_its_lease_decides_nothing(line_options: LineOptions) -> None:
    centre, gateway, may = Centre(), Gateway(), [True]
    async with (
        a_centre(line_options, centre, may_decide=lambda: may[0]) as centre_end,
        a_gateway(line_options, gateway) as end,
    ):
        link_id = await granted(end, gateway)
        may[0] = False
        with pytest.raises(StoreUnavailable):
            await end.ask(seen(link_id))
        result = await centre_end.command(Reset(station_id="CS-1"))
    assert result.outcome is Outcome.NOT_SENT
    assert centre.heard == [offered()]
    assert gateway.told == []


async def test_a_centre_that_hangs_takes_nothing_from_the_one_that_follows(
    line_options: LineOptions, broker: Broker
) -> None:
    behind = replace(line_options, servers=(broker.url,))
    second, gateway = Centre(first_link_id=2), Gateway()
    async with a_centre(behind, Centre(), name="hung"):
        # For NATS it is still there, for minutes.
        broker.stall()
        async with (
            a_centre(line_options, second, newest_link_id=1, name="next"),
            a_gateway(line_options, gateway) as end,
        ):
            async with asyncio.timeout(5.0):
                link_id = await granted(end, gateway)
                for _ in range(30):
                    await end.ask(seen(link_id))
    assert second.heard == [offered(), *[seen(link_id)] * 30]


async def test_a_gateway_of_another_version_is_not_taken(line_options: LineOptions) -> None:
    centre = Centre()
    async with a_centre(line_options, centre), a_gateway(line_options, Gateway()) as end:
        end._words = "another"
        end._greet_now.set()
        await eventually(lambda: "of another version" in end.why_not)
        assert not end.is_reached


# --- links ---------------------------------------------------------------------------------------


async def test_a_report_of_a_link_from_before_is_not_decided_on(line_options: LineOptions) -> None:
    gateway = Gateway()
    async with a_gateway(line_options, gateway) as end:
        async with a_centre(line_options, Centre()):
            link_id = await granted(end, gateway)
            await end.ask(seen(link_id))
        second = Centre(first_link_id=2)
        async with a_centre(line_options, second, newest_link_id=1):
            with pytest.raises(LinkUnknown):
                await end.ask(seen(link_id))
            await eventually(lambda: not gateway.link_ids)
            assert await granted(end, gateway) == 2
            await end.ask(seen(2))
    assert second.heard == [offered(), seen(2)]


async def test_the_end_of_a_link_is_kept_whoever_granted_it(line_options: LineOptions) -> None:
    centre = Centre()
    async with a_centre(line_options, centre, newest_link_id=9):
        async with a_gateway(line_options, Gateway()) as end:
            closed = LinkClosed(station_id="CS-1", received_at=NOON, link_id=7)
            await end.ask(closed)
    assert centre.heard == [closed]


async def test_a_gateway_speaks_for_its_own_links_and_their_stations_alone(
    line_options: LineOptions,
) -> None:
    centre, one, two = Centre(), Gateway(), Gateway()
    async with (
        a_centre(line_options, centre) as centre_end,
        a_gateway(line_options, one, name="g1") as end_one,
        a_gateway(line_options, two, name="g2") as end_two,
    ):
        mine = await granted(end_one, one)
        other = await granted(end_two, two, "CS-2")
        closed = LinkClosed(station_id="CS-2", received_at=NOON, link_id=other)
        for report in (seen(other, "CS-2"), seen(mine, "CS-2"), closed):
            with pytest.raises(LinkUnknown):
                await end_one.ask(report)
        assert (await centre_end.command(Reset(station_id="CS-2"))).is_accepted
        await end_two.ask(closed)
    assert centre.heard == [offered(), offered("CS-2"), closed]


async def test_the_newest_link_is_commanded_and_the_older_one_ended(
    line_options: LineOptions,
) -> None:
    centre, one, two = Centre(), Gateway(), Gateway()
    async with (
        a_centre(line_options, centre) as centre_end,
        a_gateway(line_options, one, name="g1") as end_one,
        a_gateway(line_options, two, name="g2") as end_two,
    ):
        older = await granted(end_one, one)
        newer = await granted(end_two, two, "cs-1")
        await eventually(lambda: one.told)
        result = await centre_end.command(Reset(station_id="CS-1"))
        stale = await centre_end.command(Reset(station_id="CS-1", link_id=older))
    (event,) = centre.of(SecurityNoticed)
    assert event.kind == "link taken over"
    assert event.detail["older_link_id"] == older
    (order,) = one.told
    assert isinstance(order, EndLink)
    assert order.link_id == older
    assert result.is_accepted
    assert two.told == [Reset(station_id="CS-1", link_id=newer)]
    assert (stale.outcome, stale.why_not_sent) == (Outcome.NOT_SENT, "other link")


async def test_a_gateway_that_falls_silent_is_given_up_with_its_links(
    line_options: LineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csms.bus.centre_end.LOST_S", 1.0)
    centre, gateway = Centre(), Gateway()
    async with a_centre(line_options, centre) as centre_end:
        async with a_gateway(line_options, gateway) as end:
            link_id = await granted(end, gateway)
            gateway.may.clear()
            order = asyncio.create_task(centre_end.command(Reset(station_id="CS-1")))
            await eventually(lambda: gateway.told)
        await eventually(lambda: len(centre.heard) == 3)
        result = await order
        after = await centre_end.command(Reset(station_id="CS-1"))
    (closed,) = centre.of(LinkClosed)
    assert [event.kind for event in centre.of(SecurityNoticed)] == ["gateway lost"]
    assert (closed.link_id, closed.reason) == (link_id, "gateway lost")
    assert result.outcome is Outcome.NO_ANSWER
    assert (after.outcome, after.why_not_sent) == (Outcome.NOT_SENT, "offline")


async def test_a_gateway_that_was_given_up_and_lives_ends_its_links(
    line_options: LineOptions,
) -> None:
    gateway = Gateway()
    async with (
        a_centre(line_options, Centre()) as centre_end,
        a_gateway(line_options, gateway) as end,
    ):
        await granted(end, gateway)
        centre_end._give_up("g1", "gateway lost")
        await eventually(lambda: not gateway.link_ids)
        assert await granted(end, gateway) == 2
        await end.ask(seen(2))


async def test_an_answer_that_comes_as_its_asker_is_cancelled_is_shown_as_late(
    line_options: LineOptions,
) -> None:
    shown: list[bytes] = []
    line, listener = Line(line_options, node="n1"), Line(line_options, node="n2")

    async def hear(subject: str, text: bytes, answer_to: str) -> None:
        return None

    listener.listen(listener.subject("somewhere"), hear)
    async with running(line.run, listener.run):
        await line.wait_up()
        await listener.wait_up()
        asked = asyncio.create_task(line.ask(line.subject("somewhere"), b"", late=shown.append))
        await eventually(lambda: line._asked)
        (answer,) = line._asked.values()
        answer.set_result(b"granted")
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled()
    assert shown == [b"granted"]


async def test_a_link_that_was_granted_too_late_is_given_back(line_options: LineOptions) -> None:
    centre, gateway = Centre(), Gateway()
    centre.waits_for = asyncio.Event()
    async with a_centre(line_options, centre), a_gateway(line_options, gateway) as end:
        await eventually(lambda: end.is_reached)
        asked = asyncio.create_task(end.ask(offered()))
        await asyncio.wait([asked], timeout=0.3)
        asked.cancel()
        await asyncio.wait([asked])
        centre.waits_for.set()
        await eventually(lambda: len(centre.heard) == 2)
    assert isinstance(centre.heard[1], LinkClosed)
    assert centre.heard[1].link_id == 1


async def test_links_that_a_gateway_does_not_have_are_noted_as_gone(
    line_options: LineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csms.bus.gateway_end.LIST_EVERY", 1)
    monkeypatch.setattr("csms.bus.centre_end._YOUNG_S", 0.0)
    centre = Centre()
    async with a_centre(line_options, centre), a_gateway(line_options, Gateway()) as end:
        # Granted, and the gateway never had it.
        await end.ask(offered())
        end._greet_now.set()
        await eventually(lambda: len(centre.heard) == 2)
    assert isinstance(centre.heard[1], LinkClosed)


# --- commands and notices ------------------------------------------------------------------------


async def test_a_command_to_a_station_without_a_link_is_not_sent(line_options: LineOptions) -> None:
    async with a_centre(line_options, Centre()) as centre_end:
        result = await centre_end.command(Reset(station_id="CS-1"))
    assert (result.outcome, result.why_not_sent) == (Outcome.NOT_SENT, "offline")


async def test_an_order_that_comes_too_late_is_not_carried_out(
    line_options: LineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway()
    async with a_link(line_options, gateway) as centre_end:
        monkeypatch.setattr("csms.bus.centre_end.VALID_S", -5.0)
        order = asyncio.create_task(centre_end.command(Reset(station_id="CS-1")))
        await asyncio.wait([order], timeout=0.5)
        monkeypatch.setattr("csms.bus.centre_end.VALID_S", 20.0)
        assert (await centre_end.command(Reset(station_id="CS-1", wait_s=1.0))).is_accepted
        order.cancel()
    assert [c.wait_s for c in gateway.told] == [1.0]


async def test_an_order_that_was_lost_on_its_way_is_not_waited_for(
    line_options: LineOptions, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csms.bus.gateway_end.GREET_S", 0.3)
    gateway = Gateway()
    async with a_link(line_options, gateway, servers=(broker.url,)) as centre_end:
        broker.stall()
        order = asyncio.create_task(centre_end.command(Reset(station_id="CS-1")))
        await asyncio.wait([order], timeout=0.3)
        await broker.cut()
        await broker.restore()
        # Its link lives on, and the order never came.
        async with asyncio.timeout(15.0):
            assert (await order).outcome is Outcome.NO_ANSWER
        assert (await centre_end.command(Reset(station_id="CS-1", wait_s=1.0))).is_accepted
    assert [c.wait_s for c in gateway.told] == [1.0]


async def test_an_order_that_takes_long_is_waited_for(
    line_options: LineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csms.bus.gateway_end.GREET_S", 0.1)
    gateway = Gateway()
    async with a_link(line_options, gateway) as centre_end:
        gateway.may.clear()
        order = asyncio.create_task(centre_end.command(Reset(station_id="CS-1")))
        # As long as many greetings take.
        done, _ = await asyncio.wait([order], timeout=5.0)
        assert not done
        gateway.may.set()
        assert (await order).is_accepted


async def test_an_order_on_which_the_gateway_fails_is_answered(line_options: LineOptions) -> None:
    gateway = Gateway()
    async with a_link(line_options, gateway) as centre_end:
        gateway.fails_with = RuntimeError("a fault")
        async with asyncio.timeout(5.0):
            assert (await centre_end.command(Reset(station_id="CS-1"))).outcome is Outcome.NO_ANSWER
        gateway.fails_with, gateway.answer = None, {"text": "\ud800"}
        async with asyncio.timeout(5.0):
            result = await centre_end.command(Reset(station_id="CS-1"))
        assert result.outcome is Outcome.INVALID_ANSWER


async def test_a_notice_goes_to_the_watchers_and_to_its_sites_subject(
    line_options: LineOptions,
) -> None:
    heard: list[tuple[str, bytes]] = []
    listener = Line(line_options, node="listener")

    async def hear(subject: str, text: bytes, answer_to: str) -> None:
        heard.append((subject, text))

    listener.listen(listener.subject(envelope.NOTICE, "*"), hear)
    async with a_centre(line_options, Centre()) as centre_end, running(listener.run):
        await listener.wait_up()
        await centre_end.notify(Notice(kind="plan", site_id="main", at=NOON))
        await eventually(lambda: heard)
    assert heard[0][0].endswith(f".notice.{envelope.token('main')}")


# --- NATS away -----------------------------------------------------------------------------------


async def test_nats_may_go_and_come_back_and_links_live_on(
    line_options: LineOptions, broker: Broker
) -> None:
    options = replace(line_options, servers=(broker.url,))
    centre, gateway = Centre(), Gateway()
    async with a_centre(options, centre) as centre_end, a_gateway(options, gateway) as end:
        link_id = await granted(end, gateway)
        await broker.cut()
        await eventually(lambda: end.why_not == "NATS is away")
        held = asyncio.create_task(end.ask(seen(link_id)))
        assert (await centre_end.command(Reset(station_id="CS-1"))).why_not_sent == "offline"
        await broker.restore()
        assert await held == Noted()
        assert (await centre_end.command(Reset(station_id="CS-1"))).is_accepted
    assert centre.heard == [offered(), seen(link_id)]
    assert len(gateway.told) == 1
    assert gateway.link_ids == {link_id}


async def test_what_was_asked_when_the_line_went_is_not_asked_again(
    line_options: LineOptions, broker: Broker
) -> None:
    options = replace(line_options, servers=(broker.url,))
    centre, gateway = Centre(), Gateway()
    async with a_centre(options, centre) as centre_end, a_gateway(options, gateway) as end:
        link_id = await granted(end, gateway)
        gateway.may.clear()
        centre.waits_for = asyncio.Event()
        asked = asyncio.create_task(end.ask(seen(link_id)))
        order = asyncio.create_task(centre_end.command(Reset(station_id="CS-1")))
        await eventually(lambda: gateway.told)
        await broker.cut()
        with pytest.raises(BusError):
            await asked
        assert (await order).outcome is Outcome.NO_ANSWER
        centre.waits_for.set()
        gateway.may.set()
        await broker.restore()
        await eventually(lambda: end.is_reached)
        await end.ask(seen(link_id))
    assert centre.heard == [offered(), seen(link_id), seen(link_id)]
    assert len(gateway.told) == 1


async def test_a_question_that_nobody_hears_is_an_error_at_once(line_options: LineOptions) -> None:
    line = Line(line_options, node="n1")
    with pytest.raises(LineDown):
        await line.ask(line.subject("report"), b"")
    async with running(line.run):
        await line.wait_up()
        with pytest.raises(NobodyThere):
            await line.ask(line.subject("report"), b"")


async def test_no_credential_is_shown_to_a_server_without_tls(
    line_options: LineOptions, caplog: pytest.LogCaptureFixture
) -> None:
    (url,) = line_options.servers
    options = replace(
        line_options, servers=(url.replace("nats://", "tls://"),), token="not for everybody"
    )
    line = Line(options, node="n1")
    async with running(line.run):
        await eventually(lambda: "NATS is away" in caplog.text)
        assert not line.is_up
    assert "not for everybody" not in caplog.text
    assert any("offers no TLS" in str(vars(r)) for r in caplog.records)


@pytest.fixture
async def guarded_server(tmp_path: Path) -> AsyncIterator[Settings]:
    """Yield the settings for a server of our own with TLS and a password."""
    if shutil.which("nats-server") is None:
        pytest.skip("no nats-server on the path")
    chain, key = server_files(an_authority(tmp_path), tmp_path)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("nats-server", "-a", "127.0.0.1", "-p", str(port), "--user", "tasco", "--pass", "0123"),
        *("--tls", "--tlscert", str(chain), "--tlskey", str(key)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    bus = BusSettings(
        type="nats",
        url=f"tls://localhost:{port}",
        user="tasco",
        password=SecretStr("0123"),
        ca_file=tmp_path / "ca" / f"{CSMS_ROOT}.pem",
    )
    yield Settings(bus=bus)
    process.terminate()
    await process.wait()


async def test_a_line_is_secured_and_shows_its_password(guarded_server: Settings) -> None:
    line = Line(bus_setup.line_options(guarded_server), node="n1")
    async with running(line.run), asyncio.timeout(20):
        await line.wait_up()


@pytest.mark.parametrize("wrong", [{"password": SecretStr("4567")}, {"ca_file": None}], ids=str)
async def test_a_wrong_password_or_an_unknown_server_is_no_line(
    guarded_server: Settings, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    bus = guarded_server.bus.model_copy(update=wrong)
    line = Line(bus_setup.line_options(guarded_server.model_copy(update={"bus": bus})), node="n1")
    async with running(line.run):
        await eventually(
            lambda: any(
                word in str(vars(r)) for r in caplog.records for word in ("Authorization", "CERT")
            )
        )
        assert not line.is_up
    assert "4567" not in caplog.text


def test_a_long_word_is_squeezed_and_a_bomb_is_not_opened() -> None:
    word = b"[" + b"1," * 100_000 + b"1]"
    message = packed(("run", "node"), word)
    assert len(message) < len(word) / 10
    assert unpacked(message, 2) == (["run", "node"], word)
    with pytest.raises(BusError):
        unpacked(packed((), b"[" * (envelope._MOST_BYTES + 1)))
