"""Series from outside (prices, carbon intensity), forecasts and their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from csms.core.model import CarbonIntensity, Price
from csms.store import plan_tables as tables
from csms.store.purging import purge
from csms.store.statements import Tx

_P = tables.price
_C = tables.carbon_intensity
_F = tables.forecast
_S = tables.forecast_score


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredForecast:
    """A forecast as it was made; `body` is its JSON."""

    forecast_id: int
    site_id: str
    kind: str
    made_at: datetime
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastScore:
    """How good a forecast of `kind` was in the period from `starts_at`, by `measure`."""

    site_id: str
    kind: str
    measure: str
    starts_at: datetime
    value: float


def upsert_prices(tx: Tx, tariff_id: str, prices: Sequence[Price]) -> None:
    """Store prices of a tariff, replacing those that start at the same instants."""
    tx.upsert_all(
        _P,
        ["tariff_id", "starts_at"],
        [
            {
                "tariff_id": tariff_id,
                "starts_at": price.starts_at,
                "until": price.until,
                "eur_per_kwh": price.eur_per_kwh,
            }
            for price in prices
        ],
    )


def prices(tx: Tx, tariff_id: str, since: datetime, until: datetime) -> list[Price]:
    """Return the prices of a tariff that hold at some time in [since, until)."""
    found = tx.execute(
        select(_P.c.starts_at, _P.c.until, _P.c.eur_per_kwh)
        .where(_P.c.tariff_id == tariff_id, _P.c.until > since, _P.c.starts_at < until)
        .order_by(_P.c.starts_at)
    )
    return [Price(**row._mapping) for row in found]


def upsert_carbon(tx: Tx, zone: str, rows: Sequence[CarbonIntensity]) -> None:
    """Store carbon intensities of a zone, replacing those that start at the same instants."""
    tx.upsert_all(
        _C,
        ["zone", "starts_at"],
        [
            {
                "zone": zone,
                "starts_at": row.starts_at,
                "until": row.until,
                "kg_per_kwh": row.kg_per_kwh,
            }
            for row in rows
        ],
    )


def carbon(tx: Tx, zone: str, since: datetime, until: datetime) -> list[CarbonIntensity]:
    """Return the carbon intensities of a zone that hold at some time in [since, until)."""
    found = tx.execute(
        select(_C.c.starts_at, _C.c.until, _C.c.kg_per_kwh)
        .where(_C.c.zone == zone, _C.c.until > since, _C.c.starts_at < until)
        .order_by(_C.c.starts_at)
    )
    return [CarbonIntensity(**row._mapping) for row in found]


def purge_series(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of prices and of carbon intensities before `before`; return how many."""
    return sum(purge(tx, table, table.c.starts_at < before) for table in (_P, _C))


# --- forecasts -----------------------------------------------------------------------------------


def insert_forecast(tx: Tx, site_id: str, *, kind: str, made_at: datetime, body: str) -> int:
    """Store a forecast as JSON and return its id."""
    statement = _F.insert().values(site_id=site_id, kind=kind, made_at=made_at, body=body)
    return int(tx.execute(statement.returning(_F.c.forecast_id)).scalar_one())


def latest_forecast(
    tx: Tx, site_id: str, kind: str, *, before: datetime | None = None
) -> StoredForecast | None:
    """Return the newest forecast of a kind, made before `before` where that is given."""
    statement = select(_F).where(_F.c.site_id == site_id, _F.c.kind == kind)
    if before is not None:
        statement = statement.where(_F.c.made_at < before)
    row = tx.execute(
        statement.order_by(_F.c.made_at.desc(), _F.c.forecast_id.desc()).limit(1)
    ).first()
    return None if row is None else StoredForecast(**row._mapping)


def purge_forecasts(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of forecasts made before `before`; return how many."""
    return purge(tx, _F, _F.c.made_at < before)


def upsert_scores(tx: Tx, scores: Sequence[ForecastScore]) -> None:
    """Store scores, replacing those of the same site, kind, measure and period."""
    tx.upsert_all(
        _S,
        ["site_id", "kind", "measure", "starts_at"],
        [
            {
                "site_id": score.site_id,
                "kind": score.kind,
                "measure": score.measure,
                "starts_at": score.starts_at,
                "value": score.value,
            }
            for score in scores
        ],
    )


def list_scores(
    tx: Tx, site_id: str, *, kind: str = "", since: datetime | None = None
) -> list[ForecastScore]:
    """Return a site's scores by period, oldest first."""
    statement = select(_S).where(_S.c.site_id == site_id)
    if kind:
        statement = statement.where(_S.c.kind == kind)
    if since is not None:
        statement = statement.where(_S.c.starts_at >= since)
    found = tx.execute(statement.order_by(_S.c.starts_at, _S.c.kind, _S.c.measure))
    return [ForecastScore(**row._mapping) for row in found]
