"""Variables of stations: what was read of them beside what was last tried to be set."""

from csms.core.device import KEYS, Attribute, VariableFact, VariableName
from csms.store import device_model, removal
from csms.store.database import Store
from csms.store.statements import Tx
from tests.store.values import NOON, add_station, later


def attribute(key: str, value: str | None, mutability: str = "ReadWrite") -> Attribute:
    name = VariableName(component=KEYS, variable=key)
    return Attribute(name=name, value=value, mutability=mutability)


async def test_variables_are_kept_as_last_read_beside_the_last_attempt_to_set_them(
    store: Store,
) -> None:
    refused = VariableFact(
        name=VariableName(component=KEYS, variable="A"), status="Rejected", value="9", is_set=True
    )

    def change(tx: Tx) -> None:
        add_station(tx)
        given = [attribute("A", "1"), attribute("B", None, "ReadOnly")]
        device_model.put_attributes(tx, "CS1", given, at=NOON)
        device_model.put_fact(tx, "CS1", refused, at=later(1))
        device_model.put_attributes(tx, "CS1", [attribute("A", "2")], at=later(2))
        device_model.put_attributes(tx, "CS1", [], at=later(3))

    await store.write(change)
    a, b = await store.read(lambda tx: device_model.list_attributes(tx, "CS1"))
    assert (a.name.variable, a.value, a.read_at) == ("A", "2", later(2))
    assert (a.set_value, a.set_status, a.set_at) == ("9", "Rejected", later(1))
    assert (b.value, b.mutability, b.set_status) == (None, "ReadOnly", "")


async def test_removing_a_station_takes_its_variables(store: Store) -> None:
    def change(tx: Tx) -> None:
        add_station(tx)
        device_model.put_attributes(tx, "CS1", [attribute("A", "1")], at=NOON)
        removal.remove_station(tx, "CS1")

    await store.write(change)
    assert await store.read(lambda tx: device_model.list_attributes(tx, "CS1")) == []
