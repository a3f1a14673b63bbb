"""A station that is removed leaves nothing that another one under its id could be taken for."""

from typing import Any

from sqlalchemy import Boolean, Integer, Table, func, select

from csms.store import alerts, removal, sessions
from csms.store.columns import Instant, JsonObject, Word
from csms.store.database import Store
from csms.store.device_tables import alert
from csms.store.smart_tables import dialect_item
from csms.store.statements import Tx
from tests.store.values import NOON, a_session, add_station


def row_of(table: Table, station_id: str) -> dict[str, Any]:
    """Return any row of a station."""

    def value(kind: Any) -> Any:
        if isinstance(kind, Instant):
            return NOON
        if isinstance(kind, JsonObject):
            return {}
        if isinstance(kind, Word):
            return next(iter(kind.kind))
        if isinstance(kind, Boolean):
            return False
        return 1 if isinstance(kind, Integer) else "1"

    needed = [c for c in table.columns if not c.nullable and c.identity is None]
    return {c.name: value(c.type) for c in needed} | {"station_id": station_id}


def count(tx: Tx, table: Table, station_id: str) -> int:
    statement = select(func.count()).select_from(table).where(table.c.station_id == station_id)
    return int(tx.execute(statement).scalar_one())


async def test_what_a_station_held_goes_with_it_and_with_no_other(store: Store) -> None:
    def change(tx: Tx) -> None:
        for station_id in ("CS1", "CS2"):
            add_station(tx, station_id)
            for table in removal.HELD:
                tx.execute(table.insert().values(row_of(table, station_id)))
            alerts.open_alert(tx, site_id="depot", station_id=station_id, subject="S", at=NOON)
        # What holds for a model is no station's own.
        tx.execute(dialect_item.insert().values(row_of(dialect_item, "")))
        removal.remove_station(tx, "CS1")

    await store.write(change)
    tables = (*removal.HELD, alert)
    kept = await store.read(lambda tx: [[count(tx, t, s) for t in tables] for s in ("CS1", "CS2")])
    assert kept == [[0] * len(tables), [1] * len(tables)]
    assert await store.read(lambda tx: count(tx, dialect_item, "")) == 1


async def test_what_happened_at_a_station_outlives_it(store: Store) -> None:
    def change(tx: Tx) -> None:
        add_station(tx, "CS1")
        sessions.open_session(tx, a_session("s1"))
        alerts.open_alert(tx, site_id="depot", station_id="CS1", subject="S", at=NOON)
        alerts.close_alert(tx, station_id="CS1", subject="S", at=NOON)
        removal.remove_station(tx, "CS1")

    await store.write(change)
    assert (await store.read(lambda tx: sessions.get(tx, "s1"))).station_id == "CS1"
    assert len((await store.read(lambda tx: alerts.list_alerts(tx))).items) == 1
