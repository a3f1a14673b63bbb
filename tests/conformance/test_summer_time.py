"""X08: the two days on which the clock changes, for slots, tariffs in local time and departures."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from csms.planning.slots import edges, price_series
from csms.providers.registry import tariff_source
from csms.service import concept_input
from tests.conformance.conftest import Lab

BERLIN = ZoneInfo("Europe/Berlin")
BAND = {
    "type": "time_of_use",
    "time_zone": "Europe/Berlin",
    "eur_per_kwh": 0.3,
    "bands": [{"starts": "02:00", "until": "03:00", "eur_per_kwh": 0.1}],
}
QUARTER = timedelta(minutes=15)


@pytest.mark.parametrize(
    ("day", "quarters", "cheap", "departs_at"),
    [
        # 02:30 does not exist: it is an hour on, 03:30 by the new clock.
        (date(2026, 3, 29), 92, 0, "2026-03-29T01:30:00+00:00"),
        # 02:30 comes twice: the first one is meant, nobody is late by it.
        (date(2026, 10, 25), 100, 8, "2026-10-25T00:30:00+00:00"),
        (date(2026, 1, 15), 96, 4, "2026-01-15T01:30:00+00:00"),
    ],
    ids=["spring", "autumn", "winter"],
)
async def test_x08_no_slot_is_missing_or_double_and_departures_are_right(
    lab: Lab, day: date, quarters: int, cheap: int, departs_at: str
) -> None:
    begins = datetime(day.year, day.month, day.day, tzinfo=BERLIN).astimezone(UTC)
    ends = datetime.combine(day + timedelta(days=1), datetime.min.time(), BERLIN).astimezone(UTC)
    slots = edges(begins - QUARTER, horizon_h=30, slot_s=900)
    assert {after - before for before, after in pairwise(slots)} == {QUARTER}
    of_day = [at for at in slots if begins <= at < ends]
    assert len(of_day) == quarters

    prices = await tariff_source(BAND).prices(slots[0], slots[-1])
    notes: list[str] = []
    by_slot = dict(zip(slots, price_series(prices, slots, notes), strict=False))
    assert notes == []
    assert Counter(by_slot[at] for at in of_day) == Counter({0.3: quarters - cheap, 0.1: cheap})

    given = concept_input.read(
        {
            "driver": "did:denso:driver:d1",
            "vehicle": "did:denso:vehicle:v1",
            "charger": "did:denso:charger:c1",
            "trip": {"distance_km": 10, "departure_time": f"{day.isoformat()}T02:30:00"},
        }
    )
    assert given.departure("Europe/Berlin") == datetime.fromisoformat(departs_at)
    told = await lab.api.post(
        "/api/v1/trips",
        json={
            "trip_id": "t1",
            "holder_did": "did:denso:driver:d1",
            "departs_at": f"{day.isoformat()}T02:30:00",
            "distance_km": 10,
        },
    )
    assert told.status_code == 422, "the API takes no departure without an offset"
