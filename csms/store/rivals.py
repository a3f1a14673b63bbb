"""What champion and challenger planned of the same cases, and how likely each need is met."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from sqlalchemy import select

from csms.store import rival_tables as tables
from csms.store.purging import purge
from csms.store.statements import Tx

_C = tables.plan_comparison
_R = tables.session_readiness


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One case planned twice.

    `in_force` is the strategy whose plan was sent; while it is not the champion's, `why` says
    since when and what for. An outcome holds `cost_eur`, `co2_kg`, `shortfall_kwh`, `peak_kw`,
    `cpu_s` and `fault`, "" where the plan kept every law of the case.
    """

    comparison_id: int = 0
    site_id: str
    at: datetime
    plan_id: int | None = None
    in_force: str
    champion: str
    challenger: str
    why: str = ""
    champion_outcome: Mapping[str, object] = field(default_factory=dict)
    challenger_outcome: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """In which share (0..1) of so many scenarios a session's need is met by its latest plan."""

    session_id: str
    at: datetime
    met_share: float
    scenarios: int


def insert_comparison(tx: Tx, made: Comparison) -> None:
    """Keep a comparison."""
    values = asdict(made)
    del values["comparison_id"]
    tx.execute(_C.insert(), [values])


def comparisons(tx: Tx, site_id: str, *, limit: int) -> list[Comparison]:
    """Return a site's newest comparisons, newest first."""
    statement = (
        select(_C).where(_C.c.site_id == site_id).order_by(_C.c.comparison_id.desc()).limit(limit)
    )
    return [Comparison(**row._mapping) for row in tx.execute(statement)]


def purge_comparisons(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of comparisons and of readiness older than `before`; return how many."""
    return sum(purge(tx, table, table.c.at < before) for table in (_C, _R))


def put_readiness(tx: Tx, found: Sequence[Readiness]) -> None:
    """Keep how likely the needs of sessions are met, in place of what was known before."""
    for one in found:
        tx.upsert(_R, ["session_id"], asdict(one))


def readiness_of(tx: Tx, session_ids: Sequence[str]) -> dict[str, Readiness]:
    """Return what is known of the readiness of sessions, by session."""
    if not session_ids:
        return {}
    statement = select(_R).where(_R.c.session_id.in_(session_ids))
    return {row.session_id: Readiness(**row._mapping) for row in tx.execute(statement)}
