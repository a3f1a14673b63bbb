"""What no database of ours likes in a text is kept all the same, on both."""

from datetime import UTC, datetime

from csms.core.commands import CommandResult, Outcome
from csms.core.model import Event
from csms.store import commands, journal
from csms.store.database import Store

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


async def test_a_text_with_a_null_character_is_kept_and_found(store: Store) -> None:
    odd = "a\0b"

    def work(tx):  # type: ignore[no-untyped-def]
        journal.add_event(tx, Event(at=AT, kind=odd, detail={"why": odd}))
        number = commands.insert_command(
            tx, "CS-1", kind="Reset", payload="{}", asked_by="test", at=AT
        )
        result = CommandResult(outcome=Outcome.CALL_ERROR, error_description=odd)
        commands.finish_command(tx, number, result, at=AT)
        return number

    number = await store.write(work)
    kept = await store.read(lambda tx: commands.get_command(tx, number))
    assert kept.error in ("a\0b", "a\ufffdb")
    page = await store.read(lambda tx: journal.list_events(tx, limit=5))
    assert [e.event.kind for e in page.items] == [kept.error]
