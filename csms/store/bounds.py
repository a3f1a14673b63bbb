"""How much one station may put on record of what it alone decides: numbers and names of its own.

A station may be broken or taken over. What it tells beyond these bounds is answered like anything
else and not kept, so that it fills neither the tables nor the lists that others read.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, func, select

from csms.store.statements import Tx

MAX_ATTRIBUTES: Final = 20_000
MAX_MONITORS: Final = 5_000
MAX_PROFILES: Final = 1_000
MAX_LIMITS: Final = 500
MAX_DISPLAY_MESSAGES: Final = 1_000
MAX_EVSES: Final = 100
MAX_CONNECTORS: Final = 500
MAX_OPEN_ALERTS: Final = 500


def has_room(
    tx: Tx, table: Table, station_id: str, *filters: ColumnElement[bool], most: int
) -> bool:
    """Return whether a station has fewer than `most` rows that match `filters`."""
    found = select(func.count()).select_from(table)
    count = tx.execute(found.where(table.c.station_id == station_id, *filters)).scalar_one()
    return int(count) < most


def fitting(
    tx: Tx, table: Table, key: Sequence[str], rows: Mapping[Hashable, dict[str, Any]], *, most: int
) -> list[dict[str, Any]]:
    """Return which of a station's `rows` may be kept: those known already, and what there is
    room for below `most`.

    `key` names the columns that tell rows of one station apart, and `rows` is keyed by them.
    """
    if not rows:
        return []
    mine = table.c.station_id == next(iter(rows.values()))["station_id"]
    count = int(tx.execute(select(func.count()).select_from(table).where(mine)).scalar_one())
    if count + len(rows) <= most:
        return list(rows.values())
    known = {tuple(row) for row in tx.execute(select(*(table.c[k] for k in key)).where(mine))}
    room, kept = most - count, []
    for name, row in rows.items():
        if name not in known:
            if room <= 0:
                continue
            room -= 1
        kept.append(row)
    return kept
