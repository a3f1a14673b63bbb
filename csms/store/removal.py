"""Removing a station, with what it was known to hold and without what it did."""

from typing import Final

from sqlalchemy import Table, delete

from csms.core.errors import UnknownStation
from csms.store import desk_tables, device_tables, smart_tables, tables, terms_tables
from csms.store.statements import Tx

HELD: Final[tuple[Table, ...]] = (
    desk_tables.reservation,
    desk_tables.local_list,
    desk_tables.local_list_entry,
    desk_tables.display_message,
    smart_tables.dialect_item,
    smart_tables.reported_profile,
    smart_tables.external_limit,
    smart_tables.composite,
    terms_tables.station_ability,
)
"""What is said of a station as it is. Another box that is registered under the same id later holds
none of it: a list taken for its own would let it refuse drivers, a reservation would block it."""


def remove_station(tx: Tx, station_id: str) -> None:
    """Remove a station with its EVSEs, configuration and all that it held for us.

    What happened stays for as long as its kind is kept: sessions and their messages for good, and
    links, boots, events, commands, requests, and certificates, which others may still present.
    Items of a dialect that hold for a whole model stay too. Raises UnknownStation.
    """
    station = tables.station
    if not tx.execute(delete(station).where(station.c.station_id == station_id)).rowcount:
        raise UnknownStation(f"no station {station_id}")
    for table in HELD:
        tx.execute(delete(table).where(table.c.station_id == station_id))
    # Nothing can close them any more; closed ones are history.
    alert = device_tables.alert
    tx.execute(delete(alert).where(alert.c.station_id == station_id, alert.c.closed_at.is_(None)))
