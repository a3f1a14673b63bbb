"""What simulated stations say fits the schemas of their version, whatever dialect they speak."""

from collections.abc import Mapping
from typing import Any

import pytest

from csms.core.model import OcppVersion
from csms.gateway.codec import codec
from simulators.battery import Vehicle
from simulators.dialect import Dialect
from simulators.simulated import SimulatedStation
from simulators.station import State

DIALECTS = {
    "plain": Dialect(),
    "counted ids": Dialect(message_ids="counter", tells_limits=False),
    "coarse": Dialect(whole_amperes=True, rate_units=("W",), least_w=720.0),
}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("version", list(OcppVersion), ids=lambda v: v.value)
async def test_every_word_of_a_visit_fits_the_schema(
    version: OcppVersion, dialect: Dialect
) -> None:
    station = SimulatedStation(
        "ws://127.0.0.1:1", "CS-1", version=version.value, dialect=dialect, max_kw=11.0
    )
    said: list[tuple[str, Mapping[str, Any]]] = []
    client, evse = station.client, station.station.evse(1)
    said.append(client.boot("PowerUp"))
    said += [client.status(1, state, station.now()) for state in State]
    said.append(client.authorize("04A1B2C3D4E5F6", "ISO14443"))
    station.station.plug_in(1, Vehicle(), soc=0.2, now=station.now())
    said.append(client.meter_values(1, evse.reading("Sample.Clock")))
    transaction = station.station.begin(1, "04A1B2C3D4E5F6", "ISO14443", now=station.now())
    action, build = client.started(transaction, evse.reading("Transaction.Begin"))
    said.append((action, build()))
    client.was_started(transaction, {"transactionId": 1})
    action, build = client.updated(transaction, evse.reading(), "MeterValuePeriodic")
    said.append((action, build()))
    for state in State:
        changed = client.state_changed(transaction, state, station.now())
        said += [(changed[0], changed[1]())] if changed is not None else []
    station.station.end(1, reason="Local", token="04A1B2C3D4E5F6", now=station.now())
    action, build = client.ended(transaction, evse.reading("Transaction.End"))
    said.append((action, build()))
    assert len(said) > 10
    for action, payload in said:
        assert codec(version).check_call(action, dict(payload)) is None, (action, payload)
