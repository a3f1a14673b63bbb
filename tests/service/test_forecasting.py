"""Forecasts of a running system: when they may be trained."""

from dataclasses import replace
from datetime import timedelta

from csms.core.model import SessionState
from csms.service.forecasting import Forecasting
from csms.settings import ForecastSettings
from csms.store import sessions
from csms.store.database import Store
from tests.service.field import NOW, SITE, Depot, Field, HandClock


async def test_the_nightly_training_may_come_before_the_forecaster_is_loaded(store: Store) -> None:
    place = Depot(store, Field(guards_kw={"c0": 0.0}), HandClock())
    await place.build(limit_kw=30.0)
    ended = replace(
        await place.arrive("c0"),
        state=SessionState.ENDED,
        ended_at=NOW + timedelta(hours=1),
        energy_wh=9_000.0,
    )
    await store.write(lambda tx: sessions.save(tx, ended))
    place.clock.advance(hours=2)
    forecasting = Forecasting(
        store=store, clock=place.clock, options=ForecastSettings(), time_zones={SITE: "UTC"}
    )
    await forecasting.train_all()
    assert await forecasting.latest(SITE, 24) is not None
