"""The bus within one process."""

from datetime import UTC, datetime
from typing import Any

import pytest

from csms.bus.local import LocalBus
from csms.core.commands import Command, CommandResult, Outcome, Reset
from csms.core.errors import BusError, StoreUnavailable
from csms.core.messages import Noted, Notice, Report, StationSeen

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SEEN = StationSeen(station_id="CS-1", received_at=NOON)


class Centre:
    def __init__(self, *, is_out: bool = False) -> None:
        self.is_out = is_out
        self.heard: list[Report[Any]] = []

    async def handle(self, report: Report[Any]) -> Any:
        if self.is_out:
            raise StoreUnavailable("full")
        self.heard.append(report)
        return Noted()


class Gateway:
    async def execute(self, command: Command) -> CommandResult:
        return CommandResult(outcome=Outcome.ACCEPTED, status=command.station_id)


class Watcher:
    def __init__(self) -> None:
        self.seen: list[Notice] = []

    def show(self, notice: Notice) -> None:
        if notice.kind == "broken":
            raise ValueError(notice.kind)
        self.seen.append(notice)


async def test_a_report_reaches_the_centre_and_brings_its_reply_back() -> None:
    bus, centre = LocalBus(), Centre()
    bus.attach_centre(centre)
    assert await bus.ask(SEEN) == Noted()
    assert centre.heard == [SEEN]


async def test_without_a_centre_nothing_can_be_asked() -> None:
    with pytest.raises(BusError):
        await LocalBus().ask(SEEN)


async def test_a_centre_that_cannot_record_says_so_to_whoever_asked() -> None:
    bus = LocalBus()
    bus.attach_centre(Centre(is_out=True))
    with pytest.raises(StoreUnavailable):
        await bus.ask(SEEN)


async def test_a_command_reaches_the_gateway_or_is_not_sent() -> None:
    bus = LocalBus()
    assert (await bus.command(Reset(station_id="CS-1"))).outcome is Outcome.NOT_SENT
    bus.attach_gateway(Gateway())
    assert (await bus.command(Reset(station_id="CS-1"))).status == "CS-1"


async def test_a_watcher_that_fails_harms_no_other() -> None:
    bus, watchers = LocalBus(), [Watcher(), Watcher()]
    for watcher in watchers:
        bus.attach_notices(watcher)
    await bus.notify(Notice(kind="broken", site_id="s", at=NOON))
    await bus.notify(Notice(kind="plan", site_id="s", at=NOON))
    assert [[n.kind for n in w.seen] for w in watchers] == [["plan"], ["plan"]]
