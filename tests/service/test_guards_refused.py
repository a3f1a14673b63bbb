"""A guard that is not in force is a warning where a station refused it, not where it went away."""

import pytest
import structlog

from csms.core.commands import Command, CommandResult, Outcome, SetGuard
from csms.store import journal, stations
from csms.store.database import Store
from tests.service.field import SITE, Depot, Field, HandClock


class Answering(Field):
    """A station that answers every guard the same."""

    def __init__(self, result: CommandResult) -> None:
        super().__init__(guards_kw={"c0": 4.14})
        self.result = result

    async def execute(self, command: Command) -> CommandResult:
        """Answer a guard with the result, all else as others do."""
        return self.result if isinstance(command, SetGuard) else await super().execute(command)


@pytest.mark.parametrize(
    ("result", "level"),
    [
        (CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="offline"), "info"),
        (CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="other link"), "info"),
        (CommandResult(outcome=Outcome.NO_ANSWER, why_not_sent="link lost"), "info"),
        (CommandResult(outcome=Outcome.NO_ANSWER), "warning"),
        (CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="not valid: limit"), "warning"),
        (CommandResult(outcome=Outcome.REJECTED, status="Rejected"), "warning"),
    ],
)
async def test_only_a_station_that_is_there_and_does_not_take_its_guard_is_a_warning(
    store: Store, result: CommandResult, level: str
) -> None:
    place = Depot(store, Answering(result), HandClock())
    await place.build(limit_kw=22.0)
    with structlog.testing.capture_logs() as told:
        await place.devices.settle("c0", is_new=True)
    assert {t["log_level"] for t in told if t["event"] == "guard not accepted"} == {level}
    page = await store.read(lambda tx: journal.list_events(tx, site_id=SITE))
    kept = [e.event for e in page.items if e.event.kind == "guard not accepted"]
    assert {e.level for e in kept} == {level}
    (evse,) = await store.read(lambda tx: stations.evses_of_station(tx, "c0"))
    assert evse.guard_kw is None
