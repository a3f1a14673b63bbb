"""Circuits, places and caps as kept, and what of a tree outlives a restart."""

from datetime import timedelta

import pytest

from csms.core.errors import NotFound
from csms.core.model import Evse, StationLimits
from csms.core.wiring import CircuitSetup, PlaceSetup
from csms.store import removal, stations, wiring
from csms.store.database import Store
from csms.store.statements import Tx
from tests.store.values import NOON, a_site, a_station

SITE = a_site().site_id
HALL = CircuitSetup(
    circuit_id="hall",
    name="Hall",
    limit_a=(63.0, 63.0, 32.0),
    load_kw=1.5,
    evses=("CP*",),
)


def _build(tx: Tx) -> None:
    stations.upsert_site(tx, a_site())
    stations.register_station(tx, a_station("CP1"))
    stations.upsert_evse(tx, Evse(station_id="CP1", evse_id=1, max_kw=11.0))
    stations.set_limits(tx, "CP1", StationLimits(phase_rotation="1.STR"))


async def test_a_circuit_is_kept_as_it_was_put(store: Store) -> None:
    await store.write(_build)
    await store.write(lambda tx: wiring.put_circuit(tx, SITE, HALL))
    bare = CircuitSetup(circuit_id="bare", parent_id="hall")
    await store.write(lambda tx: wiring.put_circuit(tx, SITE, bare))
    assert await store.read(lambda tx: wiring.circuits_of(tx, SITE)) == (bare, HALL)
    await store.write(lambda tx: wiring.drop_circuit(tx, SITE, "bare"))
    with pytest.raises(NotFound, match="no circuit bare"):
        await store.write(lambda tx: wiring.drop_circuit(tx, SITE, "bare"))
    tree = await store.read(lambda tx: wiring.tree_of(tx, SITE))
    (place,) = tree.places
    assert (place.circuit_id, place.phases) == ("hall", (2, 3, 1))


async def test_what_an_operator_changed_outlives_a_restart_until_the_configuration_differs(
    store: Store,
) -> None:
    await store.write(_build)
    assert await store.write(lambda tx: wiring.configure_circuits(tx, SITE, [HALL]))
    lower = CircuitSetup(circuit_id="hall", limit_a=(16.0,))
    await store.write(lambda tx: wiring.put_circuit(tx, SITE, lower))
    assert not await store.write(lambda tx: wiring.configure_circuits(tx, SITE, [HALL]))
    assert await store.read(lambda tx: wiring.circuits_of(tx, SITE)) == (lower,)
    other = CircuitSetup(circuit_id="yard", limit_kw=20.0)
    assert await store.write(lambda tx: wiring.configure_circuits(tx, SITE, [other]))
    assert await store.read(lambda tx: wiring.circuits_of(tx, SITE)) == (other,)


async def test_a_site_that_never_configured_circuits_keeps_those_of_its_operator(
    store: Store,
) -> None:
    await store.write(_build)
    await store.write(lambda tx: wiring.put_circuit(tx, SITE, HALL))
    assert not await store.write(lambda tx: wiring.configure_circuits(tx, SITE, []))
    assert await store.read(lambda tx: wiring.circuits_of(tx, SITE)) == (HALL,)


async def test_a_place_goes_with_its_station_and_one_that_says_nothing_is_none(
    store: Store,
) -> None:
    await store.write(_build)
    place = PlaceSetup(station_id="CP1", evse_id=1, circuit_id="", phase_rotation="RST")
    await store.write(lambda tx: wiring.put_place(tx, place))
    assert await store.read(lambda tx: wiring.places_of(tx, SITE)) == (place,)
    nothing = PlaceSetup(station_id="CP1", evse_id=1)
    await store.write(lambda tx: wiring.put_place(tx, nothing))
    assert await store.read(lambda tx: wiring.places_of(tx, SITE)) == ()
    await store.write(lambda tx: wiring.put_place(tx, place))
    await store.write(lambda tx: removal.remove_station(tx, "CP1"))
    assert await store.read(lambda tx: wiring.places_of(tx, SITE)) == ()


async def test_a_cap_holds_for_its_time_and_until_it_is_withdrawn(store: Store) -> None:
    await store.write(_build)
    cap = wiring.KeptCap(
        cap_id=0,
        site_id=SITE,
        circuit_id="",
        source="grid operator",
        starts_at=NOON,
        until=NOON + timedelta(hours=2),
        limit_kw=10.0,
        limit_a=None,
        made_by="op",
        made_at=NOON,
    )
    cap_id = await store.write(lambda tx: wiring.add_cap(tx, cap))

    async def held(hours: float) -> int:
        at = NOON + timedelta(hours=hours)
        found = await store.read(lambda tx: wiring.caps_of(tx, SITE, at, at + timedelta(hours=1)))
        return len(found)

    assert [await held(h) for h in (-2, -0.5, 1, 2)] == [0, 1, 1, 0]
    at = NOON + timedelta(hours=1)
    gone = await store.write(lambda tx: wiring.withdraw_cap(tx, SITE, cap_id, at=at))
    assert gone.withdrawn_at == at
    assert await held(1) == 0
    with pytest.raises(NotFound, match="no cap"):
        await store.write(lambda tx: wiring.withdraw_cap(tx, SITE, 99, at=at))
    assert await store.write(lambda tx: wiring.purge_caps(tx, before=NOON)) == 0
    assert await store.write(lambda tx: wiring.purge_caps(tx, before=NOON + timedelta(days=9))) == 1
